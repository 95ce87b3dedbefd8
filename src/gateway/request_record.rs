//! The members of a request's record, in the order of the documentation.

use std::{sync::Arc, time::Duration};

use http::Version;

use super::{
    candidate::CandidateVerdict,
    record::{Recorder, microseconds},
    recorded::ConnectionPart,
    replayed,
};
use crate::{
    audit::line::{Line, address, caller_text, cut, hexadecimal, list, number, object, objects, plain, shown, text, truth},
    base::fields::Known,
    entra::token::TokenSeen,
    exchange::{EndedBy, Exchange, Note, WouldDeny},
    refusal::Reason,
    request::{IncomingRequest, Relayed},
    telemetry::decision,
};

/// Writes the record of a request that took this long.
pub(super) fn write(
    buffer: &mut Vec<u8>,
    record_id: u128,
    recorder: &Recorder,
    duration: Duration,
    candidate: Option<&CandidateVerdict>,
) {
    let Recorder { exchange, runtime, .. } = recorder;
    let (incoming, recorded) = (recorder.incoming.as_ref(), &runtime.recorded);

    let mut line = Line::begin(buffer, exchange.began.unix + duration, record_id);
    plain!(line, "request_id", exchange.id.as_str());
    if let Some(incoming) = incoming {
        caller_request_id(&mut line, exchange, incoming);
    }
    hexadecimal!(line, "trace_id", exchange.trace_context.as_ref().map(|trace| trace.trace_id));
    let asked = exchange.asked.as_deref();
    // The peer of a decision is the proxy that asks; what connected to that one is the source.
    let connection = asked.map_or(&*exchange.connection, |asked| &*asked.connection);
    ConnectionPart::write(&mut line, connection, exchange.caller.as_ref());
    if let Some(asked) = asked {
        plain!(line, "dialect", asked.dialect);
        let source = (!Arc::ptr_eq(&asked.connection, &exchange.connection)).then(|| exchange.connection.peer.ip());
        address!(line, "source", source);
    }
    if let Some(incoming) = incoming {
        head(&mut line, incoming);
    }
    if let Some(route) = &exchange.route {
        line.prepared(recorded.route(route.index));
    }
    // Of a route that may lead to several upstreams its part does not name any.
    if let Some(route) = recorder.route().filter(|route| route.upstreams.len() > 1) {
        let chosen = exchange.backend.as_ref().map(|upstream| &**upstream.name());
        text!(line, "upstream", chosen.or_else(|| route.upstream_name()));
    }
    let outcome = &exchange.outcome;
    let reason = outcome.decision.reason();
    plain!(line, "decision", decision(reason));
    plain!(line, "code", outcome.code.as_deref().or(reason.map(Reason::code)));
    text!(line, "policy", outcome.policy.as_deref());
    text!(line, "hint", outcome.hint.as_deref());
    text!(line, "cause", outcome.cause.as_deref());
    plain!(line, "mode", outcome.report_only.then_some("report-only"));
    objects!(line, "would_deny", &outcome.would_deny, |line: &mut Line<'_>, refusal: &WouldDeny| {
        text!(line, "at", &*refusal.at);
        plain!(line, "code", refusal.code());
        text!(line, "place", refusal.place.as_deref());
    });
    if let Some(verdict) = candidate {
        candidates(&mut line, verdict);
    }
    match (exchange.token.as_ref().or(exchange.refused_token.as_ref()), &exchange.relayed) {
        (Some(token), _) => {
            line.members(&token.recorded);
            recorded.write_claims(&mut line, &token.claims);
        }
        (None, Some(relayed)) => asked_for(&mut line, relayed),
        (None, None) => {
            if let Some(seen) = &exchange.token_seen {
                token_seen(&mut line, seen);
            }
        }
    }
    let key = exchange.api_key.as_deref();
    if exchange.token.is_none() && exchange.refused_token.is_none() {
        plain!(line, "credential_kind", key.map(|_| "api-key"));
    }
    let certificate = exchange.judged_certificate.as_ref();
    plain!(line, "client_certificate", certificate.map(|certificate| certificate.thumbprint_sha256()));
    text!(line, "partner", exchange.partner_name());
    plain!(line, "api_key", key.map(|key| &*key.name));
    notes(&mut line, exchange.notes.as_slice());
    text!(line, "credential", outcome.credential.as_deref());
    text!(line, "server", outcome.server.as_deref());
    number!(line, "status", outcome.status.map(|status| status.as_u16().into()));
    number!(line, "grpc_status", outcome.grpc_status.map(u64::from));
    truth!(line, "complete", outcome.complete);
    plain!(line, "ended_by", outcome.ended_by.map(EndedBy::as_str));
    number!(line, "bytes_in", outcome.bytes_in.get());
    number!(line, "bytes_out", outcome.bytes_out);
    number!(line, "duration_us", microseconds(duration));
    number!(line, "policies_us", microseconds(exchange.timings.policies));
    number!(line, "credential_us", microseconds(exchange.timings.credential));
    number!(line, "upstream_us", microseconds(exchange.timings.upstream));
    line.prepared(&recorded.config);
    if let (Some(names), Some(incoming)) = (&recorded.replay, incoming) {
        replayed::write(&mut line, names, exchange, incoming);
    }
    line.end();
}

/// Writes the id that the caller gave the request, unless it is the request's own.
fn caller_request_id(line: &mut Line<'_>, exchange: &Exchange, incoming: &IncomingRequest) {
    if let Some(id) = incoming.headers.get(Known::XRequestId).filter(|id| *id != exchange.id.value()) {
        text!(line, "caller_request_id", &*shown(id.as_bytes()));
    }
}

/// Writes what the candidate would have decided.
fn candidates(line: &mut Line<'_>, verdict: &CandidateVerdict) {
    object!(line, "candidate", |line: &mut Line<'_>| {
        plain!(line, "digest", &*verdict.digest);
        plain!(line, "verdict", verdict.verdict);
        plain!(line, "code", verdict.code.as_deref());
        text!(line, "route", verdict.route.as_deref());
        list!(line, "judged_without", verdict.judged_without.iter().map(|fact| &**fact));
    });
}

/// Writes the notes that policies have made.
fn notes(line: &mut Line<'_>, notes: &[Note]) {
    objects!(line, "notes", notes, |line: &mut Line<'_>, note: &Note| {
        text!(line, "source", note.source.as_deref());
        text!(line, "message", &*note.message);
        object!(line, "metadata", |line: &mut Line<'_>| {
            for (name, value) in &note.metadata {
                line.member(name, &serde_json::Value::from(&**value).to_string());
            }
        });
    });
}

/// Writes what the request's head says.
fn head(line: &mut Line<'_>, incoming: &IncomingRequest) {
    let version = match incoming.version {
        Version::HTTP_2 => "2",
        Version::HTTP_10 => "1.0",
        _ => "1.1",
    };
    plain!(line, "http_version", version);
    text!(line, "method", incoming.method.as_str());
    text!(line, "host", Some(cut(&incoming.authority.host)).filter(|host| !host.is_empty()));
    text!(line, "path", cut(&incoming.target.path));
    if let Some(agent) = incoming.headers.get(Known::UserAgent) {
        caller_text!(line, "user_agent", agent.as_bytes());
    }
}

/// Writes what a relayed token request says of its client.
fn asked_for(line: &mut Line<'_>, relayed: &Relayed) {
    text!(line, "tenant_id", &*relayed.tenant);
    text!(line, "client_application", &*relayed.client);
    plain!(line, "credential_kind", relayed.credential.as_str());
    truth!(line, "client_verified", relayed.proven);
}

/// Writes the statements of a token that was not verified.
fn token_seen(line: &mut Line<'_>, seen: &TokenSeen) {
    object!(line, "token_seen", |line: &mut Line<'_>| {
        text!(line, "issuer", seen.issuer.as_deref());
        text!(line, "audience", seen.audience.as_deref());
        text!(line, "client_application", seen.client_application.as_deref());
        text!(line, "key_id", seen.key_id.as_deref());
        text!(line, "algorithm", seen.algorithm.as_deref());
        truth!(line, "verified", false);
    });
}
