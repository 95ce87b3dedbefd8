//! Signing keys: a JSON Web Key Set (RFC 7517), parsed once.

use std::{collections::HashMap, fmt, sync::Arc};

use aws_lc_rs::{
    digest,
    signature::{self, ParsedPublicKey, RsaPublicKeyComponents},
};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::{Map, Value};

use super::{
    algorithm::Algorithm,
    issuer::Issuer,
    json::{NotStrict, read_object},
};

/// The maximum number of keys in a set. Microsoft asks clients to be ready for up to a thousand.
const MAX_KEYS: usize = 1_000;
/// The maximum number of keys with the same id; they are tried one after the other.
const MAX_KEYS_OF_ONE_ID: usize = 4;

/// One signing key, ready to verify.
pub(crate) struct Key {
    /// `kid`.
    pub(crate) id: Option<Box<str>>,
    /// The issuer, or template of issuers, that the key is for; Entra's v2 key sets name it for each key.
    pub(crate) issuer: Option<Issuer>,
    /// The cloud that the key is for, if its set names it.
    pub(crate) cloud: Option<Box<str>>,
    /// The parsed key for each of its algorithms.
    parsed: Box<[(Algorithm, ParsedPublicKey)]>,
    /// The public key itself, for comparing keys.
    material: Box<[u8]>,
}

/// The result of a verification with one key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum KeyVerdict {
    /// The signature is valid.
    Holds,
    /// The signature is invalid.
    Fails,
    /// The key is not for this algorithm.
    WrongAlgorithm,
}

/// The reason why one key of a set is skipped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Unusable {
    #[error("it is not an object with text members")]
    Shape,
    #[error("its type is not supported")]
    Type,
    #[error("it is not for signatures")]
    Use,
    #[error("its algorithm is not accepted")]
    Algorithm,
    #[error("its issuer is empty or invalid")]
    Issuer,
    #[error("its numbers cannot be used")]
    Numbers,
}

/// The reason why a key set cannot be used at all.
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

    /// Verifies that `signature` covers `input` under this key.
    pub(crate) fn verify(&self, algorithm: Algorithm, input: &[u8], signature: &[u8]) -> KeyVerdict {
        match self.parsed.iter().find(|(own, _)| *own == algorithm) {
            None => KeyVerdict::WrongAlgorithm,
            Some((_, key)) if key.verify_sig(input, signature).is_ok() => KeyVerdict::Holds,
            Some(_) => KeyVerdict::Fails,
        }
    }
}

impl Key {
    /// Returns whether both are the same public key, whatever their other attributes.
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

/// Returns the number of usable signing keys in a key set (RFC 7517).
///
/// # Errors
/// Returns the fault of the set as a whole.
pub fn inspect_key_set(document: &[u8]) -> Result<usize, String> {
    Keys::read(document, Algorithm::ALL).map(|keys| keys.len()).map_err(|error| error.to_string())
}

/// Verifies that `signature` covers `message` under a key (RFC 7517) and an algorithm (RFC 7518) of these names.
///
/// # Errors
/// Returns the reason why the key cannot be used for that.
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
    /// Keys without an id; only a set given in the config may have them.
    nameless: Vec<Arc<Key>>,
}

impl Keys {
    /// Reads a key set. Unusable keys are skipped.
    ///
    /// # Errors
    /// Fails if the document is not a key set, or if none of its keys is usable.
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

    /// Returns a digest of the public keys, whatever their order.
    pub(crate) fn digest(&self) -> String {
        let mut materials: Vec<_> = self.by_id.values().flatten().chain(&self.nameless).map(|key| &*key.material).collect();
        materials.sort_unstable();
        let mut context = digest::Context::new(&digest::SHA256);
        for material in materials {
            context.update(&material.len().to_be_bytes());
            context.update(material);
        }
        context.finish().as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// Adds a key. Two entries may have the same id (RFC 7517, section 4.5); the one that verifies counts, with its own issuer.
    fn add(&mut self, key: Key) {
        let same = match &key.id {
            Some(id) => self.by_id.entry(id.clone()).or_default(),
            None => &mut self.nameless,
        };
        if same.len() < MAX_KEYS_OF_ONE_ID && !same.iter().any(|known| **known == key) {
            same.push(Arc::new(key));
        }
    }

    /// Returns the keys of this id.
    pub(crate) fn of(&self, id: &str) -> &[Arc<Key>] {
        self.by_id.get(id).map_or(&[], Vec::as_slice)
    }

    /// Returns the keys that a token may refer to: those of its key id, or those without one. A token without a key id refers to
    /// the only key of the set, if there is just one.
    pub(crate) fn matching(&self, id: Option<&str>) -> &[Arc<Key>] {
        match id.map(|id| self.of(id)) {
            Some(keys) if !keys.is_empty() => keys,
            None if self.nameless.is_empty() && self.by_id.len() == 1 => self.by_id.values().next().map_or(&[], Vec::as_slice),
            _ => &self.nameless,
        }
    }

    /// Returns the number of keys.
    pub(crate) fn len(&self) -> usize {
        self.by_id.values().map(Vec::len).sum::<usize>() + self.nameless.len()
    }

    /// Keeps only the keys for which `keep` returns true.
    pub(crate) fn retain(&mut self, mut keep: impl FnMut(&Key) -> bool) {
        self.by_id.values_mut().for_each(|keys| keys.retain(|key| keep(key)));
        self.by_id.retain(|_, keys| !keys.is_empty());
        self.nameless.retain(|key| keep(key));
    }
}

#[cfg(test)]
mod tests;
