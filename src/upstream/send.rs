//! An upstream: which server a request goes to, and how it gets there.

use std::{
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use bytes::Bytes;
use http::{
    HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Uri, Version, header,
    uri::{self, PathAndQuery},
};
use http_body::Body;
use hyper::{body::Incoming, client::conn::TrySendError};
use tokio::time::{Instant, timeout_at};

use super::{
    UpstreamRequest,
    body::{Lease, Progress, ResponseBody, SendBody},
    config::{BalanceConfig, UpstreamConfig},
    connect::{self, Connection, Want},
    error::UpstreamError,
    hygiene,
    pool::{InFlight, Pool},
    server::{Location, Server},
    tls::Trust,
};
use crate::{
    config::{Faults, Place},
    refusal::{Reason, Refusal},
    request::Authority,
};

/// A backend: its servers, and the connections to them.
#[derive(Debug)]
pub struct Upstream {
    name: Arc<str>,
    config: UpstreamConfig,
    host: Host,
    servers: Box<[Arc<Server>]>,
    /// Where each thread goes on in the round of servers.
    turns: Box<[AtomicUsize]>,
}

/// What the upstream gets to see as `Host`.
#[derive(Clone, Debug)]
enum Host {
    Server,
    Caller,
    Named(uri::Authority, HeaderValue),
}

/// What a request is sent with, besides itself.
#[derive(Clone, Debug)]
pub struct Call<'a> {
    /// Which of the gateway's threads sends it: the one that this runs on.
    pub worker: usize,
    /// The host that the caller asked for, for `host: preserve`.
    pub host: &'a Authority,
    /// The protocol to change to, where the route lets it through.
    pub upgrade: Option<&'a HeaderValue>,
}

impl Upstream {
    /// Builds an upstream from its settings, or says what is wrong with them.
    pub(super) fn build(
        name: &str,
        config: &UpstreamConfig,
        workers: usize,
        trust: &mut Trust<'_>,
        place: &Place,
        faults: &mut Faults,
    ) -> Option<Self> {
        let before = faults.errors();
        let locations = locations(config, &place.key("servers"), faults);
        let tls_wanted = locations.iter().any(|location| location.scheme == uri::Scheme::HTTPS);
        if !tls_wanted && config.tls != Default::default() && !locations.is_empty() {
            faults.warning(
                &place.key("tls"),
                "no server of this upstream uses TLS",
                "write the servers as https://, or drop `tls`",
            );
        }
        let tls = if tls_wanted { trust.tls(&config.tls, config.protocol, &place.key("tls"), faults) } else { None };
        let host = host(config.host.as_deref(), &place.key("host"), faults);
        let servers = locations.into_iter().filter_map(|location| {
            let tls = match &tls {
                Some(tls) if location.scheme == uri::Scheme::HTTPS => {
                    Some((tls.clone(), tls.server_name.clone().or_else(|| location.server_name())?))
                }
                _ => None,
            };
            Some(Arc::new(Server {
                name: location.name().into(),
                host: HeaderValue::from_str(location.authority.as_str()).ok()?,
                pools: (0..workers.max(1)).map(|_| Arc::new(Pool::default())).collect(),
                scheme: location.scheme,
                authority: location.authority,
                base: location.base,
                address: location.address,
                tls,
            }))
        });
        let servers: Box<[_]> = servers.collect();
        if faults.errors() > before || servers.is_empty() {
            return None;
        }
        Some(Self {
            name: name.into(),
            config: config.clone(),
            host: host?,
            servers,
            turns: (0..workers.max(1)).map(|_| AtomicUsize::new(0)).collect(),
        })
    }

    /// The upstream's name.
    pub const fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// The servers by host and port, each with the number of requests under way.
    pub fn servers(&self) -> impl Iterator<Item = (&Arc<str>, usize)> {
        self.servers.iter().map(|server| (&server.name, server.pools.iter().map(|pool| pool.in_flight()).sum()))
    }

    /// Whether the other one has the same settings and trusts the same authorities.
    pub(super) fn same_as(&self, other: &Self) -> bool {
        self.config == other.config
            && self.turns.len() == other.turns.len()
            && self.servers.iter().zip(&other.servers).all(|(one, other)| match (&one.tls, &other.tls) {
                (None, None) => true,
                (Some((one, _)), Some((other, _))) => one.same_as(other),
                _ => false,
            })
    }

    /// Sends a request to one of the servers and waits for the head of the answer. An empty body sends none, a known length is
    /// announced as `Content-Length`, an unknown one is sent in chunks.
    ///
    /// A server that cannot be connected to is passed over for the next one. A request that failed on a connection that had
    /// been idle, before any byte of an answer, is sent once more on a new one, if it never left or may be repeated
    /// (RFC 9110, section 9.2.2).
    ///
    /// # Errors
    /// No connection, no answer in time, or none that may go further; or the caller's body broke off.
    pub async fn send<B>(
        &self,
        call: Call<'_>,
        request: UpstreamRequest,
        body: B,
    ) -> Result<Response<ResponseBody>, UpstreamError>
    where
        B: Body<Data = Bytes> + Send + 'static,
        B::Error: Into<Refusal>,
    {
        let mut outgoing = Outgoing::new(request, SendBody::of(body));
        let mut failed = None;
        for server in self.in_turn(call.worker) {
            match self.send_to(server, &call, &mut outgoing).await {
                Err(error) if error.is_connect_failure() => failed = Some(error),
                result => return result,
            }
        }
        Err(failed.unwrap_or_else(|| UpstreamError::NoServer { upstream: self.name.clone() }))
    }

    /// The servers, the one that is due first.
    fn in_turn(&self, worker: usize) -> impl Iterator<Item = &Server> {
        let count = self.servers.len();
        let first = if count == 1 {
            0
        } else {
            let turn = self.turns[worker % self.turns.len()].fetch_add(1, Ordering::Relaxed);
            match self.config.balance {
                BalanceConfig::RoundRobin => turn % count,
                // Starting at another one each time spreads requests among servers that are equally busy.
                BalanceConfig::LeastRequests => (0..count)
                    .map(|offset| (turn + offset) % count)
                    .min_by_key(|at| self.servers[*at].pool(worker).in_flight())
                    .unwrap_or(0),
            }
        };
        (0..count).map(move |offset| &*self.servers[(first + offset) % count])
    }

    async fn send_to(
        &self,
        server: &Server,
        call: &Call<'_>,
        outgoing: &mut Outgoing,
    ) -> Result<Response<ResponseBody>, UpstreamError> {
        let pool = server.pool(call.worker);
        let in_flight = InFlight::of(pool);
        let mut want = if call.upgrade.is_some() { Want::Upgrade } else { Want::Any };
        loop {
            let connection = connect::connection(server, pool, self.config.protocol, &self.config.timeouts, want).await?;
            let reused = connection.reused();
            let http2 = matches!(connection, Connection::Http2 { .. });
            let request = outgoing.write(self, server, call, http2, reused)?;
            match self.exchange(server, connection, request, outgoing.progress.as_ref()).await {
                Ok((response, lease)) => return self.accept(server, call, response, lease, in_flight),
                Err(Failure::Final(error)) => return Err(error),
                Err(Failure::Unanswered { source, request }) => {
                    // Only a connection that carried requests before may just have been closed; a new one shows what the server does.
                    if !reused || !outgoing.restore(request, &source) {
                        return Err(UpstreamError::Protocol { server: server.name.clone(), source });
                    }
                    want = Want::Fresh;
                }
            }
        }
    }

    /// Sends the request on this connection and waits for the head of its answer.
    async fn exchange(
        &self,
        server: &Server,
        connection: Connection,
        request: Request<SendBody>,
        progress: Option<&Arc<Progress>>,
    ) -> Result<(Response<Incoming>, Lease), Failure> {
        let answered = async {
            match connection {
                Connection::Http1 { mut connection, .. } => {
                    let response = connection.sender.try_send_request(request).await?;
                    Ok((response, Lease::Http1 { connection, request: progress.cloned() }))
                }
                Connection::Http2 { stream, .. } => Ok((stream.sender().try_send_request(request).await?, Lease::Http2(stream))),
            }
        };
        let mut answered = pin!(answered);
        let within = self.config.timeouts.response.0;
        let mut deadline = Instant::now() + within;
        loop {
            if let Ok(result) = timeout_at(deadline, answered.as_mut()).await {
                return result.map_err(|mut error: TrySendError<Request<SendBody>>| {
                    if let Some(refusal) = progress.and_then(|progress| progress.refusal()) {
                        return Failure::Final(UpstreamError::RequestBody(Box::new(refusal)));
                    }
                    let request = error.take_message().map(Box::new);
                    Failure::Unanswered { source: error.into_error(), request }
                });
            }
            // As long as a body is on its way, the answer is not overdue.
            match progress {
                Some(progress) if progress.moved() + within > Instant::now() => deadline = progress.moved() + within,
                Some(progress) if progress.starved() => {
                    let refusal = Refusal::new(Reason::RequestTimeout, format!("the body stood still for {within:?}"));
                    return Err(Failure::Final(UpstreamError::RequestBody(Box::new(refusal))));
                }
                _ => return Err(Failure::Final(UpstreamError::Timeout { server: server.name.clone(), after: within })),
            }
        }
    }

    /// Takes the answer, if it is one that may go further.
    fn accept(
        &self,
        server: &Server,
        call: &Call<'_>,
        mut response: Response<Incoming>,
        lease: Lease,
        in_flight: InFlight,
    ) -> Result<Response<ResponseBody>, UpstreamError> {
        hygiene::clean(&mut response, call.upgrade)
            .map_err(|what| UpstreamError::Answer { server: server.name.clone(), what })?;
        if response.status() == StatusCode::SWITCHING_PROTOCOLS {
            let upgrade = hyper::upgrade::on(&mut response);
            return Ok(response.map(|body| ResponseBody::switched(body, upgrade, lease, in_flight, server.name.clone())));
        }
        let idle = self.config.timeouts.idle.0;
        Ok(response.map(|body| ResponseBody::new(body, lease, in_flight, server.name.clone(), idle)))
    }
}

/// Why there is no answer on a connection.
enum Failure {
    /// That is the end of it.
    Final(UpstreamError),
    /// The connection ended before an answer began. A request that never left comes back.
    Unanswered { source: hyper::Error, request: Option<Box<Request<SendBody>>> },
}

/// The request as it is to be sent, until it was.
struct Outgoing {
    method: Method,
    path: Box<str>,
    query: Option<Box<str>>,
    headers: HeaderMap,
    body: SendBody,
    progress: Option<Arc<Progress>>,
    /// `headers` were kept when the request was sent: it has no body, and sending it again does no harm.
    kept: bool,
}

impl Outgoing {
    fn new(request: UpstreamRequest, body: SendBody) -> Self {
        let UpstreamRequest { method, path, query, mut headers } = request;
        // Framing is made here, from the body alone.
        headers.remove(header::CONTENT_LENGTH);
        headers.remove(header::TRANSFER_ENCODING);
        Self { progress: body.progress(), method, path, query, headers, body, kept: false }
    }

    /// Writes the request for a connection. What may have to be repeated is kept.
    fn write(
        &mut self,
        upstream: &Upstream,
        server: &Server,
        call: &Call<'_>,
        http2: bool,
        reused: bool,
    ) -> Result<Request<SendBody>, UpstreamError> {
        self.kept = reused && self.progress.is_none() && is_idempotent(&self.method);
        let mut headers = if self.kept { self.headers.clone() } else { std::mem::take(&mut self.headers) };
        let length = self.body.size_hint().exact();
        match length {
            // A method that means something with content says that there is none (RFC 9110, section 8.6).
            Some(0) if !matches!(self.method, Method::POST | Method::PUT | Method::PATCH) => {}
            Some(length) => drop(headers.insert(header::CONTENT_LENGTH, length.into())),
            // Said explicitly, or a GET with a body of unknown length would lose it.
            None if !http2 => drop(headers.insert(header::TRANSFER_ENCODING, HeaderValue::from_static("chunked"))),
            None => {}
        }
        let (authority, host) = match &upstream.host {
            Host::Server => (server.authority.clone(), server.host.clone()),
            Host::Named(authority, host) => (authority.clone(), host.clone()),
            Host::Caller => {
                let host = call.host.to_string();
                (host.parse().map_err(http::Error::from)?, HeaderValue::try_from(host).map_err(http::Error::from)?)
            }
        };
        let target = self.target(server)?;
        let mut request = Request::new(std::mem::replace(&mut self.body, SendBody::empty()));
        if http2 {
            headers.remove(header::HOST);
            let mut parts = uri::Parts::default();
            parts.scheme = Some(server.scheme.clone());
            parts.authority = Some(authority);
            parts.path_and_query = Some(target);
            *request.uri_mut() = Uri::from_parts(parts).map_err(http::Error::from)?;
            *request.version_mut() = Version::HTTP_2;
        } else {
            headers.insert(header::HOST, host);
            // It would have to be named by `Connection`, and trailers may come unasked (RFC 9110, section 6.5.1).
            headers.remove(header::TE);
            if let Some(protocol) = call.upgrade {
                headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
                headers.insert(header::UPGRADE, protocol.clone());
            }
            *request.uri_mut() = target.into();
        }
        *request.method_mut() = self.method.clone();
        *request.headers_mut() = headers;
        Ok(request)
    }

    /// The server's base path, the path and the query.
    fn target(&self, server: &Server) -> Result<PathAndQuery, UpstreamError> {
        let query = self.query.as_deref();
        let mut target = String::with_capacity(server.base.len() + self.path.len() + query.map_or(0, |query| query.len() + 1));
        target.push_str(&server.base);
        target.push_str(&self.path);
        if let Some(query) = query {
            target.push('?');
            target.push_str(query);
        }
        PathAndQuery::from_maybe_shared(Bytes::from(target)).map_err(|error| http::Error::from(error).into())
    }

    /// Makes ready for another connection, if the request may be sent again.
    fn restore(&mut self, unsent: Option<Box<Request<SendBody>>>, error: &hyper::Error) -> bool {
        if let Some(request) = unsent {
            let (parts, body) = request.into_parts();
            self.headers = parts.headers;
            self.headers.remove(header::TRANSFER_ENCODING);
            self.body = body;
            return true;
        }
        // What cannot be read is an answer too.
        self.kept && !error.is_parse()
    }
}

/// RFC 9110, section 9.2.2, of the methods that are let through.
fn is_idempotent(method: &Method) -> bool {
    matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS | Method::PUT | Method::DELETE)
}

fn locations(config: &UpstreamConfig, place: &Place, faults: &mut Faults) -> Vec<Location> {
    if config.servers.is_empty() {
        faults.error(place, "there is no server", "list at least one URL, as https://10.0.0.5:8443");
    }
    let mut locations: Vec<Location> = Vec::new();
    for (index, text) in config.servers.iter().enumerate() {
        let place = place.index(index);
        match Location::parse(text) {
            Err(what) => {
                faults.error(&place, format!("`{text}` {what}"), "write scheme, host and port, as https://10.0.0.5:8443")
            }
            Ok(location) => {
                if locations.iter().any(|other| other.name() == location.name() && other.base == location.base) {
                    faults.error(&place, format!("`{text}` is listed twice"), "list each server once");
                }
                if location.scheme == uri::Scheme::HTTPS && config.tls.server_name.is_none() && location.server_name().is_none() {
                    faults.error(
                        &place,
                        format!("no certificate can bear the host of `{text}`"),
                        "set `tls: { server-name: … }`",
                    );
                }
                locations.push(location);
            }
        }
    }
    locations
}

fn host(text: Option<&str>, place: &Place, faults: &mut Faults) -> Option<Host> {
    match text {
        None | Some("upstream") => Some(Host::Server),
        Some("preserve") => Some(Host::Caller),
        Some(name) => {
            let authority = name.parse::<uri::Authority>().ok().filter(|authority| !authority.as_str().contains('@'));
            let value = HeaderValue::from_str(name).ok();
            if let (Some(authority), Some(value)) = (authority, value) {
                return Some(Host::Named(authority, value));
            }
            faults.error(place, format!("`{name}` is no host"), "write `upstream`, `preserve` or a host name");
            None
        }
    }
}
