//! How much: rates, quotas and calls at once, counted by any key.
//!
//! Counters live as long as the process: a reload takes them over, so that it is no way around a limit. Memory is bounded however
//! many keys there are, and what the bound costs is exactness on the safe side: where a table is full, a new key takes over
//! the smallest count of its neighbours, so nobody ever gets more than the limit, and a flood of made-up keys pushes strangers
//! towards it only very slowly. Tables are divided into many parts with a lock each.
//!
//! [`Counter`] is the seam for a store that several gateways share.

mod announcement;
mod concurrency;
mod fixed;
mod owner;
mod sliding;
mod table;

use std::{
    collections::BTreeMap,
    hash::{BuildHasher, RandomState},
    sync::{Arc, Mutex},
    time::Duration,
};

pub(crate) use self::announcement::{Announcement, exceeded};
pub use self::{
    concurrency::{Concurrency, Permit},
    fixed::Fixed,
    owner::Owner,
    sliding::Sliding,
};
use self::{owner::Names, table::Spot};
use crate::{base::lock::lock, telemetry::MetricsText};

/// Counts by key against a limit within a period of time.
pub trait Counter {
    /// Judges one call, and counts it if it is admitted.
    fn take(&self, key: &str, ask: Ask) -> impl Future<Output = Result<Taken, StoreFailure>> + Send;

    /// Counts what was judged before, or is only known now.
    fn add(&self, key: &str, cost: u64, now: Duration) -> impl Future<Output = Result<(), StoreFailure>> + Send;
}

/// One call to be judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ask {
    /// How much there may be within the period.
    pub limit: u64,
    /// How much the call counts; 0 only asks whether there is room for one.
    pub cost: u64,
    /// The time: the monotonic one for rates, that since 1970 for quotas.
    pub now: Duration,
}

/// The answer to one call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Taken {
    /// Whether it is within the limit.
    pub admitted: bool,
    /// How much is left.
    pub remaining: u64,
    /// When more is there: for a call that is not admitted, when it would be.
    pub wait: Duration,
}

/// What a call has taken of a limit, to be given back.
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

/// A time in whole milliseconds.
fn milliseconds(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// A store that several gateways share cannot be reached.
#[derive(Debug, thiserror::Error)]
#[error("the store of counters cannot be reached")]
pub struct StoreFailure;

/// The counters of this process, by what they count and for how long.
#[derive(Debug, Default)]
pub struct Limits {
    rates: Mutex<BTreeMap<(Counted, Duration), Arc<Sliding>>>,
    quotas: Mutex<BTreeMap<(Counted, Duration), Arc<Fixed>>>,
    concurrency: Arc<Concurrency>,
    seed: RandomState,
    names: Mutex<Names>,
}

/// What is counted apart from everything else, whatever the keys are called.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Counted {
    /// Calls, by a key that the config makes.
    Calls,
    /// Bytes of bodies, both ways, by a key that the config makes.
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
    /// The counter of calls in any stretch of time of this length. Asked for while a config is built, not per request.
    pub fn rate(&self, counted: Counted, period: Duration) -> Arc<Sliding> {
        let mut rates = lock(&self.rates);
        rates.entry((counted, period)).or_insert_with(|| Arc::new(Sliding::new(period))).clone()
    }

    /// The counter within fixed periods of this length. Asked for while a config is built, not per request.
    pub fn quota(&self, counted: Counted, period: Duration) -> Arc<Fixed> {
        let mut quotas = lock(&self.quotas);
        quotas.entry((counted, period)).or_insert_with(|| Arc::new(Fixed::new(period))).clone()
    }

    /// The calls under way.
    pub fn concurrency(&self) -> Arc<Concurrency> {
        self.concurrency.clone()
    }

    /// Whose counts are told apart by this text, which must be no other's.
    pub(crate) fn owner(&self, text: &str) -> Owner {
        Owner::of(self.seed.hash_one(text))
    }

    /// Notes that a policy of this kind and name counts over this period.
    ///
    /// # Errors
    /// Another one of the same config counts over another one, which is given.
    pub(crate) fn name(&self, kind: &'static str, name: &str, period: Option<Duration>) -> Result<(), Option<Duration>> {
        let known = *lock(&self.names).entry((kind, name.into())).or_insert(period);
        if known == period { Ok(()) } else { Err(known) }
    }

    /// Begins with another config: names that it gives are held against each other, not against those before.
    pub(crate) fn begin_build(&self) {
        lock(&self.names).clear();
    }

    /// Writes how often keys had to share a count.
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
