//! The admin and health listeners: read-only, and not reachable through a route.
//!
//! Paths are exact, GET (and HEAD) is the only method but for `POST /api/explain`, which changes nothing, and `Host` and `Origin` are checked, so that no page in an
//! operator's browser can read it (DNS rebinding). Both are served like the public listeners, with the same
//! strict codec, limits of their own, and a drain.

mod explain;
mod guard;
mod lifecycle;
mod listen;
mod metrics;
mod status;

use std::{
    convert::Infallible,
    net::TcpListener,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use arc_swap::ArcSwap;
use axum::{
    Router,
    extract::{RawQuery, Request, State},
    http::{HeaderMap, StatusCode, header},
    middleware::{self, Next},
    response::{
        Html, IntoResponse, Response,
        sse::{Event, KeepAlive, Sse},
    },
    routing::{get, post},
};
use futures_util::StreamExt;
pub use lifecycle::{Connections, Lifecycle};
pub(crate) use listen::{AdminListeners, BindError, BoundAdmin};
use tokio_util::sync::CancellationToken;

use crate::{
    audit::AuditLog,
    config::Written,
    gateway::runtime::Runtime,
    identity::AssertionKeys,
    listener::Drain,
    telemetry::{Format, Metrics, MetricsText, Traces},
};

/// The state that the admin and health listeners show.
#[derive(Clone, Debug)]
pub struct Admin {
    /// The active config.
    pub runtime: Arc<ArcSwap<Runtime>>,
    /// Where it is written.
    pub written: Arc<ArcSwap<Written>>,
    /// The records of requests.
    pub audit: Arc<AuditLog>,
    /// The request counters.
    pub metrics: Arc<Metrics>,
    /// The spans that are exported, if any are.
    pub traces: Option<Arc<Traces>>,
    /// The state of the gateway: whether it is draining, and the result of the last reload.
    pub lifecycle: Arc<Lifecycle>,
    /// Cancelled when the listener ends, which ends endless responses.
    pub ending: CancellationToken,
}

impl Admin {
    /// Serves the admin paths until the drain, and the health paths too while they have no separate listener.
    pub(crate) async fn serve(mut self, socket: TcpListener, probes: Arc<AtomicBool>, drain: Drain) {
        self.ending = CancellationToken::new();
        let ending = self.ending.clone();
        let own = Router::new()
            .route("/", get(page))
            .route("/page.js", get(script))
            .route("/page.css", get(styles))
            .route("/api/status", get(status))
            .route("/api/decisions", get(decisions))
            .route(explain::PATH, post(explain::explain));
        let probes = health_paths().route_layer(middleware::from_fn_with_state(probes, while_here));
        let router = own.merge(probes).layer(middleware::from_fn(guard::check)).with_state(self);
        listen::run("admin", socket, router, listen::limits(), drain, ending).await;
    }

    /// Serves only the health paths, until the drain. A cluster's probes come with any `Host`.
    pub(crate) async fn serve_health(mut self, socket: TcpListener, drain: Drain) {
        self.ending = CancellationToken::new();
        let ending = self.ending.clone();
        let router = health_paths().layer(middleware::from_fn(guard::read_only)).with_state(self);
        listen::run("health", socket, router, listen::limits(), drain, ending).await;
    }
}

/// Admits probes while they have no separate listener.
async fn while_here(State(here): State<Arc<AtomicBool>>, request: Request, next: Next) -> Response {
    if here.load(Ordering::Relaxed) { next.run(request).await } else { StatusCode::NOT_FOUND.into_response() }
}

fn health_paths() -> Router<Admin> {
    Router::new()
        .route("/healthz", get(healthz))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics))
        .route("/.well-known/jwks.json", get(assertion_keys))
}

/// Serves the public keys by which backends verify assertions, on this listener and on routes that say so.
async fn assertion_keys(State(admin): State<Admin>) -> Response {
    match &admin.runtime.load_full().assertion_keys {
        Some(keys) => ([(header::CONTENT_TYPE, AssertionKeys::CONTENT_TYPE)], keys.published()).into_response(),
        None => StatusCode::NOT_FOUND.into_response(),
    }
}

async fn healthz() -> &'static str {
    "alive\n"
}

async fn readyz(State(admin): State<Admin>) -> Response {
    let waiting = admin.waiting_for();
    if waiting.is_empty() {
        "ready\n".into_response()
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, format!("not ready: {}\n", waiting.join(", "))).into_response()
    }
}

async fn metrics(State(admin): State<Admin>, headers: HeaderMap) -> Response {
    let accept = headers.get(header::ACCEPT).and_then(|accept| accept.to_str().ok()).unwrap_or_default();
    let format = Format::asked_for(accept);
    let mut text = MetricsText::new(format);
    admin.write_metrics(&mut text);
    ([(header::CONTENT_TYPE, format.content_type())], text.into_string()).into_response()
}

async fn status(State(admin): State<Admin>) -> axum::Json<status::Status> {
    axum::Json(admin.status())
}

async fn decisions(State(admin): State<Admin>, RawQuery(query): RawQuery) -> Response {
    if query.as_deref().is_some_and(|query| query.split('&').any(|part| part == "follow" || part.starts_with("follow="))) {
        return follow(&admin).into_response();
    }
    let mut body = Vec::from(*b"[");
    for (index, record) in admin.audit.recent().iter().enumerate() {
        if index > 0 {
            body.push(b',');
        }
        body.extend_from_slice(record);
    }
    body.push(b']');
    ([(header::CONTENT_TYPE, "application/json")], body).into_response()
}

/// Streams the records from now on, as server-sent events. A reader that falls behind misses some and is told so.
fn follow(admin: &Admin) -> Sse<impl futures_util::Stream<Item = Result<Event, Infallible>> + use<>> {
    let records = admin.audit.follow();
    let stream = futures_util::stream::unfold(records, |mut records| async move {
        use tokio::sync::broadcast::error::RecvError;
        let event = match records.recv().await {
            Ok(record) => Event::default().data(String::from_utf8_lossy(&record)),
            Err(RecvError::Lagged(missed)) => Event::default().event("missed").data(missed.to_string()),
            Err(RecvError::Closed) => return None,
        };
        Some((Ok(event), records))
    });
    let stream = stream.take_until(admin.ending.clone().cancelled_owned());
    Sse::new(stream).keep_alive(KeepAlive::default())
}

async fn page() -> Html<&'static str> {
    Html(include_str!("page.html"))
}

async fn script() -> Response {
    ([(header::CONTENT_TYPE, "text/javascript; charset=utf-8")], include_str!("page.js")).into_response()
}

async fn styles() -> Response {
    ([(header::CONTENT_TYPE, "text/css; charset=utf-8")], include_str!("page.css")).into_response()
}
