//! The request target: one reading of it, or none.
//!
//! A path that two programs read differently is a way around authorization: the gateway judges one reading and the backend acts
//! on the other. So there is one canonical path, which is matched *and* sent, and everything that some backend is known to read
//! differently is an [ambiguity](Ambiguities): refused, unless the route accepts it by name.
//!
//! Canonical means: escapes of unreserved characters are decoded, all others are in upper case (RFC 3986, section 6.2.2), and
//! characters that are not allowed in a path are escaped. Dot segments are never resolved, but refused.

mod lenient;
mod readings;

use std::{borrow::Cow, fmt};

use bytestring::ByteString;

use crate::{
    base::buffers,
    refusal::{Reason, Refusal},
    request::AcceptConfig,
};

pub(crate) use self::readings::normalised;

/// The longest target that is read, in bytes. Below hyper's maximum, so that the answer is our own 414.
pub const MAX_TARGET: usize = 8 << 10;

/// The maximum depth of repeated escaping, where the route accepts that at all.
const MAX_ESCAPE_DEPTH: usize = 3;

/// Path and query of a request, in the one form that is both matched and sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// The path, starting with `/`: unreserved characters decoded, other escapes in upper case.
    pub path: ByteString,
    /// The query without its `?`, as received except that bytes which are not allowed in a target are escaped.
    pub query: Option<ByteString>,
    /// The ambiguities that a route must accept by name before the target is used.
    pub ambiguities: Ambiguities,
}

impl Target {
    /// The server itself (RFC 9112, section 3.2.4): no path, and so no route.
    pub const ASTERISK: Self = Self { path: ByteString::from_static("*"), query: None, ambiguities: Ambiguities::NONE };

    /// Reads a target in origin form, that is path and query (RFC 9112, section 3.2.1).
    ///
    /// # Errors
    /// Fails on what no route can accept. What a route can accept is in [`ambiguities`](Self::ambiguities), for
    /// [`accepted_by`](Self::accepted_by).
    pub fn read(path_and_query: impl AsRef<[u8]>) -> Result<Self, TargetFault> {
        let bytes = path_and_query.as_ref();
        if bytes.len() > MAX_TARGET {
            return Err(TargetFault::TooLong);
        }
        if bytes.first() != Some(&b'/') {
            return Err(TargetFault::NotAPath);
        }
        let (path, query) = match memchr::memchr(b'?', bytes) {
            Some(at) => (&bytes[..at], Some(&bytes[at + 1..])),
            None => (bytes, None),
        };
        let mut ambiguities = Ambiguities::NONE;
        let path = read_path(path, &mut ambiguities)?;
        let query = query.map(|query| read_query(query, &mut ambiguities)).transpose()?;
        Ok(Self { path, query, ambiguities })
    }

    /// Checks the target's ambiguities against those that the route accepts.
    ///
    /// # Errors
    /// Returns the ambiguities that the route does not accept.
    pub fn accepted_by(&self, accept: Ambiguities) -> Result<(), TargetFault> {
        let left = self.ambiguities.minus(accept);
        if left.is_empty() { Ok(()) } else { Err(TargetFault::NotAccepted(left)) }
    }
}

/// `/orders/1?expand=lines`.
impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.path)?;
        self.query.as_ref().map_or(Ok(()), |query| write!(f, "?{query}"))
    }
}

/// A set of ambiguities: parts of a target that some backend reads differently from the gateway.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ambiguities(u16);

impl Ambiguities {
    /// The empty set.
    pub const NONE: Self = Self(0);

    const fn one(kind: AcceptConfig) -> Self {
        Self(1 << kind as u8)
    }

    fn note(&mut self, kind: AcceptConfig) {
        self.0 |= Self::one(kind).0;
    }

    /// Returns those that are not in `accepted`.
    #[must_use]
    pub const fn minus(self, accepted: Self) -> Self {
        Self(self.0 & !accepted.0)
    }

    /// Returns whether the set is empty.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Returns whether the set holds this kind.
    pub const fn contains(self, kind: AcceptConfig) -> bool {
        self.0 & Self::one(kind).0 != 0
    }
}

impl FromIterator<AcceptConfig> for Ambiguities {
    fn from_iter<I: IntoIterator<Item = AcceptConfig>>(kinds: I) -> Self {
        let mut set = Self::NONE;
        kinds.into_iter().for_each(|kind| set.note(kind));
        set
    }
}

/// `encoded-slash, semicolon`: the words of the route's `accept`.
impl fmt::Display for Ambiguities {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut names = AcceptConfig::ALL.iter().filter(|kind| self.contains(**kind)).map(|kind| kind.name());
        f.write_str(names.next().unwrap_or("nothing"))?;
        names.try_for_each(|name| write!(f, ", {name}"))
    }
}

/// The reason why a target is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TargetFault {
    /// Longer than [`MAX_TARGET`].
    #[error("the target is longer than {MAX_TARGET} bytes")]
    TooLong,
    /// `*`, an authority, or nothing.
    #[error("the target is not a path")]
    NotAPath,
    /// A control character or a space, raw or escaped.
    #[error("the target contains a control character or a space")]
    Control,
    /// `%` without two hexadecimal digits.
    #[error("the path contains a `%` that is not part of an escape")]
    BadEscape,
    /// `.` or `..`, in any spelling.
    #[error("the path contains a dot segment")]
    DotSegment,
    /// `#`.
    #[error("the target contains a fragment")]
    Fragment,
    /// An ASCII character as two bytes or more, which a lenient UTF-8 decoder takes for the character.
    #[error("the path contains an overlong UTF-8 sequence")]
    Overlong,
    /// Escapes of escapes of escapes.
    #[error("the path is escaped more than {MAX_ESCAPE_DEPTH} times")]
    TooDeep,
    /// Ambiguities that the route would have to accept by name.
    #[error("the route does not accept these parts of the target: {0}")]
    NotAccepted(Ambiguities),
    /// The target has too many possible readings.
    #[error("the target has too many possible readings")]
    TooManyReadings,
    /// The upstream may read the target as another path.
    #[error("a case-insensitive upstream may read the path as another path")]
    OtherSpelling,
    /// A lenient reader of the target would find another route.
    #[error("a lenient reader would find another route for the target")]
    TwoRoutes,
}

impl From<TargetFault> for Refusal {
    fn from(fault: TargetFault) -> Self {
        match fault {
            TargetFault::TooLong => Self::new(Reason::TargetTooLong, fault),
            TargetFault::NotAccepted(left) => {
                Self::new(Reason::RequestTargetInvalid, fault).with_hint(format!("the route could say `accept: [{left}]`"))
            }
            TargetFault::OtherSpelling => Self::new(Reason::RequestTargetInvalid, fault).with_hint(
                "for upstreams with `case-insensitive-paths` a segment may not end in a dot or a blank, hold `:`, `<`, `>` or `\"`, or look \
                 like `(S(…))` or `NAME~1`",
            ),
            TargetFault::NotAPath
            | TargetFault::Control
            | TargetFault::BadEscape
            | TargetFault::DotSegment
            | TargetFault::Fragment
            | TargetFault::Overlong
            | TargetFault::TooDeep
            | TargetFault::TooManyReadings
            | TargetFault::TwoRoutes => Self::new(Reason::RequestTargetInvalid, fault),
        }
    }
}

/// The role of a raw byte in a path.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Byte {
    /// Stays as it is.
    Plain,
    /// Not allowed in a path (RFC 3986, section 3.3) but sent by browsers all the same: escaped.
    Escaped,
    Semicolon,
    Backslash,
    Percent,
    NonAscii,
    Hash,
    Control,
}

const BYTES: [Byte; 256] = {
    let mut table = [Byte::Control; 256];
    let mut byte = 0x21;
    while byte < 0x7F {
        table[byte] = match byte as u8 {
            b'"' | b'<' | b'>' | b'?' | b'[' | b']' | b'^' | b'`' | b'{' | b'|' | b'}' => Byte::Escaped,
            b';' => Byte::Semicolon,
            b'\\' => Byte::Backslash,
            b'%' => Byte::Percent,
            b'#' => Byte::Hash,
            _ => Byte::Plain,
        };
        byte += 1;
    }
    let mut byte = 0x80;
    while byte < 0x100 {
        table[byte] = Byte::NonAscii;
        byte += 1;
    }
    table
};

/// RFC 3986, section 2.3.
const fn is_unreserved(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~')
}

fn read_path(raw: &[u8], ambiguities: &mut Ambiguities) -> Result<ByteString, TargetFault> {
    if let Some(path) = plain(raw) {
        refuse_dot_segments(path)?;
        return Ok(buffers::text(path));
    }
    let path = canonical(raw, ambiguities, Strictness::Whole)?;
    refuse_dot_segments(&path)?;
    // A backend that decodes twice reads what is escaped twice: whatever is never acceptable stays so, however deep it hides.
    let mut deeper = Cow::Borrowed(&*path);
    for depth in 0.. {
        if !deeper.contains("%25") {
            break;
        }
        if depth == MAX_ESCAPE_DEPTH {
            return Err(TargetFault::TooDeep);
        }
        deeper = canonical(deeper.replace("%25", "%").as_bytes(), ambiguities, Strictness::Deeper)?.into();
        refuse_dot_segments(&deeper)?;
    }
    Ok(buffers::text(&path))
}

/// Returns the bytes if they are already canonical, as most are: nothing to decode, to escape or to note.
fn plain(raw: &[u8]) -> Option<&str> {
    let mut before = 0;
    let plain = raw.iter().all(|byte| {
        let twice = *byte == b'/' && before == b'/';
        before = *byte;
        BYTES[usize::from(*byte)] == Byte::Plain && !twice
    });
    plain.then(|| std::str::from_utf8(raw).ok()).flatten()
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Strictness {
    /// The path itself: every `%` begins an escape.
    Whole,
    /// A path that was decoded once already: a `%` may be the character.
    Deeper,
}

fn canonical(raw: &[u8], ambiguities: &mut Ambiguities, strictness: Strictness) -> Result<String, TargetFault> {
    let mut path = String::with_capacity(raw.len());
    let mut beyond_ascii = false;
    let mut rest = raw;
    while let Some((&byte, tail)) = rest.split_first() {
        rest = tail;
        match BYTES[usize::from(byte)] {
            Byte::Plain => {
                if byte == b'/' && path.ends_with('/') {
                    ambiguities.note(AcceptConfig::EmptySegment);
                }
                path.push(char::from(byte));
            }
            Byte::Escaped => push_escape(&mut path, byte),
            Byte::Semicolon => {
                ambiguities.note(AcceptConfig::Semicolon);
                path.push(';');
            }
            Byte::Backslash => {
                ambiguities.note(AcceptConfig::Backslash);
                push_escape(&mut path, byte);
            }
            Byte::NonAscii => {
                ambiguities.note(AcceptConfig::NonAscii);
                beyond_ascii = true;
                push_escape(&mut path, byte);
            }
            Byte::Hash => return Err(TargetFault::Fragment),
            Byte::Control => return Err(TargetFault::Control),
            Byte::Percent => {
                let Some((byte, tail)) = escape(rest) else {
                    if strictness == Strictness::Whole {
                        return Err(TargetFault::BadEscape);
                    }
                    path.push('%');
                    continue;
                };
                rest = tail;
                match byte {
                    byte if is_unreserved(byte) => path.push(char::from(byte)),
                    0..=0x1F | 0x7F => return Err(TargetFault::Control),
                    b'/' => ambiguities.note(AcceptConfig::EncodedSlash),
                    b'\\' => ambiguities.note(AcceptConfig::Backslash),
                    // Escaped, too: some backends decode before they cut the parameters off.
                    b';' => ambiguities.note(AcceptConfig::Semicolon),
                    b'%' => ambiguities.note(AcceptConfig::EncodedPercent),
                    // Some backends decode before they cut query and fragment off.
                    b'?' => ambiguities.note(AcceptConfig::EncodedQuestionMark),
                    b'#' => ambiguities.note(AcceptConfig::EncodedHash),
                    0x80.. => beyond_ascii = true,
                    _ => {}
                }
                if !is_unreserved(byte) {
                    push_escape(&mut path, byte);
                }
            }
        }
    }
    if beyond_ascii {
        judge_beyond_ascii(&path, ambiguities)?;
    }
    Ok(path)
}

/// Returns the byte that the two digits after a `%` stand for, and the remaining text.
fn escape(after: &[u8]) -> Option<(u8, &[u8])> {
    let (&[high, low], rest) = after.split_first_chunk()?;
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    Some((digit(high)? << 4 | digit(low)?, rest))
}

fn push_escape(path: &mut String, byte: u8) {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    path.push('%');
    path.push(char::from(DIGITS[usize::from(byte >> 4)]));
    path.push(char::from(DIGITS[usize::from(byte & 15)]));
}

fn judge_beyond_ascii(path: &str, ambiguities: &mut Ambiguities) -> Result<(), TargetFault> {
    let decoded: Vec<u8> = percent_encoding::percent_decode_str(path).collect();
    if lenient::holds_ascii(&decoded) {
        return Err(TargetFault::Overlong);
    }
    match std::str::from_utf8(&decoded) {
        Err(_) => ambiguities.note(AcceptConfig::NonAscii),
        Ok(text) if text.chars().any(char::is_control) => return Err(TargetFault::Control),
        Ok(text) if text.chars().any(folds_to_delimiter) => ambiguities.note(AcceptConfig::NonAscii),
        Ok(_) => {}
    }
    Ok(())
}

/// Characters that a compatibility normalisation (NFKC), a best-fit conversion or a reader of domain names (UTS 46) turns into
/// `.` `/` `\` `;` `%`.
const fn folds_to_delimiter(letter: char) -> bool {
    matches!(
        letter,
        '\u{2024}'
            ..='\u{2026}'
                | '\u{3002}'
                | '\u{FE12}'
                | '\u{FF61}'
                | '\u{FE52}'
                | '\u{FF0E}'
                | '\u{2044}'
                | '\u{2215}'
                | '\u{29F8}'
                | '\u{FF0F}'
                | '\u{2216}'
                | '\u{29F5}'
                | '\u{29F9}'
                | '\u{FE68}'
                | '\u{FF3C}'
                | '\u{FE54}'
                | '\u{FF1B}'
                | '\u{037E}'
                | '\u{066A}'
                | '\u{FE6A}'
                | '\u{FF05}'
    )
}

/// Refuses `.` and `..` between any characters that some backend takes for a slash, with parameters or spaces after them.
fn refuse_dot_segments(path: &str) -> Result<(), TargetFault> {
    if !path.contains('.') {
        return Ok(());
    }
    let mut rest = path;
    loop {
        let end = rest.find(['/', '%']).unwrap_or(rest.len());
        let (mut name, mut after) = rest.split_at(end);
        // An escape that is no slash belongs to the segment.
        while after.starts_with('%') && !after.starts_with("%2F") && !after.starts_with("%5C") {
            let length = rest.len() - after.len() + 1;
            let end = rest[length..].find(['/', '%']).map_or(rest.len(), |at| length + at);
            (name, after) = rest.split_at(end);
        }
        let bare = name.split(';').next().unwrap_or_default();
        let bare = bare.split("%3B").next().unwrap_or_default();
        if matches!(bare.trim_end_matches("%20"), "." | "..") {
            return Err(TargetFault::DotSegment);
        }
        rest = match after.as_bytes().first() {
            None => return Ok(()),
            Some(b'/') => &after[1..],
            Some(_) => &after[3..],
        };
    }
}

fn read_query(raw: &[u8], ambiguities: &mut Ambiguities) -> Result<ByteString, TargetFault> {
    if let Some(query) = plain(raw) {
        return Ok(buffers::text(query));
    }
    let mut query = String::with_capacity(raw.len());
    for (at, &byte) in raw.iter().enumerate() {
        match byte {
            b'#' => return Err(TargetFault::Fragment),
            0..=0x20 | 0x7F => return Err(TargetFault::Control),
            b'"' | b'<' | b'>' => push_escape(&mut query, byte),
            0x80.. => {
                ambiguities.note(AcceptConfig::NonAscii);
                push_escape(&mut query, byte);
            }
            _ => {
                if byte == b'%' && escape(&raw[at + 1..]).is_none() {
                    ambiguities.note(AcceptConfig::BareEscape);
                }
                query.push(char::from(byte));
            }
        }
    }
    Ok(buffers::text(&query))
}

#[cfg(test)]
mod tests;
