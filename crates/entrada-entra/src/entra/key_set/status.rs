//! The status of a key set, for operators.

use std::{error::Error, fmt::Write, sync::Arc, time::Duration};

use super::{KeySet, fetch::FetchFault};

/// The result of the last fetch from one endpoint.
#[derive(Clone, Debug)]
pub(super) struct Attempt {
    /// The monotonic time of its end.
    pub(super) at: Duration,
    /// The fault, if it failed.
    pub(super) fault: Option<Arc<FetchFault>>,
}

/// The counts of a key set.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct KeySetCounts {
    /// The number of fetches, of all documents together.
    pub fetches: u64,
    /// The number of fetches of which some document failed.
    pub failures: u64,
    /// The number of tokens that named a key which the set did not have.
    pub unknown_keys: u64,
}

/// The status of one discovery document and its keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeySetStatus {
    /// The address of the metadata.
    pub url: String,
    /// The application, if these are an application's own keys.
    pub application: Option<String>,
    /// True once a first fetch has ended, successfully or not.
    pub tried: bool,
    /// The number of usable keys.
    pub keys: usize,
    /// The age of the document; `None` if there is none.
    pub age: Option<Duration>,
    /// True if there is a document that is not too old.
    pub serves: bool,
    /// The time since the last request for it.
    pub asked: Option<Duration>,
    /// The last error, causes included.
    pub error: Option<String>,
    /// The counts of the set that the document belongs to, with its first document.
    pub counts: Option<KeySetCounts>,
}

impl KeySet {
    /// Returns the status of the set, one entry for each of its documents.
    pub(crate) fn status(&self, now: Duration) -> Vec<KeySetStatus> {
        let (attempts, counts) = {
            let state = self.state();
            (state.attempts.clone(), state.counts)
        };
        let documents = self.snapshot(now).documents;
        let entry = |(index, attempt): (usize, Option<Attempt>)| {
            let document = self.slots[index].document.load_full();
            let serves_until = self.slots[index].serves_until.load(std::sync::atomic::Ordering::Relaxed);
            let fetched = Duration::from_millis(serves_until).saturating_sub(self.source.stale);
            KeySetStatus {
                url: self.source.endpoints[index].metadata.to_string(),
                application: self.source.application.as_deref().map(Into::into),
                tried: self.was_tried(),
                keys: document.as_ref().map_or(0, |document| document.keys.len()),
                age: document.is_some().then(|| now.saturating_sub(fetched)),
                serves: documents[index].is_some(),
                asked: attempt.as_ref().map(|attempt| now.saturating_sub(attempt.at)),
                error: attempt.and_then(|attempt| attempt.fault).map(|fault| chain(&*fault)),
                counts: (index == 0).then_some(counts),
            }
        };
        attempts.into_iter().enumerate().map(entry).collect()
    }
}

fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        // Writing to a text cannot fail.
        let _ = write!(text, ": {error}");
        cause = error.source();
    }
    text
}
