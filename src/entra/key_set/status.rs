//! What operators see of a key set.

use std::{error::Error, fmt::Write, sync::Arc, time::Duration};

use super::{KeySet, fetch::FetchFault};

/// How the last fetch of one endpoint went.
#[derive(Clone, Debug)]
pub(super) struct Attempt {
    /// The clock's monotonic reading at its end.
    pub(super) at: Duration,
    /// What went wrong.
    pub(super) fault: Option<Arc<FetchFault>>,
}

/// How one discovery document and its keys fare.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeySetStatus {
    /// Where the metadata is.
    pub url: String,
    /// The application whose own keys these are.
    pub application: Option<String>,
    /// Whether a first fetch has ended, well or not.
    pub tried: bool,
    /// How many usable keys there are.
    pub keys: usize,
    /// How old the document is; `None` where there is none.
    pub age: Option<Duration>,
    /// Whether the document serves: there is one, and it is not too old.
    pub serves: bool,
    /// How long ago it was asked for last.
    pub asked: Option<Duration>,
    /// What went wrong last, causes included.
    pub error: Option<String>,
}

impl KeySet {
    /// How the set fares, an entry for each of its documents.
    pub(crate) fn status(&self, now: Duration) -> Vec<KeySetStatus> {
        let attempts = self.machine().attempts.clone();
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
