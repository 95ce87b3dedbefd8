//! The end of a response and of a connection: the rest of the request's body, and the time in which the client can read what was sent.

use std::{
    future::poll_fn,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use tokio::{io::AsyncWrite as _, time::Instant};

use super::{Http1, NextStep};

/// The number of bytes of an unread body that are read after the response so that the connection can continue.
pub(super) const DRAIN_BYTES: u64 = 1 << 20;
/// The time in which a client that is still sending can read the response.
pub(super) const LINGER: Duration = Duration::from_secs(2);
/// The number of bytes that it may send in that time.
const LINGER_BYTES: usize = 64 << 20;

impl Http1 {
    /// Handles the rest of the request's body after the response.
    pub(super) async fn after_body(&mut self, persists: bool) -> NextStep {
        let done = {
            let mut wire = self.wire.lock();
            wire.revoke();
            wire.is_body_done()
        };
        if done {
            return if persists { NextStep::Next } else { NextStep::Close };
        }
        let until = Instant::now() + LINGER;
        if !persists {
            return NextStep::Linger(until);
        }
        self.timer.set(until);
        let mut most = DRAIN_BYTES;
        let drained = poll_fn(|cx| match self.wire.lock().poll_drain(cx, &mut most) {
            Poll::Ready(drained) => Poll::Ready(drained),
            Poll::Pending => self.timer.poll(cx).map(|()| false),
        })
        .await;
        self.timer.clear();
        if drained { NextStep::Next } else { NextStep::Linger(until) }
    }

    /// Closes the connection. Unread bytes from the client would make the kernel reset it, and the response might be lost.
    pub(super) async fn close(mut self) {
        let unread = {
            let mut wire = self.wire.lock();
            let ended = wire.ended;
            !ended && (!wire.buffer.is_empty() || poll_once(|cx| wire.poll_fill(cx)).is_some_and(|read| matches!(read, Ok(1..))))
        };
        if unread { self.linger(Instant::now() + LINGER).await } else { self.shut().await }
    }

    async fn shut(&mut self) {
        self.timer.set(Instant::now() + LINGER);
        poll_fn(|cx| match Pin::new(&mut self.wire.lock().socket).poll_shutdown(cx) {
            Poll::Ready(_) => Poll::Ready(()),
            Poll::Pending => self.timer.poll(cx),
        })
        .await;
    }

    /// Closes our side, and continues to read until the client has closed its own, or time is up.
    pub(super) async fn linger(mut self, until: Instant) {
        self.shut().await;
        self.read_on(until).await;
    }

    /// Lets the client read the sent bytes until it closes or time is up, and resets the connection.
    pub(super) async fn reset_after(mut self, until: Instant) {
        self.read_on(until).await;
        self.wire.lock().socket.reset();
    }

    /// Reads and discards until the client closes or time is up.
    async fn read_on(&mut self, until: Instant) {
        self.timer.set(until);
        let mut most = LINGER_BYTES;
        poll_fn(|cx| {
            let mut wire = self.wire.lock();
            loop {
                wire.buffer.clear();
                match wire.poll_fill(cx) {
                    Poll::Ready(Ok(read @ 1..)) if read <= most => most -= read,
                    Poll::Ready(_) => return Poll::Ready(()),
                    Poll::Pending => return self.timer.poll(cx),
                }
            }
        })
        .await;
    }
}

/// Polls once, without registering a waker.
fn poll_once<T>(mut poll: impl FnMut(&mut Context<'_>) -> Poll<T>) -> Option<T> {
    match poll(&mut Context::from_waker(std::task::Waker::noop())) {
        Poll::Ready(value) => Some(value),
        Poll::Pending => None,
    }
}
