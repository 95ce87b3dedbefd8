//! Failures of an attempt, and whether another attempt is allowed.

use std::{error::Error, sync::Arc, time::Duration};

use super::{error::UpstreamError, send_body::Progress, server::Server};

/// The failure of an attempt on a connection.
pub(super) enum Failure {
    /// There is no further attempt.
    Final(UpstreamError),
    /// The connection ended independently; the request may be sent on another one.
    Stale(UpstreamError),
}

impl Failure {
    pub(super) fn answer(server: &Arc<str>, what: &'static str) -> Self {
        Self::Final(UpstreamError::Answer { server: server.clone(), what })
    }

    pub(super) fn overdue(server: &Server, after: Duration) -> Self {
        Self::Final(UpstreamError::Timeout { server: server.name.clone(), after })
    }

    /// Marks a request that may be sent once more, unless the caller failed.
    pub(super) fn stale(self) -> Self {
        match self {
            Self::Final(error @ (UpstreamError::Unanswered { .. } | UpstreamError::Protocol { .. })) => Self::Stale(error),
            other => other,
        }
    }
}

/// Converts the failure of an exchange.
pub(super) fn fault_of(server: &Server, progress: Option<&Progress>, source: impl Into<Box<dyn Error + Send + Sync>>) -> Failure {
    Failure::Final(match progress.and_then(Progress::refusal) {
        Some(refusal) => UpstreamError::RequestBody(Box::new(refusal)),
        None => UpstreamError::Protocol { server: server.name.clone(), source: source.into() },
    })
}

/// Converts the failure of a connection that ended before a response began.
pub(super) fn unanswered(
    server: &Server,
    progress: Option<&Progress>,
    source: impl Into<Box<dyn Error + Send + Sync>>,
) -> Failure {
    match fault_of(server, progress, source) {
        Failure::Final(UpstreamError::Protocol { server, source }) => {
            Failure::Final(UpstreamError::Unanswered { server, source })
        }
        other => other,
    }
}

pub(super) fn unwritable(error: impl Into<Box<dyn Error + Send + Sync>>) -> Failure {
    Failure::Final(UpstreamError::Request(error.into()))
}
