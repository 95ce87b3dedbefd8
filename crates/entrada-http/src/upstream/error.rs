//! The reason why an upstream gave no response.

use std::{error::Error, io, sync::Arc, time::Duration};

use crate::refusal::{Reason, Refusal};

/// The reason why an upstream gave no response, or broke off in the middle of one.
#[derive(Debug, thiserror::Error)]
pub enum UpstreamError {
    /// No connection could be made.
    #[error("no connection to {server}")]
    Connect {
        /// The server's host and port.
        server: Arc<str>,
        /// The error of the network or TLS.
        #[source]
        source: io::Error,
    },
    /// No connection was made in time.
    #[error("no connection to {server} within {after:?}")]
    ConnectTimeout {
        /// The server's host and port.
        server: Arc<str>,
        /// The deadline.
        after: Duration,
    },
    /// The server did not answer in time.
    #[error("no answer from {server} within {after:?}")]
    Timeout {
        /// The server's host and port.
        server: Arc<str>,
        /// The deadline.
        after: Duration,
    },
    /// The connection ended before a response began.
    #[error("no answer from {server}")]
    Unanswered {
        /// The server's host and port.
        server: Arc<str>,
        /// The cause.
        #[source]
        source: Box<dyn Error + Send + Sync>,
    },
    /// The server violated the protocol.
    #[error("no valid answer from {server}")]
    Protocol {
        /// The server's host and port.
        server: Arc<str>,
        /// The violation.
        #[source]
        source: Box<dyn Error + Send + Sync>,
    },
    /// The head of the response must not be forwarded.
    #[error("the answer of {server} {what}")]
    Answer {
        /// The server's host and port.
        server: Arc<str>,
        /// The fault of the head.
        what: &'static str,
    },
    /// The response body ended early.
    #[error("the answer of {server} broke off")]
    BrokenOff {
        /// The server's host and port.
        server: Arc<str>,
        /// The cause.
        #[source]
        source: Box<dyn Error + Send + Sync>,
    },
    /// The caller's body broke off, or was refused.
    #[error("the request body broke off")]
    RequestBody(Box<Refusal>),
    /// The policies' request cannot be sent.
    #[error("the request for the upstream cannot be written")]
    Request(#[source] Box<dyn Error + Send + Sync>),
    /// Every server is out of service.
    #[error("every server of {upstream} is out of service")]
    NoServer {
        /// The upstream's name.
        upstream: Arc<str>,
    },
}

impl UpstreamError {
    /// Returns the failed server, if one was chosen.
    pub const fn server(&self) -> Option<&Arc<str>> {
        match self {
            Self::Connect { server, .. }
            | Self::ConnectTimeout { server, .. }
            | Self::Timeout { server, .. }
            | Self::Unanswered { server, .. }
            | Self::Protocol { server, .. }
            | Self::Answer { server, .. }
            | Self::BrokenOff { server, .. } => Some(server),
            Self::RequestBody(_) | Self::Request(_) | Self::NoServer { .. } => None,
        }
    }

    /// Returns whether the request certainly never reached the server, so that another one may receive it.
    pub(crate) const fn is_connect_failure(&self) -> bool {
        matches!(self, Self::Connect { .. } | Self::ConnectTimeout { .. })
    }
}

impl From<UpstreamError> for Refusal {
    fn from(error: UpstreamError) -> Self {
        let reason = match error {
            // The caller's fault, and already judged where the body is read.
            UpstreamError::RequestBody(refusal) => return *refusal,
            UpstreamError::Connect { .. } | UpstreamError::ConnectTimeout { .. } => Reason::UpstreamUnreachable,
            UpstreamError::Timeout { .. } => Reason::UpstreamTimeout,
            UpstreamError::Unanswered { .. }
            | UpstreamError::Protocol { .. }
            | UpstreamError::Answer { .. }
            | UpstreamError::BrokenOff { .. } => Reason::UpstreamProtocolError,
            UpstreamError::Request(_) => Reason::InternalError,
            UpstreamError::NoServer { .. } => Reason::NoHealthyUpstream,
        };
        Self::new(reason, error)
    }
}
