//! Where a body ends: a length, or chunks. RFC 9112, sections 6 and 7.
//!
//! A chunk line is hexadecimal digits and CRLF: chunk extensions are refused, since no client that calls an API sends them, and
//! every one of them is a place for two parsers to disagree. Trailer fields are read, checked like header fields, and dropped.

use bytes::{Buf, Bytes, BytesMut};
use memchr::memchr;

/// How the body of a request is delimited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Framing {
    /// There is none.
    None,
    /// So many bytes.
    Length(u64),
    /// Chunks.
    Chunked,
}

/// The most digits of a chunk size: 2^48 bytes are more than any limit allows.
const MAX_SIZE_DIGITS: usize = 12;
/// The most bytes that trailer fields may take.
const MAX_TRAILERS: usize = 8 << 10;
/// The most trailer fields.
const MAX_TRAILER_FIELDS: usize = 64;

/// Takes a body out of the bytes of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Decoder {
    /// The body has ended, or there is none.
    Done,
    /// So many bytes are still to come.
    Length(u64),
    /// At the beginning of a chunk line.
    ChunkSize,
    /// So many bytes of a chunk are still to come, then CRLF.
    ChunkData(u64),
    /// At the CRLF after a chunk's data.
    ChunkEnd,
    /// After the last chunk: trailer fields and the empty line.
    Trailers,
}

/// What was found in the bytes at hand.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Decoded {
    /// A part of the body; never empty.
    Data(Bytes),
    /// The body has ended.
    End,
    /// More bytes are needed.
    More,
}

impl From<Framing> for Decoder {
    fn from(framing: Framing) -> Self {
        match framing {
            Framing::None | Framing::Length(0) => Self::Done,
            Framing::Length(length) => Self::Length(length),
            Framing::Chunked => Self::ChunkSize,
        }
    }
}

impl Decoder {
    /// Whether the last byte of the message was taken.
    pub(crate) const fn is_done(self) -> bool {
        matches!(self, Self::Done)
    }

    /// How many bytes are still to come, where that was said in advance.
    pub(crate) const fn remaining(self) -> Option<u64> {
        match self {
            Self::Done => Some(0),
            Self::Length(remaining) => Some(remaining),
            Self::ChunkSize | Self::ChunkData(_) | Self::ChunkEnd | Self::Trailers => None,
        }
    }

    /// How many bytes are known to come next; a guess where it is not known.
    pub(crate) fn wants(self) -> usize {
        const LARGE: usize = 64 << 10;
        match self {
            Self::Done => 0,
            // Not a byte more than the message has: what follows it is not read before it is wanted.
            Self::Length(remaining) => usize::try_from(remaining).unwrap_or(LARGE).min(LARGE),
            Self::ChunkData(remaining) => usize::try_from(remaining).unwrap_or(LARGE).clamp(4 << 10, LARGE),
            Self::ChunkSize | Self::ChunkEnd | Self::Trailers => 4 << 10,
        }
    }

    /// Takes what there is, as slices of `buffer`.
    ///
    /// # Errors
    /// What makes the bytes no body. What follows them cannot be a request.
    pub(crate) fn decode(&mut self, buffer: &mut BytesMut) -> Result<Decoded, &'static str> {
        loop {
            match *self {
                Self::Done => return Ok(Decoded::End),
                Self::Length(remaining) => {
                    let Some(data) = take(buffer, remaining) else { return Ok(Decoded::More) };
                    let left = remaining - data.len() as u64;
                    *self = if left == 0 { Self::Done } else { Self::Length(left) };
                    return Ok(Decoded::Data(data));
                }
                Self::ChunkSize => match chunk_size(buffer)? {
                    None => return Ok(Decoded::More),
                    Some(0) => *self = Self::Trailers,
                    Some(size) => *self = Self::ChunkData(size),
                },
                Self::ChunkData(remaining) => {
                    let Some(data) = take(buffer, remaining) else { return Ok(Decoded::More) };
                    let left = remaining - data.len() as u64;
                    *self = if left == 0 { Self::ChunkEnd } else { Self::ChunkData(left) };
                    return Ok(Decoded::Data(data));
                }
                Self::ChunkEnd => {
                    if !take_line_end(buffer, "a chunk is longer than its size")? {
                        return Ok(Decoded::More);
                    }
                    *self = Self::ChunkSize;
                }
                Self::Trailers => {
                    if !skip_trailers(buffer)? {
                        return Ok(Decoded::More);
                    }
                    *self = Self::Done;
                }
            }
        }
    }
}

/// At most `most` bytes from the front; none if there are none.
fn take(buffer: &mut BytesMut, most: u64) -> Option<Bytes> {
    if buffer.is_empty() {
        return None;
    }
    let length = usize::try_from(most).unwrap_or(usize::MAX).min(buffer.len());
    Some(if length == buffer.len() { buffer.split() } else { buffer.split_to(length) }.freeze())
}

fn chunk_size(buffer: &mut BytesMut) -> Result<Option<u64>, &'static str> {
    let digits = buffer.iter().take(MAX_SIZE_DIGITS + 1).take_while(|byte| byte.is_ascii_hexdigit()).count();
    if digits > MAX_SIZE_DIGITS {
        return Err("a chunk size is too long");
    }
    let size = buffer[..digits].iter().fold(0_u64, |size, digit| size * 16 + u64::from(hex_value(*digit)));
    match buffer[digits..] {
        [] | [b'\r'] if digits > 0 || buffer.is_empty() => Ok(None),
        [b'\r', b'\n', ..] if digits > 0 => {
            buffer.advance(digits + 2);
            Ok(Some(size))
        }
        [b';' | b' ' | b'\t', ..] => Err("a chunk has an extension"),
        _ => Err("a chunk size is malformed"),
    }
}

const fn hex_value(digit: u8) -> u8 {
    match digit {
        b'0'..=b'9' => digit - b'0',
        b'a'..=b'f' => digit - b'a' + 10,
        _ => digit.wrapping_sub(b'A').wrapping_add(10),
    }
}

/// Takes CRLF from the front; `false` if it is not all there yet.
fn take_line_end(buffer: &mut BytesMut, otherwise: &'static str) -> Result<bool, &'static str> {
    match buffer[..] {
        [] | [b'\r'] => Ok(false),
        [b'\r', b'\n', ..] => {
            buffer.advance(2);
            Ok(true)
        }
        _ => Err(otherwise),
    }
}

/// Checks the trailer fields and drops them; `false` if their end is not there yet.
fn skip_trailers(buffer: &mut BytesMut) -> Result<bool, &'static str> {
    let mut line = 0;
    while let Some(length) = memchr(b'\n', &buffer[line..]) {
        let end = line + length;
        if length == 0 || buffer[end - 1] != b'\r' {
            return Err("a trailer line ends in a bare LF");
        }
        if length == 1 {
            let trailers = buffer.split_to(end + 1);
            let mut fields = [httparse::EMPTY_HEADER; MAX_TRAILER_FIELDS];
            return match httparse::parse_headers(&trailers, &mut fields) {
                Ok(httparse::Status::Complete((end, _))) if end == trailers.len() => Ok(true),
                _ => Err("a trailer field is malformed"),
            };
        }
        if matches!(buffer[line], b' ' | b'\t') {
            return Err("a trailer line begins with white space");
        }
        line = end + 1;
    }
    if buffer.len() > MAX_TRAILERS { Err("the trailer fields are too long") } else { Ok(false) }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The whole body, what is left in the buffer, and whether the end was found.
    fn decode_all(framing: Framing, bytes: &[u8], step: usize) -> Result<(Vec<u8>, Vec<u8>, bool), &'static str> {
        let (mut decoder, mut buffer, mut body) = (Decoder::from(framing), BytesMut::new(), Vec::new());
        for part in bytes.chunks(step) {
            buffer.extend_from_slice(part);
            while let Decoded::Data(data) = decoder.decode(&mut buffer)? {
                body.extend_from_slice(&data);
            }
        }
        Ok((body, buffer.to_vec(), decoder.is_done()))
    }

    #[test]
    fn chunks_are_joined_however_they_arrive() {
        let bytes = b"5\r\nhello\r\nA\r\n, world!!!\r\n0\r\nx-a: b\r\nX-C:\r\n\r\nGET";
        for step in 1..bytes.len() {
            let (body, rest, done) = decode_all(Framing::Chunked, bytes, step).unwrap();

            assert_eq!(body, b"hello, world!!!", "in steps of {step}");
            assert!(done && rest == b"GET");
        }
    }

    #[test]
    fn a_length_is_not_exceeded() {
        let (body, rest, done) = decode_all(Framing::Length(5), b"helloGET", 3).unwrap();

        assert!(done && body == b"hello" && rest == b"GET");
    }

    #[test]
    fn refuses_lenient_chunks() {
        for (name, bytes) in [
            ("LF in the chunk line", "5\nhello\r\n0\r\n\r\n"),
            ("LF after the data", "5\r\nhello\n0\r\n\r\n"),
            ("no line end after the data", "5\r\nhello0\r\n\r\n"),
            ("data longer than its size", "5\r\nhello!\r\n0\r\n\r\n"),
            ("extension", "5;a=b\r\nhello\r\n0\r\n\r\n"),
            ("space after the size", "5 \r\nhello\r\n0\r\n\r\n"),
            ("space before the size", " 5\r\nhello\r\n0\r\n\r\n"),
            ("sign", "+5\r\nhello\r\n0\r\n\r\n"),
            ("prefix", "0x5\r\nhello\r\n0\r\n\r\n"),
            ("no size", "\r\nhello\r\n0\r\n\r\n"),
            ("underscore", "1_0\r\nhello\r\n0\r\n\r\n"),
            ("size beyond 48 bits", "1000000000000\r\nhello\r\n0\r\n\r\n"),
            ("size of many zeros", "00000000000000005\r\nhello\r\n0\r\n\r\n"),
            ("bare CR in the chunk line", "5\rhello\r\n0\r\n\r\n"),
            ("last chunk with LF", "0\n\r\n"),
            ("final line with LF", "0\r\n\n"),
            ("last chunk with an extension", "0;a\r\n\r\n"),
            ("trailer with a bare LF", "0\r\na: b\n\r\n"),
            ("trailer without a colon", "0\r\nab\r\n\r\n"),
            ("trailer with a space before its colon", "0\r\na : b\r\n\r\n"),
            ("folded trailer", "0\r\na: b\r\n c\r\n\r\n"),
            ("trailer with NUL", "0\r\na: \0\r\n\r\n"),
        ] {
            assert!(decode_all(Framing::Chunked, bytes.as_bytes(), bytes.len()).is_err(), "{name}, at once");
            assert!(decode_all(Framing::Chunked, bytes.as_bytes(), 1).is_err(), "{name}, byte by byte");
        }
    }

    #[test]
    fn a_body_without_its_last_line_has_not_ended() {
        for bytes in ["5\r\nhello", "5\r\nhello\r\n", "0\r\n", "0\r\na: b\r\n", "0\r\n\r"] {
            let (_, _, done) = decode_all(Framing::Chunked, bytes.as_bytes(), 1).unwrap();

            assert!(!done, "{bytes:?}");
        }
    }

    #[test]
    fn endless_trailers_are_refused() {
        let bytes = format!("0\r\n{}", "a: b\r\n".repeat(2_000));

        assert!(decode_all(Framing::Chunked, bytes.as_bytes(), 100).is_err());
    }
}
