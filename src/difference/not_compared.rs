//! Changes that a comparison does not look into: what counts calls, and what others answer.

use std::collections::BTreeSet;

use super::side::Side;
use crate::{inbound::PolicyConfig, settings::Place};

/// Policies that count, and so judge a request by those before it.
const COUNTERS: [&str; 3] = ["rate-limit-by-key", "quota-by-key", "limit-concurrency"];

/// Returns what differs and is not compared, in words.
pub(super) fn changes(sides: [&Side; 2]) -> Vec<String> {
    let mut found = BTreeSet::new();
    partners(sides, &mut found);
    let [old, new] = [counters(sides[0]), counters(sides[1])];
    if old != new {
        let alone = old.symmetric_difference(&new).map(|text| text.split(' ').next().unwrap_or_default().to_owned());
        let names: BTreeSet<String> = alone.collect();
        found.extend(names.into_iter().map(|name| format!("{name}: its limits or its place differ")));
    }
    if sides.iter().any(|side| asks_graph(side)) {
        found.insert("answers of Microsoft Graph".to_owned());
    }
    let listeners = Place::root().key("listeners");
    if sides.iter().any(|side| side.content(&listeners).contains("crl:")) {
        found.insert("revocation lists".to_owned());
    }
    for (section, what) in [("audit", "audit records"), ("telemetry", "telemetry"), ("admin", "the admin listener")] {
        let place = Place::root().key(section);
        if sides[0].content(&place) != sides[1].content(&place) {
            found.insert(format!("{what}: the settings differ"));
        }
    }
    found.into_iter().collect()
}

fn partners(sides: [&Side; 2], found: &mut BTreeSet<String>) {
    let words = |limit: &crate::partner::PartnerLimitConfig| format!("{} in {} s", limit.calls, limit.renewal_period.0.as_secs());
    for (name, new) in &sides[1].document.config.partners {
        let Some(old) = sides[0].document.config.partners.get(name) else { continue };
        for (what, before, after) in [("rate", &old.rate_limit, &new.rate_limit), ("quota", &old.quota, &new.quota)] {
            if before != after {
                let text = |limit: &Option<_>| limit.as_ref().map_or_else(|| "none".to_owned(), words);
                found.insert(format!("{what} of partners.{name}: {} → {}", text(before), text(after)));
            }
        }
    }
}

/// Returns the entries that count, with their settings.
fn counters(side: &Side) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for (index, route) in side.document.config.routes.iter().enumerate() {
        for entry in side.entries(index) {
            if COUNTERS.contains(&entry.config.name()) {
                found.insert(format!("{} {} {}", entry.config.name(), route.name, side.content(&entry.place)));
            }
        }
    }
    found
}

fn asks_graph(side: &Side) -> bool {
    let config = &side.document.config;
    let lists = std::iter::once(&config.inbound).chain(config.routes.iter().map(|route| &route.inbound));
    let mut asks = false;
    for list in lists {
        crate::inbound::list::each(list, &config.fragments, 0, &mut |policy| {
            if let PolicyConfig::ValidateAzureAdToken(token) = policy {
                asks |= token.group_lookup.is_some() || token.claim_lookup.is_some();
            }
        });
    }
    asks
}
