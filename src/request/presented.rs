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
    /// Where it was found.
    pub place: TokenPlace,
}

/// What the client of a relayed request says that it is. Entra's answer says whether it was.
#[derive(Clone, Debug)]
pub struct Relayed {
    /// The tenant that is asked.
    pub tenant: Box<str>,
    /// The client's application id.
    pub client: Box<str>,
    /// How the client authenticates.
    pub credential: CredentialKind,
}
