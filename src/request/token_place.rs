//! The places of tokens in a request.

use std::borrow::Cow;

use http::{HeaderName, header};
use percent_encoding::percent_decode_str;

use crate::{
    base::fields::{Fields, Value},
    request::IncomingRequest,
};

/// The schemes of tokens in `Authorization`: RFC 6750, and the one that Microsoft's clients use for a certificate-bound token.
/// Only the token itself tells whether it is bound.
pub(crate) const TOKEN_SCHEMES: [&str; 2] = ["Bearer", "mtls_pop"];

/// A place where a token policy looks for a token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TokenPlace {
    /// A header field.
    Header(HeaderName),
    /// A query parameter.
    Query(Box<str>),
}

/// Why a place does not hold one token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PlaceError {
    /// There are several.
    #[error("one place of the request holds two tokens")]
    Ambiguous,
    /// There is room for one, and it is empty.
    #[error("the token's place holds no token")]
    NoToken,
}

impl TokenPlace {
    /// Reads the token in this place, without its scheme. This is the only reading: the bytes that a policy judges are those that are
    /// forwarded or exchanged.
    ///
    /// # Errors
    /// Fails if there is more than one, or an empty one.
    pub(crate) fn read<'a>(&self, incoming: &'a IncomingRequest) -> Result<Option<Cow<'a, [u8]>>, PlaceError> {
        match self {
            Self::Header(name) => in_header(&incoming.headers, name),
            Self::Query(name) => in_query(incoming.target.query.as_deref().unwrap_or_default(), name),
        }
    }
}

/// Returns whether a header field holds a token.
///
/// # Errors
/// Fails as [`TokenPlace::read`].
pub(crate) fn place_in(name: &HeaderName, headers: &Fields) -> Result<bool, PlaceError> {
    in_header(headers, name).map(|found| found.is_some())
}

/// Reads the token of a header field. `Authorization` needs a scheme of [`TOKEN_SCHEMES`], and contains no token with another one
/// (RFC 9110, section 11.6.2). Other fields contain the token with or without the scheme.
fn in_header<'a>(headers: &'a Fields, name: &HeaderName) -> Result<Option<Cow<'a, [u8]>>, PlaceError> {
    let mut values = headers.get_all(name);
    let Some(value) = values.next().map(Value::as_bytes) else { return Ok(None) };
    // RFC 9110, section 5.3: a comma joins two lines of one field. No token and no scheme holds one; credentials of other schemes do
    // (`Digest`, `AWS4-HMAC-SHA256`).
    if values.next().is_some() {
        return Err(PlaceError::Ambiguous);
    }
    if memchr::memchr(b',', value).is_some() {
        let ours = value.split(|byte| *byte == b',').any(|part| strip_scheme(part.trim_ascii_start()).is_some());
        return if ours || name != header::AUTHORIZATION { Err(PlaceError::Ambiguous) } else { Ok(None) };
    }
    match (strip_scheme(value), name == header::AUTHORIZATION) {
        (Some([]), _) => Err(PlaceError::NoToken),
        (Some(token), _) => Ok(Some(token.into())),
        (None, true) => Ok(None),
        (None, false) if value.is_empty() => Ok(None),
        (None, false) => Ok(Some(value.into())),
    }
}

/// Returns the rest of a value after a scheme of [`TOKEN_SCHEMES`]: compared without case, with one space or more (RFC 9110,
/// section 11.4).
fn strip_scheme(value: &[u8]) -> Option<&[u8]> {
    let end = value.iter().position(|byte| *byte == b' ').unwrap_or(value.len());
    let (scheme, rest) = value.split_at(end);
    let ours = TOKEN_SCHEMES.iter().any(|ours| scheme.eq_ignore_ascii_case(ours.as_bytes()));
    ours.then(|| rest.trim_ascii_start())
}

fn in_query<'a>(query: &'a str, name: &str) -> Result<Option<Cow<'a, [u8]>>, PlaceError> {
    let mut found = None;
    for pair in query.split('&') {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        if !percent_decode_str(key).eq(name.bytes()) {
            continue;
        }
        if found.is_some() {
            return Err(PlaceError::Ambiguous);
        }
        found = Some(Cow::from(percent_decode_str(value)));
    }
    match found {
        Some(token) if token.is_empty() => Err(PlaceError::NoToken),
        found => Ok(found),
    }
}
