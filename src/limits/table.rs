//! Counts by key in bounded memory.
//!
//! Keys are hashed with a seed of this process and assigned to small sets. A full set gives the slot of its smallest count to a
//! new key, *with* that count (the rule of the "space-saving" sketch): every key outside the set was counted at most that often,
//! so a count may be too high but is never too low. Two keys with the same hash share a count, which errs on the same side.
//!
//! The number of keys that inherited a count is counted and logged: it means that there are more keys than slots, and that some
//! callers are refused too early.

use std::{
    hash::{BuildHasher, Hash, RandomState},
    sync::{
        Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use crate::base::lock::lock;

/// The number of locks.
const SHARDS: usize = 64;
/// The number of sets behind each lock.
const SETS: usize = 512;
/// The number of keys in a set.
const WAYS: usize = 8;

/// The minimum interval of the log message about shared counts.
const TOLD_EVERY: Duration = Duration::from_mins(10);

/// The maximum number of keys with a count of their own.
#[cfg(test)]
pub(super) const CAPACITY: usize = SHARDS * SETS * WAYS;

/// A count that can be compared with others of its table.
pub(super) trait Count: Default {
    /// Returns the current count.
    fn weight(&mut self, now: Duration, period: Duration) -> u64;
}

#[derive(Debug)]
pub(super) struct Table<C> {
    seed: RandomState,
    shards: Box<[Mutex<Shard<C>>]>,
    /// The subject of the counts, for the log.
    what: &'static str,
    /// The number of keys that inherited a count.
    shared: AtomicU64,
    /// The time when the log may mention it again, in milliseconds; 0 before the first time.
    told: AtomicU64,
}

#[derive(Debug)]
struct Shard<C> {
    sets: Box<[Vec<Slot<C>>]>,
    tenures: u32,
    /// The number of tenures when all counts were forgotten.
    cleared: u32,
}

#[derive(Debug)]
struct Slot<C> {
    hash: u64,
    /// A number that changes whenever another key takes the slot.
    tenure: u32,
    count: C,
}

/// The slot in which a key was counted. Giving back needs the same count: the key may have lost its slot since, and come back
/// with a count that it inherited.
#[derive(Clone, Copy, Debug)]
pub(super) struct Spot {
    hash: u64,
    tenure: u32,
}

impl<C: Count> Table<C> {
    /// Makes a table with this subject for the log.
    pub(super) fn new(what: &'static str) -> Self {
        let shard = || Mutex::new(Shard { sets: (0..SETS).map(|_| Vec::new()).collect(), tenures: 0, cleared: 0 });
        Self {
            seed: RandomState::new(),
            shards: (0..SHARDS).map(|_| shard()).collect(),
            what,
            shared: AtomicU64::new(0),
            told: AtomicU64::new(0),
        }
    }

    /// Forgets all counts.
    pub(super) fn clear(&self) {
        for shard in &self.shards {
            let mut shard = lock(shard);
            if shard.cleared != shard.tenures {
                shard.sets.iter_mut().for_each(Vec::clear);
                shard.cleared = shard.tenures;
            }
        }
    }

    /// Returns the number of keys that inherited a count.
    pub(super) fn shared(&self) -> u64 {
        self.shared.load(Ordering::Relaxed)
    }

    /// Runs `work` on the count of a key.
    pub(super) fn with<R>(&self, key: impl Hash, now: Duration, period: Duration, work: impl FnOnce(&mut C) -> R) -> (R, Spot) {
        let hash = self.seed.hash_one(key);
        // The low bits choose the lock, others the set: both are well mixed.
        let shard = &self.shards[hash as usize % SHARDS];
        // A panic within leaves a count as it is, which is still one.
        let mut shard = lock(shard);
        let Shard { sets, tenures, .. } = &mut *shard;
        let set = &mut sets[(hash >> 32) as usize % SETS];
        let index = match set.iter().position(|slot| slot.hash == hash) {
            Some(index) => index,
            None if set.len() < WAYS => {
                *tenures = tenures.wrapping_add(1);
                set.push(Slot { hash, tenure: *tenures, count: C::default() });
                set.len() - 1
            }
            None => {
                let weights = set.iter_mut().map(|slot| slot.count.weight(now, period)).enumerate();
                let (index, weight) = weights.min_by_key(|(_, weight)| *weight).unwrap_or_default();
                *tenures = tenures.wrapping_add(1);
                (set[index].hash, set[index].tenure) = (hash, *tenures);
                if weight > 0 {
                    self.share(now, period);
                }
                index
            }
        };
        let slot = &mut set[index];
        (work(&mut slot.count), Spot { hash, tenure: slot.tenure })
    }

    /// Runs `work` on a key's earlier slot, if the key still has it.
    pub(super) fn at(&self, spot: Spot, work: impl FnOnce(&mut C)) {
        let mut shard = lock(&self.shards[spot.hash as usize % SHARDS]);
        let set = &mut shard.sets[(spot.hash >> 32) as usize % SETS];
        if let Some(slot) = set.iter_mut().find(|slot| slot.hash == spot.hash && slot.tenure == spot.tenure) {
            work(&mut slot.count);
        }
    }

    /// Notes that a key inherited a count.
    fn share(&self, now: Duration, period: Duration) {
        let shared = self.shared.fetch_add(1, Ordering::Relaxed) + 1;
        let (now, every) = (super::milliseconds(now), super::milliseconds(TOLD_EVERY));
        let told = self.told.load(Ordering::Relaxed);
        // Once in a while by whatever clock, also one that was set back.
        let due = told == 0 || now >= told.saturating_add(every) || now < told;
        if due && self.told.compare_exchange(told, now.max(1), Ordering::Relaxed, Ordering::Relaxed).is_ok() {
            let period = period.as_secs();
            tracing::warn!(
                counts = self.what,
                period_seconds = period,
                shared,
                "more keys are counted than there are places: new ones begin with the counts of others, and are refused early"
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Default)]
    struct Plain(u64);

    impl Count for Plain {
        fn weight(&mut self, _: Duration, _: Duration) -> u64 {
            self.0
        }
    }

    fn add(table: &Table<Plain>, key: usize) -> Spot {
        table.with(key, Duration::ZERO, Duration::ZERO, |count| count.0 += 1).1
    }

    #[test]
    fn places_that_are_shared_are_counted() {
        let table = Table::<Plain>::new("calls");
        (0..SHARDS * SETS / 8).for_each(|key| _ = add(&table, key));
        assert_eq!(table.shared(), 0);

        (0..CAPACITY * 2).for_each(|key| _ = add(&table, key));

        assert!(table.shared() as usize > CAPACITY / 2, "{}", table.shared());
    }

    #[test]
    fn a_key_that_lost_its_place_gives_nothing_back_from_anothers() {
        let table = Table::<Plain>::new("calls");
        let spot = add(&table, 0);
        table.at(spot, |count| count.0 += 10);
        table.at(spot, |count| count.0 -= 10);
        let mut key = 1;
        // A place of its own again would be another tenure, with a count that it inherited.
        while table.with(0_usize, Duration::ZERO, Duration::ZERO, |_| ()).1.tenure == spot.tenure {
            for _ in 0..1_000 {
                add(&table, key);
                key += 1;
            }
        }

        table.at(spot, |_| panic!("it is another's count"));
    }
}
