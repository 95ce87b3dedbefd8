//! The admin and health listeners: read-only, and not reachable through a route.
//!
//! Before others than callers on this machine reach it, it can ask for a token or a certificate, which the gateway's own code judges.
//! Paths are exact, GET (and HEAD) is the only method but for `POST /api/explain`, which changes nothing, and `Host` and `Origin` are checked, so that no page in an
//! operator's browser can read it (DNS rebinding). Both are served like the public listeners, with the same
//! strict codec, limits of their own, and a drain.

mod assets;
mod attention;
mod candidate;
mod decisions;
mod explain;
mod guard;
mod history;
mod lifecycle;
mod listen;
mod metrics;
mod overview;
mod routes;
mod shown;
mod status;
mod words;

use std::{
    net::TcpListener,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use arc_swap::ArcSwap;
use axum::{
    Router,
    extract::{Request, State},
    http::{HeaderMap, StatusCode, header},
    middleware::{self, Next},
    response::{IntoResponse, Response},
    routing::{get, post},
};
pub(crate) use history::History;
pub use lifecycle::{Connections, Lifecycle, Reload};
pub(crate) use listen::{AdminListeners, BindError, BoundAdmin};
pub(crate) use shown::ShownConfig;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use crate::{
    audit::AuditLog,
    config::Written,
    gateway::{candidate::Candidates, runtime::Runtime},
    identity::AssertionKeys,
    listener::{Drain, Listener},
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
    /// The parts of the active config that the console shows.
    pub(crate) shown: Arc<ArcSwap<ShownConfig>>,
    /// The requests of the last minutes.
    pub(crate) history: Arc<History>,
    /// Permits for those who follow the records.
    pub(crate) followers: Arc<Semaphore>,
    /// The place of a candidate, if the process was started with one.
    pub candidates: Option<Arc<Candidates>>,
    /// Cancelled when the listener ends, which ends endless responses.
    pub ending: CancellationToken,
}

/// Returns the permits for those who follow the records, as many as may at once.
pub(crate) fn followers() -> Arc<Semaphore> {
    decisions::followers()
}

impl Admin {
    /// Serves the admin paths until the drain, and the health paths too while they have no separate listener.
    pub(crate) async fn serve(mut self, socket: TcpListener, listener: Arc<Listener>, probes: Arc<AtomicBool>, drain: Drain) {
        self.ending = CancellationToken::new();
        let ending = self.ending.clone();
        let own = assets::routes()
            .route("/api/status", get(status::answer))
            .route("/api/overview", get(overview::overview))
            .route("/api/config", get(overview::config))
            .route("/api/config/parts", get(config_parts))
            .route("/api/routes", get(routes::routes))
            .route("/api/decisions", get(decisions::decisions))
            .route(explain::PATH, post(explain::explain));
        let probes = health_paths().route_layer(middleware::from_fn_with_state(probes, while_here));
        let guard = middleware::from_fn_with_state(self.clone(), guard::check);
        let router = own.merge(probes).layer(guard).with_state(self);
        listen::run(listener, socket, router, drain, ending).await;
    }

    /// Serves only the health paths, until the drain. A cluster's probes come with any `Host`.
    pub(crate) async fn serve_health(mut self, socket: TcpListener, listener: Arc<Listener>, drain: Drain) {
        self.ending = CancellationToken::new();
        let ending = self.ending.clone();
        let router = health_paths().layer(middleware::from_fn(guard::read_only)).with_state(self);
        listen::run(listener, socket, router, drain, ending).await;
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

/// Returns the digests of the running config and of its parts: enough to tell where another one differs, and no setting.
async fn config_parts(State(admin): State<Admin>) -> axum::Json<serde_json::Value> {
    let runtime = admin.runtime.load_full();
    axum::Json(serde_json::json!({ "digest": runtime.digest, "generation": runtime.generation, "parts": *runtime.parts }))
}
