//! Events of a connection that concern no request.

use std::{borrow::Cow, net::SocketAddr, sync::Arc};

/// An event of a connection, not of a request.
#[derive(Clone, Debug)]
pub struct ConnectionEvent {
    /// The listener's name.
    pub listener: Arc<str>,
    /// The peer; IPv4-mapped addresses become IPv4. Absent if there was none yet.
    pub peer: Option<SocketAddr>,
    /// The kind of event.
    pub kind: EventKind,
    /// The circumstances, for the log.
    pub detail: Cow<'static, str>,
}

/// The kind of a connection's event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum EventKind {
    /// The system could not accept the next connection.
    AcceptFailed,
    /// There were too many connections, and none of them was idle.
    ConnectionRefused,
    /// There were too many connections of one peer.
    PeerConnectionLimit,
    /// A connection that must begin with a PROXY protocol header came from an untrusted peer.
    PeerNotTrusted,
    /// A trusted proxy's connection began with something other than a PROXY protocol header.
    ProxyHeaderInvalid,
    /// The TLS handshake failed.
    HandshakeFailed,
    /// Nothing arrived, or the PROXY protocol header or the handshake did not end, in time.
    HandshakeTimeout,
    /// The client left in the middle of a request's head.
    HeadAbandoned,
    /// The client left before its response was complete, or stopped reading it.
    ClientLeft,
    /// The client violated HTTP/2, or its connection broke.
    Http2Failed,
    /// The client sent more control frames, or aborted more streams, than an HTTP/2 client may.
    Http2Flood,
    /// The response could not be sent completely: its body failed, or contradicted its head.
    AnswerAborted,
}

impl EventKind {
    /// Returns its name in logs and metrics.
    pub const fn code(self) -> &'static str {
        match self {
            Self::AcceptFailed => "accept-failed",
            Self::ConnectionRefused => "connection-refused",
            Self::PeerConnectionLimit => "peer-connection-limit",
            Self::PeerNotTrusted => "peer-not-trusted",
            Self::ProxyHeaderInvalid => "proxy-header-invalid",
            Self::HandshakeFailed => "handshake-failed",
            Self::HandshakeTimeout => "handshake-timeout",
            Self::HeadAbandoned => "head-abandoned",
            Self::ClientLeft => "client-left",
            Self::Http2Failed => "http2-failed",
            Self::Http2Flood => "http2-flood",
            Self::AnswerAborted => "answer-aborted",
        }
    }
}
