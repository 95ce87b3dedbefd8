//! The verdict of a candidate.

use std::sync::Arc;

/// The verdict of the candidate on one request.
#[derive(Debug)]
pub struct CandidateVerdict {
    /// The digest of the candidate.
    pub digest: Arc<str>,
    /// `allow`, `deny`, `error`, or `unknown` where it depends on a fact that is not at hand.
    pub verdict: &'static str,
    /// The code of a refusal.
    pub code: Option<Arc<str>>,
    /// The name of the candidate's route.
    pub route: Option<Arc<str>>,
    /// The facts that were left out.
    pub judged_without: Vec<String>,
}
