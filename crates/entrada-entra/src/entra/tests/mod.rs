//! Tokens with every known fault of such formats, each on its own; mutations of good tokens; issuers of every cloud.
//!
//! The classes of faults are those of the Wycheproof vectors for JSON Web Signatures, RFC 8725 and the advisories of other
//! libraries. Each is made for every algorithm, and compared with the verdict of another implementation.

mod clouds;
mod faults;
mod mutations;

use std::{collections::BTreeMap, sync::Arc};

use aws_lc_rs::{
    rand::SystemRandom,
    signature::{
        ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, ECDSA_P521_SHA512_FIXED_SIGNING, EcdsaKeyPair,
        EcdsaSigningAlgorithm, Ed25519KeyPair, KeyPair as _,
    },
};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::{Value, json};

use super::{
    Algorithm, IssuerVerdict, Moment, Profile, Tenants, Verified, Verifier, VerifyError,
    testing::{NOW, clock, jwks, key},
};
use crate::{
    dev_tenant::SigningKey,
    settings::{Faults, Place},
};

const ISSUER: &str = "https://idp.fabrikam.example";

/// A signer for one algorithm, with its key.
struct Signer {
    algorithm: Algorithm,
    pair: Pair,
}

enum Pair {
    Rsa(&'static Arc<SigningKey>),
    Elliptic(&'static str, Box<EcdsaKeyPair>),
    Edwards(Box<Ed25519KeyPair>),
}

impl Signer {
    /// Returns one signer for every algorithm.
    fn all() -> Vec<Self> {
        Algorithm::ALL.iter().map(|algorithm| Self::of(*algorithm, 0)).collect()
    }

    /// Returns one of several signers for this algorithm.
    fn of(algorithm: Algorithm, which: usize) -> Self {
        let elliptic = |curve, signing: &'static EcdsaSigningAlgorithm| {
            Pair::Elliptic(curve, Box::new(EcdsaKeyPair::generate(signing).unwrap()))
        };
        let pair = match algorithm {
            Algorithm::Es256 => elliptic("P-256", &ECDSA_P256_SHA256_FIXED_SIGNING),
            Algorithm::Es384 => elliptic("P-384", &ECDSA_P384_SHA384_FIXED_SIGNING),
            Algorithm::Es512 => elliptic("P-521", &ECDSA_P521_SHA512_FIXED_SIGNING),
            Algorithm::EdDsa => Pair::Edwards(Box::new(Ed25519KeyPair::generate().unwrap())),
            _ => Pair::Rsa(key(which)),
        };
        Self { algorithm, pair }
    }

    fn name(&self) -> &'static str {
        self.algorithm.as_str()
    }

    fn key_id(&self) -> String {
        format!("key of {}", self.name())
    }

    /// Returns the public key as its set lists it: without `alg`, like Entra's.
    fn jwk(&self) -> Value {
        let text = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
        let mut jwk = match &self.pair {
            Pair::Rsa(key) => json!({ "kty": "RSA", "n": text(key.modulus()), "e": text(key.exponent()) }),
            Pair::Elliptic(curve, pair) => {
                let point = pair.public_key().as_ref();
                let (x, y) = point[1..].split_at(point.len() / 2);
                json!({ "kty": "EC", "crv": curve, "x": text(x), "y": text(y) })
            }
            Pair::Edwards(pair) => json!({ "kty": "OKP", "crv": "Ed25519", "x": text(pair.public_key().as_ref()) }),
        };
        jwk["kid"] = self.key_id().into();
        jwk["use"] = "sig".into();
        jwk
    }

    /// Returns the bytes of the public key, which somebody could use as an HMAC secret.
    fn public_bytes(&self) -> Vec<u8> {
        match &self.pair {
            Pair::Rsa(key) => key.spki(),
            Pair::Elliptic(_, pair) => pair.public_key().as_ref().to_vec(),
            Pair::Edwards(pair) => pair.public_key().as_ref().to_vec(),
        }
    }

    fn signature(&self, input: &[u8]) -> Vec<u8> {
        match &self.pair {
            Pair::Rsa(key) => key.sign(self.name(), input).unwrap(),
            Pair::Elliptic(_, pair) => pair.sign(&SystemRandom::new(), input).unwrap().as_ref().to_vec(),
            Pair::Edwards(pair) => pair.sign(input).as_ref().to_vec(),
        }
    }

    fn header(&self) -> Value {
        json!({ "typ": "at+jwt", "alg": self.name(), "kid": self.key_id() })
    }

    /// Returns the header with a member set.
    fn header_with(&self, name: &str, value: impl Into<Value>) -> Value {
        let mut header = self.header();
        header[name] = value.into();
        header
    }

    /// Signs a header over the usual payload.
    fn sign(&self, header: &Value) -> String {
        self.sign_bytes(header.to_string().as_bytes(), payload().to_string().as_bytes())
    }

    /// Signs any bytes as header and payload.
    fn sign_bytes(&self, header: &[u8], payload: &[u8]) -> String {
        self.sign_input(&format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(payload)))
    }

    /// Signs any text as the signing input.
    fn sign_input(&self, input: &str) -> String {
        format!("{input}.{}", URL_SAFE_NO_PAD.encode(self.signature(input.as_bytes())))
    }

    /// Makes a token without faults.
    fn token(&self) -> String {
        self.sign(&self.header())
    }
}

fn payload() -> Value {
    json!({ "iss": ISSUER, "aud": "orders", "sub": "nia", "client_id": "portal", "scope": "read", "nbf": NOW, "exp": NOW + 600 })
}

/// Makes a verifier for tokens of [`ISSUER`] with these keys.
fn verifier(keys: &[Value], algorithms: &[Algorithm]) -> Verifier {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("keys.json");
    std::fs::write(&path, jwks(keys)).unwrap();
    let config = serde_json::from_value(json!({ "issuer": ISSUER, "keys": { "jwks": path } })).unwrap();
    let mut faults = Faults::default();
    let tenants = Tenants::build(&BTreeMap::new(), None, &Place::root(), &mut faults);
    let tenants = tenants.with_issuers(&[("idp".to_owned(), config)].into(), &Place::root(), &mut faults);
    assert!(faults.is_empty(), "{faults:?}");
    let set = tenants.issuer_keys("idp").unwrap().unwrap();
    Verifier { sets: vec![set], profile: Profile::Other, algorithms: algorithms.to_vec(), verified_token_cache: Arc::default() }
}

fn verify(verifier: &Verifier, token: &[u8]) -> Result<Arc<Verified>, VerifyError> {
    verifier.verify(token, 0, Moment::of(&clock()))
}

/// Returns whether the token is verified, with its issuer.
fn is_good(verifier: &Verifier, token: &[u8]) -> bool {
    verify(verifier, token).is_ok_and(|verified| verified.issuer == IssuerVerdict::Agrees)
}
