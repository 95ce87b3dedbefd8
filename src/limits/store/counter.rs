//! A policy's counter in the store: calls or bytes, by caller.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use super::{
    Name, OnStoreFailureConfig, Store, StoreUnavailable,
    ahead::{Ahead, Next},
};
use crate::limits::Taken;

/// The largest number that scripts count exactly.
const LARGEST: u64 = 1 << 53;
/// The longest time for which calls that are taken ahead may be used.
const LONGEST_HOLD: Duration = Duration::from_secs(5);
/// The part of a period whose calls the store counts together; calls taken ahead may be used for as long.
const GROUPS: u32 = 11;

/// The subject of a shared counter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SharedKind {
    /// Calls within a sliding period.
    Rate,
    /// Calls within fixed periods.
    Quota,
    /// Bytes within fixed periods: counted when the bodies have ended.
    Bytes,
}

/// A policy's counter in the store.
#[derive(Debug)]
pub(crate) struct SharedCounter {
    store: Arc<Store>,
    kind: SharedKind,
    /// A name that no other policy has, limit and period included.
    policy: Box<[u8]>,
    limit: u64,
    /// The period as the script has it: microseconds for a rate, milliseconds for a quota.
    period: Box<[u8]>,
    on_failure: OnStoreFailureConfig,
    ahead: Ahead,
}

/// A receipt for calls that the store has counted, for giving them back.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SharedReceipt {
    name: Name,
    at: i64,
    cost: u64,
}

impl SharedCounter {
    /// Makes the counter of a policy. `id` is the same on every gateway. `gives_back`: counts are given back before their period ends.
    pub(crate) fn new(
        (store, on_failure): (Arc<Store>, OnStoreFailureConfig),
        kind: SharedKind,
        id: &str,
        (limit, period): (u64, Duration),
        gives_back: bool,
    ) -> Self {
        store.is_used.store(true, std::sync::atomic::Ordering::Relaxed);
        let limit = limit.min(LARGEST);
        let calls = if kind == SharedKind::Bytes { 0 } else { limit.saturating_mul(store.identity.config.lease.into()) / 100 };
        let hold = (period / GROUPS).min(LONGEST_HOLD);
        let period_of_script = if kind == SharedKind::Rate { period.as_micros() } else { period.as_millis() };
        Self {
            ahead: Ahead::new(calls, hold, !gives_back),
            kind,
            policy: format!("{id}\0{limit}\0{}", period.as_millis()).into_bytes().into(),
            limit,
            period: period_of_script.to_string().into_bytes().into(),
            on_failure,
            store,
        }
    }

    /// Returns whether calls are counted in the process while the store fails.
    pub(crate) fn falls_back(&self) -> bool {
        self.on_failure == OnStoreFailureConfig::Local
    }

    /// Notes a call that was counted in the process, since the store failed.
    pub(crate) fn fell_back(&self) {
        self.store.counts.counted_locally();
    }

    /// Admits or refuses a call, and counts it if it is admitted. A cost of 0 only asks.
    pub(crate) async fn take(&self, caller: &str, cost: u64) -> Result<(Taken, SharedReceipt), StoreUnavailable> {
        let name = self.store.name(&self.policy, caller.as_bytes());
        let asked = Instant::now();
        let (ahead, back) = match self.ahead.before(&name, cost, asked) {
            Next::Known(taken, at) => {
                self.store.counts.unasked();
                return Ok((taken, SharedReceipt { name, at, cost: if taken.admitted { cost } else { 0 } }));
            }
            Next::Ask { ahead, back } => (ahead, back),
        };
        let hold = self.ahead.hold().as_micros();
        let [admitted, ahead, remaining, wait, at] =
            self.ask(&name, back, &[self.limit.into(), cost.into(), ahead.into(), hold]).await?;
        let unsigned = |number: i64| u64::try_from(number).unwrap_or_default();
        let taken =
            Taken { admitted: admitted == 1, remaining: unsigned(remaining), wait: Duration::from_micros(unsigned(wait)) };
        self.ahead.after(&name, taken, (unsigned(ahead), at), asked);
        let shown = Taken { remaining: taken.remaining + unsigned(ahead), ..taken };
        Ok((shown, SharedReceipt { name, at, cost: if taken.admitted { cost } else { 0 } }))
    }

    /// Gives back the count of a call, without waiting for it. One that cannot be given back counts until its period ends.
    pub(crate) fn give_back(self: &Arc<Self>, receipt: SharedReceipt) {
        if receipt.cost > 0 {
            let counter = self.clone();
            self.later(async move { counter.ask(&receipt.name, (receipt.at, receipt.cost), &[]).await.map(drop) });
        }
    }

    /// Counts without judging, and without waiting for it.
    pub(crate) fn count(self: &Arc<Self>, caller: &str, cost: u64) {
        if cost > 0 {
            let (counter, name) = (self.clone(), self.store.name(&self.policy, caller.as_bytes()));
            self.later(async move {
                let cost = cost.min(LARGEST).to_string();
                let arguments: [&[u8]; 5] = [&counter.period, b"0", b"0", b"count", cost.as_bytes()];
                counter.store.run::<5>(&counter.store.scripts.quota, (&name, counter.letter()), &arguments).await.map(drop)
            });
        }
    }

    fn later(&self, task: impl Future<Output = Result<(), StoreUnavailable>> + Send + 'static) {
        if let Some(client) = self.store.client.get() {
            // The metrics say that it failed. What was not given back, or not counted, is so until the period ends.
            client.spawn(async move { task.await.unwrap_or_default() });
        }
    }

    /// Asks the script: gives back first, and then takes, if there is something to take.
    async fn ask(&self, name: &Name, back: (i64, u64), take: &[u128]) -> Result<[i64; 5], StoreUnavailable> {
        let script = if self.kind == SharedKind::Rate { &self.store.scripts.rate } else { &self.store.scripts.quota };
        let numbers = [back.0.to_string(), back.1.to_string()].into_iter().chain(take.iter().map(u128::to_string));
        let numbers: Vec<String> = numbers.collect();
        let arguments: Vec<&[u8]> =
            std::iter::once(&*self.period).chain(numbers.iter().map(|number| number.as_bytes())).collect();
        self.store.run(script, (name, self.letter()), &arguments).await
    }

    /// Returns the letter at the end of keys.
    const fn letter(&self) -> char {
        match self.kind {
            SharedKind::Rate => 'r',
            SharedKind::Quota => 'q',
            SharedKind::Bytes => 'b',
        }
    }
}
