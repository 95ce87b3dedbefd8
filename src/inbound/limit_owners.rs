//! The limits of a config, collected from its lists.

use std::collections::BTreeMap;

use super::{
    PolicyConfig,
    limit_scope::LimitOwners,
    list::{self, Fragments},
};

/// The fragments are visited separately.
static NONE: Fragments = Fragments::new();

impl LimitOwners {
    /// Collects the limits of the global list, the fragments, and the routes by name.
    pub(crate) fn of<'a>(
        global: &[PolicyConfig],
        fragments: &Fragments,
        routes: impl IntoIterator<Item = (&'a str, &'a [PolicyConfig])>,
    ) -> Self {
        let mut owners = Self::default();
        owners.add("global", "", global);
        fragments.iter().for_each(|(name, policies)| owners.add("fragment", name, policies));
        routes.into_iter().for_each(|(name, policies)| owners.add("route", name, policies));
        owners
    }

    fn add(&mut self, list: &str, name: &str, policies: &[PolicyConfig]) {
        let mut counts = BTreeMap::<_, usize>::new();
        list::each(policies, &NONE, 0, &mut |policy| {
            let kind = policy.name();
            let mut owner = || {
                let count = counts.entry(kind).or_default();
                *count += 1;
                // Parted by a sign that no name can hold, so that no two are written alike.
                format!("{kind}\0{list}\0{name}\0{count}")
            };
            match policy {
                PolicyConfig::RateLimitByKey(config) => self.insert(&**config, owner()),
                PolicyConfig::QuotaByKey(config) => self.insert(&**config, owner()),
                PolicyConfig::LimitConcurrency(config) => self.insert(config, owner()),
                _ => {}
            }
        });
    }
}
