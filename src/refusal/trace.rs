//! The decision trace: what each policy found and what it looked at, for whoever reads it.

use std::{borrow::Cow, sync::Arc};

use crate::refusal::Reason;

/// The steps of one request's decisions. Nothing is noted, and nothing allocated, unless somebody reads it.
#[derive(Debug, Default)]
#[expect(clippy::box_collection, reason = "one word in every exchange; the list exists only where somebody reads it")]
pub struct Trace(Option<Box<Vec<Step>>>);

/// What one policy or station found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// The station or policy entry, as `route` or `inbound[1].ip-filter`.
    pub at: Arc<str>,
    /// How it went.
    pub verdict: Verdict,
    /// What it looked at, in words.
    pub saw: Cow<'static, str>,
}

/// How a step went.
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
    /// A trace that is read: every step is noted.
    pub fn read() -> Self {
        Self(Some(Box::default()))
    }

    /// Whether somebody reads it.
    pub fn is_read(&self) -> bool {
        self.0.is_some()
    }

    /// Notes a step, if somebody reads it; `step` is not called otherwise.
    pub fn note(&mut self, step: impl FnOnce() -> Step) {
        if let Some(steps) = &mut self.0 {
            steps.push(step());
        }
    }

    /// The steps so far.
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
