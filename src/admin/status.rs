//! The content of the status page and the probes.

use std::collections::BTreeMap;

use serde::Serialize;

use super::Admin;
use crate::{
    address::AddressSetStatus,
    entra::{KeySetStatus, VerifiedTokenCacheStatus},
    gateway::runtime::Runtime,
    listener::{Listener, ListenerCertificateStatus},
    partner::PartnerStatus,
    route::Action,
    telemetry::MetricsText,
    upstream::{OwnCertificateStatus, ServerState},
};

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
    #[serde(skip_serializing_if = "Option::is_none")]
    open_files: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    connections_warning: Option<String>,
    listeners: Vec<ListenerStatus>,
    routes: Vec<RouteStatus>,
    signing_keys: Vec<SigningKeysStatus>,
    credentials: Vec<crate::credentials::CredentialStatus>,
    address_sets: Vec<AddressSetStatus>,
    partners: Vec<PartnerStatus>,
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
    fn of((address, listener): &(std::net::SocketAddr, std::sync::Arc<Listener>)) -> Self {
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
    #[serde(skip_serializing_if = "Option::is_none")]
    upstream: Option<String>,
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
}

impl From<KeySetStatus> for SigningKeysStatus {
    fn from(status: KeySetStatus) -> Self {
        let KeySetStatus { url, application, keys, serves, age, error, .. } = status;
        Self { url, application, keys, serves, age_seconds: age.map(|age| age.as_secs()), error }
    }
}

#[derive(Debug, Serialize)]
struct UpstreamStatus {
    name: String,
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
}

impl From<ServerState> for ServerStatus {
    fn from(server: ServerState) -> Self {
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
        }
    }
}

impl Admin {
    /// Returns the things that the gateway still waits for before it is ready; empty once it is ready.
    pub(super) fn waiting_for(&self) -> Vec<String> {
        let draining = self.lifecycle.is_draining().then(|| "the end: it is draining".to_owned());
        draining.into_iter().chain(self.runtime.load_full().waiting_for()).collect()
    }

    pub(super) fn status(&self) -> Status {
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
            audit_records_lost: self.audit.dropped(),
            open_files: connections.open_files,
            connections_warning: connections.warning(),
            listeners: connections.listeners.iter().map(ListenerStatus::of).collect(),
            routes: runtime
                .routes
                .iter()
                .map(|route| RouteStatus {
                    name: route.name.to_string(),
                    policies: route.inbound.iter().map(|entry| entry.at.to_string()).collect(),
                    upstream: match &route.action {
                        Action::Forward(upstream) => Some(upstream.name().to_string()),
                        Action::Respond(_) | Action::Describe(_) | Action::Relay(_) | Action::Keys(_) | Action::Service => None,
                    },
                })
                .collect(),
            signing_keys: runtime.tenants.status(&runtime.clock).into_iter().map(SigningKeysStatus::from).collect(),
            credentials: runtime.credentials.status(),
            address_sets: runtime.address_sets.status(runtime.clock.unix_seconds()),
            partners: runtime.partners.status(&runtime.clock),
            listener_certificates: listener_certificates(&runtime),
            vault_secrets: runtime.credentials.secrets(runtime.clock.unix_seconds()),
            upstreams: runtime
                .upstreams
                .iter()
                .map(|upstream| UpstreamStatus {
                    name: upstream.name().to_string(),
                    client_certificate: upstream.own_certificate_status(runtime.clock.unix_seconds()),
                    servers: upstream.states().map(ServerStatus::from).collect(),
                })
                .collect(),
        }
    }

    pub(super) fn write_metrics(&self, text: &mut MetricsText) {
        let runtime = self.runtime.load_full();
        self.metrics.write(text);
        runtime.partners.write_metrics(text);
        text.family("entrada_config_generation", "gauge", "How many configs were in force before this one.");
        text.sample("entrada_config_generation", &[], runtime.generation);
        text.family("entrada_config_reload_failed", "gauge", "Whether the last reload was not taken.");
        text.sample("entrada_config_reload_failed", &[], u8::from(self.lifecycle.last_reload_error().is_some()));
        text.family("entrada_audit_records_lost_total", "counter", "Audit records that no sink took.");
        text.sample("entrada_audit_records_lost_total", &[], self.audit.dropped());
        runtime.limits.write_metrics(text);
        write_connections(&self.lifecycle.connections().listeners, text);
        write_verified_tokens(runtime.tenants.verified_token_cache_status(), text);
        write_credentials(&runtime.credentials.status(), text);
        write_listener_certificates(&listener_certificates(&runtime), text);
        text.family("entrada_upstream_requests_under_way", "gauge", "Requests that wait for a server's answer.");
        for upstream in runtime.upstreams.iter() {
            for (server, count) in upstream.servers() {
                text.sample("entrada_upstream_requests_under_way", &[("upstream", upstream.name()), ("server", server)], count);
            }
        }
        type Is = fn(&ServerState) -> bool;
        let families: [(&str, &str, Is); 2] = [
            ("entrada_upstream_server_up", "Whether the server's health checks pass, or there are none.", |server| {
                server.healthy
            }),
            ("entrada_upstream_server_ejected", "Whether the server is left alone, since it failed too often.", |server| {
                server.ejected
            }),
        ];
        for (family, help, is) in families {
            text.family(family, "gauge", help);
            for upstream in runtime.upstreams.iter() {
                for server in upstream.states() {
                    text.sample(family, &[("upstream", upstream.name()), ("server", &server.name)], u8::from(is(&server)));
                }
            }
        }
    }
}

fn listener_certificates(runtime: &Runtime) -> Vec<ListenerCertificateStatus> {
    runtime.listener_certificates(runtime.clock.unix_seconds()).into_iter().map(|(status, _)| status).collect()
}

fn write_listener_certificates(certificates: &[ListenerCertificateStatus], text: &mut MetricsText) {
    let ends: BTreeMap<_, _> = certificates.iter().map(|it| ((&*it.listener, &*it.certificate), it.not_after)).collect();
    let family = "entrada_listener_certificate_expiry_timestamp_seconds";
    text.family(family, "gauge", "When a certificate that a listener shows ends, in seconds since 1970.");
    for ((listener, certificate), not_after) in ends {
        text.sample(family, &[("listener", listener), ("certificate", certificate)], not_after);
    }
}

/// Writes the connections of the listeners, and the number of refused ones.
fn write_connections(listeners: &[(std::net::SocketAddr, std::sync::Arc<Listener>)], text: &mut MetricsText) {
    let labels = |address: &std::net::SocketAddr, listener: &Listener| (listener.name.to_string(), address.to_string());
    let mut write = |name: &str, kind: &str, help: &str, value: &dyn Fn(&Listener) -> u64| {
        text.family(name, kind, help);
        for (address, listener) in listeners {
            let (name_of, address) = labels(address, listener);
            text.sample(name, &[("listener", &name_of), ("address", &address)], value(listener));
        }
    };
    write("entrada_connections", "gauge", "Connections that are open.", &|listener| listener.connections() as u64);
    write("entrada_connections_limit", "gauge", "Connections that may be open at once.", &|listener| {
        listener.limits().connections as u64
    });
    write("entrada_connections_closed_for_others_total", "counter", "Connections that rested and made room.", &|listener| {
        listener.counts().closed_for_others
    });
    write("entrada_connections_refused_total", "counter", "Connections beyond the listener's limit.", &|listener| {
        listener.counts().refused
    });
    write("entrada_connections_refused_peers_total", "counter", "Connections beyond the limit of one peer.", &|listener| {
        listener.counts().refused_peers
    });
    write("entrada_accept_failures_total", "counter", "Connections that the system did not give.", &|listener| {
        listener.counts().failed
    });
}

/// Writes the size and hits of the verified-token cache.
fn write_verified_tokens(tokens: VerifiedTokenCacheStatus, text: &mut MetricsText) {
    text.family("entrada_verified_tokens", "gauge", "Tokens that are kept so as not to verify them again.");
    text.sample("entrada_verified_tokens", &[], tokens.tokens);
    text.family("entrada_verified_tokens_bytes", "gauge", "The memory that kept tokens take.");
    text.sample("entrada_verified_tokens_bytes", &[], tokens.bytes);
    text.family("entrada_verified_token_hits_total", "counter", "Tokens whose signature had been verified before.");
    text.sample("entrada_verified_token_hits_total", &[], tokens.found);
    text.family("entrada_token_verifications_total", "counter", "Signatures of tokens that were verified.");
    text.sample("entrada_token_verifications_total", &[], tokens.verified);
}

/// Writes the state of credentials: unavailable tokens, and certificates that expire.
fn write_credentials(credentials: &[crate::credentials::CredentialStatus], text: &mut MetricsText) {
    text.family("entrada_credential_ready", "gauge", "Whether every token that routes ask for is there.");
    for credential in credentials {
        text.sample("entrada_credential_ready", &[("credential", &credential.name)], u8::from(credential.ready));
    }
    text.family("entrada_credential_token_requests_total", "counter", "Token requests that were made.");
    for credential in credentials {
        let requests: u64 = credential.tokens.iter().map(|token| token.requests).sum();
        text.sample("entrada_credential_token_requests_total", &[("credential", &credential.name)], requests);
    }
    text.family("entrada_credential_token_failures_total", "counter", "Token requests that failed.");
    for credential in credentials {
        let failures: u64 = credential.tokens.iter().map(|token| token.failures).sum();
        text.sample("entrada_credential_token_failures_total", &[("credential", &credential.name)], failures);
    }
    text.family("entrada_credential_certificate_expiry_seconds", "gauge", "When a certificate ends, in seconds since 1970.");
    for credential in credentials {
        for certificate in &credential.certificates {
            let labels = [("credential", &*credential.name), ("thumbprint", &*certificate.thumbprint)];
            text.sample("entrada_credential_certificate_expiry_seconds", &labels, certificate.not_after);
        }
    }
}
