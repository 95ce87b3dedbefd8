//! Decisions for other proxies: the path of a question.
//!
//! The request that a question describes takes the same path as all others, up to where it would be sent. What a listener knows of a
//! connection comes from the question: the caller is never the proxy that asks.

use std::{pin::pin, sync::Arc, time::Duration};

use bytes::Bytes;
use http::StatusCode;
use http_body_util::BodyExt as _;

use super::{
    DataPlane, Received, Recorder,
    answer::{self, ResponseBody},
    caught, finish, forward, panicked, refuse,
    upstream_exchange::set_forwarding_headers,
};
use crate::{
    base::{
        buffers,
        fields::{Fields, Known, Value},
        response::Response,
    },
    caller::{AddressSource, Caller},
    decision::{Admitted, Answer, DecisionRules, MAX_MESSAGE, NotAsked, Question, QuestionFault, Refused, health},
    exchange::{Asked, Exchange},
    listener::{Arrival, Connection, ReceivedRequest, RequestBody, TlsFacts},
    refusal::{Reason, Refusal, Stop, trace::SentRequest},
    request::{GrpcStatus, IncomingRequest, RequestId, TraceContext, grpc_timeout, is_grpc},
    route::Route,
    upstream::UpstreamRequest,
};

/// The longest time that a decision may take: whoever asks has given up by then.
const LONGEST: Duration = Duration::from_secs(10);

/// Stands for the proxy that asks where an upstream would be named.
const ASKING_PROXY: &str = "the proxy that asks";

/// The end of a question.
enum End {
    /// It is refused.
    Refused(Refusal),
    /// It was not asked as one.
    NotAsked(Box<NotAsked>),
}

impl From<Refusal> for End {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

impl From<QuestionFault> for End {
    fn from(fault: QuestionFault) -> Self {
        Self::Refused(fault.into())
    }
}

impl From<NotAsked> for End {
    fn from(not_asked: NotAsked) -> Self {
        Self::NotAsked(Box::new(not_asked))
    }
}

impl DataPlane {
    /// Answers a question of another proxy.
    pub(super) async fn answer(self, arrival: Arrival, connection: Arc<Connection>) -> Response<ResponseBody> {
        let runtime = self.snapshot();
        let rules = runtime.listener(&connection.listener.name).and_then(|listener| listener.decides.clone());
        if let (Some(rules), Arrival::Request(request)) = (&rules, &arrival)
            && rules.dialect.is_grpc()
            && let Some(answer) = health(request.uri.path(), || self.is_serving(&runtime))
        {
            // Says nothing of requests, so that whoever probes need not be one of the peers; and leaves no record.
            return put(answer, Response::new(ResponseBody::whole(Bytes::new())));
        }
        let mut recorder = Recorder::begin(runtime, connection, self.worker, self.state.clone());
        let (rules, request) = match (rules, arrival) {
            (_, Arrival::Broken(broken)) => return finish(refuse(broken.into(), &mut recorder), recorder),
            (Some(rules), Arrival::Request(request)) => (rules, request),
            (None, Arrival::Request(_)) => {
                // The listener has become another one since the connection was made, or is gone.
                let refusal = Refusal::new(Reason::Overloaded, "the listener answers no questions any more");
                return finish(refuse(refusal, &mut recorder), recorder);
            }
        };
        let waits = grpc_timeout(&request.headers).filter(|_| rules.dialect.is_grpc()).unwrap_or(LONGEST).min(LONGEST);
        let judged = tokio::time::timeout(waits, caught(pin!(judge(&mut recorder, &rules, *request)))).await;
        let end = match judged {
            Ok(Ok(Ok(answer))) => return conclude(Ok(answer), &rules, recorder),
            Ok(Ok(Err(end))) => end,
            Ok(Err(panic)) => End::Refused(panicked(&*panic, &recorder.exchange)),
            Err(_) => End::Refused(Refusal::new(Reason::DecisionTimeout, "the decision took longer than the proxy waits for it")),
        };
        recorder.exchange.timings.policies = recorder.exchange.elapsed();
        conclude(Err(end), &rules, recorder)
    }
}

/// Makes the response to a question, and attaches the record.
fn conclude(judged: Result<Answer, End>, rules: &DecisionRules, mut recorder: Box<Recorder>) -> Response<ResponseBody> {
    let end = match judged {
        Ok(answer) => return put(answer, finish(Response::new(ResponseBody::whole(Bytes::new())), recorder)),
        Err(end) => end,
    };
    let (refusal, status) = match end {
        End::Refused(refusal) => (refusal, None),
        End::NotAsked(not_asked) => (not_asked.refusal, Some(not_asked.status)),
    };
    let (code, told) = (refusal.code().to_owned(), status.unwrap_or_else(|| GrpcStatus::of(refusal.status())));
    let is_question = recorder.exchange.asked.is_some() && status.is_none();
    let to_grpc = recorder.incoming.as_ref().is_some_and(|incoming| is_grpc(&incoming.headers));
    // A policy of `on-error` may have replaced the document; whatever it is, it is whole.
    let mut response = finish(refuse(refusal, &mut recorder), recorder);
    let body = response.body_mut().take_whole().unwrap_or_default();
    let answer = match rules.dialect.failure(told, &code).filter(|_| !is_question) {
        Some(failure) => failure,
        None => {
            let headers = std::mem::take(response.headers_mut());
            rules.dialect.refuse(Refused { status: response.status(), headers, body, code: &code, to_grpc })
        }
    };
    if !rules.dialect.is_grpc()
        && let Some(recorder) = response.body_mut().recorder()
    {
        recorder.exchange.outcome.status = Some(answer.status);
    }
    put(answer, response)
}

/// Puts an answer in the place of a response, whose record stays attached.
fn put(answer: Answer, mut response: Response<ResponseBody>) -> Response<ResponseBody> {
    let Answer { status, headers, body, trailers } = answer;
    let id = response.headers().get(Known::XRequestId).map(Value::to_header_value);
    *response.status_mut() = status;
    *response.headers_mut() = headers;
    if let Some(id) = id.filter(|_| !response.headers().contains_key(Known::XRequestId)) {
        response.headers_mut().append(Known::XRequestId, &id);
    }
    response.body_mut().replace(body, trailers);
    response
}

/// Judges the request that a question describes.
async fn judge(
    recorder: &mut Recorder,
    rules: &Arc<DecisionRules>,
    request: ReceivedRequest<RequestBody>,
) -> Result<Answer, End> {
    admit_peer(&recorder.exchange, rules)?;
    let ReceivedRequest { method, uri, version, headers, extensions, body } = request;
    let head = ReceivedRequest { method, uri, version, headers, extensions, body: () };
    rules.dialect.is_asked(&head)?;
    let message = message(rules, body).await?;
    let asking = recorder.exchange.connection.clone();
    recorder.exchange.asked = Some(Box::new(Asked {
        dialect: rules.dialect.as_str(),
        connection: asking,
        routes: rules.routes.clone(),
        received: Fields::default(),
        admitted: None,
    }));
    let question = rules.dialect.question(head, &message)?;
    let mut received = receive(recorder, question)?;
    let Recorder { exchange, incoming: Some(incoming), runtime, .. } = recorder else {
        return Err(Refusal::from(Reason::InternalError).into());
    };
    match forward(exchange, incoming, runtime, &mut received).await {
        Ok(_) => {}
        Err(Stop::Refuse(refusal)) => return Err(refusal.into()),
        Err(Stop::Respond(_)) => {
            // What answers by itself is a fault of the config on such a route; none that is left over lets a request through.
            return Err(Refusal::new(Reason::InternalError, "a policy answered a request that is only decided").into());
        }
    }
    let Some(asked) = &mut exchange.asked else { return Err(Refusal::from(Reason::InternalError).into()) };
    let Some(header) = asked.admitted.take() else { return Err(Refusal::from(Reason::InternalError).into()) };
    let received = std::mem::take(&mut asked.received);
    let answer = rules.admit(&Admitted { received: &received, header: &header }, &exchange.response_headers);
    buffers::keep_fields(received);
    buffers::keep_fields(header);
    Ok(answer.map_err(Refusal::from)?)
}

/// Checks that the proxy is one that may ask.
fn admit_peer(exchange: &Exchange, rules: &DecisionRules) -> Result<(), Refusal> {
    let Exchange { connection, clock, worker, .. } = exchange;
    if !rules.admits(connection.peer.ip(), clock) {
        return Err(Refusal::new(Reason::DecisionPeerNotAllowed, "the address is none of `peers` of the listener's `decides`")
            .with_hint("list the proxy in `peers`, if it is one that may ask"));
    }
    if let Some(asked) = connection.settings.client_certificates() {
        let shown = connection.certificate();
        asked
            .admit(shown.map(|shown| &**shown), *worker, clock.unix_seconds())
            .map_err(|fault| Refusal::new(Reason::DecisionPeerNotAllowed, fault))?;
    }
    Ok(())
}

/// Reads the message of a question: none but gRPC has one.
async fn message(rules: &DecisionRules, body: RequestBody) -> Result<Bytes, End> {
    if !rules.dialect.is_grpc() {
        return if http_body::Body::is_end_stream(&body) { Ok(Bytes::new()) } else { Err(QuestionFault::Body.into()) };
    }
    let whole = whole(body).await.ok_or_else(|| NotAsked {
        refusal: Refusal::new(Reason::BodyTooLarge, "the question is longer than 256 KiB, or was cut off"),
        status: GrpcStatus::RESOURCE_EXHAUSTED,
    })?;
    Ok(rules.dialect.message(&whole)?)
}

/// Reads a body, which nearly always comes in one part, that is not copied then; `None` if it is too long or cut off.
async fn whole(mut body: RequestBody) -> Option<Bytes> {
    let (mut first, mut rest) = (Bytes::new(), Vec::new());
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame.ok()?.into_data() else { continue };
        if first.len() + rest.len() + data.len() > MAX_MESSAGE {
            return None;
        }
        if first.is_empty() { first = data } else { rest.extend_from_slice(&data) }
    }
    Some(if rest.is_empty() { first } else { [&*first, &rest].concat().into() })
}

/// Reads the head of the request, and determines its caller.
fn receive(recorder: &mut Recorder, question: Question) -> Result<Received, Refusal> {
    let Recorder { exchange, incoming, state, .. } = recorder;
    let asking = exchange.connection.clone();
    let connection = connection_of(&asking, &question);
    let (mut head, scheme) = question.into_head();
    let incoming = incoming.insert(IncomingRequest::take(&mut head, None)?);
    incoming.scheme = scheme;
    if let Some(asked) = &mut exchange.asked {
        // Before anything is taken away from the request: the proxy still has it.
        asked.received.clone_from(&incoming.headers);
    }
    exchange.connection = Arc::new(connection);
    exchange.trace_context = Some(TraceContext::of(&incoming.headers));
    let mut caller = Caller::of(&exchange.connection, &incoming.headers, &exchange.clock)?;
    if caller.source == AddressSource::Peer {
        caller.source = AddressSource::Question;
    }
    // The id is kept where one of the two is trusted: the proxy that asks, or the one in front of it.
    let trusts = asking.settings.trusted_peers.may_speak_for_others(asking.peer.ip());
    let caller = exchange.caller.insert(caller);
    if let Some(id) = (caller.via_trusted_proxy() || trusts).then(|| RequestId::kept_from(&incoming.headers)).flatten() {
        exchange.id = id;
    }
    if let (Some(traces), Some(trace)) = (&state.traces, &mut exchange.trace_context) {
        let decided = trace.parent_id.is_some() && caller.via_trusted_proxy();
        trace.flags = traces.flags(trace.trace_id, trace.flags, decided);
    }
    let scheme = caller.scheme.unwrap_or(incoming.scheme);
    Ok(Received { body: RequestBody::empty(), upgrade: None, scheme, inner: None })
}

/// Describes the caller's connection to the proxy that asks, as the gateway would see it in its place.
fn connection_of(asking: &Connection, question: &Question) -> Connection {
    let shown = question.certificate.is_some() || question.server_name.is_some();
    let tls = shown.then(|| TlsFacts {
        version: None,
        server_name: question.server_name.clone(),
        shown: None,
        certificate: question.certificate.clone(),
    });
    Connection {
        listener: asking.listener.clone(),
        settings: asking.settings.clone(),
        peer: question.source,
        introduction: None,
        local: asking.local,
        tls,
        affinity: Default::default(),
        recorded: Default::default(),
    }
}

/// Checks that the route is decided, if the request is described in a question.
pub(super) fn is_decided(exchange: &Exchange, route: usize) -> Result<(), Refusal> {
    match &exchange.asked {
        Some(asked) if !asked.decides(route) => {
            Err(Refusal::new(Reason::RouteNotDecided, "the route is none of those that the listener decides")
                .with_hint("name the route in `routes` of the listener's `decides`"))
        }
        _ => Ok(()),
    }
}

/// Admits a request that was asked about: makes the header that its backend is to receive.
///
/// # Errors
/// Fails if no token for the backend is available, or if the proxy would forward something else than was judged.
pub(super) async fn admit(
    route: &Route,
    exchange: &mut Exchange,
    incoming: &IncomingRequest,
    mut outgoing: UpstreamRequest,
) -> Result<Response<ResponseBody>, Stop> {
    if incoming.asks_for_websocket() && !route.websocket {
        return Err(Refusal::new(Reason::RouteNotDecided, "the request opens a WebSocket, which the route does not allow")
            .with_hint("write `upgrades: [websocket]` on the route, if WebSockets may open")
            .into());
    }
    let target = &incoming.target;
    if (&outgoing.method, &outgoing.path, &outgoing.query) != (&incoming.method, &target.path, &target.query) {
        return Err(
            Refusal::new(Reason::InternalError, "a policy changed the target of a request that another proxy forwards").into()
        );
    }
    let header = make_header(route, exchange, incoming, &mut outgoing).await?;
    if exchange.trace.stand_in().is_some() {
        return Ok(note_sent(route, exchange, incoming, &header)?);
    }
    if let Some(asked) = &mut exchange.asked {
        asked.admitted = Some(header);
    }
    Ok(answer::admitted())
}

/// Makes the header that the backend is to receive.
async fn make_header(
    route: &Route,
    exchange: &mut Exchange,
    incoming: &IncomingRequest,
    outgoing: &mut UpstreamRequest,
) -> Result<Fields, Refusal> {
    route.authorization.apply(exchange, incoming, outgoing).await?;
    exchange.outcome.allow();
    set_forwarding_headers(exchange, incoming, outgoing);
    Ok(std::mem::take(&mut outgoing.headers))
}

/// Handles a request of a route that is decided alone, and was not asked about: in a trial it is admitted as a question would be, and else
/// there is nothing here.
///
/// # Errors
/// Fails but for a trial.
pub(super) async fn try_out(
    route: &Route,
    exchange: &mut Exchange,
    incoming: &IncomingRequest,
    mut outgoing: UpstreamRequest,
) -> Result<Response<ResponseBody>, Refusal> {
    // What is judged once more was no question then either.
    if exchange.trace.stand_in().is_none() || exchange.trace.decides_only() {
        return Err(Refusal::new(Reason::NoRoute, "the route is decided for other proxies, and leads nowhere by itself")
            .with_hint("ask the listener with `decides`, or give the route an `upstream`"));
    }
    let header = make_header(route, exchange, incoming, &mut outgoing).await?;
    note_sent(route, exchange, incoming, &header)
}

/// Notes what the backend would have received in a trial; returns its response.
fn note_sent(
    route: &Route,
    exchange: &mut Exchange,
    incoming: &IncomingRequest,
    headers: &Fields,
) -> Result<Response<ResponseBody>, Refusal> {
    let Some(stand_in) = exchange.trace.stand_in() else { return Err(Reason::InternalError.into()) };
    stand_in.sent = Some(SentRequest {
        upstream: ASKING_PROXY.into(),
        server: ASKING_PROXY.into(),
        method: incoming.method.clone(),
        url: format!("{}://{}{}", incoming.scheme.as_str(), incoming.authority, incoming.target),
        headers: headers.into(),
    });
    let response = stand_in.answer.clone().map(ResponseBody::whole);
    if response.status() == StatusCode::UNAUTHORIZED && route.authorization.is_own() {
        return Err(Reason::UpstreamRefusedCredential.into());
    }
    Ok(response)
}

/// Makes the request of a trial one that was asked about, if its listener answers questions alone.
pub(super) fn stand_in(recorder: &mut Recorder) {
    let Recorder { exchange, runtime, .. } = recorder;
    let listener = runtime.listener(&exchange.connection.listener.name);
    if let Some(rules) = listener.and_then(|listener| listener.decides.as_ref()) {
        exchange.asked = Some(Box::new(Asked {
            dialect: rules.dialect.as_str(),
            connection: exchange.connection.clone(),
            routes: rules.routes.clone(),
            received: Fields::default(),
            admitted: None,
        }));
    }
}
