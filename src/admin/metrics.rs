//! `/metrics`: what the gateway counts and knows of itself.

use std::{collections::BTreeMap, net::SocketAddr, sync::Arc};

use super::{Admin, status::listener_certificates};
use crate::{
    audit::SinkStatus,
    base::counts::DURATIONS,
    credentials::CredentialStatus,
    entra::{KeySetStatus, VerifiedTokenCacheStatus},
    gateway::runtime::Runtime,
    listener::{ConnectionCounts, Listener, ListenerCertificateStatus},
    telemetry::{MetricsText, write_process},
    upstream::{ServerCounts, ServerState, Upstream},
};

impl Admin {
    /// Returns the metrics in Prometheus' text format.
    pub(crate) fn metrics_text(&self) -> String {
        let mut text = MetricsText::default();
        self.write_metrics(&mut text);
        text.into_string()
    }

    pub(super) fn write_metrics(&self, text: &mut MetricsText) {
        let runtime = self.runtime.load_full();
        self.metrics.write(text);
        self.candidates.iter().for_each(|candidates| candidates.write_metrics(text));
        runtime.partners.write_metrics(&runtime.clock, text);
        self.write_config(&runtime, text);
        write_sinks(&self.audit.status(), self.audit.dropped(), text);
        runtime.limits.write_metrics(text);
        if let Some(store) = &runtime.limit_store {
            store.write_metrics(text);
        }
        write_connections(&self.lifecycle.connections().listeners, text);
        write_verified_tokens(runtime.tenants.verified_token_cache_status(), text);
        write_signing_keys(&runtime.tenants.status(&runtime.clock), text);
        write_credentials(&runtime.credentials.status(), text);
        write_listener_certificates(&listener_certificates(&runtime), text);
        let upstreams: Vec<_> = runtime.upstreams.iter().collect();
        write_upstreams(&upstreams, text);
        write_server_durations(&upstreams, text);
        let (exported, dropped) = self.traces.as_ref().map(|traces| traces.counts()).unwrap_or_default();
        text.single("entrada_otlp_spans_exported_total", "counter", "Spans that a collector has taken.", exported);
        text.single("entrada_otlp_spans_dropped_total", "counter", "Spans that no collector took in time.", dropped);
        write_process(text);
    }

    fn write_config(&self, runtime: &Runtime, text: &mut MetricsText) {
        text.family("entrada_config_info", "gauge", "The digest of the config in force; always 1.");
        text.sample("entrada_config_info", &[("digest", &runtime.digest)], 1);
        text.single("entrada_config_generation", "gauge", "How many configs were in force before this one.", runtime.generation);
        let taken = u8::from(self.lifecycle.last_reload_error().is_none());
        text.single("entrada_config_last_reload_successful", "gauge", "Whether the last config was taken.", taken);
        let name = "entrada_config_last_reload_timestamp_seconds";
        text.single(
            name,
            "gauge",
            "When the last config was read, taken or not, or the gateway was started.",
            self.lifecycle.reloaded_at(),
        );
    }
}

/// Writes what became of audit records, for each sink; what found no room in the buffers before them has the sink `buffers`.
fn write_sinks(sinks: &[SinkStatus], lost: u64, text: &mut MetricsText) {
    let name = "entrada_audit_records_written_total";
    text.family(name, "counter", "Audit records that a sink took.");
    sinks.iter().for_each(|sink| text.sample(name, &[("sink", &sink.name)], sink.written));
    let name = "entrada_audit_records_lost_total";
    text.family(name, "counter", "Audit records that a sink did not take, or that found no room.");
    text.sample(name, &[("sink", "buffers")], lost);
    sinks.iter().for_each(|sink| text.sample(name, &[("sink", &sink.name)], sink.dropped));
    let name = "entrada_audit_failures_total";
    text.family(name, "counter", "Failures of a sink of audit records.");
    sinks.iter().for_each(|sink| text.sample(name, &[("sink", &sink.name)], sink.failures));
    let mut waiting = |name: &str, help: &str, value: &dyn Fn(&SinkStatus) -> Option<u64>| {
        text.family(name, "gauge", help);
        for sink in sinks {
            if let Some(value) = value(sink) {
                text.sample(name, &[("sink", &sink.name)], value);
            }
        }
    };
    waiting("entrada_audit_spooled_bytes", "Bytes of audit records that wait for a sink.", &|sink| sink.spooled_bytes);
    waiting("entrada_audit_oldest_seconds", "The age of the oldest audit record that waits for a sink.", &|sink| {
        sink.oldest_seconds
    });
}

fn write_listener_certificates(certificates: &[ListenerCertificateStatus], text: &mut MetricsText) {
    let ends: BTreeMap<_, _> = certificates.iter().map(|it| ((&*it.listener, &*it.certificate), it.not_after)).collect();
    let family = "entrada_listener_certificate_expiry_timestamp_seconds";
    text.family(family, "gauge", "When a certificate that a listener shows ends, in seconds since 1970.");
    for ((listener, certificate), not_after) in ends {
        text.sample(family, &[("listener", listener), ("certificate", certificate)], not_after);
    }
}

/// A family of metrics: its name, type and help text, and how its value is read.
type Family<T> = (&'static str, &'static str, &'static str, fn(&T) -> u64);

/// Writes the connections of the listeners, the number of refused ones, and their handshakes.
fn write_connections(listeners: &[(SocketAddr, Arc<Listener>)], text: &mut MetricsText) {
    const COUNTS: [Family<ConnectionCounts>; 8] = [
        ("entrada_connections", "gauge", "Connections that are open.", |counts| counts.open as u64),
        ("entrada_connections_closed_for_others_total", "counter", "Connections that rested and made room.", |counts| {
            counts.closed_for_others
        }),
        ("entrada_connections_refused_total", "counter", "Connections beyond the listener's limit.", |counts| counts.refused),
        ("entrada_connections_refused_peers_total", "counter", "Connections beyond the limit of one peer.", |counts| {
            counts.refused_peers
        }),
        (
            "entrada_connections_untrusted_total",
            "counter",
            "Connections of peers that are no trusted proxies, closed at once.",
            |counts| counts.untrusted,
        ),
        ("entrada_accept_failures_total", "counter", "Connections that the system did not give.", |counts| counts.failed),
        ("entrada_tls_handshakes_total", "counter", "TLS handshakes that succeeded.", |counts| counts.handshakes),
        ("entrada_tls_handshake_failures_total", "counter", "TLS handshakes that failed, or did not end in time.", |counts| {
            counts.failed_handshakes
        }),
    ];
    let listeners: Vec<_> = listeners.iter().map(|(address, listener)| (address.to_string(), listener)).collect();
    for (name, kind, help, value) in COUNTS {
        text.family(name, kind, help);
        for (address, listener) in &listeners {
            text.sample(name, &[("listener", &listener.name), ("address", address)], value(&listener.counts()));
        }
    }
    let name = "entrada_connections_limit";
    text.family(name, "gauge", "Connections that may be open at once.");
    for (address, listener) in &listeners {
        text.sample(name, &[("listener", &listener.name), ("address", address)], listener.limits().connections);
    }
}

/// Writes the size and hits of the verified-token cache.
fn write_verified_tokens(tokens: VerifiedTokenCacheStatus, text: &mut MetricsText) {
    text.single("entrada_verified_tokens", "gauge", "Tokens that are kept so as not to verify them again.", tokens.tokens);
    text.single("entrada_verified_tokens_bytes", "gauge", "The memory that kept tokens take.", tokens.bytes);
    text.single("entrada_verified_token_hits_total", "counter", "Tokens whose signature had been verified before.", tokens.found);
    text.single("entrada_token_verifications_total", "counter", "Signatures of tokens that were verified.", tokens.verified);
}

/// Writes the signing keys: their number and age, and how they are fetched.
fn write_signing_keys(sets: &[KeySetStatus], text: &mut MetricsText) {
    let mut write = |name: &str, kind: &str, help: &str, value: &dyn Fn(&KeySetStatus) -> Option<u64>| {
        text.family(name, kind, help);
        // Two settings may name one place.
        let values: BTreeMap<&str, u64> = sets.iter().filter_map(|set| Some((&*set.url, value(set)?))).collect();
        for (url, value) in values {
            text.sample(name, &[("url", url)], value);
        }
    };
    write("entrada_signing_keys", "gauge", "Keys of a tenant or an issuer that can be used.", &|set| {
        Some(if set.serves { set.keys as u64 } else { 0 })
    });
    write("entrada_signing_keys_age_seconds", "gauge", "Time since the keys were fetched.", &|set| {
        set.age.map(|age| age.as_secs())
    });
    write("entrada_signing_keys_fetches_total", "counter", "Fetches of keys.", &|set| set.counts.map(|counts| counts.fetches));
    write("entrada_signing_keys_fetch_failures_total", "counter", "Fetches of keys that failed.", &|set| {
        set.counts.map(|counts| counts.failures)
    });
    write("entrada_signing_keys_unknown_key_ids_total", "counter", "Tokens that named a key which is not there.", &|set| {
        set.counts.map(|counts| counts.unknown_keys)
    });
}

/// Writes the state of credentials: unavailable tokens, and what expires.
fn write_credentials(credentials: &[CredentialStatus], text: &mut MetricsText) {
    const COUNTS: [Family<CredentialStatus>; 3] = [
        ("entrada_credential_ready", "gauge", "Whether every token that routes ask for is there.", |credential| {
            u64::from(credential.ready)
        }),
        ("entrada_credential_token_requests_total", "counter", "Token requests that were made.", |credential| {
            credential.tokens.iter().map(|token| token.requests).sum()
        }),
        ("entrada_credential_token_failures_total", "counter", "Token requests that failed.", |credential| {
            credential.tokens.iter().map(|token| token.failures).sum()
        }),
    ];
    for (name, kind, help, value) in COUNTS {
        text.family(name, kind, help);
        for credential in credentials {
            text.sample(name, &[("credential", &credential.name)], value(credential));
        }
    }
    let name = "entrada_credential_token_expiry_timestamp_seconds";
    text.family(name, "gauge", "When a token of the gateway's own ends, in seconds since 1970.");
    for credential in credentials {
        for token in &credential.tokens {
            if let Some(expires_at) = token.expires_at {
                text.sample(name, &[("credential", &credential.name), ("scope", &token.scope)], expires_at);
            }
        }
    }
    let name = "entrada_credential_certificate_expiry_timestamp_seconds";
    text.family(name, "gauge", "When a credential's certificate ends, in seconds since 1970.");
    for credential in credentials {
        for certificate in &credential.certificates {
            // That of a private key whose certificate is elsewhere is unknown.
            let Some(not_after) = certificate.not_after else { continue };
            let labels = [("credential", &*credential.name), ("thumbprint", &*certificate.thumbprint)];
            text.sample(name, &labels, not_after);
        }
    }
}

/// Writes the servers of upstreams: their state, their connections and what failed.
fn write_upstreams(upstreams: &[&Arc<Upstream>], text: &mut MetricsText) {
    const STATES: [Family<ServerState>; 2] = [
        ("entrada_upstream_server_up", "gauge", "Whether the server's health checks pass, or there are none.", |server| {
            u64::from(server.healthy)
        }),
        ("entrada_upstream_server_ejected", "gauge", "Whether the server is left alone, since it failed too often.", |server| {
            u64::from(server.ejected)
        }),
    ];
    const COUNTS: [Family<ServerCounts>; 5] = [
        ("entrada_upstream_requests_in_flight", "gauge", "Requests that wait for a server's response, or read it.", |server| {
            server.in_flight as u64
        }),
        ("entrada_upstream_idle_connections", "gauge", "Connections that are idle, or that several requests share.", |server| {
            server.kept as u64
        }),
        ("entrada_upstream_connections_opened_total", "counter", "Connections that were made.", |server| server.opened),
        ("entrada_upstream_connect_failures_total", "counter", "Connections that could not be made.", |server| {
            server.connect_failures
        }),
        ("entrada_upstream_ejections_total", "counter", "How often a server was ejected.", |server| server.ejections),
    ];
    for (name, kind, help, value) in STATES {
        text.family(name, kind, help);
        for upstream in upstreams {
            for server in upstream.states() {
                text.sample(name, &[("upstream", upstream.name()), ("server", &server.name)], value(&server));
            }
        }
    }
    for (name, kind, help, value) in COUNTS {
        text.family(name, kind, help);
        for upstream in upstreams {
            for server in upstream.counts() {
                text.sample(name, &[("upstream", upstream.name()), ("server", &server.name)], value(&server));
            }
        }
    }
    text.family("entrada_upstream_retries_total", "counter", "Requests that were sent once more.");
    for upstream in upstreams {
        text.sample("entrada_upstream_retries_total", &[("upstream", upstream.name())], upstream.retries());
    }
}

/// Writes how long servers took.
fn write_server_durations(upstreams: &[&Arc<Upstream>], text: &mut MetricsText) {
    let name = "http_client_request_duration_seconds";
    text.family(name, "histogram", "Time from sending a request to the head of its response, retries included.");
    let seconds = |microseconds: u64| std::time::Duration::from_micros(microseconds).as_secs_f64().to_string();
    for upstream in upstreams {
        for server in upstream.counts() {
            let (address, port) = server.name.rsplit_once(':').unwrap_or((&server.name, ""));
            for durations in &server.durations {
                let status = if durations.status == 0 { String::new() } else { durations.status.to_string() };
                let labels = [
                    ("upstream", &**upstream.name()),
                    ("server_address", address.trim_start_matches('[').trim_end_matches(']')),
                    ("server_port", port),
                    ("http_request_method", durations.method),
                    ("http_response_status_code", &*status),
                ];
                let buckets = DURATIONS.iter().map(|bound| seconds(*bound)).zip(durations.buckets);
                text.histogram(name, &labels, buckets, durations.buckets.iter().sum(), seconds(durations.sum));
            }
        }
    }
}
