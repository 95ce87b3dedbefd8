//! The counts, the metrics and the status of a store.

use std::{
    sync::{
        Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use serde::Serialize;

use super::Store;
use crate::{
    base::{
        counts::{DURATIONS, Durations},
        lock::lock,
    },
    redis::{Failure, FailureKind, breaker::BreakerState},
    telemetry::MetricsText,
};

/// Counts of questions to a store by their outcome.
#[derive(Debug, Default)]
pub(super) struct StoreCounts {
    /// The durations of questions that were sent.
    durations: Durations,
    failures: [AtomicU64; FailureKind::ALL.len()],
    /// Questions that were not sent, since the store has failed repeatedly.
    rested: AtomicU64,
    /// Calls that were decided without a question: from what was taken ahead, or because the limit was known to be reached.
    unasked: AtomicU64,
    /// Calls that were counted in the process, since the store failed.
    local: AtomicU64,
    last_failure: Mutex<Option<Box<str>>>,
}

/// The state of a store, for the status page.
#[derive(Debug, Serialize)]
pub(crate) struct StoreStatus {
    state: &'static str,
    breaker: &'static str,
    servers: usize,
    connected: usize,
    /// The connections made so far.
    connections: u64,
    /// The concurrent calls of this gateway that hold a permit.
    permits: usize,
    failures: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_failure: Option<String>,
}

impl StoreCounts {
    /// Counts a question that was sent, and its failure.
    pub(super) fn asked(&self, duration: Duration, failure: Option<&Failure>) {
        self.durations.count_duration(duration);
        if let Some(failure) = failure {
            let kind = FailureKind::ALL.iter().position(|kind| *kind == failure.kind()).unwrap_or_default();
            self.failures[kind].fetch_add(1, Ordering::Relaxed);
            *lock(&self.last_failure) = Some(failure.to_string().into());
        }
    }

    pub(super) fn rested(&self) {
        self.rested.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn unasked(&self) {
        self.unasked.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn counted_locally(&self) {
        self.local.fetch_add(1, Ordering::Relaxed);
    }

    fn failures(&self) -> u64 {
        self.failures.iter().map(|count| count.load(Ordering::Relaxed)).sum()
    }
}

impl Store {
    /// Returns whether the store is there: connected to, and not left alone after failures.
    fn is_up(&self) -> bool {
        self.breaker.state(Instant::now()) == BreakerState::Closed
            && self.client.get().is_some_and(|client| client.status().connected > 0)
    }

    /// Returns the state of the store, for the status page.
    pub(crate) fn status(&self) -> StoreStatus {
        let client = self.client.get().map(crate::redis::Client::status).unwrap_or_default();
        StoreStatus {
            state: if self.is_up() { "up" } else { "down" },
            breaker: self.breaker.state(Instant::now()).as_str(),
            servers: client.servers,
            connected: client.connected,
            connections: client.connections,
            permits: self.permits.held(),
            failures: self.counts.failures(),
            last_failure: lock(&self.counts.last_failure).as_deref().map(str::to_owned),
        }
    }

    /// Writes the metrics of the store.
    pub(crate) fn write_metrics(&self, text: &mut MetricsText) {
        let client = self.client.get().map(crate::redis::Client::status).unwrap_or_default();
        let up = u8::from(self.is_up());
        text.single("entrada_limit_store_up", "gauge", "Whether the limit store is connected and answers.", up);
        let name = "entrada_limit_store_breaker_state";
        text.family(name, "gauge", "The state of the limit store's circuit breaker: 1 for the one it is in.");
        let current = self.breaker.state(Instant::now());
        for state in [BreakerState::Closed, BreakerState::HalfOpen, BreakerState::Open] {
            text.sample(name, &[("state", state.as_str())], u8::from(state == current));
        }
        let (buckets, sum) = self.counts.durations.read();
        let asked: u64 = buckets.iter().sum();
        let failed = self.counts.failures();
        let name = "entrada_limit_store_requests_total";
        text.family(name, "counter", "Questions to the limit store by outcome, and those that were not asked.");
        let count = |count: &AtomicU64| count.load(Ordering::Relaxed);
        for (outcome, count) in [
            ("answered", asked.saturating_sub(failed)),
            ("failed", failed),
            ("not-asked", count(&self.counts.rested)),
            ("known", count(&self.counts.unasked)),
        ] {
            text.sample(name, &[("outcome", outcome)], count);
        }
        let name = "entrada_limit_store_failures_total";
        text.family(name, "counter", "Failures of the limit store, by kind.");
        for (kind, failures) in FailureKind::ALL.iter().zip(&self.counts.failures) {
            text.sample(name, &[("kind", kind.as_str())], count(failures));
        }
        let local = count(&self.counts.local);
        text.single(
            "entrada_limit_store_local_total",
            "counter",
            "Calls counted in the process while the limit store failed.",
            local,
        );
        text.single(
            "entrada_limit_store_connections_total",
            "counter",
            "Connections made to the limit store.",
            client.connections,
        );
        let permits = self.permits.held();
        text.single(
            "entrada_limit_store_permits",
            "gauge",
            "Concurrent calls of this gateway that hold a permit of the limit store.",
            permits,
        );
        let name = "entrada_limit_store_duration_seconds";
        text.family(name, "histogram", "The time that the limit store took to answer.");
        let seconds = |microseconds: u64| Duration::from_micros(microseconds).as_secs_f64();
        let bounds = DURATIONS.iter().map(|bound| seconds(*bound).to_string());
        text.histogram(name, &[], bounds.zip(buckets), asked, seconds(sum));
    }
}
