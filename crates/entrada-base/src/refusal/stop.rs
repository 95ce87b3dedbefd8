//! The two ways in which a request ends before it is forwarded.

use bytes::Bytes;

use super::Refusal;
use crate::response::Response;

/// The end of a request that is not forwarded.
#[derive(Debug)]
pub enum Stop {
    /// The request is refused.
    Refuse(Refusal),
    /// The gateway answers itself, with a complete body.
    Respond(Box<Response<Bytes>>),
}

impl<E: Into<Refusal>> From<E> for Stop {
    fn from(error: E) -> Self {
        Self::Refuse(error.into())
    }
}
