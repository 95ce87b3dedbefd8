//! Concurrent calls in the store: permits that end by themselves, and are renewed as long as their calls last.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, Weak,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use uuid::Uuid;

use super::{Name, OnStoreFailureConfig, Store, StoreUnavailable};
use crate::{
    base::lock::lock,
    redis::{Failure, breaker::BreakerState},
};

/// The interval of looking after permits.
const TEND: Duration = Duration::from_millis(500);
/// The part of its time after which a permit is renewed.
const RENEWALS: u32 = 3;
/// The time after which a permit is given back once more that the store may have given although it did not answer.
const AGAIN: Duration = Duration::from_secs(5);

/// The letter at the end of keys.
const LETTER: char = 'c';

/// The permits of this gateway.
#[derive(Debug)]
pub(super) struct Permits {
    /// An id that no other gateway has.
    gateway: Uuid,
    next: AtomicU64,
    held: Mutex<HashMap<u64, Held>>,
    owed: Mutex<Vec<Owed>>,
    /// The number of permits that are being given back.
    giving: AtomicUsize,
}

#[derive(Clone, Copy, Debug)]
struct Held {
    name: Name,
    /// The time of its last renewal.
    kept: Instant,
}

/// A permit that is still to be given back.
#[derive(Clone, Copy, Debug)]
struct Owed {
    name: Name,
    id: u64,
    due: Instant,
    /// The time when it has ended by itself.
    until: Instant,
}

impl Default for Permits {
    fn default() -> Self {
        Self {
            gateway: Uuid::new_v4(),
            next: AtomicU64::new(0),
            held: Mutex::default(),
            owed: Mutex::default(),
            giving: AtomicUsize::new(0),
        }
    }
}

impl Permits {
    /// Returns the number of permits that calls hold.
    pub(super) fn held(&self) -> usize {
        lock(&self.held).len()
    }

    /// Returns whether some are being given back.
    pub(super) fn are_giving(&self) -> bool {
        self.giving.load(Ordering::Relaxed) > 0
    }
}

/// A policy's permits in the store.
#[derive(Debug)]
pub(crate) struct SharedPermits {
    store: Arc<Store>,
    policy: Box<[u8]>,
    most: u32,
    on_failure: OnStoreFailureConfig,
}

/// A permit for one concurrent call, which is given back when this is dropped.
#[derive(Debug)]
pub(crate) struct SharedPermit {
    store: Arc<Store>,
    name: Name,
    id: u64,
    /// True if the store may have it, so that it is given back.
    may_be_there: bool,
}

impl SharedPermits {
    /// Makes the permits of a policy. `id` is the same on every gateway.
    pub(crate) fn new((store, on_failure): (Arc<Store>, OnStoreFailureConfig), id: &str, most: u32) -> Self {
        store.is_used.store(true, Ordering::Relaxed);
        Self { store, policy: format!("{id}\0{most}").into_bytes().into(), most, on_failure }
    }

    /// Returns whether calls are counted in the process while the store fails.
    pub(crate) fn falls_back(&self) -> bool {
        self.on_failure == OnStoreFailureConfig::Local
    }

    /// Notes a call that was counted in the process, since the store failed.
    pub(crate) fn fell_back(&self) {
        self.store.counts.counted_locally();
    }

    /// Begins a call; `None` if as many as are allowed are in progress.
    pub(crate) async fn begin(&self, caller: &str) -> Result<Option<SharedPermit>, StoreUnavailable> {
        let name = self.store.name(&self.policy, caller.as_bytes());
        let id = self.store.permits.next.fetch_add(1, Ordering::Relaxed);
        // If the request is given up while it waits, the permit is, too.
        let mut permit = SharedPermit { store: self.store.clone(), name, id, may_be_there: true };
        match self.store.permit("take", &name, id, Some(self.most)).await {
            Ok(true) => {
                lock(&self.store.permits.held).insert(id, Held { name, kept: Instant::now() });
                Ok(Some(permit))
            }
            Ok(false) => {
                permit.may_be_there = false;
                Ok(None)
            }
            Err(error) => {
                permit.may_be_there = matches!(&error, StoreUnavailable::Failed(Failure::Timeout | Failure::Lost(_)));
                if permit.may_be_there {
                    // It may be given even later than it is given back now.
                    self.store.owe(name, id, AGAIN);
                }
                Err(error)
            }
        }
    }
}

impl Drop for SharedPermit {
    fn drop(&mut self) {
        if self.may_be_there {
            lock(&self.store.permits.held).remove(&self.id);
            self.store.give(self.name, self.id);
        }
    }
}

impl Store {
    /// Takes, keeps or gives a permit. Returns whether there was one.
    async fn permit(&self, what: &str, name: &Name, id: u64, most: Option<u32>) -> Result<bool, StoreUnavailable> {
        let id = format!("{}-{id}", self.permits.gateway.simple());
        let lives = self.identity.config.permit_timeout.0.as_millis().to_string();
        let most = most.map(|most| most.to_string());
        let arguments = [Some(what), Some(&*id), Some(&*lives), most.as_deref()];
        let arguments: Vec<&[u8]> = arguments.into_iter().flatten().map(str::as_bytes).collect();
        let [admitted, _others] = self.run(&self.scripts.permit, (name, LETTER), &arguments).await?;
        Ok(admitted == 1)
    }

    /// Gives a permit back without waiting for it; again later if that fails.
    fn give(self: &Arc<Self>, name: Name, id: u64) {
        let Some(client) = self.client.get() else { return };
        self.permits.giving.fetch_add(1, Ordering::Relaxed);
        let store = self.clone();
        client.spawn(async move {
            if store.permit("give", &name, id, None).await.is_err() {
                store.owe(name, id, TEND);
            }
            store.permits.giving.fetch_sub(1, Ordering::Relaxed);
        });
    }

    /// Notes that a permit is to be given back later, unless it has ended by then.
    fn owe(&self, name: Name, id: u64, later: Duration) {
        let now = Instant::now();
        let until = now + self.identity.config.permit_timeout.0;
        lock(&self.permits.owed).push(Owed { name, id, due: now + later, until });
    }

    /// Renews the permits of calls in progress.
    async fn keep_permits(self: &Arc<Self>) {
        let every = self.identity.config.permit_timeout.0 / RENEWALS;
        let now = Instant::now();
        let due: Vec<_> = lock(&self.permits.held)
            .iter_mut()
            .filter(|(_, held)| now - held.kept >= every)
            .map(|(id, held)| {
                held.kept = now;
                (*id, *held)
            })
            .collect();
        for (id, held) in due {
            let kept = self.permit("keep", &held.name, id, None).await;
            let mut permits = lock(&self.permits.held);
            match permits.get_mut(&id) {
                // Tried again at the next look.
                Some(held) if kept.is_err() => held.kept = now.checked_sub(every).unwrap_or(now),
                Some(_) => {}
                None => {
                    // Its call has ended meanwhile, and may have given it back before it was renewed.
                    drop(permits);
                    self.give(held.name, id);
                }
            }
        }
    }

    /// Gives back what is owed.
    fn give_owed(self: &Arc<Self>) {
        let now = Instant::now();
        let mut owed = lock(&self.permits.owed);
        owed.retain(|owed| now < owed.until);
        let due: Vec<_> = owed.extract_if(.., |owed| now >= owed.due).collect();
        drop(owed);
        due.into_iter().for_each(|owed| self.give(owed.name, owed.id));
    }
}

impl Store {
    /// Asks a store that has failed whether it is back. The script writes, as those of requests do.
    async fn probe(&self) {
        let is_resting = self.breaker.state(Instant::now()) != BreakerState::Closed;
        if is_resting && self.client.get().is_some() {
            let name = self.name(b"probe", self.permits.gateway.as_bytes());
            let arguments = [&b"1000"[..], b"0", b"0", b"count", b"1"];
            // Its outcome is the breaker's, which says so.
            let _ = self.run::<5>(&self.scripts.quota, (&name, 'q'), &arguments).await;
        }
    }
}

/// Looks after permits as long as the store lives, and asks a store that has failed whether it is back, also when no request does.
pub(super) async fn tend(store: Weak<Store>) {
    loop {
        tokio::time::sleep(TEND).await;
        let Some(store) = store.upgrade() else { return };
        store.keep_permits().await;
        store.give_owed();
        store.probe().await;
    }
}
