//! The connections of one thread to one server.

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::{sync::Notify, time::Instant};

use super::{http1, http2};
use crate::base::counts::{Durations, SeriesList};

/// The maximum number of idle HTTP/1.1 connections of a thread to one server.
const IDLE_CONNECTIONS: usize = 512;
/// The maximum number of HTTP/2 connections of a thread to one server; beyond it, requests wait for a place on one of them.
const HTTP2_CONNECTIONS: usize = 64;

/// The interval at which idle connections are checked.
const SWEEP: Duration = Duration::from_secs(1);

/// The connections of one thread to one server.
#[derive(Debug)]
pub(super) struct Pool {
    /// The server's host and port: the thread's own copy, whose reference count no other core touches.
    pub(super) server: Arc<str>,
    connections: Mutex<Connections>,
    /// The number of requests in progress.
    in_flight: AtomicUsize,
    /// Held while a connection is made that may carry many requests, so that concurrent requests share it.
    pub(super) making: tokio::sync::Mutex<()>,
    /// Notified when there is room for another stream.
    pub(super) vacancy: Arc<Notify>,
    /// The server chose HTTP/1.1 at the last handshake.
    pub(super) speaks_http1: AtomicBool,
    /// The durations of requests, by method and status.
    pub(super) durations: SeriesList<Durations>,
    /// The number of connections that were made.
    pub(super) opened: AtomicU64,
    /// The number of attempts to connect that failed.
    pub(super) connect_failures: AtomicU64,
}

/// The idle connections. Only the thread that owns the pool takes its lock, which is never held across an await.
#[derive(Debug, Default)]
struct Connections {
    /// A stack: the last connection put back is used first, so that surplus ones age and are closed.
    http1: Vec<(Box<http1::Connection>, Instant)>,
    http2: Vec<Arc<http2::Connection>>,
    /// True if a task closes connections that are idle for too long.
    swept: bool,
}

/// Counts a request while it is held.
#[derive(Debug)]
pub(super) struct InFlight(Arc<Pool>);

/// The result for a request that may share a connection.
pub(super) enum Found {
    Http1(Box<http1::Connection>),
    Http2(http2::Stream),
    /// An HTTP/2 connection whose capacity will soon be known.
    Unsettled(Arc<http2::Connection>),
    /// The maximum number of HTTP/2 connections, all full.
    Full,
    /// No connection, or HTTP/2 connections that are so busy that another one is needed.
    Nothing,
}

impl InFlight {
    pub(super) fn of(pool: &Arc<Pool>) -> Self {
        pool.in_flight.fetch_add(1, Ordering::Relaxed);
        Self(pool.clone())
    }

    pub(super) const fn pool(&self) -> &Arc<Pool> {
        &self.0
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Pool {
    /// Makes an empty pool of connections to the server of this name.
    pub(super) fn new(server: &str) -> Self {
        Self {
            server: server.into(),
            connections: Mutex::default(),
            in_flight: AtomicUsize::new(0),
            making: tokio::sync::Mutex::default(),
            vacancy: Arc::default(),
            speaks_http1: AtomicBool::new(false),
            durations: SeriesList::default(),
            opened: AtomicU64::new(0),
            connect_failures: AtomicU64::new(0),
        }
    }

    /// Returns the number of requests in progress.
    pub(super) fn in_flight(&self) -> usize {
        self.in_flight.load(Ordering::Relaxed)
    }

    /// Returns the number of idle connections, and of those that several requests share.
    pub(super) fn kept(&self) -> usize {
        let connections = self.connections();
        connections.http1.len() + connections.http2.len()
    }

    fn connections(&self) -> MutexGuard<'_, Connections> {
        // Nothing under the lock leaves it half done.
        self.connections.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a connection, unless it was idle for longer than `idle` by now. For an upload, one that has room for it; and one that was
    /// made after the given time, if any.
    pub(super) fn take(&self, idle: Duration, upload: bool, after: Option<Instant>, now: Instant) -> Found {
        let mut connections = self.connections();
        while after.is_none()
            && let Some((mut connection, since)) = connections.http1.pop()
        {
            // One that the server closed, or on which it sent what nobody asked for, is closed here.
            if now.saturating_duration_since(since) < idle && connection.is_quiet() {
                return Found::Http1(connection);
            }
        }
        if connections.http2.is_empty() {
            return Found::Nothing;
        }
        connections.http2.retain(|connection| !connection.is_spent());
        let vacant = |connection: &&Arc<http2::Connection>| {
            connection.vacancies() > 0 && after.is_none_or(|after| connection.made() >= after)
        };
        let quietest = |connections: &mut dyn Iterator<Item = &Arc<http2::Connection>>| {
            connections.min_by_key(|connection| connection.streams()).map(http2::Stream::of)
        };
        let vacant = || connections.http2.iter().filter(vacant);
        if let Some(stream) = quietest(&mut vacant().filter(|connection| !upload || connection.has_room_for_upload())) {
            return Found::Http2(stream);
        }
        if let Some(unsettled) = connections.http2.iter().find(|connection| connection.is_unsettled()) {
            return Found::Unsettled(unsettled.clone());
        }
        if connections.http2.len() < HTTP2_CONNECTIONS {
            return Found::Nothing;
        }
        quietest(&mut vacant()).map_or(Found::Full, Found::Http2)
    }

    /// Keeps a connection whose exchange is over; a caller's own returns to its owner, and is never pooled.
    pub(super) fn put(self: &Arc<Self>, mut connection: Box<http1::Connection>, idle: Duration) {
        if let Some(return_slot) = connection.return_slot.take() {
            if connection.rest() {
                return_slot.keep(connection);
            }
            return;
        }
        let mut connections = self.connections();
        if connection.rest() && connections.http1.len() < IDLE_CONNECTIONS {
            connections.http1.push((connection, Instant::now()));
            self.sweep(&mut connections, idle);
        }
    }

    /// Shares an HTTP/2 connection.
    pub(super) fn share(self: &Arc<Self>, connection: Arc<http2::Connection>, idle: Duration) {
        let mut connections = self.connections();
        connections.http2.push(connection);
        self.sweep(&mut connections, idle);
    }

    /// Makes sure that idle connections are closed in time.
    fn sweep(self: &Arc<Self>, connections: &mut Connections, idle: Duration) {
        if !connections.swept {
            connections.swept = true;
            tokio::spawn(sweep(Arc::downgrade(self), idle));
        }
    }
}

/// Closes connections that are idle for longer than `idle`, and those that the server closed, until none are left.
async fn sweep(pool: Weak<Pool>, idle: Duration) {
    let mut swept = SweepGuard(pool);
    loop {
        tokio::time::sleep(idle.min(SWEEP)).await;
        let Some(pool) = swept.0.upgrade() else { return };
        let mut connections = pool.connections();
        connections.http1.retain_mut(|(connection, since)| since.elapsed() < idle && connection.is_quiet());
        connections.http2.retain(|connection| !connection.is_spent() && !connection.idle_for(idle));
        if connections.http1.is_empty() && connections.http2.is_empty() {
            connections.swept = false;
            swept.0 = Weak::new();
            return;
        }
    }
}

/// A guard that lets another sweeper start when the sweeper ends with its runtime.
struct SweepGuard(Weak<Pool>);

impl Drop for SweepGuard {
    fn drop(&mut self) {
        if let Some(pool) = self.0.upgrade() {
            pool.connections().swept = false;
        }
    }
}
