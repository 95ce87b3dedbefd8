//! An upstream: the choice of a server, and the sending of requests.

use std::{
    future::poll_fn,
    mem,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    task::Poll,
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderValue, StatusCode, uri};
use http_body::Body;
use tokio::time::Instant;

use super::{
    OwnCertificateStatus,
    affinity::{Owner, UpstreamId},
    body::ResponseBody,
    client_certificate::OwnCertificate,
    config::{BalanceConfig, ProtocolConfig, UpstreamConfig},
    connect::{self, Connection, Want, Wanted},
    error::UpstreamError,
    failure::{Failure, fault_of, unanswered, unwritable},
    http1, http2, hygiene,
    interim::{Interim, Relay},
    outgoing::Outgoing,
    pool::{InFlight, Pool},
    retry::Budget,
    send_body::{Progress, SendBody},
    server::Server,
};
use crate::upstream::UpstreamRequest;
use crate::{
    base::{deadline::Deadline, error_chain::chain, fields::Known, response::Response},
    connection::Authority,
    refusal::{Reason, Refusal},
};

/// The pause before the only server of an upstream is tried again.
const BACKOFF: Duration = Duration::from_millis(25);

/// A backend: its servers, and the connections to them.
#[derive(Debug)]
pub struct Upstream {
    pub(super) id: UpstreamId,
    pub(super) name: Arc<str>,
    pub(super) config: UpstreamConfig,
    pub(super) host: Host,
    pub(super) servers: Box<[Server]>,
    /// The per-thread state.
    pub(super) per_worker: Box<[PerWorker]>,
    /// True if its servers are being checked.
    pub(super) watched: AtomicBool,
}

/// The state of one thread for an upstream. Aligned, so that no two threads write to one cache line.
#[derive(Debug, Default)]
#[repr(align(64))]
pub(super) struct PerWorker {
    /// The position of the thread in the round of servers.
    pub(super) turn: AtomicUsize,
    pub(super) budget: Budget,
    /// The number of retries.
    pub(super) retries: AtomicU64,
}

/// The `Host` that the upstream receives.
#[derive(Clone, Debug)]
pub(super) enum Host {
    Server,
    Caller,
    Named(uri::Authority, HeaderValue),
}

/// The context of a request to be sent.
#[derive(Clone, Debug)]
pub struct Call<'a> {
    /// The worker thread that sends it, which is the current one.
    pub worker: usize,
    /// The host that the caller asked for, for `host: preserve`.
    pub host: &'a Authority,
    /// The protocol to switch to, if the route allows it.
    pub upgrade: Option<&'a HeaderValue>,
    /// The caller, if the request needs a connection of its own.
    pub owner: Option<Owner<'a>>,
    /// The deadline of the response's head, in place of the upstream's own.
    pub response_timeout: Option<Duration>,
    /// The destination of the server's informational responses, if the caller accepts any.
    pub informational: Option<Interim<'a>>,
}

/// The current state of a server.
#[derive(Clone, Debug)]
pub struct ServerState {
    /// Host and port.
    pub name: Arc<str>,
    /// The number of requests in progress.
    pub in_flight: usize,
    /// True if its health checks pass, or there are none.
    pub healthy: bool,
    /// True if it is ejected after several failures in a row.
    pub ejected: bool,
    /// Since when it has been healthy or not, or ejected, in seconds since 1970; absent if nothing has changed so far.
    pub since: Option<u64>,
    /// The cause of its last failed health check or ejection, as long as it is out of service.
    pub cause: Option<Arc<str>>,
}

impl Upstream {
    /// Returns the upstream's name.
    pub const fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// Returns whether a caller may have connections of its own.
    pub const fn has_affinity(&self) -> bool {
        self.config.connection_affinity.is_some()
    }

    /// Returns the servers by host and port, each with the number of requests in progress.
    pub fn servers(&self) -> impl Iterator<Item = (&Arc<str>, usize)> {
        self.servers.iter().map(|server| (&server.name, server.in_flight()))
    }

    /// Returns whether the servers are spoken to in HTTP/1.1, whatever they offer.
    pub fn speaks_http1(&self) -> bool {
        match self.config.protocol {
            ProtocolConfig::Http2 => false,
            ProtocolConfig::Http1 => true,
            ProtocolConfig::Auto => self.servers.iter().all(|server| server.tls.is_none()),
        }
    }

    /// Returns the current states of the servers.
    pub fn states(&self) -> impl Iterator<Item = ServerState> {
        self.servers.iter().map(|server| ServerState {
            name: server.name.clone(),
            in_flight: server.in_flight(),
            healthy: server.health.is_up(),
            ejected: server.health.is_ejected(),
            since: server.health.since(),
            cause: server.health.cause(),
        })
    }

    /// Returns the status of the gateway's own certificate towards these servers at this time, if it has one.
    pub fn own_certificate_status(&self, now: u64) -> Option<OwnCertificateStatus> {
        self.own_certificate().map(|own| own.status(now))
    }

    /// Returns the gateway's own certificate towards these servers, if it has one.
    pub(super) fn own_certificate(&self) -> Option<&OwnCertificate> {
        self.servers.iter().find_map(|server| server.tls.as_ref()?.0.own.as_ref())
    }

    /// Returns whether the other one has the same settings, trusts the same authorities and shows the same certificate.
    pub(super) fn same_as(&self, other: &Self) -> bool {
        self.config == other.config
            && self.per_worker.len() == other.per_worker.len()
            && self.servers.iter().zip(&other.servers).all(|(one, other)| match (&one.tls, &other.tls) {
                (None, None) => true,
                (Some((one, _)), Some((other, _))) => one.same_as(other),
                _ => false,
            })
    }

    /// Sends a request to one of the servers and waits for the head of the response. An empty body sends none, a known length is
    /// announced as `Content-Length`, an unknown one is sent in chunks.
    ///
    /// An unreachable server is skipped in favour of the next one. A request that failed on a connection that had been idle,
    /// before any byte of a response, is sent once more on a new one, if it was never sent or may be repeated (RFC 9110, section
    /// 9.2.2). Beyond that `retries` decides.
    ///
    /// # Errors
    /// No connection, no answer in time, or none that may go further; or the caller's body broke off.
    pub fn send<B>(
        &self,
        call: Call<'_>,
        request: UpstreamRequest,
        body: B,
    ) -> impl Future<Output = Result<Response<ResponseBody>, UpstreamError>> + Send
    where
        B: Body<Data = Bytes> + Send + 'static,
        B::Error: Into<Refusal>,
    {
        let mut outgoing = Outgoing::new(request, SendBody::of(body));
        // A block that borrows what it captured: the arguments of an `async fn` have their room twice.
        async move { self.try_servers(&call, &mut outgoing).await }
    }

    /// Sends the request to one server after the other, as long as none can be connected to or `retries` asks for it.
    async fn try_servers(&self, call: &Call<'_>, outgoing: &mut Outgoing) -> Result<Response<ResponseBody>, UpstreamError> {
        let worker_state = &self.per_worker[call.worker % self.per_worker.len()];
        let retries = self.config.retries.as_ref();
        if let Some(retries) = retries {
            worker_state.budget.earn(retries);
        }
        let mut left = retries.map_or(0, |retries| retries.attempts);
        // The connection that the caller has already, and the server that it leads to.
        let mut own = call.owner.as_ref().and_then(|owner| self.own(owner));
        let first = match &own {
            Some((at, _)) => *at,
            None => self.first(worker_state, call.worker)?,
        };
        let count = self.servers.len();
        let mut at = first;
        // How many servers could not be connected to, without a stop.
        let mut unreachable = 0;
        loop {
            let server = &self.servers[at];
            let own = own.take().map(|(_, connection)| connection);
            let result = self.send_to(server, server.pool(call.worker), call, outgoing, own).await;
            self.judge(server, &result);
            at = self.next(at);
            unreachable = if result.as_ref().is_err_and(UpstreamError::is_connect_failure) { unreachable + 1 } else { 0 };
            if unreachable > 0 && unreachable < count && at != first {
                continue;
            }
            let again =
                left > 0 && retries.is_some_and(|retries| retries.ask_for(&result, outgoing)) && worker_state.budget.spend();
            if !again {
                return result;
            }
            left -= 1;
            worker_state.retries.fetch_add(1, Ordering::Relaxed);
            if count == 1 {
                // It was there a moment ago; another one would be asked at once.
                tokio::time::sleep(BACKOFF).await;
            }
        }
    }

    /// Returns the caller's own connection, and its server.
    fn own(&self, owner: &Owner<'_>) -> Option<(usize, Box<http1::Connection>)> {
        let (server, connection) = owner.take(self.id, self.config.timeouts.idle.0)?;
        Some((self.servers.iter().position(|known| known.name == server)?, connection))
    }

    /// Returns the server that is due.
    fn first(&self, worker_state: &PerWorker, worker: usize) -> Result<usize, UpstreamError> {
        let count = self.servers.len();
        let turn = if count == 1 { 0 } else { worker_state.turn.fetch_add(1, Ordering::Relaxed) };
        let round = || (0..count).map(|offset| (turn + offset) % count);
        let available = || round().filter(|at| self.servers[*at].health.is_available());
        let first = match self.config.balance {
            BalanceConfig::RoundRobin => available().next(),
            // Starting at another one each time spreads requests among servers that are equally busy.
            BalanceConfig::LeastRequests => available().min_by_key(|at| self.servers[*at].pool(worker).in_flight()),
        };
        // To be ejected is a guess from a few requests: it never leaves a caller without any server. A health check knows.
        first
            .or_else(|| round().find(|at| self.servers[*at].health.is_up()))
            .ok_or_else(|| UpstreamError::NoServer { upstream: self.name.clone() })
    }

    /// Returns the next server in the round: the same one if no other is in service.
    fn next(&self, at: usize) -> usize {
        let count = self.servers.len();
        (1..count).map(|offset| (at + offset) % count).find(|at| self.servers[*at].health.is_available()).unwrap_or(at)
    }

    /// Records the result of a server.
    fn judge(&self, server: &Server, result: &Result<Response<ResponseBody>, UpstreamError>) {
        let Some(ejection) = &self.config.ejection else { return };
        let failed = match result {
            Ok(response) => {
                matches!(
                    response.status(),
                    StatusCode::BAD_GATEWAY | StatusCode::SERVICE_UNAVAILABLE | StatusCode::GATEWAY_TIMEOUT
                )
            }
            Err(error) => error.server().is_some(),
        };
        if !failed {
            return server.health.succeeded();
        }
        let cause = || match result {
            Ok(response) => format!("it answers with {}", response.status()),
            Err(error) => chain(error),
        };
        if server.health.failed(ejection, cause) {
            tracing::warn!(
                upstream = &*self.name,
                server = &*server.name,
                cause = server.health.cause().as_deref(),
                "a server failed too often and is left alone for a while"
            );
        }
    }

    /// Sends the request to this server: once, or once more if the first connection had been closed while it was idle.
    pub(super) async fn send_to(
        &self,
        server: &Server,
        pool: &Arc<Pool>,
        call: &Call<'_>,
        outgoing: &mut Outgoing,
        mut own: Option<Box<http1::Connection>>,
    ) -> Result<Response<ResponseBody>, UpstreamError> {
        let mut want = match call {
            Call { upgrade: Some(_), .. } => Want::Upgrade,
            // Whose requests came on a connection of the pool nobody knows.
            Call { owner: Some(_), .. } => Want::Fresh,
            _ => Want::Any,
        };
        let mut repeated = false;
        loop {
            let in_flight = InFlight::of(pool);
            if repeated && want == Want::Any {
                want = Want::MadeAfter(Instant::now());
            }
            let mut now = Instant::now();
            let wanted = Wanted { what: want, upload: !outgoing.body.is_end_stream() };
            let timeouts = &self.config.timeouts;
            let at_hand = own.take().map(Connection::Http1).or_else(|| connect::pooled(pool, timeouts, wanted, now));
            let connection = match at_hand {
                Some(connection) => connection,
                None => {
                    // Boxed: a handshake has a large future, and nearly every request finds a connection and has no use for its room.
                    let made = Box::pin(connect::connection(server, pool, self.config.protocol, timeouts, wanted)).await?;
                    now = Instant::now();
                    made
                }
            };
            let sent = match connection {
                Connection::Http1(connection) => self.send_http1(server, call, outgoing, connection, (in_flight, now)).await,
                // Boxed: it is the larger one, and a request over HTTP/1.1 would have to keep the room for it.
                Connection::Http2(stream) => Box::pin(self.send_http2(server, call, outgoing, stream, in_flight)).await,
            };
            match sent {
                Ok(response) => return Ok(response),
                Err(Failure::Final(error)) => return Err(error),
                // Once more, and no more.
                Err(Failure::Stale(error)) if repeated => return Err(error),
                // Only a connection that carried other requests may have ended for their sake; another one shows what the server does.
                Err(Failure::Stale(_)) => repeated = true,
            }
        }
    }

    async fn send_http1(
        &self,
        server: &Server,
        call: &Call<'_>,
        outgoing: &mut Outgoing,
        mut connection: Box<http1::Connection>,
        (in_flight, now): (InFlight, Instant),
    ) -> Result<Response<ResponseBody>, Failure> {
        let written;
        let host = match &self.host {
            Host::Server => &server.host,
            Host::Named(_, host) => host,
            // Of a caller that names none there is none to preserve.
            Host::Caller if call.host.is_absent() => &server.host,
            Host::Caller => {
                written = HeaderValue::try_from(call.host.to_string()).map_err(unwritable)?;
                &written
            }
        };
        let progress = outgoing.body.progress();
        let head = http1::RequestHead {
            method: &outgoing.method,
            base: &server.base,
            path: &outgoing.path,
            query: outgoing.query.as_deref(),
            host,
            headers: &outgoing.headers,
            upgrade: call.upgrade,
            framing: outgoing.framing(),
        };
        connection.return_slot = call.owner.as_ref().map(|owner| owner.return_slot(self.id, &server.name));
        // The connection's own timer, which is wound up once in many requests.
        let mut timer = mem::take(&mut connection.timer);
        let mut relay = Relay::new(call.informational);
        let answer = connection.exchange(head, &mut outgoing.body, &mut relay);
        let head = match self.in_time(server, (progress.as_deref(), self.response_timeout(call), now), &mut timer, answer).await?
        {
            Ok(head) => head,
            Err(http1::Fault::Unanswered(error)) => {
                let error = unanswered(server, progress.as_deref(), error);
                return Err(if connection.reused && outgoing.may_repeat() { error.stale() } else { error });
            }
            Err(fault @ (http1::Fault::Target | http1::Fault::RequestLength)) => return Err(unwritable(fault)),
            Err(fault) => return Err(fault_of(server, progress.as_deref(), fault)),
        };
        connection.timer = timer;
        connection.keep(&mut outgoing.body);

        let http1::Head { status, headers, upgrade, .. } = head;
        let name = in_flight.pool().server.clone();
        let mut response = if status == StatusCode::SWITCHING_PROTOCOLS {
            let asked = call.upgrade.ok_or(Failure::answer(&name, "changes the protocol unasked"))?;
            let upgrade = upgrade.filter(|given| given.as_bytes().eq_ignore_ascii_case(asked.as_bytes()));
            let upgrade = upgrade.ok_or(Failure::answer(&name, "changes to another protocol than was asked for"))?;
            let mut response = Response::new(ResponseBody::switched(*connection, in_flight, name));
            *response.headers_mut() = headers;
            response.headers_mut().insert(Known::Connection, &HeaderValue::from_static("upgrade"));
            response.headers_mut().insert(Known::Upgrade, &upgrade);
            response
        } else {
            let mut body = ResponseBody::http1(connection, in_flight, name, self.config.timeouts.idle.0);
            body.gather().await.map_err(|error| fault_of(server, progress.as_deref(), error))?;
            let mut response = Response::new(body);
            *response.headers_mut() = headers;
            response
        };
        *response.status_mut() = status;
        if call.owner.is_none() {
            clean(&mut response);
        }
        Ok(response)
    }

    async fn send_http2(
        &self,
        server: &Server,
        call: &Call<'_>,
        outgoing: &mut Outgoing,
        stream: http2::Stream,
        in_flight: InFlight,
    ) -> Result<Response<ResponseBody>, Failure> {
        let request = outgoing.http2(&self.host, server, call).map_err(unwritable)?;
        let progress = outgoing.body.progress();
        let connection = stream.connection().clone();
        let mut timer = Deadline::default();
        let mut relay = Relay::new(call.informational);
        let answer = stream.exchange(request, &mut outgoing.body, &mut relay);
        let fault = match self
            .in_time(server, (progress.as_deref(), self.response_timeout(call), Instant::now()), &mut timer, answer)
            .await?
        {
            Ok(response) => {
                let name = in_flight.pool().server.clone();
                let mut response = Response::from(response).map(|answer| ResponseBody::http2(answer, in_flight, name));
                response.body_mut().gather().await.map_err(|error| fault_of(server, progress.as_deref(), error))?;
                hygiene::clean_http2(response.headers_mut());
                clean(&mut response);
                return Ok(response);
            }
            Err(fault) => fault,
        };
        let repeatable = match &fault {
            http2::Fault::Unprocessed(_) => outgoing.body.is_whole(),
            http2::Fault::Unanswered(_) | http2::Fault::Connection(_) | http2::Fault::Silent => outgoing.may_repeat(),
            http2::Fault::Malformed(_) | http2::Fault::Head(_) | http2::Fault::RequestBody | http2::Fault::Unwritable(_) => false,
        };
        let failure = match fault {
            http2::Fault::Unwritable(error) => return Err(unwritable(error)),
            http2::Fault::Unprocessed(_) | http2::Fault::Unanswered(_) | http2::Fault::Silent => {
                unanswered(server, progress.as_deref(), fault)
            }
            fault => fault_of(server, progress.as_deref(), fault),
        };
        Err(if repeatable && connection.was_shared() { failure.stale() } else { failure })
    }

    fn response_timeout(&self, call: &Call<'_>) -> Duration {
        call.response_timeout.unwrap_or(self.config.timeouts.response.0)
    }

    /// Waits for the head of a response until the deadline, counted from `now`, which does not run while the request's body is in progress.
    async fn in_time<T>(
        &self,
        server: &Server,
        (progress, within, now): (Option<&Progress>, Duration, Instant),
        timer: &mut Deadline,
        answer: impl Future<Output = T>,
    ) -> Result<T, Failure> {
        let mut answer = pin!(answer);
        timer.set(now + within);
        loop {
            let answered = poll_fn(|context| match answer.as_mut().poll(context) {
                Poll::Ready(answer) => Poll::Ready(Some(answer)),
                Poll::Pending => timer.poll(context).map(|()| None),
            });
            if let Some(answer) = answered.await {
                timer.clear();
                return Ok(answer);
            }
            let Some(progress) = progress else { return Err(Failure::overdue(server, within)) };
            if progress.moved() + within > Instant::now() {
                timer.set(progress.moved() + within);
            } else if progress.starved() {
                let refusal = Refusal::new(Reason::RequestTimeout, format!("the body stood still for {within:?}"));
                return Err(Failure::Final(UpstreamError::RequestBody(Box::new(refusal))));
            } else {
                return Err(Failure::overdue(server, within));
            }
        }
    }
}

/// Removes fields that are not for the caller, with any protocol, on connections shared by several callers.
fn clean(response: &mut Response<ResponseBody>) {
    if response.status() == StatusCode::UNAUTHORIZED {
        hygiene::remove_connection_bound_challenges(response.headers_mut());
    }
}
