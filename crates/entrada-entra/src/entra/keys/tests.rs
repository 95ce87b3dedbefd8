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
    for algorithm in [Algorithm::Rs256, Algorithm::Rs384, Algorithm::Rs512, Algorithm::Ps256, Algorithm::Ps384, Algorithm::Ps512]
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
