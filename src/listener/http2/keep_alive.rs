//! A client whose machine is gone is noticed by a ping that is not answered.

use std::{
    task::{Context, Poll, ready},
    time::Duration,
};

use h2::{Ping, PingPong};
use tokio::time::Instant;

use crate::base::deadline::Deadline;

/// How long a client may say nothing before it is asked.
const INTERVAL: Duration = Duration::from_secs(20);
/// How long it may take to answer.
const TIMEOUT: Duration = Duration::from_secs(20);

/// Asks a client that is silent whether it is still there.
#[derive(Debug, Default)]
pub(super) struct KeepAlive {
    timer: Deadline,
    asked: bool,
}

impl KeepAlive {
    /// Ready when the client has not answered. It was last heard of at `heard`.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>, pings: &mut PingPong, heard: Instant) -> Poll<()> {
        if self.asked {
            if pings.poll_pong(cx).is_pending() {
                return self.timer.poll(cx);
            }
            self.asked = false;
        }
        self.timer.set(heard + INTERVAL);
        ready!(self.timer.poll(cx));
        if pings.send_ping(Ping::opaque()).is_err() {
            return Poll::Pending;
        }
        self.asked = true;
        self.timer.set(Instant::now() + TIMEOUT);
        // Nothing can have come yet; this leaves the waker.
        if pings.poll_pong(cx).is_ready() {
            self.asked = false;
        }
        self.timer.poll(cx)
    }
}
