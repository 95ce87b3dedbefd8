//! gRPC by hand: one message each way, with its five bytes before it.

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};

use super::answer::Answer;
use crate::{
    base::{
        buffers,
        fields::{Fields, Known, Value},
    },
    request::GrpcStatus,
    telemetry::Message,
};

/// The longest message of a question, in bytes.
pub(crate) const MAX_MESSAGE: usize = 256 << 10;

/// The bytes before a message: whether it is compressed, and its length.
const PREFIX: usize = 5;
/// The room for an answer: most are shorter.
const USUAL: usize = 1 << 10;
/// The path of health checks.
const HEALTH: &str = "/grpc.health.v1.Health/Check";

const GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");
const GRPC_MESSAGE: HeaderName = HeaderName::from_static("grpc-message");
const APPLICATION_GRPC: &[u8] = b"application/grpc";

/// Returns the message of a body, or the status that it ends with.
pub(super) fn message(body: &Bytes) -> Result<Bytes, GrpcStatus> {
    let (prefix, message) = body.split_at_checked(PREFIX).ok_or(GrpcStatus::INVALID_ARGUMENT)?;
    let length = u32::from_be_bytes([prefix[1], prefix[2], prefix[3], prefix[4]]) as usize;
    match prefix[0] {
        0 if length > MAX_MESSAGE => Err(GrpcStatus::RESOURCE_EXHAUSTED),
        0 if length == message.len() => Ok(body.slice(PREFIX..)),
        0 => Err(GrpcStatus::INVALID_ARGUMENT),
        // No compression was offered.
        _ => Err(GrpcStatus::UNIMPLEMENTED),
    }
}

/// Makes the answer with this message.
pub(super) fn answer(write: impl FnOnce(&mut Message)) -> Answer {
    let mut message = Message::behind(&[0; PREFIX], USUAL);
    write(&mut message);
    let mut body = message.into_bytes();
    // What is answered is far shorter than what a length can say.
    let length = u32::try_from(body.len() - PREFIX).unwrap_or(u32::MAX);
    body[1..PREFIX].copy_from_slice(&length.to_be_bytes());
    let mut headers = buffers::fields();
    headers.append(Known::ContentType, Value::visible(APPLICATION_GRPC));
    let trailers = HeaderMap::from_iter([(GRPC_STATUS, HeaderValue::from_static("0"))]);
    Answer { status: StatusCode::OK, headers, body: body.into(), trailers: Some(trailers) }
}

/// Makes the answer that is nothing but a status: no message, and the trailers in place of the header.
pub(super) fn failure(status: GrpcStatus, message: &str) -> Answer {
    let mut headers = Fields::default();
    headers.append(Known::ContentType, Value::visible(APPLICATION_GRPC));
    headers.append(&GRPC_STATUS, &u16::from(status.number()).into());
    if let Ok(message) = HeaderValue::from_str(message) {
        headers.append(&GRPC_MESSAGE, &message);
    }
    Answer { status: StatusCode::OK, headers, body: Bytes::new(), trailers: None }
}

/// Answers a health check (`grpc.health.v1`), if the path is that of one.
pub(crate) fn health(path: &str, is_serving: impl FnOnce() -> bool) -> Option<Answer> {
    (path == HEALTH).then(|| {
        answer(|message| {
            message.number(1, if is_serving() { 1 } else { 2 });
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_has_its_length_before_it() {
        let framed = |flag: u8, length: u32, message: &[u8]| {
            let mut body = vec![flag];
            body.extend_from_slice(&length.to_be_bytes());
            body.extend_from_slice(message);
            self::message(&Bytes::from(body))
        };
        assert_eq!(framed(0, 3, b"abc"), Ok(Bytes::from_static(b"abc")));
        assert_eq!(framed(0, 0, b""), Ok(Bytes::new()));
        for (flag, length, bytes, status) in [
            (1, 3, &b"abc"[..], GrpcStatus::UNIMPLEMENTED),
            (0, 4, b"abc", GrpcStatus::INVALID_ARGUMENT),
            (0, 2, b"abc", GrpcStatus::INVALID_ARGUMENT),
            (0, u32::MAX, b"abc", GrpcStatus::RESOURCE_EXHAUSTED),
        ] {
            assert_eq!(framed(flag, length, bytes), Err(status), "{flag} {length}");
        }
        assert_eq!(self::message(&Bytes::from_static(b"abc")), Err(GrpcStatus::INVALID_ARGUMENT));
        let answer = answer(|message| {
            message.number(1, 7);
        });
        assert_eq!(self::message(&answer.body), Ok(Bytes::from_static(&[0x08, 7])));
    }

    #[test]
    fn a_health_check_is_told_whether_all_is_there() {
        assert!(health("/envoy.service.auth.v3.Authorization/Check", || true).is_none());
        assert_eq!(health(HEALTH, || true).unwrap().body[PREFIX..], [0x08, 1]);
        assert_eq!(health(HEALTH, || false).unwrap().body[PREFIX..], [0x08, 2]);
    }
}
