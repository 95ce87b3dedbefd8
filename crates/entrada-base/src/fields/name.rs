//! The name of a field.

use std::fmt;

use http::HeaderName;

use super::known::Known;

/// The name of a field, in lower case.
#[derive(Clone, Copy)]
pub struct Name<'a> {
    pub(super) known: Known,
    pub(super) bytes: &'a [u8],
}

impl<'a> Name<'a> {
    /// Returns the name's number, if some rule speaks of it.
    pub const fn known(self) -> Known {
        self.known
    }

    /// Returns the letters.
    pub const fn as_bytes(self) -> &'a [u8] {
        self.bytes
    }

    /// Returns the name as a text.
    pub fn as_str(self) -> &'a str {
        // A name is a token, and a token is ASCII.
        std::str::from_utf8(self.bytes).unwrap_or_default()
    }

    /// Returns the name as `http` has it.
    pub fn to_header_name(self) -> HeaderName {
        match self.known.header_name() {
            Some(name) => name.clone(),
            None => HeaderName::from_bytes(self.bytes).expect("a name was a token when it was read"),
        }
    }
}

impl<'a> From<&'a HeaderName> for Name<'a> {
    fn from(name: &'a HeaderName) -> Self {
        let bytes = name.as_str().as_bytes();
        Self { known: Known::of(bytes), bytes }
    }
}

impl From<Known> for Name<'static> {
    fn from(known: Known) -> Self {
        Self { known, bytes: known.text().as_bytes() }
    }
}

impl From<Known> for HeaderName {
    /// # Panics
    /// Panics for [`Known::Other`], which is no name.
    fn from(known: Known) -> Self {
        known.header_name().expect("`Other` is no name").clone()
    }
}

impl PartialEq for Name<'_> {
    fn eq(&self, other: &Self) -> bool {
        // Names with a number are the same if that is; the letters of the others are compared.
        self.known == other.known && (self.known != Known::Other || self.bytes == other.bytes)
    }
}

impl Eq for Name<'_> {}

impl PartialEq<HeaderName> for Name<'_> {
    fn eq(&self, other: &HeaderName) -> bool {
        self.bytes == other.as_str().as_bytes()
    }
}

impl PartialEq<Known> for Name<'_> {
    fn eq(&self, other: &Known) -> bool {
        self.known == *other
    }
}

impl PartialEq<str> for Name<'_> {
    fn eq(&self, other: &str) -> bool {
        self.bytes == other.as_bytes()
    }
}

impl fmt::Debug for Name<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

impl fmt::Display for Name<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A name by which fields are looked up.
pub trait FieldName {
    /// Returns whether a field has this name.
    fn names(&self, field: Name<'_>) -> bool;

    /// Returns the name's number, where it is had for nothing.
    fn known(&self) -> Option<Known> {
        None
    }
}

impl FieldName for Name<'_> {
    fn names(&self, field: Name<'_>) -> bool {
        field == *self
    }

    fn known(&self) -> Option<Known> {
        Some(self.known).filter(|known| *known != Known::Other)
    }
}

impl FieldName for Known {
    fn names(&self, field: Name<'_>) -> bool {
        field.known == *self
    }

    fn known(&self) -> Option<Known> {
        Some(*self)
    }
}

impl FieldName for HeaderName {
    fn names(&self, field: Name<'_>) -> bool {
        field == *self
    }
}

impl FieldName for &HeaderName {
    fn names(&self, field: Name<'_>) -> bool {
        field == **self
    }
}

/// A text names a field in any case.
impl FieldName for &str {
    fn names(&self, field: Name<'_>) -> bool {
        field.bytes.eq_ignore_ascii_case(self.as_bytes())
    }
}
