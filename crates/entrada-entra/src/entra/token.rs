//! A validated token, as policies, expressions and the audit record read it.

mod read;
mod recorded;

pub use read::inspect_payload;
pub use read::{Binding, Facts, Payload, TokenFault, Version, read_entra, read_other, read_user_flow};
pub use recorded::TokenSeen;
pub(in crate::entra) use recorded::recorded;
use serde_json::Value;

use super::footprint::{of_text, of_texts};
pub use crate::entra::members::Members;

/// A token whose signature, issuer and times are valid. Only [validation](super) makes one.
#[derive(Clone)]
pub struct Token {
    /// All claims, as signed.
    pub claims: Claims,
    /// The kind of token: a user's or an application's.
    pub kind: TokenKind,
    /// The tenant: `tid`, a GUID in lower case. Empty for issuers other than Entra that name none.
    pub tenant: Box<str>,
    /// The client application: `azp` or `appid`.
    pub client: Option<Box<str>>,
    /// `sub`.
    pub subject: Option<Box<str>>,
    /// `oid`.
    pub object_id: Option<Box<str>>,
    /// The granted scopes: the words of `scp`.
    pub scopes: Vec<Box<str>>,
    /// The granted roles.
    pub roles: Vec<Box<str>>,
    /// The client's authentication to Entra: `azpacr` or `appidacr`.
    pub credential_kind: Option<CredentialKind>,
    /// `uti` or `jti`, for the audit record.
    pub id: Option<Box<str>>,
    /// `exp`, in seconds since 1970.
    pub expires_at: u64,
    /// Its members in audit records: JSON, each with a comma before it.
    pub recorded: Box<str>,
}

impl Token {
    /// Returns the memory that the token points to.
    pub(super) fn memory(&self) -> usize {
        let texts = [Some(&self.tenant), self.client.as_ref(), self.subject.as_ref(), self.object_id.as_ref(), self.id.as_ref()];
        self.claims.0.memory()
            + texts.into_iter().flatten().map(|text| of_text(text)).sum::<usize>()
            + of_text(&self.recorded)
            + of_texts(&self.scopes, self.scopes.capacity())
            + of_texts(&self.roles, self.roles.capacity())
    }
}

impl std::fmt::Debug for Token {
    // Claims are personal data and no part of any log.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Token")
            .field("kind", &self.kind)
            .field("tenant", &self.tenant)
            .field("client", &self.client)
            .finish_non_exhaustive()
    }
}

/// The claims of a token, by name.
#[derive(Clone, Default)]
pub struct Claims(pub Members);

impl std::fmt::Debug for Claims {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Claims").field(&self.0.len()).finish()
    }
}

impl Claims {
    /// Returns the claim of this exact name. A claim that is `null` is absent.
    pub fn get(&self, name: &str) -> Option<&Value> {
        self.0.get(name).filter(|value| !value.is_null())
    }
}

/// The kind of token: a user's or an application's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenKind {
    /// A user, through a client.
    User,
    /// An application by itself.
    App,
}

impl TokenKind {
    /// `user` or `app`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::User => "user",
            Self::App => "app",
        }
    }
}

/// The client's authentication to Entra.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CredentialKind {
    /// No authentication: a public client.
    None,
    /// A client secret.
    Secret,
    /// A certificate, or a federated credential.
    Certificate,
}

impl CredentialKind {
    /// `none`, `secret` or `certificate`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Secret => "secret",
            Self::Certificate => "certificate",
        }
    }
}
