//! The head of a request as a server would receive it, without sending it.

use http::{HeaderMap, HeaderValue, header};

use super::{
    UpstreamRequest,
    error::UpstreamError,
    http1::{Framing, RequestHead},
    hygiene,
    send::{Host, Upstream},
};
use crate::{
    base::fields::{Fields, Known},
    connection::Authority,
    refusal::trace::SentRequest,
};

impl Upstream {
    /// Describes what the first server would receive over HTTP/1.1. `host` is the one that the caller asked for, `length` that of the
    /// body, if it is known, and `upgrade` the protocol that the request asks for.
    ///
    /// # Errors
    /// Fails if the request could not be written.
    pub fn preview(
        &self,
        host: &Authority,
        request: &UpstreamRequest,
        length: Option<u64>,
        upgrade: Option<&HeaderValue>,
    ) -> Result<SentRequest, UpstreamError> {
        let unwritable = |error: Box<dyn std::error::Error + Send + Sync>| UpstreamError::Request(error);
        let server = self.servers.first().ok_or_else(|| UpstreamError::NoServer { upstream: self.name.clone() })?;
        let host = match &self.host {
            Host::Server => server.host.clone(),
            Host::Named(_, host) => host.clone(),
            Host::Caller if host.is_absent() => server.host.clone(),
            Host::Caller => HeaderValue::try_from(host.to_string()).map_err(|error| unwritable(error.into()))?,
        };
        let framing = Framing::of(&request.method, length);
        let head = RequestHead {
            method: &request.method,
            base: &server.base,
            path: &request.path,
            query: request.query.as_deref(),
            host: &host,
            headers: &request.headers,
            upgrade,
            framing,
        };
        // Written as it would be, so that what cannot be written fails here as well.
        head.write(&mut Vec::new()).map_err(|fault| unwritable(fault.into()))?;
        let query = request.query.as_deref().map(|query| format!("?{query}")).unwrap_or_default();
        Ok(SentRequest {
            upstream: self.name.clone(),
            server: server.name.clone(),
            method: request.method.clone(),
            url: format!("{}://{}{}{}{query}", server.scheme, server.authority, server.base, request.path),
            headers: fields(&request.headers, host, upgrade, framing),
        })
    }
}

/// Returns the fields of the head: those that go on, and those that are made for this connection.
fn fields(forwarded: &Fields, host: HeaderValue, upgrade: Option<&HeaderValue>, framing: Framing) -> HeaderMap {
    let mut fields = HeaderMap::with_capacity(forwarded.len() + 4);
    fields.insert(header::HOST, host);
    forwarded.append_to(&mut fields, |name, _| {
        !matches!(name.known(), Known::Host | Known::ContentLength) && !hygiene::ends_here(name.known())
    });
    if let Some(protocol) = upgrade {
        fields.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
        fields.insert(header::UPGRADE, protocol.clone());
    } else if forwarded.get(Known::Te).is_some_and(|value| value == "trailers") {
        fields.insert(header::CONNECTION, HeaderValue::from_static("te"));
        fields.insert(header::TE, HeaderValue::from_static("trailers"));
    }
    match framing {
        Framing::None => {}
        Framing::Length(length) => drop(fields.insert(header::CONTENT_LENGTH, length.into())),
        Framing::Chunked => drop(fields.insert(header::TRANSFER_ENCODING, HeaderValue::from_static("chunked"))),
    }
    fields
}
