//! `/api/overview` and `/api/config`.

use axum::{Json, extract::State};
use serde::Serialize;
use serde_json::Value;

use super::{
    Admin,
    attention::Matter,
    history::{History, Sample},
    lifecycle::Reload,
};
use crate::telemetry::DecisionCounts;

/// The gateway at a glance.
#[derive(Debug, Serialize)]
pub(super) struct Overview {
    version: &'static str,
    /// The time of the gateway, in seconds since 1970, and that of its start.
    now: u64,
    started_at: u64,
    ready: bool,
    waiting_for: Vec<String>,
    draining: bool,
    generation: u64,
    digest: String,
    /// The numbers of routes, partners and upstreams.
    routes: usize,
    partners: usize,
    upstreams: usize,
    /// The requests since the process began.
    requests: DecisionCounts,
    requests_under_way: u64,
    connections: usize,
    history: Samples,
    attention: Vec<Matter>,
}

/// The requests of the last minutes.
#[derive(Debug, Serialize)]
struct Samples {
    every_seconds: u64,
    samples: Vec<Sample>,
}

/// The config in force, and those before.
#[derive(Debug, Serialize)]
pub(super) struct ConfigStatus {
    generation: u64,
    digest: String,
    /// The files that it is read from, the main one first.
    files: Vec<String>,
    /// The configs that were read since the start, the newest first.
    reloads: Vec<Reload>,
    /// The warnings of `check`.
    warnings: Vec<Value>,
    /// The warnings that are silenced, with the reasons.
    silenced: Vec<Value>,
}

pub(super) async fn overview(State(admin): State<Admin>) -> Json<Overview> {
    let (runtime, shown) = (admin.runtime.load_full(), admin.shown.load_full());
    let (requests, requests_under_way) = admin.metrics.totals();
    let waiting_for = admin.waiting_for();
    Json(Overview {
        version: env!("CARGO_PKG_VERSION"),
        now: runtime.clock.unix_seconds(),
        started_at: admin.lifecycle.started_at(),
        ready: waiting_for.is_empty(),
        waiting_for,
        draining: admin.lifecycle.is_draining(),
        generation: runtime.generation,
        digest: runtime.digest.to_string(),
        routes: runtime.routes.len(),
        partners: runtime.partners.iter().count(),
        upstreams: runtime.upstreams.iter().count(),
        requests,
        requests_under_way,
        connections: admin.lifecycle.connections().listeners.iter().map(|(_, listener)| listener.counts().open).sum(),
        history: Samples { every_seconds: History::every_seconds(), samples: admin.history.samples() },
        attention: admin.attention(&runtime, &shown),
    })
}

pub(super) async fn config(State(admin): State<Admin>) -> Json<ConfigStatus> {
    let (runtime, shown) = (admin.runtime.load_full(), admin.shown.load_full());
    Json(ConfigStatus {
        generation: runtime.generation,
        digest: runtime.digest.to_string(),
        files: shown.files.clone(),
        reloads: admin.lifecycle.reloads(),
        warnings: shown.warnings.clone(),
        silenced: shown.silenced.clone(),
    })
}
