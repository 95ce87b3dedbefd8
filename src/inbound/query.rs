//! The query of the upstream's request: names are read as lenient backends would, values are escaped.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, percent_encode};

/// Characters that are not escaped within a name or a value (RFC 3986, section 2.3).
const VALUE: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// Returns the parameters of a query, as received.
pub(super) fn pairs(query: &str) -> impl Iterator<Item = &str> {
    query.split('&').filter(|pair| !pair.is_empty())
}

/// Returns the name of a parameter, form-decoded.
pub(super) fn name(pair: &str) -> Box<[u8]> {
    let name = pair.split('=').next().unwrap_or_default().replace('+', " ");
    percent_decode_str(&name).collect::<Vec<u8>>().into()
}

/// Returns whether a reader could take some part of the parameter for the one of this name: including one that cuts at `;`, as
/// forms once were, and one that ignores case.
pub(super) fn could_be(pair: &str, wanted: &[u8]) -> bool {
    pair.split(';').any(|part| name(part).eq_ignore_ascii_case(wanted))
}

/// Adds a pair unchanged.
pub(super) fn push(query: &mut String, pair: &str) {
    if !query.is_empty() {
        query.push('&');
    }
    query.push_str(pair);
}

/// Escapes the bytes for a name or value of a query.
pub(super) fn escaped(bytes: &[u8]) -> impl Iterator<Item = &str> {
    percent_encode(bytes, VALUE)
}
