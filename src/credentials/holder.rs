//! A certificate, and what signs in its name: a key that is here, or one that stays in a vault.

use std::sync::Arc;

use super::{
    AssertionAlgorithm, assertion,
    error::Failure,
    key_vault::{Vault, VaultCertificate},
};
use crate::certificate::keys::{Certificate, KeyedCertificate};

/// A certificate that can sign. Header and signature of what it signs always belong together.
#[derive(Debug)]
pub(crate) enum Holder {
    /// The private key is here.
    Here(KeyedCertificate),
    /// The private key is here, and came from this version in a vault.
    Downloaded(KeyedCertificate, Option<Box<str>>),
    /// The private key stays in the vault. Its URL has the version that belongs to the certificate.
    InVault(VaultCertificate, Arc<Vault>),
}

impl Holder {
    /// The certificate.
    pub(crate) const fn certificate(&self) -> &Certificate {
        match self {
            Self::Here(pair) | Self::Downloaded(pair, _) => pair.certificate(),
            Self::InVault(kept, _) => &kept.certificate,
        }
    }

    /// The version of the vault that it came from.
    pub(crate) fn version(&self) -> Option<&str> {
        match self {
            Self::Here(_) => None,
            Self::Downloaded(_, version) => version.as_deref(),
            Self::InVault(kept, _) => kept.key.path().rsplit('/').next(),
        }
    }

    /// Whether each signature is a call over the network.
    pub(crate) const fn is_far(&self) -> bool {
        matches!(self, Self::InVault(..))
    }

    /// Signs.
    pub(crate) async fn sign(&self, algorithm: AssertionAlgorithm, text: &[u8]) -> Result<Vec<u8>, Failure> {
        match self {
            Self::Here(pair) | Self::Downloaded(pair, _) => assertion::sign(pair.key(), algorithm, text),
            Self::InVault(kept, vault) => Ok(vault.sign(&kept.key, &kept.certificate, algorithm, text).await?),
        }
    }
}
