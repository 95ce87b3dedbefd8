//! Retries.

use std::sync::atomic::{AtomicU32, Ordering};

use super::{
    config::{RetriesConfig, RetryCondition},
    error::UpstreamError,
    outgoing::Outgoing,
};
use crate::base::response::Response;

/// The cost of a retry, in hundredths.
const RETRY: u32 = 100;
/// The number of retries that may be saved up, which is also the initial amount.
const SAVED: u32 = 10;

/// The retry budget: limits retries to a share of the requests, so that they cannot add to the overload of a server.
#[derive(Debug)]
pub(super) struct Budget(AtomicU32);

impl Default for Budget {
    fn default() -> Self {
        Self(AtomicU32::new(SAVED * RETRY))
    }
}

impl Budget {
    /// Adds a request's share of a retry. Only one thread does, so that the two steps need not be atomic.
    pub(super) fn earn(&self, retries: &RetriesConfig) {
        let credit = self.0.load(Ordering::Relaxed).saturating_add(retries.budget.0).min(SAVED * RETRY);
        self.0.store(credit, Ordering::Relaxed);
    }

    /// Takes a retry, if there is one.
    pub(super) fn spend(&self) -> bool {
        let left = self.0.load(Ordering::Relaxed).checked_sub(RETRY);
        if let Some(left) = left {
            self.0.store(left, Ordering::Relaxed);
        }
        left.is_some()
    }
}

impl RetriesConfig {
    /// Returns whether to retry after this result, as far as that is safe.
    pub(super) fn ask_for<B>(&self, result: &Result<Response<B>, UpstreamError>, outgoing: &Outgoing) -> bool {
        let condition = match result {
            // Nothing was sent, so that it does not matter what.
            Err(error) if error.is_connect_failure() => return self.when.contains(&RetryCondition::ConnectFailure),
            Err(UpstreamError::Unanswered { .. }) => RetryCondition::ResetBeforeResponse,
            Err(UpstreamError::Timeout { .. }) => RetryCondition::Timeout,
            Err(_) => return false,
            Ok(response) => RetryCondition::Status(response.status().as_u16()),
        };
        self.when.contains(&condition) && outgoing.may_repeat()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retries_are_a_share_of_the_requests() {
        let retries: RetriesConfig =
            serde_json::from_value(serde_json::json!({ "attempts": 1, "when": ["timeout"], "budget": "20%" })).unwrap();
        let budget = Budget::default();
        while budget.spend() {}

        let mut spent = 0;
        for _ in 0..100 {
            budget.earn(&retries);
            spent += u32::from(budget.spend());
        }

        assert_eq!(spent, 20);
    }
}
