//! Paths as read by a case-insensitive upstream.

use std::fmt::Write as _;

/// Returns the path in lower case, for ASCII and all other letters as far as Unicode defines it. Remaining characters beyond
/// ASCII are escaped.
///
/// Some letters beyond ASCII become ASCII ones: `K` (the Kelvin sign) becomes `k`, and `ſ` becomes `s`.
pub(super) fn fold(path: &str) -> String {
    let mut path = path.to_owned();
    path.make_ascii_lowercase();
    if path.is_ascii() && escape_beyond_ascii(&path).is_none() {
        return path;
    }
    let mut bytes = Vec::with_capacity(path.len());
    let mut rest = path.as_str();
    while let Some((at, byte)) = escape_beyond_ascii(rest) {
        bytes.extend_from_slice(&rest.as_bytes()[..at]);
        bytes.push(byte);
        rest = &rest[at + 3..];
    }
    bytes.extend_from_slice(rest.as_bytes());
    let mut folded = String::with_capacity(path.len());
    for letter in String::from_utf8_lossy(&bytes).chars() {
        // A letter that only some upper case letter leads back to is that letter's small one.
        for letter in letter.to_uppercase().flat_map(char::to_lowercase) {
            if letter.is_ascii() {
                folded.push(letter);
            } else {
                for byte in letter.encode_utf8(&mut [0; 4]).bytes() {
                    // Writing to a string cannot fail.
                    let _ = write!(folded, "%{byte:02x}");
                }
            }
        }
    }
    folded
}

/// Returns the first escape of a byte beyond ASCII, and the byte.
fn escape_beyond_ascii(path: &str) -> Option<(usize, u8)> {
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    path.as_bytes().windows(3).enumerate().find_map(|(at, window)| {
        let byte = (digit(window[1])? << 4) | digit(window[2])?;
        (window[0] == b'%' && !byte.is_ascii()).then_some((at, byte))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn letters_know_no_case() {
        for (path, expected) in [
            ("/", "/"),
            ("/Orders/ARCHIVE", "/orders/archive"),
            ("/a%20B%3F", "/a%20b%3f"),
            ("/caf%C3%89", "/caf%c3%a9"),
            ("/caf%C3%A9", "/caf%c3%a9"),
            ("/CAF\u{C9}", "/caf%c3%a9"),
            ("/%E2%84%AAeys", "/keys"),
            ("/u%C5%BFers", "/users"),
            ("/%E6%97%A5", "/%e6%97%a5"),
            // No UTF-8, and no escape.
            ("/%E9a", "/%ef%bf%bda"),
            ("/100%", "/100%"),
            ("/%C3", "/%ef%bf%bd"),
        ] {
            assert_eq!(fold(path), expected, "{path}");
        }
    }
}
