//! The body of an HTTP/2 response.

use std::task::{Context, Poll, ready};

use bytes::Bytes;
use h2::RecvStream;
use http::HeaderMap;
use http_body::{Frame, SizeHint};

use super::{Stream, upload::BackgroundUpload};
use crate::upstream::http1::{TRAILER_FIELDS, TRAILERS};

/// The reason for an incomplete response body.
#[derive(Debug, thiserror::Error)]
pub(in crate::upstream) enum AnswerError {
    #[error(transparent)]
    Stream(#[from] h2::Error),
    #[error("the trailer fields are too long")]
    Trailers,
}

/// Returns whether trailers exceed the limits of HTTP/1.
fn is_too_long(trailers: &HeaderMap) -> bool {
    // Including the colon, the space and the line end of HTTP/1.
    let bytes: usize = trailers.iter().map(|(name, value)| name.as_str().len() + value.len() + 4).sum();
    bytes > TRAILERS || trailers.len() > TRAILER_FIELDS
}

/// The body of a response. If it is dropped early, the stream is reset and its window returned.
#[derive(Debug)]
pub(in crate::upstream) struct Answer {
    recv: RecvStream,
    /// The data have ended; trailers may follow.
    data_over: bool,
    /// The number of remaining bytes, if the head announced the length.
    remaining: Option<u64>,
    /// The rest of the request.
    upload: Option<BackgroundUpload>,
    stream: Option<Stream>,
}

impl Answer {
    pub(super) fn new(recv: RecvStream, length: Option<u64>, upload: Option<BackgroundUpload>, stream: Stream) -> Self {
        let remaining = if recv.is_end_stream() { Some(0) } else { length };
        let mut answer = Self { recv, data_over: false, remaining, upload, stream: Some(stream) };
        answer.finish_at_end();
        answer
    }

    /// Returns the next part of the body. Nothing follows an error.
    pub(in crate::upstream) fn poll_frame(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, AnswerError>>> {
        while !self.data_over {
            match ready!(self.recv.poll_data(context)) {
                Some(Ok(data)) => {
                    let released = self.recv.flow_control().release_capacity(data.len());
                    self.remaining = self.remaining.map(|remaining| remaining.saturating_sub(data.len() as u64));
                    // The end comes in a frame of its own as often as not.
                    if data.is_empty() && released.is_ok() {
                        continue;
                    }
                    self.finish_at_end();
                    return Poll::Ready(Some(released.map(|()| Frame::data(data)).map_err(Into::into)));
                }
                Some(Err(error)) => return Poll::Ready(Some(Err(error.into()))),
                None => self.data_over = true,
            }
        }
        let trailers = ready!(self.recv.poll_trailers(context))?;
        self.finish();
        if trailers.as_ref().is_some_and(is_too_long) {
            return Poll::Ready(Some(Err(AnswerError::Trailers)));
        }
        Poll::Ready(trailers.map(|trailers| Ok(Frame::trailers(trailers))))
    }

    fn finish_at_end(&mut self) {
        if self.is_end_stream() {
            self.finish();
        }
    }

    /// Ends the response. The rest of an answered request is not needed.
    fn finish(&mut self) {
        let uploaded = self.upload.take().is_none_or(|upload| upload.is_over());
        if let Some(mut stream) = self.stream.take() {
            stream.whole = uploaded;
        }
    }

    pub(in crate::upstream) fn is_end_stream(&self) -> bool {
        self.recv.is_end_stream()
    }

    pub(in crate::upstream) fn size_hint(&self) -> SizeHint {
        self.remaining.map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}
