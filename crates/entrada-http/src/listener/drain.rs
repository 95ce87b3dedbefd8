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
    pub async fn begins(&mut self) -> Instant {
        let until = self.0.wait_for(Option::is_some).await.ok().and_then(|until| *until);
        match until {
            Some(until) => until,
            None => std::future::pending().await,
        }
    }
}

const DRAINING: u8 = 1;
const ABORTED: u8 = 2;

/// The shutdown signal of a connection: to finish, or to stop at once.
#[derive(Debug, Default)]
pub(crate) struct ShutdownSignal {
    state: AtomicU8,
    /// The time since which the connection is idle, by its listener's count; 0 while a request is in progress.
    idle_since: AtomicU64,
    /// True once a request has arrived on it.
    spoke: AtomicBool,
    waker: Mutex<Option<Waker>>,
}

impl ShutdownSignal {
    /// Returns whether the connection must end after the current request.
    pub(crate) fn is_draining(&self) -> bool {
        self.state.load(Ordering::Acquire) >= DRAINING
    }

    /// Returns whether the connection must stop at once.
    #[cfg(test)]
    pub(crate) fn is_aborted(&self) -> bool {
        self.state.load(Ordering::Acquire) == ABORTED
    }

    /// Notes that a request is in progress. Only one core writes here, so that this is cheap.
    pub(crate) fn set_busy(&self) {
        self.idle_since.store(0, Ordering::Release);
        self.spoke.store(true, Ordering::Release);
    }

    /// Notes that the connection is idle since then.
    pub(crate) fn set_idle(&self, since: u64) {
        self.idle_since.store(since, Ordering::Release);
    }

    /// Returns the time since which the connection is idle, if it is.
    pub(super) fn idle_since(&self) -> Option<u64> {
        Some(self.idle_since.load(Ordering::Acquire)).filter(|since| *since != 0)
    }

    /// Tells a connection to close if it has been idle since then; it is told just once. Returns whether it was told.
    ///
    /// A request that arrives in the meantime is finished. A connection without any request has nothing to finish.
    pub(super) fn release(&self, since: u64) -> bool {
        let rests = self.idle_since.compare_exchange(since, 0, Ordering::AcqRel, Ordering::Relaxed).is_ok();
        if rests {
            self.signal(if self.spoke.load(Ordering::Acquire) { DRAINING } else { ABORTED });
        }
        rests
    }

    /// Returns `Ready` when the connection must stop at once. Registers the waker for any signal.
    pub(crate) fn poll_abort(&self, cx: &Context<'_>) -> Poll<()> {
        {
            let mut waker = self.waker();
            if !waker.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
                *waker = Some(cx.waker().clone());
            }
        }
        if self.state.load(Ordering::Acquire) == ABORTED { Poll::Ready(()) } else { Poll::Pending }
    }

    fn signal(&self, state: u8) {
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
pub(crate) struct ConnectionSet {
    members: Mutex<Members>,
    emptied: Notify,
    left: Notify,
}

#[derive(Debug, Default)]
struct Members {
    signals: HashMap<u64, Arc<ShutdownSignal>>,
    next: u64,
    state: u8,
}

/// A connection's entry in the set, and its permit; both end on drop.
#[derive(Debug)]
pub(crate) struct ConnectionGuard {
    set: Arc<ConnectionSet>,
    key: u64,
    signal: Arc<ShutdownSignal>,
    permit: ConnectionPermit,
}

impl ConnectionSet {
    /// Adds a connection, which counts as idle since then until it sends something.
    pub(crate) fn join(self: &Arc<Self>, permit: ConnectionPermit, since: u64) -> ConnectionGuard {
        let signal = Arc::new(ShutdownSignal::default());
        signal.set_idle(since);
        let mut members = self.members();
        signal.state.store(members.state, Ordering::Release);
        let key = members.next;
        members.next += 1;
        members.signals.insert(key, signal.clone());
        drop(members);
        ConnectionGuard { set: self.clone(), key, signal, permit }
    }

    /// Visits each connection.
    pub(super) fn each(&self, show: impl FnMut(&Arc<ShutdownSignal>)) {
        self.members().signals.values().for_each(show);
    }

    /// Waits until a connection has ended.
    pub(super) fn left(&self) -> impl Future<Output = ()> {
        self.left.notified()
    }

    /// Lets all connections finish until the given time, and stops the others.
    pub(crate) async fn drain(&self, until: Instant) {
        self.signal(DRAINING);
        if tokio::time::timeout_at(until, self.empty()).await.is_err() {
            self.signal(ABORTED);
            self.empty().await;
        }
    }

    async fn empty(&self) {
        loop {
            let emptied = self.emptied.notified();
            if self.members().signals.is_empty() {
                return;
            }
            emptied.await;
        }
    }

    fn signal(&self, state: u8) {
        let signals: Vec<_> = {
            let mut members = self.members();
            members.state = state;
            members.signals.values().cloned().collect()
        };
        for signal in signals {
            signal.signal(state);
        }
    }

    fn members(&self) -> MutexGuard<'_, Members> {
        lock(&self.members)
    }
}

impl ConnectionGuard {
    pub(crate) const fn signal(&self) -> &Arc<ShutdownSignal> {
        &self.signal
    }

    /// Counts the connection as this peer's. Returns whether there was room.
    pub(super) fn counts_for(&mut self, peer: IpAddr) -> bool {
        self.permit.counts_for(peer)
    }
}

impl Drop for ConnectionGuard {
    fn drop(&mut self) {
        let mut members = self.set.members();
        members.signals.remove(&self.key);
        if members.signals.is_empty() {
            drop(members);
            self.set.emptied.notify_waiters();
        }
        self.set.left.notify_waiters();
    }
}

pin_project! {
    /// A connection's future, which ends early on a shutdown signal.
    pub(crate) struct Guarded<F> {
        #[pin]
        connection: F,
        signal: Arc<ShutdownSignal>,
    }
}

impl<F> Guarded<F> {
    pub(crate) const fn new(connection: F, signal: Arc<ShutdownSignal>) -> Self {
        Self { connection, signal }
    }
}

impl<F: Future<Output = ()>> Future for Guarded<F> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = self.project();
        if this.signal.poll_abort(cx).is_ready() {
            return Poll::Ready(());
        }
        this.connection.poll(cx)
    }
}
