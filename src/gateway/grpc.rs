//! Callers of gRPC: refusals in its own terms, and deadlines.

use http::{HeaderName, HeaderValue, StatusCode};
use std::time::Duration;
use tokio::time::{Instant, timeout_at};

use super::{answer::ResponseBody, record::Recorder};
use crate::{
    base::{fields::Known, response::Response},
    refusal::{Reason, Refusal},
    request::{GrpcStatus, IncomingRequest, grpc_timeout, is_grpc},
};

const APPLICATION_GRPC: HeaderValue = HeaderValue::from_static("application/grpc");
const GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");
const GRPC_MESSAGE: HeaderName = HeaderName::from_static("grpc-message");

/// Returns the time that the caller waits for the whole response, if it speaks gRPC and says so.
pub(super) fn deadline(incoming: &IncomingRequest) -> Option<Duration> {
    // Asked first, since hardly any request has the field.
    grpc_timeout(&incoming.headers).filter(|_| is_grpc(&incoming.headers))
}

/// Awaits a future until the caller's deadline.
///
/// # Errors
/// Fails if the deadline passes first.
pub(super) async fn in_time<T>(deadline: Instant, future: impl Future<Output = T>) -> Result<T, Refusal> {
    let late = || Refusal::new(Reason::UpstreamTimeout, "the deadline that the caller has set (`grpc-timeout`) has passed");
    timeout_at(deadline, future).await.map_err(|_| late())
}

/// Makes a refusal one that a client of gRPC reads: 200, and the status as a trailer in place of the header, with the code as its message.
/// The record keeps the status of HTTP.
pub(super) fn translate(response: &mut Response<ResponseBody>, recorder: &mut Recorder) {
    let Recorder { exchange, incoming: Some(incoming), .. } = recorder else { return };
    let Some(reason) = exchange.outcome.decision.reason() else { return };
    // What another proxy asked about is told in that proxy's terms; and to an extended CONNECT 200 would be a tunnel.
    if exchange.asked.is_some() || !is_grpc(&incoming.headers) || incoming.is_extended_connect() {
        return;
    }
    let status = GrpcStatus::of(exchange.outcome.refused.unwrap_or(reason.status()));
    exchange.outcome.grpc_status = Some(status.number());
    let message = exchange.outcome.code.as_deref().unwrap_or_else(|| reason.code());
    *response.status_mut() = StatusCode::OK;
    let headers = response.headers_mut();
    headers.remove(Known::ContentLength);
    headers.insert(Known::ContentType, &APPLICATION_GRPC);
    headers.insert(&GRPC_STATUS, &HeaderValue::from(u16::from(status.number())));
    // A code of letters and hyphens needs no escapes; one that a policy chose may.
    if let Ok(message) = HeaderValue::from_str(&percent_encoding::utf8_percent_encode(message, ESCAPED).to_string()) {
        headers.insert(&GRPC_MESSAGE, &message);
    }
    *response.body_mut() = ResponseBody::whole(bytes::Bytes::new());
}

/// The bytes that gRPC escapes in a message: all but visible ASCII and the blank, and the percent sign.
const ESCAPED: &percent_encoding::AsciiSet = &percent_encoding::CONTROLS.add(b'%');
