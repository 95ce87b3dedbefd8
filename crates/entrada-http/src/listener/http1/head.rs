//! The head of a request, parsed strictly: an ambiguous head is refused.
//!
//! Line ends are checked first, byte by byte as they arrive: a head consists of lines that end in CRLF, none of which continues
//! the one before it. Field lines have one [grammar](crate::field_lines) in both directions; method and target are parsed by `http`.
//! Forms that every reader reads alike are accepted and forwarded in their canonical form: two empty lines before the request
//! line (RFC 9112, section 2.2), a later HTTP/1.x read as 1.1, equal lengths as one. `docs/refused.md` lists the forms that are
//! refused.

use std::ops::Range;

use bytes::{Buf, Bytes, BytesMut};
use http::{Method, Uri, Version};
use memchr::{memchr, memchr2};

use super::framing::Framing;
use crate::{
    base::{
        buffers,
        fields::{Fields, Known},
    },
    field_lines::{self, LineEnds, LineFault, is_token},
    listener::{broken::Broken, request::ReceivedRequest},
    refusal::Reason,
};

/// The maximum number of header fields in one head.
const MAX_FIELDS: usize = 100;
/// The longest method. The longest registered one, `UPDATEREDIRECTREF`, has 17 letters.
const MAX_METHOD: usize = 32;
/// The maximum number of empty lines before a request line.
const EMPTY_LINES: u8 = 2;
/// The length of a request line without method and target: two spaces, the version, CR and LF.
const REQUEST_LINE_REST: usize = 12;

/// A parsed request head, with room for the body of the request.
#[derive(Debug)]
pub(crate) struct Head<B> {
    /// The request, still without its body: of HTTP/1.0 or 1.1, the target byte for byte as received. Made where it stays, since it is
    /// large, and is handed from one owner to the next.
    pub(crate) request: Box<ReceivedRequest<B>>,
    /// The framing of the body.
    pub(crate) framing: Framing,
    /// The options of `Connection`.
    pub(crate) options: ConnectionOptions,
    /// True if the client waits for `100 Continue` before it sends the body.
    pub(crate) expects_continue: bool,
    /// True if the client accepts trailer fields in the response.
    pub(crate) takes_trailers: bool,
}

/// The connection options that the codec itself follows. RFC 9110, section 7.6.1.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct ConnectionOptions {
    close: bool,
    keep_alive: bool,
    upgrade: bool,
}

impl ConnectionOptions {
    fn read(&mut self, value: &[u8]) {
        for option in value.split(|byte| *byte == b',').map(<[u8]>::trim_ascii) {
            self.close |= option.eq_ignore_ascii_case(b"close");
            self.keep_alive |= option.eq_ignore_ascii_case(b"keep-alive");
            self.upgrade |= option.eq_ignore_ascii_case(b"upgrade");
        }
    }
}

impl<B> Head<B> {
    /// Returns whether the connection may carry another request after this one. RFC 9112, section 9.3.
    pub(crate) fn persists(&self) -> bool {
        !self.options.close && (self.request.version == Version::HTTP_11 || self.options.keep_alive)
    }

    /// Returns whether the request asks for another protocol in a permissible way.
    ///
    /// RFC 9110, section 7.8: not in HTTP/1.0. Not together with a body either: it is not needed, and without one the new
    /// protocol's first byte directly follows the head.
    pub(crate) fn asks_for_upgrade(&self) -> bool {
        self.options.upgrade
            && self.request.version == Version::HTTP_11
            && self.framing == Framing::None
            && self.request.headers.contains_key(Known::Upgrade)
    }
}

/// The progress of scanning a partial head.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Scan {
    /// The position up to which every line end is valid.
    checked: usize,
    /// The start of the current line.
    line: usize,
    /// The length of the request line without its line end, once it is known.
    request_line: Option<usize>,
    /// The number of skipped empty lines.
    skipped: u8,
}

/// Parses one head from the front of `buffer`, or asks for more bytes.
///
/// # Errors
/// Returns the fault that makes the bytes not a request. The buffer is then unusable.
pub(crate) fn parse<B: Default>(buffer: &mut BytesMut, scan: &mut Scan, header_bytes: usize) -> Result<Option<Head<B>>, Broken> {
    while scan.checked == 0 && scan.skipped < EMPTY_LINES && buffer.starts_with(b"\r\n") {
        buffer.advance(2);
        scan.skipped += 1;
    }
    if scan.checked == 0
        && let Some((end, head)) = parse_at_once(buffer, header_bytes)
    {
        *scan = Scan::default();
        drop(take(buffer, end));
        return head.map(Some);
    }
    let Some(end) = find_end(buffer, scan, header_bytes)? else { return Ok(None) };
    let line = scan.request_line.unwrap_or_default();
    *scan = Scan::default();
    let mut bytes = take(buffer, end);
    let (mut headers, mut facts) = (buffers::fields(), MessageFacts::default());
    field_lines::read::<Broken>(&mut bytes, line + 2, (LineEnds::Crlf, MAX_FIELDS), |head, known, name, value| {
        if let Some(value) = facts.read(head, known, value)? {
            headers.read((known, name), value);
        }
        Ok(())
    })?;
    finish(&bytes, line, headers, &facts).map(Some)
}

/// Parses a head that has arrived as a whole, and that is as nearly every head is; `None` for any other, which [`parse`] looks at more
/// closely. Returns the length of the head, too.
pub(super) fn parse_at_once<B: Default>(bytes: &mut [u8], header_bytes: usize) -> Option<(usize, Result<Head<B>, Broken>)> {
    let most = bytes.len().min(header_bytes);
    let line = memchr(b'\r', &bytes[..most])?;
    check_request_line(&bytes[..line], header_bytes).ok().filter(|()| bytes.get(line + 1) == Some(&b'\n'))?;
    let (mut headers, mut facts) = (buffers::fields(), MessageFacts::default());
    let end = field_lines::read_at_once(&mut bytes[..most], line + 2, MAX_FIELDS, |head, known, name, value| {
        if !states_facts(known) {
            headers.read((known, name), value);
            return true;
        }
        let read = facts.read(head, known, value);
        if let Ok(Some(value)) = &read {
            headers.read((known, name), value.clone());
        }
        read.is_ok()
    });
    let Some(end) = end else {
        buffers::keep_fields(headers);
        return None;
    };
    Some((end, finish(&bytes[..end], line, headers, &facts)))
}

/// Takes the head from the front of the buffer, which keeps no memory if there is nothing behind it.
fn take(buffer: &mut BytesMut, end: usize) -> BytesMut {
    if end == buffer.len() { std::mem::take(buffer) } else { buffer.split_to(end) }
}

/// Finds the end of the head, and checks line ends and lengths on the way.
fn find_end(bytes: &[u8], scan: &mut Scan, header_bytes: usize) -> Result<Option<usize>, Broken> {
    loop {
        let Some(found) = memchr2(b'\r', b'\n', &bytes[scan.checked..]) else {
            scan.checked = bytes.len();
            break;
        };
        let at = scan.checked + found;
        if bytes[at] == b'\n' {
            return Err(framing("a line of the head ends in a bare LF"));
        }
        match bytes.get(at + 1) {
            None => {
                scan.checked = at;
                break;
            }
            Some(b'\n') => {}
            Some(_) => return Err(framing("the head holds a bare CR")),
        }
        if at == scan.line && at == 0 {
            return Err(framing("the request begins with an empty line"));
        }
        // RFC 9112, section 5.2: a folded line is refused, never unfolded.
        if scan.line > 0 && matches!(bytes[scan.line], b' ' | b'\t') {
            return Err(framing("a line of the head begins with white space"));
        }
        if scan.request_line.is_none() {
            check_request_line(&bytes[..at], header_bytes)?;
            scan.request_line = Some(at);
        }
        let next = at + 2;
        if next > header_bytes {
            return Err(too_large());
        }
        if at == scan.line {
            return Ok(Some(next));
        }
        scan.checked = next;
        scan.line = next;
    }
    if scan.request_line.is_none() {
        check_beginning(bytes, header_bytes)?;
    } else if bytes.len() > header_bytes {
        return Err(too_large());
    }
    Ok(None)
}

/// Returns the longest target: half of the whole head's limit.
const fn target_bytes(header_bytes: usize) -> usize {
    header_bytes / 2
}

/// Refuses bytes that cannot become a request line any more, so that garbage need not wait for its deadline.
fn check_beginning(bytes: &[u8], header_bytes: usize) -> Result<(), Broken> {
    // Half of the empty line that may come first.
    if bytes == b"\r" {
        return Ok(());
    }
    let method = bytes.iter().position(|byte| *byte == b' ').unwrap_or(bytes.len());
    check_method(&bytes[..method], method < bytes.len())?;
    if bytes.len() - method > target_bytes(header_bytes) + REQUEST_LINE_REST {
        return Err(too_long());
    }
    Ok(())
}

fn check_method(method: &[u8], whole: bool) -> Result<(), Broken> {
    let token = method.len() <= MAX_METHOD && method.iter().copied().all(is_token) && !(whole && method.is_empty());
    if token { Ok(()) } else { Err(framing("the method is no token")) }
}

/// Checks the line as it will be split: at its first and its last space, and no other.
fn check_request_line(line: &[u8], header_bytes: usize) -> Result<(), Broken> {
    let method = line.iter().position(|byte| *byte == b' ').ok_or(framing("the request line has one word"))?;
    check_method(&line[..method], true)?;
    let rest = &line[method + 1..];
    let target = rest.iter().rposition(|byte| *byte == b' ').ok_or(framing("the request line has two words"))?;
    let (target, version) = (&rest[..target], &rest[target + 1..]);
    match version {
        [b'H', b'T', b'T', b'P', b'/', b'1', b'.', b'0'..=b'9'] => {}
        [b'H', b'T', b'T', b'P', b'/', b'0'..=b'9', b'.', b'0'..=b'9'] => {
            return Err(Broken::new(Reason::HttpVersionNotSupported, "the major version is not 1"));
        }
        _ => return Err(framing("the request line names no version of HTTP")),
    }
    if target.len() > target_bytes(header_bytes) {
        return Err(too_long());
    }
    // A fragment never belongs into a request (RFC 9112, section 3.2), and `Uri` would drop it in silence.
    if target.is_empty() || !target.iter().all(|byte| matches!(byte, b'!'..=b'~') && *byte != b'#') {
        return Err(Broken::new(Reason::RequestTargetInvalid, "the target holds a byte that no target holds"));
    }
    Ok(())
}

/// Makes the head of fields that were read, and of a request line that was checked.
fn finish<B: Default>(bytes: &[u8], request_line: usize, mut headers: Fields, facts: &MessageFacts) -> Result<Head<B>, Broken> {
    let line = &bytes[..request_line];
    // RFC 9110, section 2.5: a higher minor version is read as the highest that is known.
    let version = if line.ends_with(b"0") { Version::HTTP_10 } else { Version::HTTP_11 };
    let method = memchr(b' ', line).map_or(line, |end| &line[..end]);
    let target = &line[method.len() + 1..request_line - " HTTP/1.1".len()];
    let method = Method::from_bytes(method).map_err(|_| framing("the method is no token"))?;
    let uri = read_target(buffers::bytes(target), &method)?;
    headers.set_head(bytes);

    let framing = facts.framing(version)?;
    let expects_continue = facts.expects_continue && version == Version::HTTP_11 && framing != Framing::None;
    let takes_trailers = facts.takes_trailers && version == Version::HTTP_11;
    let request = Box::write(Box::new_uninit(), ReceivedRequest::new(method, uri, version, headers, B::default()));
    Ok(Head { request, framing, options: facts.options, expects_continue, takes_trailers })
}

/// Parses the target. RFC 9112, section 3.2: the authority form belongs to CONNECT, the asterisk to OPTIONS.
fn read_target(target: Bytes, method: &Method) -> Result<Uri, Broken> {
    let form = match target[0] {
        b'/' => true,
        b'*' if target.len() == 1 => *method == Method::OPTIONS,
        _ => *method == Method::CONNECT || target.windows(3).any(|three| three == b"://"),
    };
    let uri = if form { Uri::from_maybe_shared(target).ok() } else { None };
    uri.ok_or(Broken::new(Reason::RequestTargetInvalid, "the target has none of the forms that the method allows"))
}

/// The facts that the fields state about the message itself.
#[derive(Default)]
struct MessageFacts {
    /// The length, and the place where it stands.
    length: Option<(u64, Range<usize>)>,
    chunked: bool,
    options: ConnectionOptions,
    expects_continue: bool,
    takes_trailers: bool,
}

/// Returns whether a field of this name says something about the message itself.
const fn states_facts(name: Known) -> bool {
    matches!(name, Known::ContentLength | Known::TransferEncoding | Known::Connection | Known::Expect | Known::Te)
}

impl MessageFacts {
    /// Reads a field that [states facts](states_facts), or another. Returns the place of its value as it is forwarded, or `None` for a repetition.
    fn read(&mut self, head: &[u8], name: Known, value: Range<usize>) -> Result<Option<Range<usize>>, Broken> {
        let bytes = &head[value.clone()];
        match name {
            Known::ContentLength => return self.read_length(head, value),
            Known::TransferEncoding => {
                if self.chunked || !bytes.eq_ignore_ascii_case(b"chunked") {
                    return Err(framing("Transfer-Encoding is anything but one `chunked`"));
                }
                self.chunked = true;
            }
            Known::Connection => {
                // A list of tokens (RFC 9110, section 7.6.1); what is none cannot say what to do with the connection.
                if !bytes.iter().all(|byte| byte.is_ascii_graphic() || matches!(byte, b' ' | b'\t')) {
                    return Err(invalid("Connection holds a byte that no token holds"));
                }
                self.options.read(bytes);
            }
            Known::Expect => {
                // RFC 9110, section 10.1.1 knows one expectation.
                if self.expects_continue || !bytes.eq_ignore_ascii_case(b"100-continue") {
                    return Err(Broken::new(Reason::ExpectationFailed, "Expect is anything but one `100-continue`"));
                }
                self.expects_continue = true;
            }
            Known::Te => {
                self.takes_trailers |=
                    bytes.split(|byte| *byte == b',').any(|it| it.trim_ascii().eq_ignore_ascii_case(b"trailers"));
            }
            _ => {}
        }
        Ok(Some(value))
    }

    /// Reads a length. RFC 9110, section 8.6: the same length may be repeated, in a list or in several fields, and is forwarded
    /// once. Its spelling must be the same each time: a lenient reader might see two numbers in `5` and `05`.
    fn read_length(&mut self, head: &[u8], value: Range<usize>) -> Result<Option<Range<usize>>, Broken> {
        let mut lengths = head[value.clone()].split(|byte| *byte == b',').map(<[u8]>::trim_ascii);
        let first = lengths.next().unwrap_or_default();
        let length = parse_length(first)?;
        if !lengths.all(|length| length == first) || self.length.as_ref().is_some_and(|(_, said)| head[said.clone()] != *first) {
            return Err(framing("Content-Length is given more than once, and not alike"));
        }
        if self.length.is_some() {
            return Ok(None);
        }
        // White space around the value is gone, so that the first of the list begins where the value does.
        let place = value.start..value.start + first.len();
        self.length = Some((length, place.clone()));
        Ok(Some(place))
    }

    /// Determines the framing: RFC 9112, section 6.3, without the cases in which one of two statements would win.
    fn framing(&self, version: Version) -> Result<Framing, Broken> {
        match (self.chunked, self.length.as_ref().map(|(length, _)| *length)) {
            (true, Some(_)) => Err(framing("Transfer-Encoding comes with Content-Length")),
            (true, None) if version == Version::HTTP_10 => Err(framing("Transfer-Encoding comes in HTTP/1.0")),
            (true, None) => Ok(Framing::Chunked),
            (false, Some(0) | None) => Ok(Framing::None),
            (false, Some(length)) => Ok(Framing::Length(length)),
        }
    }
}

/// Parses digits only, few enough that they cannot overflow.
fn parse_length(value: &[u8]) -> Result<u64, Broken> {
    if value.is_empty() || value.len() > 19 || !value.iter().all(u8::is_ascii_digit) {
        return Err(framing("Content-Length is not a number of bytes"));
    }
    Ok(value.iter().fold(0, |length, digit| length * 10 + u64::from(digit - b'0')))
}

const fn framing(detail: &'static str) -> Broken {
    Broken::new(Reason::RequestFramingInvalid, detail)
}

const fn invalid(detail: &'static str) -> Broken {
    Broken::new(Reason::RequestHeaderInvalid, detail)
}

const fn too_large() -> Broken {
    Broken::new(Reason::HeadersTooLarge, "the head is longer than header-bytes")
}

const fn too_long() -> Broken {
    Broken::new(Reason::TargetTooLong, "the target is longer than half of header-bytes")
}

impl From<LineFault> for Broken {
    fn from(fault: LineFault) -> Self {
        match fault {
            LineFault::Name => invalid("the name of a field is no token"),
            LineFault::Value => invalid("a field holds a byte that no field holds"),
            LineFault::TooMany => Self::new(Reason::HeadersTooLarge, "the head has more than 100 fields"),
            LineFault::Structure => framing("the head is malformed"),
        }
    }
}

#[cfg(test)]
mod tests;
