//! The keys that seals are verified with.

use std::{fs, path::Path};

use anyhow::{Context as _, bail};
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED, RSA_PSS_2048_8192_SHA256, RsaPublicKeyComponents, UnparsedPublicKey};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use rustls_pki_types::{CertificateDer, pem::PemObject as _};
use serde_json::{Value, json};

use super::super::seal::ReadSeal;
use crate::identity::{SigningKey, public_jwk, thumbprint};

/// The ids of known keys.
#[derive(Debug, Default)]
pub(crate) struct Keys(Vec<String>);

impl Keys {
    /// Returns the key of a seal as the known one.
    #[cfg(test)]
    pub(super) fn of(seal: &serde_json::Map<String, Value>) -> Self {
        Self(seal.get("key_id").and_then(Value::as_str).map(str::to_owned).into_iter().collect())
    }

    /// Returns whether none is known: then each seal is held against the key that it names itself.
    pub(crate) const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Returns whether the signature of a seal is right, and of a known key.
    pub(super) fn verify(&self, seal: &ReadSeal) -> bool {
        let known = self.0.is_empty() || self.0.contains(&seal.key_id);
        known && id_of(&seal.public_key).is_some_and(|id| id == seal.key_id) && is_signed(seal).is_some()
    }
}

/// Reads keys from files: private or public keys, or certificates (PEM).
///
/// # Errors
/// Returns which file holds none.
pub(crate) fn read_keys(paths: &[impl AsRef<Path>]) -> anyhow::Result<Keys> {
    paths.iter().map(|path| read_key(path.as_ref())).collect::<anyhow::Result<_>>().map(Keys)
}

fn read_key(path: &Path) -> anyhow::Result<String> {
    let text = fs::read(path).with_context(|| format!("cannot open {}", path.display()))?;
    let key = if let Ok(certificate) = CertificateDer::from_pem_slice(&text) {
        SigningKey::public_key(&certificate)
    } else if let Ok(public) = rustls_pki_types::SubjectPublicKeyInfoDer::from_pem_slice(&text) {
        public_jwk(&public)
    } else {
        SigningKey::from_file(path).ok().map(|key| key.jwk().clone())
    };
    match key.as_ref().and_then(id_of) {
        Some(id) => Ok(id),
        None => bail!("{} holds no key on P-256 and no RSA key", path.display()),
    }
}

/// Returns the id of a public key: its thumbprint.
fn id_of(key: &Value) -> Option<String> {
    let member = |name: &str| key.get(name).and_then(Value::as_str);
    let members = match member("kty")? {
        "EC" => json!({ "crv": member("crv")?, "kty": "EC", "x": member("x")?, "y": member("y")? }),
        "RSA" => json!({ "e": member("e")?, "kty": "RSA", "n": member("n")? }),
        _ => return None,
    };
    Some(thumbprint(&members).into())
}

fn is_signed(seal: &ReadSeal) -> Option<()> {
    let member = |name: &str| URL_SAFE_NO_PAD.decode(seal.public_key.get(name)?.as_str()?).ok();
    let text = seal.to_be_signed();
    match &*seal.algorithm {
        "ES256" => {
            let point = [&[4], &*member("x")?, &*member("y")?].concat();
            UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point).verify(&text, &seal.signature).ok()
        }
        "PS256" => {
            let key = RsaPublicKeyComponents { n: member("n")?, e: member("e")? };
            key.verify(&RSA_PSS_2048_8192_SHA256, &text, &seal.signature).ok()
        }
        _ => None,
    }
}
