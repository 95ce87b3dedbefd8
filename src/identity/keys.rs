//! The keys that sign assertions for backends, and the key set in which backends find them.
//!
//! The process's own key is replaced at intervals. The next one is published before it signs, and the last one stays published
//! until everything that it signed has expired: a backend that fetches the set again when it meets an unknown key never has to
//! refuse. Several gateways that share a backend are given the same list of key files instead: the first of them signs, all are
//! published, and an operator who replaces one follows the same steps by hand.

use std::{
    fmt,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use arc_swap::ArcSwap;
use aws_lc_rs::{
    encoding::{AsDer as _, PublicKeyX509Der},
    rand::SystemRandom,
    signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _, RSA_PSS_SHA256, RsaKeyPair},
};
use bytes::Bytes;
use rustls_pki_types::{PrivateKeyDer, pem::PemObject as _};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::runtime::Handle;
use x509_parser::{certificate::X509Certificate, prelude::FromDer as _, x509::SubjectPublicKeyInfo};

use super::jwk::{ec_jwk, rsa_jwk};
use crate::{
    base::clock::Clock,
    certificate::keys::{LOOSE_CURE, loose_key},
    settings::{ConfigDuration, Faults, Lint, Place},
};

/// The time for which a key is published before it signs, in seconds: longer than a backend may cache the set.
const AHEAD: u64 = 600;
/// The time for which a key stays published after its last signature, in seconds: the longest life of an assertion, plus clock
/// skew.
const KEPT: u64 = 900;
/// The interval of the check whether a key is due.
const WATCH: Duration = Duration::from_secs(10);
const DEFAULT_ROTATION: Duration = Duration::from_secs(24 * 3_600);
const SHORTEST_ROTATION: Duration = Duration::from_secs(3_600);

/// The signing of assertions for backends.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq, Eq)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct AssertionKeysConfig {
    /// `iss` of the assertions. Default: entrada.
    pub issuer: Option<String>,
    /// Private keys (PEM): P-256 signs with ES256, RSA of at least 2048 bits with PS256. The first one signs, all are published;
    /// read again when they change. Default: a key that the process generates for ES256 and shares with no other process.
    pub private_keys: Vec<String>,
    /// The interval at which a generated key is replaced; at least 1h. Default: 24h.
    pub rotate: Option<ConfigDuration>,
}

/// The keys that sign assertions.
#[derive(Debug)]
pub struct AssertionKeys {
    issuer: Box<str>,
    clock: Clock,
    /// The interval at which a generated key is replaced; `None` for keys from files.
    rotation: Option<u64>,
    ring: ArcSwap<SigningOrder>,
    watched: AtomicBool,
    files: Box<[PathBuf]>,
}

/// Keys in the order in which they sign.
#[derive(Debug)]
struct SigningOrder {
    keys: Vec<ScheduledKey>,
    /// The published set, as JSON.
    published: Bytes,
}

/// A key, and the time from which it signs, in seconds since 1970. `None`: it is only published.
#[derive(Clone, Debug)]
struct ScheduledKey {
    key: Arc<SigningKey>,
    signs_from: Option<u64>,
}

/// A private key with its public half.
pub(crate) struct SigningKey {
    pair: Pair,
    kid: Box<str>,
    jwk: Value,
}

enum Pair {
    Es256(EcdsaKeyPair),
    Ps256(RsaKeyPair),
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SigningKey").field("kid", &self.kid).finish_non_exhaustive()
    }
}

/// The reason why a key cannot be used. Never repeats a file's content.
#[derive(Debug, thiserror::Error)]
pub(crate) enum KeyFault {
    #[error("the file cannot be read as a private key in PEM")]
    Unreadable(#[source] rustls_pki_types::pem::Error),
    #[error("the key is neither one on the curve P-256 nor an RSA key")]
    Kind,
    #[error("the RSA key has fewer than 2048 bits")]
    Short,
    #[error("the cryptographic library refused")]
    Library,
}

impl AssertionKeys {
    /// RFC 7517, section 8.5.2.
    pub const CONTENT_TYPE: &str = "application/jwk-set+json";
    /// The cache time of the set: shorter than the time for which a key is published before it signs.
    pub const CACHE_CONTROL: &str = "public, max-age=300";

    /// Builds the keys at this place, or reports their faults. Generated keys are taken over from `previous`.
    pub(crate) fn build(
        config: &AssertionKeysConfig,
        base: &Path,
        clock: &Clock,
        previous: Option<&Arc<Self>>,
        place: &Place,
        faults: &mut Faults,
    ) -> Option<Arc<Self>> {
        let before = faults.errors();
        if config.issuer.as_deref().is_some_and(str::is_empty) {
            faults.error(&place.key("issuer"), "the name is empty", "write one, as https://gateway.contoso.example");
        }
        let rotation = config.rotate.map_or(DEFAULT_ROTATION, |span| span.0);
        if config.rotate.is_some() && !config.private_keys.is_empty() {
            faults.error(&place.key("rotate"), "keys from files are replaced by whoever made them", "leave one of the two out");
        } else if rotation < SHORTEST_ROTATION {
            let message = "keys would be replaced faster than backends look";
            faults.error(&place.key("rotate"), message, "write at least 1h");
        }
        let files: Box<[PathBuf]> = config.private_keys.iter().map(|file| base.join(file)).collect();
        let mut keys = Vec::new();
        for (index, (file, written)) in files.iter().zip(&config.private_keys).enumerate() {
            match SigningKey::from_file(file) {
                Ok(key) => keys.push(ScheduledKey { key: Arc::new(key), signs_from: (index == 0).then_some(0) }),
                Err(fault) => {
                    let cure = "make one with: openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256";
                    let message = format!("`{written}` is no key to sign with: {}", crate::base::error_chain::chain(&fault));
                    faults.error(&place.key("private-keys").index(index), message, cure);
                }
            }
        }
        if faults.errors() > before {
            return None;
        }
        for (index, file) in files.iter().enumerate() {
            if let Some(message) = loose_key(file) {
                faults.warning(Lint::SecretFilePermissions, &place.key("private-keys").index(index), message, LOOSE_CURE);
            }
        }
        let issuer: Box<str> = config.issuer.as_deref().unwrap_or("entrada").into();
        let rotation = files.is_empty().then_some(rotation.as_secs());
        let own = previous.filter(|previous| previous.rotation.is_some() && rotation.is_some());
        if let Some(own) = own
            && own.issuer == issuer
            && own.rotation == rotation
        {
            return Some(own.clone());
        }
        let ring = match own {
            Some(own) => own.ring.load_full(),
            None if files.is_empty() => {
                let Ok(key) = SigningKey::generate() else {
                    faults.error(place, "no key can be made on this machine", "give it `private-keys`");
                    return None;
                };
                Arc::new(SigningOrder::of(vec![ScheduledKey { key: Arc::new(key), signs_from: Some(0) }]))
            }
            None => Arc::new(SigningOrder::of(keys)),
        };
        let (clock, watched) = (clock.clone(), AtomicBool::new(false));
        Some(Arc::new(Self { issuer, clock, rotation, ring: ArcSwap::new(ring), watched, files }))
    }

    /// Starts to replace keys when they are due.
    pub(crate) fn start(self: &Arc<Self>, background: &Handle) {
        if self.rotation.is_none() || self.watched.swap(true, Ordering::Relaxed) {
            return;
        }
        let keys = Arc::downgrade(self);
        background.spawn(async move {
            loop {
                tokio::time::sleep(WATCH).await;
                let Some(keys) = keys.upgrade() else { return };
                keys.keep_up();
            }
        });
    }

    /// Makes the next key if one is due, and drops those that are no longer needed.
    pub(crate) fn keep_up(&self) {
        let Some(rotation) = self.rotation else { return };
        if let Some(ring) = self.ring.load_full().kept_up(self.clock.unix_seconds(), rotation) {
            self.ring.store(Arc::new(ring));
        }
    }

    /// `iss` of the assertions.
    pub(super) fn issuer(&self) -> &str {
        &self.issuer
    }

    /// Returns the clock.
    pub(super) const fn clock(&self) -> &Clock {
        &self.clock
    }

    /// Returns the key that signs now.
    pub(super) fn signer(&self) -> Arc<SigningKey> {
        self.ring.load_full().signer(self.clock.unix_seconds()).clone()
    }

    /// Returns the public keys: a JSON Web Key Set (RFC 7517, section 5).
    pub fn published(&self) -> Bytes {
        self.ring.load_full().published.clone()
    }

    /// Returns the files of the keys.
    pub(crate) fn files(&self) -> impl Iterator<Item = &Path> {
        self.files.iter().map(PathBuf::as_path)
    }
}

impl SigningOrder {
    fn of(keys: Vec<ScheduledKey>) -> Self {
        let set: Vec<_> = keys.iter().map(|turn| &turn.key.jwk).collect();
        let published = json!({ "keys": set }).to_string().into();
        Self { keys, published }
    }

    fn signer(&self, now: u64) -> &Arc<SigningKey> {
        let due = self.keys.iter().rev().find(|turn| turn.signs_from.is_some_and(|from| from <= now));
        // A clock that was put back must not leave requests without a signature: the oldest key is as good.
        &due.or_else(|| self.keys.first()).expect("a ring is made with a key and never loses its last").key
    }

    /// Returns the updated ring; `None` if nothing changes.
    fn kept_up(&self, now: u64, rotation: u64) -> Option<Self> {
        let mut keys = self.keys.clone();
        // The first key has been there since some time that nobody noted: its turn ends like those of the others.
        if let [only] = keys.as_mut_slice()
            && only.signs_from == Some(0)
        {
            only.signs_from = Some(now);
        }
        let last = keys.last().and_then(|turn| turn.signs_from).unwrap_or(now);
        if last + rotation <= now + AHEAD {
            match SigningKey::generate() {
                Ok(key) => keys.push(ScheduledKey { key: Arc::new(key), signs_from: Some((last + rotation).max(now + AHEAD)) }),
                Err(error) => tracing::error!(%error, "no new key for assertions can be made; the old one goes on"),
            }
        }
        // Of each key, the turn of the next one tells when its own was over.
        let over = |next: &ScheduledKey| next.signs_from.is_some_and(|from| from + KEPT <= now);
        let forgotten = keys.iter().skip(1).take_while(|next| over(next)).count();
        keys.drain(..forgotten);
        let same = keys.len() == self.keys.len()
            && keys
                .iter()
                .zip(&self.keys)
                .all(|(one, other)| one.signs_from == other.signs_from && Arc::ptr_eq(&one.key, &other.key));
        (!same).then(|| Self::of(keys))
    }
}

impl SigningKey {
    /// Makes a fresh key on P-256.
    pub(crate) fn generate() -> Result<Self, KeyFault> {
        EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).map_err(|_| KeyFault::Library).and_then(Self::ecdsa)
    }

    /// Reads a key from a file.
    pub(crate) fn from_file(path: &Path) -> Result<Self, KeyFault> {
        let key = PrivateKeyDer::from_pem_file(path).map_err(KeyFault::Unreadable)?;
        let der = key.secret_der();
        let ecdsa = match &key {
            PrivateKeyDer::Pkcs8(_) => EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, der).ok(),
            PrivateKeyDer::Sec1(_) => EcdsaKeyPair::from_private_key_der(&ECDSA_P256_SHA256_FIXED_SIGNING, der).ok(),
            _ => None,
        };
        let rsa = match &key {
            PrivateKeyDer::Pkcs8(_) => RsaKeyPair::from_pkcs8(der).ok(),
            PrivateKeyDer::Pkcs1(_) => RsaKeyPair::from_der(der).ok(),
            _ => None,
        };
        match (ecdsa, rsa) {
            (Some(pair), _) => Self::ecdsa(pair),
            (None, Some(pair)) => Self::rsa(pair),
            (None, None) => Err(KeyFault::Kind),
        }
    }

    fn ecdsa(pair: EcdsaKeyPair) -> Result<Self, KeyFault> {
        let jwk = ec_jwk(pair.public_key().as_ref()).ok_or(KeyFault::Library)?;
        let kid = jwk["kid"].as_str().unwrap_or_default().into();
        Ok(Self { pair: Pair::Es256(pair), kid, jwk })
    }

    fn rsa(pair: RsaKeyPair) -> Result<Self, KeyFault> {
        if pair.public_modulus_len() < 256 {
            return Err(KeyFault::Short);
        }
        let spki =
            pair.public_key().as_der().map(|der: PublicKeyX509Der<'_>| der.as_ref().to_vec()).map_err(|_| KeyFault::Library)?;
        let (_, spki) = SubjectPublicKeyInfo::from_der(&spki).map_err(|_| KeyFault::Library)?;
        let jwk = rsa_jwk(&spki).ok_or(KeyFault::Library)?;
        let kid = jwk["kid"].as_str().unwrap_or_default().into();
        Ok(Self { pair: Pair::Ps256(pair), kid, jwk })
    }

    /// Returns the public half as a JSON Web Key.
    pub(crate) const fn jwk(&self) -> &Value {
        &self.jwk
    }

    /// Returns the RSA key of a certificate (DER) as a JSON Web Key.
    pub(crate) fn public_key(certificate: &[u8]) -> Option<Value> {
        let (_, certificate) = X509Certificate::from_der(certificate).ok()?;
        rsa_jwk(certificate.public_key())
    }

    /// Returns the key's id: its thumbprint, so that replicas with the same file agree.
    pub(crate) fn kid(&self) -> &str {
        &self.kid
    }

    /// Returns the algorithm, which depends on the key.
    pub(crate) const fn algorithm(&self) -> &'static str {
        match self.pair {
            Pair::Es256(_) => "ES256",
            Pair::Ps256(_) => "PS256",
        }
    }

    /// Signs a text.
    pub(crate) fn sign(&self, text: &[u8]) -> Result<Vec<u8>, KeyFault> {
        match &self.pair {
            Pair::Es256(pair) => {
                pair.sign(&SystemRandom::new(), text).map(|signature| signature.as_ref().to_vec()).map_err(|_| KeyFault::Library)
            }
            Pair::Ps256(pair) => {
                let mut signature = vec![0; pair.public_modulus_len()];
                // The salt is as long as the digest: RFC 7518, section 3.5.
                pair.sign(&RSA_PSS_SHA256, &SystemRandom::new(), text, &mut signature).map_err(|_| KeyFault::Library)?;
                Ok(signature)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::thumbprint;

    const DAY: u64 = 86_400;

    fn kids(ring: &SigningOrder) -> Vec<Box<str>> {
        ring.keys.iter().map(|turn| turn.key.kid.clone()).collect()
    }

    #[test]
    fn a_key_is_published_before_it_signs_and_after_it_signed() {
        let start = 1_800_000_000;
        let mut ring =
            SigningOrder::of(vec![ScheduledKey { key: Arc::new(SigningKey::generate().expect("a key")), signs_from: Some(0) }]);
        ring = ring.kept_up(start, DAY).expect("the first turn is noted");
        let first = kids(&ring)[0].clone();
        assert!(ring.kept_up(start + DAY - AHEAD - 1, DAY).is_none());

        ring = ring.kept_up(start + DAY - AHEAD, DAY).expect("the next key is due");
        let second = kids(&ring)[1].clone();
        assert_ne!(first, second);
        for (at, expected) in [(start + DAY - AHEAD, &first), (start + DAY - 1, &first), (start + DAY, &second)] {
            assert_eq!(ring.signer(at).kid, *expected, "{}", at - start);
        }

        assert!(ring.kept_up(start + DAY + KEPT - 1, DAY).is_none());
        ring = ring.kept_up(start + DAY + KEPT, DAY).expect("the first key is forgotten");
        assert_eq!(kids(&ring), [second]);
        assert!(!String::from_utf8_lossy(&ring.published).contains(&*first));
    }

    #[test]
    fn a_key_is_published_ahead_also_after_a_long_sleep() {
        let start = 1_800_000_000;
        let ring = SigningOrder::of(vec![ScheduledKey {
            key: Arc::new(SigningKey::generate().expect("a key")),
            signs_from: Some(start),
        }]);

        let woken = ring.kept_up(start + 30 * DAY, DAY).expect("a key is due");

        assert_eq!(woken.keys.len(), 2);
        assert_eq!(woken.signer(start + 30 * DAY).kid, ring.keys[0].key.kid);
        assert_eq!(woken.signer(start + 30 * DAY + AHEAD).kid, woken.keys[1].key.kid);
    }

    #[test]
    fn thumbprints_are_those_of_the_rfc() {
        // The example of RFC 7638, section 3.1.
        let n = "0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc_BJECPebWKRXjBZCiFV4n3oknjhMs\
                 tn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQR0_FDW2QvzqY368QQMicAtaSqzs8KJZgnYb9c7d0zgdAZHzu6qMQvRL5hajrn1n91CbOpbI\
                 SD08qNLyrdkt-bFTWhAI4vMQFh6WeZu0fM4lFd2NcRwr3XPksINHaQ-G_xBniIqbw0Ls1jF44-csFCur-kEgU8awapJzKnqDKgw";

        assert_eq!(&*thumbprint(&json!({ "e": "AQAB", "kty": "RSA", "n": n })), "NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs");
    }

    #[test]
    fn keys_come_from_files_and_the_first_one_signs() {
        let folder = tempfile::tempdir().expect("a folder");
        let pem = |pair: &rcgen::KeyPair| pair.serialize_pem();
        let ec = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).expect("a key");
        let other = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P384_SHA384).expect("a key");
        let rsa = crate::certificate::keys::testing::certificate("backend");
        let files = [("ec.pem", pem(&ec)), ("p384.pem", pem(&other)), ("rsa.pem", rsa.key_pem), ("none.pem", "hunter2".into())];
        for (name, text) in &files {
            std::fs::write(folder.path().join(name), text).expect("written");
        }
        let build = |yaml: &str| {
            let mut faults = Faults::default();
            let config = crate::settings::testing::part(yaml);
            let place = Place::root().key("backend-assertion");
            let keys = AssertionKeys::build(&config, folder.path(), &Clock::manual(0), None, &place, &mut faults);
            (keys, faults.iter().map(|fault| format!("{}: {}", fault.place, fault.message)).collect::<Vec<_>>())
        };

        for (yaml, algorithm, keys) in [
            ("private-keys: [ec.pem]", "ES256", 1),
            ("private-keys: [rsa.pem, ec.pem]", "PS256", 2),
            ("private-keys: [ec.pem, rsa.pem]", "ES256", 2),
            ("{}", "ES256", 1),
        ] {
            let (built, faults) = build(yaml);
            let built = built.unwrap_or_else(|| panic!("{yaml}: {faults:?}"));
            let set: Value = serde_json::from_slice(&built.published()).expect("JSON");
            assert_eq!((built.signer().algorithm(), set["keys"].as_array().map(Vec::len)), (algorithm, Some(keys)), "{yaml}");
            assert_eq!(set["keys"][0]["kid"], *built.signer().kid());
            assert!(set["keys"].as_array().expect("a list").iter().all(|key| key.get("d").is_none() && key.get("p").is_none()));
        }
        for (yaml, expected) in [
            (
                "private-keys: [p384.pem]",
                "backend-assertion.private-keys[0]: `p384.pem` is no key to sign with: the key is neither",
            ),
            ("private-keys: [none.pem]", "cannot be read as a private key"),
            ("private-keys: [missing.pem]", "cannot be read as a private key"),
            ("{ private-keys: [ec.pem], rotate: 24h }", "replaced by whoever made them"),
            ("rotate: 5m", "faster than backends look"),
            ("issuer: ''", "the name is empty"),
        ] {
            let (built, faults) = build(yaml);
            assert!(built.is_none() && faults.len() == 1 && faults[0].contains(expected), "{yaml}: {faults:?}");
            assert!(!faults[0].contains("hunter2"));
        }
    }
}
