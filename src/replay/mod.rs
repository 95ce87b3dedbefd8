//! Recorded requests, decided once more by another config.
//!
//! The decision is the engine's own, by the facts of the record alone. A fact that is not there makes the verdict unknown, and never a
//! guess; limits and faults of upstreams are counted apart.

mod record;

use std::collections::{BTreeMap, HashSet};

use http::HeaderName;
use serde::Serialize;

pub use self::record::{RecordedRequest, RecordedToken, Skipped, Told};
use crate::{
    config::{Document, FactMarks, proofs},
    offline::{Decided, OfflineGateway},
};

/// The request ids that are listed for one change.
const MOST_IDS: usize = 20;
/// The code of a request that is admitted.
pub const ALLOW: &str = "allow";

/// The result of a replay so far.
#[derive(Debug, Default)]
pub struct Replay {
    /// The number of lines.
    pub records: u64,
    /// The number of records with the same verdict.
    pub same: u64,
    skipped: BTreeMap<Skipped, u64>,
    changes: BTreeMap<(String, String, String), (u64, Vec<String>)>,
    unknown: BTreeMap<String, u64>,
    not_judged: BTreeMap<&'static str, u64>,
    marks: FactMarks,
    /// The fields that prove a proxy to the listeners of the config.
    proofs: HashSet<HeaderName>,
}

/// Requests of one route with the same two verdicts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Change {
    /// The route of then; empty if there was none.
    pub route: String,
    /// `allow`, or the code of then.
    pub before: String,
    /// `allow`, or the code by the new config.
    pub after: String,
    /// The number of requests.
    pub count: u64,
    /// The ids of the first ones.
    pub request_ids: Vec<String>,
}

/// Requests whose verdict is unknown for the same cause.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Unknown {
    /// `not-recorded`: the record does not have the fact.
    pub cause: &'static str,
    /// The fact that would decide it.
    pub fact: String,
    /// The number of requests.
    pub count: u64,
}

/// A number of records with its cause.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Counted {
    /// The cause.
    pub cause: &'static str,
    /// The number of records.
    pub count: u64,
}

/// The direction of a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// Refused before, admitted after.
    Gain,
    /// Admitted before, refused after.
    Loss,
    /// Refused with another code.
    OtherCode,
}

impl Change {
    /// Returns its direction.
    pub fn direction(&self) -> Direction {
        match (&*self.before, &*self.after) {
            (ALLOW, _) => Direction::Loss,
            (_, ALLOW) => Direction::Gain,
            _ => Direction::OtherCode,
        }
    }
}

/// Returns the fields that prove a proxy to the listeners of a config.
pub(crate) fn proof_fields(document: &Document) -> HashSet<HeaderName> {
    proofs(&document.config).filter_map(|(name, _)| HeaderName::from_bytes(name.as_bytes()).ok()).collect()
}

impl RecordedRequest {
    /// Returns a fact that the record does not have, and that any decision would depend on. `proofs`: the fields that prove a proxy.
    pub(crate) fn lacks(&self, proofs: &HashSet<HeaderName>) -> Option<String> {
        // What was cut may be what the config looks at, or what it leads to.
        if let Some(cut) = self.cut.first() {
            return Some(format!("{cut}, of which only the beginning is recorded"));
        }
        let known = self.evidence.recorded.as_ref();
        let proof = proofs.iter().find(|name| known.is_some_and(|known| !known.headers.contains(*name)));
        proof.map(|name| format!("the header field {name}"))
    }
}

impl Replay {
    /// Begins a replay against a config.
    pub fn against(document: &Document) -> Self {
        Self { marks: FactMarks::of(document), proofs: proof_fields(document), ..Self::default() }
    }

    /// Judges the request of one line. `now`: the time to judge it at, in place of its own.
    pub async fn add(&mut self, gateway: &OfflineGateway, line: &str, now: Option<u64>) {
        self.records += 1;
        let recorded = match RecordedRequest::read(line, &self.marks) {
            Ok(recorded) => recorded,
            Err(skipped) => return *self.skipped.entry(skipped).or_default() += 1,
        };
        let lacking = recorded.lacks(&self.proofs);
        let RecordedRequest { request, evidence, id, request_id, time, route, told, .. } = recorded;
        let before = match told {
            Told::Allowed => ALLOW.to_owned(),
            Told::Refused(code) => code,
            Told::Apart(cause) => return *self.not_judged.entry(cause).or_default() += 1,
        };
        gateway.begin(now.unwrap_or(time));
        let Decided { code, unknown, .. } = gateway.decide(&request, evidence, request_id).await;
        if let Some(fact) = lacking.or_else(|| unknown.into_iter().next()) {
            return *self.unknown.entry(fact).or_default() += 1;
        }
        let after = code.unwrap_or_else(|| ALLOW.to_owned());
        if before == after {
            self.same += 1;
            return;
        }
        let (count, ids) = self.changes.entry((route, before, after)).or_default();
        *count += 1;
        if ids.len() < MOST_IDS {
            ids.push(id);
        }
    }

    /// Returns the number of records that could not be judged at all.
    pub fn skipped(&self) -> u64 {
        self.skipped.values().sum()
    }

    /// Returns these by cause.
    pub fn skipped_by(&self) -> Vec<Counted> {
        self.skipped.iter().map(|(skipped, count)| Counted { cause: skipped.as_str(), count: *count }).collect()
    }

    /// Returns the changes: gains first, then losses, then other codes, each by their number.
    pub fn changes(&self) -> Vec<Change> {
        let mut changes: Vec<_> = self
            .changes
            .iter()
            .map(|((route, before, after), (count, ids))| Change {
                route: route.clone(),
                before: before.clone(),
                after: after.clone(),
                count: *count,
                request_ids: ids.clone(),
            })
            .collect();
        changes.sort_by_key(|change| (change.direction() as u8, std::cmp::Reverse(change.count)));
        changes
    }

    /// Returns the unknown verdicts by the facts that would decide them, the most frequent first.
    pub fn unknown(&self) -> Vec<Unknown> {
        let unknown = |(fact, count): (&String, &u64)| Unknown { cause: "not-recorded", fact: fact.clone(), count: *count };
        let mut list: Vec<_> = self.unknown.iter().map(unknown).collect();
        list.sort_by_key(|unknown| std::cmp::Reverse(unknown.count));
        list
    }

    /// Returns the records that rules alone did not decide, by cause.
    pub fn not_judged(&self) -> Vec<Counted> {
        self.not_judged.iter().map(|(cause, count)| Counted { cause, count: *count }).collect()
    }
}
