//! The field lines of an HTTP/1 message, in either direction: one grammar (RFC 9112, section 5; RFC 9110, section 5.5).
//!
//! Names are tokens, made lower-case where they stand. Nothing may stand between a name and its colon, and a line does not continue
//! the one before it. White space around a value is no part of it.

use std::ops::Range;

use memchr::memchr2;

use crate::base::fields::{Known, TOKEN, is_forbidden};

/// An error: the lines are not field lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum LineFault {
    #[error("the name of a field is no token")]
    Name,
    #[error("a field holds a byte that no field holds")]
    Value,
    #[error("the head has too many fields")]
    TooMany,
    #[error("the head is malformed")]
    Structure,
}

/// The line ends that are accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LineEnds {
    /// CRLF alone.
    Crlf,
    /// LF alone, too: some simple servers write it, and every reader accepts it (RFC 9112, section 2.2).
    LfToo,
}

/// The longest name of a field, in bytes.
const NAME: usize = u16::MAX as usize;

/// Returns whether the byte may be part of a token.
pub(crate) const fn is_token(byte: u8) -> bool {
    TOKEN[byte as usize] != 0
}

/// Counts control characters. Several bytes are looked at in one instruction, so that a token of a thousand letters costs little.
fn controls(bytes: &[u8]) -> usize {
    const LANES: usize = 32;
    let is_control = |byte: u8| u8::from((byte < b' ') | (byte == 0x7f));
    let mut count = 0;
    // Each lane counts to 255 at most.
    for block in bytes.chunks(LANES * usize::from(u8::MAX)) {
        let (chunks, rest) = block.as_chunks::<LANES>();
        let mut lanes = [0; LANES];
        for chunk in chunks {
            for (lane, byte) in lanes.iter_mut().zip(chunk) {
                *lane += is_control(*byte);
            }
        }
        count += lanes.iter().map(|lane| usize::from(*lane)).sum::<usize>();
        count += rest.iter().map(|byte| usize::from(is_control(*byte))).sum::<usize>();
    }
    count
}

/// Reads the field lines from `at` on, and the empty line after them, which must be the last. Each field is handed over with the head,
/// and the places of its name and its value in it: `take` [reads](crate::base::fields::Fields::read) it, or leaves it out.
///
/// # Errors
/// Returns the first fault of the lines, or that of `take`.
pub(crate) fn read<E: From<LineFault>>(
    head: &mut [u8],
    at: usize,
    (ends, most): (LineEnds, usize),
    mut take: impl FnMut(&[u8], Known, Range<usize>, Range<usize>) -> Result<(), E>,
) -> Result<(), E> {
    let (end, _) = lines(head, at, (ends, most), |head, known, name, value| {
        if head[value.clone()].iter().copied().any(is_forbidden) {
            return Err(LineFault::Value.into());
        }
        take(head, known, name, value)
    })?;
    if end == head.len() { Ok(()) } else { Err(LineFault::Structure.into()) }
}

/// Reads the field lines from `at` on to the first empty line, and returns the end of the head; `None` unless all of it has arrived and
/// is as nearly every head is: CRLF at the end of each line, and no control characters elsewhere, which are looked for in one go. What
/// is wrong with another head, or missing, [`read`] says.
pub(crate) fn read_at_once(
    head: &mut [u8],
    at: usize,
    most: usize,
    mut take: impl FnMut(&[u8], Known, Range<usize>, Range<usize>) -> bool,
) -> Option<usize> {
    let took = |head: &[u8], known, name, value| if take(head, known, name, value) { Ok(()) } else { Err(LineFault::Structure) };
    let (end, count) = lines(head, at, (LineEnds::Crlf, most), took).ok()?;
    (controls(&head[at..end]) == 2 * count).then_some(end)
}

/// Reads lines up to the first empty one, whatever the values hold. Returns the end of that line, and the number of line ends.
fn lines<E: From<LineFault>>(
    head: &mut [u8],
    mut at: usize,
    (ends, most): (LineEnds, usize),
    mut take: impl FnMut(&[u8], Known, Range<usize>, Range<usize>) -> Result<(), E>,
) -> Result<(usize, usize), E> {
    let mut count = 0;
    loop {
        match head.get(at..) {
            Some([b'\r', b'\n', ..]) => return Ok((at + 2, count + 1)),
            Some([b'\n', ..]) if ends == LineEnds::LfToo => return Ok((at + 1, count + 1)),
            Some([_, ..]) => {}
            _ => return Err(LineFault::Structure.into()),
        }
        if count == most {
            return Err(LineFault::TooMany.into());
        }
        count += 1;
        let name = read_name(head, at)?;
        let start = name.end + 1;
        let end = start + memchr2(b'\r', b'\n', &head[start..]).ok_or(LineFault::Structure)?;
        let next = match &head[end..] {
            [b'\r', b'\n', ..] => end + 2,
            [b'\n', ..] if ends == LineEnds::LfToo => end + 1,
            _ => return Err(LineFault::Structure.into()),
        };
        let value = trim(head, start..end);
        take(head, Known::of(&head[name.clone()]), name, value)?;
        at = next;
    }
}

/// Reads a name up to its colon.
fn read_name(head: &mut [u8], at: usize) -> Result<Range<usize>, LineFault> {
    for (length, byte) in head[at..].iter_mut().enumerate() {
        let letter = TOKEN[usize::from(*byte)];
        if letter == 0 {
            let is_name = *byte == b':' && (1..=NAME).contains(&length);
            return if is_name { Ok(at..at + length) } else { Err(LineFault::Name) };
        }
        *byte = letter;
    }
    Err(LineFault::Name)
}

/// Returns the range without white space at its ends.
fn trim(head: &[u8], Range { mut start, mut end }: Range<usize>) -> Range<usize> {
    let blank = |byte: u8| matches!(byte, b' ' | b'\t');
    while start < end && blank(head[start]) {
        start += 1;
    }
    while start < end && blank(head[end - 1]) {
        end -= 1;
    }
    start..end
}

#[cfg(test)]
mod tests {
    use http::{HeaderName, HeaderValue};
    use proptest::{collection::vec, prelude::*, sample::select};

    use super::*;

    type Lines = Vec<(String, Vec<u8>)>;

    fn ours(bytes: &[u8], ends: LineEnds, most: usize) -> Result<Lines, LineFault> {
        let (mut head, mut fields) = (bytes.to_vec(), Vec::new());
        let result = read(&mut head, 0, (ends, most), |head, known, name, value| {
            let name = String::from_utf8(head[name].to_vec()).unwrap();
            assert!(known == Known::Other || known.text() == name);
            fields.push((name, head[value].to_vec()));
            Ok::<_, LineFault>(())
        });
        let (mut head, mut at_once) = (bytes.to_vec(), Vec::new());
        let end = read_at_once(&mut head, 0, most, |head, _, name, value| {
            at_once.push((String::from_utf8(head[name].to_vec()).unwrap(), head[value].to_vec()));
            true
        });
        // What is read at once is what is read line by line.
        if end == Some(bytes.len()) {
            assert_eq!((&result, &at_once), (&Ok(()), &fields));
        }
        let usual = bytes.iter().filter(|byte| byte.is_ascii_control()).count()
            == 2 * bytes.windows(2).filter(|two| two == b"\r\n").count();
        assert!(end == Some(bytes.len()) || result.is_err() || !usual, "a usual head is read at once");
        result.map(|()| fields)
    }

    /// Reads the lines with `httparse` and the types of `http`, as a reference.
    fn reference(bytes: &[u8], most: usize) -> Option<Lines> {
        let mut fields = vec![httparse::EMPTY_HEADER; most];
        let Ok(httparse::Status::Complete((end, fields))) = httparse::parse_headers(bytes, &mut fields) else { return None };
        let field = |field: &httparse::Header<'_>| {
            let name = HeaderName::from_bytes(field.name.as_bytes()).ok()?;
            Some((name.to_string(), HeaderValue::from_bytes(field.value).ok()?.as_bytes().to_vec()))
        };
        (end == bytes.len()).then(|| fields.iter().map(field).collect())?
    }

    /// Returns pieces of which nearly right and quite wrong lines are made.
    fn piece() -> impl Strategy<Value = Vec<u8>> {
        let known = select(vec![
            "Host",
            "content-LENGTH",
            "x-a",
            "X_b",
            "te",
            ":",
            ": ",
            ":\t",
            " ",
            "\t",
            "\r\n",
            "\r\n",
            "\n",
            "\r",
            "\0",
            "\x7f",
            "\u{e9}",
            "a",
            "5",
            "a, b",
            "\"q\"",
            "(",
            "/",
            "{",
            "\x0b",
            "'",
            "|~",
            "=",
            "[",
        ]);
        prop_oneof![
            8 => known.prop_map(|text| text.as_bytes().to_vec()),
            6 => ("[a-zA-Z0-9-]{1,9}", "[ -~\t]{0,40}").prop_map(|(name, value)| format!("{name}: {value}\r\n").into_bytes()),
            1 => vec(any::<u8>(), 0..3),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(20_000))]

        #[test]
        fn the_lines_are_those_of_httparse(pieces in vec(piece(), 0..12), ended in any::<bool>()) {
            let mut bytes = pieces.concat();
            if ended {
                bytes.extend_from_slice(b"\r\n");
            }
            let expected = reference(&bytes, 8);
            prop_assert_eq!(&ours(&bytes, LineEnds::LfToo, 8).ok(), &expected);
            let bare = bytes.iter().enumerate().any(|(at, byte)| *byte == b'\n' && (at == 0 || bytes[at - 1] != b'\r'));
            prop_assert_eq!(ours(&bytes, LineEnds::Crlf, 8).ok(), expected.filter(|_| !bare));
        }
    }

    #[test]
    fn the_first_fault_is_told() {
        for (text, fault) in [
            ("a: b\r\n", LineFault::Structure),
            ("a: b\r\n\r\nc", LineFault::Structure),
            ("a: b\n\r\n", LineFault::Structure),
            ("a: b\rc\r\n\r\n", LineFault::Structure),
            ("a : b\r\n\r\n", LineFault::Name),
            (" a: b\r\n\r\n", LineFault::Name),
            (": b\r\n\r\n", LineFault::Name),
            ("a: \x01\r\nb : c\r\n\r\n", LineFault::Value),
            ("b : c\r\na: \x01\r\n\r\n", LineFault::Name),
            ("a: 1\r\nb: 2\r\nc: 3\r\nd : 4\r\n\r\n", LineFault::TooMany),
        ] {
            assert_eq!(ours(text.as_bytes(), LineEnds::Crlf, 3), Err(fault), "{text:?}");
        }
        let long = format!("{}: b\r\n\r\n", "a".repeat(NAME + 1));
        assert_eq!(ours(long.as_bytes(), LineEnds::Crlf, 3), Err(LineFault::Name));
        assert!(ours(&long.as_bytes()[1..], LineEnds::Crlf, 3).is_ok());
    }
}
