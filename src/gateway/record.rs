//! The record of one request.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    thread,
    time::Duration,
};

use crate::audit::{WorkerLog, line::Line};
use crate::{
    base::{buffers, clock::Clock},
    connection::ConnectionEvent,
    exchange::{Decision, EndedBy, Exchange, Held},
    gateway::runtime::Snapshot,
    refusal::Reason,
    request::IncomingRequest,
    route::Route,
};

/// The owner of a request's exchange, which writes its record on drop: at the end of the response body, or when the caller
/// leaves.
#[derive(Debug)]
pub struct Recorder {
    /// The facts of the request.
    pub exchange: Exchange,
    /// The request's head, once it was read.
    pub incoming: Option<IncomingRequest>,
    /// The config with which the request started and which applies until its end.
    pub runtime: Snapshot,
    log: Arc<WorkerLog>,
}

impl Recorder {
    /// Makes a recorder for this exchange.
    pub(crate) fn new(exchange: Exchange, runtime: Snapshot, log: Arc<WorkerLog>) -> Self {
        Self { exchange, incoming: None, runtime, log }
    }

    /// The request's route, if one matched.
    pub(crate) fn route(&self) -> Option<&Route> {
        self.runtime.route(&self.exchange)
    }

    /// Settles pending counts, counts the request and writes its record.
    fn conclude(&mut self) {
        let decision = self.exchange.outcome.decision;
        if thread::panicking() && decision.reason().is_none() {
            self.exchange.outcome.fail();
        } else if decision == Decision::Pending || self.left_within_its_body() {
            // Whoever waits for an answer is dropped only when nobody is there any more to take it.
            self.exchange.outcome.decision = Decision::Refused(Reason::ClientLeft);
        }
        let outcome = &mut self.exchange.outcome;
        if !outcome.complete && outcome.ended_by.is_none() && outcome.cause.is_none() && outcome.status.is_some() {
            // Whatever ends a body otherwise says so.
            outcome.ended_by = Some(EndedBy::Caller);
        }
        Held::settle(&mut self.exchange, self.incoming.as_ref());
        let (duration, reason) = (self.exchange.elapsed(), self.exchange.outcome.decision.reason());
        let worker = self.exchange.worker;
        self.route().map_or(&self.runtime.unrouted, |route| &route.counters)[worker].count(reason, duration);
        if let Some(partner) = &self.exchange.partner {
            partner.counters[worker].count(reason, duration);
        }
        self.debug(duration);
        self.log.append(|buffer| write(buffer, self, duration));
        if let Some(incoming) = &mut self.incoming {
            buffers::keep_headers(std::mem::take(&mut incoming.headers));
        }
    }
}

impl Recorder {
    /// Returns whether the caller left before its request was complete, although the head was allowed.
    fn left_within_its_body(&self) -> bool {
        let outcome = &self.exchange.outcome;
        outcome.decision.reason().is_none() && outcome.status.is_none() && !outcome.bytes_in.is_whole()
    }

    /// Tells the log at level `debug` what happened to the request, and at `trace` each step of the decision.
    fn debug(&self, duration: Duration) {
        if !tracing::enabled!(tracing::Level::DEBUG) {
            return;
        }
        let (exchange, incoming) = (&self.exchange, self.incoming.as_ref());
        let outcome = &exchange.outcome;
        let id = exchange.id.as_str();
        for step in exchange.trace.steps() {
            tracing::debug!(request_id = id, at = &*step.at, verdict = ?step.verdict, detail = &*step.detail, "a step of the decision");
        }
        let reason = outcome.decision.reason();
        tracing::debug!(
            request_id = id,
            listener = &*exchange.connection.listener.name,
            method = incoming.map(|incoming| incoming.method.as_str()),
            host = incoming.map(|incoming| &*incoming.authority.host),
            path = incoming.map(|incoming| &*incoming.target.path),
            route = self.route().map(|route| &*route.name),
            decision = word(reason),
            code = reason.map(Reason::code),
            policy = outcome.policy.as_deref(),
            cause = outcome.cause.as_deref(),
            hint = outcome.hint.as_deref(),
            server = outcome.server.as_deref(),
            status = outcome.status.map(|status| status.as_u16()),
            complete = outcome.complete,
            duration_us = microseconds(duration),
            "a request has ended"
        );
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        // A request may be dropped because of a panic, where another one would end the process; and no other request on this
        // connection is to suffer for it.
        if catch_unwind(AssertUnwindSafe(|| self.conclude())).is_err() {
            tracing::error!(request_id = self.exchange.id.as_str(), "the record of a request could not be written");
        }
    }
}

/// Returns `allow`, `deny` or `error`.
fn word(reason: Option<Reason>) -> &'static str {
    match reason {
        None => "allow",
        Some(reason) if reason.status().is_server_error() => "error",
        Some(_) => "deny",
    }
}

/// Writes one record; its members are in the order of the documentation.
fn write(buffer: &mut Vec<u8>, recorder: &Recorder, duration: Duration) {
    let (exchange, incoming, route) = (&recorder.exchange, recorder.incoming.as_ref(), recorder.route());
    let token = exchange.token.as_deref();
    let relayed = exchange.relayed.as_ref();
    let caller = exchange.caller.as_ref();
    let outcome = &exchange.outcome;

    let mut line = Line::begin(buffer);
    line.time("time", exchange.began.unix + duration);
    line.text("request_id", exchange.id.as_str());
    line.hexadecimal("trace_id", exchange.trace_context.as_ref().map(|trace| trace.trace_id));
    line.text("listener", &*exchange.connection.listener.name);
    line.text("route", route.map(|route| &*route.name));
    line.socket_address("peer", Some(exchange.connection.peer));
    line.socket_address("proxy", exchange.connection.introduction.map(|introduction| introduction.by));
    line.address("caller", caller.map(|caller| caller.address));
    line.text("address_source", caller.map(|caller| caller.source.as_str()));
    line.text("method", incoming.map(|incoming| incoming.method.as_str()));
    line.text("host", incoming.map(|incoming| &*incoming.authority.host).filter(|host| !host.is_empty()));
    line.text("path", incoming.map(|incoming| &*incoming.target.path));
    let reason = outcome.decision.reason();
    line.text("decision", word(reason));
    line.text("code", outcome.code.as_deref().or(reason.map(Reason::code)));
    line.text("policy", outcome.policy.as_deref());
    line.text("hint", outcome.hint.as_deref());
    line.text("cause", outcome.cause.as_deref());
    let tenant = token.map(|token| &*token.tenant).filter(|tenant| !tenant.is_empty());
    line.text("tenant_id", tenant.or(relayed.map(|it| &*it.tenant)));
    line.text("client_application", token.and_then(|token| token.client.as_deref()).or(relayed.map(|it| &*it.client)));
    let credential = token.and_then(|token| token.credential_kind).or(relayed.map(|it| it.credential));
    line.text("credential_kind", credential.map(|kind| kind.as_str()));
    line.text("subject", token.and_then(|token| token.subject.as_deref()));
    line.text("object_id", token.and_then(|token| token.object_id.as_deref()));
    line.text("token_id", token.and_then(|token| token.id.as_deref()));
    let certificate = exchange.judged_certificate.as_ref();
    line.text("client_certificate", certificate.map(|certificate| certificate.thumbprint_sha256()));
    line.text("partner", exchange.partner_name());
    line.text("credential", outcome.credential.as_deref());
    line.text("upstream", route.and_then(|route| route.upstream_name()));
    line.text("server", outcome.server.as_deref());
    line.number("status", outcome.status.map(|status| status.as_u16().into()));
    line.truth("complete", outcome.complete);
    line.text("ended_by", outcome.ended_by.map(EndedBy::as_str));
    line.number("bytes_in", outcome.bytes_in.get());
    line.number("bytes_out", outcome.bytes_out);
    line.number("duration_us", microseconds(duration));
    line.number("policies_us", microseconds(exchange.timings.policies));
    line.number("credential_us", microseconds(exchange.timings.credential));
    line.number("upstream_us", microseconds(exchange.timings.upstream));
    line.end();
}

/// Writes the record of a connection event without a request.
pub(crate) fn record_connection_event(log: &WorkerLog, clock: &Clock, event: &ConnectionEvent) {
    log.append(|buffer| {
        let mut line = Line::begin(buffer);
        line.time("time", clock.unix());
        line.text("listener", &*event.listener);
        line.socket_address("peer", event.peer);
        line.text("event", event.kind.code());
        line.text("detail", Some(&*event.detail).filter(|detail| !detail.is_empty()));
        line.end();
    });
}

fn microseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decision_tells_the_gateways_faults_from_refusals() {
        assert_eq!(word(None), "allow");
        assert_eq!(word(Some(Reason::TokenExpired)), "deny");
        assert_eq!(word(Some(Reason::SigningKeysUnavailable)), "error");
        assert_eq!([Reason::ClientLeft, Reason::InternalError].map(|reason| word(Some(reason))), ["error", "error"]);
    }
}
