//! The connections of one thread to one server.

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use hyper::client::conn::http2;
use tokio::time::Instant;

use super::{body::SendBody, http1};

/// How many idle HTTP/1.1 connections a thread keeps to one server.
const IDLE_CONNECTIONS: usize = 512;
/// How many streams an HTTP/2 connection carries before another one is made.
const STREAMS_PER_CONNECTION: usize = 100;
/// How many HTTP/2 connections a thread makes to one server; beyond, streams share or wait.
const HTTP2_CONNECTIONS: usize = 8;

/// How often idle connections are looked after.
const SWEEP: Duration = Duration::from_secs(1);

/// The connections of one thread to one server.
#[derive(Debug)]
pub(super) struct Pool {
    /// The server by host and port: the thread's own copy, whose holders no other core counts.
    pub(super) server: Arc<str>,
    shelf: Mutex<Shelf>,
    /// The requests under way.
    in_flight: AtomicUsize,
    /// Held while a connection is made that may turn out to carry many requests, so that those who come meanwhile share it.
    pub(super) making: tokio::sync::Mutex<()>,
    /// The server chose HTTP/1.1 the last time it was asked.
    pub(super) speaks_http1: AtomicBool,
}

/// Only the thread that owns the pool takes its lock; it is never held across an await.
#[derive(Debug, Default)]
struct Shelf {
    /// The last one put back is the first one taken: what is not needed grows old and is closed.
    http1: Vec<(Box<http1::Connection>, Instant)>,
    http2: Vec<Arc<Http2>>,
    /// A task closes what is idle for too long.
    swept: bool,
}

/// An HTTP/2 connection.
#[derive(Debug)]
pub(super) struct Http2 {
    pub(super) sender: http2::SendRequest<SendBody>,
    streams: AtomicUsize,
    /// When the last stream ended.
    idle_since: Mutex<Instant>,
}

/// Counts a stream for as long as it is held.
#[derive(Debug)]
pub(super) struct Stream(Arc<Http2>);

/// Counts a request for as long as it is held.
#[derive(Debug)]
pub(super) struct InFlight(Arc<Pool>);

/// What the shelf has for a request that may share a connection.
pub(super) enum Found {
    Http1(Box<http1::Connection>),
    Http2(Stream),
    /// Nothing, or HTTP/2 connections that carry so much that there should be another one.
    Nothing,
}

impl Http2 {
    pub(super) fn new(sender: http2::SendRequest<SendBody>) -> Self {
        Self { sender, streams: AtomicUsize::new(0), idle_since: Mutex::new(Instant::now()) }
    }
}

impl Stream {
    pub(super) fn of(connection: &Arc<Http2>) -> Self {
        connection.streams.fetch_add(1, Ordering::Relaxed);
        Self(connection.clone())
    }

    pub(super) fn sender(&self) -> http2::SendRequest<SendBody> {
        self.0.sender.clone()
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        if self.0.streams.fetch_sub(1, Ordering::Relaxed) == 1 {
            *self.0.idle_since.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
        }
    }
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
    /// An empty pool of connections to the server of this name.
    pub(super) fn new(server: &str) -> Self {
        Self {
            server: server.into(),
            shelf: Mutex::default(),
            in_flight: AtomicUsize::new(0),
            making: tokio::sync::Mutex::default(),
            speaks_http1: AtomicBool::new(false),
        }
    }

    /// How many requests are under way.
    pub(super) fn in_flight(&self) -> usize {
        self.in_flight.load(Ordering::Relaxed)
    }

    fn shelf(&self) -> MutexGuard<'_, Shelf> {
        // Nothing under the lock leaves it half done.
        self.shelf.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A connection that is there, unless it was idle for longer than `idle`.
    pub(super) fn take(&self, idle: Duration) -> Found {
        let mut shelf = self.shelf();
        while let Some((mut connection, since)) = shelf.http1.pop() {
            // One that the server closed, or on which it sent what nobody asked for, is closed here.
            if since.elapsed() < idle && connection.is_quiet() {
                return Found::Http1(connection);
            }
        }
        if shelf.http2.is_empty() {
            return Found::Nothing;
        }
        shelf.http2.retain(|connection| !connection.sender.is_closed());
        let Some(quietest) = shelf.http2.iter().min_by_key(|connection| connection.streams.load(Ordering::Relaxed)) else {
            return Found::Nothing;
        };
        let streams = quietest.streams.load(Ordering::Relaxed);
        let crowded = streams >= STREAMS_PER_CONNECTION && shelf.http2.len() < HTTP2_CONNECTIONS;
        if crowded { Found::Nothing } else { Found::Http2(Stream::of(quietest)) }
    }

    /// Keeps a connection whose exchange is over; one that is a caller's own goes back to it, and never in here.
    pub(super) fn put(self: &Arc<Self>, mut connection: Box<http1::Connection>, idle: Duration) {
        if let Some(home) = connection.home.take() {
            if connection.rest() {
                home.keep(connection);
            }
            return;
        }
        let mut shelf = self.shelf();
        if connection.rest() && shelf.http1.len() < IDLE_CONNECTIONS {
            shelf.http1.push((connection, Instant::now()));
            self.sweep(&mut shelf, idle);
        }
    }

    /// Shares an HTTP/2 connection.
    pub(super) fn share(self: &Arc<Self>, connection: Arc<Http2>, idle: Duration) {
        let mut shelf = self.shelf();
        shelf.http2.push(connection);
        self.sweep(&mut shelf, idle);
    }

    /// Sees to it that idle connections are closed in time.
    fn sweep(self: &Arc<Self>, shelf: &mut Shelf, idle: Duration) {
        if !shelf.swept {
            shelf.swept = true;
            tokio::spawn(sweep(Arc::downgrade(self), idle));
        }
    }
}

/// Closes what is idle for longer than `idle`, and what its server closed, until there is nothing left.
async fn sweep(pool: Weak<Pool>, idle: Duration) {
    let mut swept = Swept(pool);
    loop {
        tokio::time::sleep(idle.min(SWEEP)).await;
        let Some(pool) = swept.0.upgrade() else { return };
        let mut shelf = pool.shelf();
        shelf.http1.retain_mut(|(connection, since)| since.elapsed() < idle && connection.is_quiet());
        shelf.http2.retain(|connection| !connection.sender.is_closed() && !connection.idle_for(idle));
        if shelf.http1.is_empty() && shelf.http2.is_empty() {
            shelf.swept = false;
            swept.0 = Weak::new();
            return;
        }
    }
}

impl Http2 {
    fn idle_for(&self, time: Duration) -> bool {
        self.streams.load(Ordering::Relaxed) == 0
            && self.idle_since.lock().unwrap_or_else(PoisonError::into_inner).elapsed() >= time
    }
}

/// A sweeper that ends with its runtime makes place for another one.
struct Swept(Weak<Pool>);

impl Drop for Swept {
    fn drop(&mut self) {
        if let Some(pool) = self.0.upgrade() {
            pool.shelf().swept = false;
        }
    }
}
