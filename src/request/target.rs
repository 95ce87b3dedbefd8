//! The request target: one reading of it, or none.

/// Path and query of a request, in the one form that is both matched and sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// The path, starting with `/`: unreserved characters decoded, other escapes in upper case.
    pub path: Box<str>,
    /// The query without its `?`, as it came.
    pub query: Option<Box<str>>,
}
