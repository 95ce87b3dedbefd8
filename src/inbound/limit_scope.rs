//! The owner of a limit's counts: the policy as written, or all policies with its name.

use std::{collections::HashMap, time::Duration};

use crate::{
    limits::{Limits, Owner},
    settings::{Faults, Place},
};

/// The limits of a config, identified across reloads by the list that contains them and by the number of earlier ones of their
/// kind there, whatever other routes and policies come and go.
///
/// A policy that is written once counts once: one of the global list over all routes, one of a fragment over all that include it.
#[derive(Debug, Default)]
pub(crate) struct LimitOwners(HashMap<usize, String>);

impl LimitOwners {
    /// Notes whose counts the policy has that these settings describe.
    pub(super) fn insert<C>(&mut self, config: &C, owner: String) {
        self.0.insert(address(config), owner);
    }
}

/// Returns the address of settings, which do not move while policies are built from them.
fn address<C>(config: &C) -> usize {
    std::ptr::from_ref(config).addr()
}

/// The counters of the process, with the owner of each policy's counts.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LimitContext<'a> {
    limits: &'a Limits,
    owners: Option<&'a LimitOwners>,
}

impl<'a> LimitContext<'a> {
    /// Makes the scope for the limits of a config.
    pub(crate) const fn new(limits: &'a Limits, owners: &'a LimitOwners) -> Self {
        Self { limits, owners: Some(owners) }
    }

    /// Returns the counters.
    pub(crate) const fn limits(&self) -> &'a Limits {
        self.limits
    }

    /// Returns the owner of a policy's counts: the policy itself, or all of its kind with this name; and a text for it that is the same
    /// on every gateway with this config. They must agree on the period; a mismatch is a fault.
    pub(super) fn owner<C>(&self, config: &C, named: Named<'_>, place: &Place, faults: &mut Faults) -> (Owner, String) {
        let Named { kind, name, period } = named;
        let Some(name) = name else {
            let known = self.owners.and_then(|owners| owners.0.get(&address(config)));
            let text = known.cloned().unwrap_or_else(|| format!("{kind}\0{}", address(config)));
            return (self.limits.owner(&text), text);
        };
        if name.is_empty() {
            faults.error(
                &place.key("name"),
                "the name is empty",
                "write a word, or leave it out: the policy then counts by itself",
            );
        }
        if let Err(other) = self.limits.name(kind, name, period) {
            let seconds = |period: Option<Duration>| period.unwrap_or_default().as_secs_f64();
            let message = format!(
                "another `{kind}` named `{name}` counts over {}s and this one over {}s, so they would not count together",
                seconds(other),
                seconds(period)
            );
            faults.error(&place.key("name"), message, "give both the same `renewal-period`, or another name");
        }
        let text = format!("{kind}\0name\0{name}");
        (self.limits.owner(&text), text)
    }
}

/// A counting policy: its kind, its name, and its period.
#[derive(Clone, Copy, Debug)]
pub(super) struct Named<'a> {
    pub(super) kind: &'static str,
    pub(super) name: Option<&'a str>,
    pub(super) period: Option<Duration>,
}

impl<'a> From<&'a Limits> for LimitContext<'a> {
    fn from(limits: &'a Limits) -> Self {
        Self { limits, owners: None }
    }
}
