//! A user name and a password of the gateway's own: RFC 7617.

use std::{fmt, sync::Arc};

use arc_swap::ArcSwapOption;
use base64::{Engine as _, engine::general_purpose::STANDARD};
use http::HeaderValue;
use secrecy::{ExposeSecret as _, SecretString};
use zeroize::Zeroizing;

use super::config::BasicCredentialConfig;
use crate::{
    refusal::{Reason, Refusal},
    settings::{Faults, Lint, LiveSecret, Place, Secrets},
};

/// A user name, and a password that may change while the gateway runs.
pub(super) struct Basic {
    username: Box<str>,
    password: LiveSecret,
    made: ArcSwapOption<(Arc<SecretString>, HeaderValue)>,
}

impl fmt::Debug for Basic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Basic")
    }
}

impl Basic {
    /// Reads the settings, or reports their faults.
    pub(super) fn build(config: &BasicCredentialConfig, secrets: &Secrets, place: &Place, faults: &mut Faults) -> Option<Self> {
        let before = faults.errors();
        let username = config.username.as_str();
        if username.contains(':') || username.chars().any(char::is_control) {
            // RFC 7617, section 2: the first colon ends it.
            faults.error(&place.key("username"), "a user name has no colon and no control character", "leave it out");
        }
        let password = match config.password.live(secrets) {
            Ok(password) => Some(password),
            Err(error) => {
                faults.error(&place.key("password"), error.to_string(), error.cure());
                None
            }
        };
        if !config.password.names_secret() {
            faults.warning(
                Lint::ClientSecretInConfig,
                &place.key("password"),
                "the password is written in the config",
                "take it from a secret: \"{{name}}\" of a `file` or `key-vault`",
            );
        }
        if password
            .as_ref()
            .is_some_and(|password| password.in_vaults().next().is_none() && value(username, password.value(0)).is_err())
        {
            faults.error(&place.key("password"), "the password is empty, or has control characters", "write it on one line");
        }
        (faults.errors() == before).then_some(())?;
        Some(Self { username: username.into(), password: password?, made: ArcSwapOption::empty() })
    }

    /// Returns the field's value at `now`, in seconds since 1970: made once as long as the password stays the same.
    pub(super) fn value(&self, now: u64) -> Result<HeaderValue, NoPassword> {
        let password = self.password.value(now).ok_or(NoPassword::NotThere)?;
        if let Some(made) = self.made.load_full().filter(|made| Arc::ptr_eq(&made.0, &password)) {
            return Ok(made.1.clone());
        }
        let made = value(&self.username, Some(password.clone()))?;
        self.made.store(Some(Arc::new((password, made.clone()))));
        Ok(made)
    }
}

fn value(username: &str, password: Option<Arc<SecretString>>) -> Result<HeaderValue, NoPassword> {
    let password = password.ok_or(NoPassword::NotThere)?;
    let password = password.expose_secret();
    if password.is_empty() || password.chars().any(char::is_control) {
        return Err(NoPassword::Unfit);
    }
    let pair = Zeroizing::new(format!("{username}:{password}"));
    let text = Zeroizing::new(format!("Basic {}", STANDARD.encode(&*pair)));
    let mut value = HeaderValue::from_str(&text).map_err(|_| NoPassword::Unfit)?;
    value.set_sensitive(true);
    Ok(value)
}

/// The reason why there is no password to send.
#[derive(Debug, thiserror::Error)]
pub(super) enum NoPassword {
    #[error("the password for the upstream is unavailable")]
    NotThere,
    #[error("the password for the upstream is empty, or has control characters")]
    Unfit,
}

impl From<NoPassword> for Refusal {
    fn from(error: NoPassword) -> Self {
        Self::new(Reason::CredentialUnavailable, error).with_hint("`vault_secrets` of the console says what the vault answered")
    }
}

/// An error: the upstream answered 401 to the gateway's own password.
#[derive(Debug, thiserror::Error)]
#[error("the upstream refused the user name and password of `authorization: basic`")]
pub(super) struct PasswordRefused;

impl From<PasswordRefused> for Refusal {
    fn from(error: PasswordRefused) -> Self {
        Self::new(Reason::UpstreamRefusedCredential, error)
            .with_hint("see `username` and `password` of the route's `authorization`")
    }
}
