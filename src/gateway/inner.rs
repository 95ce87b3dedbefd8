//! The service behind the gateway, where an application puts the gateway before a service of its own.

use std::{error::Error, mem, pin::Pin};

use bytes::Bytes;
use http::{Extensions, HeaderValue, Request, Response, Uri, header};
use http_body_util::combinators::UnsyncBoxBody;

use super::{Received, answer::ResponseBody, introduce, lifetime::unless_revoked};
use crate::{
    exchange::Exchange,
    listener::RequestBody,
    refusal::{Reason, Refusal},
    request::IncomingRequest,
    route::Route,
    upstream::UpstreamRequest,
};

const UPGRADE: HeaderValue = HeaderValue::from_static("upgrade");
const WEBSOCKET: HeaderValue = HeaderValue::from_static("websocket");

/// The body of such a service's response.
pub(crate) type InnerBody = UnsyncBoxBody<Bytes, Box<dyn Error + Send + Sync>>;

/// The response of such a service, or why there is none.
pub(crate) type Answering = Pin<Box<dyn Future<Output = Result<Response<InnerBody>, Box<dyn Error + Send + Sync>>> + Send>>;

/// A service that routes lead to which have no upstream.
pub(crate) trait Inner: Send {
    /// Answers a request that was let through. The exchange tells what was learnt of it.
    fn call(&mut self, request: Request<RequestBody>, exchange: &Exchange) -> Answering;
}

/// Hands a request that was let through to the service behind the gateway.
///
/// # Errors
/// Fails if there is no service, if it fails, or if the partner's access ends meanwhile.
pub(super) async fn call(
    route: &Route,
    exchange: &mut Exchange,
    incoming: &IncomingRequest,
    mut outgoing: UpstreamRequest,
    received: &mut Received,
) -> Result<Response<ResponseBody>, Refusal> {
    let Some((mut inner, extensions)) = received.inner.take().map(|inner| *inner) else {
        return Err(Refusal::new(Reason::InternalError, "the route leads to a service behind the gateway, and there is none"));
    };
    route.authorization.apply(exchange, incoming, &mut outgoing).await?;
    exchange.outcome.allow();
    introduce(exchange, incoming, &mut outgoing);
    let websocket = route.websocket && incoming.asks_for_websocket();
    let body = mem::take(&mut received.body);
    let request = request(incoming, outgoing, extensions, body, websocket)?;
    let began = exchange.elapsed();
    let answered = unless_revoked(exchange.access().cloned(), inner.call(request, exchange)).await;
    exchange.timings.upstream += exchange.elapsed().saturating_sub(began);
    match answered {
        None => Err(Reason::PartnerDisabled.into()),
        Some(Ok(response)) => Ok(response.map(ResponseBody::inner)),
        Some(Err(error)) => Err(Refusal::new(Reason::InternalError, error)),
    }
}

/// Makes the request for the service: as an upstream would get it, with the extensions that it came with. A WebSocket is asked for only
/// where the route lets it through.
///
/// # Errors
/// A policy wrote a path or query that no URI can hold.
fn request(
    incoming: &IncomingRequest,
    outgoing: UpstreamRequest,
    extensions: Extensions,
    body: RequestBody,
    websocket: bool,
) -> Result<Request<RequestBody>, Refusal> {
    let UpstreamRequest { method, path, query, headers } = outgoing;
    let target = match query {
        Some(query) => format!("{path}?{query}"),
        None => String::from(path),
    };
    let mut request = Request::new(body);
    *request.method_mut() = method;
    *request.version_mut() = incoming.version;
    *request.uri_mut() = Uri::try_from(target).map_err(|error| Refusal::new(Reason::InternalError, error))?;
    *request.extensions_mut() = extensions;
    *request.headers_mut() = headers;
    let headers = request.headers_mut();
    if !incoming.authority.is_absent() {
        let host = HeaderValue::try_from(incoming.authority.to_string());
        headers.insert(header::HOST, host.map_err(|error| Refusal::new(Reason::InternalError, error))?);
    }
    // Of the framing only the length is told: a body that ends by itself needs nothing else.
    if let Some(length) = incoming.headers.get(header::CONTENT_LENGTH) {
        headers.insert(header::CONTENT_LENGTH, length.clone());
    }
    if websocket {
        headers.insert(header::CONNECTION, UPGRADE);
        headers.insert(header::UPGRADE, WEBSOCKET);
    }
    Ok(request)
}
