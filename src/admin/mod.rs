//! The admin and health listeners: read-only, and not reachable through a route.
//!
//! Paths are exact, GET (and HEAD) is the only method, and `Host` and `Origin` are checked, so that no page in an
//! operator's browser can read what stands here (DNS rebinding).

mod config;
mod guard;
mod status;

use std::{convert::Infallible, sync::Arc};

use arc_swap::ArcSwap;
use axum::{
    Router,
    extract::{RawQuery, State},
    http::{StatusCode, header},
    middleware,
    response::{
        Html, IntoResponse, Response,
        sse::{Event, KeepAlive, Sse},
    },
    routing::get,
};
pub use config::{AdminConfig, HealthConfig};
use tokio::{net::TcpListener, sync::watch};

use crate::{
    audit::AuditLog,
    identity::AssertionKeys,
    runtime::Runtime,
    server::Lifecycle,
    telemetry::{Metrics, MetricsText},
};

/// What the admin and health listeners show.
#[derive(Clone, Debug)]
pub struct Admin {
    /// The config in force.
    pub runtime: Arc<ArcSwap<Runtime>>,
    /// The records of requests.
    pub audit: Arc<AuditLog>,
    /// The request counters.
    pub metrics: Arc<Metrics>,
    /// Whether the gateway is draining, and how the last reload went.
    pub lifecycle: Arc<Lifecycle>,
}

impl Admin {
    /// Serves the admin paths, and the health paths too where they have no listener of their own, until `stop` changes.
    pub async fn serve(self, socket: TcpListener, health_too: bool, stop: watch::Receiver<bool>) {
        let own = Router::new().route("/", get(page)).route("/api/status", get(status)).route("/api/decisions", get(decisions));
        let router = if health_too { own.merge(health_paths()) } else { own };
        run(socket, router.layer(middleware::from_fn(guard::check)).with_state(self), stop).await;
    }

    /// Serves the health paths alone, until `stop` changes. A cluster's probes come with any `Host`.
    pub async fn serve_health(self, socket: TcpListener, stop: watch::Receiver<bool>) {
        run(socket, health_paths().layer(middleware::from_fn(guard::read_only)).with_state(self), stop).await;
    }
}

async fn run(socket: TcpListener, router: Router, mut stop: watch::Receiver<bool>) {
    let stopped = async move {
        // An error says that the gateway is gone, which is as good.
        let _ = stop.wait_for(|stop| *stop).await;
    };
    if let Err(error) = axum::serve(socket, router).with_graceful_shutdown(stopped).await {
        tracing::error!(%error, "the admin listener failed");
    }
}

fn health_paths() -> Router<Admin> {
    Router::new()
        .route("/healthz", get(healthz))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics))
        .route("/.well-known/jwks.json", get(assertion_keys))
}

/// The public keys by which backends check assertions. On this listener, and on others where a route says so.
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

async fn metrics(State(admin): State<Admin>) -> Response {
    let mut text = MetricsText::default();
    admin.write_metrics(&mut text);
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], text.into_string()).into_response()
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

/// The records from now on, as server-sent events. A reader that falls behind misses some and is told so.
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
    Sse::new(stream).keep_alive(KeepAlive::default())
}

async fn page() -> Html<&'static str> {
    Html(include_str!("page.html"))
}
