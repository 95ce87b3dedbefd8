//! The signing keys of runs without a network.

use std::sync::{Arc, OnceLock};

use serde_json::json;

use crate::{base::clock::Clock, dev_tenant::SigningKey, entra::Tenants};

/// The keys that tokens are verified with.
#[derive(Clone, Debug)]
pub enum OfflineKeys {
    /// The [development key](development_key), which signs tokens here: in every key set, also where the config holds keys.
    Development,
    /// A JSON Web Key Set, in every key set whose keys the config does not hold.
    Jwks(Vec<u8>),
    /// Those that the key sets have: of a running gateway, or of the config itself.
    AsTheyAre,
}

/// The reason why keys cannot be used.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub struct KeysFault(Box<dyn std::error::Error + Send + Sync>);

impl KeysFault {
    pub(super) fn other(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Self(error.into())
    }
}

/// Returns the key that signs tokens for runs without a network, one for the process.
///
/// # Panics
/// Panics if the cryptographic library cannot make an RSA key.
pub fn development_key() -> &'static Arc<SigningKey> {
    static KEY: OnceLock<Arc<SigningKey>> = OnceLock::new();
    KEY.get_or_init(|| Arc::new(SigningKey::generate().expect("an RSA key can be made")))
}

impl OfflineKeys {
    /// Puts the keys into the key sets of a config.
    pub(crate) fn put(&self, tenants: &Tenants, clock: &Clock) -> Result<(), KeysFault> {
        match self {
            Self::Development => {
                // Entra's sets name the issuer of each key, and for several tenants they must.
                let own = |issuer: &str| json!({ "keys": [development_key().jwk(Some(issuer))] }).to_string().into_bytes();
                tenants.assume(true, clock, own).map_err(KeysFault)
            }
            Self::Jwks(jwks) => tenants.assume(false, clock, |_| jwks.clone()).map_err(KeysFault),
            Self::AsTheyAre => Ok(()),
        }
    }
}
