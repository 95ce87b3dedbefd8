//! The decision trace: the result of each policy and the values it examined.

use std::{borrow::Cow, sync::Arc};

use crate::refusal::Reason;

/// The steps of one request's decision. Nothing is recorded, and nothing allocated, unless the trace is read.
#[derive(Debug, Default)]
#[expect(clippy::box_collection, reason = "one word in every exchange; the list exists only where somebody reads it")]
pub struct Trace(Option<Box<Vec<Step>>>);

/// The result of one policy or station.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// The station or policy entry, as `route` or `inbound[1].ip-filter`.
    pub at: Arc<str>,
    /// The result.
    pub verdict: Verdict,
    /// The examined values, in words.
    pub detail: Cow<'static, str>,
}

/// The result of a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The request goes on.
    Passed,
    /// The request ends here.
    Refused(Reason),
    /// The gateway answers itself, and the request ends here.
    Answered,
}

impl Trace {
    /// Makes a trace that records every step.
    pub fn read() -> Self {
        Self(Some(Box::default()))
    }

    /// Returns whether the trace is read.
    pub fn is_read(&self) -> bool {
        self.0.is_some()
    }

    /// Records a step if the trace is read; `step` is not called otherwise.
    pub fn note(&mut self, step: impl FnOnce() -> Step) {
        if let Some(steps) = &mut self.0 {
            steps.push(step());
        }
    }

    /// Returns the steps so far.
    pub fn steps(&self) -> &[Step] {
        self.0.as_deref().map_or(&[], Vec::as_slice)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unread_trace_never_makes_its_steps() {
        let mut trace = Trace::default();

        trace.note(|| unreachable!("nobody reads this"));

        assert!(trace.steps().is_empty());
    }
}
