//! The bodies of requests: streamed, one frame at a time, without buffering.

use std::{
    fmt, mem,
    pin::Pin,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt;
use tokio::time::Instant;

use crate::refusal::Refusal;

/// A body on its way to a server. Trailers end here: no decision of a route is based on them.
#[derive(Debug)]
pub(super) struct SendBody {
    source: Source,
    /// True once a part of it was taken.
    touched: bool,
}

enum Source {
    Empty,
    Caller { body: Pin<Box<dyn Body<Data = Bytes, Error = Refusal> + Send>>, progress: Arc<Progress> },
}

impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Empty => "Empty",
            Self::Caller { .. } => "Caller",
        })
    }
}

/// The progress of a request's body.
#[derive(Debug)]
pub(super) struct Progress {
    start: Instant,
    /// The time when the body was last polled or gave something, in milliseconds since `start`.
    moved: AtomicU64,
    /// True if the server would accept more, but the caller has not sent it.
    starved: AtomicBool,
    /// The reason why it broke off.
    refusal: Mutex<Option<Refusal>>,
}

impl Progress {
    fn new() -> Self {
        Self { start: Instant::now(), moved: AtomicU64::new(0), starved: AtomicBool::new(false), refusal: Mutex::new(None) }
    }

    /// Returns the time when the body last moved.
    pub(super) fn moved(&self) -> Instant {
        self.start + Duration::from_millis(self.moved.load(Ordering::Relaxed))
    }

    /// Returns whether the body waits for the caller.
    pub(super) fn starved(&self) -> bool {
        self.starved.load(Ordering::Relaxed)
    }

    /// Returns the reason why the body broke off, if it did.
    pub(super) fn refusal(&self) -> Option<Refusal> {
        self.refusal.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    fn moves(&self, starved: bool) {
        // To be asked again while there is nothing is no move.
        if !(self.starved.swap(starved, Ordering::Relaxed) && starved) {
            self.moved.store(u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX), Ordering::Relaxed);
        }
    }
}

impl SendBody {
    /// Makes an empty body.
    pub(super) const fn empty() -> Self {
        Self { source: Source::Empty, touched: false }
    }

    /// Makes a body from the caller's; one that is already over counts as empty.
    pub(super) fn of<B>(body: B) -> Self
    where
        B: Body<Data = Bytes> + Send + 'static,
        B::Error: Into<Refusal>,
    {
        if body.is_end_stream() {
            return Self::empty();
        }
        let source = Source::Caller { body: Box::pin(body.map_err(Into::into)), progress: Arc::new(Progress::new()) };
        Self { source, touched: false }
    }

    /// Moves the body out. The rest of one that was not empty counts as incomplete.
    pub(super) fn take(&mut self) -> Self {
        let left = Self { source: Source::Empty, touched: self.touched || !self.is_end_stream() };
        mem::replace(self, left)
    }

    /// Returns whether the body is still complete.
    pub(super) const fn is_whole(&self) -> bool {
        !self.touched
    }

    /// Returns the progress of the body; `None` if it is empty.
    pub(super) fn progress(&self) -> Option<Arc<Progress>> {
        match &self.source {
            Source::Empty => None,
            Source::Caller { progress, .. } => Some(progress.clone()),
        }
    }
}

/// An error: the caller's body broke off; its [`Progress`] has the reason.
#[derive(Debug, thiserror::Error)]
#[error("the request body broke off")]
pub(super) struct Broken;

impl Body for SendBody {
    type Data = Bytes;
    type Error = Broken;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        let Self { source: Source::Caller { body, progress }, touched } = &mut *self else { return Poll::Ready(None) };
        let polled = body.as_mut().poll_frame(context);
        progress.moves(polled.is_pending());
        let frame = ready!(polled);
        *touched = true;
        Poll::Ready(match frame {
            Some(Ok(frame)) if frame.is_data() => Some(Ok(frame)),
            Some(Ok(_)) | None => None,
            Some(Err(refusal)) => {
                *progress.refusal.lock().unwrap_or_else(PoisonError::into_inner) = Some(refusal);
                Some(Err(Broken))
            }
        })
    }

    fn is_end_stream(&self) -> bool {
        match &self.source {
            Source::Empty => true,
            Source::Caller { body, .. } => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.source {
            Source::Empty => SizeHint::with_exact(0),
            Source::Caller { body, .. } => body.size_hint(),
        }
    }
}
