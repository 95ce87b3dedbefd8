//! Cached answers: bounded in number, and fetched once for all waiters.

use std::{
    hash::Hash,
    sync::{Arc, Mutex},
    time::Duration,
};

use arc_swap::ArcSwapOption;
use tokio::{runtime::Handle, sync::watch};

use super::{fault::GraphFault, lock};
use crate::base::{Generations, clock::Clock};

type Outcome<V> = Result<Arc<V>, Arc<GraphFault>>;

/// Answers by question; those that were not used lately are dropped.
pub(super) struct Answers<K, V>(Generations<K, Entry<V>>);

struct Entry<V> {
    kept: ArcSwapOption<Kept<V>>,
    /// The call in progress: holds its outcome when it has ended, and closes if it died.
    asking: Mutex<Option<watch::Receiver<Option<Outcome<V>>>>>,
}

struct Kept<V> {
    answer: Arc<V>,
    /// The time of the question, on the monotonic clock; each policy decides how long it is valid.
    asked_at: Duration,
}

impl<K: Hash + Eq + Clone, V: Send + Sync + 'static> Answers<K, V> {
    pub(super) fn new(most: usize) -> Self {
        Self(Generations::new(most))
    }

    /// Returns the cached answer, if there is one. Nothing is kept of the question.
    pub(super) fn known(&self, key: &K, clock: &Clock, lasts: Duration) -> Option<Arc<V>> {
        self.0.find(key)?.kept(clock, lasts)
    }

    /// Returns the cached answer, or that of a call: a new one, or the one in progress. Failures are not cached.
    pub(super) async fn get<F>(
        &self,
        key: &K,
        clock: &Clock,
        handle: &Handle,
        lasts: Duration,
        ask: impl FnOnce() -> F + Send,
    ) -> Outcome<V>
    where
        F: Future<Output = Result<V, GraphFault>> + Send + 'static,
    {
        let entry = self.0.get(key, || Arc::new(Entry { kept: ArcSwapOption::empty(), asking: Mutex::new(None) }));
        if let Some(answer) = entry.kept(clock, lasts) {
            return Ok(answer);
        }
        let mut outcome = entry.join(clock, handle, lasts, ask);
        match outcome.wait_for(Option::is_some).await {
            Ok(outcome) => outcome.clone().unwrap_or_else(|| Err(Arc::new(GraphFault::Interrupted))),
            Err(_) => Err(Arc::new(GraphFault::Interrupted)),
        }
    }
}

impl<V: Send + Sync + 'static> Entry<V> {
    fn kept(&self, clock: &Clock, lasts: Duration) -> Option<Arc<V>> {
        let kept = self.kept.load_full().filter(|kept| clock.monotonic() < kept.asked_at + lasts)?;
        Some(kept.answer.clone())
    }

    /// Joins the call in progress, or makes one on a runtime of its own, so that a caller that gives up does not cancel it.
    fn join<F>(
        self: &Arc<Self>,
        clock: &Clock,
        handle: &Handle,
        lasts: Duration,
        ask: impl FnOnce() -> F,
    ) -> watch::Receiver<Option<Outcome<V>>>
    where
        F: Future<Output = Result<V, GraphFault>> + Send + 'static,
    {
        let mut asking = lock(&self.asking);
        if let Some(outcome) = asking.as_ref().filter(|outcome| outcome.has_changed().is_ok()) {
            return outcome.clone();
        }
        let (done, outcome) = watch::channel(None);
        // A call may have ended between the look at what is kept and the lock.
        if let Some(answer) = self.kept(clock, lasts) {
            done.send_replace(Some(Ok(answer)));
            return outcome;
        }
        *asking = Some(outcome.clone());
        let (entry, clock, call) = (self.clone(), clock.clone(), ask());
        handle.spawn(async move {
            // What was true when the question was sent is as old as that.
            let asked_at = clock.monotonic();
            let result = call.await.map(Arc::new).map_err(Arc::new);
            if let Ok(answer) = &result {
                entry.kept.store(Some(Arc::new(Kept { answer: answer.clone(), asked_at })));
            }
            *lock(&entry.asking) = None;
            done.send_replace(Some(result));
        });
        outcome
    }
}
