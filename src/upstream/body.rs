//! Bodies, both ways: streamed, one frame at a time, with nothing kept.

use std::{
    fmt, io,
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
use hyper::{body::Incoming, upgrade::OnUpgrade};
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::Instant,
};

use super::{
    error::UpstreamError,
    hygiene,
    pool::{Http1, InFlight, Stream},
};
use crate::refusal::Refusal;

/// A body on its way to a server. Trailers end here: nothing that a route decides on is read from them.
#[derive(Debug)]
pub(super) struct SendBody {
    source: Source,
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

/// How far a request's body got.
#[derive(Debug)]
pub(super) struct Progress {
    start: Instant,
    /// When the body was last asked for or gave something, in milliseconds since `start`.
    moved: AtomicU64,
    /// The server would take more, and the caller has not sent it.
    starved: AtomicBool,
    /// It went out whole.
    finished: AtomicBool,
    /// Why it broke off.
    refusal: Mutex<Option<Refusal>>,
}

impl Progress {
    fn new() -> Self {
        Self {
            start: Instant::now(),
            moved: AtomicU64::new(0),
            starved: AtomicBool::new(false),
            finished: AtomicBool::new(false),
            refusal: Mutex::new(None),
        }
    }

    /// When the body last moved.
    pub(super) fn moved(&self) -> Instant {
        self.start + Duration::from_millis(self.moved.load(Ordering::Relaxed))
    }

    /// Whether it is the caller that the body waits for.
    pub(super) fn starved(&self) -> bool {
        self.starved.load(Ordering::Relaxed)
    }

    /// Whether the whole body went out.
    pub(super) fn finished(&self) -> bool {
        self.finished.load(Ordering::Relaxed)
    }

    /// Why the body broke off, if it did.
    pub(super) fn refusal(&self) -> Option<Refusal> {
        self.refusal.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    fn moves(&self, starved: bool) {
        self.moved.store(u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX), Ordering::Relaxed);
        self.starved.store(starved, Ordering::Relaxed);
    }
}

impl SendBody {
    /// No body.
    pub(super) const fn empty() -> Self {
        Self { source: Source::Empty }
    }

    /// The caller's body; one that is over before it began is none.
    pub(super) fn of<B>(body: B) -> Self
    where
        B: Body<Data = Bytes> + Send + 'static,
        B::Error: Into<Refusal>,
    {
        if body.is_end_stream() {
            return Self::empty();
        }
        Self { source: Source::Caller { body: Box::pin(body.map_err(Into::into)), progress: Arc::new(Progress::new()) } }
    }

    /// How far the body got; absent where there is none.
    pub(super) fn progress(&self) -> Option<Arc<Progress>> {
        match &self.source {
            Source::Empty => None,
            Source::Caller { progress, .. } => Some(progress.clone()),
        }
    }
}

/// The caller's body broke off; why stands in its [`Progress`].
#[derive(Debug, thiserror::Error)]
#[error("the request body broke off")]
pub(super) struct Broken;

impl Body for SendBody {
    type Data = Bytes;
    type Error = Broken;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        let Source::Caller { body, progress } = &mut self.source else { return Poll::Ready(None) };
        let polled = body.as_mut().poll_frame(context);
        progress.moves(polled.is_pending());
        let frame = match ready!(polled) {
            Some(Ok(frame)) if frame.is_data() => {
                if body.is_end_stream() {
                    progress.finished.store(true, Ordering::Relaxed);
                }
                Some(Ok(frame))
            }
            Some(Err(refusal)) => {
                *progress.refusal.lock().unwrap_or_else(PoisonError::into_inner) = Some(refusal);
                Some(Err(Broken))
            }
            Some(Ok(_)) | None => {
                progress.finished.store(true, Ordering::Relaxed);
                None
            }
        };
        Poll::Ready(frame)
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

/// The body of an upstream's answer.
///
/// When it has been read to its end the connection goes back to its pool; when it is dropped before, the connection is closed
/// (HTTP/1.1) or the stream reset (HTTP/2). A body that breaks off yields an error, never a clean end.
pub struct ResponseBody {
    body: Incoming,
    /// What goes back when the body is over.
    lease: Option<Lease>,
    in_flight: Option<InFlight>,
    server: Arc<str>,
    idle: Duration,
    upgrade: Option<OnUpgrade>,
}

/// The connection that an answer comes on.
#[derive(Debug)]
pub(super) enum Lease {
    Http1 { connection: Http1, request: Option<Arc<Progress>> },
    Http2(#[expect(dead_code, reason = "counts the stream while it is held")] Stream),
}

impl ResponseBody {
    pub(super) fn new(body: Incoming, lease: Lease, in_flight: InFlight, server: Arc<str>, idle: Duration) -> Self {
        let mut body = Self { body, lease: Some(lease), in_flight: Some(in_flight), server, idle, upgrade: None };
        if body.body.is_end_stream() {
            body.finish();
        }
        body
    }

    /// The body of a 101: the connection now speaks another protocol.
    pub(super) fn switched(body: Incoming, upgrade: OnUpgrade, lease: Lease, in_flight: InFlight, server: Arc<str>) -> Self {
        if let Lease::Http1 { connection, .. } = lease {
            connection.release();
        }
        Self { body, lease: None, in_flight: Some(in_flight), server, idle: Duration::ZERO, upgrade: Some(upgrade) }
    }

    /// The server that answers: host and port.
    pub const fn server(&self) -> &Arc<str> {
        &self.server
    }

    /// The connection to come of a 101 answer; `None` for any other, and the second time.
    pub fn take_upgrade(&mut self) -> Option<Upgrade> {
        Some(Upgrade { upgrade: self.upgrade.take()?, in_flight: self.in_flight.take() })
    }

    fn finish(&mut self) {
        if let (Some(Lease::Http1 { connection, request }), Some(in_flight)) = (self.lease.take(), &self.in_flight)
            // A request that is still being sent would run into the next one.
            && request.is_none_or(|progress| progress.finished())
        {
            in_flight.pool().put(connection, self.idle);
        }
        if self.upgrade.is_none() {
            self.in_flight = None;
        }
    }
}

impl fmt::Debug for ResponseBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResponseBody").field("server", &self.server).finish_non_exhaustive()
    }
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = UpstreamError;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, UpstreamError>>> {
        let frame = match ready!(Pin::new(&mut self.body).poll_frame(context)) {
            Some(Ok(frame)) => frame,
            Some(Err(source)) => {
                self.lease = None;
                self.in_flight = None;
                return Poll::Ready(Some(Err(UpstreamError::BrokenOff { server: self.server.clone(), source })));
            }
            None => {
                self.finish();
                return Poll::Ready(None);
            }
        };
        if self.body.is_end_stream() {
            self.finish();
        }
        Poll::Ready(Some(Ok(match frame.into_trailers() {
            Ok(mut trailers) => {
                hygiene::clean_trailers(&mut trailers);
                Frame::trailers(trailers)
            }
            Err(frame) => frame,
        })))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// A connection that is about to change its protocol.
#[derive(Debug)]
pub struct Upgrade {
    upgrade: OnUpgrade,
    in_flight: Option<InFlight>,
}

impl Upgrade {
    /// Waits until the connection is handed over.
    ///
    /// # Errors
    /// When it broke before.
    pub async fn finish(self) -> io::Result<Upgraded> {
        let stream = self.upgrade.await.map_err(io::Error::other)?;
        Ok(Upgraded { stream: TokioIo::new(stream), _in_flight: self.in_flight })
    }
}

/// A connection to a server that has changed its protocol: bytes both ways.
#[derive(Debug)]
pub struct Upgraded {
    stream: TokioIo<hyper::upgrade::Upgraded>,
    _in_flight: Option<InFlight>,
}

impl AsyncRead for Upgraded {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for Upgraded {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
