//! Certificates with their private keys: read, matched and checked when the config is built.
//!
//! A file may hold certificates and keys in any order, with text between them. The certificate whose public key matches the
//! private key counts; the others are its chain. Entra accepts only RSA keys of at least 2048 bits.

mod error;
mod key_only;
mod read;

use std::fmt;

use aws_lc_rs::{
    digest,
    rand::SystemRandom,
    rsa::KeyPair as RsaKeyPair,
    signature::{KeyPair as _, RSA_PKCS1_2048_8192_SHA256, RSA_PKCS1_SHA256, UnparsedPublicKey},
};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use rustls::{SignatureAlgorithm, crypto::aws_lc_rs::sign::any_supported_type};
use rustls_pki_types::PrivateKeyDer;
use secrecy::SecretString;
use x509_parser::{certificate::X509Certificate, prelude::FromDer, public_key::PublicKey};

use self::read::Pem;
pub use self::read::{Contents, LOOSE_CURE, loose_key, loose_permissions, read_file};
pub use self::{error::CertificateError, key_only::ThumbprintedKey};

/// The number of days before expiry from which on a warning is given.
const WARN_DAYS: i64 = 30;
/// The minimum size of a key that Entra accepts, in bits of the modulus.
const LEAST_BITS: usize = 2_048;

/// A certificate, without its private key.
#[derive(Clone)]
pub struct Certificate {
    der: Box<[u8]>,
    chain: Vec<Box<[u8]>>,
    subject: Box<str>,
    not_before: u64,
    not_after: u64,
    bits: usize,
    /// The RSA public key as PKCS#1.
    public_key: Box<[u8]>,
    thumbprints: Thumbprints,
}

/// The state of a certificate's validity.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ValidityState {
    /// It is valid for at least 30 more days.
    Good,
    /// It is valid for less than 30 days.
    EndsSoon,
    /// It has expired.
    Ended,
    /// Its validity has not begun.
    NotYet,
}

impl ValidityState {
    /// Returns the operator's remedy.
    pub const fn cure(self) -> &'static str {
        match self {
            Self::Good => "nothing is to be done",
            Self::EndsSoon | Self::Ended => "make a new one with `entrada certificate new`, and upload it beside the old one",
            Self::NotYet => "set this machine's clock right, or wait",
        }
    }
}

/// Describes the whole days until a certificate expires, as [`Certificate::days_left`] counts them.
pub fn days_in_words(days: i64) -> String {
    match days {
        ..-2 => format!("expired {} days ago", -days - 1),
        -2 => "expired a day ago".to_owned(),
        -1 => "expired less than a day ago".to_owned(),
        1 => "1 day left".to_owned(),
        _ => format!("{days} days left"),
    }
}

/// The thumbprints of a certificate: digests of its DER form, in the spellings of portals, manifests and assertions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Thumbprints {
    sha1: [u8; 20],
    sha256: [u8; 32],
}

impl Thumbprints {
    /// Returns the thumbprints of the certificate with this DER form.
    pub fn of(der: &[u8]) -> Self {
        // Entra names certificates by SHA-1; it is a name here, and nothing rests on it.
        Self { sha1: hash(&digest::SHA1_FOR_LEGACY_USE_ONLY, der), sha256: hash(&digest::SHA256, der) }
    }

    /// Returns the raw SHA-1 digest.
    pub const fn sha1(&self) -> &[u8; 20] {
        &self.sha1
    }

    /// `x5t`: SHA-1 in base64url, as in assertions.
    pub fn x5t(&self) -> String {
        URL_SAFE_NO_PAD.encode(self.sha1)
    }

    /// `x5t#S256`: SHA-256 in base64url, as in assertions.
    pub fn x5t_s256(&self) -> String {
        URL_SAFE_NO_PAD.encode(self.sha256)
    }

    /// SHA-1 in hexadecimal, as the portal shows it.
    pub fn hex(&self) -> String {
        hex(&self.sha1)
    }

    /// SHA-256 in hexadecimal.
    pub fn hex_sha256(&self) -> String {
        hex(&self.sha256)
    }
}

impl Certificate {
    /// Reads a certificate from its DER form.
    ///
    /// # Errors
    /// Fails if it is not an X.509 certificate, if its key is not an RSA key, or if the key is too short.
    pub fn from_der(der: &[u8]) -> Result<Self, CertificateError> {
        let (_, parsed) = X509Certificate::from_der(der).map_err(|_| CertificateError::CertificateUnreadable)?;
        let subject = parsed.subject().to_string();
        let spki = parsed.public_key();
        let bits = match spki.parsed() {
            // The size of a modulus counts from its highest bit that is set; the parser's own answer counts whole bytes.
            Ok(PublicKey::RSA(key)) => bits(key.modulus),
            Ok(_) | Err(_) => return Err(CertificateError::NotRsa { what: "certificate has no RSA key" }),
        };
        if bits < LEAST_BITS {
            return Err(CertificateError::TooShort { bits });
        }
        let seconds = |time: x509_parser::time::ASN1Time| u64::try_from(time.timestamp()).unwrap_or(0);
        Ok(Self {
            subject: subject.into(),
            not_before: seconds(parsed.validity().not_before),
            not_after: seconds(parsed.validity().not_after),
            bits,
            public_key: spki.subject_public_key.data.as_ref().into(),
            thumbprints: Thumbprints::of(der),
            chain: Vec::new(),
            der: der.into(),
        })
    }

    /// Returns the DER form.
    pub fn der(&self) -> &[u8] {
        &self.der
    }

    /// Returns the other certificates of the file, in their order there.
    pub fn chain(&self) -> impl Iterator<Item = &[u8]> {
        self.chain.iter().map(AsRef::as_ref)
    }

    /// Returns the subject, as `CN=gateway, O=Contoso`.
    pub fn subject(&self) -> &str {
        &self.subject
    }

    /// Returns the start of the validity, in seconds since 1970.
    pub const fn not_before(&self) -> u64 {
        self.not_before
    }

    /// Returns the end of the validity, in seconds since 1970.
    pub const fn not_after(&self) -> u64 {
        self.not_after
    }

    /// Returns the whole days until the certificate expires; negative after that.
    pub fn days_left(&self, now: u64) -> i64 {
        (self.not_after.cast_signed() - now.cast_signed()).div_euclid(86_400)
    }

    /// Returns the state of its validity.
    pub fn validity_state(&self, now: u64) -> ValidityState {
        match self.days_left(now) {
            ..0 => ValidityState::Ended,
            _ if now < self.not_before => ValidityState::NotYet,
            0..WARN_DAYS => ValidityState::EndsSoon,
            _ => ValidityState::Good,
        }
    }

    /// Describes a problem of its validity in words, if there is one.
    pub fn concern(&self, now: u64) -> Option<String> {
        let Self { subject, .. } = self;
        match self.validity_state(now) {
            ValidityState::Good => None,
            ValidityState::EndsSoon => Some(format!("the certificate of {subject} expires in {} days", self.days_left(now))),
            ValidityState::Ended => Some(format!("the certificate of {subject} has expired")),
            ValidityState::NotYet => Some(format!("the certificate of {subject} is not valid yet")),
        }
    }

    /// Returns the size of the RSA key.
    pub const fn bits(&self) -> usize {
        self.bits
    }

    /// Its thumbprints.
    pub const fn thumbprints(&self) -> &Thumbprints {
        &self.thumbprints
    }

    /// `x5t`: the SHA-1 thumbprint in base64url, as in assertions.
    pub fn x5t(&self) -> String {
        self.thumbprints.x5t()
    }

    /// `x5t#S256`: the SHA-256 thumbprint in base64url, as in assertions.
    pub fn x5t_s256(&self) -> String {
        self.thumbprints.x5t_s256()
    }

    /// Returns the SHA-1 thumbprint in hexadecimal, as the portal shows it.
    pub fn thumbprint(&self) -> String {
        self.thumbprints.hex()
    }

    /// Returns whether a signature (RSASSA-PKCS1-v1_5 or RSASSA-PSS with SHA-256) is valid under this certificate's key.
    pub fn verifies(
        &self,
        algorithm: &'static dyn aws_lc_rs::signature::VerificationAlgorithm,
        text: &[u8],
        signature: &[u8],
    ) -> bool {
        UnparsedPublicKey::new(algorithm, &self.public_key).verify(text, signature).is_ok()
    }
}

impl fmt::Debug for Certificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Certificate").field("subject", &self.subject).field("x5t", &self.x5t()).finish_non_exhaustive()
    }
}

/// A certificate and its private key.
pub struct KeyedCertificate {
    certificate: Certificate,
    key: RsaKeyPair,
}

impl KeyedCertificate {
    /// Reads certificates and a private key from PEM text: both from `pem`, or the key from `key_pem`.
    ///
    /// # Errors
    /// Fails if something is missing, cannot be read, does not belong together or is not accepted by Entra.
    pub fn from_pem(pem: &[u8], key_pem: Option<&[u8]>, password: Option<&SecretString>) -> Result<Self, CertificateError> {
        let pem = Pem::read(pem)?;
        let key_pem = key_pem.map(Pem::read).transpose()?;
        let certificates = pem.certificates()?;
        if certificates.is_empty() {
            return Err(CertificateError::NoCertificate);
        }
        let keys = key_pem.as_ref().unwrap_or(&pem).keys(password)?;
        Self::matching(&Contents { certificates, keys })
    }

    /// Reads certificates and a private key from a PKCS#12 file (RFC 7292).
    ///
    /// # Errors
    /// Fails if the password is wrong or missing, or as with [`from_pem`](Self::from_pem).
    pub fn from_pfx(pfx: &[u8], password: Option<&SecretString>) -> Result<Self, CertificateError> {
        Self::matching(&Contents::from_pfx(pfx, password)?)
    }

    /// Returns the certificate and the key that belong together.
    fn matching(Contents { certificates, keys }: &Contents) -> Result<Self, CertificateError> {
        let mut refused = None;
        let mut pairs: Vec<RsaKeyPair> = Vec::new();
        for key in keys {
            match rsa_key(key) {
                Ok(key) => pairs.push(key),
                Err(error) => _ = refused.get_or_insert(error),
            }
        }
        match (certificates.is_empty(), pairs.is_empty()) {
            (true, _) => return Err(CertificateError::NoCertificate),
            (_, true) => {
                // A key that is too short is told by its certificate, which says by how much.
                let short = certificates.iter().find_map(|der| match Certificate::from_der(der) {
                    Err(error @ CertificateError::TooShort { .. }) if refused.is_some() => Some(error),
                    _ => None,
                });
                return Err(short.or(refused).unwrap_or(CertificateError::NoKey));
            }
            (false, false) => {}
        }
        let mut subject = None;
        for (index, der) in certificates.iter().enumerate() {
            let mut certificate = match Certificate::from_der(der) {
                Ok(certificate) => certificate,
                Err(error) => {
                    refused.get_or_insert(error);
                    continue;
                }
            };
            let Some(key) = pairs.iter().position(|key| key.public_key().as_ref() == &*certificate.public_key) else {
                subject.get_or_insert(certificate.subject);
                continue;
            };
            certificate.chain = certificates
                .iter()
                .enumerate()
                .filter(|(other, _)| *other != index)
                .map(|(_, der)| der.as_ref().into())
                .collect();
            let pair = Self { certificate, key: pairs.swap_remove(key) };
            return if can_sign(&pair.key) { Ok(pair) } else { Err(CertificateError::KeyDefective) };
        }
        match (subject, refused) {
            (Some(subject), _) => Err(CertificateError::Mismatch { subject }),
            (None, Some(error)) => Err(error),
            (None, None) => Err(CertificateError::NoCertificate),
        }
    }

    /// Returns the certificate.
    pub const fn certificate(&self) -> &Certificate {
        &self.certificate
    }

    /// Returns the private key.
    pub const fn key(&self) -> &RsaKeyPair {
        &self.key
    }
}

impl fmt::Debug for KeyedCertificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.certificate.fmt(f)
    }
}

/// Reads a key that Entra's assertions can be signed with.
fn rsa_key(der: &PrivateKeyDer<'_>) -> Result<RsaKeyPair, CertificateError> {
    let read = match der {
        PrivateKeyDer::Pkcs8(der) => RsaKeyPair::from_pkcs8(der.secret_pkcs8_der()),
        PrivateKeyDer::Pkcs1(der) => RsaKeyPair::from_der(der.secret_pkcs1_der()),
        _ => return Err(CertificateError::NotRsa { what: "private key is not an RSA key" }),
    };
    read.map_err(|reason| match any_supported_type(der).map(|key| key.algorithm()) {
        Ok(SignatureAlgorithm::RSA) | Err(_) if &*reason.to_string() == "TooSmall" => CertificateError::KeyTooShort,
        Ok(SignatureAlgorithm::RSA) | Err(_) => CertificateError::KeyUnusable { reason: reason.to_string().into() },
        Ok(_) => CertificateError::NotRsa { what: "private key is not an RSA key" },
    })
}

/// Returns whether the key's signatures are valid under its own public half: a damaged key file can have the right modulus.
fn can_sign(key: &RsaKeyPair) -> bool {
    let text = b"entrada";
    let mut signature = vec![0; key.public_modulus_len()];
    key.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), text, &mut signature).is_ok()
        && UnparsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, key.public_key()).verify(text, &signature).is_ok()
}

/// Returns the bit length of an unsigned big-endian number.
pub fn bits(number: &[u8]) -> usize {
    number
        .iter()
        .position(|byte| *byte != 0)
        .map_or(0, |first| (number.len() - first) * 8 - number[first].leading_zeros() as usize)
}

fn hash<const N: usize>(algorithm: &'static digest::Algorithm, bytes: &[u8]) -> [u8; N] {
    let mut out = [0; N];
    out.copy_from_slice(digest::digest(algorithm, bytes).as_ref());
    out
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        text.push(char::from(b"0123456789ABCDEF"[usize::from(byte >> 4)]));
        text.push(char::from(b"0123456789ABCDEF"[usize::from(byte & 15)]));
        text
    })
}

#[cfg(any(test, feature = "testing"))]
pub mod testing;
#[cfg(test)]
mod tests;
