//! The head of a request to an upstream.

use bytestring::ByteString;
use http::Method;

use crate::base::fields::Fields;

/// The request to the upstream, built anew from the forwardable parts of the incoming one.
#[derive(Clone, Debug, Default)]
pub struct UpstreamRequest {
    /// The method.
    pub method: Method,
    /// The path, starting with `/`.
    pub path: ByteString,
    /// The query without its `?`.
    pub query: Option<ByteString>,
    /// The header fields, without `Host` and framing.
    pub headers: Fields,
}
