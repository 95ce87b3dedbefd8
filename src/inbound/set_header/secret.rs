//! A value with a vault's secret in it, which changes while the gateway runs.

use std::{fmt, sync::Arc};

use arc_swap::ArcSwapOption;
use http::HeaderValue;
use secrecy::{ExposeSecret as _, SecretString};

use crate::{expression::field_value, settings::LiveSecret};

/// The value, and the line last made from it.
pub(super) struct SecretLine {
    secret: LiveSecret,
    made: ArcSwapOption<(Arc<SecretString>, HeaderValue)>,
}

impl SecretLine {
    pub(super) fn new(secret: LiveSecret) -> Self {
        Self { secret, made: ArcSwapOption::empty() }
    }

    /// Returns the value at `now`, in seconds since 1970: parsed once as long as it stays the same.
    pub(super) fn value(&self, now: u64) -> Result<HeaderValue, NoSecret> {
        let text = self.secret.value(now).ok_or(NoSecret::NotThere)?;
        if let Some(made) = self.made.load_full().filter(|made| Arc::ptr_eq(&made.0, &text)) {
            return Ok(made.1.clone());
        }
        let mut value = field_value(text.expose_secret()).map_err(|_| NoSecret::Unfit)?;
        value.set_sensitive(true);
        self.made.store(Some(Arc::new((text, value.clone()))));
        Ok(value)
    }
}

impl fmt::Debug for SecretLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretLine")
    }
}

/// The reason why a vault's secret makes no value.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub(super) enum NoSecret {
    /// No vault has supplied it, or it has expired.
    #[error("a secret in it is unavailable")]
    NotThere,
    /// It contains characters that a header must not contain.
    #[error("a secret in it is empty, or has line ends, control characters or surrounding spaces")]
    Unfit,
}
