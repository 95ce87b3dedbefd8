//! The protocol RESP2: commands out, replies in.
//!
//! RESP3 adds maps, sets and pushes, none of which a script on one key answers with; every server speaks RESP2, also those before
//! version 6, and without a handshake.

use bytes::{Buf as _, BytesMut};

/// The longest line: of errors, simple strings and lengths.
const LONGEST_LINE: usize = 64 * 1024;
/// The longest string.
const LONGEST_STRING: usize = 1024 * 1024;
/// The longest reply.
pub(crate) const LONGEST_REPLY: usize = 4 * 1024 * 1024;
/// The maximum number of values in a reply.
const MOST_VALUES: usize = 100_000;
/// The maximum number of lists within each other.
const DEEPEST: usize = 8;

/// A reply of a server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// A short text, such as `OK`.
    Simple(Box<str>),
    /// An error.
    Error(ServerError),
    /// A number.
    Integer(i64),
    /// A string of any bytes.
    Bulk(Box<[u8]>),
    /// No value.
    Nothing,
    /// A list.
    List(Vec<Self>),
}

/// An error that a server answered with. Its text may name keys and users, so that it is for the log, and never for callers.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ServerError(Box<str>);

impl ServerError {
    /// Makes an error of this text.
    pub fn new(text: impl Into<Box<str>>) -> Self {
        Self(text.into())
    }

    /// Returns its first word, by which errors are told apart: texts differ between servers and versions.
    pub fn prefix(&self) -> &str {
        self.0.split(' ').next().unwrap_or_default()
    }

    /// Returns the whole text.
    pub fn text(&self) -> &str {
        &self.0
    }
}

/// An error: bytes that are not a reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProtocolError {
    /// A reply begins with a byte that stands for no kind of value.
    #[error("a reply begins with a byte that no kind of value has")]
    Kind,
    /// A number or a length cannot be read.
    #[error("a number of a reply cannot be read")]
    Number,
    /// A line or a string does not end where it should.
    #[error("a part of a reply does not end with CR LF")]
    End,
    /// A reply is too long, has too many values, or too many lists within each other.
    #[error("a reply is too large")]
    TooLarge,
}

impl Reply {
    /// Returns the number; `None` for every other kind.
    pub const fn integer(&self) -> Option<i64> {
        if let Self::Integer(number) = self { Some(*number) } else { None }
    }

    /// Returns the text of a string; `None` for every other kind, and for bytes that are no text.
    pub fn text(&self) -> Option<&str> {
        match self {
            Self::Simple(text) => Some(text),
            Self::Bulk(bytes) => std::str::from_utf8(bytes).ok(),
            Self::Error(_) | Self::Integer(_) | Self::Nothing | Self::List(_) => None,
        }
    }

    /// Returns the values of a list; none for every other kind.
    pub fn list(&self) -> &[Self] {
        if let Self::List(values) = self { values } else { &[] }
    }

    /// Takes a reply from the front of the bytes received so far; `None` if it is not complete.
    ///
    /// # Errors
    /// Fails if the bytes are not a reply; nothing after them can be read then.
    pub fn decode(buffer: &mut BytesMut) -> Result<Option<Self>, ProtocolError> {
        let mut reader = Reader { bytes: buffer, at: 0, values: 0 };
        let reply = reader.value(0)?;
        if reply.is_none() && buffer.len() > LONGEST_REPLY {
            return Err(ProtocolError::TooLarge);
        }
        if reply.is_some() {
            let end = reader.at;
            buffer.advance(end);
        }
        Ok(reply)
    }
}

/// A position in the bytes received so far.
struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
    values: usize,
}

impl Reader<'_> {
    fn value(&mut self, depth: usize) -> Result<Option<Reply>, ProtocolError> {
        self.values += 1;
        if depth > DEEPEST || self.values > MOST_VALUES {
            return Err(ProtocolError::TooLarge);
        }
        let Some(kind) = self.bytes.get(self.at).copied() else { return Ok(None) };
        if !b"+-:$*".contains(&kind) {
            return Err(ProtocolError::Kind);
        }
        self.at += 1;
        let Some(line) = self.line()? else { return Ok(None) };
        Ok(Some(match kind {
            b'+' => Reply::Simple(String::from_utf8_lossy(line).into()),
            b'-' => Reply::Error(ServerError(String::from_utf8_lossy(line).into())),
            b':' => Reply::Integer(number(line)?),
            b'$' => match length(line, LONGEST_STRING)? {
                None => Reply::Nothing,
                Some(length) => match self.string(length)? {
                    Some(bytes) => Reply::Bulk(bytes.into()),
                    None => return Ok(None),
                },
            },
            _ => match length(line, MOST_VALUES)? {
                None => Reply::Nothing,
                Some(length) => {
                    // As many as there are bytes at most, whatever the length says.
                    let mut values = Vec::with_capacity(length.min(self.bytes.len() - self.at));
                    for _ in 0..length {
                        let Some(value) = self.value(depth + 1)? else { return Ok(None) };
                        values.push(value);
                    }
                    Reply::List(values)
                }
            },
        }))
    }

    /// Returns the rest of the line, without its end.
    fn line(&mut self) -> Result<Option<&[u8]>, ProtocolError> {
        let rest = &self.bytes[self.at..];
        let Some(end) = memchr::memchr(b'\r', &rest[..rest.len().min(LONGEST_LINE)]) else {
            return if rest.len() >= LONGEST_LINE { Err(ProtocolError::TooLarge) } else { Ok(None) };
        };
        match rest.get(end + 1) {
            None => Ok(None),
            Some(b'\n') => {
                self.at += end + 2;
                Ok(Some(&rest[..end]))
            }
            Some(_) => Err(ProtocolError::End),
        }
    }

    fn string(&mut self, length: usize) -> Result<Option<&[u8]>, ProtocolError> {
        let rest = &self.bytes[self.at..];
        let Some(end) = rest.get(length..length + 2) else { return Ok(None) };
        if end != b"\r\n" {
            return Err(ProtocolError::End);
        }
        self.at += length + 2;
        Ok(Some(&rest[..length]))
    }
}

fn number(line: &[u8]) -> Result<i64, ProtocolError> {
    let text = std::str::from_utf8(line).map_err(|_| ProtocolError::Number)?;
    text.parse().map_err(|_| ProtocolError::Number)
}

/// Returns a length; `None` for -1, which stands for no value.
fn length(line: &[u8], most: usize) -> Result<Option<usize>, ProtocolError> {
    match number(line)? {
        -1 => Ok(None),
        length => match usize::try_from(length) {
            Ok(length) if length <= most => Ok(Some(length)),
            Ok(_) => Err(ProtocolError::TooLarge),
            Err(_) => Err(ProtocolError::Number),
        },
    }
}

/// Writes a command: its name and its arguments.
pub(crate) fn encode<'a>(parts: impl ExactSizeIterator<Item = &'a [u8]>, out: &mut impl bytes::BufMut) {
    head(b'*', parts.len(), out);
    for part in parts {
        head(b'$', part.len(), out);
        out.put_slice(part);
        out.put_slice(b"\r\n");
    }
}

fn head(kind: u8, length: usize, out: &mut impl bytes::BufMut) {
    let mut digits = [0; 20];
    let mut at = digits.len();
    let mut rest = length;
    loop {
        at -= 1;
        digits[at] = b'0' + (rest % 10) as u8;
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    out.put_u8(kind);
    out.put_slice(&digits[at..]);
    out.put_slice(b"\r\n");
}

/// Returns a command, encoded.
pub(crate) fn command(parts: &[&[u8]]) -> bytes::Bytes {
    let mut out = BytesMut::with_capacity(parts.iter().map(|part| part.len() + 16).sum::<usize>() + 16);
    encode(parts.iter().copied(), &mut out);
    out.freeze()
}

#[cfg(any(test, feature = "testing"))]
impl Reply {
    /// Writes the reply, as a server does.
    pub fn encode(&self, out: &mut BytesMut) {
        use bytes::BufMut as _;

        match self {
            Self::Simple(text) => line(b'+', text.as_bytes(), out),
            Self::Error(error) => line(b'-', error.0.as_bytes(), out),
            Self::Integer(number) => line(b':', number.to_string().as_bytes(), out),
            Self::Nothing => out.put_slice(b"$-1\r\n"),
            Self::Bulk(bytes) => {
                head(b'$', bytes.len(), out);
                out.put_slice(bytes);
                out.put_slice(b"\r\n");
            }
            Self::List(values) => {
                head(b'*', values.len(), out);
                values.iter().for_each(|value| value.encode(out));
            }
        }
    }
}

#[cfg(any(test, feature = "testing"))]
fn line(kind: u8, text: &[u8], out: &mut BytesMut) {
    use bytes::BufMut as _;

    out.put_u8(kind);
    out.put_slice(text);
    out.put_slice(b"\r\n");
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn decode(bytes: &[u8]) -> Result<Option<Reply>, ProtocolError> {
        Reply::decode(&mut BytesMut::from(bytes))
    }

    #[test]
    fn reads_every_kind_of_value() {
        for (bytes, reply) in [
            (&b"+OK\r\n"[..], Reply::Simple("OK".into())),
            (b"-NOSCRIPT No matching script.\r\n", Reply::Error(ServerError::new("NOSCRIPT No matching script."))),
            (b":-7\r\n", Reply::Integer(-7)),
            (b"$5\r\na\r\nb!\r\n", Reply::Bulk(b"a\r\nb!"[..].into())),
            (b"$0\r\n\r\n", Reply::Bulk([].into())),
            (b"$-1\r\n", Reply::Nothing),
            (b"*-1\r\n", Reply::Nothing),
            (b"*0\r\n", Reply::List(Vec::new())),
            (b"*2\r\n:1\r\n*1\r\n+x\r\n", Reply::List(vec![Reply::Integer(1), Reply::List(vec![Reply::Simple("x".into())])])),
        ] {
            assert_eq!(decode(bytes), Ok(Some(reply)), "{bytes:?}");
        }
    }

    #[test]
    fn refuses_what_is_no_reply() {
        for (bytes, error) in [
            (&b"HTTP/1.1 400 Bad Request\r\n"[..], ProtocolError::Kind),
            (b"\x15\x03\x03", ProtocolError::Kind),
            (b"%1\r\n", ProtocolError::Kind),
            (b":seven\r\n", ProtocolError::Number),
            (b":\r\n", ProtocolError::Number),
            (b":99999999999999999999\r\n", ProtocolError::Number),
            (b"$-2\r\n", ProtocolError::Number),
            (b"+OK\rx", ProtocolError::End),
            (b"$2\r\nabcd", ProtocolError::End),
            (b"$1048577\r\n", ProtocolError::TooLarge),
            (b"*100001\r\n", ProtocolError::TooLarge),
            (b"*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n", ProtocolError::TooLarge),
        ] {
            assert_eq!(decode(bytes), Err(error), "{bytes:?}");
        }
        assert_eq!(decode(&[b'+'; LONGEST_LINE + 1]), Err(ProtocolError::TooLarge));
    }

    #[test]
    fn a_long_list_that_never_comes_takes_no_memory() {
        assert_eq!(decode(b"*100000\r\n"), Ok(None));
    }

    #[test]
    fn errors_are_told_apart_by_their_first_word() {
        assert_eq!(ServerError::new("READONLY You can't write").prefix(), "READONLY");
        assert_eq!(ServerError::new("").prefix(), "");
    }

    #[test]
    fn writes_commands() {
        assert_eq!(&*command(&[b"GET", b"a\r\nb", b""]), b"*3\r\n$3\r\nGET\r\n$4\r\na\r\nb\r\n$0\r\n\r\n");
        assert!(command(&[&[7; 12_345]]).starts_with(b"*1\r\n$12345\r\n"));
    }

    fn replies() -> impl Strategy<Value = Reply> {
        let leaf = prop_oneof![
            "[^\r\n]{0,20}".prop_map(|text| Reply::Simple(text.into())),
            "[A-Z]{1,9} [^\r\n]{0,20}".prop_map(|text| Reply::Error(ServerError::new(text))),
            any::<i64>().prop_map(Reply::Integer),
            prop::collection::vec(any::<u8>(), 0..64).prop_map(|bytes| Reply::Bulk(bytes.into())),
            Just(Reply::Nothing),
        ];
        leaf.prop_recursive(4, 32, 6, |inner| prop::collection::vec(inner, 0..6).prop_map(Reply::List))
    }

    proptest! {
        /// Reads the same replies from pieces of any size.
        #[test]
        fn replies_are_read_however_they_are_cut(
            sent in prop::collection::vec(replies(), 1..6),
            cuts in prop::collection::vec(1_usize..40, 1..20),
        ) {
            let mut wire = BytesMut::new();
            sent.iter().for_each(|reply| reply.encode(&mut wire));
            let (mut buffer, mut read, mut sizes) = (BytesMut::new(), Vec::new(), cuts.iter().cycle());
            while !wire.is_empty() {
                let piece = wire.split_to(wire.len().min(*sizes.next().unwrap()));
                buffer.extend_from_slice(&piece);
                while let Some(reply) = Reply::decode(&mut buffer).unwrap() {
                    read.push(reply);
                }
            }
            prop_assert_eq!(read, sent);
            prop_assert!(buffer.is_empty());
        }

        #[test]
        fn no_bytes_panic_or_are_read_twice(bytes in prop::collection::vec(
            prop_oneof![any::<u8>(), prop::sample::select(b"+-:$*\r\n0123456789".to_vec())], 0..200,
        )) {
            let mut buffer = BytesMut::from(&*bytes);
            while let Ok(Some(_)) = Reply::decode(&mut buffer) {}
            prop_assert!(bytes.ends_with(&buffer));
        }
    }
}
