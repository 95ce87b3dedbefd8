//! Responses to the caller: refusals as problem documents (RFC 9457), and the body whose end writes the audit record.

use std::{
    fmt,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, StatusCode, header};
use http_body::{Body, Frame, SizeHint};
use tokio::time::{Instant, Sleep, sleep_until};

use crate::{
    base::{error_chain::chain, fields::Known, response::Response},
    exchange::{Decision, EndedBy, Exchange, Timings},
    gateway::{
        Recorder, hints,
        inner::InnerBody,
        lifetime::{ended_by_time, ends_at},
        tunnel::Tunnel,
    },
    listener::Sent,
    partner::Access,
    refusal::{Reason, Refusal, RefusalParts},
    route::Route,
    token_relay::oauth_error,
    upstream,
};

const PROBLEM_JSON: HeaderValue = HeaderValue::from_static("application/problem+json");
const NO_STORE: HeaderValue = HeaderValue::from_static("no-store");

/// Builds the body of a refusal once more, by what was noted of it.
pub(super) fn as_refused(exchange: &Exchange, status: StatusCode) -> Response<ResponseBody> {
    let reason = exchange.outcome.decision.reason().unwrap_or(Reason::InternalError);
    let code = exchange.outcome.code.as_deref().unwrap_or(reason.code());
    let problem = problem(code, status.as_u16(), reason.title(), exchange.id.as_str(), None);
    let mut response = Response::new(ResponseBody::whole(problem));
    *response.status_mut() = status;
    response
}

/// Builds the response to a refused request, and notes the refusal for the record.
pub(crate) fn refuse(refusal: Refusal, recorder: &mut Recorder) -> Response<ResponseBody> {
    let status = refusal.status();
    let title = refusal.message.as_deref().unwrap_or(refusal.reason.title());
    let oauth = recorder.route().is_some_and(Route::is_token_relay).then(|| oauth_error(refusal.reason));
    let problem = problem(refusal.code(), status.as_u16(), title, recorder.exchange.id.as_str(), oauth);
    let mut refusal = refusal.into_parts();
    let response = respond(problem, status, &mut refusal).map(ResponseBody::whole);

    let beyond = hints::beyond(refusal.reason, &recorder.exchange.connection);
    let outcome = &mut recorder.exchange.outcome;
    outcome.decision = Decision::Refused(refusal.reason);
    outcome.refused = Some(status);
    outcome.code = refusal.code;
    outcome.hint = refusal.hint.map(|hint| hint.into_owned().into()).or(beyond);
    outcome.cause = refusal.cause.map(|cause| chain(&*cause).into());
    response
}

/// Builds the response to a refused request that leaves no record; returns the parts of the refusal, too.
pub(super) fn unrecorded(refusal: Refusal, request_id: &str) -> (Response<Bytes>, RefusalParts) {
    let status = refusal.status();
    let title = refusal.message.as_deref().unwrap_or(refusal.reason.title());
    let problem = problem(refusal.code(), status.as_u16(), title, request_id, None);
    let mut refusal = refusal.into_parts();
    (respond(problem, status, &mut refusal), refusal)
}

/// Makes the response with a problem document.
fn respond(problem: Bytes, status: StatusCode, refusal: &mut RefusalParts) -> Response<Bytes> {
    let mut response = Response::new(problem);
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(Known::ContentType, &PROBLEM_JSON);
    headers.insert(Known::CacheControl, &NO_STORE);
    if let Some(challenge) = refusal.challenge.take().or_else(|| challenge(refusal.reason, status.as_u16())) {
        headers.insert(Known::WwwAuthenticate, &challenge);
    }
    if let Some(seconds) = refusal.retry_after {
        headers.insert(&header::RETRY_AFTER, &HeaderValue::from(seconds));
    }
    if let Some(allow) = refusal.allow.take() {
        headers.insert(&header::ALLOW, &allow);
    }
    response
}

/// Makes the response that stands for the backend's, where another proxy forwards the request.
pub(super) fn admitted() -> Response<ResponseBody> {
    Response::new(ResponseBody::whole(Bytes::new()))
}

/// Makes the response to `OPTIONS *`: the server's abilities. RFC 9110, section 9.3.7.
pub(crate) fn options(allow: &HeaderValue) -> Response<ResponseBody> {
    let mut response = Response::new(ResponseBody::whole(Bytes::new()));
    *response.status_mut() = StatusCode::NO_CONTENT;
    response.headers_mut().insert(&header::ALLOW, allow);
    response
}

/// Makes the `Server-Timing` of a response, in milliseconds: W3C Server Timing, section 3.1.
pub(crate) fn server_timing(timings: &Timings) -> HeaderValue {
    let parts = [("policies", timings.policies), ("credential", timings.credential), ("upstream", timings.upstream)];
    let parts = parts.iter().map(|(name, time)| format!("{name};dur={:.3}", time.as_secs_f64() * 1_000.0));
    HeaderValue::try_from(parts.collect::<Vec<_>>().join(", ")).expect("words and numbers are a header value")
}

/// Makes the problem document of a refusal. `oauth`: the members that an OAuth client expects in it (RFC 6749, section 5.2).
fn problem(code: &str, status: u16, title: &str, request_id: &str, oauth: Option<&str>) -> Bytes {
    #[derive(serde::Serialize)]
    struct Problem<'a> {
        r#type: String,
        title: &'a str,
        status: u16,
        code: &'a str,
        request_id: &'a str,
        #[serde(skip_serializing_if = "Option::is_none")]
        error: Option<&'a str>,
        #[serde(skip_serializing_if = "Option::is_none")]
        error_description: Option<String>,
    }
    let error_description = oauth.map(|_| format!("{code}: {title} (request {request_id})"));
    let problem =
        Problem { r#type: format!("urn:entrada:{code}"), title, status, code, request_id, error: oauth, error_description };
    serde_json::to_vec(&problem).expect("texts and a number are always JSON").into()
}

/// Returns the challenge of a reason: with every 401, and wherever RFC 6750 defines an error for it.
fn challenge(reason: Reason, status: u16) -> Option<HeaderValue> {
    match reason.challenge_error() {
        // Whom to ask for which claims is for the policy to say; a client that cannot be asked is told nothing that looks like it.
        _ if reason == Reason::ClaimsChallenge && status != 401 => None,
        Some(error) => {
            let mut text = format!("Bearer error=\"{error}\", error_description=\"{}\"", reason.title());
            text.shrink_to_fit();
            HeaderValue::from_str(&text).ok()
        }
        None => (status == 401).then(|| HeaderValue::from_static("Bearer")),
    }
}

/// The body of a response. It holds the request's record, which is written when the response was sent or the body is dropped.
pub struct ResponseBody(Box<Contents>);

/// The contents of a body: in a box, since a body is handed from one owner to the next, together with its head.
struct Contents {
    source: Source,
    recorder: Option<Box<Recorder>>,
    /// The server does not report what it sends.
    settles_itself: bool,
    /// The tunnel that begins when the head was sent.
    tunnel: Option<Box<Tunnel>>,
    /// The time when the body must end, busy or not.
    ends_at: Option<Instant>,
    /// Made only when the body keeps the caller waiting: most responses are complete at once.
    timer: Option<Pin<Box<Sleep>>>,
    /// The access that the body depends on, if a partner called.
    access: Option<Access>,
    /// Made only when the body keeps the caller waiting, too.
    access_ended: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
}

#[derive(Debug)]
enum Source {
    Whole(Option<Bytes>),
    /// Data, and fields after it.
    Framed(Option<Bytes>, Option<HeaderMap>),
    Upstream(upstream::ResponseBody),
    Inner(InnerBody),
    /// A body that panics at the poll after this chunk.
    #[cfg(test)]
    Panics(Option<Bytes>),
}

/// The reason why a body ends early.
#[derive(Debug, thiserror::Error)]
pub enum BodyError {
    /// The upstream broke off.
    #[error("the upstream's answer broke off")]
    Upstream(#[source] upstream::UpstreamError),
    /// The application's service broke off its response.
    #[error("the response of the application broke off")]
    Inner(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The token that opened the stream has expired, or `max-stream` of the listener has passed.
    #[error("the stream has reached its maximum duration")]
    Lifetime,
    /// The partner that opened the stream was disabled.
    #[error("the partner's access was revoked")]
    Revoked,
    /// The gateway panicked while it made the body.
    #[error("the gateway failed while the answer went out")]
    Panicked,
}

impl fmt::Debug for ResponseBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResponseBody").field("source", &self.0.source).field("ends_at", &self.0.ends_at).finish_non_exhaustive()
    }
}

impl From<Bytes> for ResponseBody {
    fn from(bytes: Bytes) -> Self {
        #[cfg(test)]
        if &*bytes == b"panics" {
            return Self::panicking("the beginning".into());
        }
        Self::whole(bytes)
    }
}

impl ResponseBody {
    /// Makes a complete body.
    pub(crate) fn whole(bytes: Bytes) -> Self {
        Self::of(Source::Whole((!bytes.is_empty()).then_some(bytes)))
    }

    /// Takes the bytes of a complete body, and leaves it empty; `None` if it is not complete.
    pub(super) fn take_whole(&mut self) -> Option<Bytes> {
        match &mut self.0.source {
            Source::Whole(bytes) => Some(bytes.take().unwrap_or_default()),
            _ => None,
        }
    }

    /// Replaces the content, with fields after it.
    pub(super) fn replace(&mut self, data: Bytes, trailers: Option<HeaderMap>) {
        let data = (!data.is_empty()).then_some(data);
        self.0.source = if trailers.is_some() { Source::Framed(data, trailers) } else { Source::Whole(data) };
    }

    /// Makes a body from an upstream's.
    pub(crate) fn upstream(body: upstream::ResponseBody) -> Self {
        Self::of(Source::Upstream(body))
    }

    /// Wraps a body of the application's service.
    pub(crate) fn inner(body: InnerBody) -> Self {
        Self::of(Source::Inner(body))
    }

    /// Makes a body that begins so and then panics.
    #[cfg(test)]
    fn panicking(beginning: Bytes) -> Self {
        Self::of(Source::Panics(Some(beginning)))
    }

    fn of(source: Source) -> Self {
        let room = Box::new_uninit();
        let contents = Contents {
            source,
            recorder: None,
            settles_itself: false,
            tunnel: None,
            ends_at: None,
            timer: None,
            access: None,
            access_ended: None,
        };
        Self(Box::write(room, contents))
    }

    /// Attaches the request's record to this body, and the time when it must end.
    pub(crate) fn ends_with(&mut self, recorder: Box<Recorder>) {
        self.0.ends_at = Some(ends_at(&recorder.exchange));
        self.0.access = recorder.exchange.access().cloned();
        self.0.recorder = Some(recorder);
    }

    /// Returns the request's record, as long as it is not written.
    pub(crate) fn recorder(&mut self) -> Option<&mut Recorder> {
        self.0.recorder.as_deref_mut()
    }

    /// Ties a tunnel to the head, which has no body.
    pub(super) fn opens(&mut self, tunnel: Tunnel) {
        self.0.tunnel = Some(Box::new(tunnel));
    }

    /// Takes the tunnel that the head opens.
    pub(super) fn take_tunnel(&mut self) -> Option<Tunnel> {
        self.0.tunnel.take().map(|tunnel| *tunnel)
    }

    fn poll_source(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match &mut self.0.source {
            Source::Whole(bytes) => Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
            Source::Framed(data, trailers) => {
                let data = data.take().map(Frame::data);
                Poll::Ready(data.or_else(|| trailers.take().map(Frame::trailers)).map(Ok))
            }
            Source::Upstream(body) => Pin::new(body).poll_frame(context).map_err(BodyError::Upstream),
            Source::Inner(body) => Pin::new(body).poll_frame(context).map_err(BodyError::Inner),
            #[cfg(test)]
            Source::Panics(beginning) => {
                Poll::Ready(Some(Ok(Frame::data(beginning.take().expect("a body that panics in the middle, as told")))))
            }
        }
    }

    /// Polls as [`poll_source`](Self::poll_source), but a panic ends only this body: others may share the connection.
    fn poll_caught(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        catch_unwind(AssertUnwindSafe(|| self.poll_source(context))).unwrap_or_else(|_| {
            // Whatever state it is in, it is not polled again.
            self.0.source = Source::Whole(None);
            if let Some(recorder) = &mut self.0.recorder {
                recorder.exchange.outcome.fail();
            }
            Poll::Ready(Some(Err(BodyError::Panicked)))
        })
    }

    /// Returns the reason why the body must end now, even if it is busy.
    fn overdue(&self) -> Option<BodyError> {
        if self.0.access.as_ref().is_some_and(Access::has_ended) {
            return Some(BodyError::Revoked);
        }
        self.0.ends_at.is_some_and(|ends_at| Instant::now() >= ends_at).then_some(BodyError::Lifetime)
    }

    /// Waits until the body must end.
    fn poll_end(&mut self, context: &mut Context<'_>) -> Poll<BodyError> {
        if let Some(access) = &self.0.access {
            let ended = self.0.access_ended.get_or_insert_with(|| Box::pin(access.clone().ended()));
            if ended.as_mut().poll(context).is_ready() {
                return Poll::Ready(BodyError::Revoked);
            }
        }
        let Some(ends_at) = self.0.ends_at else { return Poll::Pending };
        self.0.timer.get_or_insert_with(|| Box::pin(sleep_until(ends_at))).as_mut().poll(context).map(|()| BodyError::Lifetime)
    }

    /// Returns `Ready` when the body must end although nobody polls it for data; the record has the reason.
    pub(crate) fn poll_overdue(&mut self, context: &mut Context<'_>) -> Poll<()> {
        if let Some(error) = self.overdue() {
            let _ = self.break_off(error);
            return Poll::Ready(());
        }
        let error = ready!(self.poll_end(context));
        let _ = self.break_off(error);
        Poll::Ready(())
    }

    /// Ends the body early; the record has the reason.
    fn break_off(&mut self, error: BodyError) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        if let Some(recorder) = &mut self.0.recorder {
            let exchange = &mut recorder.exchange;
            if exchange.outcome.ended_by.is_none() {
                exchange.outcome.ended_by = match &error {
                    BodyError::Upstream(_) | BodyError::Inner(_) => Some(EndedBy::Upstream),
                    BodyError::Lifetime => Some(ended_by_time(exchange)),
                    BodyError::Revoked => Some(EndedBy::PartnerDisabled),
                    BodyError::Panicked => None,
                };
            }
            exchange.outcome.cause.get_or_insert_with(|| chain(&error).into());
        }
        Poll::Ready(Some(Err(error)))
    }

    /// Makes the record when the body was read to its end, for a server that does not report what it sends. Such a server does not
    /// read an empty body at all, nor any in response to HEAD, so that the record of these is made now.
    pub(crate) fn settles_itself(&mut self, to_head: bool) {
        self.0.settles_itself = true;
        if to_head || self.is_end_stream() {
            self.settle(Sent::Whole);
        }
    }

    /// Writes the record now that no more of the response will be sent, and releases the request's permits.
    pub(crate) fn settle(&mut self, sent: Sent) {
        if let Some(mut recorder) = self.0.recorder.take() {
            recorder.exchange.outcome.settle(sent);
        }
    }
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let body = &mut *self;
        match body.poll_caught(context) {
            Poll::Ready(Some(Ok(mut frame))) => {
                if let Some(error) = body.overdue() {
                    return body.break_off(error);
                }
                if let (Some(recorder), Some(trailers)) = (&body.0.recorder, frame.trailers_mut()) {
                    clean_trailers(trailers, recorder.route());
                }
                if let (Some(recorder), Some(data)) = (&mut body.0.recorder, frame.data_ref()) {
                    recorder.exchange.outcome.bytes_out += data.len() as u64;
                }
                if body.0.settles_itself && body.is_end_stream() {
                    body.settle(Sent::Whole);
                }
                Poll::Ready(Some(Ok(frame)))
            }
            Poll::Ready(None) => {
                if body.0.settles_itself {
                    body.settle(Sent::Whole);
                }
                Poll::Ready(None)
            }
            Poll::Ready(Some(Err(error))) => body.break_off(error),
            Poll::Pending => {
                let error = ready!(body.poll_end(context));
                body.break_off(error)
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.0.source {
            Source::Whole(bytes) => bytes.is_none(),
            Source::Framed(data, trailers) => data.is_none() && trailers.is_none(),
            Source::Upstream(body) => body.is_end_stream(),
            Source::Inner(body) => body.is_end_stream(),
            #[cfg(test)]
            Source::Panics(_) => false,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.0.source {
            Source::Whole(bytes) => SizeHint::with_exact(bytes.as_ref().map_or(0, |bytes| bytes.len() as u64)),
            // In HTTP/1.1 chunks alone have room for what follows, and in HTTP/2 nobody needs the length.
            Source::Framed(..) => SizeHint::default(),
            Source::Upstream(body) => body.size_hint(),
            Source::Inner(body) => body.size_hint(),
            #[cfg(test)]
            Source::Panics(_) => SizeHint::default(),
        }
    }
}

/// Removes from trailers the fields that the policies on the response set, which a server cannot repeat there, and those that the
/// route reserves.
fn clean_trailers(trailers: &mut HeaderMap, route: Option<&Route>) {
    let Some(route) = route else { return };
    let ours: Vec<_> =
        trailers.keys().filter(|name| route.reserved.stops(*name) || route.outbound.speaks_for(name)).cloned().collect();
    for name in ours {
        trailers.remove(name);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn problem_document_has_code_and_request_id() {
        let body = problem("token-expired", 401, "a \"quoted\" title", "id-1", None);

        let body: serde_json::Value = serde_json::from_slice(&body).unwrap();
        assert_eq!(
            body,
            serde_json::json!({ "type": "urn:entrada:token-expired", "title": "a \"quoted\" title", "status": 401, "code": "token-expired", "request_id": "id-1" })
        );
    }

    #[test]
    fn challenges_follow_rfc_6750() {
        for (reason, expected) in [
            (Reason::TokenMissing, Some("Bearer")),
            (Reason::TokenExpired, Some("Bearer error=\"invalid_token\", error_description=\"The token has expired.\"")),
            (
                Reason::ScopeMissing,
                Some("Bearer error=\"insufficient_scope\", error_description=\"A required scope is missing.\""),
            ),
            (Reason::RoleMissing, None),
            (Reason::NoRoute, None),
        ] {
            let challenge = challenge(reason, reason.status().as_u16());
            assert_eq!(challenge.as_ref().map(|value| value.to_str().unwrap()), expected, "{reason}");
        }
    }
}
