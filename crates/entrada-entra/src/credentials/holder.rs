//! A certificate with its signer: a local key, or one that stays in a vault.

use std::sync::Arc;

use super::{
    AssertionAlgorithm, assertion,
    error::Failure,
    key_vault::{Vault, VaultCertificate},
};
use crate::certificate::keys::{Certificate, KeyedCertificate};

/// A certificate that can sign. Header and signature of its assertions always belong together.
#[derive(Debug)]
pub(crate) enum Holder {
    /// A local private key.
    Here(KeyedCertificate),
    /// A private key that was downloaded from this version in a vault.
    Downloaded(KeyedCertificate, Option<Box<str>>),
    /// A private key that stays in the vault. Its URL contains the version that belongs to the certificate.
    InVault(VaultCertificate, Arc<Vault>),
}

impl Holder {
    /// Returns the certificate.
    pub(crate) const fn certificate(&self) -> &Certificate {
        match self {
            Self::Here(pair) | Self::Downloaded(pair, _) => pair.certificate(),
            Self::InVault(kept, _) => &kept.certificate,
        }
    }

    /// Returns its version in the vault.
    pub(crate) fn version(&self) -> Option<&str> {
        match self {
            Self::Here(_) => None,
            Self::Downloaded(_, version) => version.as_deref(),
            Self::InVault(kept, _) => kept.key.path().rsplit('/').next(),
        }
    }

    /// Returns whether the key signs in a vault that can hand it out all the same.
    pub(crate) const fn is_exportable(&self) -> bool {
        matches!(self, Self::InVault(VaultCertificate { exportable: Some(true), .. }, _))
    }

    /// Returns whether each signature is a call over the network.
    pub(crate) const fn is_far(&self) -> bool {
        matches!(self, Self::InVault(..))
    }

    /// Signs the text.
    pub(crate) async fn sign(&self, algorithm: AssertionAlgorithm, text: &[u8]) -> Result<Vec<u8>, Failure> {
        match self {
            Self::Here(pair) | Self::Downloaded(pair, _) => assertion::sign(pair.key(), algorithm, text),
            Self::InVault(kept, vault) => Ok(vault.sign(&kept.key, &kept.certificate, algorithm, text).await?),
        }
    }
}
