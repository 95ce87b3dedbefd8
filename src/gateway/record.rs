//! The record of one request.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    thread,
    time::Duration,
};

use super::{candidate::CandidateVerdict, request_record, spans, worker::WorkerState};
use crate::{
    audit::{
        WorkerLog,
        line::{Line, plain, socket_address, text},
    },
    base::{buffers, clock::Clock},
    connection::ConnectionEvent,
    exchange::{Decision, EndedBy, Evidence, Exchange, Held},
    gateway::runtime::Snapshot,
    listener::Connection,
    refusal::Reason,
    request::IncomingRequest,
    route::Route,
    telemetry::{Counted, decision},
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
    pub(super) state: Arc<WorkerState>,
}

impl Recorder {
    /// Begins the exchange of a request that has just arrived. Made where it stays: it is large.
    #[inline]
    pub(crate) fn begin(runtime: Snapshot, connection: Arc<Connection>, worker: usize, state: Arc<WorkerState>) -> Box<Self> {
        runtime.unrouted[worker].begin();
        let room = Box::new_uninit();
        Box::write(
            room,
            Self { exchange: Exchange::begin(runtime.clock.clone(), connection, worker), incoming: None, runtime, state },
        )
    }

    /// The request's route, if one matched.
    pub(crate) fn route(&self) -> Option<&Route> {
        self.runtime.route(&self.exchange)
    }

    /// Notes from the beginning on by what the request is judged, if somebody will judge it once more.
    pub(super) fn keep_evidence(&mut self) {
        let worker = self.exchange.worker;
        let for_candidate = self.state.candidates.as_ref().is_some_and(|candidates| candidates.takes(worker));
        if for_candidate || self.runtime.recorded.is_for_replay() {
            self.exchange.evidence = Some(Evidence::begin(for_candidate));
        }
    }

    /// Lets the candidate judge the request, now that its response was sent.
    fn judge_beside(&mut self) -> Option<CandidateVerdict> {
        let wanted = self.exchange.evidence.as_ref().is_some_and(|evidence| evidence.for_candidate);
        if !wanted || thread::panicking() {
            return None;
        }
        let state = self.state.clone();
        state.candidates.as_ref()?.judge(self)
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
        if !outcome.complete
            && outcome.ended_by.is_none()
            && outcome.cause.is_none()
            && (outcome.status.is_some() || decision == Decision::Allowed)
        {
            // Whatever ends a body otherwise says so.
            outcome.ended_by = Some(EndedBy::Caller);
        }
        Held::settle(&mut self.exchange, self.incoming.as_ref());
        let duration = self.exchange.elapsed();
        self.count(duration);
        self.debug(duration);
        if let Some(traces) = &self.state.traces {
            spans::push(traces, self, duration);
        }
        let candidate = self.judge_beside();
        self.state.log.append(|buffer, id| request_record::write(buffer, id, self, duration, candidate.as_ref()));
        self.exchange.evidence.take().into_iter().for_each(Evidence::keep);
        if let Some(incoming) = &mut self.incoming {
            buffers::keep_fields(std::mem::take(&mut incoming.headers));
        }
    }
}

impl Recorder {
    /// Counts the request for its route and its partner.
    fn count(&self, duration: Duration) {
        let Exchange { worker, outcome, timings, .. } = &self.exchange;
        let reason = outcome.decision.reason();
        let counted = Counted {
            method: self.incoming.as_ref().map(|incoming| &incoming.method),
            status: outcome.status,
            reason,
            duration,
            policies: timings.policies,
            bytes_in: outcome.bytes_in.get(),
            bytes_out: outcome.bytes_out,
        };
        let counters = &self.route().map_or(&self.runtime.unrouted, |route| &route.counters)[*worker];
        counters.count(&counted);
        for refusal in &outcome.would_deny {
            counters.count_would_deny(&refusal.at, refusal.code());
        }
        self.runtime.unrouted[*worker].end();
        // Anybody can name a partner's application in a token request: until Entra has answered it is not the partner that was seen.
        let proven = self.exchange.relayed.as_ref().is_none_or(|relayed| relayed.proven);
        if let Some(partner) = self.exchange.partner.as_ref().filter(|_| proven) {
            partner.counters[*worker].count(reason, self.exchange.began.unix.as_secs());
        }
    }

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
            decision = decision(reason),
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

/// Writes the record of a connection event without a request.
pub(crate) fn record_connection_event(log: &WorkerLog, clock: &Clock, event: &ConnectionEvent) {
    log.append(|buffer, record_id| {
        let mut line = Line::begin(buffer, clock.unix(), record_id);
        text!(line, "listener", &*event.listener);
        socket_address!(line, "peer", event.peer);
        plain!(line, "event", event.kind.code());
        text!(line, "detail", Some(&*event.detail).filter(|detail| !detail.is_empty()));
        line.end();
    });
}

pub(super) fn microseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decision_tells_the_gateways_faults_from_refusals() {
        assert_eq!(decision(None), "allow");
        assert_eq!(decision(Some(Reason::TokenExpired)), "deny");
        assert_eq!(decision(Some(Reason::SigningKeysUnavailable)), "error");
        assert_eq!([Reason::ClientLeft, Reason::InternalError].map(|reason| decision(Some(reason))), ["error", "error"]);
    }
}
