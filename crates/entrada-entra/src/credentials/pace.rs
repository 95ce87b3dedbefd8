//! The delay of requests to a token endpoint, or a vault, after a failure.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use super::error::{Delay, Failure};

use crate::base::lock::lock;

/// The time for which a final answer is remembered.
const FINAL_DELAY: Duration = Duration::from_secs(10);
/// The time for which an answer is remembered that only a user can change.
const LONG_DELAY: Duration = Duration::from_secs(600);
/// The longest pause between attempts after temporary failures.
const LONGEST_DELAY: Duration = Duration::from_secs(30);

/// The earliest time of a client's next request to a token endpoint, shared by all requests of that client.
#[derive(Debug)]
pub(crate) struct Pace<F = Failure> {
    /// The earliest time of the next request, in milliseconds of the monotonic clock.
    not_before: AtomicU64,
    state: Mutex<Held<F>>,
}

#[derive(Debug)]
struct Held<F> {
    failure: Option<Arc<F>>,
    failures: u32,
}

impl<F> Default for Pace<F> {
    fn default() -> Self {
        Self { not_before: AtomicU64::new(0), state: Mutex::default() }
    }
}

impl<F> Default for Held<F> {
    fn default() -> Self {
        Self { failure: None, failures: 0 }
    }
}

impl<F> Pace<F> {
    /// Returns whether requests are still delayed.
    pub(super) fn holds(&self, now: Duration) -> bool {
        milliseconds(now) < self.not_before.load(Ordering::Relaxed)
    }

    /// Delays all requests as the failure demands; `jitter`, from 0 to 1, shortens growing delays.
    pub(crate) fn hold(&self, now: Duration, failure: &Arc<F>, delay: Delay, jitter: f64) {
        let mut state = lock(&self.state);
        let pause = match delay {
            Delay::Long => LONG_DELAY,
            Delay::Asked(pause) => pause,
            Delay::Growing => {
                let full = Duration::from_secs(1 << state.failures.min(5)).min(LONGEST_DELAY);
                full.mul_f64(jitter.clamp(0.0, 1.0)).max(Duration::from_millis(100))
            }
            Delay::Client | Delay::Request => FINAL_DELAY,
        };
        state.failures = state.failures.saturating_add(1);
        state.failure = Some(failure.clone());
        self.not_before.store(milliseconds(now + pause), Ordering::Relaxed);
    }

    /// Ends the delay after a success.
    pub(crate) fn release(&self) {
        *lock(&self.state) = Held::default();
        self.not_before.store(0, Ordering::Relaxed);
    }

    /// Returns the failure that causes the delay, and its remaining time.
    pub(crate) fn held(&self, now: Duration) -> Option<(Arc<F>, Duration)> {
        let until = Duration::from_millis(self.not_before.load(Ordering::Relaxed));
        let left = until.checked_sub(now).filter(|left| !left.is_zero())?;
        lock(&self.state).failure.clone().map(|failure| (failure, left))
    }
}

/// Converts a reading of the monotonic clock to milliseconds, for an atomic number.
pub(super) fn milliseconds(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
