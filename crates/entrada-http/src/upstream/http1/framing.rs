//! Response framing. RFC 9112, sections 6 and 7.

use bytes::{Buf, Bytes, BytesMut};
use http::HeaderMap;
use memchr::memchr;

use super::{Fault, head};

/// The longest chunk line, extensions included, in bytes.
const CHUNK_LINE: usize = 256;
/// The size limit of trailer fields, in bytes.
pub(in crate::upstream) const TRAILERS: usize = 16 * 1024;

/// Decodes a response body from the bytes of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Decoder {
    /// The body has ended, or there is none.
    Done,
    /// The number of remaining bytes.
    Length(u64),
    /// All bytes until the server closes the connection.
    UntilClose,
    /// At the beginning of a chunk.
    ChunkSize,
    /// The number of remaining bytes of a chunk.
    ChunkData(u64),
    /// At the line end after a chunk's data.
    ChunkEnd,
    /// After the last chunk.
    Trailers,
}

/// The result of decoding the available bytes.
#[derive(Debug, PartialEq)]
pub(super) enum Decoded {
    /// A part of the body; never empty.
    Data(Bytes),
    /// The fields after the last chunk. The body has ended.
    Trailers(HeaderMap),
    /// The body has ended.
    End,
    /// More bytes are needed.
    More,
}

impl Decoder {
    /// Decodes the available bytes.
    pub(super) fn decode(&mut self, buffer: &mut BytesMut) -> Result<Decoded, Fault> {
        loop {
            match *self {
                Self::Done => return Ok(Decoded::End),
                Self::Length(0) => *self = Self::Done,
                Self::Length(left) => {
                    let Some(data) = take(buffer, left) else { return Ok(Decoded::More) };
                    let left = left - data.len() as u64;
                    // Known at once, so that whoever passes the body on knows it too.
                    *self = if left == 0 { Self::Done } else { Self::Length(left) };
                    return Ok(Decoded::Data(data));
                }
                Self::UntilClose => return Ok(take(buffer, u64::MAX).map_or(Decoded::More, Decoded::Data)),
                Self::ChunkSize => match chunk_size(buffer)? {
                    None => return Ok(Decoded::More),
                    Some(0) => *self = Self::Trailers,
                    Some(size) => *self = Self::ChunkData(size),
                },
                Self::ChunkData(0) => *self = Self::ChunkEnd,
                Self::ChunkData(left) => {
                    let Some(data) = take(buffer, left) else { return Ok(Decoded::More) };
                    *self = Self::ChunkData(left - data.len() as u64);
                    return Ok(Decoded::Data(data));
                }
                Self::ChunkEnd => {
                    if buffer.len() < 2 {
                        return Ok(Decoded::More);
                    }
                    if !buffer.starts_with(b"\r\n") {
                        return Err(Fault::Framing("a chunk is longer than it says"));
                    }
                    buffer.advance(2);
                    *self = Self::ChunkSize;
                }
                Self::Trailers => {
                    let Some(trailers) = trailers(buffer)? else { return Ok(Decoded::More) };
                    *self = Self::Done;
                    return Ok(if trailers.is_empty() { Decoded::End } else { Decoded::Trailers(trailers) });
                }
            }
        }
    }
}

/// Takes at most this many bytes from the front; `None` if there are none.
fn take(buffer: &mut BytesMut, most: u64) -> Option<Bytes> {
    if buffer.is_empty() {
        return None;
    }
    let length = usize::try_from(most).unwrap_or(usize::MAX).min(buffer.len());
    Some(buffer.split_to(length).freeze())
}

/// Reads `1A3\r
/// `; extensions are ignored.
fn chunk_size(buffer: &mut BytesMut) -> Result<Option<u64>, Fault> {
    const MALFORMED: Fault = Fault::Framing("a chunk size is malformed");
    let Some(end) = memchr(b'\n', &buffer[..buffer.len().min(CHUNK_LINE)]) else {
        return if buffer.len() < CHUNK_LINE { Ok(None) } else { Err(Fault::Framing("a chunk line is too long")) };
    };
    let line = buffer[..end].strip_suffix(b"\r").ok_or(MALFORMED)?;
    // What another reader might take for the end of the line.
    if line.iter().any(|byte| byte.is_ascii_control() && *byte != b'\t') {
        return Err(MALFORMED);
    }
    let digits = memchr(b';', line).map_or(line, |extension| line[..extension].trim_ascii_end());
    if !(1..=15).contains(&digits.len()) {
        return Err(MALFORMED);
    }
    let mut size = 0;
    for digit in digits {
        size = size * 16 + u64::from(char::from(*digit).to_digit(16).ok_or(MALFORMED)?);
    }
    buffer.advance(end + 1);
    Ok(Some(size))
}

/// Reads the trailer fields, once they are complete.
fn trailers(buffer: &mut BytesMut) -> Result<Option<HeaderMap>, Fault> {
    if buffer.starts_with(b"\r\n") {
        buffer.advance(2);
        return Ok(Some(HeaderMap::new()));
    }
    let Some(end) = memchr::memmem::find(&buffer[..buffer.len().min(TRAILERS)], b"\r\n\r\n") else {
        return if buffer.len() < TRAILERS { Ok(None) } else { Err(Fault::Framing("the trailer fields are too long")) };
    };
    head::trailers(buffer.split_to(end + 4)).map(Some)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns the whole body and its trailers, fed in steps of this many bytes; and the rest.
    fn decode(mut decoder: Decoder, text: &str, step: usize) -> Result<(String, HeaderMap, String, bool), Fault> {
        let (mut buffer, mut body, mut trailers) = (BytesMut::new(), Vec::new(), HeaderMap::new());
        for part in text.as_bytes().chunks(step) {
            buffer.extend_from_slice(part);
            loop {
                match decoder.decode(&mut buffer)? {
                    Decoded::Data(data) => body.extend_from_slice(&data),
                    Decoded::Trailers(fields) => trailers = fields,
                    Decoded::End | Decoded::More => break,
                }
            }
        }
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        Ok((text(&body), trailers, text(&buffer), decoder == Decoder::Done))
    }

    #[test]
    fn chunks_are_joined_however_they_arrive() {
        let text = "5\r\nhello\r\nA;name=\"v\"\r\n, world!!!\r\n0\r\ngrpc-status: 0\r\n\r\nsurplus";
        for step in 1..=text.len() {
            let (body, trailers, rest, done) = decode(Decoder::ChunkSize, text, step).unwrap();

            assert_eq!((&*body, &*rest, done), ("hello, world!!!", "surplus", true), "in steps of {step}");
            assert_eq!(trailers["grpc-status"], "0");
        }
    }

    #[test]
    fn a_length_is_not_exceeded() {
        let (body, _, rest, done) = decode(Decoder::Length(5), "hellosurplus", 3).unwrap();

        assert_eq!((&*body, &*rest, done), ("hello", "surplus", true));
    }

    #[test]
    fn refuses_lenient_chunks() {
        for text in [
            "5\nhello\r\n0\r\n\r\n",
            "5\r\nhello\n0\r\n\r\n",
            "5\r\nhello0\r\n\r\n",
            "5\r\nhello!\r\n0\r\n\r\n",
            "5 \r\nhello\r\n0\r\n\r\n",
            " 5\r\nhello\r\n0\r\n\r\n",
            "+5\r\nhello\r\n0\r\n\r\n",
            "0x5\r\nhello\r\n0\r\n\r\n",
            "\r\nhello\r\n0\r\n\r\n",
            "5;a\rb\r\nhello\r\n0\r\n\r\n",
            "5;a\0\r\nhello\r\n0\r\n\r\n",
            "10000000000000000\r\n",
            "0\r\nname : a\r\n\r\n",
            "0\r\nname: a\nb: c\r\n\r\n",
            "0\r\nname: a\r\n folded\r\n\r\n",
        ] {
            assert!(decode(Decoder::ChunkSize, text, text.len()).is_err(), "{text:?}");
        }
        assert!(decode(Decoder::ChunkSize, &format!("5;{}", "a".repeat(CHUNK_LINE)), 10).is_err());
        assert!(decode(Decoder::ChunkSize, &format!("0\r\n{}", "a: b\r\n".repeat(TRAILERS / 6 + 1)), 100).is_err());
        // Whether they come at once or not.
        for (length, step, refused) in
            [(16_000, 1 << 20, false), (16_400, 1 << 20, true), (20_000, 1 << 20, true), (20_000, 1_000, true)]
        {
            let text = format!("0\r\na: {}\r\n\r\n", "b".repeat(length));
            assert_eq!(decode(Decoder::ChunkSize, &text, step).is_err(), refused, "{length} in steps of {step}");
        }
    }

    #[test]
    fn a_body_without_its_last_line_has_not_ended() {
        for text in ["5\r\nhello", "5\r\nhello\r\n", "5\r\nhello\r\n0\r\n", "5\r\nhello\r\n0\r\na: b\r\n"] {
            assert!(!decode(Decoder::ChunkSize, text, 1).unwrap().3, "{text:?}");
        }
    }
}
