//! The judgement of one request by the candidate.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    pin::pin,
    sync::atomic::Ordering,
    task::{Context, Poll, Waker},
};

use http::Method;

use super::{
    Candidate, CandidateVerdict, Candidates,
    differences::{ALLOW, DifferenceKind},
};
use crate::{
    base::lock::lock,
    caller::Caller,
    exchange::{Decision, Exchange, Outcome},
    gateway::{
        Received, Recorder, answer::ResponseBody, forward, lifetime::admit_certificate, recorded::ConnectionPart,
        runtime::Snapshot,
    },
    listener::{Connection, RequestBody},
    refusal::{Reason, Stop},
    request::IncomingRequest,
    telemetry::NO_ROUTE,
};

/// The fact that a credential's token was not acquired.
const OWN_TOKEN: &str = "the token of the gateway's credential";

/// The verdict of the active config, as far as a candidate's can be compared with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Served<'a> {
    /// It was admitted, whatever became of it then.
    Admitted,
    /// It was refused with this code.
    Refused(&'a str),
    /// It was refused for the number of calls.
    Limited,
    /// It was not decided by rules.
    NotDecided,
}

impl Served<'_> {
    fn of(outcome: &Outcome) -> Served<'_> {
        let reason = match outcome.decision {
            Decision::Allowed => return Served::Admitted,
            Decision::Pending => return Served::NotDecided,
            Decision::Refused(reason) => reason,
        };
        match reason {
            reason if reason.is_of_limits() => Served::Limited,
            Reason::ClientLeft
            | Reason::InternalError
            | Reason::Overloaded
            | Reason::RequestTimeout
            | Reason::BodyTooLarge
            | Reason::RequestFramingInvalid => Served::NotDecided,
            // Microsoft Graph, which a policy asks, can be out of reach as well.
            reason if reason.is_of_the_way_on() && outcome.policy.is_some() => Served::NotDecided,
            reason if reason.is_of_the_way_on() => Served::Admitted,
            // Taken away while the answer was under way.
            Reason::PartnerDisabled if outcome.policy.is_none() => Served::NotDecided,
            reason => Served::Refused(outcome.code.as_deref().unwrap_or(reason.code())),
        }
    }
}

impl Candidates {
    /// Judges a request whose response was sent.
    #[expect(clippy::disallowed_methods, reason = "the guard ends here; a counted pointer would be written to by every core")]
    pub(in crate::gateway) fn judge(&self, recorder: &mut Recorder) -> Option<CandidateVerdict> {
        let current = self.current.load();
        let candidate = current.as_ref()?;
        let verdict = candidate.judge(recorder)?;
        let worker = recorder.exchange.worker;
        candidate.counts[worker].judged.fetch_add(1, Ordering::Relaxed);
        self.workers[worker].judged.fetch_add(1, Ordering::Relaxed);
        self.compare(candidate, &verdict, recorder);
        Some(verdict)
    }

    fn compare(&self, candidate: &Candidate, verdict: &CandidateVerdict, recorder: &Recorder) {
        let exchange = &recorder.exchange;
        let after = verdict.code.as_deref();
        let before = match Served::of(&exchange.outcome) {
            _ if verdict.verdict == "unknown" => return candidate.cannot_compare(exchange.worker),
            Served::NotDecided => return candidate.cannot_compare(exchange.worker),
            // Both would have to count the same calls.
            Served::Limited if after.is_none() => return candidate.cannot_compare(exchange.worker),
            Served::Limited => return,
            Served::Admitted => None,
            Served::Refused(code) => Some(code),
        };
        let route = exchange.route.as_ref().map(|route| route.name().clone());
        if before == after {
            if before.is_none() && route != verdict.route {
                candidate.counts[exchange.worker].rerouted.fetch_add(1, Ordering::Relaxed);
            }
            return;
        }
        let kind = DifferenceKind::between(before, after);
        let (before, after) = (before.unwrap_or(ALLOW), after.unwrap_or(ALLOW));
        let route = route.unwrap_or_else(|| NO_ROUTE.into());
        self.totals.add(&route, before, after);
        let now = exchange.began.unix.as_secs();
        lock(&candidate.differences).add((kind, route, before.into(), after.into()), &exchange.id, now);
    }
}

impl Candidate {
    fn cannot_compare(&self, worker: usize) {
        self.counts[worker].not_compared.fetch_add(1, Ordering::Relaxed);
    }

    /// Judges a request; `None` if there is nothing to judge: no head that could be read, or nobody who waited for a verdict.
    fn judge(&self, recorder: &mut Recorder) -> Option<CandidateVerdict> {
        let Recorder { exchange, incoming, runtime, .. } = recorder;
        let incoming = incoming.as_mut()?;
        if matches!(exchange.outcome.decision, Decision::Pending | Decision::Refused(Reason::ClientLeft)) {
            return None;
        }
        let snapshot = &self.snapshots[exchange.worker];
        let served = &exchange.connection;
        let Some(connection) = ConnectionPart::beside(served, self.id, || connection(served, snapshot)) else {
            let judged_without = vec!["the listener, which the candidate does not have".to_owned()];
            return Some(CandidateVerdict {
                digest: self.digests[exchange.worker].clone(),
                verdict: "unknown",
                code: None,
                route: None,
                judged_without,
            });
        };
        let mut again = Exchange::again(exchange, connection);
        if let (Some(route), Some(evidence)) = (&exchange.route, &mut again.evidence)
            && incoming.method != Method::OPTIONS
            && runtime.table.finds_alike(&snapshot.table)
        {
            evidence.found = Some((route.index, exchange.captures.clone()));
        }
        // As it was received, before and after: the record tells the request, and not what policies left of it.
        let received = |again: &mut Exchange| again.evidence.as_mut().and_then(|evidence| evidence.headers.take());
        if let Some(received) = received(&mut again) {
            incoming.headers = received;
        }
        let decided = catch_unwind(AssertUnwindSafe(|| decide(&mut again, incoming, snapshot)));
        if let Some(received) = received(&mut again) {
            incoming.headers = received;
        }
        exchange.evidence = again.evidence.take();
        let result = decided.unwrap_or_else(|_| {
            tracing::error!(request_id = exchange.id.as_str(), "the candidate panicked; the request was answered without it");
            Err(Reason::InternalError.into())
        });
        Some(self.verdict(&result, again))
    }

    fn verdict(&self, result: &Result<(), Stop>, mut again: Exchange) -> CandidateVerdict {
        let refused = match result {
            Err(Stop::Refuse(refusal)) => Some((refusal.reason, refusal.code().into())),
            Ok(()) | Err(Stop::Respond(_)) => None,
        };
        let (unasked, unknown) = again.trace.end_decision();
        let verdict = match &refused {
            _ if !unknown.is_empty() => "unknown",
            None => "allow",
            Some((reason, _)) if reason.status().is_server_error() => "error",
            Some(_) => "deny",
        };
        let mut judged_without = Vec::new();
        // Nearly always there is nothing.
        if !unknown.is_empty() || !unasked.is_empty() {
            judged_without.extend(unknown.into_iter().map(std::borrow::Cow::into_owned));
            // Whether it can be had says nothing about the caller.
            judged_without.extend(unasked.into_iter().filter(|fact| *fact != OWN_TOKEN).map(str::to_owned));
        }
        CandidateVerdict {
            digest: self.digests[again.worker].clone(),
            verdict,
            code: refused.map(|(_, code)| code).filter(|_| verdict != "unknown"),
            route: again.route.as_ref().map(|route| route.name().clone()),
            judged_without,
        }
    }
}

/// Makes the connection as the candidate's listener of the same name, or else of the same address, would have it.
fn connection(served: &Connection, snapshot: &Snapshot) -> Option<Connection> {
    let by_address = || snapshot.listeners.iter().find(|rules| rules.addresses.contains(&served.local));
    // One that answers questions would not take the request as one of its own.
    let rules = snapshot.listener(&served.listener.name).or_else(by_address).filter(|rules| rules.decides.is_none())?;
    let (tls, introduction) = (served.tls.clone(), served.introduction);
    Some(Connection { tls, introduction, ..Connection::plain(rules.mounted().clone(), served.peer, served.local) })
}

/// Decides as the gateway does, from the caller's address on. Whatever would have to be waited for is not at hand.
fn decide(exchange: &mut Exchange, incoming: &mut IncomingRequest, snapshot: &Snapshot) -> Result<(), Stop> {
    let caller = exchange.caller.insert(Caller::of(&exchange.connection, &incoming.headers, &exchange.clock)?);
    let scheme = caller.scheme.unwrap_or(incoming.scheme);
    incoming.directed_here(exchange.connection.tls.as_ref())?;
    admit_certificate(exchange, snapshot.listener(&exchange.connection.listener.name))?;
    let mut received = Received { body: RequestBody::empty(), upgrade: None, scheme, inner: None };
    let decided = {
        let mut forwarded = pin!(forward(exchange, incoming, snapshot, &mut received));
        match forwarded.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(result) => Some(result.map(drop::<crate::base::response::Response<ResponseBody>>)),
            Poll::Pending => None,
        }
    };
    decided.unwrap_or_else(|| {
        exchange.lacks("a fact that would have to be waited for");
        Ok(())
    })
}
