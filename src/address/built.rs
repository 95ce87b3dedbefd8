//! A cache of address sets: each is built once, however many places use it.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
};

use aws_lc_rs::digest::{Context, SHA256};

use super::{AddressEntryConfig, AddressSet};
use crate::{
    base::lock::lock,
    settings::{Fault, Faults, Place},
};

/// The digest of a set's parts: sets with equal keys are equal.
pub(super) type Key = [u8; 32];

/// The sets that were built from lists and files while a config is compiled.
#[derive(Debug, Default)]
pub(super) struct BuiltSets(Mutex<HashMap<Key, Built>>);

/// A set, and the faults that were reported when it was built.
#[derive(Clone, Debug)]
struct Built {
    set: Option<Arc<AddressSet>>,
    told: Arc<[RelativeFault]>,
}

/// A fault; for one within the list, the place is relative to the list.
#[derive(Debug)]
struct RelativeFault {
    within: Option<String>,
    fault: Fault,
}

impl BuiltSets {
    /// Returns the set of this key, building it if necessary. Faults within `place`, where the set was built first, are repeated
    /// for every other place that lists the same.
    pub(super) fn once(
        &self,
        key: Key,
        place: &Place,
        faults: &mut Faults,
        build: impl FnOnce(&mut Faults) -> Option<Arc<AddressSet>>,
    ) -> Option<Arc<AddressSet>> {
        // A set may name others, which are built meanwhile: the table is not held.
        let known = lock(&self.0).get(&key).cloned();
        let built = known.unwrap_or_else(|| {
            let mut own = Faults::default();
            let set = build(&mut own);
            let told = own.iter().map(|fault| RelativeFault {
                within: fault.place.pointer().strip_prefix(place.pointer()).map(str::to_owned),
                fault: fault.clone(),
            });
            let built = Built { set, told: told.collect() };
            lock(&self.0).insert(key, built.clone());
            built
        });
        for RelativeFault { within, fault } in &*built.told {
            let mut fault = fault.clone();
            if let Some(within) = within {
                fault.place = Place::from(format!("{}{within}", place.pointer()));
            }
            faults.add(fault);
        }
        built.set
    }

    /// Drops the data that only the build needs.
    pub(super) fn clear(&self) {
        *lock(&self.0) = HashMap::new();
    }
}

/// Returns the key of a list.
pub(super) fn key_of(entries: &[AddressEntryConfig]) -> Key {
    let mut digest = Digest::new("list");
    for entry in entries {
        match entry {
            AddressEntryConfig::Text(text) => digest.add(Some(text)),
            AddressEntryConfig::Noted(noted) => {
                digest.add(None);
                digest.add(Some(&noted.address));
                digest.add(noted.owner.as_deref());
                digest.add(noted.reason.as_deref());
                digest.add(noted.expires.map(|day| day.to_string()).as_deref());
            }
        }
    }
    digest.finish()
}

/// Returns the key of a file's content.
pub(super) fn key_of_file(kind: &str, path: &str, tags: &[String]) -> Key {
    let mut digest = Digest::new(kind);
    digest.add(Some(path));
    tags.iter().for_each(|tag| digest.add(Some(tag)));
    digest.finish()
}

struct Digest(Context);

impl Digest {
    fn new(kind: &str) -> Self {
        let mut digest = Self(Context::new(&SHA256));
        digest.add(Some(kind));
        digest
    }

    /// Adds a text with its length, so that no two sequences of texts look alike.
    fn add(&mut self, text: Option<&str>) {
        self.0.update(&text.map_or(u64::MAX, |text| text.len() as u64).to_le_bytes());
        self.0.update(text.unwrap_or_default().as_bytes());
    }

    fn finish(self) -> Key {
        let mut key = [0; 32];
        key.copy_from_slice(self.0.finish().as_ref());
        key
    }
}
