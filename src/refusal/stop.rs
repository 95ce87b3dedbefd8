//! The two ways in which a request ends before it is forwarded.

use bytes::Bytes;
use http::Response;

use super::Refusal;

/// The end of a request that is not forwarded.
#[derive(Debug)]
pub enum Stop {
    /// It is refused.
    Refuse(Refusal),
    /// The gateway answers by itself, with a body that is known as a whole.
    Respond(Box<Response<Bytes>>),
}

impl<E: Into<Refusal>> From<E> for Stop {
    fn from(error: E) -> Self {
        Self::Refuse(error.into())
    }
}
