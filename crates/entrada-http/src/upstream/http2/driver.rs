//! The task that drives a connection's frames.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use h2::{Ping, PingPong, client};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    time::Instant,
};

use super::{state::State, wire::Wire};
use crate::base::deadline::Deadline;

/// The ping interval while a server owes a response, and the timeout of a ping.
const PING_EVERY: Duration = Duration::from_secs(20);
const PING_WITHIN: Duration = Duration::from_secs(10);

/// The driver of a connection's frames, until it ends: with its last stream when it has no more users, or with an error, which
/// the streams report.
pub(super) struct Driver<I> {
    connection: client::Connection<Wire<I>, Bytes>,
    state: Arc<State>,
    ping: Option<PingPong>,
    timer: Deadline,
    /// The time of an unanswered ping.
    asked: Option<Instant>,
}

impl<I: AsyncRead + AsyncWrite + Unpin> Driver<I> {
    pub(super) fn new(mut connection: client::Connection<Wire<I>, Bytes>, state: Arc<State>) -> Self {
        let ping = connection.ping_pong();
        Self { connection, state, ping, timer: Deadline::default(), asked: None }
    }

    /// Returns `Ready` when the server has sent nothing for too long, not even a ping's answer.
    fn poll_silence(&mut self, context: &mut Context<'_>) -> Poll<()> {
        let Some(ping) = &mut self.ping else { return Poll::Pending };
        if self.state.open() == 0 {
            self.timer.clear();
            return Poll::Pending;
        }
        if !self.timer.is_set() {
            self.timer.set(Instant::now() + PING_EVERY);
        }
        loop {
            // Whatever else comes shows that the server is there, too.
            if ping.poll_pong(context).is_ready() {
                self.asked = None;
            }
            ready!(self.timer.poll(context));
            let (heard, now) = (self.state.heard(), Instant::now());
            // What was heard is told in whole milliseconds, and what came in the same one as the question may be its answer.
            self.asked = self.asked.filter(|asked| heard + Duration::from_millis(1) <= *asked);
            if self.asked.is_some() {
                return Poll::Ready(());
            }
            if heard + PING_EVERY > now {
                self.timer.set(heard + PING_EVERY);
            } else if ping.send_ping(Ping::opaque()).is_ok() {
                self.asked = Some(now);
                self.timer.set(now + PING_WITHIN);
            } else {
                // The last one is still on its way, or the connection ends.
                self.timer.set(now + PING_WITHIN);
            }
        }
    }
}

impl<I: AsyncRead + AsyncWrite + Unpin> Future for Driver<I> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        if self.poll_silence(context).is_ready() {
            self.state.fall_silent();
            return Poll::Ready(());
        }
        let ended = Pin::new(&mut self.connection).poll(context).map(drop);
        if self.state.has_new_settings() {
            self.state.settle(self.connection.max_concurrent_send_streams());
        }
        ended
    }
}

impl<I> Drop for Driver<I> {
    fn drop(&mut self) {
        self.state.end();
    }
}
