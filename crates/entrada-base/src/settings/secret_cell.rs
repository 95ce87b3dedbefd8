//! Secrets of a vault: unknown when the config is read, they arrive and change while the gateway runs.

use std::{fmt, sync::Arc};

use arc_swap::ArcSwapOption;
use schemars::JsonSchema;
use secrecy::SecretString;
use serde::Deserialize;

/// A secret in a Key Vault.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Eq)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct KeyVaultSecretConfig {
    /// The vault: `https://contoso.vault.azure.net`.
    pub vault: String,
    /// The secret's name.
    pub secret: String,
    /// The pinned version. Default: the latest enabled one; later versions are picked up automatically.
    pub version: Option<String>,
    /// The credential that opens the vault: one with a managed identity, a workload identity or a certificate.
    pub identity: String,
    /// Makes `/readyz` wait for its value, and not only for the first attempt to read it. Default: false.
    #[serde(default)]
    pub required: bool,
}

/// A named value that a vault holds: empty until it is read there, and again once it is withdrawn.
pub struct SecretCell {
    name: Box<str>,
    config: KeyVaultSecretConfig,
    current: ArcSwapOption<CurrentSecret>,
}

/// A secret as last read from its vault.
pub struct CurrentSecret {
    /// Its value.
    pub value: Arc<SecretString>,
    /// Its version in the vault.
    pub version: Option<Box<str>>,
    /// Its expiry, in seconds since 1970.
    pub expires_at: Option<u64>,
}

impl SecretCell {
    /// Makes a secret that was not read yet.
    pub fn new(name: &str, config: KeyVaultSecretConfig) -> Self {
        Self { name: name.into(), config, current: ArcSwapOption::empty() }
    }

    /// Returns the name of the named value.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns its settings.
    pub const fn config(&self) -> &KeyVaultSecretConfig {
        &self.config
    }

    /// Returns the secret that was read last, even if it has expired.
    pub fn current(&self) -> Option<Arc<CurrentSecret>> {
        self.current.load_full()
    }

    /// Returns its value at `now`, in seconds since 1970; `None` while it is unknown, or has expired.
    pub fn value(&self, now: u64) -> Option<Arc<SecretString>> {
        let current = self.current()?;
        current.expires_at.is_none_or(|end| now < end).then(|| current.value.clone())
    }

    /// Replaces the secret, or removes it.
    pub fn set(&self, current: Option<CurrentSecret>) {
        self.current.store(current.map(Arc::new));
    }
}

impl fmt::Debug for SecretCell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SecretCell").field("name", &self.name).finish_non_exhaustive()
    }
}

impl fmt::Debug for CurrentSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CurrentSecret").field("version", &self.version).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use secrecy::ExposeSecret as _;

    use super::*;

    #[test]
    fn a_cell_gives_its_secret_until_the_end_and_shows_it_to_nobody() {
        let config = KeyVaultSecretConfig {
            vault: "https://contoso.vault.azure.net".to_owned(),
            secret: "key".to_owned(),
            version: None,
            identity: "gateway".to_owned(),
            required: false,
        };
        let cell = SecretCell::new("partner-key", config);
        assert!(cell.value(0).is_none());

        cell.set(Some(CurrentSecret { value: Arc::new("hunter2".into()), version: None, expires_at: Some(10) }));
        assert_eq!(cell.value(9).expect("it is there").expose_secret(), "hunter2");
        assert!(cell.value(10).is_none());
        assert!(!format!("{cell:?} {:?}", cell.current()).contains("hunter2"));

        cell.set(None);
        assert!(cell.value(9).is_none());
    }
}
