//! The life of a key set: fetched before it is needed, refreshed in the background, kept through outages.
//!
//! A set is what one authority publishes for one tenant, or for one application of it: the documents of versions 2 and 1 with
//! their keys. Requests read it without a lock. Fetches run on a runtime of their own, so that no request that gives up takes the
//! others' fetch with it, and one fetch serves all who wait.

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
use self::{fetch::Extent, status::Attempt};
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

/// How often a healthy set is fetched anew, give or take a tenth.
const REFRESH: Duration = Duration::from_secs(3_600);
/// How soon a fetch is repeated that failed while older keys still serve.
const REPAIR: Duration = Duration::from_secs(60);
/// How slowly fetches are repeated at last while there are no keys at all.
const FIRST_KEYS: Duration = Duration::from_secs(10);
/// Unknown key ids cause no second fetch within this time, whatever the first one brought.
pub(crate) const COOL_DOWN: Duration = Duration::from_secs(30);

/// What is fetched, from where, and what of it is believed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Source {
    /// The documents, in the order in which keys are looked up: version 2, then version 1.
    pub(crate) endpoints: Vec<Endpoint>,
    /// The algorithms that keys may be used with.
    pub(crate) algorithms: &'static [Algorithm],
    /// The tenant's GUID, where the config says it.
    pub(crate) tenant: Option<Box<str>>,
    /// Whether tokens of several tenants are signed by this set.
    pub(crate) many_tenants: bool,
    /// Whether this is a user flow of Azure AD B2C.
    pub(crate) user_flow: bool,
    /// The application whose own keys these are.
    pub(crate) application: Option<Box<str>>,
    /// How long the last good documents serve while new ones cannot be had.
    pub(crate) stale: Duration,
    /// Whether a fetch that fails is nothing to warn of.
    pub(crate) quiet: bool,
}

/// Where one discovery document is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Endpoint {
    pub(crate) version: Version,
    pub(crate) metadata: Url,
    pub(crate) bounds: Bounds,
    /// The issuer that the document will name, as far as it is known without asking.
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
    /// No other set of the process has this number.
    id: u64,
    source: Source,
    slots: Vec<Slot>,
    /// Counts the changes of what the slots hold.
    generation: AtomicU64,
    machine: Mutex<Machine>,
    /// Whether a first fetch has ended, well or not.
    tried: watch::Sender<bool>,
}

/// The last good document of one endpoint.
#[derive(Debug, Default)]
struct Slot {
    document: ArcSwapOption<Document>,
    /// Until when it serves, in milliseconds of the clock's monotonic reading.
    serves_until: AtomicU64,
}

/// What only fetches need.
#[derive(Debug, Default)]
struct Machine {
    engine: Option<Engine>,
    /// Whether the keys stand in the config.
    given: bool,
    /// The fetch under way: turns true, or closes, when it has ended.
    running: Option<watch::Receiver<bool>>,
    /// The monotonic reading before which unknown key ids cause no fetch.
    cool_until: Duration,
    attempts: Vec<Option<Attempt>>,
    failures: u32,
}

/// What fetches run with.
#[derive(Clone, Debug)]
struct Engine {
    http: IdentityHttp,
    clock: Clock,
    handle: Handle,
}

/// What of a set serves at a moment: for each endpoint its document, unless there is none or it is too old.
pub(crate) struct Snapshot {
    pub(crate) documents: Vec<Option<Arc<Document>>>,
}

/// A fetch to wait for.
pub(crate) struct Waiting {
    done: watch::Receiver<bool>,
    /// Whether the fetch was under way already: what it brings may be older than the question.
    pub(crate) joined: bool,
}

impl Waiting {
    /// Waits until the fetch has ended, well or not.
    pub(crate) async fn over(mut self) {
        // A closed channel is an end as well: the fetch died, or its runtime went away.
        let _ = self.done.wait_for(|done| *done).await;
    }
}

impl KeySet {
    pub(crate) fn new(source: Source) -> Arc<Self> {
        let slots = source.endpoints.iter().map(|_| Slot::default()).collect::<Vec<_>>();
        let machine = Machine { attempts: slots.iter().map(|_| None).collect(), ..Machine::default() };
        static SETS: AtomicU64 = AtomicU64::new(1);
        Arc::new(Self {
            id: SETS.fetch_add(1, Ordering::Relaxed),
            source,
            slots,
            generation: AtomicU64::new(0),
            machine: Mutex::new(machine),
            tried: watch::Sender::new(false),
        })
    }

    /// A set whose keys are given: nothing is ever fetched.
    pub(crate) fn given(source: Source, document: Document) -> Arc<Self> {
        let set = Self::new(source);
        set.put(0, document, Duration::ZERO);
        set.tried.send_replace(true);
        set.machine().given = true;
        set
    }

    /// The number of the set, which no other one of the process has.
    pub(crate) const fn id(&self) -> u64 {
        self.id
    }

    pub(crate) const fn source(&self) -> &Source {
        &self.source
    }

    /// Whether both come from the same place, or hold the same given keys.
    pub(crate) fn is_as(&self, other: &Self) -> bool {
        let given = |set: &Self| set.machine().given.then(|| set.slots.first().and_then(|slot| slot.document.load_full()));
        self.source == other.source && given(self) == given(other)
    }

    /// The count of changes; what was verified under another count has to be verified again.
    pub(crate) fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    /// Whether the documents at these endpoints (a bit each) still serve.
    pub(crate) fn serves(&self, endpoints: u8, now: Duration) -> bool {
        let now = milliseconds(now);
        let fresh = |slot: &Slot| now < slot.serves_until.load(Ordering::Relaxed);
        self.slots.iter().enumerate().all(|(index, slot)| endpoints & (1 << index) == 0 || fresh(slot))
    }

    /// What serves now.
    pub(crate) fn snapshot(&self, now: Duration) -> Snapshot {
        let now = milliseconds(now);
        let documents = self.slots.iter().map(|slot| {
            let fresh = now < slot.serves_until.load(Ordering::Relaxed);
            if fresh { slot.document.load_full() } else { None }
        });
        Snapshot { documents: documents.collect() }
    }

    /// Begins to fetch and keeps the set fresh from then on; a set that lives already goes on with the new client.
    pub(crate) fn start(self: &Arc<Self>, http: &IdentityHttp, clock: &Clock, handle: &Handle) {
        let engine = Engine { http: http.clone(), clock: clock.clone(), handle: handle.clone() };
        let mut machine = self.machine();
        if machine.given {
            return;
        }
        let lives = machine.engine.replace(engine).is_some();
        drop(machine);
        if !lives {
            handle.spawn(keep_fresh(Arc::downgrade(self)));
        }
    }

    /// Asks for newer keys because a token names one that is not there: joins the fetch under way, or starts one unless the last
    /// such fetch is too recent. The limit is the set's, never the key id's, and knows time alone: no answer lifts it.
    pub(crate) fn renew(self: &Arc<Self>, now: Duration) -> Option<Waiting> {
        let mut machine = self.machine();
        if let Some(waiting) = machine.join() {
            return Some(waiting);
        }
        // Without any keys no key is unknown; the background fetches then come quickly enough by themselves.
        let nothing = self.slots.iter().all(|slot| slot.document.load_full().is_none());
        if nothing || now < machine.cool_until {
            return None;
        }
        machine.engine.as_ref()?;
        machine.cool_until = now + COOL_DOWN;
        Some(self.begin(&mut machine, Extent::Keys))
    }

    /// Fetches everything now, or joins the fetch under way.
    pub(crate) fn refresh(self: &Arc<Self>) -> Option<Waiting> {
        let mut machine = self.machine();
        if let Some(waiting) = machine.join() {
            return Some(waiting);
        }
        machine.engine.as_ref()?;
        Some(self.begin(&mut machine, Extent::Everything))
    }

    /// Waits until a first fetch has ended, well or not.
    pub(crate) async fn tried(&self) {
        let _ = self.tried.subscribe().wait_for(|tried| *tried).await;
    }

    /// Whether a first fetch has ended, well or not.
    pub(crate) fn was_tried(&self) -> bool {
        *self.tried.borrow()
    }

    /// Whether the endpoint has no document because its authority has none, rather than because it could not be asked.
    pub(crate) fn is_absent(&self, endpoint: usize) -> bool {
        matches!(self.machine().attempts.get(endpoint), Some(Some(Attempt { fault: Some(fault), .. })) if fault.is_absence())
    }

    /// Whether any document lists a key of this id, however old.
    pub(crate) fn lists(&self, key_id: &str) -> bool {
        self.slots.iter().filter_map(|slot| slot.document.load_full()).any(|document| !document.keys.of(key_id).is_empty())
    }

    /// Takes a document as if it had just been fetched.
    pub(crate) fn put(&self, endpoint: usize, document: Document, now: Duration) {
        let Some(slot) = self.slots.get(endpoint) else { return };
        if slot.document.load_full().is_none_or(|old| *old != document) {
            slot.document.store(Some(Arc::new(document)));
            // After the document: whoever reads the new count must not find the old keys.
            self.generation.fetch_add(1, Ordering::Release);
        }
        slot.serves_until.store(milliseconds(now + self.source.stale), Ordering::Relaxed);
    }

    /// Spawns a fetch. The caller has made sure that none is under way and that there is an engine.
    fn begin(self: &Arc<Self>, machine: &mut Machine, extent: Extent) -> Waiting {
        let (finished, done) = watch::channel(false);
        machine.running = Some(done.clone());
        if let Some(engine) = machine.engine.clone() {
            let set = self.clone();
            let handle = engine.handle.clone();
            handle.spawn(async move {
                let attempts = set.fetch(&engine, extent).await;
                set.conclude(attempts, extent);
                set.tried.send_replace(true);
                finished.send_replace(true);
            });
        }
        Waiting { done, joined: false }
    }

    /// Notes how the fetch went.
    fn conclude(&self, attempts: Vec<Option<Attempt>>, extent: Extent) {
        let mut machine = self.machine();
        machine.running = None;
        for (noted, attempt) in machine.attempts.iter_mut().zip(attempts) {
            if attempt.is_some() {
                *noted = attempt;
            }
        }
        if extent == Extent::Everything {
            let failed =
                machine.attempts.iter().flatten().any(|attempt| attempt.fault.as_ref().is_some_and(|fault| !fault.is_absence()));
            let nothing = self.slots.iter().all(|slot| slot.document.load_full().is_none());
            machine.failures = if failed || nothing { machine.failures.saturating_add(1) } else { 0 };
        }
    }

    /// How long until the next fetch.
    fn pause(&self) -> Duration {
        let failures = self.machine().failures;
        let nothing = self.slots.iter().all(|slot| slot.document.load_full().is_none());
        let pause = match failures {
            0 => return jittered(REFRESH, 10),
            _ if !nothing => REPAIR,
            _ => FIRST_KEYS.min(Duration::from_millis(500) * 2_u32.saturating_pow(failures.min(10))),
        };
        jittered(pause, 4)
    }

    fn machine(&self) -> MutexGuard<'_, Machine> {
        lock(&self.machine)
    }
}

impl Machine {
    fn join(&self) -> Option<Waiting> {
        let done = self.running.as_ref().filter(|done| done.has_changed().is_ok())?;
        Some(Waiting { done: done.clone(), joined: true })
    }
}

/// Fetches again and again, as long as anybody holds the set.
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

/// `span`, longer or shorter by up to a `part`th of itself, so that a fleet does not ask all at once.
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
