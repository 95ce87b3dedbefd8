//! Writing of request heads, and parsing of response heads.

use std::ops::Range;

use bytes::{Buf, BytesMut};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use memchr::{memchr_iter, memchr2};

use super::{Fault, framing::Decoder};
use crate::{
    base::{
        buffers,
        fields::{Fields, Known},
    },
    field_lines::{self, LineEnds, LineFault},
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
        self.headers.write_lines(out, |name| {
            let known = name.known();
            !matches!(known, Known::Host | Known::ContentLength) && !hygiene::ends_here(known)
        });
        if let Some(protocol) = self.upgrade {
            put(out, &[b"connection: upgrade\r\nupgrade: ", protocol.as_bytes(), b"\r\n"]);
        } else if self.headers.get_all(Known::Te).next_back().is_some_and(|value| value == "trailers") {
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
    pub(in crate::upstream) headers: Fields,
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
    if let Some(head) = parse_at_once(buffer, method) {
        return head.map(Some);
    }
    let Some(end) = find_end(buffer) else {
        return if buffer.len() < HEAD { Ok(None) } else { Err(Fault::Head("the head of the answer is too long")) };
    };
    let mut bytes = buffer.split_to(end);
    let (line, http11, status) = status_line(&bytes)?;
    let (mut headers, mut facts) = (buffers::fields(), MessageFacts::default());
    field_lines::read::<Fault>(&mut bytes, line, (LineEnds::LfToo, FIELDS), |head, known, name, value| {
        if let Some(value) = facts.read(head, http11, known, value)? {
            headers.read((known, name), value);
        }
        Ok(())
    })?;
    headers.set_head(&bytes);
    facts.head(status, http11, method, headers).map(Some)
}

/// Parses a head that has arrived as a whole, and that is as nearly every head is; `None` for any other, which is looked at more closely.
fn parse_at_once(buffer: &mut BytesMut, method: &Method) -> Option<Result<Head, Fault>> {
    let (line, http11, status) = status_line(buffer).ok()?;
    let (mut headers, mut facts) = (buffers::fields(), MessageFacts::default());
    let end = field_lines::read_at_once(buffer, line, FIELDS, |head, known, name, value| {
        if !states_facts(known) {
            headers.read((known, name), value);
            return true;
        }
        let read = facts.read(head, http11, known, value);
        if let Ok(Some(value)) = &read {
            headers.read((known, name), value.clone());
        }
        read.is_ok()
    });
    let Some(end) = end else {
        buffers::keep_fields(headers);
        return None;
    };
    headers.set_head(&buffer[..end]);
    buffer.advance(end);
    Some(facts.head(status, http11, method, headers))
}

/// Reads the status line, whose beginning `HTTP/1.` was checked: RFC 9112, section 4. Returns its length with its line end, whether
/// the version is 1.1, and the status.
fn status_line(bytes: &[u8]) -> Result<(usize, bool, StatusCode), Fault> {
    const MALFORMED: Fault = Fault::Head("the status line of the answer is malformed");
    let end = memchr2(b'\r', b'\n', bytes).ok_or(MALFORMED)?;
    let length = match &bytes[end..] {
        [b'\r', b'\n', ..] => end + 2,
        [b'\n', ..] => end + 1,
        _ => return Err(MALFORMED),
    };
    let [_, _, _, _, _, _, _, version @ (b'0' | b'1'), b' ', hundreds, tens, ones, rest @ ..] = &bytes[..end] else {
        return Err(MALFORMED);
    };
    // A server without a reason phrase leaves out the blank before it, too.
    let reason = match rest {
        [] => rest,
        [b' ', reason @ ..] => reason,
        _ => return Err(MALFORMED),
    };
    if !reason.iter().all(|byte| matches!(byte, b'\t' | b' '..=b'~' | 0x80..)) {
        return Err(MALFORMED);
    }
    let status = StatusCode::from_bytes(&[*hundreds, *tens, *ones]).ok().filter(|status| hygiene::is_known(*status));
    Ok((length, *version == b'1', status.ok_or(Fault::Head("there is no such status"))?))
}

/// The facts that the fields of a head state about the message itself.
#[derive(Default)]
struct MessageFacts {
    connection: Options,
    length: Option<u64>,
    chunked: bool,
    upgrade: Option<HeaderValue>,
}

/// Returns whether a field of this name says something about the message or the connection.
const fn states_facts(name: Known) -> bool {
    matches!(name, Known::ContentLength) || hygiene::ends_here(name)
}

impl MessageFacts {
    /// Reads a field that [states facts](states_facts), or another. Returns the place of its value as it is forwarded, or `None` for a field of the connection and a repetition.
    fn read(&mut self, head: &[u8], http11: bool, name: Known, value: Range<usize>) -> Result<Option<Range<usize>>, Fault> {
        let bytes = &head[value.clone()];
        match name {
            Known::Connection => self.connection.read(bytes),
            Known::ContentLength => return self.read_length(bytes, value),
            Known::TransferEncoding => {
                // Other codings than this one were not asked for, and what is not known to end cannot be passed on.
                if self.chunked || !http11 || !bytes.eq_ignore_ascii_case(b"chunked") {
                    return Err(Fault::Head("the transfer coding of the answer was not asked for"));
                }
                self.chunked = true;
            }
            Known::Upgrade => self.upgrade = HeaderValue::from_bytes(bytes).ok(),
            name if !states_facts(name) => return Ok(Some(value)),
            _ => {}
        }
        Ok(None)
    }

    /// Reads a length. RFC 9110, section 8.6: what is said several times, in a list or in several fields, goes on once.
    fn read_length(&mut self, bytes: &[u8], value: Range<usize>) -> Result<Option<Range<usize>>, Fault> {
        // Nearly always it is said once.
        if self.length.is_none()
            && let Ok(length) = content_length(bytes)
        {
            self.length = Some(length);
            return Ok(Some(value));
        }
        let said_before = self.length.is_some();
        let mut first = None;
        for said in bytes.split(|byte| *byte == b',').map(<[u8]>::trim_ascii) {
            first.get_or_insert(said.len());
            let said = content_length(said)?;
            if self.length.is_some_and(|length| length != said) {
                return Err(Fault::Head("the answer has several lengths"));
            }
            self.length = Some(said);
        }
        // White space around the value is gone, so that the first of a list begins where the value does.
        Ok(first.filter(|_| !said_before).map(|first| value.start..value.start + first))
    }

    /// Returns the head. RFC 9112, section 6.3.
    fn head(self, status: StatusCode, http11: bool, method: &Method, mut headers: Fields) -> Result<Head, Fault> {
        let Self { connection, length, chunked, upgrade } = self;
        // RFC 9110, section 7.6.1. How the body ends was read before, and is not for the server to take back.
        for name in connection.names.iter().filter(|name| *name != header::CONTENT_LENGTH) {
            headers.remove(name);
        }
        let body = body(status, (length, chunked), method)?;
        let persists = !connection.close && (http11 || connection.keep_alive) && body != Decoder::UntilClose;
        Ok(Head { status, headers, upgrade, body, persists })
    }
}

/// Determines how the body ends. RFC 9112, section 6.3.
fn body(status: StatusCode, framing: (Option<u64>, bool), method: &Method) -> Result<Decoder, Fault> {
    Ok(match framing {
        // Two opinions on where the message ends may be an attempt at response splitting.
        (Some(_), true) => return Err(Fault::Head("the answer has both Transfer-Encoding and Content-Length")),
        _ if status.is_informational() || matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED) => Decoder::Done,
        _ if method == Method::HEAD => Decoder::Done,
        (None, true) => Decoder::ChunkSize,
        (Some(0), false) => Decoder::Done,
        (Some(length), false) => Decoder::Length(length),
        (None, false) => Decoder::UntilClose,
    })
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
    fn read(&mut self, value: &[u8]) {
        if value == b"keep-alive" {
            self.keep_alive = true;
            return;
        }
        for option in value.split(|byte| *byte == b',').map(<[u8]>::trim_ascii) {
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
/// that (RFC 9112, section 2.2); a bare CR is refused.
fn find_end(bytes: &[u8]) -> Option<usize> {
    memchr_iter(b'\n', bytes).find_map(|at| match bytes[at + 1..] {
        [b'\n', ..] => Some(at + 2),
        [b'\r', b'\n', ..] => Some(at + 3),
        _ => None,
    })
}

/// Parses the fields of a trailer section, whose lines end in CRLF: another reader might not take a bare LF for a line end.
pub(super) fn trailers(mut bytes: BytesMut) -> Result<HeaderMap, Fault> {
    let mut trailers = Fields::default();
    field_lines::read::<Fault>(&mut bytes, 0, (LineEnds::Crlf, TRAILER_FIELDS), |_, known, name, value| {
        trailers.read((known, name), value);
        Ok(())
    })?;
    trailers.set_head(&bytes);
    Ok((&trailers).into())
}

impl From<LineFault> for Fault {
    fn from(fault: LineFault) -> Self {
        Self::Head(match fault {
            LineFault::Name => "a field has no proper name",
            LineFault::Value => "a field has no proper value",
            LineFault::TooMany => "the answer has too many fields",
            LineFault::Structure => "the fields of the answer are malformed",
        })
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

        assert_eq!(head.headers, Fields::of(&[("content-length", "9"), ("x-a", "b")]));
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

        assert_eq!(head.headers, Fields::of(&[("content-length", "3"), ("etag", "\"1\"")]));
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
