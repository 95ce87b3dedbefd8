//! A bounded map whose keys callers choose; entries that were not used lately are dropped.

use std::{
    collections::HashMap,
    fmt,
    hash::Hash,
    mem,
    sync::{Arc, Mutex},
};

use crate::lock::lock;

/// A map that keeps recently used entries in two generations: the older one is dropped when the younger one is full.
pub struct Generations<K, V> {
    each: usize,
    maps: Mutex<Maps<K, V>>,
}

struct Maps<K, V> {
    young: HashMap<K, Arc<V>>,
    old: HashMap<K, Arc<V>>,
}

impl<K: Hash + Eq + Clone, V> Generations<K, V> {
    /// Returns a map of at most `most` entries.
    pub fn new(most: usize) -> Self {
        Self { each: (most / 2).max(1), maps: Mutex::new(Maps { young: HashMap::new(), old: HashMap::new() }) }
    }

    /// Returns the entry of this key, making it if there is none.
    pub fn get(&self, key: &K, make: impl FnOnce() -> Arc<V>) -> Arc<V> {
        let mut maps = lock(&self.maps);
        if let Some(entry) = maps.young.get(key) {
            return entry.clone();
        }
        let entry = maps.old.remove(key).unwrap_or_else(make);
        if maps.young.len() >= self.each {
            maps.old = mem::take(&mut maps.young);
        }
        maps.young.insert(key.clone(), entry.clone());
        entry
    }

    /// Returns the entry of this key, if there is one. It becomes no younger by that.
    pub fn find(&self, key: &K) -> Option<Arc<V>> {
        let maps = lock(&self.maps);
        maps.young.get(key).or_else(|| maps.old.get(key)).cloned()
    }

    /// Drops the entries that are not worth keeping.
    pub fn retain(&self, is_worth: impl Fn(&V) -> bool) {
        let mut maps = lock(&self.maps);
        maps.young.retain(|_, entry| is_worth(entry));
        maps.old.retain(|_, entry| is_worth(entry));
    }

    /// Returns the entries, in no particular order.
    pub fn entries(&self) -> Vec<Arc<V>> {
        let maps = lock(&self.maps);
        maps.young.values().chain(maps.old.values()).cloned().collect()
    }
}

impl<K, V> fmt::Debug for Generations<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Generations").field("each", &self.each).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_what_was_used_lately_and_no_more_than_it_may() {
        let map = Generations::new(8);
        let favourite = map.get(&0, || Arc::new(0));

        for key in 1..1_000 {
            map.get(&key, || Arc::new(key));
            assert!(map.entries().len() <= 8);
            if key % 3 == 0 {
                assert!(Arc::ptr_eq(&favourite, &map.get(&0, || Arc::new(-1))), "{key}");
            }
        }
        assert_eq!(*map.get(&1, || Arc::new(-1)), -1, "long unused");
    }
}
