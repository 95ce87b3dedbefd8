//! The send window of a connection, shared by its uploads.
//!
//! A server enlarges the window of a connection as it reads, so that an upload that it does not read keeps its part. Uploads on
//! one connection are therefore bounded: each leaves a part of the window to every other one, and a connection with less than
//! half of its window left gets no further upload.

use std::{
    mem,
    sync::{Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker},
};

/// The initial window of a connection. RFC 9113, section 6.9.2.
const INITIAL: i64 = 65_535;
/// The part of the whole window that is guaranteed to every upload. All guarantees of a connection together leave three quarters
/// to any upload that needs it, since servers enlarge a window when half of it was used.
const PART: i64 = 128;

/// The window of a connection towards its server, and the uploads that share it.
#[derive(Debug)]
pub(super) struct SendWindow(Mutex<Shares>);

#[derive(Debug)]
struct Shares {
    /// The number of bytes that may be sent now, without those handed over already.
    left: i64,
    /// The largest window so far.
    whole: i64,
    /// By stream: few, and looked up in both directions.
    uploads: Vec<(u32, Share)>,
    waiting: Vec<Waker>,
}

/// One upload's share of the window.
#[derive(Clone, Copy, Debug)]
struct Share {
    /// The number of bytes sent and not yet returned by the server.
    unread: i64,
    /// The number of those that are not written yet.
    queued: i64,
    /// True while more data follow.
    open: bool,
}

impl Default for SendWindow {
    fn default() -> Self {
        Self(Mutex::new(Shares { left: INITIAL, whole: INITIAL, uploads: Vec::new(), waiting: Vec::new() }))
    }
}

impl SendWindow {
    fn shares(&self) -> MutexGuard<'_, Shares> {
        // Nothing under the lock leaves it half done.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns whether there is enough room for another upload.
    pub(super) fn has_room(&self) -> bool {
        let shares = self.shares();
        shares.left >= shares.whole / 2
    }

    /// Begins an upload.
    pub(super) fn open(&self, stream: u32) {
        self.shares().uploads.push((stream, Share { unread: 0, queued: 0, open: true }));
    }

    /// Returns how many of these bytes an upload may send now; never zero.
    pub(super) fn poll_allowed(&self, stream: u32, wanted: usize, context: &Context<'_>) -> Poll<usize> {
        let mut shares = self.shares();
        let allowed = shares.allowed(stream, i64::try_from(wanted).unwrap_or(i64::MAX));
        if let Ok(allowed @ 1..) = usize::try_from(allowed) {
            return Poll::Ready(allowed);
        }
        if !shares.waiting.iter().any(|waker| waker.will_wake(context.waker())) {
            shares.waiting.push(context.waker().clone());
        }
        Poll::Pending
    }

    /// Counts bytes that an upload has handed over.
    pub(super) fn take(&self, stream: u32, bytes: usize) {
        let bytes = i64::try_from(bytes).unwrap_or(i64::MAX);
        let mut shares = self.shares();
        shares.left -= bytes;
        if let Some(share) = shares.share(stream) {
            share.unread += bytes;
            share.queued += bytes;
        }
    }

    /// Ends an upload, complete or aborted; in the latter case unwritten bytes are never written.
    pub(super) fn close(&self, stream: u32, whole: bool) {
        let mut shares = self.shares();
        let Some(at) = shares.uploads.iter().position(|(id, share)| *id == stream && share.open) else { return };
        let share = &mut shares.uploads[at].1;
        if whole && share.queued > 0 {
            share.open = false;
        } else {
            let queued = if whole { 0 } else { share.queued };
            shares.uploads.swap_remove(at);
            shares.left += queued;
        }
        shares.wake();
    }

    /// Notes that the stream was reset: unwritten bytes are never written.
    pub(super) fn forget(&self, stream: u32) {
        let mut shares = self.shares();
        if let Some(at) = shares.uploads.iter().position(|(id, _)| *id == stream) {
            let (_, share) = shares.uploads.swap_remove(at);
            shares.left += share.queued;
            shares.wake();
        }
    }

    /// Counts written bytes.
    pub(super) fn written(&self, stream: u32, bytes: u32) {
        let mut shares = self.shares();
        let Some(at) = shares.uploads.iter().position(|(id, _)| *id == stream) else {
            // The last frame of an upload that was given up when it was being written.
            shares.left -= i64::from(bytes);
            return;
        };
        let share = &mut shares.uploads[at].1;
        share.queued -= i64::from(bytes);
        if !share.open && share.queued <= 0 {
            shares.uploads.swap_remove(at);
        }
    }

    /// Notes an enlarged window of a stream, or of the connection (0).
    pub(super) fn widened(&self, stream: u32, bytes: u32) {
        let mut shares = self.shares();
        if stream == 0 {
            shares.left = shares.left.saturating_add(bytes.into());
            shares.whole = shares.whole.max(shares.left);
        } else if let Some(share) = shares.share(stream) {
            share.unread = (share.unread - i64::from(bytes)).max(0);
        }
        shares.wake();
    }
}

impl Shares {
    fn share(&mut self, stream: u32) -> Option<&mut Share> {
        self.uploads.iter_mut().find(|(id, _)| *id == stream).map(|(_, share)| share)
    }

    fn allowed(&mut self, stream: u32, wanted: i64) -> i64 {
        let part = self.whole / PART;
        let others = self.uploads.iter().filter(|(id, share)| share.open && *id != stream).count();
        let unread = self.share(stream).map_or(0, |share| share.unread);
        let surplus = self.left - part * i64::try_from(others).unwrap_or(i64::MAX);
        wanted.min(surplus.max((part - unread).min(self.left)))
    }

    fn wake(&mut self) {
        mem::take(&mut self.waiting).into_iter().for_each(Waker::wake);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allowed(window: &SendWindow, stream: u32, wanted: usize) -> Option<usize> {
        match window.poll_allowed(stream, wanted, &Context::from_waker(Waker::noop())) {
            Poll::Ready(allowed) => Some(allowed),
            Poll::Pending => None,
        }
    }

    /// Sends as much as is allowed, written at once.
    fn send(window: &SendWindow, stream: u32) -> usize {
        let mut sent = 0;
        while let Some(bytes) = allowed(window, stream, 16_384) {
            window.take(stream, bytes);
            window.written(stream, u32::try_from(bytes).unwrap());
            sent += bytes;
        }
        sent
    }

    #[test]
    fn an_upload_alone_has_the_whole_window() {
        let window = SendWindow::default();
        window.open(1);

        assert_eq!(send(&window, 1), 65_535);
        assert!(!window.has_room());
        window.widened(1, 65_535);
        assert_eq!(send(&window, 1), 0, "the connection is still full");
        window.widened(0, 65_535);
        assert!(window.has_room());
        assert_eq!(send(&window, 1), 65_535);
    }

    #[test]
    fn what_is_reset_before_it_has_left_takes_nothing_of_the_window() {
        let window = SendWindow::default();
        window.open(1);
        window.take(1, 40_000);
        window.written(1, 10_000);
        window.close(1, true);
        assert!(!window.has_room());

        window.forget(1);
        window.forget(1);

        window.open(3);
        assert_eq!(send(&window, 3), 55_535);
    }

    #[test]
    fn uploads_that_nobody_reads_leave_every_other_one_its_part() {
        let window = SendWindow::default();
        window.widened(0, 1_048_576 - 65_535);
        (0..32).for_each(|number| window.open(number * 2 + 1));

        let taken: Vec<_> = (0..31).map(|number| send(&window, number * 2 + 1)).collect();

        assert!(taken.iter().all(|taken| *taken >= 8_192), "{taken:?}");
        for _ in 0..3 {
            assert!(send(&window, 63) >= 8_192, "{taken:?}");
            window.widened(63, 8_192);
            window.widened(0, 8_192);
        }
    }

    #[test]
    fn what_an_upload_that_was_given_up_had_not_sent_is_free_again() {
        let window = SendWindow::default();
        window.open(1);
        window.take(1, 40_000);
        window.written(1, 16_384);
        assert!(!window.has_room());

        window.close(1, false);

        window.open(3);
        assert_eq!(send(&window, 3), 65_535 - 16_384);
    }

    #[test]
    fn an_upload_that_has_ended_keeps_what_was_not_read() {
        let window = SendWindow::default();
        window.open(1);
        window.take(1, 60_000);
        window.close(1, true);
        window.written(1, 60_000);

        assert!(!window.has_room());
        assert!(window.shares().uploads.is_empty());
        window.open(3);
        assert_eq!(send(&window, 3), 5_535);
    }
}
