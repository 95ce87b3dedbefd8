//! The body of a request: one type for all protocols.

use std::{
    fmt,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use http_body_util::{BodyExt as _, combinators::UnsyncBoxBody};

use super::{body_error::BodyError, http1::Http1Body, http2::Http2Body, informational::Informational};

/// The body of a request.
///
/// It never yields trailers: nothing that a client sends after the body reaches a policy or an upstream. Its limit applies to
/// every framing alike. It is tied to no task and may be read by whichever polls it.
pub struct RequestBody {
    source: Source,
    /// The number of bytes that may still arrive.
    allowance: u64,
    counter: BytesRead,
    informational: Option<Informational>,
}

enum Source {
    Empty,
    Memory(Bytes),
    Http1(Http1Body),
    Http2(Box<Http2Body>),
    /// Of an application that has read the request's head itself.
    Foreign(UnsyncBoxBody<Bytes, BodyError>),
    /// The body has failed; the next poll returns the end.
    Failed,
}

/// The progress of a body, available after the body was moved.
#[derive(Clone, Debug, Default)]
pub struct BytesRead(Option<Arc<Read>>);

#[derive(Debug, Default)]
struct Read {
    bytes: AtomicU64,
    /// The body was read to its end.
    whole: AtomicBool,
}

impl BytesRead {
    /// Returns the number of bytes so far, without framing.
    pub fn get(&self) -> u64 {
        self.0.as_ref().map_or(0, |read| read.bytes.load(Ordering::Relaxed))
    }

    /// Returns whether the body was read to its end. True if there is no body.
    pub fn is_whole(&self) -> bool {
        self.0.as_ref().is_none_or(|read| read.whole.load(Ordering::Relaxed))
    }

    /// Adds the bytes that came through the tunnel which the request became.
    pub fn tunnelled(&mut self, bytes: u64) {
        self.0.get_or_insert_default().bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    fn add(&self, bytes: usize) {
        if let Some(read) = &self.0 {
            read.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
        }
    }

    fn ends(&self) {
        if let Some(read) = &self.0 {
            read.whole.store(true, Ordering::Relaxed);
        }
    }
}

impl RequestBody {
    /// Makes an empty body.
    pub const fn empty() -> Self {
        Self::of(Source::Empty)
    }

    /// Makes the body of an HTTP/1 request.
    pub(crate) const fn http1(body: Http1Body) -> Self {
        Self::of(Source::Http1(body))
    }

    /// Makes the body of an HTTP/2 request.
    pub(crate) fn http2(body: Http2Body) -> Self {
        if body.is_end_stream() { Self::empty() } else { Self::of(Source::Http2(Box::new(body))) }
    }

    /// Makes the body of a request whose head an application has read. If it fails, its client is taken to have left.
    pub fn boxed<B>(body: B) -> Self
    where
        B: Body<Data = Bytes> + Send + 'static,
    {
        if body.is_end_stream() {
            return Self::empty();
        }
        Self::of(Source::Foreign(body.map_err(|_| BodyError::Disconnected).boxed_unsync()))
    }

    const fn of(source: Source) -> Self {
        Self { source, allowance: u64::MAX, counter: BytesRead(None), informational: None }
    }

    /// Sets the channel by which informational responses reach the caller.
    pub(crate) fn informs(&mut self, informational: Informational) {
        self.informational = Some(informational);
    }

    /// Takes the channel by which informational responses reach the caller, if there is one.
    pub fn take_informational(&mut self) -> Option<Informational> {
        self.informational.take()
    }

    /// Limits the number of bytes; of several limits the lowest applies.
    ///
    /// # Errors
    /// Fails if the announced length already exceeds the limit.
    pub fn limit(&mut self, bytes: u64) -> Result<(), BodyError> {
        self.allowance = self.allowance.min(bytes);
        if self.size_hint().lower() > self.allowance { Err(BodyError::TooLarge) } else { Ok(()) }
    }

    /// Counts the bytes from now on.
    pub fn count(&mut self) -> BytesRead {
        if !matches!(self.source, Source::Empty) && self.counter.0.is_none() {
            self.counter = BytesRead(Some(Arc::default()));
        }
        self.counter.clone()
    }

    fn poll_data(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, BodyError>>> {
        match &mut self.source {
            Source::Empty | Source::Failed => Poll::Ready(None),
            Source::Memory(bytes) => {
                let bytes = std::mem::take(bytes);
                self.source = Source::Empty;
                Poll::Ready((!bytes.is_empty()).then_some(Ok(bytes)))
            }
            Source::Http1(body) => body.poll_data(cx),
            Source::Http2(body) => body.poll_data(cx),
            Source::Foreign(body) => poll_foreign(body, cx),
        }
    }
}

/// Returns the next data of an application's body; anything else is trailers, which go no further.
fn poll_foreign(body: &mut UnsyncBoxBody<Bytes, BodyError>, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, BodyError>>> {
    while let Some(frame) = ready!(Pin::new(&mut *body).poll_frame(cx)) {
        match frame.map(Frame::into_data) {
            Ok(Ok(data)) => return Poll::Ready(Some(Ok(data))),
            Ok(Err(_)) => {}
            Err(error) => return Poll::Ready(Some(Err(error))),
        }
    }
    Poll::Ready(None)
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        // What was announced as too long is not begun: an upstream would only see it torn off.
        let announced = self.size_hint().lower();
        let result = if announced > self.allowance { Some(Err(BodyError::TooLarge)) } else { ready!(self.poll_data(cx)) };
        let result = match result {
            Some(Ok(data)) if data.len() as u64 > self.allowance => Some(Err(BodyError::TooLarge)),
            other => other,
        };
        match &result {
            Some(Ok(data)) => {
                self.allowance -= data.len() as u64;
                self.counter.add(data.len());
                // Many readers stop when they have the announced length.
                if self.is_end_stream() {
                    self.counter.ends();
                }
            }
            Some(Err(_)) => self.source = Source::Failed,
            // A failed body ends, too.
            None if matches!(self.source, Source::Failed) => {}
            None => self.counter.ends(),
        }
        Poll::Ready(result.map(|data| data.map(Frame::data)))
    }

    fn is_end_stream(&self) -> bool {
        match &self.source {
            Source::Empty | Source::Failed => true,
            Source::Memory(bytes) => bytes.is_empty(),
            Source::Http1(body) => body.is_end(),
            Source::Http2(body) => body.is_end_stream(),
            Source::Foreign(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.source {
            Source::Empty | Source::Failed => SizeHint::with_exact(0),
            Source::Memory(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Source::Http1(body) => body.size_hint(),
            Source::Http2(body) => body.size_hint(),
            Source::Foreign(body) => body.size_hint(),
        }
    }
}

impl Default for RequestBody {
    fn default() -> Self {
        Self::empty()
    }
}

impl From<Bytes> for RequestBody {
    fn from(bytes: Bytes) -> Self {
        if bytes.is_empty() { Self::empty() } else { Self::of(Source::Memory(bytes)) }
    }
}

impl fmt::Debug for RequestBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let source = match self.source {
            Source::Empty => "empty",
            Source::Memory(_) => "memory",
            Source::Http1(_) => "http/1",
            Source::Http2(_) => "http/2",
            Source::Foreign(_) => "foreign",
            Source::Failed => "failed",
        };
        f.debug_struct("RequestBody").field("source", &source).field("allowance", &self.allowance).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt;

    use super::*;

    #[tokio::test]
    async fn bytes_are_counted_after_the_body_was_given_away() {
        let mut body = RequestBody::from(Bytes::from_static(b"hello"));
        let read = body.count();

        assert_eq!(read.get(), 0);
        assert_eq!(body.collect().await.unwrap().to_bytes(), "hello");
        assert_eq!(read.get(), 5);
    }

    #[tokio::test]
    async fn a_body_longer_than_its_limit_is_refused_before_its_first_byte() {
        let mut body = RequestBody::from(Bytes::from_static(b"hello"));

        assert_eq!(body.limit(5), Ok(()));
        assert_eq!(body.limit(4), Err(BodyError::TooLarge));
        assert_eq!(body.limit(6), Err(BodyError::TooLarge));
        assert_eq!(body.collect().await.unwrap_err(), BodyError::TooLarge);
    }
}
