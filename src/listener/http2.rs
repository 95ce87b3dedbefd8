//! HTTP/2, by hyper, with a limit on everything that a client can make grow.

use std::{
    convert::Infallible,
    future::{Future, poll_fn},
    io,
    pin::{Pin, pin},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::{Buf, Bytes};
use http::{Request, Response};
use http_body::{Body, Frame, SizeHint};
use hyper::{body::Incoming, server::conn::http2, service::service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use pin_project_lite::pin_project;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::Instant,
};

use super::{
    Arrival, Broken, ConnectionEvent, EventKind, Limits, Service,
    http1::{LAST_WORD, Opening},
    socket::Socket,
};
use crate::{
    causes::chain,
    deadline::{Deadline, Pace},
    exchange::Connection,
    refusal::Reason,
    request::{BodyError, RequestBody},
};

/// What a client that speaks HTTP/2 without TLS begins with. RFC 9113, section 3.4.
pub(super) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Streams that a client may have open. RFC 9113, section 6.5.2 advises no fewer.
const STREAMS: u32 = 100;
/// Header fields of a request, as for HTTP/1.
const MAX_FIELDS: usize = 100;
/// Bytes that a client may send ahead, on a stream and in all: enough to fill a fast line over a continent, little enough that
/// all connections at once do not fill the machine.
const STREAM_WINDOW: u32 = 256 << 10;
const CONNECTION_WINDOW: u32 = 1 << 20;
/// Bytes of an answer that wait for a stream's window.
const SEND_BUFFER: usize = 64 << 10;
/// Streams that were reset before they were looked at (CVE-2023-44487), and resets that the client's errors cause (CVE-2025-8671).
const PENDING_RESETS: usize = 20;
const ERROR_RESETS: usize = 256;
/// A client whose machine is gone is noticed by a ping that is not answered.
const PING_INTERVAL: Duration = Duration::from_secs(20);
const PING_TIMEOUT: Duration = Duration::from_secs(20);

/// Serves a connection to its end.
pub(super) async fn serve<S: Service>(opening: Opening, service: S) {
    let Opening { socket, buffer, listener, connection, membership, accepted } = opening;
    let limits = listener.limits();
    let open = Arc::new(Open::default());
    let answer = {
        let (service, connection, open) = (service.clone(), connection.clone(), open.clone());
        move |request| {
            let stream = Stream::open(&open);
            let (service, connection, limits) = (service.clone(), connection.clone(), listener.limits());
            async move { Ok::<_, Infallible>(answer(request, &service, &connection, &limits, stream).await) }
        }
    };
    let io = TokioIo::new(Replayed { socket, read: buffer.freeze() });
    let mut http2 = pin!(builder(&limits).serve_connection(io, service_fn(answer)));

    let mut timer = Deadline::default();
    let mut closing = false;
    timer.set(accepted + limits.header_timeout);
    let result = poll_fn(|cx| {
        loop {
            if let Poll::Ready(result) = http2.as_mut().poll(cx) {
                return Poll::Ready(result);
            }
            if closing {
                return timer.poll(cx).map(|()| Ok(()));
            }
            let draining = membership.leash().is_draining();
            if open.now() > 0 {
                timer.clear();
            } else if !timer.is_set() {
                timer.set(Instant::now() + limits.idle_timeout);
            }
            if !draining {
                ready!(timer.poll(cx));
            }
            // GOAWAY; streams under way are finished, and what is idle has little time to notice.
            http2.as_mut().graceful_shutdown();
            closing = true;
            if open.now() == 0 {
                timer.set(Instant::now() + LAST_WORD);
            } else {
                timer.clear();
            }
        }
    })
    .await;
    if let Err(error) = result {
        service.event(ConnectionEvent {
            listener: connection.listener_name.clone(),
            peer: Some(connection.peer),
            kind: EventKind::Http2Failed,
            detail: chain(&error).into(),
        });
    }
}

fn builder(limits: &Limits) -> http2::Builder<TokioExecutor> {
    let mut builder = http2::Builder::new(TokioExecutor::new());
    builder
        .timer(TokioTimer::new())
        .max_concurrent_streams(STREAMS)
        .max_header_list_size(u32::try_from(limits.header_bytes).unwrap_or(u32::MAX))
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_frame_size(16_384)
        .header_table_size(4_096)
        .max_send_buf_size(SEND_BUFFER)
        .max_pending_accept_reset_streams(PENDING_RESETS)
        .max_local_error_reset_streams(ERROR_RESETS)
        .keep_alive_interval(PING_INTERVAL)
        .keep_alive_timeout(PING_TIMEOUT);
    builder
}

async fn answer<S: Service>(
    request: Request<Incoming>,
    service: &S,
    connection: &Arc<Connection>,
    limits: &Limits,
    stream: Stream,
) -> Response<StreamBody<S::Body>> {
    let answered = Arc::new(AtomicBool::new(false));
    let arrival = if request.headers().len() > MAX_FIELDS {
        Arrival::Broken(Broken::new(Reason::HeadersTooLarge, "the head has more than 100 fields"))
    } else {
        // A stream may rest (gRPC does), but not for longer than a connection, and only once it was answered for as long as it likes.
        let patience = Patience { timeout: limits.idle_timeout.max(limits.body_timeout), answered: answered.clone() };
        Arrival::Request(request.map(|body| {
            let mut body = RequestBody::http2(Http2Body::new(body, Some(patience)));
            // A body that has announced itself as too long says so to whoever reads it.
            let _ = body.limit(limits.body_bytes);
            body
        }))
    };
    let response = service.call(arrival, connection).await;
    answered.store(true, Ordering::Release);
    response.map(|body| StreamBody { body, _stream: stream })
}

/// The streams of a connection.
#[derive(Debug, Default)]
struct Open(AtomicUsize);

impl Open {
    fn now(&self) -> usize {
        self.0.load(Ordering::Acquire)
    }
}

/// One open stream, until its answer has left.
#[derive(Debug)]
struct Stream(Arc<Open>);

impl Stream {
    fn open(open: &Arc<Open>) -> Self {
        open.0.fetch_add(1, Ordering::AcqRel);
        Self(open.clone())
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Ordering::AcqRel);
    }
}

pin_project! {
    /// The body of an answer, which keeps its stream open.
    struct StreamBody<B> {
        #[pin]
        body: B,
        _stream: Stream,
    }
}

impl<B: Body> Body for StreamBody<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        self.project().body.poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// The body of a request over HTTP/2.
#[derive(Debug)]
pub(crate) struct Http2Body {
    incoming: Incoming,
    patience: Option<Patience>,
    pace: Pace,
    timer: Deadline,
}

/// How long an unanswered request's body may rest.
#[derive(Debug)]
pub(crate) struct Patience {
    timeout: Duration,
    answered: Arc<AtomicBool>,
}

impl Http2Body {
    pub(crate) fn new(incoming: Incoming, patience: Option<Patience>) -> Self {
        Self { incoming, patience, pace: Pace::default(), timer: Deadline::default() }
    }

    pub(crate) fn poll_data(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, BodyError>>> {
        loop {
            match Pin::new(&mut self.incoming).poll_frame(cx) {
                Poll::Ready(Some(Ok(frame))) => {
                    // Anything else is trailers, which go no further.
                    if let Ok(data) = frame.into_data() {
                        self.pace.moved(data.len());
                        return Poll::Ready(Some(Ok(data)));
                    }
                }
                Poll::Ready(Some(Err(_))) => return Poll::Ready(Some(Err(BodyError::Disconnected))),
                Poll::Ready(None) => return Poll::Ready(None),
                Poll::Pending => {
                    ready!(self.poll_too_slow(cx));
                    return Poll::Ready(Some(Err(BodyError::Timeout)));
                }
            }
        }
    }

    fn poll_too_slow(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        match &self.patience {
            Some(patience) if !patience.answered.load(Ordering::Acquire) => {
                if let Some(at) = self.pace.waits(patience.timeout) {
                    self.timer.set(at);
                }
            }
            _ => self.timer.clear(),
        }
        self.timer.poll(cx)
    }

    pub(crate) fn is_end_stream(&self) -> bool {
        self.incoming.is_end_stream()
    }

    pub(crate) fn size_hint(&self) -> SizeHint {
        self.incoming.size_hint()
    }
}

/// A socket whose first bytes were read already.
struct Replayed {
    socket: Socket,
    read: Bytes,
}

impl AsyncRead for Replayed {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.read.has_remaining() {
            let bytes = self.read.len().min(buffer.remaining());
            buffer.put_slice(&self.read.split_to(bytes));
            return Poll::Ready(Ok(()));
        }
        Pin::new(&mut self.socket).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Replayed {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.socket).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.socket).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.socket.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_shutdown(cx)
    }
}
