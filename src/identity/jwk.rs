//! Public keys as JSON Web Keys (RFC 7517).

use aws_lc_rs::digest;
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::{Value, json};
use x509_parser::{prelude::FromDer as _, public_key::PublicKey, x509::SubjectPublicKeyInfo};

/// Returns a public key (DER, as in certificates) as a JSON Web Key: one on P-256, or an RSA key.
pub(crate) fn public_jwk(spki: &[u8]) -> Option<Value> {
    let (_, spki) = SubjectPublicKeyInfo::from_der(spki).ok()?;
    match spki.parsed().ok()? {
        PublicKey::EC(point) => ec_jwk(point.data()),
        _ => rsa_jwk(&spki),
    }
}

/// Returns a point on P-256 as a JSON Web Key. SEC 1, section 2.3.3: 4, x, y.
pub(super) fn ec_jwk(point: &[u8]) -> Option<Value> {
    let (x, y) = point.get(1..33).zip(point.get(33..)).filter(|(_, y)| y.len() == 32)?;
    let (x, y) = (URL_SAFE_NO_PAD.encode(x), URL_SAFE_NO_PAD.encode(y));
    let kid = thumbprint(&json!({ "crv": "P-256", "kty": "EC", "x": x, "y": y }));
    Some(json!({ "kty": "EC", "use": "sig", "alg": "ES256", "kid": kid, "crv": "P-256", "x": x, "y": y }))
}

/// Returns an RSA key as a JSON Web Key.
pub(super) fn rsa_jwk(spki: &SubjectPublicKeyInfo<'_>) -> Option<Value> {
    let Ok(PublicKey::RSA(public)) = spki.parsed() else { return None };
    let number = |bytes: &[u8]| {
        let zeros = bytes.iter().take_while(|byte| **byte == 0).count();
        URL_SAFE_NO_PAD.encode(&bytes[zeros..])
    };
    let (n, e) = (number(public.modulus), number(public.exponent));
    let kid = thumbprint(&json!({ "e": e, "kty": "RSA", "n": n }));
    Some(json!({ "kty": "RSA", "use": "sig", "alg": "PS256", "kid": kid, "n": n, "e": e }))
}

/// Returns the thumbprint of RFC 7638: of the key's required members, in the order of their names, without spaces.
pub(crate) fn thumbprint(members: &Value) -> Box<str> {
    URL_SAFE_NO_PAD.encode(digest::digest(&digest::SHA256, members.to_string().as_bytes())).into()
}
