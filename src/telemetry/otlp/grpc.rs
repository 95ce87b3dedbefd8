//! Unary calls of gRPC, as OTLP makes them: one message goes, one comes back, and the status stands behind it.

use std::time::Duration;

use base64::{
    Engine as _,
    alphabet::STANDARD,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};
use http::{HeaderMap, HeaderValue, StatusCode, header};
use http_body_util::BodyExt as _;
use url::Url;

use super::reading::{Read, field, fields, varint_field};
use crate::base::error_chain::chain;

/// The longest answer that is kept; what comes behind is read, and let go.
const CAP: usize = 64 << 10;
/// The bytes before a message: whether it is compressed, and its length.
const PREFIX: usize = 5;
/// The most letters of a status' message that are told.
const TOLD: usize = 300;

/// Senders of `…-bin` fields may leave the padding out, or not.
const BINARY: GeneralPurpose =
    GeneralPurpose::new(&STANDARD, GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent));

/// A server of gRPC, called over one connection, which is made anew when it has ended.
#[derive(Clone)]
pub(crate) struct GrpcClient {
    client: reqwest::Client,
    endpoint: Url,
    deadline: HeaderValue,
}

/// Shows no header: these carry credentials.
impl std::fmt::Debug for GrpcClient {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("GrpcClient").finish_non_exhaustive()
    }
}

/// An answer to a call.
#[derive(Debug)]
pub(crate) struct Reply {
    /// The status; [`OK`](code::OK) is a success.
    pub(crate) code: u32,
    /// The server's words for the status.
    pub(crate) message: String,
    /// The pause of a `RetryInfo`, if the server gave one.
    pub(crate) retry: Option<Duration>,
    /// The message that came back, empty without a success.
    pub(crate) body: Vec<u8>,
}

/// The statuses that matter here.
pub(crate) mod code {
    pub(crate) const OK: u32 = 0;
    pub(crate) const CANCELLED: u32 = 1;
    pub(crate) const UNKNOWN: u32 = 2;
    pub(crate) const DEADLINE_EXCEEDED: u32 = 4;
    pub(crate) const PERMISSION_DENIED: u32 = 7;
    pub(crate) const RESOURCE_EXHAUSTED: u32 = 8;
    pub(crate) const ABORTED: u32 = 10;
    pub(crate) const OUT_OF_RANGE: u32 = 11;
    pub(crate) const UNIMPLEMENTED: u32 = 12;
    pub(crate) const INTERNAL: u32 = 13;
    pub(crate) const UNAVAILABLE: u32 = 14;
    pub(crate) const DATA_LOSS: u32 = 15;
    pub(crate) const UNAUTHENTICATED: u32 = 16;
}

impl Reply {
    /// Returns whether the same call may succeed later: OTLP's table of "failures", of which RESOURCE_EXHAUSTED is one only where the
    /// server says when.
    pub(crate) const fn is_transient(&self) -> bool {
        match self.code {
            code::CANCELLED
            | code::DEADLINE_EXCEEDED
            | code::ABORTED
            | code::OUT_OF_RANGE
            | code::UNAVAILABLE
            | code::DATA_LOSS => true,
            code::RESOURCE_EXHAUSTED => self.retry.is_some(),
            _ => false,
        }
    }

    /// Returns the status in words.
    pub(crate) fn told(&self) -> String {
        format!("{} {}", name(self.code), self.message).trim_end().to_owned()
    }
}

impl GrpcClient {
    /// Makes a client for the server at `endpoint`, of which scheme, host and port count. Each call has these header fields, and
    /// this much time.
    ///
    /// # Errors
    /// Fails if TLS cannot be set up.
    pub(crate) fn new(endpoint: Url, headers: HeaderMap, timeout: Duration) -> reqwest::Result<Self> {
        let mut builder = reqwest::Client::builder()
            .user_agent(concat!("entrada/", env!("CARGO_PKG_VERSION")))
            .timeout(timeout)
            .redirect(reqwest::redirect::Policy::none())
            .default_headers(headers)
            // Without TLS the connection begins with HTTP/2; with it, `h2` is all that is offered.
            .http2_prior_knowledge();
        if endpoint.scheme() == "http" {
            // Proxies forward plain HTTP as HTTP/1.1, which carries no gRPC.
            builder = builder.no_proxy();
        }
        Ok(Self { client: builder.build()?, endpoint, deadline: deadline(timeout) })
    }

    /// Calls a method, as `/package.Service/Method`, with a message.
    ///
    /// # Errors
    /// Returns why there is no answer, in words that name no address.
    pub(crate) async fn call(&self, method: &str, message: &[u8]) -> Result<Reply, String> {
        let failed = |error: reqwest::Error| chain(&error.without_url());
        let mut url = self.endpoint.clone();
        url.set_path(method);
        url.set_query(None);
        let frame = frame(message).ok_or("a message of 4 GiB is none of gRPC")?;
        let request = self
            .client
            .post(url)
            .header(header::CONTENT_TYPE, "application/grpc")
            .header(header::TE, "trailers")
            .header("grpc-timeout", self.deadline.clone())
            .body(frame);
        let answer = http::Response::<reqwest::Body>::from(request.send().await.map_err(failed)?);
        let (head, mut body) = answer.into_parts();
        let (mut received, mut trailers) = (Vec::new(), HeaderMap::new());
        while let Some(part) = body.frame().await {
            match part.map_err(failed)?.into_data() {
                Ok(data) => received.extend_from_slice(&data[..data.len().min(CAP - received.len())]),
                Err(part) => trailers = part.into_trailers().unwrap_or_default(),
            }
        }
        Ok(judge(head.status, &head.headers, &trailers, &received))
    }
}

/// Writes a message as gRPC has it on a stream.
fn frame(message: &[u8]) -> Option<Vec<u8>> {
    let length = u32::try_from(message.len()).ok()?;
    let mut frame = Vec::with_capacity(PREFIX + message.len());
    frame.push(0);
    frame.extend_from_slice(&length.to_be_bytes());
    frame.extend_from_slice(message);
    Some(frame)
}

/// Returns the message in a frame; nothing if it is compressed, which nobody asked for, or cut.
fn unframed(frame: &[u8]) -> &[u8] {
    let Some((&[0, a, b, c, d], rest)) = frame.split_first_chunk::<PREFIX>() else { return &[] };
    let length = usize::try_from(u32::from_be_bytes([a, b, c, d])).unwrap_or(usize::MAX);
    rest.get(..length).unwrap_or_default()
}

/// Writes a time as `grpc-timeout`, which has at most eight digits.
fn deadline(timeout: Duration) -> HeaderValue {
    let (milliseconds, seconds) = (timeout.as_millis().max(1), timeout.as_secs().min(99_999_999));
    let text = if milliseconds < 100_000_000 { format!("{milliseconds}m") } else { format!("{seconds}S") };
    HeaderValue::try_from(text).expect("digits and a letter are a header's value")
}

/// Returns what an answer says. The status is in the trailers, or in a head that is all there is.
fn judge(status: StatusCode, head: &HeaderMap, trailers: &HeaderMap, body: &[u8]) -> Reply {
    let kind = head.get(header::CONTENT_TYPE).map(HeaderValue::as_bytes).unwrap_or_default();
    let fields = if head.contains_key("grpc-status") { head } else { trailers };
    let code = fields.get("grpc-status").and_then(|code| code.to_str().ok()?.parse().ok());
    let Some(code) = code.filter(|_| kind.starts_with(b"application/grpc")) else {
        let message = format!("(HTTP {}, and no status of gRPC)", status.as_u16());
        return Reply { code: code_of(status), message, retry: None, body: Vec::new() };
    };
    let message = fields.get("grpc-message").map(HeaderValue::as_bytes).unwrap_or_default();
    let message = percent_encoding::percent_decode(message).decode_utf8_lossy();
    let details = fields.get("grpc-status-details-bin").and_then(|details| BINARY.decode(details).ok());
    Reply {
        code,
        message: message.chars().filter(|letter| !letter.is_control()).take(TOLD).collect(),
        retry: details.as_deref().and_then(retry_info),
        body: if code == code::OK { unframed(body).to_vec() } else { Vec::new() },
    }
}

/// Returns the status for an answer that has none: gRPC's "HTTP to gRPC status code mapping".
const fn code_of(status: StatusCode) -> u32 {
    match status.as_u16() {
        400 => code::INTERNAL,
        401 => code::UNAUTHENTICATED,
        403 => code::PERMISSION_DENIED,
        404 => code::UNIMPLEMENTED,
        429 | 502..=504 => code::UNAVAILABLE,
        _ => code::UNKNOWN,
    }
}

/// Returns the pause in a `google.rpc.Status` whose details have a `google.rpc.RetryInfo`.
fn retry_info(status: &[u8]) -> Option<Duration> {
    let details = fields(status).filter_map(|(number, value)| match value {
        Read::Bytes(any) if number == 3 => Some(any),
        _ => None,
    });
    let is_retry_info = |any: &&[u8]| field(any, 1).is_some_and(|kind| kind.ends_with(b"/google.rpc.RetryInfo"));
    let info = details.into_iter().find(is_retry_info)?;
    let delay = field(info, 2).and_then(|info| field(info, 1)).unwrap_or_default();
    // A negative number has the highest bit, and is no pause.
    let number = |wanted| varint_field(delay, wanted).filter(|number| *number <= u64::from(u32::MAX)).unwrap_or_default();
    Some(Duration::from_secs(number(1)) + Duration::from_nanos(number(2)))
}

fn name(code: u32) -> std::borrow::Cow<'static, str> {
    const NAMES: [&str; 17] = [
        "OK",
        "CANCELLED",
        "UNKNOWN",
        "INVALID_ARGUMENT",
        "DEADLINE_EXCEEDED",
        "NOT_FOUND",
        "ALREADY_EXISTS",
        "PERMISSION_DENIED",
        "RESOURCE_EXHAUSTED",
        "FAILED_PRECONDITION",
        "ABORTED",
        "OUT_OF_RANGE",
        "UNIMPLEMENTED",
        "INTERNAL",
        "UNAVAILABLE",
        "DATA_LOSS",
        "UNAUTHENTICATED",
    ];
    let known = usize::try_from(code).ok().and_then(|code| NAMES.get(code));
    known.map_or_else(|| format!("status {code}").into(), |name| (*name).into())
}

#[cfg(test)]
mod tests {
    use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};
    use proptest::prelude::*;

    use super::{super::protobuf::Message, *};

    fn headers(fields: &[(&'static str, &str)]) -> HeaderMap {
        fields.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect()
    }

    fn replied(status: u16, head: &[(&'static str, &str)], trailers: &[(&'static str, &str)], body: &[u8]) -> Reply {
        judge(StatusCode::from_u16(status).unwrap(), &headers(head), &headers(trailers), body)
    }

    const GRPC: (&str, &str) = ("content-type", "application/grpc");

    #[test]
    fn the_status_is_in_the_trailers_or_in_a_head_that_is_all_there_is() {
        let reply = replied(200, &[GRPC], &[("grpc-status", "0")], b"\0\0\0\0\x02abc");
        assert_eq!((reply.code, reply.body.as_slice()), (code::OK, &b"ab"[..]));

        let reply = replied(200, &[GRPC, ("grpc-status", "14"), ("grpc-message", "not%20yet%0A")], &[], b"");
        assert_eq!((reply.told().as_str(), reply.is_transient()), ("UNAVAILABLE not yet", true));

        let reply = replied(200, &[GRPC], &[("grpc-status", "99")], b"");
        assert_eq!((reply.told().as_str(), reply.is_transient()), ("status 99", false));
        for broken in [&b"\x01\0\0\0\x01a"[..], b"\0\0\0\0\x09a", b"\0\0", b""] {
            assert!(replied(200, &[GRPC], &[("grpc-status", "0")], broken).body.is_empty());
        }
    }

    #[test]
    fn an_answer_that_is_none_of_grpc_has_the_status_of_its_http() {
        for (status, code) in [(200, 2), (400, 13), (401, 16), (403, 7), (404, 12), (429, 14), (500, 2), (502, 14), (503, 14)] {
            let reply = replied(status, &[("content-type", "text/html")], &[("grpc-status", "0")], b"");
            assert_eq!(reply.code, code, "{status}");
            let reply = replied(status, &[GRPC], &[], b"");
            assert_eq!(reply.code, code, "{status}");
        }
    }

    #[test]
    fn transient_is_what_the_specification_of_otlp_calls_so() {
        let transient: Vec<u32> =
            (0..17).filter(|code| replied(200, &[GRPC], &[("grpc-status", &code.to_string())], b"").is_transient()).collect();

        assert_eq!(transient, [1, 4, 10, 11, 14, 15]);
    }

    #[test]
    fn whoever_has_no_room_may_say_when_it_will() {
        let mut status = Message::default();
        status.number(1, 8).message(3, |any| {
            any.text(1, "type.googleapis.com/google.rpc.DebugInfo");
        });
        status.message(3, |any| {
            any.text(1, "type.googleapis.com/google.rpc.RetryInfo").message(2, |info| {
                info.message(1, |delay| {
                    delay.number(1, 7).number(2, 500_000_000);
                });
            });
        });
        let status = status.into_bytes();
        for written in [STANDARD.encode(&status), STANDARD_NO_PAD.encode(&status)] {
            let reply = replied(200, &[GRPC], &[("grpc-status", "8"), ("grpc-status-details-bin", &written)], b"");
            assert_eq!((reply.retry, reply.is_transient()), (Some(Duration::from_millis(7_500)), true));
        }
        let reply = replied(200, &[GRPC], &[("grpc-status", "8"), ("grpc-status-details-bin", "!")], b"");
        assert_eq!((reply.retry, reply.is_transient()), (None, false));
    }

    #[test]
    fn a_deadline_has_at_most_eight_digits() {
        for (time, expected) in [
            (Duration::from_secs(10), "10000m"),
            (Duration::ZERO, "1m"),
            (Duration::from_secs(100_000), "100000S"),
            (Duration::MAX, "99999999S"),
        ] {
            assert_eq!(deadline(time), expected);
        }
    }

    proptest! {
        #[test]
        fn details_and_frames_of_any_bytes_are_read(bytes in proptest::collection::vec(any::<u8>(), 0..80)) {
            retry_info(&bytes);
            unframed(&bytes);
        }
    }
}
