//! Text files as editors and shells write them: with a byte order mark, in UTF-16, with a line end behind the last word.

use std::borrow::Cow;

use zeroize::Zeroizing;

/// The reason why the content of a file is rejected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TextFault {
    /// UTF-16 without a byte order mark.
    #[error("it is UTF-16 text without a byte order mark")]
    UnmarkedUtf16,
    /// UTF-16 with an incomplete character.
    #[error("it is damaged UTF-16 text")]
    BrokenUtf16,
    /// No text, or text in another encoding.
    #[error("it is not UTF-8 text")]
    NotUtf8,
    /// An empty file.
    #[error("it is empty")]
    Empty,
    /// A blank at the end, which editors do not show.
    #[error("it ends with a space")]
    TrailingBlank,
    /// A NUL character.
    #[error("it contains a NUL character")]
    Nul,
}

impl TextFault {
    /// Returns the cure.
    pub const fn cure(self) -> &'static str {
        match self {
            Self::UnmarkedUtf16 | Self::BrokenUtf16 | Self::NotUtf8 | Self::Nul => {
                "save it as UTF-8, in PowerShell with `Set-Content -Encoding utf8 -NoNewline`"
            }
            Self::Empty => "write the secret into it",
            Self::TrailingBlank => {
                "remove the blank, which `echo secret > file` leaves on Windows; a value that ends with a blank goes under `value` with `secret: true`"
            }
        }
    }
}

/// Decodes the text of a file: UTF-8 with or without a byte order mark, or UTF-16 with one.
///
/// # Errors
/// It is neither.
pub fn decode(bytes: &[u8]) -> Result<Cow<'_, str>, TextFault> {
    let utf16 = |bytes: &[u8], unit: fn([u8; 2]) -> u16| {
        let (pairs, rest) = bytes.as_chunks::<2>();
        let units: Zeroizing<Vec<u16>> = Zeroizing::new(pairs.iter().map(|pair| unit(*pair)).collect());
        let text = String::from_utf16(&units).map_err(|_| TextFault::BrokenUtf16)?;
        if rest.is_empty() { Ok(Cow::Owned(text)) } else { Err(TextFault::BrokenUtf16) }
    };
    match bytes {
        [0xef, 0xbb, 0xbf, rest @ ..] => str::from_utf8(rest).map(Cow::Borrowed).map_err(|_| TextFault::NotUtf8),
        [0xff, 0xfe, rest @ ..] => utf16(rest, u16::from_le_bytes),
        [0xfe, 0xff, rest @ ..] => utf16(rest, u16::from_be_bytes),
        bytes if is_unmarked_utf16(bytes) => Err(TextFault::UnmarkedUtf16),
        bytes => str::from_utf8(bytes).map(Cow::Borrowed).map_err(|_| TextFault::NotUtf8),
    }
}

/// Returns the secret in a file, without the line end that editors and `echo` append.
///
/// # Errors
/// The file is not text, is empty, or ends with a blank.
pub fn secret(bytes: &[u8]) -> Result<Zeroizing<String>, TextFault> {
    let text = Zeroizing::new(decode(bytes)?.into_owned());
    let secret = text.trim_end_matches(['\n', '\r']);
    if secret.contains('\0') {
        return Err(TextFault::Nul);
    }
    if secret.trim().is_empty() {
        return Err(TextFault::Empty);
    }
    if secret.ends_with(|letter: char| letter.is_whitespace() || letter == '\u{feff}') {
        return Err(TextFault::TrailingBlank);
    }
    Ok(Zeroizing::new(secret.to_owned()))
}

/// Returns whether every other byte is zero, as in Latin text in UTF-16.
fn is_unmarked_utf16(bytes: &[u8]) -> bool {
    let (pairs, _) = bytes.as_chunks::<2>();
    let most = |zero: usize| pairs.iter().filter(|pair| pair[zero] == 0 && pair[1 - zero] != 0).count() * 4 >= pairs.len() * 3;
    !pairs.is_empty() && (most(0) || most(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn utf16(text: &str, mark: bool, unit: fn(u16) -> [u8; 2]) -> Vec<u8> {
        let mark = if mark { "\u{feff}" } else { "" };
        format!("{mark}{text}").encode_utf16().flat_map(unit).collect()
    }

    #[test]
    fn reads_secrets_as_windows_writes_them_or_says_what_is_wrong() {
        for (name, bytes, expected) in [
            ("plain", b"S~cret.1".to_vec(), Ok("S~cret.1")),
            ("line end", b"S~cret.1\n".to_vec(), Ok("S~cret.1")),
            ("Windows line end", b"S~cret.1\r\n".to_vec(), Ok("S~cret.1")),
            ("several line ends", b"S~cret.1\r\n\r\n".to_vec(), Ok("S~cret.1")),
            ("old line end", b"S~cret.1\r".to_vec(), Ok("S~cret.1")),
            ("byte order mark", b"\xef\xbb\xbfS~cret.1\r\n".to_vec(), Ok("S~cret.1")),
            ("UTF-16, little end first", utf16("S~cret.1\r\n", true, u16::to_le_bytes), Ok("S~cret.1")),
            ("UTF-16, big end first", utf16("S~cret.1\r\n", true, u16::to_be_bytes), Ok("S~cret.1")),
            ("blanks within", b" pass word\r\n".to_vec(), Ok(" pass word")),
            ("letters of the world", "pässwörd-€".as_bytes().to_vec(), Ok("pässwörd-€")),
            ("several lines", b"one\r\ntwo\r\n".to_vec(), Ok("one\r\ntwo")),
            ("UTF-16 without a mark", utf16("S~cret.1", false, u16::to_le_bytes), Err(TextFault::UnmarkedUtf16)),
            ("UTF-16BE without a mark", utf16("S~cret.1", false, u16::to_be_bytes), Err(TextFault::UnmarkedUtf16)),
            ("UTF-16 cut off", utf16("S~cret.1", true, u16::to_le_bytes)[..7].to_vec(), Err(TextFault::BrokenUtf16)),
            ("half a character", vec![0xff, 0xfe, 0x00, 0xd8], Err(TextFault::BrokenUtf16)),
            ("Windows-1252", b"p\xe4ssword".to_vec(), Err(TextFault::NotUtf8)),
            ("trailing blank", b"S~cret.1 \r\n".to_vec(), Err(TextFault::TrailingBlank)),
            ("trailing tab", b"S~cret.1\t".to_vec(), Err(TextFault::TrailingBlank)),
            ("a blank that does not break", "S~cret.1\u{a0}\n".as_bytes().to_vec(), Err(TextFault::TrailingBlank)),
            ("a blank line behind", b"S~cret.1\r\n \r\n".to_vec(), Err(TextFault::TrailingBlank)),
            ("empty", Vec::new(), Err(TextFault::Empty)),
            ("a line end alone", b"\r\n".to_vec(), Err(TextFault::Empty)),
            ("a mark alone", b"\xef\xbb\xbf".to_vec(), Err(TextFault::Empty)),
            ("a UTF-16 mark alone", vec![0xff, 0xfe], Err(TextFault::Empty)),
            ("blanks alone", b"  \r\n".to_vec(), Err(TextFault::Empty)),
            ("NUL", b"S~cret\x00.1".to_vec(), Err(TextFault::Nul)),
        ] {
            let read = secret(&bytes);

            assert_eq!(read.as_ref().map(|secret| secret.as_str()).map_err(|fault| *fault), expected, "{name}");
            assert!(read.err().is_none_or(|fault| !fault.cure().is_empty()), "{name}");
        }
    }
}
