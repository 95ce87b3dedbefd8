//! Certificates with their private keys: read, matched and judged when the config is.
//!
//! A file may hold certificates and keys in any order, with text between them. The certificate that counts is the one whose
//! public key is the private key's; the others are its chain. Entra takes RSA keys only, and none below 2048 bits.

use std::{
    fmt, io,
    path::{Path, PathBuf},
};

use aws_lc_rs::{
    digest,
    rand::SystemRandom,
    rsa::KeyPair as RsaKeyPair,
    signature::{KeyPair as _, RSA_PKCS1_2048_8192_SHA256, RSA_PKCS1_SHA256, UnparsedPublicKey},
};
use base64::{
    Engine as _,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};
use p12_keystore::Pkcs12Archive;
use pkcs8::EncryptedPrivateKeyInfoRef;
use rustls::{SignatureAlgorithm, crypto::aws_lc_rs::sign::any_supported_type};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
use secrecy::{ExposeSecret as _, SecretString};
use x509_parser::{certificate::X509Certificate, prelude::FromDer, public_key::PublicKey};
use zeroize::{Zeroize as _, Zeroizing};

/// The least that Entra accepts, in bits of the modulus.
const LEAST_BITS: usize = 2_048;
/// More than any file with certificates and a key; a bound, so that a wrong path is not read into memory whole.
const LARGEST_FILE: u64 = 1 << 20;

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
    sha1: [u8; 20],
    sha256: [u8; 32],
}

impl Certificate {
    /// Reads a certificate from its DER form.
    ///
    /// # Errors
    /// When it is no X.509 certificate, when its key is no RSA key, or when that is too short.
    pub fn from_der(der: &[u8]) -> Result<Self, CertificateError> {
        let (_, parsed) = X509Certificate::from_der(der).map_err(|_| CertificateError::CertificateUnreadable)?;
        let subject = parsed.subject().to_string();
        let spki = parsed.public_key();
        let bits = match spki.parsed() {
            // The size of a modulus counts from its highest bit that is set; the parser's own answer counts whole bytes.
            Ok(PublicKey::RSA(key)) => bits(key.modulus),
            Ok(_) | Err(_) => return Err(CertificateError::NotRsa { what: "certificate" }),
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
            // Entra names certificates by the SHA-1 of their whole DER form; it is a name here, and nothing rests on it.
            sha1: hash(&digest::SHA1_FOR_LEGACY_USE_ONLY, der),
            sha256: hash(&digest::SHA256, der),
            chain: Vec::new(),
            der: der.into(),
        })
    }

    /// The DER form.
    pub fn der(&self) -> &[u8] {
        &self.der
    }

    /// The other certificates that came with this one, in the order they came.
    pub fn chain(&self) -> impl Iterator<Item = &[u8]> {
        self.chain.iter().map(AsRef::as_ref)
    }

    /// The subject, as `CN=gateway, O=Contoso`.
    pub fn subject(&self) -> &str {
        &self.subject
    }

    /// When the certificate starts to be valid, in seconds since 1970.
    pub const fn not_before(&self) -> u64 {
        self.not_before
    }

    /// When the certificate ends to be valid, in seconds since 1970.
    pub const fn not_after(&self) -> u64 {
        self.not_after
    }

    /// Whole days until the certificate ends to be valid; negative when it has.
    pub fn days_left(&self, now: u64) -> i64 {
        (self.not_after.cast_signed() - now.cast_signed()).div_euclid(86_400)
    }

    /// The size of the RSA key.
    pub const fn bits(&self) -> usize {
        self.bits
    }

    /// `x5t`: the SHA-1 thumbprint in base64url, as in assertions.
    pub fn x5t(&self) -> String {
        URL_SAFE_NO_PAD.encode(self.sha1)
    }

    /// `x5t#S256`: the SHA-256 thumbprint in base64url, as in assertions.
    pub fn x5t_s256(&self) -> String {
        URL_SAFE_NO_PAD.encode(self.sha256)
    }

    /// The SHA-1 thumbprint in hexadecimal, as the portal shows it.
    pub fn thumbprint(&self) -> String {
        hex(&self.sha1)
    }

    /// The SHA-256 thumbprint in hexadecimal.
    pub fn thumbprint_sha256(&self) -> String {
        hex(&self.sha256)
    }

    /// Whether a signature made by RSASSA-PKCS1-v1_5 or RSASSA-PSS with SHA-256 holds under this certificate's key.
    pub(crate) fn verifies(
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
    /// When something is missing, cannot be read, does not belong together or is not accepted by Entra.
    pub fn from_pem(pem: &[u8], key_pem: Option<&[u8]>, password: Option<&SecretString>) -> Result<Self, CertificateError> {
        let sections = sections(pem)?;
        let key_sections = key_pem.map(self::sections).transpose()?;
        let certificates = certificates(&sections)?;
        let keys = keys(key_sections.as_deref().unwrap_or(&sections), password)?;
        Self::matching(&certificates, keys)
    }

    /// Reads certificates and a private key from a PKCS#12 file (RFC 7292).
    ///
    /// # Errors
    /// When the password is wrong or missing, or as with [`from_pem`](Self::from_pem).
    pub fn from_pfx(pfx: &[u8], password: Option<&SecretString>) -> Result<Self, CertificateError> {
        use p12_keystore::error::Error;

        if pfx.starts_with(b"-----BEGIN ") {
            return Err(CertificateError::NotPfx);
        }
        let text = password.map_or("", |password| password.expose_secret());
        let archive = Pkcs12Archive::from_pkcs12(pfx, text).map_err(|error| match error {
            // A wrong password shows as a wrong MAC, or as bad padding where there is no MAC.
            Error::MacError(_) | Error::Pkcs5Error(_) | Error::UnpadError if password.is_none() => CertificateError::Encrypted,
            Error::MacError(_) | Error::Pkcs5Error(_) | Error::UnpadError => CertificateError::WrongPassword,
            Error::UnsupportedEncryptionScheme | Error::UnsupportedMacAlgorithm => CertificateError::PfxTooOld,
            Error::DerError(_) => CertificateError::NotPfx,
            error => CertificateError::PfxUnreadable { reason: error.to_string().into() },
        })?;
        let certificates: Vec<_> = archive.certs.iter().map(|bag| CertificateDer::from(bag.cert.as_der().to_vec())).collect();
        let keys: Vec<_> = archive
            .keys
            .iter()
            .map(|bag| rsa_key(PrivateKeyDer::Pkcs8(bag.key.as_der().to_vec().into())))
            .collect::<Result<_, _>>()?;
        match (certificates.is_empty(), keys.is_empty()) {
            (true, _) => Err(CertificateError::NoCertificate),
            (_, true) => Err(CertificateError::NoKey),
            (false, false) => Self::matching(&certificates, keys),
        }
    }

    /// The pair of a certificate and a key that belong together.
    fn matching(certificates: &[CertificateDer<'_>], keys: Vec<RsaKeyPair>) -> Result<Self, CertificateError> {
        let mut refused = None;
        let mut subject = None;
        for (index, der) in certificates.iter().enumerate() {
            let mut certificate = match Certificate::from_der(der) {
                Ok(certificate) => certificate,
                Err(error) => {
                    refused.get_or_insert(error);
                    continue;
                }
            };
            let Some(key) = keys.iter().position(|key| key.public_key().as_ref() == &*certificate.public_key) else {
                subject.get_or_insert(certificate.subject);
                continue;
            };
            certificate.chain = certificates
                .iter()
                .enumerate()
                .filter(|(other, _)| *other != index)
                .map(|(_, der)| der.as_ref().into())
                .collect();
            let key = keys.into_iter().nth(key).ok_or(CertificateError::NoKey)?;
            let pair = Self { certificate, key };
            return if pair.holds() { Ok(pair) } else { Err(CertificateError::KeyDefective) };
        }
        match (subject, refused) {
            (Some(subject), _) => Err(CertificateError::Mismatch { subject }),
            (None, Some(error)) => Err(error),
            (None, None) => Err(CertificateError::NoCertificate),
        }
    }

    /// Whether what the key signs holds under the certificate: a damaged key file can have the right modulus.
    fn holds(&self) -> bool {
        let text = b"entrada";
        let mut signature = vec![0; self.key.public_modulus_len()];
        self.key.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), text, &mut signature).is_ok()
            && self.certificate.verifies(&RSA_PKCS1_2048_8192_SHA256, text, &signature)
    }

    /// The certificate.
    pub const fn certificate(&self) -> &Certificate {
        &self.certificate
    }

    /// The private key.
    pub(crate) const fn key(&self) -> &RsaKeyPair {
        &self.key
    }
}

impl fmt::Debug for KeyedCertificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.certificate.fmt(f)
    }
}

/// One block of a PEM file.
struct Section<'a> {
    label: &'a [u8],
    /// From `-----BEGIN` to the end of the `-----END` line.
    text: &'a [u8],
}

/// The blocks of a PEM file. Text outside them, as the bag attributes that OpenSSL writes, is passed over.
fn sections(pem: &[u8]) -> Result<Vec<Section<'_>>, CertificateError> {
    if pem.starts_with(&[0xff, 0xfe]) || pem.starts_with(&[0xfe, 0xff]) {
        return Err(CertificateError::Utf16);
    }
    let mut found = Vec::new();
    let mut rest = pem;
    while let Some(start) = find(rest, b"-----BEGIN ") {
        let text = &rest[start..];
        let after = &text[b"-----BEGIN ".len()..];
        let label = &after[..find(after, b"-----").ok_or(CertificateError::PemUnreadable)?];
        let end_line = [b"-----END ", label, b"-----"].concat();
        let end = find(text, &end_line).ok_or(CertificateError::PemUnreadable)? + end_line.len();
        found.push(Section { label, text: &text[..end] });
        rest = &text[end..];
    }
    if found.is_empty() { Err(CertificateError::NotPem) } else { Ok(found) }
}

fn find(text: &[u8], what: &[u8]) -> Option<usize> {
    memchr::memmem::find(text, what)
}

fn certificates(sections: &[Section<'_>]) -> Result<Vec<CertificateDer<'static>>, CertificateError> {
    let found = sections
        .iter()
        .filter(|section| section.label == b"CERTIFICATE")
        .map(|section| CertificateDer::from_pem_slice(section.text).map_err(|_| CertificateError::PemUnreadable))
        .collect::<Result<Vec<_>, _>>()?;
    if found.is_empty() { Err(CertificateError::NoCertificate) } else { Ok(found) }
}

fn keys(sections: &[Section<'_>], password: Option<&SecretString>) -> Result<Vec<RsaKeyPair>, CertificateError> {
    let mut found = Vec::new();
    for section in sections.iter().filter(|section| section.label.ends_with(b"PRIVATE KEY")) {
        if section.label == b"ENCRYPTED PRIVATE KEY" {
            found.push(decrypt(section, password.ok_or(CertificateError::Encrypted)?)?);
            continue;
        }
        // RFC 1421, section 4.6: how OpenSSL once marked an encrypted key. It derives the key with one round of MD5.
        if find(section.text, b"Proc-Type:").is_some() {
            return Err(CertificateError::OldEncryption);
        }
        let der = PrivateKeyDer::from_pem_slice(section.text).map_err(|_| CertificateError::PemUnreadable)?;
        found.push(rsa_key(der)?);
    }
    if found.is_empty() { Err(CertificateError::NoKey) } else { Ok(found) }
}

/// A key in the encrypted form of PKCS#8: RFC 5958, section 3.
fn decrypt(section: &Section<'_>, password: &SecretString) -> Result<RsaKeyPair, CertificateError> {
    let lines = section.text.split(|byte| *byte == b'\n').filter(|line| !line.starts_with(b"-----"));
    let text: Vec<u8> = lines.flatten().copied().filter(|byte| !byte.is_ascii_whitespace()).collect();
    let der = STANDARD.decode(text).map_err(|_| CertificateError::PemUnreadable)?;
    let encrypted = EncryptedPrivateKeyInfoRef::try_from(&*der).map_err(|_| CertificateError::EncryptionUnknown)?;
    let decrypted = encrypted.decrypt(password.expose_secret()).map_err(|error| match error {
        pkcs8::Error::EncryptedPrivateKey(pkcs8::pkcs5::Error::UnsupportedAlgorithm { .. }) => {
            CertificateError::EncryptionUnknown
        }
        // Bad padding, or what came out is no key.
        _ => CertificateError::WrongPassword,
    })?;
    rsa_key(PrivateKeyDer::Pkcs8(decrypted.as_bytes().to_vec().into()))
}

fn rsa_key(mut der: PrivateKeyDer<'static>) -> Result<RsaKeyPair, CertificateError> {
    let read = match &der {
        PrivateKeyDer::Pkcs8(der) => RsaKeyPair::from_pkcs8(der.secret_pkcs8_der()),
        PrivateKeyDer::Pkcs1(der) => RsaKeyPair::from_der(der.secret_pkcs1_der()),
        _ => return Err(CertificateError::NotRsa { what: "private key" }),
    };
    let key = read.map_err(|reason| match any_supported_type(&der).map(|key| key.algorithm()) {
        Ok(SignatureAlgorithm::RSA) | Err(_) => CertificateError::KeyUnusable { reason: reason.to_string().into() },
        Ok(_) => CertificateError::NotRsa { what: "private key" },
    });
    der.zeroize();
    key
}

/// Reads a file that holds a certificate or a key; its bytes are wiped when they are done with.
///
/// # Errors
/// When the file cannot be read, or is far too large.
pub(crate) fn read_file(path: &Path) -> Result<Zeroizing<Vec<u8>>, CertificateError> {
    let unreadable = |source| CertificateError::File { path: path.to_owned(), source };
    let metadata = std::fs::metadata(path).map_err(unreadable)?;
    if metadata.len() > LARGEST_FILE {
        return Err(CertificateError::FileTooLarge { path: path.to_owned() });
    }
    std::fs::read(path).map(Zeroizing::new).map_err(unreadable)
}

/// Who else may read a file with a private key, or put another one in its place; `None` where nobody may.
#[cfg(unix)]
pub(crate) fn loose_permissions(path: &Path) -> Option<String> {
    use std::os::unix::fs::PermissionsExt as _;

    let mode = std::fs::metadata(path).ok()?.permissions().mode() & 0o777;
    // A group that may read is how container platforms hand out secrets.
    (mode & 0o027 != 0).then(|| format!("{mode:03o}"))
}

/// Who else may read a file with a private key: not told on this platform.
#[cfg(not(unix))]
pub(crate) fn loose_permissions(_: &Path) -> Option<String> {
    None
}

/// Why a certificate or its key cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum CertificateError {
    /// The file cannot be read.
    #[error("{} cannot be read", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// The file is far larger than any certificate file.
    #[error("{} is larger than 1 MiB", path.display())]
    FileTooLarge {
        /// The file.
        path: PathBuf,
    },
    /// There is no PEM block.
    #[error("there is no PEM block in it")]
    NotPem,
    /// The text is in an encoding that PEM does not know.
    #[error("the file is UTF-16 text")]
    Utf16,
    /// A PEM block is damaged.
    #[error("a PEM block is damaged")]
    PemUnreadable,
    /// There is no certificate.
    #[error("there is no certificate in it")]
    NoCertificate,
    /// There is no private key.
    #[error("there is no private key in it")]
    NoKey,
    /// The private key is encrypted, and no password is given.
    #[error("the private key is encrypted")]
    Encrypted,
    /// The password is wrong.
    #[error("the password is wrong")]
    WrongPassword,
    /// The private key is encrypted in a way that is not understood.
    #[error("the private key is encrypted in a way that is not understood")]
    EncryptionUnknown,
    /// The file is no PKCS#12 file.
    #[error("it is no PKCS#12 file")]
    NotPfx,
    /// The PKCS#12 file uses an algorithm that is not understood.
    #[error("the PKCS#12 file is encrypted in a way that is not understood")]
    PfxTooOld,
    /// The PKCS#12 file is damaged.
    #[error("the PKCS#12 file cannot be read ({reason})")]
    PfxUnreadable {
        /// What its reader says; nothing of the content.
        reason: Box<str>,
    },
    /// The private key is encrypted in OpenSSL's old form.
    #[error("the private key is encrypted in OpenSSL's old form (Proc-Type: 4,ENCRYPTED)")]
    OldEncryption,
    /// The certificate is damaged.
    #[error("the certificate cannot be read")]
    CertificateUnreadable,
    /// The key is an elliptic one, or of another kind.
    #[error("the {what} has no RSA key, and Entra accepts RSA keys only")]
    NotRsa {
        /// The certificate or the private key.
        what: &'static str,
    },
    /// The RSA key is too short.
    #[error("the RSA key has {bits} bits, and Entra accepts no fewer than {LEAST_BITS}")]
    TooShort {
        /// The size of the modulus.
        bits: usize,
    },
    /// The private key is damaged, or of a form that is not understood.
    #[error("the private key cannot be used ({reason})")]
    KeyUnusable {
        /// What the cryptography library says.
        reason: Box<str>,
    },
    /// The private key belongs to another certificate.
    #[error("the private key does not belong to the certificate of {subject}")]
    Mismatch {
        /// Whose certificate it is.
        subject: Box<str>,
    },
    /// The private key makes signatures that do not hold.
    #[error("the private key makes signatures that do not hold under its certificate")]
    KeyDefective,
}

impl CertificateError {
    /// What the operator can do about it.
    pub const fn cure(&self) -> &'static str {
        match self {
            Self::File { .. } => "name a file that the gateway may read; relative paths start at the config file",
            Self::FileTooLarge { .. } => "name the file that holds the certificate",
            Self::NotPem => "name a PEM file here; a PKCS#12 file goes under `pfx`",
            Self::Utf16 => "save it as UTF-8 or ASCII",
            Self::PemUnreadable => "export certificate and key again; each block runs from its BEGIN line to its END line",
            Self::NoCertificate => "put the certificate into it, beside the private key",
            Self::NoKey => "put the private key into it, or name the key's file as `private-key`",
            Self::Encrypted => "give the `password`, as a named value from a file",
            Self::WrongPassword => {
                "give the password that the file was made with; a file for a named value may end in one line end"
            }
            Self::EncryptionUnknown | Self::OldEncryption => "convert it with `openssl pkcs8 -topk8 -in KEY -out gateway.key`",
            Self::NotPfx => "name a PKCS#12 file here; a PEM file goes under `pem`",
            Self::PfxTooOld | Self::PfxUnreadable { .. } => {
                "export it again with AES-256, as `openssl pkcs12 -export` does by default"
            }
            Self::CertificateUnreadable => "export the certificate again",
            Self::NotRsa { .. } | Self::TooShort { .. } => {
                "make an RSA certificate with `entrada certificate new` and upload it to the app registration"
            }
            Self::KeyUnusable { .. } | Self::KeyDefective => "export the private key again, as PKCS#8 or PKCS#1",
            Self::Mismatch { .. } => "name the key that this certificate was made with",
        }
    }
}

/// The bits of an unsigned big-endian number.
fn bits(number: &[u8]) -> usize {
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

#[cfg(test)]
mod tests;
