//! Heads that are not requests.

use crate::refusal::{Reason, Refusal};

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
