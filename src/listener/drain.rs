//! Drain: the orderly end of a listener.

use std::{
    collections::HashMap,
    net::IpAddr,
    pin::Pin,
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering},
    },
    task::{Context, Poll, Waker},
    time::Duration,
};

use pin_project_lite::pin_project;
use tokio::{
    sync::{Notify, watch},
    time::Instant,
};

use super::admission::ConnectionPermit;

use crate::base::lock::lock;

/// The trigger of the drain of all listeners that hold its [`Drain`].
#[derive(Debug)]
pub struct Drainer(watch::Sender<Option<Instant>>);

/// A listener's handle to the drain.
#[derive(Clone, Debug)]
pub struct Drain(watch::Receiver<Option<Instant>>);

impl Drainer {
    /// Makes a drainer and its handle.
    pub fn new() -> (Self, Drain) {
        let (sender, receiver) = watch::channel(None);
        (Self(sender), Drain(receiver))
    }

    /// Begins the drain. Connections that are not finished after `timeout` are closed.
    pub fn drain(&self, timeout: Duration) {
        self.0.send_replace(Some(Instant::now() + timeout));
    }
}

impl Drain {
    /// Waits until the drain begins, and returns its deadline. A dropped drainer never begins one.
    pub(crate) async fn begins(&mut self) -> Instant {
        let until = self.0.wait_for(Option::is_some).await.ok().and_then(|until| *until);
        match until {
            Some(until) => until,
            None => std::future::pending().await,
        }
    }
}

const DRAINING: u8 = 1;
const CUT: u8 = 2;

/// The shutdown signal of a connection: to finish, or to stop at once.
#[derive(Debug, Default)]
pub(crate) struct Leash {
    state: AtomicU8,
    /// The time since which the connection is idle, by its listener's count; 0 while a request is in progress.
    resting: AtomicU64,
    /// True once a request has arrived on it.
    spoke: AtomicBool,
    waker: Mutex<Option<Waker>>,
}

impl Leash {
    /// Returns whether the connection must end after the current request.
    pub(crate) fn is_draining(&self) -> bool {
        self.state.load(Ordering::Acquire) >= DRAINING
    }

    /// Returns whether the connection must stop at once.
    #[cfg(test)]
    pub(crate) fn is_cut(&self) -> bool {
        self.state.load(Ordering::Acquire) == CUT
    }

    /// Notes that a request is in progress. Only one core writes here, so that this is cheap.
    pub(crate) fn works(&self) {
        self.resting.store(0, Ordering::Release);
        self.spoke.store(true, Ordering::Release);
    }

    /// Notes that the connection is idle since then.
    pub(crate) fn rests(&self, since: u64) {
        self.resting.store(since, Ordering::Release);
    }

    /// Returns the time since which the connection is idle, if it is.
    pub(super) fn rests_since(&self) -> Option<u64> {
        Some(self.resting.load(Ordering::Acquire)).filter(|since| *since != 0)
    }

    /// Tells a connection to close if it has been idle since then; it is told just once. Returns whether it was told.
    ///
    /// A request that arrives in the meantime is finished. A connection without any request has nothing to finish.
    pub(super) fn release(&self, since: u64) -> bool {
        let rests = self.resting.compare_exchange(since, 0, Ordering::AcqRel, Ordering::Relaxed).is_ok();
        if rests {
            self.pull(if self.spoke.load(Ordering::Acquire) { DRAINING } else { CUT });
        }
        rests
    }

    /// Returns `Ready` when the connection must stop at once. Registers the waker for any signal.
    pub(crate) fn poll_cut(&self, cx: &Context<'_>) -> Poll<()> {
        {
            let mut waker = self.waker();
            if !waker.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
                *waker = Some(cx.waker().clone());
            }
        }
        if self.state.load(Ordering::Acquire) == CUT { Poll::Ready(()) } else { Poll::Pending }
    }

    fn pull(&self, state: u8) {
        self.state.fetch_max(state, Ordering::AcqRel);
        if let Some(waker) = self.waker().take() {
            waker.wake();
        }
    }

    fn waker(&self) -> MutexGuard<'_, Option<Waker>> {
        lock(&self.waker)
    }
}

/// The connections of one worker's listener.
#[derive(Debug, Default)]
pub(crate) struct Herd {
    members: Mutex<Members>,
    emptied: Notify,
    left: Notify,
}

#[derive(Debug, Default)]
struct Members {
    leashes: HashMap<u64, Arc<Leash>>,
    next: u64,
    state: u8,
}

/// A connection's entry in the set, and its permit; both end on drop.
#[derive(Debug)]
pub(crate) struct Membership {
    herd: Arc<Herd>,
    key: u64,
    leash: Arc<Leash>,
    seat: ConnectionPermit,
}

impl Herd {
    /// Adds a connection, which counts as idle since then until it sends something.
    pub(crate) fn join(self: &Arc<Self>, seat: ConnectionPermit, since: u64) -> Membership {
        let leash = Arc::new(Leash::default());
        leash.rests(since);
        let mut members = self.members();
        leash.state.store(members.state, Ordering::Release);
        let key = members.next;
        members.next += 1;
        members.leashes.insert(key, leash.clone());
        drop(members);
        Membership { herd: self.clone(), key, leash, seat }
    }

    /// Visits each connection.
    pub(super) fn each(&self, show: impl FnMut(&Arc<Leash>)) {
        self.members().leashes.values().for_each(show);
    }

    /// Waits until a connection has ended.
    pub(super) fn left(&self) -> impl Future<Output = ()> {
        self.left.notified()
    }

    /// Lets all connections finish until the given time, and stops the others.
    pub(crate) async fn drain(&self, until: Instant) {
        self.pull(DRAINING);
        if tokio::time::timeout_at(until, self.empty()).await.is_err() {
            self.pull(CUT);
            self.empty().await;
        }
    }

    async fn empty(&self) {
        loop {
            let emptied = self.emptied.notified();
            if self.members().leashes.is_empty() {
                return;
            }
            emptied.await;
        }
    }

    fn pull(&self, state: u8) {
        let leashes: Vec<_> = {
            let mut members = self.members();
            members.state = state;
            members.leashes.values().cloned().collect()
        };
        for leash in leashes {
            leash.pull(state);
        }
    }

    fn members(&self) -> MutexGuard<'_, Members> {
        lock(&self.members)
    }
}

impl Membership {
    pub(crate) const fn leash(&self) -> &Arc<Leash> {
        &self.leash
    }

    /// Counts the connection as this peer's. Returns whether there was room.
    pub(super) fn counts_for(&mut self, peer: IpAddr) -> bool {
        self.seat.counts_for(peer)
    }
}

impl Drop for Membership {
    fn drop(&mut self) {
        let mut members = self.herd.members();
        members.leashes.remove(&self.key);
        if members.leashes.is_empty() {
            drop(members);
            self.herd.emptied.notify_waiters();
        }
        self.herd.left.notify_waiters();
    }
}

pin_project! {
    /// A connection's future, which ends early on a shutdown signal.
    pub(crate) struct Leashed<F> {
        #[pin]
        connection: F,
        leash: Arc<Leash>,
    }
}

impl<F> Leashed<F> {
    pub(crate) const fn new(connection: F, leash: Arc<Leash>) -> Self {
        Self { connection, leash }
    }
}

impl<F: Future<Output = ()>> Future for Leashed<F> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = self.project();
        if this.leash.poll_cut(cx).is_ready() {
            return Poll::Ready(());
        }
        this.connection.poll(cx)
    }
}
