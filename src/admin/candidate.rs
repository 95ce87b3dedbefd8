//! The candidate's section of `/api/status`.

use serde::Serialize;

use crate::gateway::candidate::{CandidateStatus, Difference, DifferenceKind};

/// The requests that a candidate would have decided otherwise. Gains stand before losses: a caller who would newly be admitted
/// concerns everybody.
#[derive(Debug, Serialize)]
pub(super) struct CandidateSection {
    /// The digest of the candidate; absent while there is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    digest: Option<String>,
    /// The time since when it judges.
    #[serde(skip_serializing_if = "Option::is_none")]
    since: Option<String>,
    /// The share of requests that it judges.
    sample: String,
    /// The reason why the last one cannot be used.
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
    /// The number of requests that it has judged.
    judged: u64,
    /// Those of them whose verdicts cannot be compared.
    not_compared: u64,
    /// Those that both configs admit, by other routes.
    rerouted: u64,
    gains: Vec<DifferenceSection>,
    losses: Vec<DifferenceSection>,
    other_codes: Vec<DifferenceSection>,
    /// The number of differing requests for which there was no room above.
    unlisted: u64,
}

/// Requests of one route with the same two verdicts.
#[derive(Debug, Serialize)]
struct DifferenceSection {
    route: String,
    before: String,
    after: String,
    count: u64,
    last_at: String,
    request_ids: Vec<String>,
}

impl From<CandidateStatus> for CandidateSection {
    fn from(status: CandidateStatus) -> Self {
        let current = status.current.as_deref();
        let of = |kind| {
            let differences = current.map(|candidate| candidate.differences(kind)).unwrap_or_default();
            differences.into_iter().map(DifferenceSection::from).collect()
        };
        Self {
            digest: current.map(|candidate| candidate.digest.to_string()),
            since: current.map(|candidate| in_utc(candidate.since)),
            sample: status.sample.to_string(),
            error: status.fault.map(String::from),
            judged: current.map_or(0, |candidate| candidate.judged()),
            not_compared: current.map_or(0, |candidate| candidate.not_compared()),
            rerouted: current.map_or(0, |candidate| candidate.rerouted()),
            gains: of(DifferenceKind::Gain),
            losses: of(DifferenceKind::Loss),
            other_codes: of(DifferenceKind::OtherCode),
            unlisted: current.map_or(0, |candidate| candidate.unlisted()),
        }
    }
}

impl From<Difference> for DifferenceSection {
    fn from(difference: Difference) -> Self {
        Self {
            route: difference.route.to_string(),
            before: difference.before.into(),
            after: difference.after.into(),
            count: difference.count,
            last_at: in_utc(difference.last_at),
            request_ids: difference.request_ids.iter().map(|id| id.as_str().to_owned()).collect(),
        }
    }
}

fn in_utc(seconds: u64) -> String {
    let at = i64::try_from(seconds).ok().and_then(|seconds| jiff::Timestamp::from_second(seconds).ok());
    at.map(|at| at.to_string()).unwrap_or_default()
}
