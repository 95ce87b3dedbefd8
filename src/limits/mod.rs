//! Rates, quotas and concurrent calls, counted by any key.
//!
//! Counters live as long as the process: a reload takes them over, so that it is no way around a limit. Memory is bounded. When a
//! table is full, a new key inherits the smallest neighbouring count: limits are never exceeded, but may be reached early; a
//! flood of random keys affects other keys only slowly. Tables are divided into many parts with a lock each.

mod announcement;
mod concurrency;
mod fixed;
mod limiter;
mod owner;
mod sliding;
pub(crate) mod store;
mod table;

use std::{
    collections::BTreeMap,
    hash::{BuildHasher, RandomState},
    sync::{Arc, Mutex},
    time::Duration,
};

pub(crate) use self::{
    announcement::{Announcement, exceeded},
    limiter::{CountReceipt, Counter, Limiter},
    store::{OnStoreFailureConfig, RedisConfig, StoreConfig},
};
pub use self::{
    concurrency::{Concurrency, Permit},
    fixed::Fixed,
    owner::Owner,
    sliding::Sliding,
};
use self::{owner::Names, store::Store, table::Spot};
use crate::{
    base::lock::lock,
    settings::{Faults, Place},
    telemetry::MetricsText,
};

/// The parameters of one call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ask {
    /// The limit within the period.
    pub limit: u64,
    /// The cost of the call; 0 only asks whether there is room for one.
    pub cost: u64,
    /// The time: monotonic for rates, since 1970 for quotas.
    pub now: Duration,
}

/// The result for one call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Taken {
    /// True if the call is within the limit.
    pub admitted: bool,
    /// The remaining amount.
    pub remaining: u64,
    /// The time until more becomes available; for a rejected call, until it would be admitted.
    pub wait: Duration,
}

/// A receipt for the count of a call, for giving it back.
#[derive(Clone, Copy, Debug)]
pub struct Receipt {
    spot: Spot,
    cost: u64,
    at: Duration,
}

impl Receipt {
    const fn new(spot: Spot, taken: Taken, ask: Ask) -> Self {
        Self { spot, cost: if taken.admitted { ask.cost } else { 0 }, at: ask.now }
    }
}

/// Returns a duration in whole milliseconds.
fn milliseconds(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// The counters of this process, by subject and period.
#[derive(Debug, Default)]
pub struct Limits {
    rates: Mutex<BTreeMap<(Counted, Duration), Arc<Sliding>>>,
    quotas: Mutex<BTreeMap<(Counted, Duration), Arc<Fixed>>>,
    concurrency: Arc<Concurrency>,
    seed: RandomState,
    names: Mutex<Names>,
    /// The store of the config that is being built.
    store: Mutex<ConfiguredStore>,
}

/// The store of a config.
#[derive(Clone, Debug, Default)]
pub(crate) enum ConfiguredStore {
    /// There is none.
    #[default]
    None,
    /// It cannot be used, which was reported.
    Faulty,
    /// It can be used. Limits are kept there by default, or only where it is written.
    Ready(Arc<Store>, bool),
}

/// The store that a policy names, and what it does while that fails.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct StoreChoice {
    /// The store.
    pub(crate) store: Option<StoreConfig>,
    /// The treatment of calls while that fails.
    pub(crate) on_failure: Option<OnStoreFailureConfig>,
}

/// The subject of a counter; equal keys of different subjects are counted apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Counted {
    /// Calls, by a key from the config.
    Calls,
    /// Bytes of bodies, in both directions, by a key from the config.
    Bytes,
    /// Calls of partners, by their names.
    Partners,
}

impl Counted {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Calls => "calls",
            Self::Bytes => "bytes",
            Self::Partners => "partners",
        }
    }
}

impl Limits {
    /// Returns the counter of calls in a sliding period of this length. For building a config, not for each request.
    pub fn rate(&self, counted: Counted, period: Duration) -> Arc<Sliding> {
        let mut rates = lock(&self.rates);
        rates.entry((counted, period)).or_insert_with(|| Arc::new(Sliding::new(period))).clone()
    }

    /// Returns the counter over fixed periods of this length. For building a config, not for each request.
    pub fn quota(&self, counted: Counted, period: Duration) -> Arc<Fixed> {
        let mut quotas = lock(&self.quotas);
        quotas.entry((counted, period)).or_insert_with(|| Arc::new(Fixed::new(period))).clone()
    }

    /// Returns the counters of concurrent calls.
    pub fn concurrency(&self) -> Arc<Concurrency> {
        self.concurrency.clone()
    }

    /// Forgets all counts of calls and bytes; concurrent calls end by themselves.
    pub(crate) fn clear(&self) {
        lock(&self.rates).values().for_each(|counter| counter.clear());
        lock(&self.quotas).values().for_each(|counter| counter.clear());
    }

    /// Returns the owner of the counts under this text, which must be unique.
    pub(crate) fn owner(&self, text: &str) -> Owner {
        Owner::of(self.seed.hash_one(text))
    }

    /// Registers a policy of this kind and name with its period.
    ///
    /// # Errors
    /// Returns the period of another policy of the same config and name, if it differs.
    pub(crate) fn name(&self, kind: &'static str, name: &str, period: Option<Duration>) -> Result<(), Option<Duration>> {
        let known = *lock(&self.names).entry((kind, name.into())).or_insert(period);
        if known == period { Ok(()) } else { Err(known) }
    }

    /// Starts another config with this store: its names are compared with each other, not with those of earlier configs.
    pub(crate) fn begin_build(&self, store: ConfiguredStore) {
        lock(&self.names).clear();
        *lock(&self.store) = store;
    }

    /// Returns the store in which a policy counts, and what it does while that fails; `None` if it counts in this process. `place`
    /// is that of the policy.
    pub(crate) fn shared(
        &self,
        choice: StoreChoice,
        place: &Place,
        faults: &mut Faults,
    ) -> Option<(Arc<Store>, OnStoreFailureConfig)> {
        let store = lock(&self.store).clone();
        let wanted = match (choice.store, &store) {
            (Some(store), _) => store,
            (None, ConfiguredStore::Ready(_, true)) => StoreConfig::Redis,
            (None, ConfiguredStore::Ready(_, false) | ConfiguredStore::None) => StoreConfig::Local,
            // What its default is nobody knows.
            (None, ConfiguredStore::Faulty) => return None,
        };
        match (wanted, store) {
            (StoreConfig::Redis, ConfiguredStore::Ready(store, _)) => Some((store, choice.on_failure.unwrap_or_default())),
            (StoreConfig::Redis, ConfiguredStore::Faulty) => None,
            (StoreConfig::Redis, ConfiguredStore::None) => {
                faults.error(
                    &place.key("store"),
                    "the config names no store",
                    "write `redis` with its `url` at the top, or leave `store` out: each gateway then counts by itself",
                );
                None
            }
            (StoreConfig::Local, _) => {
                if choice.on_failure.is_some() {
                    let message = "the counts are kept in the process, so there is no store that could fail";
                    faults.error(&place.key("on-store-failure"), message, "write `store: redis`, or leave this out");
                }
                None
            }
        }
    }

    /// Writes the number of keys that had to share a count.
    pub(crate) fn write_metrics(&self, text: &mut MetricsText) {
        let rates = lock(&self.rates);
        let quotas = lock(&self.quotas);
        let rates = rates.iter().map(|((counted, period), counter)| ("rate", *counted, *period, counter.shared()));
        let quotas = quotas.iter().map(|((counted, period), counter)| ("quota", *counted, *period, counter.shared()));
        text.family(
            "entrada_limit_counts_shared_total",
            "counter",
            "Keys that began with the count of another, for want of room.",
        );
        for (limit, counted, period, shared) in rates.chain(quotas) {
            let period = format!("{}s", period.as_secs_f64());
            let labels = [("limit", limit), ("counted", counted.as_str()), ("period", &*period)];
            text.sample("entrada_limit_counts_shared_total", &labels, shared);
        }
    }
}
