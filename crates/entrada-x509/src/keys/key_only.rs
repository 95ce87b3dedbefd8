//! A private key whose certificate is elsewhere, known by its thumbprint alone.

use std::fmt;

use aws_lc_rs::{digest, rsa::KeyPair as RsaKeyPair, signature::KeyPair as _};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use secrecy::SecretString;

use super::{CertificateError, Thumbprints, can_sign, hash, hex, read::Pem, rsa_key};
use crate::Thumbprint;

/// A private key, and the thumbprint of the certificate that it belongs to. Whether it does, only the owner of the certificate can
/// tell.
pub struct ThumbprintedKey {
    key: RsaKeyPair,
    thumbprint: Thumbprint,
    /// SHA-256 of the public key.
    key_digest: [u8; 32],
}

impl ThumbprintedKey {
    /// Reads the private key from PEM text.
    ///
    /// # Errors
    /// Fails if there is no key, if there are several, if there is a certificate as well, or if Entra would not accept the key.
    pub fn from_pem(pem: &[u8], password: Option<&SecretString>, thumbprint: Thumbprint) -> Result<Self, CertificateError> {
        let pem = Pem::read(pem)?;
        if pem.has_certificate() {
            return Err(CertificateError::CertificateBesideThumbprint);
        }
        let mut keys = pem.keys(password)?;
        let read = match &keys[..] {
            [] => Err(CertificateError::NoKeyAlone),
            [key] => rsa_key(key),
            [_, _, ..] => Err(CertificateError::SeveralKeys),
        };
        keys.iter_mut().for_each(zeroize::Zeroize::zeroize);
        let key = read?;
        if !can_sign(&key) {
            return Err(CertificateError::KeyDefective);
        }
        let key_digest = hash(&digest::SHA256, key.public_key().as_ref());
        Ok(Self { key, thumbprint, key_digest })
    }

    /// Returns the private key.
    pub const fn key(&self) -> &RsaKeyPair {
        &self.key
    }

    /// Returns the size of the RSA key.
    pub fn bits(&self) -> usize {
        self.key.public_modulus_len() * 8
    }

    /// Returns the thumbprint of the certificate.
    pub const fn thumbprint(&self) -> Thumbprint {
        self.thumbprint
    }

    /// Returns the thumbprint in hexadecimal, as the portal shows it.
    pub fn hex(&self) -> String {
        match &self.thumbprint {
            Thumbprint::Sha1(bytes) => hex(bytes),
            Thumbprint::Sha256(bytes) => hex(bytes),
        }
    }

    /// `x5t`: the SHA-1 thumbprint in base64url, if it is known.
    pub fn x5t(&self) -> Option<String> {
        match &self.thumbprint {
            Thumbprint::Sha1(bytes) => Some(URL_SAFE_NO_PAD.encode(bytes)),
            Thumbprint::Sha256(_) => None,
        }
    }

    /// `x5t#S256`: the SHA-256 thumbprint in base64url, if it is known.
    pub fn x5t_s256(&self) -> Option<String> {
        match &self.thumbprint {
            Thumbprint::Sha1(_) => None,
            Thumbprint::Sha256(bytes) => Some(URL_SAFE_NO_PAD.encode(bytes)),
        }
    }

    /// Returns a text that two pairs share only if both the thumbprint and the key are the same.
    pub fn id(&self) -> String {
        format!("{} {}", self.hex(), hex(&self.key_digest))
    }

    /// Returns whether a certificate with these thumbprints is the one that is meant.
    pub fn names(&self, thumbprints: &Thumbprints) -> bool {
        self.thumbprint.is(&thumbprints.sha1, &thumbprints.sha256)
    }
}

impl fmt::Debug for ThumbprintedKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ThumbprintedKey").field("thumbprint", &self.hex()).finish_non_exhaustive()
    }
}
