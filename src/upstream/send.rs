//! An upstream: which server a request goes to, and how it gets there.

use std::{
    error::Error,
    mem,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use http::{
    HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Uri, Version, header,
    uri::{self, PathAndQuery},
};
use http_body::Body;
use tokio::time::{Instant, timeout_at};

use super::{
    UpstreamRequest,
    body::{Progress, ResponseBody, SendBody},
    config::{BalanceConfig, UpstreamConfig},
    connect::{self, Connection, Want},
    error::UpstreamError,
    http1::{self, Framing},
    hygiene,
    pool::{InFlight, Pool, Stream},
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
        let mut want = if call.upgrade.is_some() { Want::Upgrade } else { Want::Any };
        loop {
            let in_flight = InFlight::of(pool);
            let connection = connect::connection(server, pool, self.config.protocol, &self.config.timeouts, want).await?;
            let sent = match connection {
                Connection::Http1(connection) => self.send_http1(server, call, outgoing, connection, in_flight).await,
                Connection::Http2 { stream, reused } => self.send_http2(server, call, outgoing, stream, reused, in_flight).await,
            };
            match sent {
                Ok(response) => return Ok(response),
                Err(Failure::Final(error)) => return Err(error),
                // Only a connection that carried requests before may just have been closed; a new one shows what the server does.
                Err(Failure::Stale) => want = Want::Fresh,
            }
        }
    }

    async fn send_http1(
        &self,
        server: &Server,
        call: &Call<'_>,
        outgoing: &mut Outgoing,
        mut connection: Box<http1::Connection>,
        in_flight: InFlight,
    ) -> Result<Response<ResponseBody>, Failure> {
        let host = match &self.host {
            Host::Server => server.host.clone(),
            Host::Named(_, host) => host.clone(),
            Host::Caller => HeaderValue::try_from(call.host.to_string()).map_err(unwritable)?,
        };
        let progress = outgoing.body.progress();
        let head = http1::RequestHead {
            method: &outgoing.method,
            base: &server.base,
            path: &outgoing.path,
            query: outgoing.query.as_deref(),
            host: &host,
            headers: &outgoing.headers,
            upgrade: call.upgrade,
            framing: outgoing.framing(),
        };
        let head = match self.in_time(server, progress.as_deref(), connection.exchange(head, &mut outgoing.body)).await? {
            Ok(head) => head,
            Err(http1::Fault::Unanswered(_)) if connection.reused && outgoing.may_repeat() => return Err(Failure::Stale),
            Err(fault @ (http1::Fault::Target | http1::Fault::RequestLength)) => return Err(unwritable(fault)),
            Err(fault) => return Err(fault_of(server, progress.as_deref(), fault)),
        };
        connection.keep(&mut outgoing.body);

        let http1::Head { status, headers, upgrade, .. } = head;
        let server = server.name.clone();
        let mut response = if status == StatusCode::SWITCHING_PROTOCOLS {
            let asked = call.upgrade.ok_or(Failure::answer(&server, "changes the protocol unasked"))?;
            let upgrade = upgrade.filter(|given| given.as_bytes().eq_ignore_ascii_case(asked.as_bytes()));
            let upgrade = upgrade.ok_or(Failure::answer(&server, "changes to another protocol than was asked for"))?;
            let mut response = Response::new(ResponseBody::switched(*connection, in_flight, server));
            *response.headers_mut() = headers;
            response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
            response.headers_mut().insert(header::UPGRADE, upgrade);
            response
        } else {
            let mut response = Response::new(ResponseBody::http1(connection, in_flight, server, self.config.timeouts.idle.0));
            *response.headers_mut() = headers;
            response
        };
        *response.status_mut() = status;
        clean(&mut response);
        Ok(response)
    }

    async fn send_http2(
        &self,
        server: &Server,
        call: &Call<'_>,
        outgoing: &mut Outgoing,
        stream: Stream,
        reused: bool,
        in_flight: InFlight,
    ) -> Result<Response<ResponseBody>, Failure> {
        // The body goes with the request and does not come back, so that only an empty one is still there.
        let repeat = reused && outgoing.may_repeat() && outgoing.body.is_end_stream();
        let request = outgoing.http2(self, server, call, repeat).map_err(unwritable)?;
        let progress = request.body().progress();
        let mut sender = stream.sender();
        match self.in_time(server, progress.as_deref(), sender.try_send_request(request)).await? {
            Ok(response) => {
                let mut response = response.map(|body| ResponseBody::http2(body, stream, in_flight, server.name.clone()));
                hygiene::clean_http2(response.headers_mut());
                clean(&mut response);
                Ok(response)
            }
            Err(mut error) => {
                // What never left can be sent by another connection, whatever it is.
                if let Some(request) = error.take_message().filter(|_| reused) {
                    outgoing.restore(request);
                    return Err(Failure::Stale);
                }
                let error = error.into_error();
                if repeat && !error.is_parse() {
                    return Err(Failure::Stale);
                }
                Err(fault_of(server, progress.as_deref(), error))
            }
        }
    }

    /// Waits for the head of an answer until the deadline. As long as the request's body is on its way, nothing is overdue.
    async fn in_time<T>(
        &self,
        server: &Server,
        progress: Option<&Progress>,
        answer: impl Future<Output = T>,
    ) -> Result<T, Failure> {
        let mut answer = pin!(answer);
        let within = self.config.timeouts.response.0;
        let mut deadline = Instant::now() + within;
        loop {
            if let Ok(answer) = timeout_at(deadline, answer.as_mut()).await {
                return Ok(answer);
            }
            let Some(progress) = progress else { return Err(Failure::overdue(server, within)) };
            if progress.moved() + within > Instant::now() {
                deadline = progress.moved() + within;
            } else if progress.starved() {
                let refusal = Refusal::new(Reason::RequestTimeout, format!("the body stood still for {within:?}"));
                return Err(Failure::Final(UpstreamError::RequestBody(Box::new(refusal))));
            } else {
                return Err(Failure::overdue(server, within));
            }
        }
    }
}

/// Why there is no answer on a connection.
enum Failure {
    /// That is the end of it.
    Final(UpstreamError),
    /// The connection was closed while it was idle; the request may be sent on another one.
    Stale,
}

impl Failure {
    fn answer(server: &Arc<str>, what: &'static str) -> Self {
        Self::Final(UpstreamError::Answer { server: server.clone(), what })
    }

    fn overdue(server: &Server, after: Duration) -> Self {
        Self::Final(UpstreamError::Timeout { server: server.name.clone(), after })
    }
}

/// What a failed exchange comes to.
fn fault_of(server: &Server, progress: Option<&Progress>, source: impl Into<Box<dyn Error + Send + Sync>>) -> Failure {
    Failure::Final(match progress.and_then(Progress::refusal) {
        Some(refusal) => UpstreamError::RequestBody(Box::new(refusal)),
        None => UpstreamError::Protocol { server: server.name.clone(), source: source.into() },
    })
}

fn unwritable(error: impl Into<Box<dyn Error + Send + Sync>>) -> Failure {
    Failure::Final(UpstreamError::Request(error.into()))
}

/// What is not for the caller, whatever protocol it came by.
fn clean(response: &mut Response<ResponseBody>) {
    if response.status() == StatusCode::UNAUTHORIZED {
        hygiene::remove_connection_bound_challenges(response.headers_mut());
    }
}

/// The request as it is to be sent, until it was.
struct Outgoing {
    method: Method,
    path: Box<str>,
    query: Option<Box<str>>,
    headers: HeaderMap,
    body: SendBody,
}

impl Outgoing {
    fn new(request: UpstreamRequest, body: SendBody) -> Self {
        let UpstreamRequest { method, path, query, headers } = request;
        Self { method, path, query, headers, body }
    }

    /// Whether sending the request a second time does no harm, and is possible.
    fn may_repeat(&self) -> bool {
        is_idempotent(&self.method) && self.body.is_whole()
    }

    /// Framing is made from the body alone.
    fn framing(&self) -> Framing {
        match self.body.size_hint().exact() {
            // A method that means something with content says that there is none (RFC 9110, section 8.6).
            Some(0) if !matches!(self.method, Method::POST | Method::PUT | Method::PATCH) => Framing::None,
            Some(length) => Framing::Length(length),
            None => Framing::Chunked,
        }
    }

    /// Writes the request for HTTP/2. What may have to be sent once more is kept.
    fn http2(
        &mut self,
        upstream: &Upstream,
        server: &Server,
        call: &Call<'_>,
        keep: bool,
    ) -> Result<Request<SendBody>, http::Error> {
        let authority = match &upstream.host {
            Host::Server => server.authority.clone(),
            Host::Named(authority, _) => authority.clone(),
            Host::Caller => call.host.to_string().parse()?,
        };
        let query = self.query.as_deref();
        let mut target = String::with_capacity(server.base.len() + self.path.len() + query.map_or(0, |query| query.len() + 1));
        target.push_str(&server.base);
        target.push_str(&self.path);
        if let Some(query) = query {
            target.push('?');
            target.push_str(query);
        }
        let mut parts = uri::Parts::default();
        parts.scheme = Some(server.scheme.clone());
        parts.authority = Some(authority);
        parts.path_and_query = Some(PathAndQuery::from_maybe_shared(Bytes::from(target))?);

        // RFC 9113, section 8.3.1: the authority is said once.
        self.headers.remove(header::HOST);
        self.headers.remove(header::CONTENT_LENGTH);
        self.headers.remove(header::TRANSFER_ENCODING);
        if let Framing::Length(length) = self.framing() {
            self.headers.insert(header::CONTENT_LENGTH, length.into());
        }
        let body = mem::replace(&mut self.body, SendBody::empty());
        let mut request = Request::new(body);
        *request.method_mut() = self.method.clone();
        *request.uri_mut() = Uri::from_parts(parts)?;
        *request.version_mut() = Version::HTTP_2;
        *request.headers_mut() = if keep { self.headers.clone() } else { mem::take(&mut self.headers) };
        Ok(request)
    }

    /// Takes back a request that never left.
    fn restore(&mut self, request: Request<SendBody>) {
        let (parts, body) = request.into_parts();
        self.headers = parts.headers;
        self.body = body;
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
