//! The RSA keys of the development tenant, made once per process and shared, since making one is slow.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{Arc, Mutex},
    time::Duration,
};

use aws_lc_rs::{
    digest,
    encoding::{AsDer, Pkcs8V1Der, PublicKeyX509Der},
    rand::SystemRandom,
    rsa::KeySize,
    signature::{
        KeyPair as _, RSA_PKCS1_SHA256, RSA_PKCS1_SHA384, RSA_PKCS1_SHA512, RSA_PSS_SHA256, RSA_PSS_SHA384, RSA_PSS_SHA512,
        RsaEncoding, RsaKeyPair,
    },
};
use base64::{
    Engine as _,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};
use jsonwebtoken::EncodingKey;
use pkcs8::PrivateKeyInfoRef;
use rcgen::{CertificateParams, DnType};
use serde_json::{Value, json};
use x509_parser::{
    prelude::{FromDer as _, X509Certificate},
    public_key::PublicKey,
};

use crate::base::lock::lock;

/// A key pair with a self-signed certificate around it, as Entra publishes its signing keys.
pub struct SigningKey {
    pair: RsaKeyPair,
    pkcs8: Vec<u8>,
    certificate: Vec<u8>,
    modulus: Vec<u8>,
    exponent: Vec<u8>,
    kid: String,
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SigningKey").field("kid", &self.kid).finish_non_exhaustive()
    }
}

impl SigningKey {
    /// Makes a fresh RSA key of 2048 bits.
    ///
    /// # Errors
    ///
    /// Fails if the cryptographic library can make neither the key nor the certificate.
    pub fn generate() -> Result<Self, KeyError> {
        // 2020 to 2099.
        Self::certified("development tenant signing key", 1_577_836_800, 4_070_908_800)
    }

    /// Makes a fresh RSA key of 2048 bits with a certificate of this common name and validity, in seconds since 1970.
    ///
    /// # Errors
    ///
    /// Fails if the cryptographic library can make neither the key nor the certificate.
    pub fn certified(common_name: &str, not_before: u64, not_after: u64) -> Result<Self, KeyError> {
        let pair = RsaKeyPair::generate(KeySize::Rsa2048).map_err(|_| KeyError("generate an RSA key"))?;
        let pkcs8 = AsDer::<Pkcs8V1Der<'_>>::as_der(&pair).map_err(|_| KeyError("encode an RSA key"))?.as_ref().to_vec();
        let signer = rcgen::KeyPair::try_from(pkcs8.as_slice()).map_err(|_| KeyError("read an RSA key"))?;
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, common_name);
        let epoch = rcgen::date_time_ymd(1970, 1, 1);
        params.not_before = epoch + Duration::from_secs(not_before);
        params.not_after = epoch + Duration::from_secs(not_after);
        let certificate = params.self_signed(&signer).map_err(|_| KeyError("certify an RSA key"))?.der().to_vec();
        // Entra's key ids are the SHA-1 thumbprints of the certificates that carry the keys.
        let kid = URL_SAFE_NO_PAD.encode(digest::digest(&digest::SHA1_FOR_LEGACY_USE_ONLY, &certificate));
        let (_, parsed) = X509Certificate::from_der(&certificate).map_err(|_| KeyError("read a certificate"))?;
        let Ok(PublicKey::RSA(public)) = parsed.public_key().parsed() else {
            return Err(KeyError("read an RSA public key"));
        };
        let plain = |number: &[u8]| number.iter().copied().skip_while(|byte| *byte == 0).collect();
        let (modulus, exponent) = (plain(public.modulus), plain(public.exponent));
        Ok(Self { pair, pkcs8, modulus, exponent, kid, certificate })
    }

    /// Returns the key id.
    pub fn kid(&self) -> &str {
        &self.kid
    }

    /// Returns the certificate, DER.
    pub fn certificate(&self) -> &[u8] {
        &self.certificate
    }

    /// Returns the private key, PKCS#8 DER.
    pub fn pkcs8(&self) -> &[u8] {
        &self.pkcs8
    }

    /// Returns the private key as `jsonwebtoken` takes it: PKCS#1.
    pub(crate) fn encoding_key(&self) -> EncodingKey {
        let pkcs1 = PrivateKeyInfoRef::try_from(self.pkcs8.as_slice()).map(|key| key.private_key.as_bytes());
        EncodingKey::from_rsa_der(pkcs1.unwrap_or_default())
    }

    /// Returns the public key, `SubjectPublicKeyInfo` DER.
    pub fn spki(&self) -> Vec<u8> {
        AsDer::<PublicKeyX509Der<'_>>::as_der(self.pair.public_key()).map(|der| der.as_ref().to_vec()).unwrap_or_default()
    }

    /// Returns the modulus, big-endian.
    pub fn modulus(&self) -> &[u8] {
        &self.modulus
    }

    /// Returns the public exponent, big-endian.
    pub fn exponent(&self) -> &[u8] {
        &self.exponent
    }

    /// Returns the entry of a key set. Entra's have no `alg`; those of version 2 name the issuer that the key is for.
    pub fn jwk(&self, issuer: Option<&str>) -> Value {
        let mut jwk = json!({
            "kty": "RSA",
            "use": "sig",
            "kid": self.kid,
            "x5t": self.kid,
            "n": URL_SAFE_NO_PAD.encode(&self.modulus),
            "e": URL_SAFE_NO_PAD.encode(&self.exponent),
            "x5c": [STANDARD.encode(&self.certificate)],
        });
        if let Some(issuer) = issuer {
            jwk["issuer"] = issuer.into();
        }
        jwk
    }

    /// Signs `message` with a JOSE algorithm; `None` for one that RSA does not support.
    pub fn sign(&self, algorithm: &str, message: &[u8]) -> Option<Vec<u8>> {
        let mut signature = vec![0; self.pair.public_modulus_len()];
        self.pair.sign(encoding(algorithm)?, &SystemRandom::new(), message, &mut signature).ok()?;
        Some(signature)
    }

    /// Signs a digest, as Key Vault does; `None` if algorithm and digest do not match.
    pub fn sign_digest(&self, algorithm: &str, digest: &[u8]) -> Option<Vec<u8>> {
        let hash = match algorithm {
            "RS256" | "PS256" => &digest::SHA256,
            "RS384" | "PS384" => &digest::SHA384,
            "RS512" | "PS512" => &digest::SHA512,
            _ => return None,
        };
        let digest = digest::Digest::import_less_safe(digest, hash).ok()?;
        let mut signature = vec![0; self.pair.public_modulus_len()];
        self.pair.sign_digest(encoding(algorithm)?, &digest, &mut signature).ok()?;
        Some(signature)
    }
}

fn encoding(algorithm: &str) -> Option<&'static dyn RsaEncoding> {
    Some(match algorithm {
        "RS256" => &RSA_PKCS1_SHA256,
        "RS384" => &RSA_PKCS1_SHA384,
        "RS512" => &RSA_PKCS1_SHA512,
        "PS256" => &RSA_PSS_SHA256,
        "PS384" => &RSA_PSS_SHA384,
        "PS512" => &RSA_PSS_SHA512,
        _ => return None,
    })
}

/// An error of the cryptographic library.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("cannot {0}")]
pub struct KeyError(&'static str);

/// The keys made so far in this process, by index.
static POOL: Mutex<BTreeMap<usize, Arc<SigningKey>>> = Mutex::new(BTreeMap::new());

/// Returns the key with this index in the process, making it on first use.
pub(crate) fn pooled(place: usize) -> Result<Arc<SigningKey>, KeyError> {
    // The lock is held while the key is made, so that two tenants that start at once do not both make it.
    let mut pool = lock(&POOL);
    if let Some(key) = pool.get(&place) {
        return Ok(key.clone());
    }
    let key = Arc::new(SigningKey::generate()?);
    pool.insert(place, key.clone());
    Ok(key)
}

/// The keys of one tenant: the published ones, the signing one, and those of single applications.
#[derive(Debug)]
pub(crate) struct KeyRing {
    /// True if the keys are not shared with others in the process.
    own: bool,
    /// The index of the next key in the process.
    next: usize,
    /// The published keys, in the order they were added; the last one signs.
    pub(crate) published: Vec<Arc<SigningKey>>,
    /// The key that signs for personal accounts only; published by `common` beside the others.
    pub(crate) personal: Arc<SigningKey>,
    /// A key that is never published.
    pub(crate) unknown: Arc<SigningKey>,
    /// Custom signing keys, by the application's client id.
    pub(crate) apps: BTreeMap<String, Arc<SigningKey>>,
}

impl KeyRing {
    pub(crate) fn new(own: bool) -> Result<Self, KeyError> {
        let make = |place| if own { SigningKey::generate().map(Arc::new) } else { pooled(place) };
        let (unknown, personal) = (make(0)?, make(1)?);
        // Entra always has a key in reserve, published before it signs anything.
        let published = vec![make(2)?, make(3)?];
        Ok(Self { own, next: 4, published, personal, unknown, apps: BTreeMap::new() })
    }

    fn fresh(&mut self) -> Result<Arc<SigningKey>, KeyError> {
        let place = self.next;
        self.next += 1;
        if self.own { SigningKey::generate().map(Arc::new) } else { pooled(place) }
    }

    /// Returns the key that signs the tenant's tokens now.
    pub(crate) fn current(&self) -> Arc<SigningKey> {
        self.published.last().unwrap_or(&self.unknown).clone()
    }

    /// Signs with a new key from now on; the older ones stay published.
    pub(crate) fn roll(&mut self) -> Result<Arc<SigningKey>, KeyError> {
        let key = self.fresh()?;
        self.published.push(key.clone());
        Ok(key)
    }

    /// Withdraws every key except the signing one.
    pub(crate) fn retire(&mut self) {
        let last = self.published.len().saturating_sub(1);
        self.published.drain(..last);
    }

    /// Returns the custom key of an application, making it on first use.
    pub(crate) fn app(&mut self, client_id: &str) -> Result<Arc<SigningKey>, KeyError> {
        if let Some(key) = self.apps.get(client_id) {
            return Ok(key.clone());
        }
        let key = self.fresh()?;
        self.apps.insert(client_id.to_owned(), key.clone());
        Ok(key)
    }
}
