//! Writing of request heads, and parsing of response heads.

use std::mem::MaybeUninit;

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use memchr::memchr_iter;

use super::{Fault, framing::Decoder};
use crate::{
    base::{buffers, fields::Fields},
    upstream::hygiene,
};

/// The longest response head, in bytes.
const HEAD: usize = 64 * 1024;
/// The maximum number of fields of a head.
const FIELDS: usize = 200;
/// The maximum number of fields of a trailer section.
pub(in crate::upstream) const TRAILER_FIELDS: usize = 100;

/// The framing of a request's body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::upstream) enum Framing {
    /// There is no body, and no framing field.
    None,
    /// A known number of bytes.
    Length(u64),
    /// Chunks.
    Chunked,
}

impl Framing {
    /// Returns the framing of a body of this length, if it is known, with this method.
    pub(in crate::upstream) fn of(method: &Method, length: Option<u64>) -> Self {
        match length {
            // A method that means something with content says that there is none (RFC 9110, section 8.6).
            Some(0) if !matches!(*method, Method::POST | Method::PUT | Method::PATCH) => Self::None,
            Some(length) => Self::Length(length),
            None => Self::Chunked,
        }
    }
}

/// The parts of a request's head.
#[derive(Debug)]
pub(in crate::upstream) struct RequestHead<'a> {
    pub(in crate::upstream) method: &'a Method,
    /// The prefix of the path.
    pub(in crate::upstream) base: &'a str,
    pub(in crate::upstream) path: &'a str,
    pub(in crate::upstream) query: Option<&'a str>,
    pub(in crate::upstream) host: &'a HeaderValue,
    pub(in crate::upstream) headers: &'a Fields,
    /// The protocol to switch to.
    pub(in crate::upstream) upgrade: Option<&'a HeaderValue>,
    pub(in crate::upstream) framing: Framing,
}

impl RequestHead<'_> {
    /// Writes the head. Fields about connection and framing are made here, whatever the headers hold.
    pub(in crate::upstream) fn write(&self, out: &mut Vec<u8>) -> Result<(), Fault> {
        let query = self.query.unwrap_or_default();
        // What ends a request target early would begin another request.
        let sound = |byte: u8| byte > b' ' && byte != b'#' && byte != 0x7f;
        if !self.path.starts_with('/') || !self.path.bytes().all(sound) || !query.bytes().all(sound) {
            return Err(Fault::Target);
        }
        out.clear();
        put(out, &[self.method.as_str().as_bytes(), b" ", self.base.as_bytes(), self.path.as_bytes()]);
        if self.query.is_some() {
            put(out, &[b"?", query.as_bytes()]);
        }
        put(out, &[b" HTTP/1.1\r\nhost: ", self.host.as_bytes(), b"\r\n"]);
        let mut trailers = false;
        for (name, value) in self.headers {
            if *name != header::HOST && *name != header::CONTENT_LENGTH && !hygiene::is_hop_by_hop(name) {
                // One after the other, so that those of two bytes are no calls.
                out.extend_from_slice(name.as_str().as_bytes());
                out.extend_from_slice(b": ");
                out.extend_from_slice(value.as_bytes());
                out.extend_from_slice(b"\r\n");
            } else if *name == header::TE {
                trailers = value == "trailers";
            }
        }
        if let Some(protocol) = self.upgrade {
            put(out, &[b"connection: upgrade\r\nupgrade: ", protocol.as_bytes(), b"\r\n"]);
        } else if trailers {
            // RFC 9110, section 10.1.4.
            put(out, &[b"connection: te\r\nte: trailers\r\n"]);
        }
        match self.framing {
            Framing::None => {}
            Framing::Chunked => put(out, &[b"transfer-encoding: chunked\r\n"]),
            Framing::Length(length) => {
                put(out, &[b"content-length: ", HeaderValue::from(length).as_bytes(), b"\r\n"]);
            }
        }
        put(out, &[b"\r\n"]);
        Ok(())
    }
}

fn put(out: &mut Vec<u8>, parts: &[&[u8]]) {
    for part in parts {
        out.extend_from_slice(part);
    }
}

/// The forwardable part of a response's head.
#[derive(Debug)]
pub(in crate::upstream) struct Head {
    pub(in crate::upstream) status: StatusCode,
    pub(in crate::upstream) headers: HeaderMap,
    /// The protocol that the server switches to, or proposes.
    pub(in crate::upstream) upgrade: Option<HeaderValue>,
    pub(super) body: Decoder,
    pub(super) persists: bool,
}

/// Takes the head of a response to this method from the front of the bytes, if it is complete.
pub(super) fn parse(buffer: &mut BytesMut, method: &Method) -> Result<Option<Head>, Fault> {
    let start = &buffer[..buffer.len().min(7)];
    if !b"HTTP/1.".starts_with(start) {
        return Err(Fault::Head("the answer is not HTTP/1"));
    }
    let Some(end) = find_end(buffer) else {
        return if buffer.len() < HEAD { Ok(None) } else { Err(Fault::Head("the head of the answer is too long")) };
    };
    let bytes = buffer.split_to(end).freeze();

    let mut fields = [const { MaybeUninit::uninit() }; FIELDS];
    let mut response = httparse::Response::new(&mut []);
    let parsed = httparse::ParserConfig::default().parse_response_with_uninit_headers(&mut response, &bytes, &mut fields)?;
    if parsed != httparse::Status::Complete(bytes.len()) {
        return Err(Fault::Head("the head of the answer ends before its end"));
    }
    let status = response.code.and_then(|code| StatusCode::from_u16(code).ok()).filter(|status| hygiene::is_known(*status));
    let status = status.ok_or(Fault::Head("there is no such status"))?;
    read(&bytes, status, response.version == Some(1), response.headers, method).map(Some)
}

/// Reads the fields of a head, and drops those of the connection.
fn read(
    bytes: &Bytes,
    status: StatusCode,
    http11: bool,
    fields: &[httparse::Header<'_>],
    method: &Method,
) -> Result<Head, Fault> {
    let mut headers = buffers::headers();
    let mut connection = Options::default();
    let (mut length, mut chunked, mut upgrade) = (None, false, None);
    for written in fields {
        let (name, value) = field(bytes, written)?;
        if name == header::CONNECTION {
            connection.read(&value);
        } else if name == header::CONTENT_LENGTH {
            // RFC 9110, section 8.6: what is said several times, in a list or in several fields, goes on once.
            let said_before = length.is_some();
            for said in value.as_bytes().split(|byte| *byte == b',').map(<[u8]>::trim_ascii) {
                let said = content_length(said)?;
                if length.is_some_and(|length| length != said) {
                    return Err(Fault::Head("the answer has several lengths"));
                }
                length = Some(said);
            }
            let listed = value.as_bytes().contains(&b',');
            if let Some(length) = length.filter(|_| !said_before) {
                headers.append(name, if listed { length.into() } else { value });
            }
        } else if name == header::TRANSFER_ENCODING {
            // Other codings than this one were not asked for, and what is not known to end cannot be passed on.
            if chunked || !http11 || !value.as_bytes().eq_ignore_ascii_case(b"chunked") {
                return Err(Fault::Head("the transfer coding of the answer was not asked for"));
            }
            chunked = true;
        } else if name == header::UPGRADE {
            upgrade = Some(value);
        } else if !hygiene::is_hop_by_hop(&name) {
            headers.append(name, value);
        }
    }
    // RFC 9110, section 7.6.1. How the body ends was read before, and is not for the server to take back.
    for name in connection.names.iter().filter(|name| *name != header::CONTENT_LENGTH) {
        headers.remove(name);
    }
    // RFC 9112, section 6.3.
    let body = match (length, chunked) {
        // Two opinions on where the message ends may be an attempt at response splitting.
        (Some(_), true) => return Err(Fault::Head("the answer has both Transfer-Encoding and Content-Length")),
        _ if status.is_informational() || matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED) => Decoder::Done,
        _ if method == Method::HEAD => Decoder::Done,
        (None, true) => Decoder::ChunkSize,
        (Some(0), false) => Decoder::Done,
        (Some(length), false) => Decoder::Length(length),
        (None, false) => Decoder::UntilClose,
    };
    let persists = !connection.close && (http11 || connection.keep_alive) && body != Decoder::UntilClose;
    Ok(Head { status, headers, upgrade, body, persists })
}

/// The options of `Connection`.
#[derive(Default)]
struct Options {
    close: bool,
    keep_alive: bool,
    /// The fields that it names.
    names: Vec<HeaderName>,
}

impl Options {
    fn read(&mut self, value: &HeaderValue) {
        for option in value.as_bytes().split(|byte| *byte == b',').map(<[u8]>::trim_ascii) {
            if option.eq_ignore_ascii_case(b"close") {
                self.close = true;
            } else if option.eq_ignore_ascii_case(b"keep-alive") {
                self.keep_alive = true;
            } else {
                self.names.extend(HeaderName::from_bytes(option));
            }
        }
    }
}

/// Returns the end of the head: after its first empty line. Some simple servers end lines in LF alone, and every reader accepts
/// that (RFC 9112, section 2.2), as `httparse` does, which refuses a bare CR.
fn find_end(bytes: &[u8]) -> Option<usize> {
    memchr_iter(b'\n', bytes).find_map(|at| match bytes[at + 1..] {
        [b'\n', ..] => Some(at + 2),
        [b'\r', b'\n', ..] => Some(at + 3),
        _ => None,
    })
}

/// Refuses a bare LF in trailers, which another reader might not take for a line end.
fn check_line_ends(bytes: &[u8]) -> Result<(), Fault> {
    let sound = memchr_iter(b'\n', bytes).all(|at| at > 0 && bytes[at - 1] == b'\r');
    if sound { Ok(()) } else { Err(Fault::Framing("a trailer line ends in a bare LF")) }
}

/// Converts one field, as a slice of its bytes.
fn field(bytes: &Bytes, field: &httparse::Header<'_>) -> Result<(HeaderName, HeaderValue), Fault> {
    let name = HeaderName::from_bytes(field.name.as_bytes()).map_err(|_| Fault::Head("a field has no proper name"))?;
    let value = HeaderValue::from_maybe_shared(bytes.slice_ref(field.value));
    Ok((name, value.map_err(|_| Fault::Head("a field has no proper value"))?))
}

/// Parses the fields of a trailer section.
pub(super) fn trailers(bytes: &Bytes) -> Result<HeaderMap, Fault> {
    check_line_ends(bytes)?;
    let mut fields = [httparse::EMPTY_HEADER; TRAILER_FIELDS];
    let mut trailers = HeaderMap::new();
    match httparse::parse_headers(bytes, &mut fields)? {
        httparse::Status::Complete((end, fields)) if end == bytes.len() => {
            for written in fields {
                let (name, value) = field(bytes, written)?;
                trailers.append(name, value);
            }
            Ok(trailers)
        }
        _ => Err(Fault::Framing("the trailer fields end before their end")),
    }
}

fn content_length(value: &[u8]) -> Result<u64, Fault> {
    const MALFORMED: Fault = Fault::Head("the length of the answer is malformed");
    if value.is_empty() {
        return Err(MALFORMED);
    }
    value
        .iter()
        .try_fold(0_u64, |length, digit| {
            let digit = char::from(*digit).to_digit(10)?;
            length.checked_mul(10)?.checked_add(digit.into())
        })
        .ok_or(MALFORMED)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(text: &str) -> Result<Option<Head>, Fault> {
        parse(&mut BytesMut::from(text), &Method::GET)
    }

    #[test]
    fn a_head_is_read_only_when_it_is_whole() {
        let text = "HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\n";
        for end in 0..text.len() {
            assert!(head(&text[..end]).unwrap().is_none(), "{end}");
        }
        assert_eq!(head(text).unwrap().unwrap().body, Decoder::Length(3));
    }

    #[test]
    fn the_end_of_a_body_follows_the_head() {
        for (text, body, persists) in [
            ("HTTP/1.1 200 OK\r\n\r\n", Decoder::UntilClose, false),
            ("HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n", Decoder::Length(5), true),
            ("HTTP/1.1 200 OK\r\ncontent-length: 5\r\ncontent-length: 5\r\n\r\n", Decoder::Length(5), true),
            ("HTTP/1.1 200 OK\r\ncontent-length: 5, 5\r\ncontent-length: 5\r\n\r\n", Decoder::Length(5), true),
            ("HTTP/1.1 200 OK\ncontent-length: 5\n\n", Decoder::Length(5), true),
            ("HTTP/1.1 200 OK\r\ncontent-length: 5\n\r\n", Decoder::Length(5), true),
            ("HTTP/1.1 200 OK\ncontent-length: 5\r\n\n", Decoder::Length(5), true),
            ("HTTP/1.1 200 OK\r\ncontent-length: 5\r\nconnection: Close\r\n\r\n", Decoder::Length(5), false),
            ("HTTP/1.1 200 OK\r\nTransfer-Encoding: Chunked\r\n\r\n", Decoder::ChunkSize, true),
            ("HTTP/1.1 204 No Content\r\n\r\n", Decoder::Done, true),
            ("HTTP/1.1 304 Not Modified\r\ncontent-length: 5\r\n\r\n", Decoder::Done, true),
            ("HTTP/1.0 200 OK\r\ncontent-length: 5\r\n\r\n", Decoder::Length(5), false),
            ("HTTP/1.0 200 OK\r\ncontent-length: 5\r\nconnection: keep-alive\r\n\r\n", Decoder::Length(5), true),
        ] {
            let head = head(text).unwrap().unwrap();
            assert_eq!((head.body, head.persists), (body, persists), "{text:?}");
        }
    }

    #[test]
    fn refuses_doubtful_heads() {
        for text in [
            "HTTP/2 200 OK\r\n\r\n",
            "HTTP/1.2 200 OK\r\n\r\n",
            "\r\nHTTP/1.1 200 OK\r\n\r\n",
            "HTTP/1.1 99 Odd\r\n\r\n",
            "HTTP/1.1 2000 OK\r\n\r\n",
            "HTTP/1.1 600 Odd\r\n\r\n",
            "HTTP/1.1 999 Odd\r\ncontent-length: 0\r\n\r\n",
            "HTTP/1.1 000 Odd\r\n\r\n",
            "\nHTTP/1.1 200 OK\n\n",
            "HTTP/1.1 200 OK\nserver: a\n b\n\n",
            "HTTP/1.1 200 OK\n server: a\n\n",
            "HTTP/1.1 200 OK\nserver: a\r\r\n\n",
            "HTTP/1.1 200 OK\r\r\nserver: a\n\n",
            "HTTP/1.1 200 OK\r\nserver: a\rset-cookie: b\r\n\r\n",
            "HTTP/1.1 200 OK\r\nserver: a\r\n b\r\n\r\n",
            "HTTP/1.1 200 OK\r\n server: a\r\n\r\n",
            "HTTP/1.1 200 OK\r\nserver : a\r\n\r\n",
            "HTTP/1.1 200 OK\r\n: a\r\n\r\n",
            "HTTP/1.1 200 OK\r\nserver: a\0\r\n\r\n",
            "HTTP/1.1 200 OK\r\ncontent-length: 3\r\ncontent-length: 4\r\n\r\n",
            "HTTP/1.1 200 OK\r\ncontent-length: 3, 4\r\n\r\n",
            "HTTP/1.1 200 OK\r\ncontent-length: 3,\r\n\r\n",
            "HTTP/1.1 200 OK\r\ncontent-length: 3, 3\r\ncontent-length: 4\r\n\r\n",
            "HTTP/1.1 200 OK\r\ncontent-length: +3\r\n\r\n",
            "HTTP/1.1 200 OK\r\ncontent-length: -3\r\n\r\n",
            "HTTP/1.1 200 OK\r\ncontent-length:\r\n\r\n",
            "HTTP/1.1 200 OK\r\ncontent-length: 99999999999999999999\r\n\r\n",
            "HTTP/1.1 200 OK\r\ncontent-length: 3\r\ntransfer-encoding: chunked\r\n\r\n",
            "HTTP/1.1 200 OK\r\ntransfer-encoding: gzip, chunked\r\n\r\n",
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ntransfer-encoding: chunked\r\n\r\n",
            "HTTP/1.0 200 OK\r\ntransfer-encoding: chunked\r\n\r\n",
        ] {
            assert!(head(text).is_err(), "{text:?}");
        }
        assert!(head(&format!("HTTP/1.1 200 OK\r\nx: {}", "a".repeat(HEAD))).is_err());
        assert!(head(&format!("HTTP/1.1 200 OK\r\n{}\r\n", "x: a\r\n".repeat(FIELDS))).is_ok());
        assert!(head(&format!("HTTP/1.1 200 OK\r\n{}\r\n", "x: a\r\n".repeat(FIELDS + 1))).is_err());
    }

    #[test]
    fn a_head_whose_lines_end_in_lf_ends_at_its_first_empty_line() {
        let text = "HTTP/1.1 200 OK\nContent-Length: 9, 9\nX-A: b\n\n1\r\n\r\n2\n\n";
        let mut buffer = BytesMut::from(text);

        let head = parse(&mut buffer, &Method::GET).unwrap().unwrap();

        assert_eq!(
            (&head.headers["x-a"], &head.headers["content-length"]),
            (&HeaderValue::from_static("b"), &HeaderValue::from_static("9"))
        );
        assert_eq!(buffer, "1\r\n\r\n2\n\n");
        for end in 0..text.find("\n\n").unwrap() + 2 {
            assert!(parse(&mut BytesMut::from(&text[..end]), &Method::GET).unwrap().is_none(), "{end}");
        }
    }

    #[test]
    fn fields_of_the_connection_stay_behind() {
        let text = "HTTP/1.1 200 OK\r\nconnection: x-private, Content-Length\r\nx-private: 1\r\nkeep-alive: 5\r\n\
                    proxy-authenticate: Basic\r\nupgrade: h2c\r\ncontent-length: 3\r\netag: \"1\"\r\n\r\n";

        let head = head(text).unwrap().unwrap();

        let mut names: Vec<_> = head.headers.keys().map(HeaderName::as_str).collect();
        names.sort_unstable();
        assert_eq!(names, ["content-length", "etag"]);
    }

    #[test]
    fn what_is_written_is_one_request() {
        let headers = [("x-a", "1"), ("host", "evil"), ("content-length", "9"), ("connection", "x-a"), ("te", "gzip")];
        let headers = headers.map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)));
        let headers = headers.into_iter().collect();
        let mut out = Vec::new();
        let head = |path: &'static str, query: Option<&'static str>| {
            RequestHead {
                method: &Method::PUT,
                base: "/api",
                path,
                query,
                host: &HeaderValue::from_static("orders.internal"),
                headers: &headers,
                upgrade: None,
                framing: Framing::Length(3),
            }
            .write(&mut out)
            .map(|()| String::from_utf8(out.clone()).unwrap())
        };
        let mut head = head;

        assert_eq!(
            head("/a", Some("")).unwrap(),
            "PUT /api/a? HTTP/1.1\r\nhost: orders.internal\r\nx-a: 1\r\ncontent-length: 3\r\n\r\n"
        );
        for (path, query) in
            [("a", None), ("/a b", None), ("/a\r\nx: y", None), ("/a#b", None), ("/", Some("a b")), ("/", Some("\n"))]
        {
            assert!(head(path, query).is_err(), "{path:?} {query:?}");
        }
    }
}
