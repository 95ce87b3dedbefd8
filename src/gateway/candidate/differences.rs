//! The requests that a candidate would have decided otherwise: counted, with the ids of the last ones, in bounded room.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Arc, Mutex},
};

use crate::{base::lock::lock, request::RequestId, telemetry::MetricsText};

/// The most differences of one candidate that are listed.
const MOST: usize = 512;
/// The request ids of one difference.
const LAST_IDS: usize = 8;
/// The most series of the metric.
const MOST_SERIES: usize = 2_048;
/// The code of a request that is admitted, in the metric.
pub(super) const ALLOW: &str = "allow";

/// The kind of a difference.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum DifferenceKind {
    /// The candidate would admit what is refused.
    Gain,
    /// The candidate would refuse what is admitted.
    Loss,
    /// Both refuse, for other reasons.
    OtherCode,
}

impl DifferenceKind {
    /// Returns the kind of a difference between these codes; `None` admits.
    pub(super) const fn between(before: Option<&str>, after: Option<&str>) -> Self {
        match (before, after) {
            (Some(_), None) => Self::Gain,
            (None, _) => Self::Loss,
            (Some(_), Some(_)) => Self::OtherCode,
        }
    }
}

/// Requests of one route with the same two verdicts.
#[derive(Clone, Debug)]
pub struct Difference {
    /// The route by the active config; empty if there was none.
    pub route: Arc<str>,
    /// `allow`, or the code of the refusal.
    pub before: Box<str>,
    /// The same of the candidate.
    pub after: Box<str>,
    /// The number of requests.
    pub count: u64,
    /// The ids of the last ones, the newest first.
    pub request_ids: VecDeque<RequestId>,
    /// The time of the last one, in seconds since 1970.
    pub last_at: u64,
}

/// The differences of a candidate.
#[derive(Clone, Debug, Default)]
pub(super) struct Differences {
    by_verdicts: BTreeMap<Key, Difference>,
    unlisted: u64,
}

type Key = (DifferenceKind, Arc<str>, Box<str>, Box<str>);

impl Differences {
    pub(super) fn add(&mut self, key: Key, id: &RequestId, now: u64) {
        if self.by_verdicts.len() >= MOST && !self.by_verdicts.contains_key(&key) {
            self.unlisted += 1;
            return;
        }
        let (_, route, before, after) = key.clone();
        let request_ids = VecDeque::with_capacity(LAST_IDS);
        let found =
            self.by_verdicts.entry(key).or_insert(Difference { route, before, after, count: 0, request_ids, last_at: now });
        found.count += 1;
        found.last_at = now;
        found.request_ids.truncate(LAST_IDS - 1);
        found.request_ids.push_front(id.clone());
    }

    pub(super) fn of(&self, kind: DifferenceKind) -> Vec<Difference> {
        let of_kind = self.by_verdicts.iter().filter(|((own, ..), _)| *own == kind);
        let mut found: Vec<_> = of_kind.map(|(_, difference)| difference.clone()).collect();
        found.sort_by_key(|difference| std::cmp::Reverse(difference.count));
        found
    }

    pub(super) const fn unlisted(&self) -> u64 {
        self.unlisted
    }
}

/// A series of the metric: the route, and the verdicts before and after.
type Series = (Arc<str>, Box<str>, Box<str>);

/// The differences of all candidates of the process, as counters.
#[derive(Debug, Default)]
pub(super) struct Totals {
    by_verdicts: Mutex<BTreeMap<Series, u64>>,
}

impl Totals {
    pub(super) fn add(&self, route: &Arc<str>, before: &str, after: &str) {
        let mut counts = lock(&self.by_verdicts);
        let full = counts.len() >= MOST_SERIES;
        let key = (route.clone(), before.into(), after.into());
        match counts.get_mut(&key) {
            Some(count) => *count += 1,
            // Configs that came and went have left their names; the rest is one series.
            None if full => *counts.entry(("".into(), "other".into(), "other".into())).or_default() += 1,
            None => _ = counts.insert(key, 1),
        }
    }

    pub(super) fn write(&self, text: &mut MetricsText) {
        let name = "entrada_candidate_differs_total";
        text.family(
            name,
            "counter",
            "Requests that the candidate would have decided otherwise, by route, code before and code after.",
        );
        for ((route, before, after), count) in &*lock(&self.by_verdicts) {
            text.sample(name, &[("route", &**route), ("before", &**before), ("after", &**after)], *count);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_room_is_bounded_and_what_it_does_not_hold_is_counted() {
        let (mut differences, totals) = (Differences::default(), Totals::default());
        let id = RequestId::generate(std::time::Duration::from_secs(1));
        for number in 0..10_000_u64 {
            let route: Arc<str> = format!("r{number}").into();
            differences.add((DifferenceKind::Gain, route.clone(), "a".into(), ALLOW.into()), &id, number);
            totals.add(&route, "a", ALLOW);
        }
        for _ in 0..100 {
            differences.add((DifferenceKind::Gain, "r0".into(), "a".into(), ALLOW.into()), &id, 7);
        }

        let gains = differences.of(DifferenceKind::Gain);
        assert_eq!((gains.len(), differences.unlisted()), (MOST, 10_000 - MOST as u64));
        assert_eq!((gains[0].count, gains[0].request_ids.len()), (101, LAST_IDS), "the most frequent is first");
        assert!(lock(&totals.by_verdicts).len() <= MOST_SERIES + 1);
        assert!(differences.of(DifferenceKind::Loss).is_empty());
    }
}
