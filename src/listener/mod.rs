//! 1 · Listener: sockets, TLS, HTTP/1 and HTTP/2 with their limits, drain.
//!
//! # Overview
//! [`bind`] opens an address once for each worker thread, [`serve`] runs one of those sockets: it accepts, shakes hands, settles
//! the protocol (ALPN on TLS, the HTTP/2 preface on plain sockets) and turns bytes into [`Arrival`]s for a [`Service`]. The
//! service's responses are sent; failures before there is a request are [`ConnectionEvent`]s. A [`Drain`] ends it all in order.
//!
//! # Reasons for our own HTTP/1 codec
//! HTTP/2 stands on the `h2` crate. HTTP/1 is ours, on `httparse`, for these reasons:
//!
//! - **Strictness without a second parser.** hyper accepts faults that a service then cannot see: bare LF, `Content-Length`
//!   beside
//!   `Transfer-Encoding` (one is dropped), lengths in other spellings (merged), a `#fragment` (cut). A proxy in front that reads those
//!   bytes another way lets a second request pass its checks. A guard before hyper would have to follow message boundaries
//!   exactly as hyper does; that is a parser too, and one that must agree with another.
//! - **Answers for broken heads.** The service answers them like any refusal, with a code, a request id and an audit record.
//! - **The client sees the answer.** A refusal that comes before the end of a large body is followed by a bounded drain.
//! - **Speed and idle memory.** An idle connection holds no buffer, and a request costs no timer.
//!
//! Bytes that the codec accepts, hyper must read as the same request: a test compares the two on mutated requests, and so does a
//! fuzz target. Forms that it accepts beyond hyper are compared in their canonical form.
//!
//! # Threads
//! Each worker is a `current_thread` runtime with its own socket, so that a connection's life is spent on one core. Services are
//! `Send` nevertheless, and nothing here relies on the layout: one runtime of many threads works as well.

mod admission;
pub mod body;
mod client_certificates;
mod config;
mod drain;
mod http1;
mod http2;
pub(crate) mod informational;
mod introduction;
mod serve;
mod served;
mod settings;
mod socket;
mod tls;
mod tower;

pub use self::body::{BodyError, BytesRead, RequestBody};
pub use self::informational::Informational;
use std::{
    error::Error,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

pub use admission::ConnectionCounts;
use bytes::Bytes;
pub(crate) use client_certificates::load_authorities;
pub use client_certificates::{ClientCertificateMode, ClientCertificates, ClientCertificatesConfig};
pub use config::{ForwardedHeader, LimitsConfig, ListenerConfig, OneOrMany, TlsConfig};
pub use drain::{Drain, Drainer};
use http::{Request, Response};
pub(crate) use http1::{Http1Body, Http1Informational};
pub use http1::{Upgrade, UpgradeError, Upgraded, WholeRequest, read_request};
pub use http2::serve_http2;
pub(crate) use http2::{Http2Body, Http2Informational};
pub use serve::serve;
pub(crate) use served::lint_hosts;
pub use served::{ListenerCertificateStatus, ServedCertificate};
pub use settings::{Limits, Listener, ListenerSettings};
pub use socket::bind;
pub use tls::{CertificateError, CertificateNames, ServerTls};

pub(crate) use self::tower::tower;
use crate::{
    connection::ConnectionEvent,
    exchange::Connection,
    refusal::{Reason, Refusal},
};

/// An arrival on a connection.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "nearly every arrival is a request, and is moved once")]
pub enum Arrival {
    /// A request with valid framing. Its target is byte for byte the client's.
    ///
    /// If the client asks for another protocol, the extensions hold an [`Upgrade`].
    Request(Request<RequestBody>),
    /// A head that is not a request. The service's response is sent, and the connection closed.
    Broken(Broken),
}

/// The reason why a head is not a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Broken {
    /// The reason for the caller.
    pub reason: Reason,
    /// The fault, for the audit record.
    pub detail: &'static str,
}

impl Broken {
    /// Makes a fault with this reason.
    pub const fn new(reason: Reason, detail: &'static str) -> Self {
        Self { reason, detail }
    }
}

impl From<Broken> for Refusal {
    fn from(broken: Broken) -> Self {
        Self::new(broken.reason, broken.detail)
    }
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

    /// Returns `Ready` when a body has to end now, for a body that is not polled because the client has not read the earlier
    /// data.
    fn poll_overdue(_body: Pin<&mut Self::Body>, _cx: &mut Context<'_>) -> Poll<()> {
        Poll::Pending
    }

    /// Records an event without a request.
    fn event(&self, event: ConnectionEvent);
}
