//! The decision trace: the result of each policy and the values it examined.

use std::{
    borrow::Cow,
    cell::Cell,
    mem,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use http::{HeaderMap, Method};

use crate::{
    refusal::{Reason, Stop},
    response::Response,
    settings::Place,
};

/// The steps of one request's decision. Nothing is recorded, and nothing allocated, unless the trace is read.
///
/// A trial has one, too: a request that is judged as all others, but for which nothing outside of the gateway is called.
#[derive(Debug, Default)]
pub struct Trace(Option<Box<Reading>>);

/// The trace of a request that somebody reads: one word in every exchange, and a list only here.
#[derive(Debug, Default)]
struct Reading {
    steps: Vec<Step>,
    /// The beginning of each step.
    begins: Vec<Instant>,
    /// The end of the last step; absent where nobody reads.
    since: Option<Instant>,
    unread: bool,
    stand_in: Option<StandIn>,
}

thread_local! {
    /// The room of the thread's last decision: with nothing in it but the stand-in, which has nothing to tell.
    static SPARE: Cell<Option<Box<Reading>>> = const { Cell::new(None) };
}

/// The result of one policy or station.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// The station or policy entry, as `route` or `inbound[1].ip-filter`.
    pub at: Arc<str>,
    /// The place of its settings in the config, if it has any.
    pub place: Option<Place>,
    /// The result.
    pub verdict: Verdict,
    /// The examined values, in words.
    pub detail: Cow<'static, str>,
    /// The time that it took, with the steps within it. The trace measures it.
    pub duration: Duration,
}

impl Step {
    /// Makes a step that nobody has measured.
    pub const fn new(at: Arc<str>, place: Option<Place>, verdict: Verdict, detail: Cow<'static, str>) -> Self {
        Self { at, place, verdict, detail, duration: Duration::ZERO }
    }

    /// Returns whether another step is within this one: `inbound[1].any-of[0][2].ip-filter` in `inbound[1].any-of`.
    pub fn holds(&self, other: &Self) -> bool {
        other.at.strip_prefix(&*self.at).is_some_and(|rest| rest.starts_with('['))
    }
}

impl Reading {
    fn new(unread: bool, stand_in: Option<StandIn>) -> Self {
        Self { unread, stand_in, since: (!unread).then(Instant::now), ..Self::default() }
    }

    /// Adds a step. It has taken the time since the one before it; one that holds others, which come first, all of their time.
    fn add(&mut self, mut step: Step) {
        let now = Instant::now();
        let within = self.steps.iter().rev().take_while(|other| step.holds(other)).count();
        let began = self.begins.get(self.steps.len() - within).copied().or(self.since).unwrap_or(now);
        step.duration = now - began;
        self.steps.push(step);
        self.begins.push(began);
        self.since = Some(now);
    }
}

/// The result of a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The request goes on.
    Passed,
    /// The request ends here.
    Refused(Reason),
    /// The request would end here, if the policy were not report-only.
    WouldRefuse(Reason),
    /// The gateway answers itself, and the request ends here.
    Answered,
}

impl Verdict {
    /// Returns the verdict of a policy with this result.
    pub fn of(result: &Result<(), Stop>) -> Self {
        match result {
            Ok(()) => Self::Passed,
            Err(Stop::Refuse(refusal)) => Self::Refused(refusal.reason),
            Err(Stop::Respond(_)) => Self::Answered,
        }
    }
}

/// The stand-in for everything outside of the gateway, with the request that it would have received.
#[derive(Debug)]
pub struct StandIn {
    /// The response of the upstream.
    pub answer: Response<Bytes>,
    /// The request to the upstream.
    pub sent: Option<SentRequest>,
    /// The facts that the gateway would have asked others for.
    pub unasked: Vec<&'static str>,
    /// True if only the decision is wanted: limits are passed, nothing that is not at hand is asked for, and no request is made for the
    /// upstream.
    pub decides_only: bool,
    /// The facts that the decision depends on and that are not known: it is no decision.
    pub unknown: Vec<Cow<'static, str>>,
    /// True if nobody reads the fields of the upstream's request: they are judged, and not written.
    pub fields_unread: bool,
}

/// The head of a request that an upstream would have received.
#[derive(Clone, Debug)]
pub struct SentRequest {
    /// The upstream's name.
    pub upstream: Arc<str>,
    /// The server: host and port.
    pub server: Arc<str>,
    /// The method.
    pub method: Method,
    /// The URL: the server's, with path and query.
    pub url: String,
    /// The header fields, `Host` and framing among them. Those with secrets are marked as sensitive.
    pub headers: HeaderMap,
}

impl Trace {
    /// Makes a trace that records every step.
    pub fn read() -> Self {
        Self(Some(Box::new(Reading::new(false, None))))
    }

    /// Makes the trace of a trial, with or without steps.
    pub fn trial(stand_in: StandIn, steps: bool) -> Self {
        Self(Some(Box::new(Reading::new(!steps, Some(stand_in)))))
    }

    /// Makes the trace of a request of which only the decision is wanted. It takes the room of the thread's last one.
    pub fn decision() -> Self {
        let spare = SPARE.with(Cell::take);
        Self(Some(spare.unwrap_or_else(|| Box::new(Reading::new(true, Some(StandIn::for_decision()))))))
    }

    /// Ends the trace of a decision: returns the facts that the gateway would have asked others for, and those that are not known.
    pub fn end_decision(&mut self) -> (Vec<&'static str>, Vec<Cow<'static, str>>) {
        let Some(mut reading) = self.0.take() else { return Default::default() };
        let Some(stand_in) = &mut reading.stand_in else { return Default::default() };
        let facts = (mem::take(&mut stand_in.unasked), mem::take(&mut stand_in.unknown));
        stand_in.fields_unread = false;
        if stand_in.decides_only && stand_in.sent.is_none() && reading.steps.is_empty() {
            SPARE.with(|spare| spare.set(Some(reading)));
        }
        facts
    }

    /// Returns whether the trace is read.
    pub fn is_read(&self) -> bool {
        self.0.as_ref().is_some_and(|reading| !reading.unread)
    }

    /// Records a step if the trace is read; `step` is not called otherwise.
    pub fn note(&mut self, step: impl FnOnce() -> Step) {
        if let Some(reading) = &mut self.0
            && !reading.unread
        {
            reading.add(step());
        }
    }

    /// Leaves out of the next step's time what has passed until now: no step has used it.
    pub fn go_on(&mut self) {
        if let Some(since) = self.0.as_mut().and_then(|reading| reading.since.as_mut()) {
            *since = Instant::now();
        }
    }

    /// Returns the steps so far.
    pub fn steps(&self) -> &[Step] {
        self.0.as_deref().map_or(&[], |reading| &reading.steps)
    }

    /// Returns what stands in for everything outside; `None` for every request that is served.
    pub fn stand_in(&mut self) -> Option<&mut StandIn> {
        self.0.as_mut()?.stand_in.as_mut()
    }

    /// Returns whether only the decision on the request is wanted.
    pub fn decides_only(&self) -> bool {
        self.0.as_ref().and_then(|reading| reading.stand_in.as_ref()).is_some_and(|stand_in| stand_in.decides_only)
    }

    /// Returns whether nobody reads the fields of the upstream's request, so that they need not be written.
    pub fn leaves_fields_unread(&self) -> bool {
        self.0.as_ref().and_then(|reading| reading.stand_in.as_ref()).is_some_and(|stand_in| stand_in.fields_unread)
    }

    /// Returns what stands in for everything outside, if only the decision on the request is wanted.
    pub fn decision_alone(&mut self) -> Option<&mut StandIn> {
        self.stand_in().filter(|stand_in| stand_in.decides_only)
    }

    /// Takes the steps and the stand-in of a trial that has ended.
    pub fn take(&mut self) -> (Vec<Step>, Option<StandIn>) {
        self.0.take().map_or_else(Default::default, |reading| (reading.steps, reading.stand_in))
    }
}

impl StandIn {
    /// Makes one whose upstreams answer so.
    pub const fn answering(answer: Response<Bytes>) -> Self {
        Self { answer, sent: None, unasked: Vec::new(), decides_only: false, unknown: Vec::new(), fields_unread: false }
    }

    /// Makes one for a request of which only the decision is wanted.
    pub fn for_decision() -> Self {
        Self { decides_only: true, ..Self::answering(Response::new(Bytes::new())) }
    }

    /// Notes a fact that the decision depends on, and that is not known.
    pub fn lacks(&mut self, fact: impl Into<Cow<'static, str>>) {
        let fact = fact.into();
        if !self.unknown.contains(&fact) {
            self.unknown.push(fact);
        }
    }

    /// Notes that the limits of calls are not judged.
    pub fn passes_limits(&mut self) {
        self.not_asked("earlier calls, which limits count");
    }

    /// Notes a fact that the gateway would have asked others for.
    pub fn not_asked(&mut self, fact: &'static str) {
        if !self.unasked.contains(&fact) {
            self.unasked.push(fact);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unreachable_step() -> Step {
        unreachable!("nobody reads this")
    }

    #[test]
    fn an_unread_trace_never_makes_its_steps() {
        let mut trace = Trace::default();
        let mut trial = Trace::trial(StandIn::answering(Response::new(Bytes::new())), false);

        trace.note(unreachable_step);
        trial.note(unreachable_step);

        assert!(trace.steps().is_empty() && trial.steps().is_empty());
        assert!(trace.stand_in().is_none() && trial.stand_in().is_some());
    }

    /// No time decides this: whatever a step takes, one that holds it takes as long at least, and one beside it counts for neither.
    #[test]
    fn a_step_takes_the_time_of_those_within_it_and_of_no_other() {
        let mut trace = Trace::read();
        for at in [
            "inbound[0].ip-filter",
            "inbound[1].any-of[0][0].check",
            "inbound[1].any-of[0]",
            "inbound[1].any-of",
            "inbound[10].x",
        ] {
            trace.note(|| Step::new(at.into(), None, Verdict::Passed, "".into()));
        }
        trace.go_on();

        let Reading { steps, begins, since, .. } = &**trace.0.as_ref().unwrap();
        assert_eq!(begins[1], begins[2]);
        assert_eq!(begins[1], begins[3]);
        assert_eq!(begins[0] + steps[0].duration, begins[1]);
        assert_eq!(begins[3] + steps[3].duration, begins[4], "inbound[10] is not within inbound[1]");
        assert!(steps[1].duration <= steps[2].duration && steps[2].duration <= steps[3].duration);
        assert!(since.unwrap() >= begins[4] + steps[4].duration);
    }

    /// The room of a decision is used over again, and has nothing in it of the one before.
    #[test]
    fn a_decision_tells_what_it_lacked_and_leaves_nothing_behind() {
        for _ in 0..2 {
            let mut trace = Trace::decision();
            trace.note(unreachable_step);
            assert!(trace.decides_only());
            let stand_in = trace.decision_alone().expect("it decides only");
            stand_in.passes_limits();
            stand_in.lacks("a fact");
            assert_eq!(trace.end_decision(), (vec!["earlier calls, which limits count"], vec![Cow::from("a fact")]));
            assert!(!trace.decides_only());
        }
    }
}
