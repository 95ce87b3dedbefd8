//! The record of one request.

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use serde::Serialize;

use super::AuditLog;
use crate::{
    caller::AddressSource, clock::Clock, exchange::Exchange, limits::Held, listener::ConnectionEvent, refusal::Reason,
    request::IncomingRequest,
};

/// Holds a request's exchange, and writes its record when dropped: at the end of the answer's body, or when the caller leaves.
#[derive(Debug)]
pub struct Recorder {
    /// What is known of the request.
    pub exchange: Exchange,
    /// The request's head, once it was read.
    pub incoming: Option<IncomingRequest>,
    log: Arc<AuditLog>,
}

impl Recorder {
    /// A guard for this exchange.
    pub fn new(exchange: Exchange, log: Arc<AuditLog>) -> Self {
        Self { exchange, incoming: None, log }
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        Held::settle(&mut self.exchange, self.incoming.as_ref());
        let duration = self.exchange.elapsed();
        self.exchange.counters().count(self.exchange.outcome.reason, duration);
        let record = Record::of(&self.exchange, self.incoming.as_ref(), duration);
        self.log.append(self.exchange.worker, |buffer| {
            // A vector takes every write, and the record holds no map with keys that are not text.
            let _ = serde_json::to_writer(&mut *buffer, &record);
            buffer.push(b'\n');
        });
    }
}

/// `allow`, `deny` or `error`.
#[derive(Clone, Copy, Debug, Serialize, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
enum Decision {
    Allow,
    Deny,
    Error,
}

impl Decision {
    fn of(reason: Option<Reason>) -> Self {
        match reason {
            None => Self::Allow,
            Some(reason) if reason.status().is_server_error() => Self::Error,
            Some(_) => Self::Deny,
        }
    }
}

/// One record; the fields stand as in the documentation.
#[derive(Serialize)]
struct Record<'a> {
    time: jiff::Timestamp,
    request_id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    trace_id: Option<String>,
    listener: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    route: Option<&'a str>,
    peer: SocketAddr,
    #[serde(skip_serializing_if = "Option::is_none")]
    caller: Option<IpAddr>,
    #[serde(skip_serializing_if = "Option::is_none")]
    address_source: Option<AddressSource>,
    #[serde(skip_serializing_if = "Option::is_none")]
    method: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    host: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    path: Option<&'a str>,
    decision: Decision,
    #[serde(skip_serializing_if = "Option::is_none")]
    code: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    policy: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    hint: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cause: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tenant_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    client_application: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    credential_kind: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    subject: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    object_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    token_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    partner: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    credential: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    upstream: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    server: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<u16>,
    complete: bool,
    bytes_in: u64,
    bytes_out: u64,
    duration_us: u64,
    policies_us: u64,
    credential_us: u64,
    upstream_us: u64,
}

impl<'a> Record<'a> {
    fn of(exchange: &'a Exchange, incoming: Option<&'a IncomingRequest>, duration: Duration) -> Self {
        let route = exchange.matched_route();
        let token = exchange.token.as_deref();
        let relayed = exchange.relayed.as_ref();
        let caller = exchange.caller.as_ref();
        let outcome = &exchange.outcome;
        Self {
            time: timestamp(exchange.clock().unix()),
            request_id: exchange.id.as_str(),
            trace_id: exchange.trace_id(),
            listener: &exchange.connection.listener_name,
            route: route.map(|route| &*route.name),
            peer: exchange.connection.peer,
            caller: caller.map(|caller| caller.address),
            address_source: caller.map(|caller| caller.source),
            method: incoming.map(|incoming| incoming.method.as_str()),
            host: incoming.map(|incoming| &*incoming.authority.host),
            path: incoming.map(|incoming| &*incoming.target.path),
            decision: Decision::of(outcome.reason),
            code: outcome.code.as_deref().or(outcome.reason.map(Reason::code)),
            policy: outcome.policy.as_deref(),
            hint: outcome.hint.as_deref(),
            cause: outcome.cause.as_deref(),
            tenant_id: token.map(|token| &*token.tenant).filter(|tenant| !tenant.is_empty()).or(relayed.map(|it| &*it.tenant)),
            client_application: token.and_then(|token| token.client.as_deref()).or(relayed.map(|it| &*it.client)),
            credential_kind: token
                .and_then(|token| token.credential_kind)
                .or(relayed.map(|it| it.credential))
                .map(|kind| kind.as_str()),
            subject: token.and_then(|token| token.subject.as_deref()),
            object_id: token.and_then(|token| token.object_id.as_deref()),
            token_id: token.and_then(|token| token.id.as_deref()),
            partner: exchange.partner.as_deref(),
            credential: outcome.credential.as_deref(),
            upstream: route.and_then(|route| route.upstream_name()),
            server: outcome.server.as_deref(),
            status: outcome.status.map(|status| status.as_u16()),
            complete: outcome.complete,
            bytes_in: outcome.bytes_in.get(),
            bytes_out: outcome.bytes_out,
            duration_us: microseconds(duration),
            policies_us: microseconds(exchange.timings.policies),
            credential_us: microseconds(exchange.timings.credential),
            upstream_us: microseconds(exchange.timings.upstream),
        }
    }
}

/// Writes the record of what happened on a connection where there was no request.
pub fn record_connection_event(log: &AuditLog, worker: usize, clock: &Clock, event: &ConnectionEvent) {
    #[derive(Serialize)]
    struct Record<'a> {
        time: jiff::Timestamp,
        listener: &'a str,
        #[serde(skip_serializing_if = "Option::is_none")]
        peer: Option<SocketAddr>,
        event: &'static str,
        #[serde(skip_serializing_if = "str::is_empty")]
        detail: &'a str,
    }
    let record = Record {
        time: timestamp(clock.unix()),
        listener: &event.listener,
        peer: event.peer,
        event: event.kind.code(),
        detail: &event.detail,
    };
    log.append(worker, |buffer| {
        let _ = serde_json::to_writer(&mut *buffer, &record);
        buffer.push(b'\n');
    });
}

fn timestamp(since_epoch: Duration) -> jiff::Timestamp {
    // Microseconds are fine enough for a record, and a time beyond the calendar's end cannot come from a clock.
    i64::try_from(since_epoch.as_micros())
        .ok()
        .and_then(|microseconds| jiff::Timestamp::from_microsecond(microseconds).ok())
        .unwrap_or(jiff::Timestamp::MAX)
}

fn microseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decision_tells_the_gateways_faults_from_refusals() {
        assert_eq!(Decision::of(None), Decision::Allow);
        assert_eq!(Decision::of(Some(Reason::TokenExpired)), Decision::Deny);
        assert_eq!(Decision::of(Some(Reason::SigningKeysUnavailable)), Decision::Error);
    }
}
