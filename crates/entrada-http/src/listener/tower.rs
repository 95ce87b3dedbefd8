//! An adapter that lets a listener serve any tower service, with the listener's limits and drain.

use std::{error::Error, sync::Arc};

use bytes::Bytes;
use http::{HeaderValue, Request, Response, StatusCode, header};
use http_body_util::{Either, Full};
use tower::ServiceExt as _;

use super::{Arrival, Connection, RequestBody, Service};
use crate::{
    base::{error_chain::chain, response},
    connection::ConnectionEvent,
    refusal::{Reason, Refusal},
};

const PLAIN_TEXT: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");

/// A tower service that a listener serves. The [`Connection`] of a request is among the request's extensions.
#[derive(Clone, Debug)]
pub struct TowerService<S>(S);

/// Adapts a tower service, so that a listener can [serve](super::serve) it. The service is cloned for each request.
///
/// An invalid request head is refused by the adapter and does not reach the service. If the service fails, the client receives a status 500
/// with a plain text.
pub const fn tower<S>(service: S) -> TowerService<S> {
    TowerService(service)
}

impl<S, B> Service for TowerService<S>
where
    S: tower::Service<Request<RequestBody>, Response = Response<B>, Error: Into<Box<dyn Error + Send + Sync>>, Future: Send>
        + Clone
        + Send
        + Sync
        + 'static,
    B: http_body::Body<Data = Bytes, Error: Into<Box<dyn Error + Send + Sync>>> + Send + Unpin + 'static,
{
    type Body = Either<B, Full<Bytes>>;

    fn call(
        &self,
        arrival: Arrival,
        connection: &Arc<Connection>,
    ) -> impl Future<Output = response::Response<Self::Body>> + Send {
        let arrival = match arrival {
            Arrival::Request(mut request) => {
                request.extensions.insert(connection.clone());
                Ok((self.0.clone(), Request::from(*request)))
            }
            Arrival::Broken(broken) => Err(Refusal::from(broken)),
        };
        async move {
            let (service, request) = match arrival {
                Ok(whole) => whole,
                Err(refusal) => return bare(refusal.status(), refusal.reason).map(Either::Right).into(),
            };
            match service.oneshot(request).await {
                Ok(response) => response.map(Either::Left).into(),
                Err(error) => {
                    tracing::error!(error = chain(&*error.into()), "a service failed instead of answering");
                    bare(StatusCode::INTERNAL_SERVER_ERROR, Reason::InternalError).map(Either::Right).into()
                }
            }
        }
    }

    fn event(&self, event: ConnectionEvent) {
        let ConnectionEvent { listener, peer, kind, detail } = event;
        tracing::debug!(%listener, ?peer, event = kind.code(), %detail, "a connection");
    }
}

/// Returns a plain-text response with the reason's code and title.
fn bare(status: StatusCode, reason: Reason) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::from(format!("{}: {}\n", reason.code(), reason.title())));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, PLAIN_TEXT);
    response
}
