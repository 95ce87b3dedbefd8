//! What is known of a connection, by whoever asks.

use std::{
    sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering::Relaxed},
    time::Duration,
};

use tokio::{
    sync::Notify,
    time::{Instant, timeout_at},
};

use super::{RESETS, STREAMS, window::SendWindow, wire::Seen};

/// How long those who would share a new connection wait for the server's settings, which come first of all.
const SETTLES_WITHIN: Duration = Duration::from_secs(1);

/// How many streams a connection carries in all: fewer than there are numbers for them.
const IN_ALL: usize = 1 << 29;

/// What is known of a connection. Written by the threads that drive it and use it, which are mostly one.
#[derive(Debug)]
pub(super) struct State {
    /// What may be sent.
    pub(super) window: SendWindow,
    /// When the connection began.
    start: Instant,
    /// When something came last, in milliseconds since `start`.
    heard: AtomicU64,
    /// Settings came that are not in force yet.
    settings: AtomicBool,
    /// The server's settings are in force.
    settled: AtomicBool,
    changed: Notify,
    /// How many streams the server allows.
    allowed: AtomicUsize,
    /// The server takes no more streams, or there is no connection any more.
    closing: AtomicBool,
    /// The server did not answer a ping.
    silent: AtomicBool,
    /// The last stream whose request has left.
    last: AtomicU32,
    /// The streams that are open now, and those that ever were.
    open: AtomicUsize,
    opened: AtomicUsize,
    /// The streams that did not come to their end.
    resets: AtomicUsize,
}

impl State {
    pub(super) fn new() -> Self {
        Self {
            window: SendWindow::default(),
            start: Instant::now(),
            heard: AtomicU64::new(0),
            settings: AtomicBool::new(false),
            settled: AtomicBool::new(false),
            changed: Notify::new(),
            allowed: AtomicUsize::new(STREAMS),
            closing: AtomicBool::new(false),
            silent: AtomicBool::new(false),
            last: AtomicU32::new(0),
            open: AtomicUsize::new(0),
            opened: AtomicUsize::new(0),
            resets: AtomicUsize::new(0),
        }
    }

    /// Something came from the server.
    pub(super) fn hear(&self) {
        self.heard.store(u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX), Relaxed);
    }

    /// When something came from the server last.
    pub(super) fn heard(&self) -> Instant {
        self.start + Duration::from_millis(self.heard.load(Relaxed))
    }

    /// A frame came.
    pub(super) fn received(&self, seen: Seen) {
        match seen {
            Seen::Data { .. } | Seen::Headers { .. } => {}
            Seen::Settings => self.settings.store(true, Relaxed),
            Seen::GoAway => self.closing.store(true, Relaxed),
            Seen::WindowUpdate { stream, increment } => self.window.widened(stream, increment),
        }
    }

    /// A frame has left.
    pub(super) fn sent(&self, seen: Seen) {
        match seen {
            Seen::Data { stream, length } => self.window.written(stream, length),
            Seen::Headers { stream } => drop(self.last.fetch_max(stream, Relaxed)),
            Seen::Settings | Seen::GoAway | Seen::WindowUpdate { .. } => {}
        }
    }

    /// Whether a stream's request never left.
    pub(super) fn never_left(&self, stream: u32) -> bool {
        self.last.load(Relaxed) < stream
    }

    /// Whether settings came since this was asked last.
    pub(super) fn has_new_settings(&self) -> bool {
        self.settings.load(Relaxed) && self.settings.swap(false, Relaxed)
    }

    /// The server's settings are in force, and allow so many streams.
    pub(super) fn settle(&self, allowed: usize) {
        self.allowed.store(allowed, Relaxed);
        self.settled.store(true, Relaxed);
        self.changed.notify_waiters();
    }

    /// There is no connection any more.
    pub(super) fn end(&self) {
        self.closing.store(true, Relaxed);
        self.changed.notify_waiters();
    }

    /// The server did not answer a ping.
    pub(super) fn fall_silent(&self) {
        self.silent.store(true, Relaxed);
    }

    /// Whether the server did not answer a ping.
    pub(super) fn is_silent(&self) -> bool {
        self.silent.load(Relaxed)
    }

    /// Whether the server's settings are still to come.
    pub(super) fn is_unsettled(&self) -> bool {
        !self.settled.load(Relaxed)
    }

    /// Waits for the server's settings, which nobody needs who has not got them after a while.
    pub(super) async fn settles(&self) {
        let deadline = Instant::now() + SETTLES_WITHIN;
        let changed = self.changed.notified();
        tokio::pin!(changed);
        changed.as_mut().enable();
        if self.is_unsettled() && !self.is_spent() && timeout_at(deadline, changed).await.is_err() {
            self.settle(STREAMS);
        }
    }

    /// Whether the connection takes no more streams: it ends, or so many streams were reset that a server might end it.
    pub(super) fn is_spent(&self) -> bool {
        self.closing.load(Relaxed) || self.resets.load(Relaxed) >= RESETS || self.opened.load(Relaxed) >= IN_ALL
    }

    /// How many more streams there may be.
    pub(super) fn vacancies(&self) -> usize {
        // Before the server has said how many there may be, one is safe.
        let most = if self.is_unsettled() { 1 } else { STREAMS.min(self.allowed.load(Relaxed)) };
        most.saturating_sub(self.open())
    }

    /// The streams that are open now.
    pub(super) fn open(&self) -> usize {
        self.open.load(Relaxed)
    }

    /// Whether more streams were opened than one.
    pub(super) fn was_shared(&self) -> bool {
        self.opened.load(Relaxed) > 1
    }

    /// A stream begins.
    pub(super) fn begin(&self) {
        self.open.fetch_add(1, Relaxed);
        self.opened.fetch_add(1, Relaxed);
    }

    /// A stream is over, whole or not. Tells how many are left.
    pub(super) fn finish(&self, whole: bool) -> usize {
        if !whole {
            self.resets.fetch_add(1, Relaxed);
        }
        self.open.fetch_sub(1, Relaxed) - 1
    }
}
