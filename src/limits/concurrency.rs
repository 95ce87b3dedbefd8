//! Concurrent calls.

use std::{
    collections::{HashMap, hash_map::Entry},
    hash::{BuildHasher, Hash, RandomState},
    sync::{Arc, Mutex},
};

use crate::base::lock::lock;

/// The number of locks.
const SHARDS: usize = 64;

/// The number of concurrent calls of each key. A key without any takes no room.
#[derive(Debug)]
pub struct Concurrency {
    seed: RandomState,
    shards: Box<[Mutex<HashMap<u64, u32>>]>,
}

/// A permit for one concurrent call, which ends when this is dropped.
#[derive(Debug)]
pub struct Permit {
    of: Arc<Concurrency>,
    key: u64,
}

impl Default for Concurrency {
    fn default() -> Self {
        Self { seed: RandomState::new(), shards: (0..SHARDS).map(|_| Mutex::default()).collect() }
    }
}

impl Concurrency {
    /// Begins a call, unless `most` calls of that key are in progress.
    pub fn begin(self: &Arc<Self>, key: impl Hash, most: u32) -> Option<Permit> {
        let key = self.seed.hash_one(key);
        let mut calls = lock(self.shard(key));
        let count = calls.entry(key).or_default();
        if *count < most {
            *count += 1;
            return Some(Permit { of: self.clone(), key });
        }
        if *count == 0 {
            calls.remove(&key);
        }
        None
    }

    fn shard(&self, key: u64) -> &Mutex<HashMap<u64, u32>> {
        &self.shards[key as usize % SHARDS]
    }

    #[cfg(test)]
    fn keys(&self) -> usize {
        self.shards.iter().map(|shard| shard.lock().map_or(0, |calls| calls.len())).sum()
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let mut calls = lock(self.of.shard(self.key));
        if let Entry::Occupied(mut count) = calls.entry(self.key) {
            *count.get_mut() -= 1;
            if *count.get() == 0 {
                count.remove();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_that_ends_makes_room_for_another() {
        let calls = Arc::new(Concurrency::default());

        let first = calls.begin("a", 2).expect("room");
        let _second = calls.begin("a", 2).expect("room");
        assert!(calls.begin("a", 2).is_none());
        assert!(calls.begin("b", 2).is_some(), "another key");
        drop(first);
        assert!(calls.begin("a", 2).is_some());
    }

    #[test]
    fn keys_without_calls_take_no_room() {
        let calls = Arc::new(Concurrency::default());
        for key in 0..1_000 {
            drop(calls.begin(key, 1));
            assert!(calls.begin(key, 0).is_none());
        }

        assert_eq!(calls.keys(), 0);
    }

    #[test]
    fn threads_never_exceed_the_limit_together() {
        let calls = Arc::new(Concurrency::default());
        let most = std::sync::atomic::AtomicU32::new(0);
        let now = std::sync::atomic::AtomicU32::new(0);

        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..1_000 {
                        if let Some(_permit) = calls.begin("a", 2) {
                            let count = now.fetch_add(1, std::sync::atomic::Ordering::SeqCst) + 1;
                            most.fetch_max(count, std::sync::atomic::Ordering::SeqCst);
                            now.fetch_sub(1, std::sync::atomic::Ordering::SeqCst);
                        }
                    }
                });
            }
        });

        assert!(most.into_inner() <= 2);
        assert_eq!(calls.keys(), 0);
    }
}
