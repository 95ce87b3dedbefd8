//! Message framing: a length, or chunks. RFC 9112, sections 6 and 7.
//!
//! A chunk line consists of hexadecimal digits, an optional extension, and CRLF. Extensions are unknown and dropped (RFC 9112,
//! section 7.1.1); one with a control byte, in which another parser might see the line end, is refused, and their size per body
//! is bounded. Trailer fields are read, checked like header fields, and dropped.

use bytes::{Buf, Bytes, BytesMut};
use memchr::memchr;

use crate::field_lines::{self, LineEnds, LineFault};

/// The framing of a request's body.
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
/// The longest extension of a chunk, and the most bytes that the extensions of a body may have in all.
const MAX_EXTENSION: usize = 256;
const MAX_EXTENSIONS: u16 = 16 << 10;
/// The most bytes that trailer fields may take.
const MAX_TRAILERS: usize = 8 << 10;
/// The most trailer fields.
const MAX_TRAILER_FIELDS: usize = 64;

/// Takes a body out of the bytes of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Decoder {
    state: State,
    /// The number of bytes of chunk extensions so far.
    extensions: u16,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// The body has ended, or there is none.
    Done,
    /// The number of remaining bytes.
    Length(u64),
    /// At the beginning of a chunk line.
    ChunkSize,
    /// The number of remaining bytes of a chunk, followed by CRLF.
    ChunkData(u64),
    /// At the CRLF after a chunk's data.
    ChunkEnd,
    /// After the last chunk: trailer fields and the empty line.
    Trailers,
}

/// The result of decoding the available bytes.
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
        let state = match framing {
            Framing::None | Framing::Length(0) => State::Done,
            Framing::Length(length) => State::Length(length),
            Framing::Chunked => State::ChunkSize,
        };
        Self { state, extensions: 0 }
    }
}

impl Decoder {
    /// Returns whether the last byte of the message was consumed.
    pub(crate) const fn is_done(self) -> bool {
        matches!(self.state, State::Done)
    }

    /// Returns the number of remaining bytes, if the length was announced.
    pub(crate) const fn remaining(self) -> Option<u64> {
        match self.state {
            State::Done => Some(0),
            State::Length(remaining) => Some(remaining),
            State::ChunkSize | State::ChunkData(_) | State::ChunkEnd | State::Trailers => None,
        }
    }

    /// Returns the number of bytes expected next, or a guess.
    pub(crate) fn wants(self) -> usize {
        const LARGE: usize = 64 << 10;
        match self.state {
            State::Done => 0,
            // Not a byte more than the message has: what follows it is not read before it is wanted.
            State::Length(remaining) => usize::try_from(remaining).unwrap_or(LARGE).min(LARGE),
            State::ChunkData(remaining) => usize::try_from(remaining).unwrap_or(LARGE).clamp(4 << 10, LARGE),
            State::ChunkSize | State::ChunkEnd | State::Trailers => 4 << 10,
        }
    }

    /// Decodes the available bytes, as slices of `buffer`.
    ///
    /// # Errors
    /// Returns the fault that makes the bytes not a body. The bytes after them cannot be a request.
    pub(crate) fn decode(&mut self, buffer: &mut BytesMut) -> Result<Decoded, &'static str> {
        loop {
            match self.state {
                State::Done => return Ok(Decoded::End),
                State::Length(remaining) => {
                    let Some(data) = take(buffer, remaining) else { return Ok(Decoded::More) };
                    let left = remaining - data.len() as u64;
                    self.state = if left == 0 { State::Done } else { State::Length(left) };
                    return Ok(Decoded::Data(data));
                }
                State::ChunkSize => match self.chunk_size(buffer)? {
                    None => return Ok(Decoded::More),
                    Some(0) => self.state = State::Trailers,
                    Some(size) => self.state = State::ChunkData(size),
                },
                State::ChunkData(remaining) => {
                    let Some(data) = take(buffer, remaining) else { return Ok(Decoded::More) };
                    let left = remaining - data.len() as u64;
                    self.state = if left == 0 { State::ChunkEnd } else { State::ChunkData(left) };
                    return Ok(Decoded::Data(data));
                }
                State::ChunkEnd => {
                    if !take_line_end(buffer, "a chunk is longer than its size")? {
                        return Ok(Decoded::More);
                    }
                    self.state = State::ChunkSize;
                }
                State::Trailers => {
                    if !skip_trailers(buffer)? {
                        return Ok(Decoded::More);
                    }
                    self.state = State::Done;
                }
            }
        }
    }

    fn chunk_size(&mut self, buffer: &mut BytesMut) -> Result<Option<u64>, &'static str> {
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
            [b';', ..] if digits > 0 => {
                let Some(length) = extension(&buffer[digits..])? else { return Ok(None) };
                self.extensions = u16::try_from(length)
                    .ok()
                    .and_then(|length| self.extensions.checked_add(length))
                    .filter(|all| *all <= MAX_EXTENSIONS)
                    .ok_or("the chunks have too many extensions")?;
                buffer.advance(digits + length + 2);
                Ok(Some(size))
            }
            _ => Err("a chunk size is malformed"),
        }
    }
}

/// Returns the length of the extension that `line` begins with, up to its CRLF; `None` if that is not there yet.
fn extension(line: &[u8]) -> Result<Option<usize>, &'static str> {
    let end = line.iter().take(MAX_EXTENSION + 1).position(|byte| matches!(byte, 0..=8 | 10..=31 | 127));
    match end {
        None if line.len() > MAX_EXTENSION => Err("a chunk has too long an extension"),
        None => Ok(None),
        Some(end) => match line[end..] {
            [b'\r'] => Ok(None),
            [b'\r', b'\n', ..] => Ok(Some(end)),
            _ => Err("the extension of a chunk holds a control byte"),
        },
    }
}

/// Takes at most `most` bytes from the front; `None` if there are none.
fn take(buffer: &mut BytesMut, most: u64) -> Option<Bytes> {
    if buffer.is_empty() {
        return None;
    }
    let length = usize::try_from(most).unwrap_or(usize::MAX).min(buffer.len());
    Some(if length == buffer.len() { buffer.split() } else { buffer.split_to(length) }.freeze())
}

const fn hex_value(digit: u8) -> u8 {
    match digit {
        b'0'..=b'9' => digit - b'0',
        b'a'..=b'f' => digit - b'a' + 10,
        _ => digit.wrapping_sub(b'A').wrapping_add(10),
    }
}

/// Takes CRLF from the front; `false` if it is incomplete.
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

/// Checks the trailer fields and drops them; `false` if their end has not arrived.
fn skip_trailers(buffer: &mut BytesMut) -> Result<bool, &'static str> {
    let mut line = 0;
    while let Some(length) = memchr(b'\n', &buffer[line..]) {
        let end = line + length;
        if length == 0 || buffer[end - 1] != b'\r' {
            return Err("a trailer line ends in a bare LF");
        }
        if length == 1 {
            let mut trailers = buffer.split_to(end + 1);
            let read =
                field_lines::read::<LineFault>(&mut trailers, 0, (LineEnds::Crlf, MAX_TRAILER_FIELDS), |_, _, _, _| Ok(()));
            return read.map(|()| true).map_err(|_| "a trailer field is malformed");
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

    /// Returns the whole body, the rest of the buffer, and whether the end was found.
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
    fn extensions_are_passed_over_within_bounds() {
        let bytes = b"5;a=\"b;\tc\xe9\"\r\nhello\r\n3;;=\r\n, w\r\n0;last\r\n\r\nGET";
        for step in 1..bytes.len() {
            let (body, rest, done) = decode_all(Framing::Chunked, bytes, step).unwrap();

            assert!(done && body == b"hello, w" && rest == b"GET", "in steps of {step}");
        }
        let chunk = |length: usize| format!("1;{}\r\na\r\n", "e".repeat(length - 1));
        for (name, chunks, sound) in [
            ("the longest", chunk(MAX_EXTENSION), true),
            ("one byte more", chunk(MAX_EXTENSION + 1), false),
            ("as many as there may be", chunk(MAX_EXTENSION).repeat(64), true),
            ("more than that", chunk(MAX_EXTENSION).repeat(64) + &chunk(2), false),
        ] {
            let bytes = format!("{chunks}0\r\n\r\n");
            for step in [1, 100, bytes.len()] {
                assert_eq!(decode_all(Framing::Chunked, bytes.as_bytes(), step).is_ok(), sound, "{name}, in steps of {step}");
            }
        }
        assert!(
            decode_all(Framing::Chunked, format!("5;{}", "e".repeat(MAX_EXTENSION)).as_bytes(), 7).is_err(),
            "without its end"
        );
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
            ("extension with a bare LF", "5;a\nb\r\nhello\r\n0\r\n\r\n"),
            ("extension that ends in LF", "5;a\nhello\r\n0\r\n\r\n"),
            ("extension with a bare CR", "5;a\rb\r\nhello\r\n0\r\n\r\n"),
            ("extension that ends in CR CR LF", "5;a\r\r\nhello\r\n0\r\n\r\n"),
            ("extension with NUL", "5;a\0\r\nhello\r\n0\r\n\r\n"),
            ("extension without a size", ";a=b\r\nhello\r\n0\r\n\r\n"),
            ("space before an extension", "5 ;a=b\r\nhello\r\n0\r\n\r\n"),
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
            ("last chunk with an extension of LF", "0;a\n\r\n"),
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
