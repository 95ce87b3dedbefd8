//! A second config that judges the requests beside the active one, without any effect.
//!
//! A request is judged once more when its response was sent, by the same engine, and with the evidence that the active config had:
//! signatures that it has verified are not verified again. Nothing is fetched, acquired or counted for it. What the second config would
//! have decided stands in the record of the request, in a metric and on the status page.

mod differences;
mod judge;
mod verdict;

use std::{
    fmt,
    path::PathBuf,
    str::FromStr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use arc_swap::ArcSwapOption;
use tokio::runtime::Handle;

use self::differences::Differences;
pub use self::{
    differences::{Difference, DifferenceKind},
    verdict::CandidateVerdict,
};
use super::runtime::{Purpose, Runtime, RuntimeContext, Snapshot};
use crate::{
    base::{clock::Clock, lock::lock},
    config::{Document, Report},
    entra::VerifiedTokens,
    settings::Faults,
    telemetry::{Metrics, MetricsText},
};

/// The room for tokens that only the candidate's keys have verified.
const TOKEN_ROOM: u64 = 8 << 20;
/// The longest of these tokens.
const LONGEST_TOKEN: u64 = 8 << 10;
/// The step of the sampling sequence: the golden ratio of 2^64, so that no regularity of the requests meets one of the sample.
const STEP: u64 = 0x9E37_79B9_7F4A_7C15;

static NEXT_ID: AtomicU64 = AtomicU64::new(0);

/// The place of the candidate, which may be replaced or empty. Lives as long as the process.
#[derive(Debug)]
pub struct Candidates {
    current: ArcSwapOption<Candidate>,
    /// The reason why the last candidate cannot be used.
    fault: Mutex<Option<Box<str>>>,
    /// The share of requests that are judged, of 2^64; `None` for all of them.
    share: Option<u64>,
    sample: Sample,
    workers: Box<[Worker]>,
    totals: differences::Totals,
}

/// The part of one worker, on a cache line of its own.
#[derive(Debug, Default)]
#[repr(align(64))]
struct Worker {
    /// The position in the sampling sequence.
    position: AtomicU64,
    /// The number of requests that were judged.
    judged: AtomicU64,
}

/// The counts of one worker for one candidate, on a cache line of their own.
#[derive(Debug, Default)]
#[repr(align(64))]
struct Counts {
    judged: AtomicU64,
    /// The requests whose verdicts cannot be compared.
    not_compared: AtomicU64,
    /// The requests that both admit, by other routes.
    rerouted: AtomicU64,
}

/// A candidate: the second config, compiled, with what it would have decided otherwise.
#[derive(Debug)]
pub struct Candidate {
    /// The digest of the config.
    pub digest: Box<str>,
    /// The time since when it judges, in seconds since 1970.
    pub since: u64,
    /// Tells it from all other candidates of the process.
    id: u64,
    runtime: Arc<Runtime>,
    /// A reference for each worker.
    snapshots: Box<[Snapshot]>,
    /// The digest once more, for the records of each worker.
    digests: Box<[Arc<str>]>,
    counts: Box<[Counts]>,
    differences: Mutex<Differences>,
}

/// The state of the candidate, for the status page.
#[derive(Debug)]
pub struct CandidateStatus {
    /// The candidate; `None` while there is none.
    pub current: Option<Arc<Candidate>>,
    /// The reason why the last one cannot be used.
    pub fault: Option<Box<str>>,
    /// The share of requests that are judged.
    pub sample: Sample,
}

impl Candidates {
    /// Makes the place for a candidate that judges this share of the requests.
    pub fn new(sample: Sample, workers: usize) -> Arc<Self> {
        Arc::new(Self {
            current: ArcSwapOption::empty(),
            fault: Mutex::default(),
            share: sample.share(),
            sample,
            workers: (0..workers).map(|_| Worker::default()).collect(),
            totals: Default::default(),
        })
    }

    /// Compiles a config as the candidate beside the active one; from then on it judges. A faulty one is not taken, and there is none then:
    /// what is told of a config that is no longer written anywhere would only mislead.
    ///
    /// # Errors
    /// Returns the faults of the config.
    pub fn set(&self, document: &Document, active: &Runtime, background: &Handle) -> Result<(), Box<Report>> {
        let built = Candidate::build(document, active, self.workers.len());
        match built {
            Ok(candidate) => {
                candidate.runtime.start_beside(active, background);
                let known = self.current.load_full().filter(|known| known.digest == candidate.digest);
                let candidate = match known {
                    // The same config, compiled anew: what was found of it counts on.
                    Some(known) => candidate.after(&known),
                    None => candidate,
                };
                *lock(&self.fault) = None;
                self.current.store(Some(Arc::new(candidate)));
                Ok(())
            }
            Err(report) => {
                self.reject(report.lines().join("\n"));
                Err(report)
            }
        }
    }

    /// Notes that the candidate cannot be read, and drops the one before it.
    pub fn reject(&self, fault: String) {
        *lock(&self.fault) = Some(fault.into());
        self.current.store(None);
    }

    /// Returns whether the next request of this worker is judged.
    pub(super) fn takes(&self, worker: usize) -> bool {
        if let Some(share) = self.share {
            let position = self.workers[worker].position.fetch_add(STEP, Ordering::Relaxed);
            if position >= share {
                return false;
            }
        }
        !self.is_empty()
    }

    #[expect(clippy::disallowed_methods, reason = "the guard ends here; a counted pointer would be written to by every core")]
    fn is_empty(&self) -> bool {
        self.current.load().is_none()
    }

    /// Returns the candidate and its state.
    pub fn status(&self) -> CandidateStatus {
        CandidateStatus { current: self.current.load_full(), fault: lock(&self.fault).clone(), sample: self.sample }
    }

    /// Writes the metrics.
    pub fn write_metrics(&self, text: &mut MetricsText) {
        let current = self.current.load_full();
        self.totals.write(text);
        text.family("entrada_candidate_judged_total", "counter", "Requests that a candidate has judged as well.");
        text.sample(
            "entrada_candidate_judged_total",
            &[],
            self.workers.iter().map(|worker| worker.judged.load(Ordering::Relaxed)).sum::<u64>(),
        );
        text.family("entrada_candidate_active", "gauge", "Whether a candidate judges: 0 where it is faulty.");
        text.sample("entrada_candidate_active", &[], u8::from(current.is_some()));
    }
}

impl Candidate {
    fn build(document: &Document, active: &Runtime, workers: usize) -> Result<Self, Box<Report>> {
        // Its counters are nobody's.
        let (metrics, mut faults) = (Metrics::default(), Faults::default());
        let clock: &Clock = &active.clock;
        let context = RuntimeContext { document, purpose: Purpose::Beside, workers, clock, metrics: &metrics };
        let Some(runtime) = Runtime::build(context, Some(active), &mut faults) else {
            return Err(Box::new(document.report(&faults)));
        };
        runtime.tenants.keep_tokens(VerifiedTokens { memory: TOKEN_ROOM, largest: LONGEST_TOKEN }, workers);
        let runtime = Arc::new(runtime);
        Ok(Self {
            digest: runtime.digest.clone(),
            since: clock.unix_seconds(),
            id: NEXT_ID.fetch_add(1, Ordering::Relaxed),
            snapshots: (0..workers).map(|_| runtime.clone().into()).collect(),
            digests: (0..workers).map(|_| (&*runtime.digest).into()).collect(),
            counts: (0..workers).map(|_| Counts::default()).collect(),
            runtime,
            differences: Mutex::default(),
        })
    }

    /// Takes over what an earlier compilation of the same config has found.
    fn after(self, known: &Self) -> Self {
        if let Some(first) = self.counts.first() {
            first.judged.store(known.judged(), Ordering::Relaxed);
            first.not_compared.store(known.not_compared(), Ordering::Relaxed);
            first.rerouted.store(known.rerouted(), Ordering::Relaxed);
        }
        Self { since: known.since, differences: Mutex::new(lock(&known.differences).clone()), ..self }
    }

    /// Returns the files that the config names.
    pub fn files(&self) -> &[PathBuf] {
        &self.runtime.files
    }

    /// Returns the number of requests that it has judged.
    pub fn judged(&self) -> u64 {
        self.counts.iter().map(|counts| counts.judged.load(Ordering::Relaxed)).sum()
    }

    /// Returns the number of judged requests whose verdicts cannot be compared.
    pub fn not_compared(&self) -> u64 {
        self.counts.iter().map(|counts| counts.not_compared.load(Ordering::Relaxed)).sum()
    }

    /// Returns the number of requests that both configs admit, by other routes.
    pub fn rerouted(&self) -> u64 {
        self.counts.iter().map(|counts| counts.rerouted.load(Ordering::Relaxed)).sum()
    }

    /// Returns the differences of this kind, the most frequent first.
    pub fn differences(&self, kind: DifferenceKind) -> Vec<Difference> {
        lock(&self.differences).of(kind)
    }

    /// Returns the number of differing requests that were not listed, for want of room.
    pub fn unlisted(&self) -> u64 {
        lock(&self.differences).unlisted()
    }
}

/// A share of the requests: `10%`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sample(f64);

impl Default for Sample {
    fn default() -> Self {
        Self(100.0)
    }
}

/// An error: the text is no share of requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("write a percentage above 0 and at most 100, as 10%")]
pub struct NotASample;

impl FromStr for Sample {
    type Err = NotASample;

    fn from_str(text: &str) -> Result<Self, NotASample> {
        let percent: f64 = text.strip_suffix('%').and_then(|number| number.trim().parse().ok()).ok_or(NotASample)?;
        if percent > 0.0 && percent <= 100.0 { Ok(Self(percent)) } else { Err(NotASample) }
    }
}

impl fmt::Display for Sample {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}%", self.0)
    }
}

impl Sample {
    /// Returns the part of 2^64 that it is; `None` for all.
    fn share(self) -> Option<u64> {
        if self.0 >= 100.0 {
            return None;
        }
        let part = Duration::from_secs(1).mul_f64(self.0 / 100.0).as_nanos();
        u64::try_from(u128::from(u64::MAX) * part / 1_000_000_000).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sample_is_the_share_that_was_asked_for() {
        for (text, wanted) in [("0.1%", 100), ("1%", 1_000), ("10%", 10_000), ("50 %", 50_000), ("99.9%", 99_900)] {
            let share = text.parse::<Sample>().unwrap().share().unwrap();
            let taken = (0_u64..100_000).filter(|n| n.wrapping_mul(STEP) < share).count();
            assert!(taken.abs_diff(wanted) < 20, "{text}: {taken}");
        }
        assert_eq!("100%".parse::<Sample>().unwrap().share(), None);
        for wrong in ["", "10", "0%", "-1%", "101%", "NaN%", "x%"] {
            assert_eq!(wrong.parse::<Sample>(), Err(NotASample), "{wrong}");
        }
    }
}
