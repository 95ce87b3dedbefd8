//! Deadlines that are cheap to keep, and the minimum pace of slow peers.

use std::{
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use tokio::time::{Instant, Sleep, sleep_until};

/// A deadline that is extended far more often than it is missed.
///
/// The runtime's timer is reset only when the deadline comes nearer. When the timer fires early, because the deadline was
/// extended in the meantime, it is armed again: once per timeout instead of twice per request.
#[derive(Debug, Default)]
pub struct Deadline {
    at: Option<Instant>,
    timer: Option<Pin<Box<Sleep>>>,
}

impl Deadline {
    /// Sets the deadline. Must be followed by [`poll`](Self::poll), since only that registers the task's waker.
    pub fn set(&mut self, at: Instant) {
        self.at = Some(at);
        if let Some(timer) = &mut self.timer
            && timer.deadline() > at
        {
            timer.as_mut().reset(at);
        }
    }

    /// Forgets the deadline.
    pub const fn clear(&mut self) {
        self.at = None;
    }

    /// Returns whether a deadline is set.
    pub const fn is_set(&self) -> bool {
        self.at.is_some()
    }

    /// Returns `Ready` when the deadline has passed; never without a deadline.
    pub fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Some(at) = self.at else { return Poll::Pending };
        let timer = self.timer.get_or_insert_with(|| Box::pin(sleep_until(at)));
        loop {
            std::task::ready!(timer.as_mut().poll(cx));
            if timer.deadline() >= at {
                self.at = None;
                return Poll::Ready(());
            }
            timer.as_mut().reset(at);
        }
    }
}

/// The minimum rate, in bytes per second; a peer that we wait for and that is slower is too slow. A modem is faster.
const LEAST_RATE: u64 = 240;

/// The rate at which a peer sends or takes bytes while we wait for it.
///
/// A peer may keep us waiting for the timeout at a time, and in total for the timeout plus the time that its bytes take at the
/// minimum rate. Only waiting counts: a peer that we do not ask for bytes is not slow.
#[derive(Clone, Copy, Debug, Default)]
pub struct Pace {
    waited: Duration,
    moved: u64,
    since: Option<Instant>,
}

impl Pace {
    /// Notes that bytes have moved.
    pub fn moved(&mut self, bytes: usize) {
        self.moved += bytes as u64;
        if let Some(since) = self.since.take() {
            self.waited += since.elapsed();
        }
    }

    /// Notes that we wait. Returns the deadline of this wait, once for each period of waiting.
    pub fn waits(&mut self, timeout: Duration) -> Option<Instant> {
        if self.since.is_some() {
            return None;
        }
        let now = Instant::now();
        self.since = Some(now);
        let in_all = timeout + Duration::from_secs(self.moved / LEAST_RATE);
        Some(now + timeout.min(in_all.saturating_sub(self.waited)))
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use tokio::time::advance;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_deadline_that_moves_on_is_met_later() {
        let start = Instant::now();
        let mut deadline = Deadline::default();
        deadline.set(start + Duration::from_secs(1));
        assert!(poll_fn(|cx| Poll::Ready(deadline.poll(cx))).await.is_pending());

        deadline.set(start + Duration::from_secs(5));
        poll_fn(|cx| deadline.poll(cx)).await;

        assert!((5_000..5_010).contains(&start.elapsed().as_millis()));
    }

    #[tokio::test(start_paused = true)]
    async fn a_deadline_that_comes_nearer_is_met_sooner() {
        let start = Instant::now();
        let mut deadline = Deadline::default();
        deadline.set(start + Duration::from_secs(60));
        assert!(poll_fn(|cx| Poll::Ready(deadline.poll(cx))).await.is_pending());

        deadline.set(start + Duration::from_secs(2));
        poll_fn(|cx| deadline.poll(cx)).await;

        assert!((2_000..2_010).contains(&start.elapsed().as_millis()));
    }

    #[tokio::test(start_paused = true)]
    async fn a_peer_that_drips_runs_out_of_time() {
        let (start, timeout) = (Instant::now(), Duration::from_secs(10));
        let mut pace = Pace::default();

        // One byte every four seconds keeps any deadline that counts from the last byte.
        let mut until = pace.waits(timeout).unwrap();
        while until > Instant::now() + Duration::from_secs(4) {
            advance(Duration::from_secs(4)).await;
            pace.moved(1);
            until = pace.waits(timeout).unwrap();
        }

        assert_eq!(until, start + timeout);
    }

    #[tokio::test(start_paused = true)]
    async fn a_peer_with_a_steady_flow_may_take_its_time() {
        let timeout = Duration::from_secs(10);
        let mut pace = Pace::default();

        for _ in 0..1_000 {
            let until = pace.waits(timeout).unwrap();
            assert!(until > Instant::now() + Duration::from_secs(4));
            advance(Duration::from_secs(4)).await;
            pace.moved(1_000);
        }
    }
}
