//! The request to be sent: target, host and framing.

use std::mem;

use bytes::Bytes;
use bytestring::ByteString;
use http::{
    HeaderMap, Method, Request, Uri, Version, header,
    uri::{self, PathAndQuery},
};
use http_body::Body;

use super::{
    http1::Framing,
    hygiene,
    send::{Call, Host},
    send_body::SendBody,
    server::Server,
};
use crate::base::{
    buffers,
    fields::{Fields, Known},
};
use crate::upstream::UpstreamRequest;

/// The request to be sent.
#[derive(Debug)]
pub(super) struct Outgoing {
    pub(super) method: Method,
    pub(super) path: ByteString,
    pub(super) query: Option<ByteString>,
    pub(super) headers: Fields,
    pub(super) body: SendBody,
}

impl Drop for Outgoing {
    fn drop(&mut self) {
        buffers::keep_fields(mem::take(&mut self.headers));
    }
}

impl Outgoing {
    pub(super) fn new(request: UpstreamRequest, body: SendBody) -> Self {
        let UpstreamRequest { method, path, query, headers } = request;
        Self { method, path, query, headers, body }
    }

    /// Returns whether sending the request a second time is harmless, and possible.
    pub(super) fn may_repeat(&self) -> bool {
        // RFC 9110, section 9.2.2.
        self.method.is_idempotent() && self.body.is_whole()
    }

    /// Returns the framing, which depends on the body alone.
    pub(super) fn framing(&self) -> Framing {
        Framing::of(&self.method, self.body.size_hint().exact())
    }

    /// Makes the request's head for HTTP/2. It is kept, since it may have to be sent once more.
    pub(super) fn http2(&self, host: &Host, server: &Server, call: &Call<'_>) -> Result<Request<()>, http::Error> {
        let authority = match host {
            Host::Server => server.authority.clone(),
            Host::Named(authority, _) => authority.clone(),
            Host::Caller if call.host.is_absent() => server.authority.clone(),
            Host::Caller => call.host.to_string().parse()?,
        };
        let query = self.query.as_deref();
        let mut target = String::with_capacity(server.base.len() + self.path.len() + query.map_or(0, |query| query.len() + 1));
        target.push_str(&server.base);
        target.push_str(&self.path);
        if let Some(query) = query {
            target.push('?');
            target.push_str(query);
        }
        let mut parts = uri::Parts::default();
        parts.scheme = Some(server.scheme.clone());
        parts.authority = Some(authority);
        parts.path_and_query = Some(PathAndQuery::from_maybe_shared(Bytes::from(target))?);

        // RFC 9113, section 8.3.1: the authority is said once. Section 8.2.2: there is no field of a connection but `te: trailers`.
        let mut headers = HeaderMap::with_capacity(self.headers.len() + 1);
        self.headers.append_to(&mut headers, |name, value| {
            let known = name.known();
            !matches!(known, Known::Host | Known::ContentLength)
                && (!hygiene::ends_here(known) || known == Known::Te && value == "trailers")
        });
        if let Framing::Length(length) = self.framing() {
            headers.insert(header::CONTENT_LENGTH, length.into());
        }
        let mut request = Request::new(());
        *request.method_mut() = self.method.clone();
        *request.uri_mut() = Uri::from_parts(parts)?;
        *request.version_mut() = Version::HTTP_2;
        *request.headers_mut() = headers;
        Ok(request)
    }
}
