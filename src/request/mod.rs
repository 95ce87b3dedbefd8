//! The incoming request: parsed strictly, once. Once its route is known, headers that may not pass are removed; nothing else
//! changes.
//!
//! Requests that two programs could read differently are refused here or in [`target`]: decisions are made on the typed request,
//! and the upstream's request is built from it.

mod accept;
mod captures;
mod grpc;
mod id;
mod presented;
mod reserved;
pub mod target;
pub(crate) mod token_place;
mod trace_context;

pub(crate) use self::token_place::place_in;
pub use self::token_place::{PlaceError, TokenPlace};
pub use self::{
    accept::AcceptConfig,
    captures::Captures,
    grpc::GrpcStatus,
    presented::{NamedToken, Relayed},
};

use std::mem;

pub(crate) use grpc::{is_grpc, is_grpc_type, timeout as grpc_timeout};
use http::{HeaderName, HeaderValue, Method, Version, request::Parts};
pub use id::RequestId;
pub use reserved::{Claim, Reserved, ReservedNames};
pub(crate) use reserved::{remove_folded, same_folded};
pub(crate) use target::normalised;
pub use target::{Ambiguities, Target, TargetFault};
pub use trace_context::TraceContext;

use crate::{
    base::fields::{Fields, Known, Value},
    connection::Authority,
    connection::Scheme,
    listener::{ReceivedRequest, TlsFacts},
    refusal::{Reason, Refusal},
};

/// The head of an incoming request, parsed once. Decisions are made on it, and the upstream's request is built from it.
#[derive(Clone, Debug)]
pub struct IncomingRequest {
    /// The method; never CONNECT. No route serves TRACE or TRACK.
    pub method: Method,
    /// The scheme: whether the request came over TLS.
    pub scheme: Scheme,
    /// The requested host and port; [absent](Authority::is_absent) where HTTP/1.0 named none.
    pub authority: Authority,
    /// Path and query.
    pub target: Target,
    /// The protocol version that the caller spoke.
    pub version: Version,
    /// The header fields as received.
    pub headers: Fields,
    /// The options of `Connection`.
    pub connection: ConnectionOptions,
}

/// The options of `Connection` (RFC 9110, section 7.6.1).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ConnectionOptions {
    /// The fields that it names, which are not forwarded. Without those that are never forwarded.
    pub nominated: Vec<HeaderName>,
    /// True if it holds `upgrade`.
    pub upgrade: bool,
}

impl IncomingRequest {
    /// Reads the head of a request, received over TLS or not.
    ///
    /// # Errors
    /// Refuses a request that is malformed, contradicts itself, or has a method that is never served.
    pub fn read(parts: Parts, tls: Option<&TlsFacts>) -> Result<Self, Refusal> {
        Self::take(&mut ReceivedRequest::from_parts(parts, ()), tls)
    }

    /// Does the same as [`read`](Self::read) with a request whose body and extensions stay where they are.
    ///
    /// # Errors
    /// Refuses what [`read`](Self::read) refuses.
    pub(crate) fn take<B>(request: &mut ReceivedRequest<B>, tls: Option<&TlsFacts>) -> Result<Self, Refusal> {
        let (method, version) = (mem::take(&mut request.method), request.version);
        let mut headers = mem::take(&mut request.headers);
        let uri = &request.uri;
        let scheme = if tls.is_some() { Scheme::Https } else { Scheme::Http };
        // CONNECT makes a tunnel of the gateway. TRACE, which shows a caller's headers to whoever can make it ask, is no route's.
        if method == Method::CONNECT {
            let mut refusal = Refusal::new(Reason::MethodNotAllowed, HeadFault::Method(method));
            refusal.allow = Some(USUAL_METHODS);
            return Err(refusal);
        }
        judge_framing(version, &headers)?;
        if version >= Version::HTTP_2 {
            judge_http2(&headers)?;
        }
        join_cookies(&mut headers);
        let target = match uri.path_and_query() {
            Some(target) if method == Method::OPTIONS && target.as_str() == "*" => Target::ASTERISK,
            Some(target) => Target::read(target.as_str())?,
            None => return Err(TargetFault::NotAPath.into()),
        };
        if uri.scheme_str().is_some_and(|scheme| !scheme.eq_ignore_ascii_case("http") && !scheme.eq_ignore_ascii_case("https")) {
            return Err(TargetFault::NotAPath.into());
        }
        let authority = authority(uri, version, &headers, scheme)?;
        let connection = connection_options(&headers)?;
        Ok(Self { method, scheme, authority, target, version, headers, connection })
    }

    /// Checks that the connection was made for the host that the request names: that the certificate shown to the client covers
    /// it. RFC 9110, section 7.4.
    ///
    /// A client that reuses a connection for a host that its certificate does not name is told to open another one. Where a
    /// listener has only one certificate, another connection would show the same, so nothing is refused.
    ///
    /// # Errors
    /// Returns `misdirected-request`.
    pub fn directed_here(&self, tls: Option<&TlsFacts>) -> Result<(), Refusal> {
        let shown = tls.and_then(|tls| tls.shown.as_ref());
        if shown.is_none_or(|names| self.authority.host.is_empty() || names.cover(&self.authority.host)) {
            return Ok(());
        }
        Err(Refusal::new(Reason::MisdirectedRequest, HeadFault::OtherHost)
            .with_hint("the certificate that was chosen by the connection's server name (SNI) does not name the request's host"))
    }

    /// Returns whether the request asks about the server itself rather than a resource. RFC 9110, section 9.3.7.
    pub fn asks_about_the_server(&self) -> bool {
        self.method == Method::OPTIONS && self.target == Target::ASTERISK
    }

    /// Returns whether the caller accepts trailer fields in the response. RFC 9110, section 10.1.4.
    pub fn takes_trailers(&self) -> bool {
        let named = |value: Value<'_>| {
            value.as_bytes().split(|byte| *byte == b',').any(|it| it.trim_ascii().eq_ignore_ascii_case(b"trailers"))
        };
        self.version >= Version::HTTP_11 && self.headers.get_all(Known::Te).any(named)
    }

    /// Returns whether the request asks for a WebSocket. RFC 6455, section 4.1.
    pub fn asks_for_websocket(&self) -> bool {
        if !self.connection.upgrade {
            return false;
        }
        let mut values = self.headers.get_all(Known::Upgrade);
        // Over HTTP/2 no client sends the fields: they are those of `opens_websocket`.
        matches!(self.version, Version::HTTP_11 | Version::HTTP_2)
            && self.method == Method::GET
            && values.next().is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"websocket"))
            && values.next().is_none()
    }

    /// Notes that the request is an extended CONNECT for a WebSocket (RFC 8441): the GET that it would be over HTTP/1.1.
    pub(crate) fn opens_websocket(&mut self) {
        self.connection.upgrade = true;
        self.headers.insert(Known::Upgrade, &HeaderValue::from_static("websocket"));
    }

    /// Returns whether the request is an extended CONNECT, to which any success is a tunnel.
    pub(crate) fn is_extended_connect(&self) -> bool {
        self.connection.upgrade && self.version == Version::HTTP_2
    }

    /// Returns whether the credentials are bound to a connection (NTLM, Negotiate): behind a pool, one caller would act as
    /// another.
    pub fn authenticates_its_connection(&self) -> bool {
        self.headers.get_all(Known::Authorization).any(binds_connection)
    }
}

/// Returns whether the value of an `Authorization` field authenticates a connection rather than a request.
pub(crate) fn binds_connection(value: Value<'_>) -> bool {
    // Nearly every value is another's, and is told at its first letter.
    if !matches!(value.as_bytes(), [b'n' | b'N', ..]) {
        return false;
    }
    let scheme = value.as_bytes().split(|byte| !byte.is_ascii_alphanumeric()).next().unwrap_or_default();
    scheme.eq_ignore_ascii_case(b"ntlm") || scheme.eq_ignore_ascii_case(b"negotiate")
}

/// The allowed methods where no resource is named.
pub(crate) const USUAL_METHODS: HeaderValue = HeaderValue::from_static("DELETE, GET, HEAD, OPTIONS, PATCH, POST, PUT");

/// The reason why a head is refused.
#[derive(Debug, thiserror::Error)]
pub enum HeadFault {
    /// A method that is never served.
    #[error("{0} is never served")]
    Method(Method),
    /// RFC 9112, section 6.
    #[error("{0}")]
    Framing(&'static str),
    /// RFC 9112, section 3.2.
    #[error("the request names no host, or more than one")]
    Hosts,
    /// RFC 9112, section 3.2.2; RFC 9113, section 8.3.1.
    #[error("the request names one host in its target and another in `Host`")]
    HostsDiffer,
    /// RFC 9110, section 7.6.1.
    #[error("`Connection` contains something that is not a name")]
    Connection,
    /// RFC 9113, section 8.2.
    #[error("`{0}` cannot be in an HTTP/2 request as it is")]
    Http2(HeaderName),
    /// RFC 9110, section 15.5.20.
    #[error("the certificate that was shown on the connection does not name the request's host")]
    OtherHost,
}

fn header_fault(fault: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Refusal {
    Refusal::new(Reason::RequestHeaderInvalid, fault)
}

/// Checks the framing that hyper leaves ambiguous. RFC 9112, section 6.
fn judge_framing(version: Version, headers: &Fields) -> Result<(), Refusal> {
    let fault = |what| Err(Refusal::new(Reason::RequestFramingInvalid, HeadFault::Framing(what)));
    let mut codings = headers.get_all(Known::TransferEncoding);
    let coding = codings.next();
    if let Some(coding) = coding {
        if version != Version::HTTP_11 {
            return fault("`Transfer-Encoding` is of HTTP/1.1 alone");
        }
        if codings.next().is_some() || !coding.as_bytes().eq_ignore_ascii_case(b"chunked") {
            return fault("`Transfer-Encoding` is something else than `chunked`");
        }
    }
    let mut lengths = headers.get_all(Known::ContentLength);
    if let Some(length) = lengths.next() {
        if coding.is_some() {
            return fault("`Content-Length` stands beside `Transfer-Encoding`");
        }
        if lengths.next().is_some() {
            return fault("`Content-Length` is repeated");
        }
        if length.is_empty() || length.len() > 19 || !length.as_bytes().iter().all(u8::is_ascii_digit) {
            return fault("`Content-Length` is not a number");
        }
    }
    Ok(())
}

/// Refuses HTTP/2 fields that would have another meaning in HTTP/1.1, where the request may go on. RFC 9113, section 8.2.
fn judge_http2(headers: &Fields) -> Result<(), Refusal> {
    const CONNECTION_SPECIFIC: [Known; 4] = [Known::Connection, Known::Upgrade, Known::KeepAlive, Known::ProxyConnection];
    if let Some(name) = CONNECTION_SPECIFIC.into_iter().find(|name| headers.contains_key(*name)) {
        return Err(header_fault(HeadFault::Http2(name.into())));
    }
    if headers.get_all(Known::Te).any(|value| !value.as_bytes().eq_ignore_ascii_case(b"trailers")) {
        return Err(header_fault(HeadFault::Http2(Known::Te.into())));
    }
    let blank = |byte: Option<&u8>| matches!(byte, Some(b' ' | b'\t'));
    match headers.iter().find(|(_, value)| blank(value.as_bytes().first()) || blank(value.as_bytes().last())) {
        Some((name, _)) => Err(header_fault(HeadFault::Http2(name.to_header_name()))),
        None => Ok(()),
    }
}

/// Joins several `Cookie` fields into one: HTTP/2 lets a client split them (RFC 9113, section 8.2.3), and of several lines in
/// HTTP/1.1 some backends read the first and others the last.
fn join_cookies(headers: &mut Fields) {
    if headers.get_all(Known::Cookie).nth(1).is_none() {
        return;
    }
    let crumbs: Vec<_> = headers.get_all(Known::Cookie).map(Value::as_bytes).filter(|crumb| !crumb.is_empty()).collect();
    if let Ok(joined) = HeaderValue::from_bytes(&crumbs.join(&b"; "[..])) {
        headers.insert(Known::Cookie, &joined);
    }
}

/// Returns the one host that the request names: in `Host`, in its target, or equally in both.
fn authority(uri: &http::Uri, version: Version, headers: &Fields, scheme: Scheme) -> Result<Authority, Refusal> {
    let mut hosts = headers.get_all(Known::Host);
    let host = hosts.next().map(|host| Authority::read(host.as_bytes())).transpose().map_err(header_fault)?;
    if hosts.next().is_some() {
        return Err(header_fault(HeadFault::Hosts));
    }
    let target = uri.authority().map(|target| Authority::read(target.as_str().as_bytes())).transpose().map_err(header_fault)?;
    match (host, target) {
        (Some(host), Some(target)) if !host.agrees_with(&target, scheme) => Err(header_fault(HeadFault::HostsDiffer)),
        // RFC 9112, section 3.2: HTTP/1.1 has the field whatever form the target has.
        (None, Some(_)) if version == Version::HTTP_11 => Err(header_fault(HeadFault::Hosts)),
        (_, Some(authority)) | (Some(authority), None) => Ok(authority),
        // HTTP/1.0 did not know the field, and balancers' probes still speak it.
        (None, None) if version <= Version::HTTP_10 => Ok(Authority::ABSENT),
        (None, None) => Err(header_fault(HeadFault::Hosts)),
    }
}

fn connection_options(headers: &Fields) -> Result<ConnectionOptions, Refusal> {
    let mut options = ConnectionOptions::default();
    for value in headers.get_all(Known::Connection) {
        for option in value.as_bytes().split(|byte| *byte == b',').map(<[u8]>::trim_ascii).filter(|option| !option.is_empty()) {
            if option.eq_ignore_ascii_case(b"close") || option.eq_ignore_ascii_case(b"keep-alive") {
                continue;
            }
            if option.eq_ignore_ascii_case(b"upgrade") {
                options.upgrade = true;
                continue;
            }
            options.nominated.push(HeaderName::from_bytes(option).map_err(|_| header_fault(HeadFault::Connection))?);
        }
    }
    Ok(options)
}

#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
