//! Scripts, which servers know by the digest of their text.

use std::fmt::Write as _;

use aws_lc_rs::digest;

/// A script on one key. Its text is fixed: servers keep every text that they have ever seen.
#[derive(Debug)]
pub struct Script {
    text: &'static str,
    /// SHA-1 in hexadecimal, by which a server finds the script: no secret and no proof.
    digest: Box<str>,
}

impl Script {
    /// Makes a script of this text.
    pub fn new(text: &'static str) -> Self {
        let mut hexadecimal = String::with_capacity(40);
        for byte in digest::digest(&digest::SHA1_FOR_LEGACY_USE_ONLY, text.as_bytes()).as_ref() {
            // Writing to a string cannot fail.
            let _ = write!(hexadecimal, "{byte:02x}");
        }
        Self { text, digest: hexadecimal.into() }
    }

    /// Returns the text.
    pub const fn text(&self) -> &'static str {
        self.text
    }

    /// Returns the digest, in hexadecimal.
    pub const fn digest(&self) -> &str {
        &self.digest
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digests_are_those_of_servers() {
        // As `SCRIPT LOAD "return 1"` answers.
        assert_eq!(Script::new("return 1").digest(), "e0e1f9fabfc9d4800c877a703b823ac0578ff8db");
    }
}
