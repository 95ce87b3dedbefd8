//! Client assertions: strictly verified, but parsed as leniently as Entra does.
//!
//! Microsoft's own libraries send times as fractions and as texts, thumbprints in both base64 alphabets, JWT parts with padding,
//! certificate chains with line breaks or as one text. The meaning of claims, signature and certificate is judged strictly.

use aws_lc_rs::{
    digest,
    signature::{
        RSA_PKCS1_2048_8192_SHA256, RSA_PSS_2048_8192_SHA256, RsaPublicKeyComponents, UnparsedPublicKey, VerificationAlgorithm,
    },
};
use base64::{
    Engine as _, alphabet,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};
use rustls_pki_types::{CertificateDer, pem::PemObject as _};
use serde_json::{Map, Value};
use x509_parser::prelude::{FromDer as _, X509Certificate};

use super::{
    State,
    directory::{App, FederatedCredential},
    keys::SigningKey,
    problem::{Aadsts, timestamp},
};

/// The accepted clock skew, in seconds.
const SKEW: f64 = 300.0;

/// base64 in either alphabet, padded or not.
const FORGIVING: GeneralPurpose = GeneralPurpose::new(
    &alphabet::URL_SAFE,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent).with_decode_allow_trailing_bits(true),
);

/// Decodes base64 of either alphabet, padded or not, with line breaks or without.
pub(crate) fn decode(text: &str) -> Option<Vec<u8>> {
    let text: String = text
        .chars()
        .filter(|letter| !letter.is_ascii_whitespace())
        .map(|letter| match letter {
            '+' => '-',
            '/' => '_',
            other => other,
        })
        .collect();
    FORGIVING.decode(text).ok()
}

/// A signed JWT, split into its parts. Nothing of it is checked yet.
pub(crate) struct Assertion {
    pub(crate) header: Map<String, Value>,
    pub claims: Map<String, Value>,
    /// The signed bytes: the first two parts as sent.
    signed: Vec<u8>,
    signature: Vec<u8>,
}

impl Assertion {
    pub(crate) fn read(text: &str) -> Result<Self, Aadsts> {
        let malformed = |what: &str| Aadsts::invalid_request(50027, format!("JWT token is invalid or malformed: {what}."));
        let mut parts = text.split('.');
        let (Some(header), Some(payload), Some(signature), None) = (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(malformed("it does not have three parts"));
        };
        let object = |part: &str| decode(part).and_then(|bytes| serde_json::from_slice::<Map<String, Value>>(&bytes).ok());
        Ok(Self {
            header: object(header).ok_or_else(|| malformed("its header is not a JSON object"))?,
            claims: object(payload).ok_or_else(|| malformed("its payload is not a JSON object"))?,
            signed: text.as_bytes()[..header.len() + 1 + payload.len()].to_vec(),
            signature: decode(signature).ok_or_else(|| malformed("its signature is not base64"))?,
        })
    }

    fn text(&self, claim: &str) -> Option<&str> {
        self.claims.get(claim).and_then(Value::as_str)
    }

    fn algorithm(&self) -> Option<&'static dyn VerificationAlgorithm> {
        match self.header.get("alg")?.as_str()? {
            "PS256" => Some(&RSA_PSS_2048_8192_SHA256),
            "RS256" => Some(&RSA_PKCS1_2048_8192_SHA256),
            _ => None,
        }
    }

    /// Checks that it is signed with a certificate of `app`, about the app, for one of `audiences`, within its validity.
    pub(crate) fn check_certificate(&self, app: &App, audiences: &[String], now: u64) -> Result<(), Aadsts> {
        let algorithm = self
            .algorithm()
            .ok_or_else(|| Aadsts::invalid_client(50027, "JWT token is invalid or malformed: its algorithm is not supported."))?;
        let certificates: Vec<Vec<u8>> = app.certificates.iter().filter_map(|text| certificate_der(text)).collect();
        let named = |name: &str| self.header.get(name).and_then(Value::as_str).and_then(decode);
        let thumbprint = match (named("x5t#S256"), named("x5t")) {
            (None, None) => {
                return Err(Aadsts::invalid_client(
                    50027,
                    "JWT token is invalid or malformed: No certificate thumbprint specified in token header.",
                ));
            }
            (Some(sha256), _) => (&digest::SHA256, sha256),
            (None, Some(sha1)) => (&digest::SHA1_FOR_LEGACY_USE_ONLY, sha1),
        };
        let hex: String = thumbprint.1.iter().map(|byte| format!("{byte:02X}")).collect();
        let not_registered = || {
            Aadsts::invalid_client(
                700027,
                format!(
                    "The certificate with identifier used to sign the client assertion is not registered on application. \
                     [Reason - The key was not found., Thumbprint of key used by client: '{hex}', Configured keys: {}]",
                    certificates.len()
                ),
            )
        };
        let der = certificates
            .iter()
            .find(|der| digest::digest(thumbprint.0, der).as_ref() == thumbprint.1.as_slice())
            .ok_or_else(not_registered)?;
        let (_, certificate) = X509Certificate::from_der(der).map_err(|_| not_registered())?;

        let key = UnparsedPublicKey::new(algorithm, certificate.public_key().subject_public_key.data.as_ref());
        key.verify(&self.signed, &self.signature).map_err(|_| {
            Aadsts::invalid_client(
                700027,
                format!(
                    "Client assertion failed signature validation. [Reason - The key was found but its signature did not match., \
                     Thumbprint of key used by client: '{hex}']"
                ),
            )
        })?;
        let validity = certificate.validity();
        let seconds = i64::try_from(now).unwrap_or(i64::MAX);
        if seconds < validity.not_before.timestamp() || seconds > validity.not_after.timestamp() {
            return Err(Aadsts::invalid_client(
                1000502,
                format!(
                    "The provided certificate is not within its specified validity window. Current time: {}, certificate valid until {}.",
                    timestamp(now),
                    timestamp(u64::try_from(validity.not_after.timestamp()).unwrap_or(0))
                ),
            ));
        }
        self.check_subject(app)?;
        self.check_audience(audiences)?;
        self.check_times(now)
    }

    fn check_subject(&self, app: &App) -> Result<(), Aadsts> {
        let (issuer, subject) = (self.text("iss").unwrap_or_default(), self.text("sub").unwrap_or_default());
        if !issuer.eq_ignore_ascii_case(subject) {
            return Err(Aadsts::invalid_client(50048, "Subject must match Issuer claim in the client assertion."));
        }
        if !issuer.eq_ignore_ascii_case(&app.client_id) {
            return Err(Aadsts::invalid_client(
                700_021,
                "Client assertion application identifier doesn't match 'client_id' parameter.",
            ));
        }
        Ok(())
    }

    fn check_audience(&self, audiences: &[String]) -> Result<(), Aadsts> {
        match self.claims.get("aud") {
            Some(Value::String(audience)) if audiences.iter().any(|accepted| accepted == audience) => Ok(()),
            Some(Value::String(audience)) => Err(Aadsts::invalid_client(
                700_023,
                format!("Client assertion audience claim does not match Realm issuer. The audience was '{audience}'."),
            )),
            _ => Err(Aadsts::invalid_client(50027, "JWT token is invalid or malformed: the audience is not one text.")),
        }
    }

    fn check_times(&self, now: u64) -> Result<(), Aadsts> {
        #[expect(clippy::cast_precision_loss, reason = "seconds since 1970 fit a float's 53 bits")]
        let seconds = now as f64;
        let (from, until) = (number(self.claims.get("nbf")), number(self.claims.get("exp")));
        let outside = until.is_none_or(|until| seconds > until + SKEW) || from.is_some_and(|from| seconds < from - SKEW);
        if !outside {
            return Ok(());
        }
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "for a person to read; the cast saturates")]
        let stamp = |at: Option<f64>| timestamp(at.unwrap_or_default() as u64);
        Err(Aadsts::invalid_client(
            700_024,
            format!(
                "Client assertion is not within its valid time range. Current time: {}, assertion valid from {}, expiry time of assertion {}.",
                timestamp(now),
                stamp(from),
                stamp(until)
            ),
        ))
    }

    /// Checks that it is a token of an issuer that `app` trusts as a federated credential, signed by a key of this tenant.
    pub(crate) fn check_federated(&self, app: &App, state: &State, now: u64) -> Result<(), Aadsts> {
        if self.header.get("alg").and_then(Value::as_str) != Some("RS256") {
            return Err(Aadsts::invalid_client(
                5_002_738,
                "The federated assertion is signed with an algorithm that is not supported.",
            ));
        }
        let (issuer, subject) = (self.text("iss").unwrap_or_default(), self.text("sub").unwrap_or_default());
        let audience = self.text("aud").or_else(|| self.claims.get("aud")?.as_array()?.first()?.as_str()).unwrap_or_default();
        // A token for a service of version 2 bears its client id; the trust entry names the service by its URI.
        let uri = state.directory().resource(audience).and_then(|service| service.identifier_uris.first().cloned());
        match_federated(&app.federated, issuer, subject, uri.as_deref().unwrap_or(audience))?;
        if self.claims.contains_key("scp") {
            return Err(Aadsts::invalid_client(
                700_229,
                "Only app-only tokens can be used as Federated Identity Credentials for AAD issuer.",
            ));
        }
        let kid = self.header.get("kid").and_then(Value::as_str).unwrap_or_default();
        let key = state.keys().published.iter().find(|key| key.kid() == kid).cloned();
        if !key.is_some_and(|key| self.is_signed_by(&key)) {
            return Err(Aadsts::invalid_client(
                700_027,
                "Client assertion failed signature validation. [Reason - The key was not found.]",
            ));
        }
        self.check_times(now)
    }

    /// Returns whether one of the tenant's keys signed it.
    pub(crate) fn is_signed_by(&self, key: &SigningKey) -> bool {
        self.header.get("alg").and_then(Value::as_str) == Some("RS256")
            && RsaPublicKeyComponents { n: key.modulus(), e: key.exponent() }
                .verify(&RSA_PKCS1_2048_8192_SHA256, &self.signed, &self.signature)
                .is_ok()
    }

    /// Returns whether it names a certificate, as an app's own assertion does.
    pub(crate) fn names_certificate(&self) -> bool {
        ["x5t", "x5t#S256", "x5c"].iter().any(|name| self.header.contains_key(*name)) && self.text("iss") == self.text("sub")
    }
}

/// Returns the federated credential that a presented token matches, or the part of it that matches none.
fn match_federated(trusted: &[FederatedCredential], issuer: &str, subject: &str, audience: &str) -> Result<(), Aadsts> {
    let presented = format!("Assertion Issuer: '{issuer}'. Assertion Subject: '{subject}'. Assertion Audience: '{audience}'.");
    let none = |code: u32, what: &str| {
        Err(Aadsts::invalid_client(
            code,
            format!("No matching federated identity record found for presented assertion {what}. {presented}"),
        ))
    };
    let of_issuer: Vec<_> = trusted.iter().filter(|entry| entry.issuer == issuer).collect();
    if of_issuer.is_empty() {
        return none(700_211, "issuer");
    }
    let of_audience: Vec<_> = of_issuer.into_iter().filter(|entry| entry.audience == audience).collect();
    if of_audience.is_empty() {
        return none(700_212, "audience");
    }
    if of_audience.iter().any(|entry| entry.subject == subject) {
        return Ok(());
    }
    if of_audience.iter().any(|entry| entry.subject.eq_ignore_ascii_case(subject)) {
        return none(7_002_138, "subject: the letter case differs");
    }
    none(700_213, "subject")
}

/// Returns the DER of a registered certificate: PEM text, or base64 of the DER.
fn certificate_der(text: &str) -> Option<Vec<u8>> {
    if text.contains("-----BEGIN") {
        return CertificateDer::from_pem_slice(text.as_bytes()).ok().map(|der| der.to_vec());
    }
    decode(text)
}

/// Reads a time: a number, with or without a fraction, or its text.
fn number(value: Option<&Value>) -> Option<f64> {
    match value? {
        Value::Number(number) => number.as_f64(),
        Value::String(text) => text.parse().ok(),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_base64_of_every_kind() {
        let bytes = [0xfb, 0xff, 0xbe, 0x01];

        for text in ["-_--AQ", "-_--AQ==", "+/++AQ", "+/++AQ==", "+/++\nAQ=="] {
            assert_eq!(decode(text).as_deref(), Some(&bytes[..]), "{text:?}");
        }
        assert_eq!(decode("%%%"), None);
    }

    #[test]
    fn reads_times_of_every_kind() {
        for value in [serde_json::json!(1_795_304_978), serde_json::json!(1_795_304_978.0), serde_json::json!("1795304978")] {
            assert_eq!(number(Some(&value)), Some(1_795_304_978.0));
        }
        assert_eq!(number(Some(&serde_json::json!(true))), None);
    }
}
