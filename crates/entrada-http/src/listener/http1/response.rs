//! The response: its framing, and its head as bytes.

use std::{
    cell::RefCell,
    time::{SystemTime, UNIX_EPOCH},
};

use bytes::Bytes;
use http::{HeaderMap, Method, StatusCode, Version};
use http_body::SizeHint;

use super::outgoing::Outgoing;
use crate::base::{
    fields::{Fields, Known, Value},
    fmt_fast,
};

/// The framing of a response's body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::listener) enum Delimiter {
    /// There is no body, whatever the service says.
    NoBody,
    /// The number of remaining bytes.
    Length(u64),
    /// Chunks.
    Chunks,
    /// The end of the connection: the only framing of HTTP/1.0 for a body of unknown length.
    Close,
}

/// An error: the response contradicts itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(in crate::listener) enum AnswerError {
    #[error("the answer's status is informational")]
    Informational,
    #[error("the answer's Content-Length is not a number, or differs from its body's length")]
    Length,
    #[error("the answer's body is shorter than announced")]
    Short,
    #[error("the answer's body is longer than announced")]
    Long,
}

/// The facts of a request that affect its response.
#[derive(Clone, Copy, Debug)]
pub(in crate::listener) struct RequestFacts {
    pub(super) head_only: bool,
    pub(super) version: Version,
    pub(super) persists: bool,
    pub(super) upgrade: bool,
    /// True if trailer fields may follow a chunked body.
    pub(super) trailers: bool,
}

impl RequestFacts {
    pub(in crate::listener) fn by(method: &Method, version: Version, persists: bool, upgrade: bool) -> Self {
        Self { head_only: method == Method::HEAD, version, persists, upgrade, trailers: false }
    }

    /// The facts for bytes that are not a request.
    pub(super) const BROKEN: Self =
        Self { head_only: false, version: Version::HTTP_11, persists: false, upgrade: false, trailers: false };
}

impl Delimiter {
    /// Determines the framing: RFC 9112, section 6.3, from the sender's side.
    pub(in crate::listener) fn of(
        status: StatusCode,
        headers: &Fields,
        hint: &SizeHint,
        asked: RequestFacts,
    ) -> Result<Self, AnswerError> {
        if status.is_informational() && !(status == StatusCode::SWITCHING_PROTOCOLS && asked.upgrade) {
            return Err(AnswerError::Informational);
        }
        let announced = match headers.get(Known::ContentLength) {
            Some(value) => Some(announced_length(value).ok_or(AnswerError::Length)?),
            None => None,
        };
        if asked.head_only || is_bodiless(status) {
            return Ok(Self::NoBody);
        }
        match (announced, hint.exact()) {
            (Some(announced), Some(exact)) if announced != exact => Err(AnswerError::Length),
            (Some(length), _) | (None, Some(length)) => Ok(Self::Length(length)),
            (None, None) if asked.version == Version::HTTP_11 => Ok(Self::Chunks),
            (None, None) => Ok(Self::Close),
        }
    }

    /// Adds a part of the body to the pending bytes.
    pub(super) fn push(&mut self, data: Bytes, out: &mut Outgoing) -> Result<(), AnswerError> {
        if data.is_empty() {
            return Ok(());
        }
        match self {
            Self::NoBody => {}
            Self::Length(left) => {
                *left = left.checked_sub(data.len() as u64).ok_or(AnswerError::Long)?;
                out.push(data);
            }
            Self::Chunks => out.push_chunk(data),
            Self::Close => out.push(data),
        }
        Ok(())
    }

    /// Ends the body with these trailer fields, which only a chunked body has room for.
    pub(super) fn finish(self, trailers: &HeaderMap, out: &mut Outgoing) -> Result<(), AnswerError> {
        match self {
            Self::Length(1..) => Err(AnswerError::Short),
            Self::Chunks => {
                out.push_end_of_chunks(trailers);
                Ok(())
            }
            Self::NoBody | Self::Length(0) | Self::Close => Ok(()),
        }
    }
}

fn announced_length(value: Value<'_>) -> Option<u64> {
    if value.is_empty() {
        return None;
    }
    let more = |length: u64, digit: &u8| length.checked_mul(10)?.checked_add(u64::from(digit - b'0'));
    value.as_bytes().iter().try_fold(0, |length, digit| digit.is_ascii_digit().then(|| more(length, digit))?)
}

/// Returns whether a response of this status has no body: RFC 9112, section 6.3, first case.
fn is_bodiless(status: StatusCode) -> bool {
    status.is_informational() || status == StatusCode::NO_CONTENT || status == StatusCode::NOT_MODIFIED
}

/// Returns whether the response's own fields end the connection.
pub(super) fn asks_to_close(headers: &Fields) -> bool {
    headers.get_all(Known::Connection).any(|value| {
        value.as_bytes().split(|byte| *byte == b',').any(|option| option.trim_ascii().eq_ignore_ascii_case(b"close"))
    })
}

/// Writes the head. Fields about this connection are made by the codec, whatever the service says.
pub(super) fn write_head(
    out: &mut Vec<u8>,
    status: StatusCode,
    headers: &Fields,
    delimiter: Delimiter,
    asked: RequestFacts,
    persists: bool,
) {
    let switches = status == StatusCode::SWITCHING_PROTOCOLS;
    out.reserve(128);
    if status == StatusCode::OK {
        out.extend_from_slice(b"HTTP/1.1 200 OK\r\n");
    } else {
        out.extend_from_slice(b"HTTP/1.1 ");
        out.extend_from_slice(status.as_str().as_bytes());
        out.push(b' ');
        out.extend_from_slice(status.canonical_reason().unwrap_or_default().as_bytes());
        out.extend_from_slice(b"\r\n");
    }
    headers.write_lines(out, |name| match name.known() {
        Known::Connection | Known::TransferEncoding | Known::Te | Known::Trailer | Known::KeepAlive | Known::ProxyConnection => {
            false
        }
        Known::Upgrade => switches,
        // RFC 9110, section 8.6: what a GET would have had may be said to HEAD and with 304; with 204 and 1xx nothing.
        Known::ContentLength => {
            delimiter == Delimiter::NoBody && (status == StatusCode::NOT_MODIFIED || !is_bodiless(status) && asked.head_only)
        }
        _ => true,
    });
    match delimiter {
        Delimiter::Length(length) => {
            out.extend_from_slice(b"content-length: ");
            fmt_fast::decimal(out, length);
            out.extend_from_slice(b"\r\n");
        }
        Delimiter::Chunks => out.extend_from_slice(b"transfer-encoding: chunked\r\n"),
        Delimiter::NoBody | Delimiter::Close => {}
    }
    if switches {
        out.extend_from_slice(b"connection: upgrade\r\n");
    } else if !persists {
        out.extend_from_slice(b"connection: close\r\n");
    } else if asked.version == Version::HTTP_10 {
        out.extend_from_slice(b"connection: keep-alive\r\n");
    }
    if !headers.contains_key(Known::Date) {
        write_date(out);
    }
    out.extend_from_slice(b"\r\n");
}

/// Writes `Date` (RFC 9110, section 6.6.1), which is made once a second.
fn write_date(out: &mut Vec<u8>) {
    thread_local!(static LINE: RefCell<(u64, String)> = const { RefCell::new((0, String::new())) });
    let now = SystemTime::now();
    let second = now.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    LINE.with_borrow_mut(|(made, line)| {
        if *made != second || line.is_empty() {
            *made = second;
            *line = format!("date: {}\r\n", httpdate::fmt_http_date(now));
        }
        out.extend_from_slice(line.as_bytes());
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(method: &Method, version: Version) -> RequestFacts {
        RequestFacts::by(method, version, true, false)
    }

    #[test]
    fn bodies_are_delimited_as_the_request_allows() {
        let length = |text: &str| Fields::of(&[("content-length", text)]);
        let (get, head) = (asked(&Method::GET, Version::HTTP_11), asked(&Method::HEAD, Version::HTTP_11));
        let old = asked(&Method::GET, Version::HTTP_10);
        for (name, status, headers, exact, asked, expected) in [
            ("known length", 200, Fields::default(), Some(5), get, Ok(Delimiter::Length(5))),
            ("announced length", 200, length("5"), None, get, Ok(Delimiter::Length(5))),
            ("unknown length", 200, Fields::default(), None, get, Ok(Delimiter::Chunks)),
            ("unknown length, 1.0", 200, Fields::default(), None, old, Ok(Delimiter::Close)),
            ("HEAD", 200, length("5"), Some(0), head, Ok(Delimiter::NoBody)),
            ("204", 204, Fields::default(), Some(0), get, Ok(Delimiter::NoBody)),
            ("304", 304, length("5"), Some(0), get, Ok(Delimiter::NoBody)),
            ("two lengths", 200, length("5"), Some(6), get, Err(AnswerError::Length)),
            ("no length", 200, length("+5"), None, get, Err(AnswerError::Length)),
            ("informational", 103, Fields::default(), Some(0), get, Err(AnswerError::Informational)),
            ("101 that nobody asked for", 101, Fields::default(), Some(0), get, Err(AnswerError::Informational)),
        ] {
            let hint = exact.map(SizeHint::with_exact).unwrap_or_default();

            assert_eq!(Delimiter::of(StatusCode::from_u16(status).unwrap(), &headers, &hint, asked), expected, "{name}");
        }
    }

    #[test]
    fn hop_by_hop_fields_of_the_service_do_not_leave() {
        let headers = Fields::of(&[
            ("connection", "x-a"),
            ("transfer-encoding", "gzip"),
            ("keep-alive", "timeout=5"),
            ("upgrade", "h2c"),
            ("x-b", "c"),
        ]);
        let mut out = Vec::new();

        write_head(&mut out, StatusCode::OK, &headers, Delimiter::Chunks, asked(&Method::GET, Version::HTTP_11), true);

        let text = String::from_utf8(out).unwrap();
        let (text, date) = text.split_once("date: ").unwrap();
        assert_eq!(text, "HTTP/1.1 200 OK\r\nx-b: c\r\ntransfer-encoding: chunked\r\n");
        assert!(date.ends_with(" GMT\r\n\r\n"), "{date}");
    }

    #[test]
    fn a_body_that_breaks_its_word_is_an_error() {
        let mut out = Outgoing::default();

        assert_eq!(Delimiter::Length(3).push(Bytes::from_static(b"four"), &mut out), Err(AnswerError::Long));
        assert_eq!(Delimiter::Length(3).finish(&HeaderMap::new(), &mut out), Err(AnswerError::Short));
        assert!(out.is_empty());
    }
}
