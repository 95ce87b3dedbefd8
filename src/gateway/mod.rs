//! The path of a request through the gateway, as one function.

mod addresses;
mod admin_rules;
pub mod answer;
pub mod candidate;
mod decide;
mod files;
mod grpc;
mod hints;
mod inner;
mod lifetime;
mod listeners;
mod received;
pub(crate) mod record;
mod recorded;
mod refused;
mod replayed;
mod request_record;
pub mod runtime;
mod spans;
mod tunnel;
mod upstream_exchange;
mod websocket;
mod worker;

pub(crate) use self::inner::{Answering, Inner};
pub use self::record::Recorder;
pub(crate) use self::record::record_connection_event;
use std::{
    future::poll_fn,
    mem,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::{Pin, pin},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll},
    thread,
};

use arc_swap::ArcSwap;
use futures_util::future::Either;
use http::{HeaderName, StatusCode};

use crate::{
    audit::{AuditLog, WorkerLog},
    base::{buffers, fields::Known, lock::lock, response::Response},
    caller::Caller,
    connection::ConnectionEvent,
    exchange::{Decision, Evidence, Exchange},
    gateway::{
        answer::ResponseBody,
        candidate::Candidates,
        lifetime::admit_certificate,
        received::Received,
        refused::{panicked, refuse},
        runtime::{Runtime, Snapshot},
        tunnel::Downstream,
        upstream_exchange::UpstreamExchange,
        worker::WorkerState,
    },
    inbound::cors,
    listener::{Arrival, Connection, ReceivedRequest, RequestBody, Sent, Service},
    outgoing,
    refusal::{
        Reason, Refusal, Stop,
        trace::{Step, Trace, Verdict},
    },
    request::{Ambiguities, IncomingRequest, RequestId, TraceContext, USUAL_METHODS},
    route::{Action, Found, answer_of_keys},
    telemetry::Traces,
};

/// `Server-Timing`.
const SERVER_TIMING: HeaderName = HeaderName::from_static("server-timing");

/// The data plane of one worker.
#[derive(Clone, Debug)]
pub struct DataPlane {
    runtime: Arc<ArcSwap<Runtime>>,
    /// Shared by this worker's requests; kept per worker so that reference counts are not contended between cores.
    state: Arc<WorkerState>,
    worker: usize,
}

impl DataPlane {
    /// Makes the data plane of the worker with this index.
    pub fn new(runtime: Arc<ArcSwap<Runtime>>, audit: Arc<AuditLog>, worker: usize) -> Self {
        let snapshot = Mutex::new(runtime.load_full().into());
        Self {
            runtime,
            state: Arc::new(WorkerState {
                snapshot,
                log: Arc::new(WorkerLog::new(audit, worker)),
                traces: None,
                draining: Arc::default(),
                candidates: None,
            }),
            worker,
        }
    }

    /// Returns the data plane of a process: its requests' spans go there, this tells it of the drain, and a candidate judges
    /// its requests as well whenever there is one.
    #[must_use]
    pub(crate) fn of_process(
        self,
        traces: Option<Arc<Traces>>,
        draining: Arc<AtomicBool>,
        candidates: Option<Arc<Candidates>>,
    ) -> Self {
        let WorkerState { snapshot, log, .. } = &*self.state;
        let snapshot = Mutex::new(lock(snapshot).clone());
        Self { state: Arc::new(WorkerState { snapshot, log: log.clone(), traces, draining, candidates }), ..self }
    }

    /// Returns whether requests should come here: all that the config needs is there, and the gateway does not drain.
    pub(crate) fn is_serving(&self, runtime: &Runtime) -> bool {
        !self.state.draining.load(Ordering::Relaxed) && runtime.waiting_for().is_empty()
    }

    /// Returns the runtime for a request that begins now. Called without a request, it drops an older one.
    #[expect(clippy::disallowed_methods, reason = "the guard ends here; a counted pointer would be written to by every core")]
    pub(crate) fn snapshot(&self) -> Snapshot {
        let runtime = self.runtime.load();
        let mut own = lock(&self.state.snapshot);
        if !own.is_of(&runtime) {
            *own = Arc::clone(&runtime).into();
        }
        own.clone()
    }

    /// Processes one request: one snapshot of the config, one record, one response. A panic ends this request only.
    ///
    /// The head is read before the future is created, because a future keeps the space of its arguments until it ends.
    ///
    /// `inner` is the application's service behind the gateway, if there is one.
    pub(crate) fn serve(
        &self,
        arrival: Arrival,
        connection: &Arc<Connection>,
        inner: Option<Box<dyn Inner>>,
    ) -> impl Future<Output = Response<ResponseBody>> + Send + use<> {
        self.process(arrival, connection, inner, None)
    }

    /// Processes a request as [`serve`](Self::serve) does, but calls nothing outside of the gateway: the trial has what stands in for it.
    pub(crate) fn try_out(
        &self,
        arrival: Arrival,
        connection: &Arc<Connection>,
        trial: Trial,
    ) -> impl Future<Output = Response<ResponseBody>> + Send + use<> {
        self.process(arrival, connection, None, Some(trial))
    }

    #[inline]
    fn process(
        &self,
        arrival: Arrival,
        connection: &Arc<Connection>,
        inner: Option<Box<dyn Inner>>,
        trial: Option<Trial>,
    ) -> impl Future<Output = Response<ResponseBody>> + Send + use<> {
        let runtime = self.snapshot();
        let mut recorder = Recorder::begin(runtime, connection.clone(), self.worker, self.state.clone());
        if let Some(trial) = trial {
            (recorder.exchange.trace, recorder.exchange.evidence) = (trial.trace, trial.evidence);
            if let Some(id) = trial.id {
                recorder.exchange.id = id;
            }
            decide::stand_in(&mut recorder);
        } else {
            recorder.keep_evidence();
        }
        let mut received = match arrival {
            Arrival::Request(mut request) => catch_unwind(AssertUnwindSafe(|| receive(&mut recorder, &mut request, inner)))
                .unwrap_or_else(|panic| Err(panicked(&*panic, &recorder.exchange))),
            Arrival::Broken(broken) => Err(broken.into()),
        };
        async move {
            let result = match received {
                Ok(ref mut received) => {
                    let forwarded = match &mut *recorder {
                        Recorder { exchange, incoming: Some(incoming), runtime, .. } => {
                            // Pinned here: a future that is wrapped is a large one that is moved once more.
                            caught(pin!(forward(exchange, incoming, runtime, received))).await
                        }
                        _ => Ok(Err(Reason::InternalError.into())),
                    };
                    forwarded.unwrap_or_else(|panic| Err(Stop::Refuse(panicked(&*panic, &recorder.exchange))))
                }
                Err(refusal) => Err(Stop::Refuse(refusal)),
            };
            if result.is_err() && recorder.exchange.timings.policies.is_zero() {
                // Whatever refused it, the policies have taken their time.
                recorder.exchange.timings.policies = recorder.exchange.elapsed();
            }
            let response = result.unwrap_or_else(|stop| match stop {
                Stop::Refuse(refusal) => refuse(refusal, &mut recorder),
                Stop::Respond(response) => response.map(ResponseBody::from),
            });
            let response = match only_tunnels(response.status(), &recorder) {
                Ok(()) => response,
                Err(refusal) => refuse(refusal, &mut recorder),
            };
            finish(response, recorder)
        }
    }
}

/// Refuses a response that the client of an extended CONNECT would take for a tunnel.
fn only_tunnels(status: StatusCode, recorder: &Recorder) -> Result<(), Refusal> {
    if recorder.incoming.as_ref().is_some_and(IncomingRequest::is_extended_connect) {
        return websocket::no_success(status, recorder.exchange.outcome.server.is_some());
    }
    Ok(())
}

/// Awaits a future and catches its panic. State that it leaves unfinished belongs to this request: the exchange, which is only read
/// from then on.
async fn caught<F: Future>(mut future: Pin<&mut F>) -> thread::Result<F::Output> {
    poll_fn(|context| {
        catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(context)))
            .map_or_else(|panic| Poll::Ready(Err(panic)), |polled| polled.map(Ok))
    })
    .await
}

/// The conditions of a request that is tried out.
#[derive(Debug)]
pub(crate) struct Trial {
    /// The steps, and what stands in for everything outside.
    pub(crate) trace: Trace,
    /// The evidence by which it is judged, where it is judged once more.
    pub(crate) evidence: Option<Box<Evidence>>,
    /// The id of the request; `None` for a new one.
    pub(crate) id: Option<RequestId>,
}

/// Reads the head of a request and determines its caller.
fn receive(
    recorder: &mut Recorder,
    request: &mut ReceivedRequest<RequestBody>,
    inner: Option<Box<dyn Inner>>,
) -> Result<Received, Refusal> {
    let Recorder { exchange, incoming, runtime, state, .. } = recorder;
    let upgrade = Downstream::of(&mut request.extensions);
    let inner = inner.map(|inner| Box::new((inner, mem::take(&mut request.extensions))));
    let incoming = incoming.insert(IncomingRequest::take(request, exchange.connection.tls.as_ref())?);
    if let Some(Downstream::Stream(..)) = &upgrade {
        incoming.opens_websocket();
    }
    let mut body = mem::take(&mut request.body);
    exchange.trace_context = Some(TraceContext::of(&incoming.headers));
    let caller = exchange.caller.insert(Caller::of(&exchange.connection, &incoming.headers, &exchange.clock)?);
    if exchange.connection.settings.only_trusted && exchange.connection.introduction.is_none() && !caller.via_trusted_proxy() {
        // Its address may be that of a trusted proxy, and its requests another customer's.
        return Err(Refusal::new(Reason::CallerAddressNotAllowed, "only-trusted-proxies: the request does not come from one"));
    }
    if let Some(id) = caller.via_trusted_proxy().then(|| RequestId::kept_from(&incoming.headers)).flatten() {
        exchange.id = id;
    }
    if let (Some(traces), Some(trace)) = (&state.traces, &mut exchange.trace_context) {
        let decided = trace.parent_id.is_some() && caller.via_trusted_proxy();
        trace.flags = traces.flags(trace.trace_id, trace.flags, decided);
    }
    exchange.deadline = grpc::deadline(incoming);
    // Where a trusted proxy says what the caller speaks with it, what it speaks with the gateway does not count.
    let scheme = caller.scheme.unwrap_or(incoming.scheme);
    incoming.directed_here(exchange.connection.tls.as_ref())?;
    // In a trial the listener may be one for questions: the certificates that it asks for are those of the proxies.
    if !exchange.connection.settings.decides {
        let rules = runtime.listener(&exchange.connection.listener.name);
        admit_certificate(exchange, rules)?;
    }
    exchange.outcome.bytes_in = body.count();
    body.limit(exchange.connection.settings.limits.body_bytes)?;
    Ok(Received { body, upgrade, scheme, inner })
}

/// Handles a request from its route to the head of its response.
async fn forward(
    exchange: &mut Exchange,
    incoming: &mut IncomingRequest,
    runtime: &Snapshot,
    received: &mut Received,
) -> Result<Response<ResponseBody>, Stop> {
    if incoming.asks_about_the_server() {
        let allow = runtime.table.allow(&incoming.authority.host);
        return Ok(answer::options(allow.unwrap_or(&USUAL_METHODS)));
    }

    // A target that no route accepts by name is refused as such, not as one that leads nowhere: where it leads is the question.
    let known = exchange.evidence.as_mut().and_then(|evidence| evidence.found.take());
    let found =
        known.map_or_else(|| find(runtime, incoming), |(route, captures)| Ok(Found { route, captures })).or_else(|refusal| {
            incoming.target.accepted_by(Ambiguities::NONE)?;
            Err(refusal)
        })?;
    let route = &runtime.routes[found.route];
    exchange.route = Some(runtime.label(found.route));
    decide::is_decided(exchange, found.route)?;
    exchange.captures = found.captures;
    exchange.trace.note(|| Step::new("route".into(), None, Verdict::Passed, route.name.to_string().into()));
    let stated_host = exchange.caller.as_ref().and_then(|caller| caller.host.as_ref());
    if let Some(redirect) = route.redirect(incoming, received.scheme, stated_host) {
        exchange.outcome.policy = Some("require-tls".into());
        return Err(Stop::Respond(Box::new(redirect)));
    }
    route.admits(incoming, received.scheme)?;
    route.limits.hold(incoming, &mut received.body)?;
    exchange.max_stream = route.limits.max_stream;
    let mut claimed = true;
    if let Some(evidence) = exchange.evidence.as_mut().filter(|evidence| !evidence.is_recorded()) {
        // For whoever judges the request once more, as it was received.
        claimed = route.reserved.claims_some(&incoming.headers, &route.read);
        evidence.headers = (claimed || route.trusted_headers.is_some()).then(|| incoming.headers.clone());
    }
    if let Some(trusted) = &route.trusted_headers {
        // What is not believed is gone before a policy could read it.
        trusted.admit(exchange.connection.maker(), &runtime.clock, incoming)?;
    }

    let mut outgoing = match exchange.trace.decision_alone() {
        Some(stand_in) if !route.judges_upstream_fields => {
            stand_in.fields_unread = true;
            if claimed {
                route.reserved.remove_claimed(&mut incoming.headers, &route.read);
            }
            outgoing::without_fields(incoming)
        }
        _ => outgoing::from_incoming(incoming, &route.reserved, &route.read),
    };
    let incoming = &*incoming;
    if let Some(trusted) = &route.trusted_headers {
        trusted.hand_on(incoming, &mut outgoing);
    }
    // Before the policies, which may set a field of the same name.
    route.key_places.iter().for_each(|place| place.clear(&mut outgoing));
    route.inbound.run(exchange, incoming, &mut outgoing).await?;
    route.identity_headers.apply(exchange, incoming, &mut outgoing.headers)?;
    if let Some(assertion) = &route.backend_assertion {
        if exchange.trace.decides_only() {
            assertion.judge(exchange, &route.reserved, &outgoing)?;
        } else {
            assertion.apply(exchange, &route.reserved, &mut outgoing)?;
        }
    }
    exchange.timings.policies = exchange.elapsed();
    if incoming.is_extended_connect() && !(route.websocket && matches!(route.action, Action::Forward(_))) {
        return Err(Refusal::new(Reason::ProtocolNotSupported, "the request opens a WebSocket, which the route does not allow")
            .with_hint("write `upgrades: [websocket]` on the route, if WebSockets may open")
            .into());
    }
    if exchange.asked.is_some() {
        return Box::pin(decide::admit(route, exchange, incoming, outgoing)).await;
    }
    let mut response = match &route.action {
        Action::Decide => Box::pin(decide::try_out(route, exchange, incoming, outgoing)).await?,
        Action::Respond(answer) => answer.response(&exchange.facts(incoming))?.map(ResponseBody::from),
        Action::Describe(metadata) => metadata.response(exchange, incoming).map(ResponseBody::from),
        Action::Keys(keys) => answer_of_keys(keys).map(ResponseBody::from),
        // Judges, too, before it asks.
        Action::Relay(relay) => {
            let body = mem::take(&mut received.body);
            Box::pin(relay.answer(exchange, incoming, body)).await?.map(ResponseBody::from)
        }
        Action::Forward(upstream) => {
            let chosen = exchange.backend.clone();
            let upstream = chosen.as_ref().unwrap_or(upstream);
            if !exchange.trace.decides_only() {
                exchange.outcome.hint = hints::before(route, upstream, incoming);
            }
            let upstream_exchange = UpstreamExchange {
                route,
                upstream: upstream.as_ref(),
                incoming,
                upgrade: received
                    .upgrade
                    .take()
                    .filter(|_| route.websocket && incoming.asks_for_websocket() && outgoing.method == incoming.method),
                informational: received.body.take_informational(),
            };
            let sent = upstream_exchange.send(exchange, &mut outgoing, &mut received.body).await;
            if exchange.trace.decides_only() {
                buffers::keep_fields(mem::take(&mut outgoing.headers));
            }
            sent?
        }
        Action::Service => Box::pin(inner::call(route, exchange, incoming, outgoing, received)).await?,
    };
    if !exchange.trace.decides_only() {
        route.outbound.apply(exchange, incoming, &mut response)?;
    }
    Ok(response)
}

/// Finds the route of a request. A preflight takes the route of the method that it asks for, if preflights are answered there.
fn find(runtime: &Runtime, incoming: &IncomingRequest) -> Result<Found, Refusal> {
    if let Some(method) = cors::preflight(incoming)
        && let Ok(found) = runtime.table.find_for(&incoming.authority.host, &incoming.target, &method)
        && runtime.routes[found.route].inbound.answers_preflights()
    {
        return Ok(found);
    }
    runtime.table.find(incoming)
}

/// Adds the common header fields, and attaches the record to the body.
fn finish(mut response: Response<ResponseBody>, mut recorder: Box<Recorder>) -> Response<ResponseBody> {
    if recorder.route().is_some_and(|route| route.server_timing) {
        response.headers_mut().append(&SERVER_TIMING, &answer::server_timing(&recorder.exchange.timings));
    }
    let exchange = &mut recorder.exchange;
    exchange.outcome.allow();
    // A caller who has left gets no response.
    let left = exchange.outcome.decision == Decision::Refused(Reason::ClientLeft);
    exchange.outcome.status = (!left).then_some(response.status());
    let headers = response.headers_mut();
    if exchange.cors {
        headers.remove_if(cors::is_permission);
    }
    for (name, value) in mem::take(&mut exchange.response_headers).iter() {
        headers.append(name, value);
    }
    headers.insert(Known::XRequestId, exchange.id.value());
    grpc::translate(&mut response, &mut recorder);
    match response.body_mut().take_tunnel() {
        // The record waits for the tunnel's end.
        Some(tunnel) => drop(tokio::spawn(tunnel.carry(recorder))),
        None => response.body_mut().ends_with(recorder),
    }
    response
}

impl Service for DataPlane {
    type Body = ResponseBody;

    fn call(&self, arrival: Arrival, connection: &Arc<Connection>) -> impl Future<Output = Response<ResponseBody>> + Send {
        if connection.settings.decides {
            // Boxed: the future of a request has no room for that of a question.
            return Either::Left(Box::pin(self.clone().answer(arrival, connection.clone())));
        }
        Either::Right(self.serve(arrival, connection, None))
    }

    fn opens_websockets(&self, connection: &Connection) -> bool {
        !connection.settings.decides && self.snapshot().opens_websockets
    }

    fn poll_overdue(mut body: Pin<&mut ResponseBody>, cx: &mut Context<'_>) -> Poll<()> {
        body.poll_overdue(cx)
    }

    fn sent(mut body: Pin<&mut ResponseBody>, sent: Sent) {
        body.settle(sent);
    }

    fn event(&self, event: ConnectionEvent) {
        record_connection_event(&self.state.log, &self.snapshot().clock, &event);
    }
}

#[cfg(test)]
mod sizes;
