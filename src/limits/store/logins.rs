//! The gateway's login at the store: a password, or a token of Entra in place of one.

use std::{fmt, sync::Arc};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde::Deserialize;

use crate::{
    base::clock::Clock,
    credentials::TokenSlot,
    redis::{Login, Logins},
    settings::LiveSecret,
};

/// The scope of tokens for Azure's managed services.
pub(super) const SCOPE: &str = "https://redis.azure.com/.default";

/// The source of the gateway's login.
#[derive(Clone)]
pub(super) enum LoginSource {
    /// The server asks for none.
    None,
    /// A password, which may be a secret of a vault.
    Password { user: Option<Box<str>>, password: LiveSecret, clock: Clock },
    /// An access token. Its user is the object id of the identity, unless the config names another.
    Token { user: Option<Box<str>>, slot: Arc<TokenSlot> },
}

impl LoginSource {
    /// Returns whether both give the same logins.
    pub(super) fn same_as(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::None, Self::None) => true,
            (Self::Password { user, password, .. }, Self::Password { user: others, password: another, .. }) => {
                user == others && password.same_as(another)
            }
            (Self::Token { user, slot }, Self::Token { user: others, slot: another }) => {
                user == others && Arc::ptr_eq(slot, another)
            }
            (Self::None | Self::Password { .. } | Self::Token { .. }, _) => false,
        }
    }
}

impl Logins for LoginSource {
    fn current(&self) -> Result<Option<Login>, Box<str>> {
        match self {
            Self::None => Ok(None),
            Self::Password { user, password, clock } => {
                let password = password.value(clock.unix_seconds()).ok_or("the vault has not told the password yet")?;
                Ok(Some(Login { user: user.clone(), password }))
            }
            Self::Token { user, slot } => {
                let token = slot.cached().ok_or_else(|| {
                    // Whoever waits for it is the connection that tries again; the fetch is shared.
                    let waited = slot.clone();
                    tokio::spawn(async move { waited.token().await.map(drop) });
                    format!("the credential `{}` has no token yet", slot.credential())
                })?;
                let user = user.clone().or_else(|| object_id(token.expose()));
                let user = user.ok_or("the token has no `oid`, which is the user's name; write `username`")?;
                Ok(Some(Login { user: Some(user), password: Arc::new(token.expose().into()) }))
            }
        }
    }
}

impl fmt::Debug for LoginSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::None => "None",
            Self::Password { .. } => "Password",
            Self::Token { .. } => "Token",
        })
    }
}

/// Returns the object id of the identity that a token was issued to. It is the gateway's own token, from Entra itself.
fn object_id(token: &str) -> Option<Box<str>> {
    #[derive(Deserialize)]
    struct Claims {
        oid: Option<Box<str>>,
    }
    let payload = URL_SAFE_NO_PAD.decode(token.split('.').nth(1)?).ok()?;
    serde_json::from_slice::<Claims>(&payload).ok()?.oid
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_user_of_a_token_is_its_object_id() {
        let token = |claims: &str| format!("e30.{}.c2ln", URL_SAFE_NO_PAD.encode(claims));

        let oid = "aaaaaaaa-1111-2222-3333-bbbbbbbbbbbb";
        assert_eq!(object_id(&token(&format!("{{\"oid\":\"{oid}\",\"exp\":1}}"))).as_deref(), Some(oid));
        for none in [token("{}"), token("[]"), "opaque".to_owned(), "a.b.c".to_owned()] {
            assert_eq!(object_id(&none), None, "{none}");
        }
    }
}
