//! The value of a field.

use std::fmt;

use http::HeaderValue;

/// The value of a field, without white space around it. `Debug` does not show it if it is sensitive.
#[derive(Clone, Copy)]
pub struct Value<'a> {
    pub(super) bytes: &'a [u8],
    pub(super) sensitive: bool,
}

/// An error: a value has other letters than visible ASCII, blanks and tabs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the value of the field has letters beyond ASCII")]
pub struct NotAscii;

impl<'a> Value<'a> {
    /// Makes a value of visible ASCII letters, which the caller has made or checked itself: with others the line would end elsewhere.
    pub fn visible(bytes: &'a [u8]) -> Self {
        debug_assert!(bytes.iter().all(u8::is_ascii_graphic), "only visible letters make a value");
        Self { bytes, sensitive: false }
    }

    /// Returns the bytes.
    pub const fn as_bytes(self) -> &'a [u8] {
        self.bytes
    }

    /// Returns the value as a text.
    ///
    /// # Errors
    /// Fails if it has letters beyond ASCII.
    pub fn to_str(self) -> Result<&'a str, NotAscii> {
        if !self.bytes.is_ascii() {
            return Err(NotAscii);
        }
        std::str::from_utf8(self.bytes).map_err(|_| NotAscii)
    }

    /// Returns the number of bytes.
    pub const fn len(self) -> usize {
        self.bytes.len()
    }

    /// Returns whether it is empty.
    pub const fn is_empty(self) -> bool {
        self.bytes.is_empty()
    }

    /// Returns whether it is a secret, which is not shown, nor put into a compression table.
    pub const fn is_sensitive(self) -> bool {
        self.sensitive
    }

    /// Returns the same value as a secret.
    #[must_use]
    pub const fn secret(self) -> Self {
        Self { sensitive: true, ..self }
    }

    /// Returns the value as `http` has it.
    pub fn to_header_value(self) -> HeaderValue {
        let mut value = HeaderValue::from_bytes(self.bytes).expect("a value was checked when it was read");
        value.set_sensitive(self.sensitive);
        value
    }
}

impl<'a> From<&'a HeaderValue> for Value<'a> {
    fn from(value: &'a HeaderValue) -> Self {
        Self { bytes: value.as_bytes(), sensitive: value.is_sensitive() }
    }
}

impl AsRef<[u8]> for Value<'_> {
    fn as_ref(&self) -> &[u8] {
        self.bytes
    }
}

impl PartialEq for Value<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.bytes == other.bytes
    }
}

impl Eq for Value<'_> {}

impl PartialEq<HeaderValue> for Value<'_> {
    fn eq(&self, other: &HeaderValue) -> bool {
        self.bytes == other.as_bytes()
    }
}

impl PartialEq<str> for Value<'_> {
    fn eq(&self, other: &str) -> bool {
        self.bytes == other.as_bytes()
    }
}

impl PartialEq<&str> for Value<'_> {
    fn eq(&self, other: &&str) -> bool {
        self.bytes == other.as_bytes()
    }
}

impl fmt::Debug for Value<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.sensitive { f.write_str("Sensitive") } else { write!(f, "\"{}\"", self.bytes.escape_ascii()) }
    }
}
