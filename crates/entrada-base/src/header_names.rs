//! Names of header fields that several parts of the gateway write or read, beyond those that `http` has.

use http::HeaderName;

/// The field that carries a request's id.
pub const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
