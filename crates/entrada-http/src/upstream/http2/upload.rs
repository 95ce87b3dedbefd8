//! The body of a request in progress.

use std::{
    future::poll_fn,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use bytes::{Buf, Bytes};
use h2::{Reason, SendStream};
use http_body::Body;
use tokio::task::AbortHandle;

use super::state::State;
use crate::upstream::send_body::SendBody;

/// An upload in progress, limited by the server's window. If it is dropped early, the stream is reset.
#[derive(Debug)]
pub(super) struct Upload {
    stream: SendStream<Bytes>,
    state: Arc<State>,
    id: u32,
    /// The next part to be sent.
    part: Bytes,
    /// It was sent completely, or the server accepts no more.
    over: bool,
}

/// An error: the caller's body broke off.
#[derive(Debug)]
pub(super) struct Broken;

impl Upload {
    pub(super) fn new(stream: SendStream<Bytes>, state: Arc<State>) -> Self {
        let id = stream.stream_id().as_u32();
        state.window.open(id);
        Self { stream, state, id, part: Bytes::new(), over: false }
    }

    /// Sends what is available. Returns `Ready` when there is nothing more to send, or the server accepts no more.
    pub(super) fn poll(&mut self, context: &mut Context<'_>, body: &mut SendBody) -> Poll<Result<(), Broken>> {
        while !self.over {
            if self.part.is_empty() {
                ready!(self.poll_part(context, body))?;
            } else if ready!(self.poll_send(context, body)).is_err() {
                // Why shows in the answer.
                self.end(false);
            }
        }
        Poll::Ready(Ok(()))
    }

    /// Takes the next part of the body.
    fn poll_part(&mut self, context: &mut Context<'_>, body: &mut SendBody) -> Poll<Result<(), Broken>> {
        match ready!(Pin::new(body).poll_frame(context)) {
            Some(Ok(frame)) => self.part = frame.into_data().unwrap_or_default(),
            None => {
                let sent = self.stream.send_data(Bytes::new(), true);
                self.end(sent.is_ok());
            }
            Some(Err(_)) => {
                self.stream.send_reset(Reason::CANCEL);
                self.end(false);
                return Poll::Ready(Err(Broken));
            }
        }
        Poll::Ready(Ok(()))
    }

    /// Sends as much of the part as the window allows.
    fn poll_send(&mut self, context: &mut Context<'_>, body: &SendBody) -> Poll<Result<(), h2::Error>> {
        let allowed = ready!(self.state.window.poll_allowed(self.id, self.part.len(), context));
        self.stream.reserve_capacity(allowed);
        let mut capacity = self.stream.capacity();
        while capacity == 0 {
            match ready!(self.stream.poll_capacity(context)) {
                Some(available) => capacity = available?,
                None => return Poll::Ready(Err(Reason::STREAM_CLOSED.into())),
            }
        }
        let bytes = capacity.min(allowed);
        let part = self.part.split_to(bytes);
        let last = !self.part.has_remaining() && body.is_end_stream();
        // Before: what is sent may leave at once.
        self.state.window.take(self.id, bytes);
        self.stream.send_data(part, last)?;
        if last {
            self.end(true);
        }
        Poll::Ready(Ok(()))
    }

    fn end(&mut self, whole: bool) {
        self.over = true;
        self.part = Bytes::new();
        self.state.window.close(self.id, whole);
    }

    /// Returns whether there is nothing more to send.
    pub(super) const fn is_over(&self) -> bool {
        self.over
    }

    /// Continues while the response is read.
    pub(super) fn go_on(mut self, mut body: SendBody) -> BackgroundUpload {
        let task = tokio::spawn(async move {
            // Why it broke off shows in the answer, which breaks off with it.
            let _ = poll_fn(|context| self.poll(context, &mut body)).await;
        });
        BackgroundUpload(task.abort_handle())
    }
}

impl Drop for Upload {
    fn drop(&mut self) {
        if !self.over {
            self.stream.send_reset(Reason::CANCEL);
            self.state.window.close(self.id, false);
        }
    }
}

/// An upload that continues after the head of its response. Aborted on drop.
#[derive(Debug)]
pub(super) struct BackgroundUpload(AbortHandle);

impl BackgroundUpload {
    /// Returns whether it has ended.
    pub(super) fn is_over(&self) -> bool {
        self.0.is_finished()
    }
}

impl Drop for BackgroundUpload {
    fn drop(&mut self) {
        self.0.abort();
    }
}
