//! A request as a listener hands it to its service.

use http::{Extensions, Method, Request, Uri, Version, request::Parts};

use crate::base::fields::Fields;

/// A request as it was received, its header fields as a flat list.
#[derive(Debug)]
pub struct ReceivedRequest<B> {
    /// The method.
    pub method: Method,
    /// The target, byte for byte the client's.
    pub uri: Uri,
    /// The protocol version that the client spoke.
    pub version: Version,
    /// The header fields, in order.
    pub headers: Fields,
    /// The [`Upgrade`](super::Upgrade), if the client asks for another protocol; and the extensions of an application around the gateway.
    pub extensions: Extensions,
    /// The body.
    pub body: B,
}

impl<B> ReceivedRequest<B> {
    /// Makes a request with a body.
    pub(crate) fn new(method: Method, uri: Uri, version: Version, headers: Fields, body: B) -> Self {
        Self { method, uri, version, headers, extensions: Extensions::new(), body }
    }

    /// Makes a request of one of `http`, whose header fields are copied.
    pub fn from_parts(parts: Parts, body: B) -> Self {
        let Parts { method, uri, version, headers, extensions, .. } = parts;
        Self { method, uri, version, headers: Fields::from(&headers), extensions, body }
    }
}

impl<B> From<Request<B>> for ReceivedRequest<B> {
    fn from(request: Request<B>) -> Self {
        let (parts, body) = request.into_parts();
        Self::from_parts(parts, body)
    }
}

impl<B> From<ReceivedRequest<B>> for Request<B> {
    fn from(received: ReceivedRequest<B>) -> Self {
        let ReceivedRequest { method, uri, version, headers, extensions, body } = received;
        let mut request = Self::new(body);
        *request.method_mut() = method;
        *request.uri_mut() = uri;
        *request.version_mut() = version;
        *request.headers_mut() = (&headers).into();
        *request.extensions_mut() = extensions;
        request
    }
}
