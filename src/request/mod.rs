//! The request as it came: parsed once, strictly, and never changed.

use http::{HeaderMap, Method, Version};

pub mod target;

pub use target::Target;

/// A request's head, read once. Decisions are made on it, and the upstream's request is built from it.
#[derive(Debug)]
pub struct IncomingRequest {
    /// The method; never TRACE, TRACK or CONNECT.
    pub method: Method,
    /// Whether the request came over TLS.
    pub scheme: Scheme,
    /// Host and port that the request is for.
    pub authority: Authority,
    /// Path and query.
    pub target: Target,
    /// The protocol version that the caller spoke.
    pub version: Version,
    /// The header fields as they came.
    pub headers: HeaderMap,
}

/// `http` or `https`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scheme {
    /// Without TLS.
    Http,
    /// With TLS.
    Https,
}

/// Host and port, from `Host` or `:authority`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Authority {
    /// The host: lower case, without a trailing dot; IPv6 in brackets.
    pub host: Box<str>,
    /// The port, where one was written.
    pub port: Option<u16>,
}

/// The id of one request: a UUID of version 7, or what a trusted proxy gave.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestId(pub http::HeaderValue);

/// Header names that are spoken for, gathered while the config is built.
#[derive(Debug, Default)]
pub struct ReservedNames {}
