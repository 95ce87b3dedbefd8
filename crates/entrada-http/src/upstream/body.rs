//! The bodies of answers: streamed, one frame at a time, without buffering.

use std::{
    collections::VecDeque,
    error::Error,
    fmt,
    future::poll_fn,
    io, mem,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use http_body::{Body, Frame, SizeHint};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::{error::UpstreamError, http1, http2, hygiene, io::Io, pool::InFlight};

/// The body of an upstream's response.
///
/// When it has been read completely, the connection returns to its pool; when it is dropped before, the connection is closed
/// (HTTP/1.1) or the stream reset (HTTP/2). A body that breaks off yields an error, never a clean end.
pub struct ResponseBody(Box<Contents>);

/// The contents of a body: in a box, since a body is handed from one owner to the next, together with its head.
struct Contents {
    source: Answer,
    /// The part of the body that was read in advance: usually all of it.
    first: Option<Bytes>,
    gathered: VecDeque<Frame<Bytes>>,
    /// True if the length was not announced, so that it must not be relied on although it may be known by now.
    open_ended: bool,
    in_flight: Option<InFlight>,
    server: Arc<str>,
    idle: Duration,
}

/// The number of bytes that are read at once: as many as a listener gathers before it writes.
const GATHERED: usize = 32 << 10;

/// The source of a response's body.
enum Answer {
    Http1(Box<http1::Connection>),
    Http2(http2::Answer),
    /// The connection has switched to another protocol.
    Switched(Upgraded),
    Over,
}

impl ResponseBody {
    pub(super) fn http1(connection: Box<http1::Connection>, in_flight: InFlight, server: Arc<str>, idle: Duration) -> Self {
        let over = connection.remaining() == Some(0);
        let mut body = Self::of(Answer::Http1(connection), Some(in_flight), server, idle);
        if over {
            body.finish();
        }
        body
    }

    pub(super) fn http2(answer: http2::Answer, in_flight: InFlight, server: Arc<str>) -> Self {
        Self::of(Answer::Http2(answer), Some(in_flight), server, Duration::ZERO)
    }

    pub(super) fn switched(connection: http1::Connection, in_flight: InFlight, server: Arc<str>) -> Self {
        let (io, read) = connection.into_parts();
        let upgraded = Upgraded { io, read, _in_flight: in_flight };
        Self::of(Answer::Switched(upgraded), None, server, Duration::ZERO)
    }

    fn of(source: Answer, in_flight: Option<InFlight>, server: Arc<str>, idle: Duration) -> Self {
        let room = Box::new_uninit();
        let gathered = VecDeque::new();
        Self(Box::write(room, Contents { source, first: None, gathered, open_ended: false, in_flight, server, idle }))
    }

    /// Reads the part of the body that has already arrived, without waiting: a body that fails at its start is detected before
    /// its head is forwarded.
    ///
    /// # Errors
    /// Fails if the body breaks off within that part.
    pub(super) async fn gather(&mut self) -> Result<(), UpstreamError> {
        self.0.open_ended = self.0.source.size_hint().exact().is_none();
        let mut bytes = 0;
        poll_fn(|context| {
            while bytes < GATHERED && !self.0.source.is_over() {
                let frame = match self.poll_source(context) {
                    Poll::Ready(Some(frame)) => frame?,
                    Poll::Ready(None) | Poll::Pending => break,
                };
                bytes += frame.data_ref().map_or(0, Bytes::len);
                match frame.into_data() {
                    Ok(data) if self.0.first.is_none() && self.0.gathered.is_empty() => self.0.first = Some(data),
                    Ok(data) => self.0.gathered.push_back(Frame::data(data)),
                    Err(frame) => self.0.gathered.push_back(frame),
                }
            }
            Poll::Ready(Ok(()))
        })
        .await
    }

    /// Returns the number of bytes that were read and not yet returned.
    fn gathered_bytes(&self) -> u64 {
        let gathered = self.0.gathered.iter().filter_map(Frame::data_ref).chain(&self.0.first);
        gathered.map(|data| data.len() as u64).sum()
    }

    /// Returns the answering server: host and port.
    pub fn server(&self) -> &Arc<str> {
        &self.0.server
    }

    /// Returns the connection of a 101 response; `None` for any other, and on the second call.
    pub fn take_upgrade(&mut self) -> Option<Upgraded> {
        match mem::replace(&mut self.0.source, Answer::Over) {
            Answer::Switched(upgraded) => Some(upgraded),
            other => {
                self.0.source = other;
                None
            }
        }
    }

    /// Notes that the response is complete: the connection may carry another request.
    fn finish(&mut self) {
        match &mut self.0.source {
            Answer::Http1(_) => {
                if let (Answer::Http1(connection), Some(in_flight)) =
                    (mem::replace(&mut self.0.source, Answer::Over), &self.0.in_flight)
                {
                    in_flight.pool().put(connection, self.0.idle);
                }
            }
            // It knows for itself when it is over.
            Answer::Http2(_) | Answer::Switched(_) | Answer::Over => {}
        }
        self.0.in_flight = None;
    }
}

impl fmt::Debug for ResponseBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResponseBody").field("server", &self.0.server).finish_non_exhaustive()
    }
}

impl Answer {
    /// Returns whether nothing more follows.
    fn is_over(&self) -> bool {
        match self {
            Self::Http1(connection) => connection.remaining() == Some(0),
            Self::Http2(answer) => answer.is_end_stream(),
            Self::Switched(_) | Self::Over => true,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Http1(connection) => connection.remaining().map_or_else(SizeHint::default, SizeHint::with_exact),
            Self::Http2(answer) => answer.size_hint(),
            Self::Switched(_) | Self::Over => SizeHint::with_exact(0),
        }
    }
}

impl ResponseBody {
    /// Returns the next part from the server.
    fn poll_source(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, UpstreamError>>> {
        let polled: Option<Result<Frame<Bytes>, Box<dyn Error + Send + Sync>>> = match &mut self.0.source {
            Answer::Http1(connection) => ready!(connection.poll_frame(context)).map(|frame| frame.map_err(Into::into)),
            Answer::Http2(answer) => ready!(answer.poll_frame(context)).map(|frame| match frame {
                Ok(frame) => Ok(clean(frame)),
                Err(error) => Err(error.into()),
            }),
            Answer::Switched(_) | Answer::Over => return Poll::Ready(None),
        };
        match polled {
            Some(Ok(frame)) => {
                if self.0.source.is_over() {
                    self.finish();
                }
                Poll::Ready(Some(Ok(frame)))
            }
            Some(Err(source)) => {
                self.0.source = Answer::Over;
                self.0.in_flight = None;
                Poll::Ready(Some(Err(UpstreamError::BrokenOff { server: self.0.server.clone(), source })))
            }
            None => {
                self.finish();
                Poll::Ready(None)
            }
        }
    }
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = UpstreamError;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, UpstreamError>>> {
        if let Some(frame) = self.0.first.take().map(Frame::data).or_else(|| self.0.gathered.pop_front()) {
            return Poll::Ready(Some(Ok(frame)));
        }
        self.poll_source(context)
    }

    fn is_end_stream(&self) -> bool {
        self.0.first.is_none() && self.0.gathered.is_empty() && self.0.source.is_over()
    }

    fn size_hint(&self) -> SizeHint {
        if self.0.open_ended {
            return SizeHint::default();
        }
        let mut hint = self.0.source.size_hint();
        let gathered = self.gathered_bytes();
        if let Some(upper) = hint.upper() {
            hint.set_upper(upper.saturating_add(gathered));
        }
        hint.set_lower(hint.lower() + gathered);
        hint
    }
}

fn clean(frame: Frame<Bytes>) -> Frame<Bytes> {
    match frame.into_trailers() {
        Ok(mut trailers) => {
            hygiene::clean_trailers(&mut trailers);
            Frame::trailers(trailers)
        }
        Err(frame) => frame,
    }
}

/// A server connection that has switched its protocol: bytes in both directions.
#[derive(Debug)]
pub struct Upgraded {
    io: Io,
    /// The bytes that arrived directly after the response.
    read: BytesMut,
    _in_flight: InFlight,
}

impl AsyncRead for Upgraded {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if !self.read.is_empty() {
            let length = self.read.len().min(buffer.remaining());
            buffer.put_slice(&self.read.split_to(length));
            return Poll::Ready(Ok(()));
        }
        Pin::new(&mut self.io).poll_read(context, buffer)
    }
}

impl AsyncWrite for Upgraded {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(context)
    }
}
