//! The owners of counts: a single policy, or all policies of one name.

use std::{collections::BTreeMap, time::Duration};

/// The policy, or the name, that keys are counted for: the same key under another owner has another count.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Owner(u64);

impl Owner {
    pub(super) const fn of(hash: u64) -> Self {
        Self(hash)
    }
}

/// The names of a config's limits, by kind, with their periods.
pub(super) type Names = BTreeMap<(&'static str, Box<str>), Option<Duration>>;
