//! A request, and the head of its response.

use std::{
    future::poll_fn,
    pin::Pin,
    task::{Context, Poll, ready},
};

use h2::{Reason, client::ResponseFuture};
use http::{HeaderMap, Method, Request, Response, StatusCode, header};
use http_body::Body;

use super::{Answer, Fault, Stream, upload::Upload};
use crate::upstream::{hygiene, interim::Relay, send_body::SendBody};

impl Stream {
    /// Sends a request and waits for the head of the response. The rest of the body is then sent independently.
    pub(in crate::upstream) async fn exchange(
        mut self,
        request: Request<()>,
        body: &mut SendBody,
        relay: &mut Relay<'_>,
    ) -> Result<Response<Answer>, Fault> {
        let bodiless = body.is_end_stream();
        let to_head = request.method() == Method::HEAD;
        let mut sender = self.connection.sender.clone();
        let (mut response, send) = sender.send_request(request, bodiless).map_err(|error| self.fault(error, None))?;
        drop(sender);
        // Until it is known to have ended well.
        self.whole = false;
        let mut upload = None;
        if !bodiless {
            self.upload = Some(send.stream_id().as_u32());
            upload = Some(Upload::new(send, self.connection.state.clone()));
        }
        let head = poll_fn(|context| {
            if let Some(upload) = &mut upload
                && let Poll::Ready(Err(_)) = upload.poll(context, body)
            {
                return Poll::Ready(Err(Fault::RequestBody));
            }
            self.poll_head(context, &mut response, relay)
        })
        .await?;
        let upload = upload.filter(|upload| !upload.is_over()).map(|upload| upload.go_on(body.take()));
        let (head, recv) = head.into_parts();
        let bare = to_head || matches!(head.status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
        let length = if bare { Some(0) } else { content_length(&head.headers) };
        Ok(Response::from_parts(head, Answer::new(recv, length, upload, self)))
    }

    fn poll_head(
        &self,
        context: &mut Context<'_>,
        response: &mut ResponseFuture,
        relay: &mut Relay<'_>,
    ) -> Poll<Result<Response<h2::RecvStream>, Fault>> {
        let stream = Some(response.stream_id().as_u32());
        while let Some(interim) = ready!(response.poll_informational(context)) {
            let interim = interim.map_err(|error| self.fault(error, stream))?;
            if interim.status() == StatusCode::SWITCHING_PROTOCOLS {
                // RFC 9113, section 8.6.
                return Poll::Ready(Err(Fault::Head("the answer changes the protocol, which HTTP/2 does not")));
            }
            let (head, ()) = interim.into_parts();
            relay.pass(head.status, head.headers).map_err(Fault::Head)?;
        }
        let head = ready!(Pin::new(response).poll(context)).map_err(|error| self.fault(error, stream))?;
        Poll::Ready(if hygiene::is_known(head.status()) { Ok(head) } else { Err(Fault::Head("there is no such status")) })
    }

    /// Converts an error on this stream, or before it had a number.
    fn fault(&self, error: h2::Error, stream: Option<u32>) -> Fault {
        let unopened = stream.is_none_or(|stream| self.connection.state.never_left(stream));
        let remote = error.is_remote();
        if self.connection.state.is_silent() {
            Fault::Silent
        } else if !error.is_go_away() && !error.is_reset() && !error.is_io() {
            Fault::Unwritable(error)
        } else if unopened || (remote && (error.is_go_away() || error.reason() == Some(Reason::REFUSED_STREAM))) {
            // RFC 9113, sections 6.8 and 8.7.
            Fault::Unprocessed(error)
        } else if error.is_library() && error.is_go_away() {
            Fault::Connection(error)
        } else if error.is_library() {
            Fault::Malformed(error)
        } else {
            Fault::Unanswered(error)
        }
    }
}

/// Returns the length that a head announces, which `h2` enforces for the body.
fn content_length(headers: &HeaderMap) -> Option<u64> {
    headers.get(header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}
