//! `/api/status`, and what readiness waits for.

use std::sync::Arc;

use axum::{
    Json,
    extract::{Query, State, rejection::QueryRejection},
    response::{IntoResponse, Response},
};
use http::StatusCode;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{Admin, candidate::CandidateSection, shown::ShownPartner};
use crate::{
    address::AddressSetStatus,
    audit::SinkStatus,
    entra::KeySetStatus,
    gateway::runtime::Runtime,
    limits::store::StoreStatus,
    listener::{Listener, ListenerCertificateStatus},
    partner::{Partner, PartnerStatus},
    route::{Action, Route},
    telemetry::{Counters, DecisionCounts, Decisions},
    upstream::{OwnCertificateStatus, ServerCounts, ServerState, Upstream},
};

/// The question.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Question {
    /// The members that are wanted, with commas; all without it.
    parts: Option<String>,
}

/// Answers with the status, or with parts of it.
pub(super) async fn answer(State(admin): State<Admin>, question: Result<Query<Question>, QueryRejection>) -> Response {
    let parts = match question {
        Ok(Query(question)) => question.parts,
        Err(rejection) => return (StatusCode::BAD_REQUEST, format!("{}\n", rejection.body_text())).into_response(),
    };
    let Some(parts) = parts else { return Json(admin.status(true)).into_response() };
    let wanted: Vec<_> = parts.split(',').collect();
    // The routes alone are many.
    let status = admin.status(wanted.contains(&"routes"));
    match serde_json::to_value(status) {
        Ok(Value::Object(mut members)) => {
            members.retain(|name, _| wanted.contains(&name.as_str()));
            Json(members).into_response()
        }
        _ => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}

/// `/api/status`.
#[derive(Debug, Serialize)]
pub(super) struct Status {
    version: &'static str,
    ready: bool,
    waiting_for: Vec<String>,
    draining: bool,
    generation: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_reload_error: Option<String>,
    audit_records_lost: u64,
    /// The sinks of audit records.
    audit_sinks: Vec<SinkStatus>,
    #[serde(skip_serializing_if = "Option::is_none")]
    candidate: Option<CandidateSection>,
    #[serde(skip_serializing_if = "Option::is_none")]
    open_files: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    connections_warning: Option<String>,
    listeners: Vec<ListenerStatus>,
    routes: Vec<RouteStatus>,
    signing_keys: Vec<SigningKeysStatus>,
    credentials: Vec<crate::credentials::CredentialStatus>,
    address_sets: Vec<AddressSetStatus>,
    partners: Vec<PartnerRow>,
    #[serde(skip_serializing_if = "Option::is_none")]
    limit_store: Option<StoreStatus>,
    listener_certificates: Vec<ListenerCertificateStatus>,
    vault_secrets: Vec<crate::credentials::VaultSecretStatus>,
    upstreams: Vec<UpstreamStatus>,
}

/// The connections of one address of a listener.
#[derive(Debug, Serialize)]
struct ListenerStatus {
    name: String,
    address: String,
    connections: usize,
    limit: usize,
    limit_per_peer: usize,
    closed_for_others: u64,
    refused: u64,
    refused_peers: u64,
    accept_failures: u64,
}

impl ListenerStatus {
    fn of((address, listener): &(std::net::SocketAddr, Arc<Listener>)) -> Self {
        let (counts, limits) = (listener.counts(), listener.limits());
        Self {
            name: listener.name.to_string(),
            address: address.to_string(),
            connections: counts.open,
            limit: limits.connections,
            limit_per_peer: limits.connections_per_peer,
            closed_for_others: counts.closed_for_others,
            refused: counts.refused,
            refused_peers: counts.refused_peers,
            accept_failures: counts.failed,
        }
    }
}

#[derive(Debug, Serialize)]
struct RouteStatus {
    name: String,
    policies: Vec<String>,
    /// `report-only`, if no policy of the route's own refuses.
    #[serde(skip_serializing_if = "Option::is_none")]
    mode: Option<&'static str>,
    /// The policies whose refusals are not enforced.
    report_only: Vec<String>,
    /// Their refusals since the process began.
    would_deny: Vec<WouldDenyStatus>,
    #[serde(skip_serializing_if = "Option::is_none")]
    upstream: Option<String>,
}

/// The refusals of a policy that were not enforced.
#[derive(Debug, Serialize)]
struct WouldDenyStatus {
    policy: String,
    code: String,
    count: u64,
}

impl RouteStatus {
    fn of(route: &Route) -> Self {
        let mut report_only = Vec::new();
        route.inbound.each(&mut |entry| report_only.extend(entry.report_only.then(|| entry.at.to_string())));
        let would_deny = Counters::would_deny(&route.counters).into_iter().map(|counted| WouldDenyStatus {
            policy: counted.policy.to_string(),
            code: counted.code.into_string(),
            count: counted.count,
        });
        Self {
            name: route.name.to_string(),
            policies: route.inbound.iter().map(|entry| entry.at.to_string()).collect(),
            mode: route.report_only.then_some("report-only"),
            report_only,
            would_deny: would_deny.collect(),
            upstream: match &route.action {
                Action::Forward(upstream) => Some(upstream.name().to_string()),
                Action::Respond(_)
                | Action::Describe(_)
                | Action::Relay(_)
                | Action::Keys(_)
                | Action::Service
                | Action::Decide => None,
            },
        }
    }
}

/// One discovery document and its keys.
#[derive(Debug, Serialize)]
struct SigningKeysStatus {
    url: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    application: Option<String>,
    keys: usize,
    serves: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    age_seconds: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
    /// The fetches of the set, how many failed, and the tokens that named a key which it did not have.
    #[serde(skip_serializing_if = "Option::is_none")]
    fetches: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    failures: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    unknown_key_ids: Option<u64>,
}

impl From<KeySetStatus> for SigningKeysStatus {
    fn from(status: KeySetStatus) -> Self {
        let KeySetStatus { url, application, keys, serves, age, error, counts, .. } = status;
        Self {
            url,
            application,
            keys,
            serves,
            age_seconds: age.map(|age| age.as_secs()),
            error,
            fetches: counts.map(|counts| counts.fetches),
            failures: counts.map(|counts| counts.failures),
            unknown_key_ids: counts.map(|counts| counts.unknown_keys),
        }
    }
}

/// A partner: its state, its description in the config, and its calls.
#[derive(Debug, Serialize)]
struct PartnerRow {
    #[serde(flatten)]
    status: PartnerStatus,
    #[serde(flatten)]
    shown: ShownPartner,
    #[serde(flatten)]
    counts: DecisionCounts,
    /// The time of the last call, in seconds since 1970.
    #[serde(skip_serializing_if = "Option::is_none")]
    last_seen: Option<u64>,
}

#[derive(Debug, Serialize)]
struct UpstreamStatus {
    name: String,
    /// The requests that were sent once more.
    retries: u64,
    /// The gateway's own certificate towards the servers.
    #[serde(skip_serializing_if = "Option::is_none")]
    client_certificate: Option<OwnCertificateStatus>,
    servers: Vec<ServerStatus>,
}

#[derive(Debug, Serialize)]
struct ServerStatus {
    server: String,
    requests_under_way: usize,
    /// `up`, `down` (its health checks fail) or `ejected` (it failed several times in a row).
    state: &'static str,
    /// Since when, where that has changed since the gateway began to speak to it.
    #[serde(skip_serializing_if = "Option::is_none")]
    since: Option<String>,
    /// Why it is not up.
    #[serde(skip_serializing_if = "Option::is_none")]
    cause: Option<String>,
    /// The connections that are kept, and those that could not be made.
    connections: usize,
    connect_failures: u64,
    ejections: u64,
}

impl UpstreamStatus {
    fn of(upstream: &Upstream, now: u64) -> Self {
        Self {
            name: upstream.name().to_string(),
            retries: upstream.retries(),
            client_certificate: upstream.own_certificate_status(now),
            servers: upstream.states().zip(upstream.counts()).map(|(state, counts)| ServerStatus::of(state, &counts)).collect(),
        }
    }
}

impl ServerStatus {
    fn of(server: ServerState, counts: &ServerCounts) -> Self {
        let since =
            server.since.and_then(|since| i64::try_from(since).ok()).and_then(|since| jiff::Timestamp::from_second(since).ok());
        Self {
            state: match (server.healthy, server.ejected) {
                (false, _) => "down",
                (true, true) => "ejected",
                (true, false) => "up",
            },
            server: server.name.to_string(),
            requests_under_way: server.in_flight,
            since: since.map(|since| since.to_string()),
            cause: server.cause.map(|cause| cause.to_string()),
            connections: counts.kept,
            connect_failures: counts.connect_failures,
            ejections: counts.ejections,
        }
    }
}

impl Admin {
    /// Returns the things that the gateway still waits for before it is ready; empty once it is ready.
    pub(super) fn waiting_for(&self) -> Vec<String> {
        let draining = self.lifecycle.is_draining().then(|| "the end: it is draining".to_owned());
        draining.into_iter().chain(self.runtime.load_full().waiting_for()).collect()
    }

    /// Returns the status, with or without the routes.
    pub(super) fn status(&self, with_routes: bool) -> Status {
        let runtime = self.runtime.load_full();
        let waiting_for = self.waiting_for();
        let connections = self.lifecycle.connections();
        Status {
            version: env!("CARGO_PKG_VERSION"),
            ready: waiting_for.is_empty(),
            waiting_for,
            draining: self.lifecycle.is_draining(),
            generation: runtime.generation,
            last_reload_error: self.lifecycle.last_reload_error().map(|error| error.to_string()),
            audit_records_lost: self.audit.lost(),
            audit_sinks: self.audit.status(),
            candidate: self.candidates.as_ref().map(|candidates| candidates.status().into()),
            open_files: connections.open_files,
            connections_warning: connections.warning(),
            listeners: connections.listeners.iter().map(ListenerStatus::of).collect(),
            routes: runtime.routes.iter().filter(|_| with_routes).map(RouteStatus::of).collect(),
            signing_keys: runtime.tenants.status(&runtime.clock).into_iter().map(SigningKeysStatus::from).collect(),
            credentials: runtime.credentials.status(),
            address_sets: runtime.address_sets.status(runtime.clock.unix_seconds()),
            partners: self.partners(&runtime),
            limit_store: runtime.limit_store.as_ref().map(|store| store.status()),
            listener_certificates: listener_certificates(&runtime),
            vault_secrets: runtime.credentials.secrets(runtime.clock.unix_seconds()),
            upstreams: runtime
                .upstreams
                .iter()
                .map(|upstream| UpstreamStatus::of(upstream, runtime.clock.unix_seconds()))
                .collect(),
        }
    }

    fn partners(&self, runtime: &Runtime) -> Vec<PartnerRow> {
        let shown = self.shown.load_full();
        let statuses = runtime.partners.iter().zip(runtime.partners.status(&runtime.clock));
        let row = |(partner, status): (&Arc<Partner>, PartnerStatus)| {
            let (counts, last_seen) = Decisions::sum(&partner.counters);
            PartnerRow {
                status,
                shown: shown.partners.get(&*partner.name).cloned().unwrap_or_default(),
                counts,
                last_seen: Some(last_seen).filter(|last_seen| *last_seen > 0),
            }
        };
        statuses.map(row).collect()
    }
}

pub(super) fn listener_certificates(runtime: &Runtime) -> Vec<ListenerCertificateStatus> {
    runtime.listener_certificates(runtime.clock.unix_seconds()).into_iter().map(|(status, _)| status).collect()
}
