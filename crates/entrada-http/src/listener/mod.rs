//! 1 · Listener: sockets, TLS, HTTP/1 and HTTP/2 with their limits, drain.
//!
//! # Overview
//! [`bind`] opens an address once for each worker thread, [`serve`] runs one of those sockets: it accepts, shakes hands, settles
//! the protocol (ALPN on TLS, the HTTP/2 preface on plain sockets) and turns bytes into [`Arrival`]s for a [`Service`]. The
//! service's responses are sent; failures before there is a request are [`ConnectionEvent`](crate::connection::ConnectionEvent)s. A [`Drain`] ends it all in order.
//!
//! # Reasons for our own HTTP/1 codec
//! HTTP/2 stands on the `h2` crate. HTTP/1 is ours, for these reasons:
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
mod body_error;
mod broken;
mod client_certificates;
mod config;
mod connection;
mod drain;
mod http1;
mod http2;
pub(crate) mod informational;
mod inherited;
mod interim_fields;
mod introduction;
mod opening;
mod request;
mod serve;
mod served;
mod service;
mod settings;
mod socket;
mod tls;
mod tower;

pub use self::informational::Informational;
pub use self::tower::tower;
pub use self::{
    body::{BytesRead, RequestBody},
    body_error::BodyError,
    broken::Broken,
    connection::{Connection, TlsFacts},
    request::ReceivedRequest,
    service::{Arrival, Sent, Service},
};
pub use admission::ConnectionCounts;
pub use client_certificates::load_authorities;
pub use client_certificates::{ClientCertificateMode, ClientCertificates, ClientCertificatesConfig};
pub use config::{LimitsConfig, SettingsConfig, TlsConfig};
pub use drain::{Drain, Drainer};
pub use inherited::{InheritedSocket, InheritedSockets, spread};

pub use http1::{Upgrade, UpgradeError, Upgraded, WholeRequest, read_request};
pub use http2::{StreamUpgrade, UpgradedStream, serve_http2};

pub use serve::serve;
pub use served::lint_hosts;
pub use served::{ListenerCertificateStatus, ServedCertificate};
pub use settings::{Limits, Listener, ListenerSettings};
pub use socket::bind;
pub use tls::{CertificateError, CertificateNames, ServerTls};
