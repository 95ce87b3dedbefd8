//! Header fields of informational responses.

use http::{HeaderName, header};

/// Returns whether a field is never forwarded with an informational response: it is about one connection, or about a body, and
/// there is none.
pub(super) fn stays_behind(name: &HeaderName) -> bool {
    [header::CONNECTION, header::CONTENT_LENGTH, header::TE, header::TRAILER, header::TRANSFER_ENCODING, header::UPGRADE]
        .contains(name)
        || name == "keep-alive"
        || name == "proxy-connection"
}
