//! Counts by key in bounded memory.
//!
//! Keys are hashed with a seed of this process and fall into small sets. A set that is full gives the place of its smallest count
//! to a new key, *with* that count (the rule of the "space-saving" sketch): every key that is not in the set was counted at most
//! that often, so a count may be too high and is never too low. Two keys of one hash count as one, which errs on the same side.

use std::{
    hash::{BuildHasher, RandomState},
    sync::Mutex,
    time::Duration,
};

use crate::lock::lock;

/// How many locks there are.
const SHARDS: usize = 64;
/// How many sets there are behind each lock.
const SETS: usize = 512;
/// How many keys there are in a set at most.
const WAYS: usize = 8;

/// The most keys that have a count of their own.
#[cfg(test)]
pub(super) const CAPACITY: usize = SHARDS * SETS * WAYS;

/// A count that can be compared with others of its table.
pub(super) trait Count: Default {
    /// How much is counted now.
    fn weight(&mut self, now: Duration, period: Duration) -> u64;
}

#[derive(Debug)]
pub(super) struct Table<C> {
    seed: RandomState,
    shards: Box<[Mutex<Shard<C>>]>,
}

#[derive(Debug)]
struct Shard<C> {
    sets: Box<[Vec<(u64, C)>]>,
}

impl<C: Count> Table<C> {
    pub(super) fn new() -> Self {
        let shard = || Mutex::new(Shard { sets: (0..SETS).map(|_| Vec::new()).collect() });
        Self { seed: RandomState::new(), shards: (0..SHARDS).map(|_| shard()).collect() }
    }

    /// Works on the count of a key.
    pub(super) fn with<R>(&self, key: &str, now: Duration, period: Duration, work: impl FnOnce(&mut C) -> R) -> R {
        let hash = self.seed.hash_one(key);
        // The low bits choose the lock, others the set: both are well mixed.
        let shard = &self.shards[hash as usize % SHARDS];
        // A panic within leaves a count as it is, which is still one.
        let mut shard = lock(shard);
        let set = &mut shard.sets[(hash >> 32) as usize % SETS];
        let index = match set.iter().position(|(known, _)| *known == hash) {
            Some(index) => index,
            None if set.len() < WAYS => {
                set.push((hash, C::default()));
                set.len() - 1
            }
            None => {
                let weights = set.iter_mut().map(|(_, count)| count.weight(now, period));
                let index = weights.enumerate().min_by_key(|(_, weight)| *weight).map_or(0, |(index, _)| index);
                set[index].0 = hash;
                index
            }
        };
        work(&mut set[index].1)
    }
}
