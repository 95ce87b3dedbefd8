//! `connection-affinity: per-caller`: upstream connections that belong to one client's connection.
//!
//! NTLM, and Negotiate as IIS does it, authenticate a connection: every later request on it counts as the user's. So such
//! credentials are only forwarded on connections that no other caller's requests ever use. They are kept with the client's
//! connection, are never put into a pool, and are closed with it; and if another caller than their first one appears on that
//! connection, they are closed then.

use std::{
    fmt,
    sync::{
        Arc, Mutex, MutexGuard, Weak,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::time::Instant;

use super::http1;
use crate::{base::lock::lock, connection::Slot};

/// The connections of one client's connection that wait for its next request: one for each upstream.
#[derive(Default)]
struct BoundConnections(Mutex<Vec<BoundConnection>>);

/// A waiting connection.
struct BoundConnection {
    bound_to: BoundTo,
    connection: Box<http1::Connection>,
    since: Instant,
}

/// The owner of a connection, and its destination.
#[derive(Clone, Debug)]
struct BoundTo {
    upstream: UpstreamId,
    server: Arc<str>,
    caller_key: Arc<str>,
}

/// The identity of an upstream, unique across reloads with the same name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct UpstreamId(u64);

/// The caller whose requests have their own connections.
#[derive(Clone, Debug)]
pub struct Owner<'a> {
    /// The owner's connections.
    pub affinity: &'a Slot,
    /// The caller's key: a different one on the same client's connection is another caller.
    pub caller_key: Arc<str>,
}

/// The place to which a connection returns after its exchange.
#[derive(Debug)]
pub(super) struct ReturnSlot {
    kept: Weak<BoundConnections>,
    bound_to: BoundTo,
}

impl UpstreamId {
    pub(super) fn new() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        Self(NEXT.fetch_add(1, Ordering::Relaxed))
    }
}

impl Owner<'_> {
    /// Returns the caller's own connection to this upstream, with its server, if it is still usable. Another caller's is closed.
    pub(super) fn take(&self, upstream: UpstreamId, idle: Duration) -> Option<(Arc<str>, Box<http1::Connection>)> {
        let mut own = self.affinity.get::<BoundConnections>()?.lock();
        let found = own.iter().position(|own| own.bound_to.upstream == upstream).map(|at| own.swap_remove(at));
        // What has ended meanwhile is not held on to for as long as the client stays.
        own.retain_mut(|own| own.since.elapsed() < idle && own.connection.is_quiet());
        drop(own);
        let mut found = found.filter(|own| own.bound_to.caller_key == self.caller_key && own.since.elapsed() < idle)?;
        found.connection.is_quiet().then_some((found.bound_to.server, found.connection))
    }

    /// Returns the place to which a connection to this server returns.
    pub(super) fn return_slot(&self, upstream: UpstreamId, server: &Arc<str>) -> ReturnSlot {
        // In a slot that holds something else nothing is kept, and the connection is closed after its exchange.
        let kept = self.affinity.get_or_default::<BoundConnections>().map_or_else(Weak::new, |kept| Arc::downgrade(&kept));
        ReturnSlot { kept, bound_to: BoundTo { upstream, server: server.clone(), caller_key: self.caller_key.clone() } }
    }
}

impl ReturnSlot {
    /// Keeps the connection for the caller's next request, or closes it if its client is gone.
    pub(super) fn keep(self, connection: Box<http1::Connection>) {
        let Some(kept) = self.kept.upgrade() else { return };
        let mut own = kept.lock();
        own.retain(|own| own.bound_to.upstream != self.bound_to.upstream);
        own.push(BoundConnection { bound_to: self.bound_to, connection, since: Instant::now() });
    }
}

impl BoundConnections {
    fn lock(&self) -> MutexGuard<'_, Vec<BoundConnection>> {
        lock(&self.0)
    }
}

impl fmt::Debug for BoundConnections {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("BoundConnections").field(&self.lock().len()).finish()
    }
}
