//! gRPC as a request shows it: its content type, its deadline, and its statuses.

use std::time::Duration;

use http::StatusCode;

use crate::base::fields::{Fields, Known};

/// The most digits of a timeout, by gRPC's own specification.
const MOST_DIGITS: usize = 8;

/// A status of gRPC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GrpcStatus(u8);

impl GrpcStatus {
    /// Success.
    pub(crate) const OK: Self = Self(0);
    /// The server cannot tell what happened.
    pub(crate) const UNKNOWN: Self = Self(2);
    /// The request is malformed.
    pub(crate) const INVALID_ARGUMENT: Self = Self(3);
    /// The deadline has passed.
    pub(crate) const DEADLINE_EXCEEDED: Self = Self(4);
    /// The caller is known, and may not do this.
    pub(crate) const PERMISSION_DENIED: Self = Self(7);
    /// A limit is reached.
    pub(crate) const RESOURCE_EXHAUSTED: Self = Self(8);
    /// There is no such method.
    pub(crate) const UNIMPLEMENTED: Self = Self(12);
    /// The server has failed.
    pub(crate) const INTERNAL: Self = Self(13);
    /// The server is not there at the moment.
    pub(crate) const UNAVAILABLE: Self = Self(14);
    /// The caller is not known.
    pub(crate) const UNAUTHENTICATED: Self = Self(16);

    /// Returns the status that says the same as this one of HTTP.
    pub fn of(status: StatusCode) -> Self {
        match status.as_u16() {
            200..=299 => Self::OK,
            400 | 414 | 417 | 421 => Self::INVALID_ARGUMENT,
            401 => Self::UNAUTHENTICATED,
            403 => Self::PERMISSION_DENIED,
            404 | 405 | 501 => Self::UNIMPLEMENTED,
            408 | 504 => Self::DEADLINE_EXCEEDED,
            413 | 429 | 431 => Self::RESOURCE_EXHAUSTED,
            500 | 505 => Self::INTERNAL,
            502 | 503 => Self::UNAVAILABLE,
            _ => Self::UNKNOWN,
        }
    }

    /// Returns the number.
    pub const fn number(self) -> u8 {
        self.0
    }
}

/// Returns whether the header is of a gRPC request. `application/grpc-web` is another protocol.
pub(crate) fn is_grpc(headers: &Fields) -> bool {
    headers.get(Known::ContentType).is_some_and(|value| is_grpc_type(value.as_bytes()))
}

/// Returns whether the content type is that of gRPC.
pub(crate) fn is_grpc_type(content_type: &[u8]) -> bool {
    const GRPC: &[u8] = b"application/grpc";
    content_type.get(..GRPC.len()).is_some_and(|start| start.eq_ignore_ascii_case(GRPC))
        && matches!(content_type.get(GRPC.len()), None | Some(b'+' | b';' | b' ' | b'\t'))
}

/// Returns the time that the caller waits for an answer: `grpc-timeout`, if there is exactly one that can be read.
pub(crate) fn timeout(headers: &Fields) -> Option<Duration> {
    let mut values = headers.get_all(Known::GrpcTimeout);
    let (value, None) = (values.next()?, values.next()) else { return None };
    let (unit, digits) = value.as_bytes().split_last()?;
    if digits.is_empty() || digits.len() > MOST_DIGITS || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let amount = digits.iter().fold(0, |sum, digit| sum * 10 + u64::from(digit - b'0'));
    Some(match unit {
        b'H' => Duration::from_secs(amount * 3_600),
        b'M' => Duration::from_secs(amount * 60),
        b'S' => Duration::from_secs(amount),
        b'm' => Duration::from_millis(amount),
        b'u' => Duration::from_micros(amount),
        b'n' => Duration::from_nanos(amount),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(name: Known, values: &[&str]) -> Fields {
        Fields::of(&values.iter().map(|value| (name.text(), *value)).collect::<Vec<_>>())
    }

    #[test]
    fn the_content_type_tells_grpc_from_its_relatives() {
        for (value, expected) in [
            ("application/grpc", true),
            ("application/grpc+proto", true),
            ("Application/gRPC; charset=utf-8", true),
            ("application/grpc-web", false),
            ("application/grpc-web+proto", false),
            ("application/json", false),
            ("", false),
        ] {
            assert_eq!(is_grpc(&with(Known::ContentType, &[value])), expected, "{value}");
        }
        assert!(!is_grpc(&Fields::default()));
    }

    #[test]
    fn a_timeout_is_a_short_number_and_a_unit() {
        for (value, expected) in [
            ("1H", Some(Duration::from_secs(3_600))),
            ("2M", Some(Duration::from_secs(120))),
            ("30S", Some(Duration::from_secs(30))),
            ("250m", Some(Duration::from_millis(250))),
            ("100000u", Some(Duration::from_millis(100))),
            ("99999999n", Some(Duration::from_nanos(99_999_999))),
            ("0S", Some(Duration::ZERO)),
            ("123456789n", None),
            ("S", None),
            ("1", None),
            ("-1S", None),
            ("1.5S", None),
            ("1s", None),
            (" 1S", None),
        ] {
            assert_eq!(timeout(&with(Known::GrpcTimeout, &[value])), expected, "{value}");
        }
        assert_eq!(timeout(&with(Known::GrpcTimeout, &["1S", "2S"])), None);
        assert_eq!(timeout(&Fields::default()), None);
    }

    #[test]
    fn every_refusal_has_a_status_of_grpc() {
        for (http, expected) in [
            (200, 0),
            (400, 3),
            (401, 16),
            (403, 7),
            (404, 12),
            (405, 12),
            (501, 12),
            (408, 4),
            (413, 8),
            (429, 8),
            (500, 13),
            (502, 14),
            (503, 14),
            (504, 4),
            (418, 2),
        ] {
            assert_eq!(GrpcStatus::of(StatusCode::from_u16(http).unwrap()).number(), expected, "{http}");
        }
        for reason in crate::refusal::Reason::ALL {
            let status = GrpcStatus::of(reason.status());
            assert!(status != GrpcStatus::OK && status != GrpcStatus::UNKNOWN, "{reason}");
        }
    }
}
