//! The gateway's own token on a request.

use std::sync::Arc;

use super::{AccessToken, TokenSlot};

/// The token of the gateway's own that a request bears, and where a fresh one comes from.
#[derive(Debug)]
pub struct OwnToken {
    pub(crate) slot: Arc<TokenSlot>,
    pub(crate) token: Arc<AccessToken>,
    /// Whether the upstream refused one before this.
    pub(crate) refused_before: bool,
}
