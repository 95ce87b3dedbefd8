//! Client assertions (RFC 7523), by which the gateway authenticates to Entra.
//!
//! This is the strict form that every parser accepts; Entra's also forgives fractions, texts for numbers, and padding.

use std::sync::{Arc, Mutex};

use aws_lc_rs::{
    rand::SystemRandom,
    rsa::KeyPair as RsaKeyPair,
    signature::{RSA_PKCS1_SHA256, RSA_PSS_SHA256, RsaEncoding},
};
use base64::{
    Engine as _,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};
use secrecy::{ExposeSecret as _, SecretString};
use serde::Serialize;

use super::{AssertionAlgorithm, AssertionConfig, error::Failure, signing_certificate::SigningCertificate};
use crate::base::{clock::Clock, error_chain::chain, lock::lock};

/// The lifetime of an assertion, in seconds. Microsoft advises five to ten minutes.
const LIFETIME: u64 = 300;
/// The time before its end at which an assertion is replaced, in seconds.
const MARGIN: u64 = 60;

/// The header of an assertion. One of the thumbprints tells Entra the certificate.
#[derive(Serialize)]
struct Header {
    alg: &'static str,
    typ: &'static str,
    #[serde(rename = "x5t#S256", skip_serializing_if = "Option::is_none")]
    x5t_s256: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    x5t: Option<String>,
    /// RFC 7515, section 4.1.6: standard base64, leaf first.
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    x5c: Vec<String>,
}

/// The payload of an assertion. RFC 7523, section 3.
#[derive(Serialize)]
struct Payload<'a> {
    aud: &'a str,
    iss: &'a str,
    sub: &'a str,
    jti: String,
    nbf: u64,
    iat: u64,
    exp: u64,
}

impl Header {
    /// Makes the header: PS256 goes with the SHA-256 thumbprint, RS256 with SHA-1. The config admits no key without its certificate
    /// whose thumbprint is of the other kind.
    fn of(signer: &SigningCertificate, settings: AssertionConfig) -> Self {
        let chain = signer.certificate().filter(|_| settings.send_certificate_chain).into_iter();
        let chain = chain.flat_map(|certificate| std::iter::once(certificate.der()).chain(certificate.chain()));
        let x5c = chain.map(|der| STANDARD.encode(der)).collect();
        match signer.algorithm(settings) {
            AssertionAlgorithm::PS256 => Self { alg: "PS256", typ: "JWT", x5t_s256: signer.x5t_s256(), x5t: None, x5c },
            AssertionAlgorithm::RS256 => Self { alg: "RS256", typ: "JWT", x5t_s256: None, x5t: signer.x5t(), x5c },
        }
    }
}

/// Returns the signing input: header and payload, with `now` in seconds since 1970.
fn signing_input(signer: &SigningCertificate, settings: AssertionConfig, client_id: &str, audience: &str, now: u64) -> String {
    let header = Header::of(signer, settings);
    let payload = Payload {
        aud: audience,
        iss: client_id,
        sub: client_id,
        jti: uuid::Uuid::new_v4().to_string(),
        nbf: now,
        iat: now,
        exp: now + LIFETIME,
    };
    let encode =
        |json: Result<Vec<u8>, serde_json::Error>| URL_SAFE_NO_PAD.encode(json.expect("texts and numbers are always JSON"));
    format!("{}.{}", encode(serde_json::to_vec(&header)), encode(serde_json::to_vec(&payload)))
}

/// Signs with a local key.
pub(crate) fn sign(key: &RsaKeyPair, algorithm: AssertionAlgorithm, text: &[u8]) -> Result<Vec<u8>, Failure> {
    let encoding: &'static dyn RsaEncoding = match algorithm {
        // The salt is as long as the digest: RFC 7518, section 3.5.
        AssertionAlgorithm::PS256 => &RSA_PSS_SHA256,
        AssertionAlgorithm::RS256 => &RSA_PKCS1_SHA256,
    };
    let mut signature = vec![0; key.public_modulus_len()];
    key.sign(encoding, &SystemRandom::new(), text, &mut signature).map_err(|_| Failure::Signing)?;
    Ok(signature)
}

/// Assembles the signed assertion.
pub(crate) fn compact(signing_input: &str, signature: &[u8]) -> Arc<SecretString> {
    Arc::new(format!("{signing_input}.{}", URL_SAFE_NO_PAD.encode(signature)).into())
}

/// The assertion of one client at one token endpoint. Entra accepts it repeatedly during its lifetime, so that a slow or remote
/// key is rarely used. One that a vault signs is replaced ahead of time, so that nobody waits for the vault.
#[derive(Debug, Default)]
pub(crate) struct Assertions {
    kept: Mutex<Option<Kept>>,
    /// Held while signing: one signature serves all waiters.
    signing: Arc<tokio::sync::Mutex<()>>,
}

#[derive(Debug)]
struct Kept {
    assertion: Arc<SecretString>,
    /// The id of its signer.
    signer: String,
    settings: AssertionConfig,
    expires_at: u64,
}

/// The content of an assertion.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Subject<'a> {
    pub(crate) settings: AssertionConfig,
    pub client_id: &'a str,
    pub(crate) audience: &'a str,
}

impl Assertions {
    /// Returns a valid assertion or a new one, and whether it was used before.
    pub(crate) async fn of(
        self: &Arc<Self>,
        signer: &Arc<SigningCertificate>,
        subject: Subject<'_>,
        clock: &Clock,
    ) -> Result<(Arc<SecretString>, bool), Failure> {
        if let Some((kept, left)) = self.kept(signer, subject.settings, clock.unix_seconds()) {
            if signer.is_far() && left < LIFETIME / 2 {
                self.replace_ahead(signer, subject, clock);
            }
            return Ok((kept, true));
        }
        let _one = self.signing.lock().await;
        // Somebody else has signed one meanwhile.
        if let Some((kept, _)) = self.kept(signer, subject.settings, clock.unix_seconds()) {
            return Ok((kept, true));
        }
        Ok((self.sign(signer, subject, clock.unix_seconds()).await?, false))
    }

    /// Waits until no signing is in progress.
    #[cfg(test)]
    pub(super) async fn settled(&self) {
        drop(self.signing.lock().await);
    }

    /// Signs the next assertion while the current one is valid, unless that is in progress.
    fn replace_ahead(self: &Arc<Self>, signer: &Arc<SigningCertificate>, subject: Subject<'_>, clock: &Clock) {
        let Ok(one) = self.signing.clone().try_lock_owned() else { return };
        let (assertions, signer, clock) = (self.clone(), signer.clone(), clock.clone());
        let (settings, client_id, audience) = (subject.settings, subject.client_id.to_owned(), subject.audience.to_owned());
        tokio::spawn(async move {
            let _one = one;
            let subject = Subject { settings, client_id: &client_id, audience: &audience };
            if let Err(failure) = assertions.sign(&signer, subject, clock.unix_seconds()).await {
                tracing::debug!(error = chain(&failure), "no assertion was signed ahead of need");
            }
        });
    }

    async fn sign(&self, signer: &SigningCertificate, subject: Subject<'_>, now: u64) -> Result<Arc<SecretString>, Failure> {
        let Subject { settings, client_id, audience } = subject;
        let input = signing_input(signer, settings, client_id, audience, now);
        let assertion = compact(&input, &signer.sign(signer.algorithm(settings), input.as_bytes()).await?);
        *lock(&self.kept) =
            Some(Kept { assertion: assertion.clone(), signer: signer.id(), settings, expires_at: now + LIFETIME });
        Ok(assertion)
    }

    /// Returns the assertion that is still valid at `now`, and its remaining time.
    fn kept(&self, signer: &SigningCertificate, settings: AssertionConfig, now: u64) -> Option<(Arc<SecretString>, u64)> {
        lock(&self.kept)
            .as_ref()
            .filter(|kept| kept.signer == signer.id() && kept.settings == settings)
            // A clock that was set back would otherwise keep one that is not good yet.
            .filter(|kept| now + MARGIN < kept.expires_at && now + LIFETIME >= kept.expires_at)
            .map(|kept| (kept.assertion.clone(), kept.expires_at - now))
    }

    /// Discards the assertion that was refused.
    pub(crate) fn forget(&self, refused: &SecretString) {
        let mut kept = lock(&self.kept);
        if kept.as_ref().is_some_and(|kept| kept.assertion.expose_secret() == refused.expose_secret()) {
            *kept = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::LazyLock;

    use aws_lc_rs::signature::{RSA_PKCS1_2048_8192_SHA256, RSA_PSS_2048_8192_SHA256, VerificationAlgorithm};
    use serde_json::{Value, json};

    use super::*;
    use crate::{
        certificate::keys::KeyedCertificate,
        certificate::keys::testing::{self, Made},
    };

    static GATEWAY: LazyLock<Made> = LazyLock::new(|| testing::certificate("gateway"));
    const ENDPOINT: &str = "https://login.microsoftonline.com/aaaabbbb-0000-cccc-1111-dddd2222eeee/oauth2/v2.0/token";
    const CLIENT: &str = "00001111-aaaa-2222-bbbb-3333cccc4444";

    async fn made(pair: KeyedCertificate, settings: AssertionConfig) -> Arc<SecretString> {
        let subject = Subject { settings, client_id: CLIENT, audience: ENDPOINT };
        let (signer, clock) = (Arc::new(SigningCertificate::Here(pair)), Clock::manual(1_800_000_000));
        Arc::<Assertions>::default().of(&signer, subject, &clock).await.unwrap().0
    }

    fn settings(algorithm: AssertionAlgorithm, send_certificate_chain: bool) -> AssertionConfig {
        AssertionConfig { algorithm: Some(algorithm), send_certificate_chain }
    }

    fn decoded(part: &str) -> Value {
        serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).unwrap()).unwrap()
    }

    #[tokio::test]
    async fn has_the_strict_form_and_a_signature_that_holds() {
        let pair = GATEWAY.pair();
        let verifiers: [(AssertionAlgorithm, &'static dyn VerificationAlgorithm, Value); 2] = [
            (
                AssertionAlgorithm::PS256,
                &RSA_PSS_2048_8192_SHA256,
                json!({"alg": "PS256", "typ": "JWT", "x5t#S256": pair.certificate().x5t_s256()}),
            ),
            (
                AssertionAlgorithm::RS256,
                &RSA_PKCS1_2048_8192_SHA256,
                json!({"alg": "RS256", "typ": "JWT", "x5t": pair.certificate().x5t()}),
            ),
        ];
        for (algorithm, verifier, header) in verifiers {
            let assertion = made(GATEWAY.pair(), settings(algorithm, false)).await;
            let text = assertion.expose_secret();
            let [head, payload, signature] = text.split('.').collect::<Vec<_>>()[..] else { panic!("three parts") };

            assert_eq!(decoded(head), header);
            let mut payload_json = decoded(payload);
            let jti = payload_json.as_object_mut().unwrap().remove("jti").unwrap();
            assert!(uuid::Uuid::parse_str(jti.as_str().unwrap()).is_ok());
            assert_eq!(
                payload_json,
                json!({"aud": ENDPOINT, "iss": CLIENT, "sub": CLIENT, "nbf": 1_800_000_000, "iat": 1_800_000_000, "exp": 1_800_000_300})
            );
            let signed = format!("{head}.{payload}");
            assert!(pair.certificate().verifies(verifier, signed.as_bytes(), &URL_SAFE_NO_PAD.decode(signature).unwrap()));
        }
    }

    #[tokio::test]
    async fn a_second_implementation_agrees() {
        use jsonwebtoken::{Algorithm, DecodingKey, Validation};
        use x509_parser::prelude::FromDer as _;

        let pair = GATEWAY.pair();
        let (_, parsed) = x509_parser::certificate::X509Certificate::from_der(pair.certificate().der()).unwrap();
        let key = DecodingKey::from_rsa_der(&parsed.public_key().subject_public_key.data);
        for (algorithm, expected) in
            [(AssertionAlgorithm::PS256, Algorithm::PS256), (AssertionAlgorithm::RS256, Algorithm::RS256)]
        {
            let assertion = made(GATEWAY.pair(), settings(algorithm, false)).await;
            let mut validation = Validation::new(expected);
            validation.set_audience(&[ENDPOINT]);
            validation.set_issuer(&[CLIENT]);
            validation.validate_exp = false;

            let decoded = jsonwebtoken::decode::<Value>(assertion.expose_secret(), &key, &validation);

            assert!(decoded.is_ok(), "{decoded:?}");
        }
    }

    #[test]
    fn sends_the_chain_leaf_first_in_standard_base64() {
        let other = testing::certificate("authority");
        let text = format!("{}{}", other.certificate_pem, GATEWAY.pem());
        let pair = KeyedCertificate::from_pem(text.as_bytes(), None, None).unwrap();

        let input =
            signing_input(&SigningCertificate::Here(pair), settings(AssertionAlgorithm::PS256, true), CLIENT, ENDPOINT, 0);

        let header = decoded(input.split('.').next().unwrap());
        assert_eq!(header["x5c"], json!([STANDARD.encode(&GATEWAY.certificate_der), STANDARD.encode(&other.certificate_der)]));
    }

    #[tokio::test]
    async fn is_reused_until_a_minute_before_its_end() {
        let (signer, other) = (
            Arc::new(SigningCertificate::Here(GATEWAY.pair())),
            Arc::new(SigningCertificate::Here(testing::certificate("other").pair())),
        );
        let assertions = Arc::<Assertions>::default();
        let subject = Subject { settings: AssertionConfig::default(), client_id: CLIENT, audience: ENDPOINT };
        let at = async |signer: &Arc<SigningCertificate>, now| assertions.of(signer, subject, &Clock::manual(now)).await.unwrap();

        let (first, reused) = at(&signer, 1_000).await;
        assert!(!reused);

        let (again, reused) = at(&signer, 1_239).await;
        assert!(Arc::ptr_eq(&first, &again) && reused);
        let (second, _) = at(&signer, 1_240).await;
        assert!(!Arc::ptr_eq(&first, &second));
        assertions.forget(&first);
        assert!(Arc::ptr_eq(&second, &at(&signer, 1_241).await.0), "another one was refused");
        assertions.forget(&second);
        let (third, _) = at(&signer, 1_242).await;
        assert!(!Arc::ptr_eq(&second, &third));
        assert!(!Arc::ptr_eq(&third, &at(&signer, 500).await.0), "the clock was set back");
        assert!(!Arc::ptr_eq(&third, &at(&other, 1_242).await.0));
    }

    #[tokio::test]
    async fn no_debug_text_shows_an_assertion() {
        let assertions = Arc::<Assertions>::default();
        let subject = Subject { settings: AssertionConfig::default(), client_id: CLIENT, audience: ENDPOINT };
        let signer = Arc::new(SigningCertificate::Here(GATEWAY.pair()));
        let (assertion, _) = assertions.of(&signer, subject, &Clock::manual(1_000)).await.unwrap();

        let text = format!("{assertions:?} {assertion:?} {signer:?}");

        assert!(!text.contains("eyJ"), "{text}");
    }
}
