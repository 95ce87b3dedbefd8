//! The gateway's own token on a request.

use std::sync::Arc;

use super::{AccessToken, TokenSlot};

/// The gateway's own token on a request, and its slot for a fresh one.
#[derive(Debug)]
pub struct OwnToken {
    /// Where the token is kept and renewed.
    pub slot: Arc<TokenSlot>,
    /// The token itself.
    pub token: Arc<AccessToken>,
    /// True if the upstream refused an earlier one.
    pub refused_before: bool,
}
