//! The query of the upstream's request: reading names as careless backends would, writing values that stay values.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, percent_encode};

/// What stays as it is within a name or a value (RFC 3986, section 2.3).
const VALUE: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// The parameters of a query, as they came.
pub(super) fn pairs(query: &str) -> impl Iterator<Item = &str> {
    query.split('&').filter(|pair| !pair.is_empty())
}

/// The name of a parameter, decoded as a form is.
pub(super) fn name(pair: &str) -> Box<[u8]> {
    let name = pair.split('=').next().unwrap_or_default().replace('+', " ");
    percent_decode_str(&name).collect::<Vec<u8>>().into()
}

/// Whether a reader could take some part of the parameter for the one of this name: also one that cuts at `;`, as forms once were,
/// and one that does not tell cases apart.
pub(super) fn could_be(pair: &str, wanted: &[u8]) -> bool {
    pair.split(';').any(|part| name(part).eq_ignore_ascii_case(wanted))
}

/// Adds a pair as it is.
pub(super) fn push(query: &mut String, pair: &str) {
    if !query.is_empty() {
        query.push('&');
    }
    query.push_str(pair);
}

/// The bytes as a name or value of a query, escaped.
pub(super) fn escaped(bytes: &[u8]) -> impl Iterator<Item = &str> {
    percent_encode(bytes, VALUE)
}
