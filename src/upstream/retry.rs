//! Trying again.

use std::sync::atomic::{AtomicU32, Ordering};

use http::Response;

use super::{
    config::{RetriesConfig, RetryCondition},
    error::UpstreamError,
    outgoing::Outgoing,
};

/// What a retry costs, in hundredths.
const RETRY: u32 = 100;
/// How many retries may be saved up: so many also before the first request.
const SAVED: u32 = 10;

/// Bounds retries to a share of the requests, so that they cannot add to what overloads a server.
#[derive(Debug)]
pub(super) struct Budget(AtomicU32);

impl Default for Budget {
    fn default() -> Self {
        Self(AtomicU32::new(SAVED * RETRY))
    }
}

impl Budget {
    /// A request earns its share of a retry. Only one thread does, so that the two steps need not be one.
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
    /// Whether to try again after this, as far as that does no harm.
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
