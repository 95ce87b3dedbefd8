//! The gateway's own token on a request.

use std::sync::Arc;

use super::{AccessToken, TokenSlot};

/// The gateway's own token on a request, and its slot for a fresh one.
#[derive(Debug)]
pub struct OwnToken {
    pub(crate) slot: Arc<TokenSlot>,
    pub(crate) token: Arc<AccessToken>,
    /// True if the upstream refused an earlier one.
    pub(crate) refused_before: bool,
}
