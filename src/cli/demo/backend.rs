//! The demo's two backends: one describes the requests that it receives, one requires the gateway's own token.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use anyhow::Context as _;
use axum::{
    Json, Router,
    extract::{Request, State},
    response::{IntoResponse, Response},
};
use http::{HeaderMap, StatusCode, header};
use serde_json::{Value, json};
use tokio::net::TcpListener;

use super::environment::{GATEWAY, INTERNAL};
use crate::{base::lock::lock, dev_tenant::DevTenant};

/// A request as a backend received it.
#[derive(Clone, Debug)]
pub(super) struct ReceivedRequest {
    pub(super) path: String,
    pub(super) headers: HeaderMap,
}

impl ReceivedRequest {
    /// Returns all values of a field, under any spelling that a CGI-like reader takes for it.
    pub(super) fn all(&self, name: &str) -> Vec<String> {
        let folded = |name: &str| name.replace(|letter: char| !letter.is_ascii_alphanumeric(), "_").to_ascii_lowercase();
        self.headers
            .iter()
            .filter(|(other, _)| folded(other.as_str()) == folded(name))
            .map(|(_, value)| String::from_utf8_lossy(value.as_bytes()).into_owned())
            .collect()
    }

    pub(super) fn bearer(&self) -> Option<&str> {
        self.headers.get(header::AUTHORIZATION)?.to_str().ok()?.strip_prefix("Bearer ")
    }
}

/// A running backend.
#[derive(Debug)]
pub(super) struct Backend {
    pub(super) address: SocketAddr,
    last: Arc<Mutex<Option<ReceivedRequest>>>,
}

/// The state of a backend's handler.
#[derive(Clone)]
struct BackendState {
    last: Arc<Mutex<Option<ReceivedRequest>>>,
    /// The tenant whose tokens are required; `None` for the backend that admits everybody.
    tenant: Option<Arc<DevTenant>>,
}

impl Backend {
    /// Starts a backend that describes each request to its caller.
    pub(super) async fn echo() -> anyhow::Result<Self> {
        Self::start(None).await
    }

    /// Starts a backend that admits only the gateway's own token, which it verifies.
    pub(super) async fn demanding(tenant: Arc<DevTenant>) -> anyhow::Result<Self> {
        Self::start(Some(tenant)).await
    }

    async fn start(tenant: Option<Arc<DevTenant>>) -> anyhow::Result<Self> {
        let listener = TcpListener::bind((std::net::Ipv4Addr::LOCALHOST, 0)).await.context("a backend cannot listen")?;
        let address = listener.local_addr().context("a backend cannot listen")?;
        let last: Arc<Mutex<Option<ReceivedRequest>>> = Arc::default();
        let router = Router::new().fallback(answer).with_state(BackendState { last: last.clone(), tenant });
        tokio::spawn(async move { axum::serve(listener, router).await });
        Ok(Self { address, last })
    }

    /// Takes the requests received since the last call.
    pub(super) fn take(&self) -> Option<ReceivedRequest> {
        lock(&self.last).take()
    }
}

async fn answer(State(state): State<BackendState>, request: Request) -> Response {
    let seen = ReceivedRequest { path: request.uri().path().to_owned(), headers: request.headers().clone() };
    *lock(&state.last) = Some(seen.clone());
    match &state.tenant {
        None => Json(json!({ "backend": "orders", "method": request.method().as_str(), "path": seen.path, "headers": plain(&seen.headers) }))
            .into_response(),
        Some(tenant) => match admit(tenant, &seen) {
            Ok(client) => Json(json!({ "backend": "internal", "path": seen.path, "accepted": client })).into_response(),
            Err(why) => (
                StatusCode::UNAUTHORIZED,
                [(header::WWW_AUTHENTICATE, "Bearer error=\"invalid_token\"")],
                Json(json!({ "backend": "internal", "refused": why })),
            )
                .into_response(),
        },
    }
}

/// Performs the checks of any careful API: signature, audience, client, role.
fn admit(tenant: &DevTenant, seen: &ReceivedRequest) -> Result<Value, &'static str> {
    let claims = seen.bearer().and_then(|token| tenant.verify(token)).ok_or("no token of this tenant")?;
    if claims.get("aud").and_then(Value::as_str) != Some(INTERNAL) {
        return Err("a token for another API");
    }
    if claims.get("azp").and_then(Value::as_str) != Some(GATEWAY) || claims.get("azpacr").and_then(Value::as_str) != Some("2") {
        return Err("not the gateway, or not by certificate");
    }
    let roles = claims.get("roles").and_then(Value::as_array);
    if !roles.is_some_and(|roles| roles.iter().any(|role| role == "Orders.Forward")) {
        return Err("no role");
    }
    Ok(json!({ "client": claims["azp"], "credential": "certificate", "roles": claims["roles"] }))
}

/// Converts header fields to JSON, with tokens shortened.
fn plain(headers: &HeaderMap) -> Value {
    let fields = headers.iter().map(|(name, value)| {
        let value = String::from_utf8_lossy(value.as_bytes());
        let text = if value.len() > 100 {
            format!("{}… ({} characters)", value.chars().take(24).collect::<String>(), value.len())
        } else {
            value.into_owned()
        };
        (name.as_str().to_owned(), Value::from(text))
    });
    Value::Object(fields.collect())
}
