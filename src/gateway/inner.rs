//! The application's service behind the gateway, if the gateway is embedded as a layer.

use std::{error::Error, mem, pin::Pin};

use bytes::Bytes;
use http::{Extensions, HeaderValue, Request, Response, Uri, header};
use http_body_util::combinators::UnsyncBoxBody;

use super::{answer::ResponseBody, lifetime::unless_revoked, received::Received, upstream_exchange::set_forwarding_headers};
use crate::{
    base::fields::Known,
    exchange::Exchange,
    listener::RequestBody,
    refusal::{Reason, Refusal},
    request::IncomingRequest,
    route::Route,
    upstream::UpstreamRequest,
};

const UPGRADE: HeaderValue = HeaderValue::from_static("upgrade");
const WEBSOCKET: HeaderValue = HeaderValue::from_static("websocket");

/// The response body of the service.
pub(crate) type InnerBody = UnsyncBoxBody<Bytes, Box<dyn Error + Send + Sync>>;

/// The response of the service, or the error with which it failed.
pub(crate) type Answering = Pin<Box<dyn Future<Output = Result<Response<InnerBody>, Box<dyn Error + Send + Sync>>> + Send>>;

/// A service for the routes without an upstream.
pub(crate) trait Inner: Send {
    /// Responds to a request that passed the policies. The exchange has the facts that they established.
    fn call(&mut self, request: Request<RequestBody>, exchange: &Exchange) -> Answering;
}

/// Hands a request that passed the policies to the service.
///
/// # Errors
/// Fails if there is no service, if the service fails, or if the partner's access ends in the meantime.
pub(super) async fn call(
    route: &Route,
    exchange: &mut Exchange,
    incoming: &IncomingRequest,
    mut outgoing: UpstreamRequest,
    received: &mut Received,
) -> Result<crate::base::response::Response<ResponseBody>, Refusal> {
    let Some((mut inner, extensions)) = received.inner.take().map(|inner| *inner) else {
        return Err(Refusal::new(Reason::InternalError, "the route leads to a service behind the gateway, and there is none"));
    };
    route.authorization.apply(exchange, incoming, &mut outgoing).await?;
    exchange.outcome.allow();
    set_forwarding_headers(exchange, incoming, &mut outgoing);
    let websocket = route.websocket && incoming.asks_for_websocket();
    let body = mem::take(&mut received.body);
    let request = request(incoming, outgoing, extensions, body, websocket)?;
    let began = exchange.elapsed();
    let answered = unless_revoked(exchange.access().cloned(), inner.call(request, exchange)).await;
    exchange.timings.upstream += exchange.elapsed().saturating_sub(began);
    match answered {
        None => Err(Reason::PartnerDisabled.into()),
        Some(Ok(response)) => Ok(crate::base::response::Response::from(response).map(ResponseBody::inner)),
        Some(Err(error)) => Err(Refusal::new(Reason::InternalError, error)),
    }
}

/// Builds the request for the service: as an upstream would receive it, with the extensions that it arrived with. It asks for a WebSocket
/// only if the route allows that.
///
/// # Errors
/// Fails if a policy wrote a path or query that is not valid in a URI.
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
    *request.headers_mut() = (&headers).into();
    let headers = request.headers_mut();
    if !incoming.authority.is_absent() {
        let host = HeaderValue::try_from(incoming.authority.to_string());
        headers.insert(header::HOST, host.map_err(|error| Refusal::new(Reason::InternalError, error))?);
    }
    // Of the framing only the length is told: a body that ends by itself needs nothing else.
    if let Some(length) = incoming.headers.get(Known::ContentLength) {
        headers.insert(header::CONTENT_LENGTH, length.to_header_value());
    }
    if websocket {
        headers.insert(header::CONNECTION, UPGRADE);
        headers.insert(header::UPGRADE, WEBSOCKET);
    }
    Ok(request)
}
