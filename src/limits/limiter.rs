//! The limit of a policy: a counter in this process, or one in the store that several gateways share.

use std::{sync::Arc, time::Duration};

use super::{
    Ask, Fixed, Owner, Receipt, Sliding, Taken,
    store::{SharedCounter, SharedReceipt, StoreUnavailable},
};
use crate::{
    base::{clock::Clock, lock::lock},
    refusal::trace::Trace,
};

/// A counter in this process.
#[derive(Clone, Debug)]
pub(crate) enum Counter {
    /// Of calls within a sliding period.
    Rate(Arc<Sliding>),
    /// Of calls or bytes within fixed periods.
    Quota(Arc<Fixed>),
}

/// The limit of a policy, counted for each key.
#[derive(Debug)]
pub(crate) struct Limiter {
    /// The limit within the period.
    pub(crate) limit: u64,
    owner: Owner,
    counter: Counter,
    shared: Option<Shared>,
}

#[derive(Debug)]
struct Shared {
    counter: Arc<SharedCounter>,
    /// The remaining amount as it was seen last, and when, for the status page.
    seen: std::sync::Mutex<Option<(Duration, u64)>>,
}

/// A receipt for a count, for giving it back.
#[derive(Clone, Copy, Debug)]
pub(crate) enum CountReceipt {
    /// Of this process.
    Local(Receipt),
    /// Of the store.
    Shared(SharedReceipt),
}

impl Limiter {
    /// Makes a limit that is counted for this owner; in the store as well, if there is a counter for it.
    pub(crate) fn new(limit: u64, owner: Owner, counter: Counter, shared: Option<SharedCounter>) -> Self {
        let shared = shared.map(|counter| Shared { counter: Arc::new(counter), seen: std::sync::Mutex::default() });
        Self { limit, owner, counter, shared }
    }

    /// Returns whether a request is counted in the store, so that it has to wait. A trial calls nothing outside of the gateway.
    pub(crate) fn is_shared(&self, trace: &mut Trace) -> bool {
        self.shared.is_some() && trace.stand_in().is_none()
    }

    /// Admits or refuses a call in this process, and counts it if it is admitted. A cost of 0 only asks.
    pub(crate) fn take(&self, key: &str, cost: u64, clock: &Clock) -> (Taken, CountReceipt) {
        let key = (self.owner, key);
        let (taken, receipt) = match &self.counter {
            Counter::Rate(counter) => counter.reserve(key, Ask { limit: self.limit, cost, now: clock.monotonic() }),
            Counter::Quota(counter) => counter.reserve(key, Ask { limit: self.limit, cost, now: clock.unix() }),
        };
        (taken, CountReceipt::Local(receipt))
    }

    /// Does the same in the store. While that fails, does as the policy says.
    ///
    /// # Errors
    /// Fails if the store does, and the policy refuses calls then.
    pub(crate) async fn take_shared(
        &self,
        key: &str,
        cost: u64,
        clock: &Clock,
    ) -> Result<(Taken, CountReceipt), StoreUnavailable> {
        let Some(Shared { counter, seen }) = &self.shared else { return Ok(self.take(key, cost, clock)) };
        match counter.take(key, cost).await {
            Ok((taken, receipt)) => {
                *lock(seen) = Some((clock.monotonic(), taken.remaining));
                if taken.admitted && cost > 0 && counter.falls_back() {
                    // Whoever has to count alone later knows at least of its own calls.
                    self.count_here(key, cost, clock);
                }
                Ok((taken, CountReceipt::Shared(receipt)))
            }
            Err(_) if counter.falls_back() => {
                counter.fell_back();
                Ok(self.take(key, cost, clock))
            }
            Err(error) => Err(error),
        }
    }

    /// Gives back the count of a call.
    pub(crate) fn give_back(&self, receipt: CountReceipt) {
        match (receipt, &self.counter, &self.shared) {
            (CountReceipt::Shared(receipt), _, Some(shared)) => shared.counter.give_back(receipt),
            (CountReceipt::Shared(_), _, None) => {}
            (CountReceipt::Local(receipt), Counter::Rate(counter), _) => counter.give_back(receipt),
            (CountReceipt::Local(receipt), Counter::Quota(counter), _) => counter.give_back(receipt),
        }
    }

    /// Counts without judging; in the store without waiting for it.
    pub(crate) fn count(&self, key: &str, cost: u64, clock: &Clock, trace: &mut Trace) {
        match &self.shared {
            Some(shared) if trace.stand_in().is_none() => {
                shared.counter.count(key, cost);
                if shared.counter.falls_back() {
                    self.count_here(key, cost, clock);
                }
            }
            _ => self.count_here(key, cost, clock),
        }
    }

    fn count_here(&self, key: &str, cost: u64, clock: &Clock) {
        match &self.counter {
            Counter::Rate(counter) => counter.count((self.owner, key), cost, clock.monotonic()),
            Counter::Quota(counter) => counter.count((self.owner, key), cost, clock.unix()),
        }
    }

    /// Returns the remaining amount; of the store, as this gateway saw it last within this period.
    pub(crate) fn remaining(&self, key: &str, period: Duration, clock: &Clock) -> u64 {
        let Some(Shared { seen, .. }) = &self.shared else { return self.take(key, 0, clock).0.remaining };
        let seen = lock(seen).filter(|(then, _)| clock.monotonic().saturating_sub(*then) < period);
        seen.map_or(self.limit, |(_, remaining)| remaining)
    }
}
