//! Changes that a comparison does not look into: what counts calls, and what others answer.

use std::collections::BTreeSet;

use super::side::Side;
use crate::{inbound::PolicyConfig, settings::Place};

/// A policy that counts, and so judges a request by those before it.
struct Counter {
    /// The route, by its name.
    route: String,
    /// The match of the route, whose name may be another one.
    matches: String,
    policy: &'static str,
    /// The limit, in words.
    limit: String,
    /// All settings.
    content: String,
}

impl Counter {
    fn is_of(&self, other: &Self) -> bool {
        self.matches == other.matches && self.policy == other.policy
    }
}

/// Returns what differs and is not compared, in words.
pub(super) fn changes(sides: [&Side; 2]) -> Vec<String> {
    let mut found = BTreeSet::new();
    partners(sides, &mut found);
    limits(sides, &mut found);
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

/// Tells the limits that differ: those of the same route and policy beside each other.
fn limits(sides: [&Side; 2], found: &mut BTreeSet<String>) {
    let [mut old, mut new] = sides.map(counters);
    new.retain(|limit| {
        let same = old.iter().position(|other| other.is_of(limit) && other.content == limit.content);
        same.map(|index| old.remove(index)).is_none()
    });
    for limit in new {
        let before = old.iter().position(|other| other.is_of(&limit)).map(|index| old.remove(index));
        let Counter { route, policy, limit: after, .. } = limit;
        found.insert(match before.map(|before| before.limit) {
            None => format!("{policy} of route {route}: none → {after}"),
            Some(before) if before == after => format!("{policy} of route {route}: {after} as before, otherwise counted"),
            Some(before) => format!("{policy} of route {route}: {before} → {after}"),
        });
    }
    found.extend(old.into_iter().map(|limit| format!("{} of route {}: {} → none", limit.policy, limit.route, limit.limit)));
}

/// Returns the entries that count.
fn counters(side: &Side) -> Vec<Counter> {
    let mut found = Vec::new();
    for (index, route) in side.document.config.routes.iter().enumerate() {
        let matches = side.content(&Place::root().key("routes").index(index).key("match"));
        for entry in side.entries(index) {
            let limit = match entry.config {
                PolicyConfig::RateLimitByKey(limit) => format!("{} in {} s", limit.calls, limit.renewal_period.0.as_secs()),
                PolicyConfig::QuotaByKey(limit) => {
                    let calls = limit.calls.map(|calls| format!("{calls} calls"));
                    let bytes = limit.bandwidth.as_ref().map(|bandwidth| format!("{} bytes", bandwidth.0));
                    let amount: Vec<String> = calls.into_iter().chain(bytes).collect();
                    format!("{} in {} s", amount.join(" and "), limit.renewal_period.0.as_secs())
                }
                PolicyConfig::LimitConcurrency(limit) => format!("{} at once", limit.max_count),
                _ => continue,
            };
            let (policy, content) = (entry.config.name(), side.content(&entry.place));
            found.push(Counter { route: route.name.clone(), matches: matches.clone(), policy, limit, content });
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
