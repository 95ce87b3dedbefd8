//! The requests of the last minutes: one sample every few seconds, bounded.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex},
    time::Duration,
};

use serde::Serialize;
use tokio::time::{Instant, MissedTickBehavior, interval};

use crate::{
    base::{clock::Clock, lock::lock},
    telemetry::{DecisionCounts, Metrics},
};

/// The time between samples.
const EVERY: Duration = Duration::from_secs(5);
/// The number of samples that are kept: fifteen minutes.
const SAMPLES: usize = 180;

/// The samples, oldest first.
#[derive(Debug, Default)]
pub(crate) struct History(Mutex<VecDeque<Sample>>);

/// The requests of the time before a moment, for each second.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(super) struct Sample {
    /// The moment, in seconds since 1970.
    at: u64,
    allowed: f64,
    refused: f64,
    failed: f64,
}

impl History {
    /// Samples the counters, for as long as the runtime lives.
    pub(crate) async fn sample(self: Arc<Self>, metrics: Arc<Metrics>, clock: Clock) {
        let mut ticks = interval(EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut before = (ticks.tick().await, metrics.totals().0);
        loop {
            ticks.tick().await;
            let now = (Instant::now(), metrics.totals().0);
            self.add(clock.unix_seconds(), now.0 - before.0, before.1, now.1);
            before = now;
        }
    }

    fn add(&self, at: u64, span: Duration, before: DecisionCounts, now: DecisionCounts) {
        // One place after the point: what is drawn has no more.
        let rate = |before: u64, now: u64| (now.saturating_sub(before) as f64 / span.as_secs_f64() * 10.0).round() / 10.0;
        let sample = Sample {
            at,
            allowed: rate(before.allowed, now.allowed),
            refused: rate(before.refused, now.refused),
            failed: rate(before.failed, now.failed),
        };
        let mut samples = lock(&self.0);
        if samples.len() == SAMPLES {
            samples.pop_front();
        }
        samples.push_back(sample);
    }

    /// Returns the samples, oldest first.
    pub(super) fn samples(&self) -> Vec<Sample> {
        lock(&self.0).iter().copied().collect()
    }

    /// Returns the time between samples, in seconds.
    pub(super) const fn every_seconds() -> u64 {
        EVERY.as_secs()
    }
}

#[cfg(test)]
mod tests {
    use http::{Method, StatusCode};

    use super::*;
    use crate::{refusal::Reason, telemetry::Counted};

    #[tokio::test(start_paused = true)]
    async fn samples_are_rates_and_the_newest_are_kept() {
        let (history, metrics) = (Arc::new(History::default()), Arc::new(Metrics::default()));
        let counters = metrics.route("r", 1);
        tokio::spawn(history.clone().sample(metrics, Clock::system()));
        let one = Counted { method: Some(&Method::GET), status: Some(StatusCode::OK), ..Counted::default() };
        tokio::time::sleep(Duration::from_millis(1)).await;

        for _ in 0..10 {
            counters[0].count(&one);
        }
        counters[0].count(&Counted { reason: Some(Reason::TokenMissing), ..one });
        tokio::time::sleep(EVERY).await;
        counters[0].count(&Counted { reason: Some(Reason::InternalError), ..one });
        tokio::time::sleep(EVERY).await;

        let rates: Vec<_> = history.samples().iter().map(|sample| (sample.allowed, sample.refused, sample.failed)).collect();
        assert_eq!(rates, [(2.0, 0.2, 0.0), (0.0, 0.0, 0.2)]);

        tokio::time::sleep(EVERY * SAMPLES as u32).await;
        assert_eq!(history.samples().len(), SAMPLES);
        assert!(history.samples().iter().all(|sample| sample.allowed == 0.0));
    }
}
