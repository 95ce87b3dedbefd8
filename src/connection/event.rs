//! Events of a connection, for which there is no request to answer.

use std::{borrow::Cow, net::SocketAddr, sync::Arc};

/// Something that happened to a connection, not to a request.
#[derive(Clone, Debug)]
pub struct ConnectionEvent {
    /// The listener's name.
    pub listener: Arc<str>,
    /// The peer; IPv4-mapped addresses are folded. Absent where there was none yet.
    pub peer: Option<SocketAddr>,
    /// What happened.
    pub kind: EventKind,
    /// The circumstances, for the log.
    pub detail: Cow<'static, str>,
}

/// What happened to a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum EventKind {
    /// The system would not give the next connection.
    AcceptFailed,
    /// There were too many connections, and none of them rested.
    ConnectionRefused,
    /// There were too many connections of one peer.
    PeerConnectionLimit,
    /// A connection that must begin with a PROXY protocol header came from somebody else than a trusted proxy.
    PeerNotTrusted,
    /// What a trusted proxy's connection began with is no PROXY protocol header.
    ProxyHeaderInvalid,
    /// The TLS handshake failed.
    HandshakeFailed,
    /// Nothing came, or the PROXY protocol header or the handshake did not end, in time.
    HandshakeTimeout,
    /// The client left in the middle of a request's head.
    HeadAbandoned,
    /// The client left before its request was answered to the end, or stopped taking the answer.
    ClientLeft,
    /// The client broke HTTP/2, or its connection broke.
    Http2Failed,
    /// The client sent more control frames, or began more streams in vain, than a client over HTTP/2 may.
    Http2Flood,
    /// The answer could not be sent whole: its body failed, or contradicted its head.
    AnswerAborted,
}

impl EventKind {
    /// The word for it in logs and metrics.
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
