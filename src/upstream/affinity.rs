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
struct Kept(Mutex<Vec<Own>>);

/// A waiting connection.
struct Own {
    ties: Ties,
    connection: Box<http1::Connection>,
    since: Instant,
}

/// The owner of a connection, and its destination.
#[derive(Clone, Debug)]
struct Ties {
    upstream: UpstreamId,
    server: Arc<str>,
    who: Arc<str>,
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
    pub who: Arc<str>,
}

/// The place to which a connection returns after its exchange.
#[derive(Debug)]
pub(super) struct Home {
    kept: Weak<Kept>,
    ties: Ties,
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
        let mut own = self.affinity.get::<Kept>()?.lock();
        let found = own.iter().position(|own| own.ties.upstream == upstream).map(|at| own.swap_remove(at));
        // What has ended meanwhile is not held on to for as long as the client stays.
        own.retain_mut(|own| own.since.elapsed() < idle && own.connection.is_quiet());
        drop(own);
        let mut found = found.filter(|own| own.ties.who == self.who && own.since.elapsed() < idle)?;
        found.connection.is_quiet().then_some((found.ties.server, found.connection))
    }

    /// Returns the place to which a connection to this server returns.
    pub(super) fn home(&self, upstream: UpstreamId, server: &Arc<str>) -> Home {
        // In a slot that holds something else nothing is kept, and the connection is closed after its exchange.
        let kept = self.affinity.get_or_default::<Kept>().map_or_else(Weak::new, |kept| Arc::downgrade(&kept));
        Home { kept, ties: Ties { upstream, server: server.clone(), who: self.who.clone() } }
    }
}

impl Home {
    /// Keeps the connection for the caller's next request, or closes it if its client is gone.
    pub(super) fn keep(self, connection: Box<http1::Connection>) {
        let Some(kept) = self.kept.upgrade() else { return };
        let mut own = kept.lock();
        own.retain(|own| own.ties.upstream != self.ties.upstream);
        own.push(Own { ties: self.ties, connection, since: Instant::now() });
    }
}

impl Kept {
    fn lock(&self) -> MutexGuard<'_, Vec<Own>> {
        lock(&self.0)
    }
}

impl fmt::Debug for Kept {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Kept").field(&self.lock().len()).finish()
    }
}
