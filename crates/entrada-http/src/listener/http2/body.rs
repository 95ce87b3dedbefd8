//! The body of an HTTP/2 request.

use std::{
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use h2::RecvStream;
use http::{HeaderMap, header};
use http_body::SizeHint;

use super::interim::Exchanged;
use crate::{
    base::deadline::{Deadline, Pace},
    listener::body_error::BodyError,
};

/// Returns the reason for an incomplete body. The code of a client's reset does not matter.
fn fault_of(error: &h2::Error) -> BodyError {
    if error.is_reset() && error.is_library() {
        BodyError::Framing("the stream violates HTTP/2: another length than announced, or malformed trailers")
    } else {
        BodyError::Disconnected
    }
}

/// The body of an HTTP/2 request. Trailers are dropped.
#[derive(Debug)]
pub(crate) struct Http2Body {
    stream: RecvStream,
    /// The number of remaining bytes, if the length was announced; `h2` enforces it.
    remaining: Option<u64>,
    exchanged: Arc<Exchanged>,
    /// The client may wait for permission to send it.
    expects_continue: bool,
    /// The time for which it may pause before the response begins.
    body_timeout: Duration,
    pace: Pace,
    timer: Deadline,
}

impl Http2Body {
    pub(super) fn new(
        stream: RecvStream,
        headers: &HeaderMap,
        exchanged: Arc<Exchanged>,
        expects_continue: bool,
        body_timeout: Duration,
    ) -> Self {
        let length = headers.get(header::CONTENT_LENGTH);
        let remaining = length.and_then(|length| length.to_str().ok()?.parse().ok());
        let (pace, timer) = (Pace::default(), Deadline::default());
        Self { stream, remaining, exchanged, expects_continue, body_timeout, pace, timer }
    }

    pub(crate) fn poll_data(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, BodyError>>> {
        match self.stream.poll_data(cx) {
            Poll::Ready(Some(Ok(data))) => {
                self.pace.moved(data.len());
                self.remaining = self.remaining.map(|remaining| remaining.saturating_sub(data.len() as u64));
                // It fails for a stream that is over, which needs no window.
                let _ = self.stream.flow_control().release_capacity(data.len());
                Poll::Ready(Some(Ok(data)))
            }
            Poll::Ready(Some(Err(error))) => Poll::Ready(Some(Err(fault_of(&error)))),
            Poll::Ready(None) => Poll::Ready(None),
            Poll::Pending => {
                if std::mem::take(&mut self.expects_continue) {
                    self.exchanged.ask_for_body();
                }
                ready!(self.poll_too_slow(cx));
                Poll::Ready(Some(Err(BodyError::Timeout)))
            }
        }
    }

    /// Returns `Ready` when the body is too slow. After the response has begun it may pause longer.
    fn poll_too_slow(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.exchanged.is_answered() {
            self.timer.clear();
        } else if let Some(at) = self.pace.waits(self.body_timeout) {
            self.timer.set(at);
        }
        self.timer.poll(cx)
    }

    pub(crate) fn is_end_stream(&self) -> bool {
        self.stream.is_end_stream()
    }

    pub(crate) fn size_hint(&self) -> SizeHint {
        self.remaining.map(SizeHint::with_exact).unwrap_or_default()
    }
}
