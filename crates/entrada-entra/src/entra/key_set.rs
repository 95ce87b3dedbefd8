//! The life of a key set: fetched before it is needed, refreshed in the background, kept through outages.
//!
//! A set holds the keys that one authority publishes for one tenant, or for one of its applications: the documents of versions 2
//! and 1 with their keys. Requests read it without a lock. Fetches run on a runtime of their own, so that a request that gives up
//! does not cancel the fetch of others, and one fetch serves all waiters.

mod fetch;
mod status;
#[cfg(test)]
mod tests;

use std::{
    sync::{
        Arc, Mutex, MutexGuard, Weak,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use arc_swap::ArcSwapOption;
use tokio::{runtime::Handle, sync::watch};
use url::Url;

pub use self::status::KeySetStatus;
use self::{
    fetch::FetchScope,
    status::{Attempt, KeySetCounts},
};
use super::{
    algorithm::Algorithm,
    issuer::Issuer,
    keys::Keys,
    metadata::{Bounds, Metadata},
    token::Version,
};
use crate::{
    base::{clock::Clock, lock::lock},
    identity_http::IdentityHttp,
};

/// The refresh interval of a healthy set, varied by up to a tenth.
const REFRESH: Duration = Duration::from_secs(3_600);
/// The retry interval after a failed fetch while older keys are still valid.
const REPAIR: Duration = Duration::from_secs(60);
/// The longest retry interval while there are no keys at all.
const FIRST_KEYS: Duration = Duration::from_secs(10);
/// The minimum interval between fetches caused by unknown key ids, whatever the first one returned.
pub(crate) const COOL_DOWN: Duration = Duration::from_secs(30);

/// The source of a key set, and the limits of its trust.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    /// The documents, in the order in which keys are looked up: version 2, then version 1.
    pub(crate) endpoints: Vec<Endpoint>,
    /// The algorithms that keys may be used with.
    pub(crate) algorithms: &'static [Algorithm],
    /// The tenant's GUID, if the config contains it.
    pub tenant: Option<Box<str>>,
    /// True if the set signs tokens of several tenants.
    pub(crate) many_tenants: bool,
    /// True for a user flow of Azure AD B2C.
    pub(crate) user_flow: bool,
    /// The application, if these are an application's own keys.
    pub application: Option<Box<str>>,
    /// The time for which the last good documents stay valid while new ones are unavailable.
    pub(crate) stale: Duration,
    /// True if a failed fetch is not worth a warning.
    pub(crate) quiet: bool,
}

/// The address of one discovery document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Endpoint {
    pub(crate) version: Version,
    pub(crate) metadata: Url,
    pub(crate) bounds: Bounds,
    /// The expected issuer of the document, as far as it is known in advance.
    pub(crate) assumed_issuer: Issuer,
}

/// A discovery document and the keys that it names.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Document {
    pub(crate) metadata: Metadata,
    pub(crate) keys: Keys,
}

/// A key set.
#[derive(Debug)]
pub struct KeySet {
    /// The unique number of the set within the process.
    id: u64,
    source: Source,
    slots: Vec<Slot>,
    /// The number of changes of the slots.
    generation: AtomicU64,
    state: Mutex<FetchState>,
    /// True once a first fetch has ended, successfully or not.
    tried: watch::Sender<bool>,
}

/// The last good document of one endpoint.
#[derive(Debug, Default)]
struct Slot {
    document: ArcSwapOption<Document>,
    /// The end of its validity, in milliseconds of the monotonic clock.
    serves_until: AtomicU64,
}

/// The state that only fetches need.
#[derive(Debug, Default)]
struct FetchState {
    engine: Option<Engine>,
    /// True if the config contains the keys.
    given: bool,
    /// The fetch in progress: becomes true, or closes, when it has ended.
    running: Option<watch::Receiver<bool>>,
    /// The monotonic time before which unknown key ids cause no fetch.
    cool_until: Duration,
    attempts: Vec<Option<Attempt>>,
    failures: u32,
    counts: KeySetCounts,
}

/// The tools of fetches.
#[derive(Clone, Debug)]
struct Engine {
    http: IdentityHttp,
    clock: Clock,
    handle: Handle,
}

/// The valid documents of a set at one moment: for each endpoint its document, unless there is none or it is too old.
pub(crate) struct Snapshot {
    pub(crate) documents: Vec<Option<Arc<Document>>>,
}

/// A fetch in progress.
pub(crate) struct Waiting {
    done: watch::Receiver<bool>,
    /// True if the fetch was already in progress: its result may be older than the question.
    pub(crate) joined: bool,
}

impl Waiting {
    /// Waits until the fetch has ended, successfully or not.
    pub(crate) async fn over(mut self) {
        // A closed channel is an end as well: the fetch died, or its runtime went away.
        let _ = self.done.wait_for(|done| *done).await;
    }
}

impl KeySet {
    pub(crate) fn new(source: Source) -> Arc<Self> {
        let slots = source.endpoints.iter().map(|_| Slot::default()).collect::<Vec<_>>();
        let state = FetchState { attempts: slots.iter().map(|_| None).collect(), ..FetchState::default() };
        static SETS: AtomicU64 = AtomicU64::new(1);
        Arc::new(Self {
            id: SETS.fetch_add(1, Ordering::Relaxed),
            source,
            slots,
            generation: AtomicU64::new(0),
            state: Mutex::new(state),
            tried: watch::Sender::new(false),
        })
    }

    /// Makes a set from given keys, which are never fetched.
    pub(crate) fn given(source: Source, document: Document) -> Arc<Self> {
        let set = Self::new(source);
        set.put(0, document, Duration::ZERO);
        set.tried.send_replace(true);
        set.state().given = true;
        set
    }

    /// Returns the unique number of the set within the process.
    pub(crate) const fn id(&self) -> u64 {
        self.id
    }

    /// Returns where the keys come from.
    pub const fn source(&self) -> &Source {
        &self.source
    }

    /// Returns whether the config holds the keys.
    pub(crate) fn is_given(&self) -> bool {
        self.state().given
    }

    /// Returns a digest of the keys that the config holds.
    pub(super) fn given_keys(&self) -> String {
        let document = self.slots.first().and_then(|slot| slot.document.load_full());
        document.map(|document| document.keys.digest()).unwrap_or_default()
    }

    /// Returns whether both have the same source, or hold the same given keys.
    pub(crate) fn is_as(&self, other: &Self) -> bool {
        let given = |set: &Self| set.state().given.then(|| set.slots.first().and_then(|slot| slot.document.load_full()));
        self.source == other.source && given(self) == given(other)
    }

    /// Returns the number of changes; tokens verified under another number have to be verified again.
    pub(crate) fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    /// Returns whether the documents at these endpoints (one bit each) are still valid.
    pub(crate) fn serves(&self, endpoints: u8, now: Duration) -> bool {
        let now = milliseconds(now);
        let fresh = |slot: &Slot| now < slot.serves_until.load(Ordering::Relaxed);
        self.slots.iter().enumerate().all(|(index, slot)| endpoints & (1 << index) == 0 || fresh(slot))
    }

    /// Returns the documents that are valid now.
    pub(crate) fn snapshot(&self, now: Duration) -> Snapshot {
        let now = milliseconds(now);
        let documents = self.slots.iter().map(|slot| {
            let fresh = now < slot.serves_until.load(Ordering::Relaxed);
            if fresh { slot.document.load_full() } else { None }
        });
        Snapshot { documents: documents.collect() }
    }

    /// Starts to fetch, and keeps the set fresh from then on; a set that is already running uses the new client.
    pub(crate) fn start(self: &Arc<Self>, http: &IdentityHttp, clock: &Clock, handle: &Handle) {
        let engine = Engine { http: http.clone(), clock: clock.clone(), handle: handle.clone() };
        let mut state = self.state();
        if state.given {
            return;
        }
        let lives = state.engine.replace(engine).is_some();
        drop(state);
        if !lives {
            handle.spawn(keep_fresh(Arc::downgrade(self)));
        }
    }

    /// Requests newer keys because a token names an unknown one: joins the fetch in progress, or starts one unless the last such
    /// fetch is too recent. The limit is per set, not per key id, and depends on time alone: no answer lifts it.
    pub(crate) fn renew(self: &Arc<Self>, now: Duration) -> Option<Waiting> {
        let mut state = self.state();
        // Without any keys no key is unknown; the background fetches then come quickly enough by themselves.
        let nothing = self.slots.iter().all(|slot| slot.document.load_full().is_none());
        state.counts.unknown_keys += u64::from(!nothing);
        if let Some(waiting) = state.join() {
            return Some(waiting);
        }
        if nothing || now < state.cool_until {
            return None;
        }
        state.engine.as_ref()?;
        state.cool_until = now + COOL_DOWN;
        Some(self.begin(&mut state, FetchScope::Keys))
    }

    /// Fetches everything now, or joins the fetch in progress.
    pub(crate) fn refresh(self: &Arc<Self>) -> Option<Waiting> {
        let mut state = self.state();
        if let Some(waiting) = state.join() {
            return Some(waiting);
        }
        state.engine.as_ref()?;
        Some(self.begin(&mut state, FetchScope::Everything))
    }

    /// Waits until a first fetch has ended, successfully or not.
    pub(crate) async fn tried(&self) {
        let _ = self.tried.subscribe().wait_for(|tried| *tried).await;
    }

    /// Returns whether a first fetch has ended, successfully or not.
    pub(crate) fn was_tried(&self) -> bool {
        *self.tried.borrow()
    }

    /// Returns whether the endpoint has no document because its authority has none, rather than because it was unreachable.
    pub(crate) fn is_absent(&self, endpoint: usize) -> bool {
        matches!(self.state().attempts.get(endpoint), Some(Some(Attempt { fault: Some(fault), .. })) if fault.is_absence())
    }

    /// Returns whether any document, however old, lists a key of this id.
    pub fn lists(&self, key_id: &str) -> bool {
        self.slots.iter().filter_map(|slot| slot.document.load_full()).any(|document| !document.keys.of(key_id).is_empty())
    }

    /// Stores a document as if it had just been fetched.
    pub(crate) fn put(&self, endpoint: usize, document: Document, now: Duration) {
        let Some(slot) = self.slots.get(endpoint) else { return };
        if slot.document.load_full().is_none_or(|old| *old != document) {
            slot.document.store(Some(Arc::new(document)));
            // After the document: whoever reads the new count must not find the old keys.
            self.generation.fetch_add(1, Ordering::Release);
        }
        slot.serves_until.store(milliseconds(now + self.source.stale), Ordering::Relaxed);
    }

    /// Spawns a fetch. The caller has made sure that none is in progress and that there is an engine.
    fn begin(self: &Arc<Self>, state: &mut FetchState, extent: FetchScope) -> Waiting {
        let (finished, done) = watch::channel(false);
        state.running = Some(done.clone());
        if let Some(engine) = state.engine.clone() {
            let set = self.clone();
            let handle = engine.handle.clone();
            handle.spawn(async move {
                let attempts = Box::pin(set.fetch(&engine, extent)).await;
                set.conclude(attempts, extent);
                set.tried.send_replace(true);
                finished.send_replace(true);
            });
        }
        Waiting { done, joined: false }
    }

    /// Records the result of the fetch.
    fn conclude(&self, attempts: Vec<Option<Attempt>>, extent: FetchScope) {
        let mut state = self.state();
        state.running = None;
        let failed = attempts.iter().flatten().any(|attempt| attempt.fault.as_ref().is_some_and(|fault| !fault.is_absence()));
        state.counts.fetches += 1;
        state.counts.failures += u64::from(failed);
        for (noted, attempt) in state.attempts.iter_mut().zip(attempts) {
            if attempt.is_some() {
                *noted = attempt;
            }
        }
        if extent == FetchScope::Everything {
            let failed =
                state.attempts.iter().flatten().any(|attempt| attempt.fault.as_ref().is_some_and(|fault| !fault.is_absence()));
            let nothing = self.slots.iter().all(|slot| slot.document.load_full().is_none());
            state.failures = if failed || nothing { state.failures.saturating_add(1) } else { 0 };
        }
    }

    /// Returns the time until the next fetch.
    fn pause(&self) -> Duration {
        let failures = self.state().failures;
        let nothing = self.slots.iter().all(|slot| slot.document.load_full().is_none());
        let pause = match failures {
            0 => return jittered(REFRESH, 10),
            _ if !nothing => REPAIR,
            _ => FIRST_KEYS.min(Duration::from_millis(500) * 2_u32.saturating_pow(failures.min(10))),
        };
        jittered(pause, 4)
    }

    fn state(&self) -> MutexGuard<'_, FetchState> {
        lock(&self.state)
    }
}

impl FetchState {
    fn join(&self) -> Option<Waiting> {
        let done = self.running.as_ref().filter(|done| done.has_changed().is_ok())?;
        Some(Waiting { done: done.clone(), joined: true })
    }
}

/// Fetches periodically, as long as the set is in use.
async fn keep_fresh(set: Weak<KeySet>) {
    loop {
        let pause = {
            let Some(set) = set.upgrade() else { return };
            if let Some(waiting) = set.refresh() {
                waiting.over().await;
            }
            set.pause()
        };
        tokio::time::sleep(pause).await;
    }
}

/// Varies `span` by up to a `part`th, so that a fleet does not ask all at once.
fn jittered(span: Duration, part: u32) -> Duration {
    let mut random = [0; 2];
    // Without randomness the span stays as it is, which does no harm.
    let share = match aws_lc_rs::rand::fill(&mut random) {
        Ok(()) => f64::from(u16::from_be_bytes(random)) / f64::from(u16::MAX),
        Err(_) => 0.5,
    };
    let swing = span / part;
    span - swing + (swing * 2).mul_f64(share)
}

fn milliseconds(reading: Duration) -> u64 {
    u64::try_from(reading.as_millis()).unwrap_or(u64::MAX)
}
