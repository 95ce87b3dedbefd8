//! UTF-8 as lenient decoders read it: RFC 3629, section 10.

/// Returns whether a lenient decoder reads an ASCII character from several bytes: `.`, `/`, or a letter of a guarded name.
///
/// `C0 AE` is `.` to decoders that do not require the shortest form, and `C0 EE` to those that do not check the continuation bytes.
/// `C0` and `C1` never occur in valid UTF-8.
pub(super) fn holds_ascii(bytes: &[u8]) -> bool {
    bytes.iter().enumerate().any(|(at, first)| match first {
        0xC0 | 0xC1 => true,
        _ => masked(&bytes[at..]).is_some_and(|(value, _)| value < 0x80),
    })
}

/// Decodes as a lenient decoder does: overlong forms, and a pair of surrogates for a character (CESU-8). Other invalid bytes become
/// replacement characters.
pub(super) fn decode(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    let mut rest = bytes;
    while !rest.is_empty() {
        let valid = match std::str::from_utf8(rest) {
            Ok(_) => rest.len(),
            Err(error) => error.valid_up_to(),
        };
        text.push_str(&String::from_utf8_lossy(&rest[..valid]));
        rest = &rest[valid..];
        if !rest.is_empty() {
            let (letter, length) = letter(rest);
            text.push(letter.unwrap_or(char::REPLACEMENT_CHARACTER));
            rest = &rest[length..];
        }
    }
    text
}

/// Returns the character at the front of bytes that are not UTF-8, and its length.
fn letter(bytes: &[u8]) -> (Option<char>, usize) {
    let sequence = |bytes: &[u8]| masked(bytes).filter(|(_, length)| bytes[1..*length].iter().all(|byte| byte & 0xC0 == 0x80));
    let Some((value, length)) = sequence(bytes) else { return (None, 1) };
    if let (0xD800..=0xDBFF, Some((low @ 0xDC00..=0xDFFF, more))) = (value, sequence(&bytes[length..])) {
        return (char::from_u32(0x1_0000 + ((value - 0xD800) << 10) + (low - 0xDC00)), length + more);
    }
    (char::from_u32(value), length)
}

/// Returns the value of a sequence and its length, by its first byte. The following bytes are masked, not checked.
fn masked(bytes: &[u8]) -> Option<(u32, usize)> {
    let first = *bytes.first()?;
    let length = match first {
        0xC0..=0xDF => 2,
        0xE0..=0xEF => 3,
        0xF0..=0xF7 => 4,
        0xF8..=0xFB => 5,
        0xFC..=0xFD => 6,
        _ => return None,
    };
    let value = u32::from(first & (0x7F >> length));
    let value = bytes.get(1..length)?.iter().fold(value, |value, byte| value << 6 | u32::from(byte & 0x3F));
    Some((value, length))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn valid_text_holds_no_hidden_ascii_and_reads_as_itself() {
        let letters: String = ('\u{80}'..='\u{FFFF}').step_by(7).chain('\u{10000}'..='\u{10FFFF}').step_by(1_009).collect();

        assert!(!holds_ascii(letters.as_bytes()));
        assert_eq!(decode(letters.as_bytes()), letters);
    }

    #[test]
    fn what_is_too_long_is_read_as_careless_decoders_do() {
        for (bytes, expected) in [
            (&b"\xE0\x83\xA9"[..], "\u{E9}"),
            (b"a\xF0\x80\x83\xA9b", "a\u{E9}b"),
            (b"\xF8\x80\x80\x83\xA9", "\u{E9}"),
            (b"\xED\xA0\xB5\xED\xB0\x9A", "\u{1D41A}"),
            (b"\xED\xA0\xB5", "\u{FFFD}"),
            (b"caf\xE9", "caf\u{FFFD}"),
            (b"\xE9/x", "\u{FFFD}/x"),
            (b"\x80\xFF", "\u{FFFD}\u{FFFD}"),
        ] {
            assert_eq!(decode(bytes), expected, "{bytes:?}");
        }
    }
}
