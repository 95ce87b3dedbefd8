//! A response whose header fields are a flat list.

use http::{Extensions, StatusCode};

use crate::fields::Fields;

/// A response, as `http` has it but for its header fields.
#[derive(Clone, Debug, Default)]
pub struct Response<B> {
    head: Parts,
    body: B,
}

/// The head of a response.
#[derive(Clone, Debug, Default)]
pub struct Parts {
    /// The status.
    pub status: StatusCode,
    /// The header fields, in order.
    pub headers: Fields,
    /// The extensions of an application behind the gateway.
    pub extensions: Extensions,
}

impl<B> Response<B> {
    /// Makes a response with status 200 and no fields.
    pub fn new(body: B) -> Self {
        Self { head: Parts::default(), body }
    }

    /// Puts a head and a body together.
    pub const fn from_parts(head: Parts, body: B) -> Self {
        Self { head, body }
    }

    /// Takes head and body apart.
    pub fn into_parts(self) -> (Parts, B) {
        (self.head, self.body)
    }

    /// Returns the status.
    pub const fn status(&self) -> StatusCode {
        self.head.status
    }

    /// Returns the status, to be changed.
    pub const fn status_mut(&mut self) -> &mut StatusCode {
        &mut self.head.status
    }

    /// Returns the header fields.
    pub const fn headers(&self) -> &Fields {
        &self.head.headers
    }

    /// Returns the header fields, to be changed.
    pub const fn headers_mut(&mut self) -> &mut Fields {
        &mut self.head.headers
    }

    /// Returns the body.
    pub const fn body(&self) -> &B {
        &self.body
    }

    /// Returns the body, to be changed.
    pub const fn body_mut(&mut self) -> &mut B {
        &mut self.body
    }

    /// Returns the body alone.
    pub fn into_body(self) -> B {
        self.body
    }

    /// Returns the response with another body that is made of this one.
    pub fn map<T>(self, make: impl FnOnce(B) -> T) -> Response<T> {
        Response { head: self.head, body: make(self.body) }
    }
}

impl<B> From<http::Response<B>> for Response<B> {
    fn from(response: http::Response<B>) -> Self {
        let (parts, body) = response.into_parts();
        let head = Parts { status: parts.status, headers: Fields::from(&parts.headers), extensions: parts.extensions };
        Self { head, body }
    }
}

impl<B> From<Response<B>> for http::Response<B> {
    fn from(response: Response<B>) -> Self {
        let Parts { status, headers, extensions } = response.head;
        let mut made = Self::new(response.body);
        *made.status_mut() = status;
        *made.headers_mut() = (&headers).into();
        *made.extensions_mut() = extensions;
        made
    }
}
