//! The gateway in front of an application's own service.

use std::{
    convert::Infallible,
    error::Error,
    path::Path,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::BodyExt as _;
use tower::{Layer, Service, ServiceExt as _};

use super::{
    Gateway,
    facts::{Caller, Partner, Token},
    gateway,
};
use crate::{
    config::Document,
    exchange::Exchange,
    gateway::{Answering, Inner, answer::ResponseBody, runtime::Purpose},
    listener::RequestBody,
    server::{ServerError, ServerOptions},
};

/// A `tower::Layer` that puts the routes and policies of a config in front of a service.
///
/// A route without `upstream`, `respond` or another target leads to the service. The service receives the request as an upstream would:
/// reserved header fields come from the gateway alone, the changes of the policies are made, and `Authorization` is as the route's
/// `authorization` says (by default absent). The request's extensions contain [`Caller`] and, if there is one, [`Token`] and [`Partner`].
/// A refused request does not reach the service; it is answered with a problem document. Every request is recorded.
///
/// ```no_run
/// use axum::{Extension, Router, routing::get};
/// use entrada::{AuthorizeLayer, Token};
/// use tower::Layer as _;
///
/// async fn orders(Extension(token): Extension<Token>) -> String {
///     format!("orders of {}", token.subject().unwrap_or("somebody"))
/// }
///
/// # async fn start() -> Result<(), entrada::ServerError> {
/// let authorize = AuthorizeLayer::open("config/entrada.yaml").await?;
/// let application = Router::new().fallback_service(authorize.layer(Router::new().route("/orders", get(orders))));
/// # let _: Router = application;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct AuthorizeLayer(Gateway);

impl AuthorizeLayer {
    /// Reads the config at `path`, and starts the gateway on the current tokio runtime.
    ///
    /// # Errors
    /// Fails if the config is faulty, or if something that it refers to, such as a file, is not available.
    pub async fn open(path: impl AsRef<Path>) -> Result<Self, ServerError> {
        Self::start(&gateway::document(path).await?, ServerOptions::default())
    }

    /// Starts the gateway on the current tokio runtime, which from now on fetches its keys and tokens.
    ///
    /// # Errors
    /// Fails if the config is faulty, or if something that it refers to, such as a file, is not available.
    ///
    /// # Panics
    /// Panics outside of a tokio runtime.
    pub fn start(document: &Document, options: ServerOptions) -> Result<Self, ServerError> {
        Gateway::started(document, options, Purpose::BeforeService).map(Self)
    }

    /// Returns the gateway, for reloading its config and asking for its state.
    pub const fn gateway(&self) -> &Gateway {
        &self.0
    }
}

impl<S> Layer<S> for AuthorizeLayer {
    type Service = AuthorizeService<S>;

    fn layer(&self, inner: S) -> AuthorizeService<S> {
        AuthorizeService { gateway: self.0.clone(), inner }
    }
}

/// A service wrapped by an [`AuthorizeLayer`].
#[derive(Clone, Debug)]
pub struct AuthorizeService<S> {
    gateway: Gateway,
    inner: S,
}

impl<S, B, A> Service<Request<B>> for AuthorizeService<S>
where
    S: Service<Request<RequestBody>, Response = Response<A>, Error: Into<Box<dyn Error + Send + Sync>>, Future: Send>
        + Clone
        + Send
        + 'static,
    B: http_body::Body<Data = Bytes, Error: Into<Box<dyn Error + Send + Sync>>> + Send + 'static,
    A: http_body::Body<Data = Bytes, Error: Into<Box<dyn Error + Send + Sync>>> + Send + 'static,
{
    type Response = Response<ResponseBody>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, _context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        // Whether the service behind is ready is asked once a request is let through to it.
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let Self { gateway, inner } = self.clone();
        Box::pin(async move { Ok(gateway.serve(request, Some(Box::new(Wrapped(Some(inner))))).await) })
    }
}

/// The wrapped service, for one request.
struct Wrapped<S>(Option<S>);

impl<S, A> Inner for Wrapped<S>
where
    S: Service<Request<RequestBody>, Response = Response<A>, Error: Into<Box<dyn Error + Send + Sync>>, Future: Send>
        + Send
        + 'static,
    A: http_body::Body<Data = Bytes, Error: Into<Box<dyn Error + Send + Sync>>> + Send + 'static,
{
    fn call(&mut self, mut request: Request<RequestBody>, exchange: &Exchange) -> Answering {
        let extensions = request.extensions_mut();
        // Those of a layer around this one are about its own policies.
        extensions.remove::<Token>();
        extensions.remove::<Partner>();
        if let Some(token) = &exchange.token {
            extensions.insert(Token(token.clone()));
        }
        if let Some(partner) = &exchange.partner {
            extensions.insert(Partner(partner.clone()));
        }
        extensions.insert(Caller::of(exchange));
        let service = self.0.take();
        Box::pin(async move {
            let service = service.ok_or("the service is asked a second time")?;
            let response = service.oneshot(request).await.map_err(Into::into)?;
            Ok(response.map(|body| body.map_err(Into::into).boxed_unsync()))
        })
    }
}
