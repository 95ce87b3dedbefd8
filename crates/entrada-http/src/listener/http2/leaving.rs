//! Bytes handed to `h2` that were not sent yet: the client may withdraw the window that they had.

use std::{
    collections::BTreeMap,
    task::{Context, Waker},
};

use crate::listener::service::Sent;

/// The pending bytes of each stream whose response is not complete.
#[derive(Debug, Default)]
pub(super) struct PendingBytes {
    /// By stream. There are few, and each is looked for several times.
    streams: BTreeMap<u32, Queued>,
}

/// The pending frames of a stream.
#[derive(Debug, Default)]
struct Queued {
    heads: u32,
    data: u64,
    /// The stream was reset: nothing more of it is sent.
    lost: bool,
    waits: Option<Waker>,
}

impl Queued {
    fn left(&self) -> u64 {
        u64::from(self.heads) + self.data
    }

    fn wake(&mut self) {
        if (self.lost || self.left() == 0)
            && let Some(waits) = self.waits.take()
        {
            waits.wake();
        }
    }
}

impl PendingBytes {
    pub(super) fn begin(&mut self, stream: u32) {
        self.streams.insert(stream, Queued::default());
    }

    /// Notes a head that is handed over: of the final response, or of an interim one. Must be called first, since another thread
    /// may write it at once.
    pub(super) fn head(&mut self, stream: u32) {
        if let Some(queued) = self.streams.get_mut(&stream) {
            queued.heads += 1;
        }
    }

    /// Notes body bytes that are handed over.
    pub(super) fn data(&mut self, stream: u32, bytes: usize) {
        if let Some(queued) = self.streams.get_mut(&stream) {
            queued.data += bytes as u64;
        }
    }

    /// Notes a sent head; or trailers, which are not counted, since everything counted is sent before them.
    pub(super) fn sent_head(&mut self, stream: u32) {
        if let Some(queued) = self.streams.get_mut(&stream) {
            queued.heads = queued.heads.saturating_sub(1);
            queued.wake();
        }
    }

    /// Notes a sent body frame.
    pub(super) fn sent_data(&mut self, stream: u32, bytes: u32) {
        if let Some(queued) = self.streams.get_mut(&stream) {
            queued.data = queued.data.saturating_sub(u64::from(bytes));
            queued.wake();
        }
    }

    /// Notes that the stream was reset, by either side.
    pub(super) fn lose(&mut self, stream: u32) {
        if let Some(queued) = self.streams.get_mut(&stream) {
            queued.lost = true;
            queued.wake();
        }
    }

    /// Notes that the connection has ended.
    pub(super) fn lose_all(&mut self) {
        for queued in self.streams.values_mut() {
            queued.lost = true;
            queued.wake();
        }
    }

    /// Returns how much of a stream's response was sent, if no more of it will be. `kept` bytes of its body were not handed over.
    pub(super) fn sent(&self, stream: u32, kept: usize) -> Sent {
        match self.streams.get(&stream) {
            Some(queued) if queued.heads > 0 => Sent::Nothing,
            Some(queued) => Sent::Part { unsent: queued.data + kept as u64 },
            None => Sent::Part { unsent: kept as u64 },
        }
    }

    /// Returns the number of pending bytes; `None` if they are lost. Wakes the task when there are none left.
    pub(super) fn left(&mut self, stream: u32, cx: &Context<'_>) -> Option<u64> {
        let queued = self.streams.get_mut(&stream)?;
        let left = queued.left();
        if left > 0 && queued.lost {
            return None;
        }
        if left > 0 {
            queued.waits = Some(cx.waker().clone());
        }
        Some(left)
    }

    /// Drops a stream for which nobody waits any more.
    pub(super) fn forget(&mut self, stream: u32) {
        self.streams.remove(&stream);
    }
}

#[cfg(test)]
mod tests {
    use std::{
        sync::{
            Arc,
            atomic::{AtomicUsize, Ordering},
        },
        task::Wake,
    };

    use super::*;

    #[derive(Default)]
    struct Woken(AtomicUsize);

    impl Wake for Woken {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn a_stream_has_left_when_its_heads_and_its_data_have() {
        let woken = Arc::<Woken>::default();
        let waker = Waker::from(woken.clone());
        let cx = Context::from_waker(&waker);
        let mut leaving = PendingBytes::default();
        leaving.begin(1);
        assert_eq!(leaving.left(1, &cx), Some(0));
        leaving.head(1);
        leaving.head(1);
        leaving.data(1, 20);
        assert_eq!((leaving.left(1, &cx), leaving.sent(1, 7)), (Some(22), Sent::Nothing));

        leaving.sent_head(1);
        leaving.sent_head(1);
        leaving.sent_data(1, 15);
        assert_eq!((leaving.left(1, &cx), woken.0.load(Ordering::Relaxed)), (Some(5), 0));
        assert_eq!(leaving.sent(1, 7), Sent::Part { unsent: 12 });
        leaving.sent_data(1, 5);
        leaving.sent_head(1);
        leaving.sent_data(1, 0);

        assert_eq!((leaving.left(1, &cx), woken.0.load(Ordering::Relaxed)), (Some(0), 1));
        leaving.lose(1);
        assert_eq!(leaving.left(1, &cx), Some(0), "a reset takes nothing back");
        leaving.forget(1);
        assert!(leaving.streams.is_empty());
    }

    #[test]
    fn what_is_lost_is_waited_for_by_nobody() {
        let woken = Arc::<Woken>::default();
        let waker = Waker::from(woken.clone());
        let cx = Context::from_waker(&waker);
        let mut leaving = PendingBytes::default();
        for stream in [1, 3] {
            leaving.begin(stream);
            leaving.data(stream, 20);
            assert_eq!(leaving.left(stream, &cx), Some(20));
        }

        leaving.lose(1);
        leaving.data(1, 20);
        assert_eq!((leaving.left(1, &cx), leaving.left(3, &cx), woken.0.load(Ordering::Relaxed)), (None, Some(20), 1));
        leaving.lose_all();

        assert_eq!((leaving.left(3, &cx), woken.0.load(Ordering::Relaxed)), (None, 2));
    }
}
