//! The shared state of a connection.

use std::{
    sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering::Relaxed},
    time::Duration,
};

use tokio::{
    sync::Notify,
    time::{Instant, timeout_at},
};

use super::{RESETS, STREAMS, window::SendWindow, wire::FrameEvent};

/// The time for which requests wait for a new connection's settings, which the server sends first, in order to share it.
const SETTLES_WITHIN: Duration = Duration::from_secs(1);

/// The maximum number of streams in a connection's life: fewer than there are stream ids.
const IN_ALL: usize = 1 << 29;

/// The state of a connection. Written by the threads that drive it and use it, usually just one.
#[derive(Debug)]
pub(super) struct State {
    /// The send window.
    pub(super) window: SendWindow,
    /// The time when the connection began.
    start: Instant,
    /// The time of the last frame, in milliseconds since `start`.
    heard: AtomicU64,
    /// Settings arrived that are not applied yet.
    settings: AtomicBool,
    /// The server's settings are applied.
    settled: AtomicBool,
    changed: Notify,
    /// The number of streams that the server allows.
    allowed: AtomicUsize,
    /// The server accepts no more streams, or the connection has ended.
    closing: AtomicBool,
    /// Notes an unanswered ping.
    silent: AtomicBool,
    /// The last stream whose request was sent.
    last: AtomicU32,
    /// The number of streams that are open now, and that ever were.
    open: AtomicUsize,
    opened: AtomicUsize,
    /// The number of incomplete streams.
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

    /// Notes a frame from the server.
    pub(super) fn hear(&self) {
        self.heard.store(u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX), Relaxed);
    }

    /// Returns the time of the server's last frame.
    pub(super) fn heard(&self) -> Instant {
        self.start + Duration::from_millis(self.heard.load(Relaxed))
    }

    /// Notes a received frame.
    pub(super) fn received(&self, seen: FrameEvent) {
        match seen {
            FrameEvent::Data { .. } | FrameEvent::Headers { .. } => {}
            FrameEvent::Settings => self.settings.store(true, Relaxed),
            FrameEvent::GoAway => self.closing.store(true, Relaxed),
            FrameEvent::WindowUpdate { stream, increment } => self.window.widened(stream, increment),
        }
    }

    /// Notes a sent frame.
    pub(super) fn sent(&self, seen: FrameEvent) {
        match seen {
            FrameEvent::Data { stream, length } => self.window.written(stream, length),
            FrameEvent::Headers { stream } => drop(self.last.fetch_max(stream, Relaxed)),
            FrameEvent::Settings | FrameEvent::GoAway | FrameEvent::WindowUpdate { .. } => {}
        }
    }

    /// Returns whether a stream's request was never sent.
    pub(super) fn never_left(&self, stream: u32) -> bool {
        self.last.load(Relaxed) < stream
    }

    /// Returns whether settings arrived since the last call.
    pub(super) fn has_new_settings(&self) -> bool {
        self.settings.load(Relaxed) && self.settings.swap(false, Relaxed)
    }

    /// Applies the server's settings, with this number of streams.
    pub(super) fn settle(&self, allowed: usize) {
        self.allowed.store(allowed, Relaxed);
        self.settled.store(true, Relaxed);
        self.changed.notify_waiters();
    }

    /// Notes the end of the connection.
    pub(super) fn end(&self) {
        self.closing.store(true, Relaxed);
        self.changed.notify_waiters();
    }

    /// The server did not answer a ping.
    pub(super) fn fall_silent(&self) {
        self.silent.store(true, Relaxed);
    }

    /// Returns whether the server did not answer a ping.
    pub(super) fn is_silent(&self) -> bool {
        self.silent.load(Relaxed)
    }

    /// Returns whether the server's settings have not arrived yet.
    pub(super) fn is_unsettled(&self) -> bool {
        !self.settled.load(Relaxed)
    }

    /// Waits for the server's settings, for a limited time.
    pub(super) async fn settles(&self) {
        let deadline = Instant::now() + SETTLES_WITHIN;
        let changed = self.changed.notified();
        tokio::pin!(changed);
        changed.as_mut().enable();
        if self.is_unsettled() && !self.is_spent() && timeout_at(deadline, changed).await.is_err() {
            self.settle(STREAMS);
        }
    }

    /// Returns whether the connection accepts no more streams: it ends, or so many streams were reset that a server might end it.
    pub(super) fn is_spent(&self) -> bool {
        self.closing.load(Relaxed) || self.resets.load(Relaxed) >= RESETS || self.opened.load(Relaxed) >= IN_ALL
    }

    /// Returns the number of further streams.
    pub(super) fn vacancies(&self) -> usize {
        // Before the server has said how many there may be, one is safe.
        let most = if self.is_unsettled() { 1 } else { STREAMS.min(self.allowed.load(Relaxed)) };
        most.saturating_sub(self.open())
    }

    /// Returns the number of open streams.
    pub(super) fn open(&self) -> usize {
        self.open.load(Relaxed)
    }

    /// Returns whether more than one stream was opened.
    pub(super) fn was_shared(&self) -> bool {
        self.opened.load(Relaxed) > 1
    }

    /// Counts a new stream.
    pub(super) fn begin(&self) {
        self.open.fetch_add(1, Relaxed);
        self.opened.fetch_add(1, Relaxed);
    }

    /// Counts a finished stream, complete or not. Returns the number of open ones.
    pub(super) fn finish(&self, whole: bool) -> usize {
        if !whole {
            self.resets.fetch_add(1, Relaxed);
        }
        self.open.fetch_sub(1, Relaxed) - 1
    }
}
