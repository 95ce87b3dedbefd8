//! Validated tokens and client credentials that a request presents.

use std::sync::Arc;

use super::TokenPlace;
use crate::entra::token::{CredentialKind, Token};

/// A validated token that a policy names with `as`.
#[derive(Clone, Debug)]
pub struct NamedToken {
    /// The name.
    pub name: Arc<str>,
    /// The token.
    pub token: Arc<Token>,
    /// The place where it was found.
    pub place: TokenPlace,
}

/// The claims of a relayed request's client about itself. Entra's response tells whether they are true.
#[derive(Clone, Debug)]
pub struct Relayed {
    /// The requested tenant.
    pub tenant: Box<str>,
    /// The client's application id.
    pub client: Box<str>,
    /// The client's method of authentication.
    pub credential: CredentialKind,
    /// True once Entra has taken the client for the one that it names.
    pub proven: bool,
}
