//! Thumbprints of certificates, as people write them.

use super::ClientCertificate;

/// The SHA-1 or the SHA-256 of a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Thumbprint {
    /// SHA-1, as API Management and portals show it. It serves as a name: a forged certificate with the same digest would need a
    /// second preimage.
    Sha1([u8; 20]),
    /// SHA-256.
    Sha256([u8; 32]),
}

/// The reason why a text is not a thumbprint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ThumbprintFault {
    /// A character that is not a hexadecimal digit.
    #[error("it holds {0:?}, which is not a hexadecimal digit")]
    Digit(char),
    /// A wrong length.
    #[error("it has {0} hexadecimal digits; SHA-1 has 40, SHA-256 has 64")]
    Length(usize),
}

impl Thumbprint {
    /// Reads hexadecimal digits in either case, with colons or spaces between them as OpenSSL and Windows write them.
    ///
    /// # Errors
    /// Returns the fault of the text.
    pub fn parse(text: &str) -> Result<Self, ThumbprintFault> {
        let digits = digits(text)?;
        let bytes: Vec<u8> = digits.chunks_exact(2).map(|pair| pair[0] << 4 | pair[1]).collect();
        match digits.len() {
            40 => bytes.try_into().map(Self::Sha1).map_err(|_| ThumbprintFault::Length(40)),
            64 => bytes.try_into().map(Self::Sha256).map_err(|_| ThumbprintFault::Length(64)),
            length => Err(ThumbprintFault::Length(length)),
        }
    }

    /// Returns whether it is the thumbprint of this certificate.
    pub fn is_of(&self, certificate: &ClientCertificate) -> bool {
        match self {
            Self::Sha1(sha1) => *sha1 == certificate.sha1,
            Self::Sha256(sha256) => *sha256 == certificate.sha256,
        }
    }

    /// Returns whether it is the thumbprint of a certificate with these digests.
    pub(super) fn is(&self, sha1: &[u8; 20], sha256: &[u8; 32]) -> bool {
        match self {
            Self::Sha1(own) => own == sha1,
            Self::Sha256(own) => own == sha256,
        }
    }
}

/// Returns the values of hexadecimal digits, without the separators between them.
fn digits(text: &str) -> Result<Vec<u8>, ThumbprintFault> {
    let digit = |digit: char| match digit.to_digit(16) {
        // Never more than 15.
        Some(value) => Ok(value as u8),
        // A mark that nobody sees comes along where a thumbprint is copied from Windows' certificate dialogue.
        None => Err(ThumbprintFault::Digit(digit)),
    };
    text.chars().filter(|letter| !matches!(letter, ':' | ' ')).map(digit).collect()
}

/// Converts a serial number as people write it to its canonical form: hexadecimal, upper case, without separators and leading
/// zeros.
pub fn serial(text: &str) -> Result<Box<str>, ThumbprintFault> {
    let digits = digits(text)?;
    if digits.is_empty() {
        return Err(ThumbprintFault::Length(0));
    }
    let text: String = digits.iter().map(|digit| char::from(b"0123456789ABCDEF"[usize::from(*digit)])).collect();
    let number = text.trim_start_matches('0');
    Ok(if number.is_empty() { "0".into() } else { number.into() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_openssl_windows_and_portals_show() {
        let sha1 = Thumbprint::Sha1([0xAB; 20]);
        let sha256 = Thumbprint::Sha256([0x0C; 32]);

        for (text, expected) in [
            ("ABABABABABABABABABABABABABABABABABABABAB".to_owned(), Ok(sha1)),
            ("abababababababababababababababababababab".to_owned(), Ok(sha1)),
            (["AB"; 20].join(":"), Ok(sha1)),
            (["ab"; 20].join(" "), Ok(sha1)),
            ("0c".repeat(32), Ok(sha256)),
            (["0C"; 32].join(":"), Ok(sha256)),
            ("0c".repeat(31), Err(ThumbprintFault::Length(62))),
            (String::new(), Err(ThumbprintFault::Length(0))),
            (format!("\u{200E}{}", "0c".repeat(32)), Err(ThumbprintFault::Digit('\u{200E}'))),
            ("0x".repeat(20), Err(ThumbprintFault::Digit('x'))),
        ] {
            assert_eq!(Thumbprint::parse(&text), expected, "{text}");
        }
    }

    #[test]
    fn serial_numbers_have_one_form() {
        for (text, expected) in [("00:a1:0F", "A10F"), ("a10f", "A10F"), ("0", "0"), ("00", "0")] {
            assert_eq!(serial(text).as_deref(), Ok(expected), "{text}");
        }
        assert_eq!(serial(""), Err(ThumbprintFault::Length(0)));
        assert_eq!(serial("12g"), Err(ThumbprintFault::Digit('g')));
    }
}
