//! One stream: a request, and its answer.

use std::{
    future::{Future, poll_fn},
    pin::{Pin, pin},
    sync::{Arc, atomic::Ordering},
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use h2::{Reason as Code, RecvStream, SendStream, server::SendResponse};
use http::{HeaderMap, HeaderName, Method, Request, Response, StatusCode, header};
use http_body::{Body, SizeHint};
use tokio::time::Instant;

use super::{
    SEND_BUFFER, Shared,
    answer::{Length, prepare},
    body::Http2Body,
    connect::{self, Tunnel, TunnelContext},
    interim::{Exchanged, Http2Informational},
};
use crate::{
    base::{
        buffers,
        deadline::{Deadline, Pace},
        response::Parts,
    },
    connection::EventKind,
    listener::{
        body::RequestBody,
        broken::Broken,
        informational::Informational,
        request::ReceivedRequest,
        service::{Arrival, Sent, Service},
        settings::Limits,
    },
    refusal::Reason,
};

/// The maximum number of header fields of a request, as for HTTP/1.
const MAX_FIELDS: usize = 100;
/// The size that `header-bytes` adds for each field to its name and value. RFC 9113, section 6.5.2.
const FIELD: usize = 32;
const TOOK_NOTHING: &str = "it took nothing of an answer within write-timeout";

/// A connection's state with one of its open streams.
pub(super) struct Open<S>(pub(super) Arc<Shared<S>>, pub(super) u32);

impl<S> Drop for Open<S> {
    fn drop(&mut self) {
        self.0.meter.lock().leaving.forget(self.1);
        self.0.open.fetch_sub(1, Ordering::AcqRel);
    }
}

/// The reason why a response was not sent completely.
enum IncompleteResponse {
    /// The client has reset the stream, or is gone.
    Left,
    /// The client read nothing in time.
    Stalled,
    /// The body had to end.
    Overdue,
    /// The head contradicts itself, and a plain 500 was sent for it.
    Replaced(String),
    /// The body failed, or contradicts its head.
    Failed(String),
}

/// Serves a stream to its end.
pub(super) async fn run<S: Service>(
    request: Request<RecvStream>,
    mut respond: SendResponse<Bytes>,
    stream: Open<S>,
    has_fragment: bool,
) {
    let shared = &*stream.0;
    let limits = shared.listener.limits();
    let method = request.method().clone();
    let Arrived { arrival, exchanged, expects_continue, tunnel } = arrive(request, has_fragment, &limits);
    let answer = {
        let mut answer = pin!(shared.service.call(arrival, &shared.connection));
        poll_fn(|cx| {
            let polled = answer.as_mut().poll(cx);
            exchanged.inform(&mut respond, &shared.meter);
            if polled.is_pending() {
                if expects_continue {
                    exchanged.wake_to_inform(cx);
                    exchanged.inform(&mut respond, &shared.meter);
                }
                return respond.poll_reset(cx).map(|_| None);
            }
            polled.map(Some)
        })
        .await
    };
    exchanged.answer();
    let Some(answer) = answer else { return shared.meter.lock().spend_reset(Instant::now()) };
    let (parts, body) = answer.into_parts();
    if let Some(tunnel) = tunnel
        && parts.status == StatusCode::SWITCHING_PROTOCOLS
    {
        S::sent(pin!(body), Sent::Whole);
        return open_tunnel(parts, tunnel, &mut respond, stream, limits.write_timeout);
    }
    // It holds the request's permits, so it lives until the stream ends.
    let mut body = pin!(body);
    let mut kept = 0;
    let mut sent = send::<S>(parts, body.as_mut(), &mut kept, &method, &mut respond, shared, &limits).await;
    if matches!(sent, Ok(()) | Err(IncompleteResponse::Failed(_) | IncompleteResponse::Replaced(_))) {
        // A reset makes `h2` drop the pending bytes.
        match leave(shared, stream.1, limits.write_timeout, body.as_mut()).await {
            Ok(()) => {}
            Err(torn) if sent.is_ok() => sent = Err(torn),
            Err(_) => {}
        }
    }
    let left = match &sent {
        Ok(()) => Sent::Whole,
        Err(IncompleteResponse::Replaced(_)) => Sent::Nothing,
        Err(_) => shared.meter.lock().leaving.sent(stream.1, kept),
    };
    S::sent(body, left);
    match sent {
        Ok(()) => {}
        Err(IncompleteResponse::Left) => shared.meter.lock().spend_reset(Instant::now()),
        Err(IncompleteResponse::Stalled) => {
            respond.send_reset(Code::CANCEL);
            shared.note(EventKind::ClientLeft, TOOK_NOTHING.to_owned());
        }
        Err(IncompleteResponse::Overdue) => respond.send_reset(Code::CANCEL),
        Err(IncompleteResponse::Replaced(why)) => shared.note(EventKind::AnswerAborted, why),
        Err(IncompleteResponse::Failed(why)) => {
            shared.note(EventKind::AnswerAborted, why);
            respond.send_reset(Code::INTERNAL_ERROR);
        }
    }
}

/// Waits until everything that was handed over was sent.
///
/// The client may take long over it, so the end of the body's time ends the stream here, too.
async fn leave<S: Service>(
    shared: &Shared<S>,
    stream: u32,
    write_timeout: Duration,
    mut body: Pin<&mut S::Body>,
) -> Result<(), IncompleteResponse> {
    let (mut before, mut pace, mut timer, mut tried) = (0, Pace::default(), Deadline::default(), false);
    poll_fn(|cx| {
        let Some(left) = shared.meter.lock().leaving.left(stream, cx) else { return Poll::Ready(Err(IncompleteResponse::Left)) };
        if left == 0 {
            return Poll::Ready(Ok(()));
        }
        if !tried {
            // The connection's task is next, and nearly always sends it all: then there is nothing to be timed.
            tried = true;
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        if left != before {
            // There is less of it from one time to the next.
            pace.moved(usize::try_from(before.saturating_sub(left)).unwrap_or(usize::MAX));
            before = left;
        }
        if S::poll_overdue(body.as_mut(), cx).is_ready() {
            return Poll::Ready(Err(IncompleteResponse::Overdue));
        }
        if let Some(at) = pace.waits(write_timeout) {
            timer.set(at);
        }
        timer.poll(cx).map(|()| Err(IncompleteResponse::Stalled))
    })
    .await
}

/// The head exceeds `h2`'s limit. `h2` responds with the same status as the service, without a body.
pub(super) const TOO_LARGE: Broken = Broken::new(Reason::HeadersTooLarge, "the head is longer than header-bytes");
/// RFC 9113, section 8.1.1. `h2` does not report the details.
pub(super) const MALFORMED: Broken = Broken::new(
    Reason::RequestHeaderInvalid,
    "the request is malformed in HTTP/2 (a connection-specific field, or a malformed pseudo-header or length): its stream was reset",
);
/// RFC 9110, section 4.2.5: a fragment is no part of a target.
const FRAGMENT: Broken = Broken::new(Reason::RequestTargetInvalid, "the target contains a fragment");
/// RFC 9113, section 5.1.2.
pub(super) const TOO_MANY: Broken =
    Broken::new(Reason::Overloaded, "the connection had reached its limit of concurrent streams: the stream was refused");

/// Lets the service record a request that `h2` has refused itself. The service's response is not sent.
pub(super) async fn record<S: Service>(shared: Arc<Shared<S>>, broken: Broken, sent: Sent) {
    let answer = shared.service.call(Arrival::Broken(broken), &shared.connection).await;
    S::sent(pin!(answer.into_body()), sent);
}

/// Opens the tunnel for which the service has switched protocols.
fn open_tunnel<S: Service>(
    mut parts: Parts,
    tunnel: Tunnel,
    respond: &mut SendResponse<Bytes>,
    stream: Open<S>,
    write_timeout: Duration,
) {
    connect::translate(&mut parts.headers);
    parts.status = StatusCode::OK;
    // There is no length that it could contradict.
    let _ = prepare(parts.status, &mut parts.headers, &SizeHint::default(), &Method::CONNECT);
    let (meter, signal) = (stream.0.meter.clone(), stream.0.signal.clone());
    meter.lock().leaving.head(stream.1);
    if let Ok(send) = respond.send_response(head_of(parts), false) {
        tunnel.grant(send, TunnelContext { meter, signal, write_timeout, _open: Box::new(stream) });
    }
}

/// A request as it has arrived.
struct Arrived {
    /// For the service.
    arrival: Arrival,
    /// The state that the parts of the stream share.
    exchanged: Arc<Exchanged>,
    /// The client waits for 100.
    expects_continue: bool,
    /// The stream, where it may become a tunnel.
    tunnel: Option<Tunnel>,
}

impl Arrived {
    fn broken(broken: Broken) -> Self {
        Self { arrival: Arrival::Broken(broken), exchanged: Arc::default(), expects_continue: false, tunnel: None }
    }
}

/// Makes the arrival for the service.
fn arrive(request: Request<RecvStream>, has_fragment: bool, limits: &Limits) -> Arrived {
    let (mut parts, stream) = request.into_parts();
    let judged = if has_fragment { Err(FRAGMENT) } else { judge(&parts, limits) };
    let (expects_continue, begun) = match judged.and_then(|expects| Ok((expects, connect::begin(&mut parts, stream)?))) {
        Ok(judged) => judged,
        Err(broken) => return Arrived::broken(broken),
    };
    let stream = match begun {
        Err(stream) => stream,
        Ok(tunnel) => {
            // What follows belongs to the tunnel, and nobody reads it before there is one.
            let request = ReceivedRequest::from_parts(parts, RequestBody::empty());
            let arrival = Arrival::Request(Box::new(request));
            return Arrived { arrival, exchanged: Arc::default(), expects_continue: false, tunnel: Some(tunnel) };
        }
    };
    let expects_continue = expects_continue && !stream.is_end_stream();
    let exchanged = Arc::new(Exchanged::new(expects_continue));
    let body = Http2Body::new(stream, &parts.headers, exchanged.clone(), expects_continue, limits.body_timeout);
    let mut body = RequestBody::http2(body);
    // A body that has announced itself as too long says so to whoever reads it.
    let _ = body.limit(limits.body_bytes);
    body.informs(Informational::http2(Http2Informational(exchanged.clone())));
    let arrival = Arrival::Request(Box::new(ReceivedRequest::from_parts(parts, body)));
    Arrived { arrival, exchanged, expects_continue, tunnel: None }
}

/// Judges a head as the HTTP/1 codec would. Returns whether the client waits for 100.
fn judge(parts: &http::request::Parts, limits: &Limits) -> Result<bool, Broken> {
    if parts.headers.len() > MAX_FIELDS {
        return Err(Broken::new(Reason::HeadersTooLarge, "the head has more than 100 fields"));
    }
    let target = parts.uri.path_and_query().map_or(0, |target| target.as_str().len());
    if target > limits.header_bytes / 2 {
        return Err(Broken::new(Reason::TargetTooLong, "the target is longer than half of header-bytes"));
    }
    let fields: usize = parts.headers.iter().map(|(name, value)| FIELD + name.as_str().len() + value.len()).sum();
    let authority = parts.uri.authority().map_or(0, |authority| authority.as_str().len());
    if fields + target + authority > limits.header_bytes {
        return Err(TOO_LARGE);
    }
    expects_continue(&parts.headers)
}

/// Reads the expectation; RFC 9110, section 10.1.1 defines just one.
fn expects_continue(headers: &HeaderMap) -> Result<bool, Broken> {
    let mut expectations = headers.get_all(header::EXPECT).iter();
    match (expectations.next(), expectations.next()) {
        (None, _) => Ok(false),
        (Some(value), None) if value.as_bytes().eq_ignore_ascii_case(b"100-continue") => Ok(true),
        _ => Err(Broken::new(Reason::ExpectationFailed, "Expect is anything but one `100-continue`")),
    }
}

/// Sends the response. `kept` receives the number of body bytes that were read and not handed over.
async fn send<S: Service>(
    mut parts: Parts,
    mut body: Pin<&mut S::Body>,
    kept: &mut usize,
    method: &Method,
    respond: &mut SendResponse<Bytes>,
    shared: &Shared<S>,
    limits: &Limits,
) -> Result<(), IncompleteResponse> {
    let length = match prepare(parts.status, &mut parts.headers, &body.size_hint(), method) {
        Ok(length) => length,
        Err(error) => {
            let mut none = Response::new(());
            *none.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
            shared.meter.lock().leaving.head(respond.stream_id().as_u32());
            let _ = respond.send_response(none, true);
            return Err(IncompleteResponse::Replaced(error.to_string()));
        }
    };
    let ends = length == Length::None || body.is_end_stream();
    if ends && matches!(length, Length::Known(1..)) {
        return Err(IncompleteResponse::Failed("the answer's body is shorter than announced".to_owned()));
    }
    shared.meter.lock().leaving.head(respond.stream_id().as_u32());
    let stream = respond.send_response(head_of(parts), ends).map_err(|_| IncompleteResponse::Left)?;
    if ends {
        return Ok(());
    }
    let mut sending = Sending {
        stream,
        left: if let Length::Known(length) = length { Some(length) } else { None },
        data: Bytes::new(),
        last: false,
        pace: Pace::default(),
        timer: Deadline::default(),
    };
    let sent = poll_fn(|cx| sending.poll(cx, body.as_mut(), shared, limits)).await;
    *kept = sending.data.len();
    sent
}

/// Makes the head as `h2` wants it.
fn head_of(parts: Parts) -> Response<()> {
    let mut head = Response::new(());
    *head.status_mut() = parts.status;
    *head.headers_mut() = (&parts.headers).into();
    if let Some(id) = head.headers_mut().get_mut(REQUEST_ID) {
        // No other response has the same: in the compression table it would take the place of what comes again.
        id.set_sensitive(true);
    }
    buffers::keep_fields(parts.headers);
    head
}

/// `X-Request-Id`.
const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// The body of a response in progress.
struct Sending {
    stream: SendStream<Bytes>,
    /// The number of remaining bytes, if the length was announced.
    left: Option<u64>,
    /// The data that the client can read next: one part of the body, and no more.
    data: Bytes,
    /// The body has ended.
    last: bool,
    pace: Pace,
    timer: Deadline,
}

impl Sending {
    fn poll<S: Service>(
        &mut self,
        cx: &mut Context<'_>,
        mut body: Pin<&mut S::Body>,
        shared: &Shared<S>,
        limits: &Limits,
    ) -> Poll<Result<(), IncompleteResponse>> {
        loop {
            if !self.data.is_empty() {
                match self.poll_room(cx) {
                    Poll::Ready(Ok(())) => {
                        let room = self.stream.capacity().min(self.data.len());
                        shared.meter.lock().answers(self.stream.stream_id().as_u32(), room, room == self.data.len());
                        self.hand_over(room)?;
                    }
                    Poll::Ready(Err(torn)) => return Poll::Ready(Err(torn)),
                    Poll::Pending => return self.poll_too_long::<S>(cx, body, limits).map(Err),
                }
            } else if self.last {
                return Poll::Ready(Ok(()));
            } else {
                match body.as_mut().poll_frame(cx) {
                    Poll::Ready(Some(Ok(frame))) => match frame.into_data() {
                        Ok(data) => self.take(data, body.is_end_stream())?,
                        Err(frame) => {
                            if let Ok(trailers) = frame.into_trailers() {
                                return Poll::Ready(self.end(Some(trailers)));
                            }
                        }
                    },
                    Poll::Ready(Some(Err(error))) => {
                        // Whether it had to end, or broke off.
                        let overdue = S::poll_overdue(body, cx).is_ready();
                        return Poll::Ready(Err(if overdue {
                            IncompleteResponse::Overdue
                        } else {
                            IncompleteResponse::Failed(error.into().to_string())
                        }));
                    }
                    Poll::Ready(None) => return Poll::Ready(self.end(None)),
                    Poll::Pending => return self.stream.poll_reset(cx).map(|_| Err(IncompleteResponse::Left)),
                }
            }
        }
    }

    /// Takes a part of the body to send.
    fn take(&mut self, data: Bytes, last: bool) -> Result<(), IncompleteResponse> {
        self.data = data;
        if let Some(left) = &mut self.left {
            let rest = left.checked_sub(self.data.len() as u64);
            *left = rest.ok_or_else(|| IncompleteResponse::Failed("the answer's body is longer than announced".to_owned()))?;
        }
        if self.data.is_empty() {
            return if last { self.end(None) } else { Ok(()) };
        }
        if last && !matches!(self.left, None | Some(0)) {
            return Err(short());
        }
        // Only what is there asks for window: what waits for data would keep it from other streams.
        self.stream.reserve_capacity(self.data.len().min(SEND_BUFFER));
        self.last = last;
        Ok(())
    }

    /// Returns `Ready` when the client has window for some of it.
    fn poll_room(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), IncompleteResponse>> {
        while self.stream.capacity() == 0 {
            match ready!(self.stream.poll_capacity(cx)) {
                Some(Ok(_)) => {}
                Some(Err(_)) | None => return Poll::Ready(Err(IncompleteResponse::Left)),
            }
        }
        Poll::Ready(Ok(()))
    }

    /// Hands over as much as there is window for, so that it only waits for the socket.
    fn hand_over(&mut self, room: usize) -> Result<(), IncompleteResponse> {
        self.pace.moved(room);
        self.timer.clear();
        let part = if room == self.data.len() { std::mem::take(&mut self.data) } else { self.data.split_to(room) };
        let last = self.last && self.data.is_empty();
        self.stream.send_data(part, last).map_err(|_| IncompleteResponse::Left)?;
        if !self.data.is_empty() {
            self.stream.reserve_capacity(self.data.len().min(SEND_BUFFER));
        }
        Ok(())
    }

    /// Returns `Ready` when the client has read nothing for too long, or the body may not wait any longer.
    fn poll_too_long<S: Service>(
        &mut self,
        cx: &mut Context<'_>,
        body: Pin<&mut S::Body>,
        limits: &Limits,
    ) -> Poll<IncompleteResponse> {
        if S::poll_overdue(body, cx).is_ready() {
            return Poll::Ready(IncompleteResponse::Overdue);
        }
        if let Some(at) = self.pace.waits(limits.write_timeout) {
            self.timer.set(at);
        }
        self.timer.poll(cx).map(|()| IncompleteResponse::Stalled)
    }

    /// Ends the body.
    fn end(&mut self, trailers: Option<HeaderMap>) -> Result<(), IncompleteResponse> {
        if !matches!(self.left, None | Some(0)) {
            return Err(short());
        }
        self.last = true;
        let sent = match trailers {
            Some(trailers) => self.stream.send_trailers(trailers),
            None => self.stream.send_data(Bytes::new(), true),
        };
        sent.map_err(|_| IncompleteResponse::Left)
    }
}

fn short() -> IncompleteResponse {
    IncompleteResponse::Failed("the answer's body is shorter than announced".to_owned())
}
