//! Keep-alive: a client whose machine is gone does not answer pings.

use std::{
    task::{Context, Poll, ready},
    time::Duration,
};

use h2::{Ping, PingPong};
use tokio::time::Instant;

use crate::base::deadline::Deadline;

/// The time without any frames after which a client gets a ping.
const INTERVAL: Duration = Duration::from_secs(20);
/// The timeout of the ping.
const TIMEOUT: Duration = Duration::from_secs(20);

/// The keep-alive of a silent client.
#[derive(Debug, Default)]
pub(super) struct KeepAlive {
    timer: Deadline,
    asked: bool,
}

impl KeepAlive {
    /// Returns `Ready` when the client has not answered. Its last frame arrived at `heard`.
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
