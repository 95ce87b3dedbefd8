//! A certificate with its signer: a local key, with or without its certificate, or one that stays in a vault.

use std::sync::Arc;

use super::{
    AssertionAlgorithm, AssertionConfig, assertion,
    error::Failure,
    key_vault::{Vault, VaultCertificate},
};
use crate::certificate::keys::{Certificate, KeyedCertificate, ThumbprintedKey, ValidityState};

/// A certificate that can sign. Header and signature of its assertions always belong together.
#[derive(Debug)]
pub(crate) enum SigningCertificate {
    /// A local private key.
    Here(KeyedCertificate),
    /// A local private key whose certificate is elsewhere.
    KeyOnly(ThumbprintedKey),
    /// A private key that was downloaded from this version in a vault.
    Downloaded(KeyedCertificate, Option<Box<str>>),
    /// A private key that stays in the vault. Its URL contains the version that belongs to the certificate.
    InVault(VaultCertificate, Arc<Vault>),
}

impl SigningCertificate {
    /// Returns the certificate, if it is known.
    pub(crate) const fn certificate(&self) -> Option<&Certificate> {
        match self {
            Self::Here(pair) | Self::Downloaded(pair, _) => Some(pair.certificate()),
            Self::InVault(kept, _) => Some(&kept.certificate),
            Self::KeyOnly(_) => None,
        }
    }

    /// Returns a text that is the same for the same certificate alone.
    pub(crate) fn id(&self) -> String {
        match self {
            Self::Here(pair) | Self::Downloaded(pair, _) => pair.certificate().x5t_s256(),
            Self::InVault(kept, _) => kept.certificate.x5t_s256(),
            Self::KeyOnly(key) => key.id(),
        }
    }

    /// Returns whether both are the same certificate.
    pub(crate) fn is(&self, other: &Self) -> bool {
        self.id() == other.id()
    }

    /// Returns its version in the vault.
    pub(crate) fn version(&self) -> Option<&str> {
        match self {
            Self::Here(_) | Self::KeyOnly(_) => None,
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

    /// Returns the algorithm of its signatures. One that only has a name by SHA-1 signs as that name goes with.
    pub(crate) fn algorithm(&self, settings: AssertionConfig) -> AssertionAlgorithm {
        let by_sha1 = matches!(self, Self::KeyOnly(key) if key.x5t().is_some());
        settings.algorithm.unwrap_or(if by_sha1 { AssertionAlgorithm::RS256 } else { AssertionAlgorithm::PS256 })
    }

    /// Signs the text.
    pub(crate) async fn sign(&self, algorithm: AssertionAlgorithm, text: &[u8]) -> Result<Vec<u8>, Failure> {
        match self {
            Self::Here(pair) | Self::Downloaded(pair, _) => assertion::sign(pair.key(), algorithm, text),
            Self::KeyOnly(key) => assertion::sign(key.key(), algorithm, text),
            Self::InVault(kept, vault) => Ok(vault.sign(&kept.key, &kept.certificate, algorithm, text).await?),
        }
    }

    /// Returns the thumbprint in hexadecimal, as the portal shows it.
    pub(crate) fn thumbprint(&self) -> String {
        match self {
            Self::KeyOnly(key) => key.hex(),
            Self::Here(pair) | Self::Downloaded(pair, _) => pair.certificate().thumbprint(),
            Self::InVault(kept, _) => kept.certificate.thumbprint(),
        }
    }

    /// `x5t`: the SHA-1 thumbprint in base64url, if it is known.
    pub(crate) fn x5t(&self) -> Option<String> {
        match self {
            Self::KeyOnly(key) => key.x5t(),
            Self::Here(_) | Self::Downloaded(..) | Self::InVault(..) => self.certificate().map(Certificate::x5t),
        }
    }

    /// `x5t#S256`: the SHA-256 thumbprint in base64url, if it is known.
    pub(crate) fn x5t_s256(&self) -> Option<String> {
        match self {
            Self::KeyOnly(key) => key.x5t_s256(),
            Self::Here(_) | Self::Downloaded(..) | Self::InVault(..) => self.certificate().map(Certificate::x5t_s256),
        }
    }

    /// Returns the subject of the certificate, if it is known.
    pub(crate) fn subject(&self) -> Option<&str> {
        self.certificate().map(Certificate::subject)
    }

    /// Describes a problem of its validity in words with the remedy, if there is one.
    pub(crate) fn concern(&self, now: u64) -> Option<(String, &'static str)> {
        let certificate = self.certificate()?;
        Some((certificate.concern(now)?, certificate.validity_state(now).cure()))
    }

    /// Returns whether it has expired, as far as is known.
    pub(crate) fn has_expired(&self, now: u64) -> bool {
        self.certificate().is_some_and(|certificate| certificate.validity_state(now) == ValidityState::Ended)
    }

    /// Describes it as the portal shows it.
    pub(crate) fn describe(&self) -> String {
        let Some(certificate) = self.certificate() else {
            return format!("the private key for the certificate with thumbprint {}", self.thumbprint());
        };
        let end =
            jiff::Timestamp::from_second(certificate.not_after().cast_signed()).map(|end| end.strftime("%Y-%m-%d").to_string());
        format!("{}, thumbprint {}, valid until {}", certificate.subject(), certificate.thumbprint(), end.unwrap_or_default())
    }
}
