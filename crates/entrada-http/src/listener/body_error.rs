//! Errors of a request's body.

use http::StatusCode;

use crate::refusal::{Reason, Refusal};

/// The reason why the body of a request was not received completely.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BodyError {
    /// It is longer than allowed.
    #[error("the request body is longer than allowed")]
    TooLarge,
    /// Its end is undefined. RFC 9112, section 7.1.
    #[error("the framing of the request body is broken: {0}")]
    Framing(&'static str),
    /// It did not arrive in time.
    #[error("the request body arrived too slowly")]
    Timeout,
    /// The client has left.
    #[error("the client left before the end of the request body")]
    Disconnected,
    /// The request was answered completely, so that the rest is not needed.
    #[error("the request was answered before the end of its body")]
    Answered,
}

impl BodyError {
    /// Returns the reason for the caller; `None` if the caller has left.
    pub const fn reason(self) -> Option<Reason> {
        match self {
            Self::TooLarge => Some(Reason::BodyTooLarge),
            Self::Framing(_) => Some(Reason::RequestFramingInvalid),
            Self::Timeout => Some(Reason::RequestTimeout),
            Self::Disconnected | Self::Answered => None,
        }
    }
}

impl From<BodyError> for Refusal {
    fn from(error: BodyError) -> Self {
        match error.reason() {
            Some(reason) => Self::new(reason, error),
            // A client that has only closed its sending side can still read the response.
            None => {
                let mut refusal = Self::new(Reason::ClientLeft, error);
                refusal.status = Some(StatusCode::BAD_REQUEST);
                refusal
            }
        }
    }
}
