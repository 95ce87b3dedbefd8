//! Signing keys: a JSON Web Key Set (RFC 7517), parsed once.

use std::{collections::HashMap, fmt, sync::Arc};

use aws_lc_rs::signature::{self, ParsedPublicKey, RsaParameters, RsaPublicKeyComponents};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::{Map, Value};

use super::{
    issuer::Issuer,
    json::{NotStrict, read_object},
};

/// The most keys that a set may list. Microsoft asks to be ready for up to a thousand.
const MAX_KEYS: usize = 1_000;
/// The most keys that may share one id; tried one after the other.
const MAX_KEYS_OF_ONE_ID: usize = 4;

/// A signature algorithm (RFC 7518, section 3.1; RFC 8037). Those without a public key are not among them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Algorithm {
    /// RSA PKCS#1 v1.5 with SHA-256.
    Rs256,
    /// RSA PKCS#1 v1.5 with SHA-384.
    Rs384,
    /// RSA PKCS#1 v1.5 with SHA-512.
    Rs512,
    /// RSA PSS with SHA-256.
    Ps256,
    /// RSA PSS with SHA-384.
    Ps384,
    /// RSA PSS with SHA-512.
    Ps512,
    /// ECDSA on P-256 with SHA-256.
    Es256,
    /// ECDSA on P-384 with SHA-384.
    Es384,
    /// ECDSA on P-521 with SHA-512.
    Es512,
    /// Ed25519.
    EdDsa,
}

impl Algorithm {
    /// Every algorithm that is understood.
    pub const ALL: &[Self] = &[
        Self::Rs256,
        Self::Rs384,
        Self::Rs512,
        Self::Ps256,
        Self::Ps384,
        Self::Ps512,
        Self::Es256,
        Self::Es384,
        Self::Es512,
        Self::EdDsa,
    ];
    /// What Entra signs with.
    pub const ENTRA: &[Self] = &[Self::Rs256];

    /// The name in `alg`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Rs256 => "RS256",
            Self::Rs384 => "RS384",
            Self::Rs512 => "RS512",
            Self::Ps256 => "PS256",
            Self::Ps384 => "PS384",
            Self::Ps512 => "PS512",
            Self::Es256 => "ES256",
            Self::Es384 => "ES384",
            Self::Es512 => "ES512",
            Self::EdDsa => "EdDSA",
        }
    }

    /// The algorithm of this name, letter for letter.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|algorithm| algorithm.as_str() == name)
    }

    const fn rsa(self) -> Option<&'static RsaParameters> {
        match self {
            Self::Rs256 => Some(&signature::RSA_PKCS1_2048_8192_SHA256),
            Self::Rs384 => Some(&signature::RSA_PKCS1_2048_8192_SHA384),
            Self::Rs512 => Some(&signature::RSA_PKCS1_2048_8192_SHA512),
            Self::Ps256 => Some(&signature::RSA_PSS_2048_8192_SHA256),
            Self::Ps384 => Some(&signature::RSA_PSS_2048_8192_SHA384),
            Self::Ps512 => Some(&signature::RSA_PSS_2048_8192_SHA512),
            Self::Es256 | Self::Es384 | Self::Es512 | Self::EdDsa => None,
        }
    }
}

/// One signing key, ready to verify.
pub(crate) struct Key {
    /// `kid`.
    pub(crate) id: Option<Box<str>>,
    /// The issuer, or template of issuers, that the key is for; Entra's v2 key sets say so for each key.
    pub(crate) issuer: Option<Issuer>,
    /// The cloud that the key is for, where its set says so.
    pub(crate) cloud: Option<Box<str>>,
    /// The parsed key for each algorithm that it may be used with.
    parsed: Box<[(Algorithm, ParsedPublicKey)]>,
    /// The public key itself, to tell whether two keys are one.
    material: Box<[u8]>,
}

/// How a signature fared with one key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum KeyVerdict {
    /// It holds.
    Holds,
    /// It does not.
    Fails,
    /// The key is not for this algorithm.
    WrongAlgorithm,
}

/// Why one key of a set is passed over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Unusable {
    #[error("it is no object with text members")]
    Shape,
    #[error("its type is not supported")]
    Type,
    #[error("it is not for signatures")]
    Use,
    #[error("its algorithm is not accepted")]
    Algorithm,
    #[error("its issuer is empty or no issuer")]
    Issuer,
    #[error("its numbers cannot be used")]
    Numbers,
}

/// Why a key set cannot be used at all.
#[derive(Debug, thiserror::Error)]
pub(crate) enum KeysFault {
    #[error("the key set is {0}")]
    Json(#[from] NotStrict),
    #[error("the key set has no list of keys")]
    NoList,
    #[error("the key set lists {0} keys, more than {MAX_KEYS}")]
    TooMany(usize),
    #[error("the key set holds no usable key")]
    Empty,
}

impl Key {
    fn read(jwk: &Value, accepted: &[Algorithm]) -> Result<Self, Unusable> {
        let jwk = jwk.as_object().ok_or(Unusable::Shape)?;
        let text = |name: &str| match jwk.get(name) {
            None | Some(Value::Null) => Ok(None),
            Some(value) => value.as_str().map(Some).ok_or(Unusable::Shape),
        };

        if text("use")?.is_some_and(|usage| usage != "sig") {
            return Err(Unusable::Use);
        }
        if let Some(operations) = jwk.get("key_ops") {
            let operations = operations.as_array().ok_or(Unusable::Shape)?;
            if !operations.iter().any(|operation| operation == "verify") {
                return Err(Unusable::Use);
            }
        }
        // An issuer that is there and says nothing must not read as one that is absent.
        let issuer = match jwk.get("issuer") {
            None => None,
            Some(Value::String(issuer)) if !issuer.trim().is_empty() => Some(Issuer::read(issuer).ok_or(Unusable::Issuer)?),
            Some(_) => return Err(Unusable::Issuer),
        };
        // A key that names its algorithm is for that one alone. RFC 7517, section 4.4.
        let own = match text("alg")? {
            None => None,
            Some(name) => Some(Algorithm::named(name).ok_or(Unusable::Algorithm)?),
        };
        let usable: Vec<_> = accepted.iter().copied().filter(|algorithm| own.is_none_or(|own| own == *algorithm)).collect();
        if usable.is_empty() {
            return Err(Unusable::Algorithm);
        }

        let (parsed, material) = match text("kty")? {
            Some("RSA") => rsa(jwk, &usable)?,
            Some("EC") => elliptic(jwk, &usable)?,
            Some("OKP") => edwards(jwk, &usable)?,
            // `oct` above all: a shared secret is no signing key here.
            _ => return Err(Unusable::Type),
        };
        if parsed.is_empty() {
            return Err(Unusable::Algorithm);
        }
        Ok(Self {
            id: text("kid")?.map(Into::into),
            issuer,
            cloud: text("cloud_instance_name")?.map(Into::into),
            parsed: parsed.into(),
            material: material.into(),
        })
    }

    /// Whether `signature` covers `input` under this key.
    pub(crate) fn verify(&self, algorithm: Algorithm, input: &[u8], signature: &[u8]) -> KeyVerdict {
        match self.parsed.iter().find(|(own, _)| *own == algorithm) {
            None => KeyVerdict::WrongAlgorithm,
            Some((_, key)) if key.verify_sig(input, signature).is_ok() => KeyVerdict::Holds,
            Some(_) => KeyVerdict::Fails,
        }
    }
}

impl Key {
    /// Whether both are the same public key, whatever else their entries say.
    pub(crate) fn is_same_key(&self, other: &Self) -> bool {
        self.material == other.material
    }
}

impl PartialEq for Key {
    fn eq(&self, other: &Self) -> bool {
        let algorithms = |key: &Self| key.parsed.iter().map(|(algorithm, _)| *algorithm).collect::<Vec<_>>();
        self.id == other.id
            && self.issuer == other.issuer
            && self.cloud == other.cloud
            && self.material == other.material
            && algorithms(self) == algorithms(other)
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Key").field("id", &self.id).field("issuer", &self.issuer).finish_non_exhaustive()
    }
}

type Parsed = (Vec<(Algorithm, ParsedPublicKey)>, Vec<u8>);

fn number(jwk: &Map<String, Value>, name: &str) -> Result<Vec<u8>, Unusable> {
    let text = jwk.get(name).and_then(Value::as_str).ok_or(Unusable::Numbers)?;
    URL_SAFE_NO_PAD.decode(text).map_err(|_| Unusable::Numbers)
}

fn rsa(jwk: &Map<String, Value>, usable: &[Algorithm]) -> Result<Parsed, Unusable> {
    let unpadded = |bytes: Vec<u8>| bytes.iter().position(|byte| *byte != 0).map(|start| bytes[start..].to_vec());
    let modulus = unpadded(number(jwk, "n")?).ok_or(Unusable::Numbers)?;
    let exponent = unpadded(number(jwk, "e")?).ok_or(Unusable::Numbers)?;
    let bits = modulus.len() * 8 - modulus[0].leading_zeros() as usize;
    let odd = |number: &[u8]| number.last().is_some_and(|byte| byte % 2 == 1);
    // An exponent of one would make every signature its own message.
    if !(2_048..=8_192).contains(&bits) || !odd(&modulus) || !odd(&exponent) || exponent == [1] || exponent.len() > 4 {
        return Err(Unusable::Numbers);
    }
    let components = RsaPublicKeyComponents { n: &modulus, e: &exponent };
    let parsed = usable
        .iter()
        .filter_map(|algorithm| Some((*algorithm, algorithm.rsa()?)))
        .map(|(algorithm, parameters)| Ok((algorithm, components.to_parsed_public_key(parameters)?)))
        .collect::<Result<_, aws_lc_rs::error::KeyRejected>>()
        .map_err(|_| Unusable::Numbers)?;
    let mut material = modulus;
    material.push(b'.');
    material.extend_from_slice(&exponent);
    Ok((parsed, material))
}

fn elliptic(jwk: &Map<String, Value>, usable: &[Algorithm]) -> Result<Parsed, Unusable> {
    let (algorithm, parameters, length) = match jwk.get("crv").and_then(Value::as_str) {
        Some("P-256") => (Algorithm::Es256, &signature::ECDSA_P256_SHA256_FIXED, 32),
        Some("P-384") => (Algorithm::Es384, &signature::ECDSA_P384_SHA384_FIXED, 48),
        Some("P-521") => (Algorithm::Es512, &signature::ECDSA_P521_SHA512_FIXED, 66),
        _ => return Err(Unusable::Type),
    };
    let (x, y) = (number(jwk, "x")?, number(jwk, "y")?);
    // RFC 7518, section 6.2.1.2: coordinates have the full length of the curve's field.
    if x.len() != length || y.len() != length {
        return Err(Unusable::Numbers);
    }
    // SEC 1, section 2.3.3: an uncompressed point. The library refuses one that is not on the curve.
    let point = [&[4], x.as_slice(), &y].concat();
    if !usable.contains(&algorithm) {
        return Err(Unusable::Algorithm);
    }
    let parsed = ParsedPublicKey::new(parameters, &point).map_err(|_| Unusable::Numbers)?;
    Ok((vec![(algorithm, parsed)], point))
}

fn edwards(jwk: &Map<String, Value>, usable: &[Algorithm]) -> Result<Parsed, Unusable> {
    if jwk.get("crv").and_then(Value::as_str) != Some("Ed25519") {
        return Err(Unusable::Type);
    }
    if !usable.contains(&Algorithm::EdDsa) {
        return Err(Unusable::Algorithm);
    }
    let point = number(jwk, "x")?;
    let parsed = ParsedPublicKey::new(&signature::ED25519, &point).map_err(|_| Unusable::Numbers)?;
    Ok((vec![(Algorithm::EdDsa, parsed)], point))
}

/// How many usable signing keys a key set (RFC 7517) holds.
///
/// # Errors
/// What is wrong with it as a whole.
pub fn inspect_key_set(document: &[u8]) -> Result<usize, String> {
    Keys::read(document, Algorithm::ALL).map(|keys| keys.len()).map_err(|error| error.to_string())
}

/// Whether `signature` covers `message` under a key (RFC 7517) and an algorithm (RFC 7518) of these names.
///
/// # Errors
/// Why the key cannot be used for that.
pub fn inspect_signature(jwk: &[u8], algorithm: &str, message: &[u8], signature: &[u8]) -> Result<bool, String> {
    let algorithm = Algorithm::named(algorithm).ok_or("no such algorithm")?;
    let jwk = read_object(jwk).map_err(|error| error.to_string())?;
    let key = Key::read(&Value::Object(jwk), &[algorithm]).map_err(|error| error.to_string())?;
    Ok(key.verify(algorithm, message, signature) == KeyVerdict::Holds)
}

/// The keys of one set, by id.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Keys {
    by_id: HashMap<Box<str>, Vec<Arc<Key>>>,
    /// Keys without an id; nothing but a set given in the config may have them.
    nameless: Vec<Arc<Key>>,
}

impl Keys {
    /// Reads a key set. Keys that cannot be used are passed over.
    ///
    /// # Errors
    /// The document is no key set, or no key of it can be used.
    pub(crate) fn read(document: &[u8], accepted: &[Algorithm]) -> Result<Self, KeysFault> {
        let document = read_object(document)?;
        let list = document.get("keys").and_then(Value::as_array).ok_or(KeysFault::NoList)?;
        if list.len() > MAX_KEYS {
            return Err(KeysFault::TooMany(list.len()));
        }
        let mut keys = Self::default();
        for (index, jwk) in list.iter().enumerate() {
            match Key::read(jwk, accepted) {
                Ok(key) => keys.add(key),
                Err(reason) => tracing::debug!(index, %reason, "a key of the set is passed over"),
            }
        }
        if keys.len() == 0 { Err(KeysFault::Empty) } else { Ok(keys) }
    }

    /// Two entries may bear one id (RFC 7517, section 4.5); whichever of them verifies vouches with its own issuer.
    fn add(&mut self, key: Key) {
        let same = match &key.id {
            Some(id) => self.by_id.entry(id.clone()).or_default(),
            None => &mut self.nameless,
        };
        if same.len() < MAX_KEYS_OF_ONE_ID && !same.iter().any(|known| **known == key) {
            same.push(Arc::new(key));
        }
    }

    /// The keys of this id.
    pub(crate) fn of(&self, id: &str) -> &[Arc<Key>] {
        self.by_id.get(id).map_or(&[], Vec::as_slice)
    }

    /// The keys that a token may mean: those of its key id, or those that bear none. A token that names no key means the one key
    /// of the set, if there is but one.
    pub(crate) fn matching(&self, id: Option<&str>) -> &[Arc<Key>] {
        match id.map(|id| self.of(id)) {
            Some(keys) if !keys.is_empty() => keys,
            None if self.nameless.is_empty() && self.by_id.len() == 1 => self.by_id.values().next().map_or(&[], Vec::as_slice),
            _ => &self.nameless,
        }
    }

    /// How many keys there are.
    pub(crate) fn len(&self) -> usize {
        self.by_id.values().map(Vec::len).sum::<usize>() + self.nameless.len()
    }

    /// Drops the keys that `keep` does not want.
    pub(crate) fn retain(&mut self, mut keep: impl FnMut(&Key) -> bool) {
        self.by_id.values_mut().for_each(|keys| keys.retain(|key| keep(key)));
        self.by_id.retain(|_, keys| !keys.is_empty());
        self.nameless.retain(|key| keep(key));
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;
    use crate::entra::testing::{TEMPLATE, key};

    fn read(jwk: &Value) -> Result<Key, Unusable> {
        Key::read(jwk, Algorithm::ALL)
    }

    fn with(changes: &Value) -> Value {
        let mut jwk = key(0).jwk(Some(TEMPLATE));
        for (name, value) in changes.as_object().unwrap() {
            jwk[name] = value.clone();
        }
        jwk
    }

    #[test]
    fn takes_signing_keys_and_nothing_else() {
        let b64 = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
        let short = b64(&key(0).modulus()[..128]);
        let long = b64(&[&[0xff; 1_024][..], &[1]].concat());
        let padded = b64(&[&[0], key(0).modulus()].concat());
        for (row, changes, expected) in [
            ("as Entra has them", json!({}), Ok(())),
            ("with its algorithm", json!({ "alg": "RS256" }), Ok(())),
            ("for verifying", json!({ "key_ops": ["verify"] }), Ok(())),
            ("leading zero", json!({ "n": padded }), Ok(())),
            ("for encryption", json!({ "use": "enc" }), Err(Unusable::Use)),
            ("for signing only", json!({ "key_ops": ["sign"] }), Err(Unusable::Use)),
            ("a shared secret", json!({ "kty": "oct", "k": "AAAA" }), Err(Unusable::Type)),
            ("an unknown type", json!({ "kty": "AKP" }), Err(Unusable::Type)),
            ("no type", json!({ "kty": Value::Null }), Err(Unusable::Type)),
            ("an encryption algorithm", json!({ "alg": "RSA-OAEP" }), Err(Unusable::Algorithm)),
            ("HMAC over the key", json!({ "alg": "HS256" }), Err(Unusable::Algorithm)),
            ("another family's algorithm", json!({ "alg": "ES256" }), Err(Unusable::Algorithm)),
            ("an empty issuer", json!({ "issuer": " " }), Err(Unusable::Issuer)),
            ("a null issuer", json!({ "issuer": Value::Null }), Err(Unusable::Issuer)),
            ("an issuer with two places", json!({ "issuer": "{tenantid}{tenantid}" }), Err(Unusable::Issuer)),
            ("too short", json!({ "n": short }), Err(Unusable::Numbers)),
            ("too long", json!({ "n": long }), Err(Unusable::Numbers)),
            ("nothing", json!({ "n": "" }), Err(Unusable::Numbers)),
            ("an even exponent", json!({ "e": b64(&[4]) }), Err(Unusable::Numbers)),
            ("an exponent of one", json!({ "e": b64(&[1]) }), Err(Unusable::Numbers)),
            ("an exponent of zero", json!({ "e": b64(&[0]) }), Err(Unusable::Numbers)),
            ("standard base64", json!({ "e": "AQA+" }), Err(Unusable::Numbers)),
            ("a number", json!({ "n": 7 }), Err(Unusable::Numbers)),
            ("a key id of a wrong type", json!({ "kid": 7 }), Err(Unusable::Shape)),
        ] {
            assert_eq!(read(&with(&changes)).map(drop), expected, "{row}");
        }
        assert_eq!(read(&json!("key")).map(drop), Err(Unusable::Shape));
    }

    #[test]
    fn verifies_every_algorithm_with_its_own_kind_of_key() {
        use aws_lc_rs::{
            rand::SystemRandom,
            signature::{
                ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, ECDSA_P521_SHA512_FIXED_SIGNING, EcdsaKeyPair,
                Ed25519KeyPair, KeyPair as _,
            },
        };
        let random = SystemRandom::new();
        let input = b"header.payload";
        for (curve, signing, algorithm) in [
            ("P-256", &ECDSA_P256_SHA256_FIXED_SIGNING, Algorithm::Es256),
            ("P-384", &ECDSA_P384_SHA384_FIXED_SIGNING, Algorithm::Es384),
            ("P-521", &ECDSA_P521_SHA512_FIXED_SIGNING, Algorithm::Es512),
        ] {
            let pair = EcdsaKeyPair::generate(signing).unwrap();
            let point = pair.public_key().as_ref();
            let (x, y) = point[1..].split_at(point.len() / 2);
            let jwk = json!({ "kty": "EC", "crv": curve, "x": URL_SAFE_NO_PAD.encode(x), "y": URL_SAFE_NO_PAD.encode(y) });
            let key = read(&jwk).unwrap();
            let signature = pair.sign(&random, input).unwrap();

            assert_eq!(key.verify(algorithm, input, signature.as_ref()), KeyVerdict::Holds, "{curve}");
            assert_eq!(key.verify(algorithm, b"other", signature.as_ref()), KeyVerdict::Fails, "{curve}");
            // The zero signature that once satisfied a well-known library.
            assert_eq!(key.verify(algorithm, input, &vec![0; signature.as_ref().len()]), KeyVerdict::Fails, "{curve}");
            assert_eq!(key.verify(Algorithm::Rs256, input, signature.as_ref()), KeyVerdict::WrongAlgorithm, "{curve}");
            let off_curve = json!({ "kty": "EC", "crv": curve, "x": URL_SAFE_NO_PAD.encode(x), "y": URL_SAFE_NO_PAD.encode(x) });
            assert_eq!(read(&off_curve).map(drop), Err(Unusable::Numbers), "{curve}");
        }
        let pair = Ed25519KeyPair::generate().unwrap();
        let jwk = json!({ "kty": "OKP", "crv": "Ed25519", "x": URL_SAFE_NO_PAD.encode(pair.public_key()) });
        assert_eq!(read(&jwk).unwrap().verify(Algorithm::EdDsa, input, pair.sign(input).as_ref()), KeyVerdict::Holds);
        let rsa = read(&with(&json!({}))).unwrap();
        for algorithm in
            [Algorithm::Rs256, Algorithm::Rs384, Algorithm::Rs512, Algorithm::Ps256, Algorithm::Ps384, Algorithm::Ps512]
        {
            let signature = key(0).sign(algorithm.as_str(), input).unwrap();

            assert_eq!(rsa.verify(algorithm, input, &signature), KeyVerdict::Holds, "{algorithm:?}");
            assert_eq!(rsa.verify(algorithm, b"other", &signature), KeyVerdict::Fails, "{algorithm:?}");
        }
    }

    #[test]
    fn two_keys_of_one_id_are_both_kept_and_one_key_twice_is_one() {
        let mut second = key(1).jwk(None);
        second["kid"] = key(0).kid().into();
        let first = key(0).jwk(None);
        let set = |entries: &[&Value]| Keys::read(json!({ "keys": entries }).to_string().as_bytes(), Algorithm::ENTRA).unwrap();

        assert_eq!(set(&[&first, &second, &first]).of(key(0).kid()).len(), 2);
        assert_eq!(set(&[&first, &first]).len(), 1);
        assert_eq!(set(&[&first, &second]), set(&[&first, &second]));
        assert_ne!(set(&[&first]), set(&[&second]));
    }

    #[test]
    fn a_set_without_a_usable_key_is_no_set() {
        let one = key(0).jwk(None);
        for (row, text, fits) in [
            ("one", json!({ "keys": [one] }).to_string(), true),
            ("one among others", json!({ "keys": [{}, 1, one, { "kty": "EC" }] }).to_string(), true),
            ("none", json!({ "keys": [] }).to_string(), false),
            ("none that is usable", json!({ "keys": [{ "kty": "oct", "k": "AA" }] }).to_string(), false),
            ("no list", json!({ "keys": one }).to_string(), false),
            ("nothing", "{}".to_owned(), false),
            ("a page", "<html>".to_owned(), false),
            ("keys twice", r#"{"keys":[],"keys":[]}"#.to_owned(), false),
            ("too many", json!({ "keys": vec![json!({}); MAX_KEYS + 1] }).to_string(), false),
        ] {
            assert_eq!(Keys::read(text.as_bytes(), Algorithm::ENTRA).is_ok(), fits, "{row}");
        }
    }

    #[test]
    fn reads_entras_own_key_set() {
        let Some(folder) = std::env::var_os("ENTRADA_DATA") else {
            eprintln!("skipped: ENTRADA_DATA names no folder with entra-common-keys.json");
            return;
        };
        let document = std::fs::read(std::path::Path::new(&folder).join("entra-common-keys.json")).unwrap();
        let listed = read_object(&document).unwrap()["keys"].as_array().unwrap().len();

        let keys = Keys::read(&document, Algorithm::ENTRA).unwrap();

        assert_eq!(keys.len(), listed);
        let all = || keys.by_id.values().flatten();
        assert!(all().all(|key| key.issuer.is_some() && key.id.is_some()));
        assert!(all().any(|key| key.issuer.as_ref().is_some_and(Issuer::is_template)));
        assert!(all().any(|key| key.issuer.as_ref().and_then(Issuer::tenant) == Some("9188040d-6c67-4c5b-b112-36a304b66dad")));
    }

    proptest! {
        #[test]
        fn never_panics_on_any_text(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = Keys::read(&bytes, Algorithm::ALL);
        }

        #[test]
        fn never_panics_on_any_numbers(
            kty in prop::sample::select(vec!["RSA", "EC", "OKP", "oct"]),
            crv in prop::sample::select(vec!["P-256", "P-384", "P-521", "Ed25519", "Ed448"]),
            n in proptest::collection::vec(any::<u8>(), 0..300),
            e in proptest::collection::vec(any::<u8>(), 0..70),
        ) {
            let (n, e) = (URL_SAFE_NO_PAD.encode(n), URL_SAFE_NO_PAD.encode(e));
            let _ = read(&json!({ "kty": kty, "crv": crv, "n": n, "e": e, "x": e, "y": e }));
        }
    }
}
