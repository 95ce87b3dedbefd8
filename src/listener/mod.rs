//! 1 · Listener: sockets, TLS, HTTP/1 and HTTP/2 with their limits, drain.
//!
//! # What it does
//! [`bind`] opens an address once for each worker thread, [`serve`] runs one of those sockets: it accepts, shakes hands, settles
//! the protocol (ALPN on TLS, the HTTP/2 preface on plain sockets) and turns bytes into [`Arrival`]s for a [`Service`]. What the
//! service answers goes out; what fails before there is a request is a [`ConnectionEvent`]. A [`Drain`] ends it all in order.
//!
//! # Why HTTP/1 is spoken by a codec of our own
//! HTTP/2 stands on the `h2` crate. HTTP/1 is ours, on `httparse`, for these reasons:
//!
//! - **Strictness without a second parser.** hyper forgives what a service then cannot see: bare LF, `Content-Length` beside
//!   `Transfer-Encoding` (one is dropped), lengths that are written otherwise (merged), a `#fragment` (cut). A proxy in front that reads those
//!   bytes another way lets a second request through its trust. A guard before hyper would have to follow message boundaries
//!   exactly as hyper does; that is a parser too, and one that must agree with another.
//! - **Answers for broken heads.** The service answers them like any refusal, with a code, a request id and an audit record.
//! - **The client sees the answer.** A refusal that comes before the end of a large body is followed by a bounded drain.
//! - **Speed and idle memory.** An idle connection holds no buffer, and a request costs no timer.
//!
//! What the codec takes, hyper must take for the same request: a test compares the two on mutated ones, and so does a fuzz target.
//! What it takes beyond hyper is compared in the one form in which it goes on.
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

/// What arrives on a connection.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "nearly every arrival is a request, and is moved once")]
pub enum Arrival {
    /// A request whose framing is sound. Its target is what the client sent, byte for byte.
    ///
    /// Where the client asks for another protocol, the extensions hold an [`Upgrade`].
    Request(Request<RequestBody>),
    /// A head that is no request. The service's answer is sent, and the connection closed.
    Broken(Broken),
}

/// Why a head is no request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Broken {
    /// What the caller is told.
    pub reason: Reason,
    /// What is wrong, for the audit record.
    pub detail: &'static str,
}

impl Broken {
    /// Broken for that reason.
    pub const fn new(reason: Reason, detail: &'static str) -> Self {
        Self { reason, detail }
    }
}

impl From<Broken> for Refusal {
    fn from(broken: Broken) -> Self {
        Self::new(broken.reason, broken.detail)
    }
}

/// What answers.
///
/// This is `tower::Service` without `poll_ready`, for a shared receiver: a listener that is always ready, whose load is shed
/// by answering, and whose calls borrow what they need instead of cloning it for each request.
pub trait Service: Clone + Send + Sync + 'static {
    /// The body of an answer. An error in it resets the connection or the stream: a torn body never looks whole.
    type Body: http_body::Body<Data = Bytes, Error: Into<Box<dyn Error + Send + Sync>>> + Send + 'static;

    /// Answers. Dropped when the client is known to have left.
    fn call(&self, arrival: Arrival, connection: &Arc<Connection>) -> impl Future<Output = Response<Self::Body>> + Send;

    /// Ready when a body has to end now. For a body that is not asked for more, since the client has not taken what it gave.
    fn poll_overdue(_body: Pin<&mut Self::Body>, _cx: &mut Context<'_>) -> Poll<()> {
        Poll::Pending
    }

    /// Takes note of what happened where there was no request to answer.
    fn event(&self, event: ConnectionEvent);
}
