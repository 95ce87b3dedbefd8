//! The service that answers requests, and its arrivals.

use std::{
    error::Error,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use bytes::Bytes;

use super::{body::RequestBody, broken::Broken, connection::Connection, request::ReceivedRequest};
use crate::{base::response::Response, connection::ConnectionEvent};

/// An arrival on a connection.
#[derive(Debug)]
pub enum Arrival {
    /// A request with valid framing. Its target is byte for byte the client's.
    ///
    /// If the client asks for another protocol, the extensions hold an [`Upgrade`](super::Upgrade); if it asks for a WebSocket over HTTP/2,
    /// a [`StreamUpgrade`](super::StreamUpgrade), and the request is a GET.
    Request(Box<ReceivedRequest<RequestBody>>),
    /// A head that is not a request. The service's response is sent, and the connection closed.
    Broken(Broken),
}

/// How much of a response was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sent {
    /// All of it: the operating system has its last byte.
    Whole,
    /// The head, and a part of the body.
    Part {
        /// The number of bytes that were read from the body and not sent.
        unsent: u64,
    },
    /// Nothing, not even the head.
    Nothing,
}

/// The service that answers requests.
///
/// This is `tower::Service` without `poll_ready`, for a shared receiver: a listener is always ready, sheds load by answering, and
/// its calls borrow their context instead of cloning it for each request.
pub trait Service: Clone + Send + Sync + 'static {
    /// The body of a response. An error in it resets the connection or the stream, so that a truncated body never looks complete.
    type Body: http_body::Body<Data = Bytes, Error: Into<Box<dyn Error + Send + Sync>>> + Send + Unpin + 'static;

    /// Answers an arrival. Dropped when the client is known to have left.
    fn call(&self, arrival: Arrival, connection: &Arc<Connection>) -> impl Future<Output = Response<Self::Body>> + Send;

    /// Returns whether some request of a connection could open a WebSocket, so that clients of HTTP/2 are told that they may ask.
    fn opens_websockets(&self, _connection: &Connection) -> bool {
        false
    }

    /// Returns `Ready` when a body has to end now, for a body that is not polled because the client has not read the earlier
    /// data.
    fn poll_overdue(_body: Pin<&mut Self::Body>, _cx: &mut Context<'_>) -> Poll<()> {
        Poll::Pending
    }

    /// Records how much of a response was sent, when no more of it will be. A body that was read to its end may still wait for a
    /// client that reads nothing. Called once for each response, unless the connection's task is dropped.
    fn sent(_body: Pin<&mut Self::Body>, _sent: Sent) {}

    /// Records an event without a request.
    fn event(&self, event: ConnectionEvent);
}
