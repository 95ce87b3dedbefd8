//! Reads certificate files: PEM, PKCS#12 and DER, encrypted or not. Credentials and commands share this reader.

use std::{fmt, path::Path};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use p12_keystore::Pkcs12Archive;
use pkcs8::{EncryptedPrivateKeyInfoRef, PrivateKeyInfoRef};
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use secrecy::{ExposeSecret as _, SecretString};
use x509_parser::{certificate::X509Certificate, prelude::FromDer};
use zeroize::{Zeroize as _, Zeroizing};

use super::CertificateError;
use crate::base::text::{self, TextFault};

/// The largest file that is read, in bytes, so that a wrong path is not read into memory whole.
const LARGEST_FILE: u64 = 1 << 20;

/// The certificates and private keys of a file, in their order. The keys are decrypted, and wiped on drop.
#[derive(Default)]
pub struct Contents {
    /// The certificates, in the order of the file.
    pub certificates: Vec<CertificateDer<'static>>,
    /// The private keys, in the order of the file.
    pub keys: Vec<PrivateKeyDer<'static>>,
}

/// Shows how many there are.
impl fmt::Debug for Contents {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Contents({} certificates, {} keys)", self.certificates.len(), self.keys.len())
    }
}

impl Drop for Contents {
    fn drop(&mut self) {
        self.keys.iter_mut().for_each(PrivateKeyDer::zeroize);
    }
}

impl Contents {
    /// Reads a file in any of the formats, recognised by its first bytes.
    ///
    /// # Errors
    /// Fails if something in it cannot be read. Missing content is not an error.
    pub fn from_any(bytes: &[u8], password: Option<&SecretString>) -> Result<Self, CertificateError> {
        match Pem::read(bytes) {
            Ok(pem) => Ok(Self { certificates: pem.certificates()?, keys: pem.keys(password)? }),
            Err(CertificateError::NotPem) if X509Certificate::from_der(bytes).is_ok() => {
                Ok(Self { certificates: vec![CertificateDer::from(bytes.to_vec())], keys: Vec::new() })
            }
            Err(CertificateError::NotPem) => Self::from_pfx(bytes, password),
            Err(error) => Err(error),
        }
    }

    /// Reads a PKCS#12 file (RFC 7292).
    ///
    /// # Errors
    /// Fails if the password is wrong or missing, or if something in it cannot be read.
    pub(crate) fn from_pfx(pfx: &[u8], password: Option<&SecretString>) -> Result<Self, CertificateError> {
        use p12_keystore::error::Error;

        let length = whole(pfx).ok_or(CertificateError::NotPfx)?;
        if pfx.len() < length {
            return Err(CertificateError::PfxCutOff { bytes: pfx.len(), of: length });
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
        Ok(Self {
            certificates: archive.certs.iter().map(|bag| CertificateDer::from(bag.cert.as_der().to_vec())).collect(),
            keys: archive.keys.iter().map(|bag| PrivateKeyDer::Pkcs8(bag.key.as_der().to_vec().into())).collect(),
        })
    }
}

/// Returns the declared length of a DER sequence, tag and length included, or `None` if this is not one. ITU-T X.690, section
/// 8.1.3.
fn whole(der: &[u8]) -> Option<usize> {
    match *der {
        [0x30, short @ 0..=0x7f, ..] => Some(2 + usize::from(short)),
        // The indefinite form, which BER allows: only its end tells.
        [0x30, 0x80, ..] => Some(0),
        [0x30, long @ 0x81..=0x84, ref rest @ ..] => {
            let count = usize::from(long & 0x7f);
            let length = rest.get(..count)?.iter().fold(0_usize, |length, byte| length << 8 | usize::from(*byte));
            length.checked_add(2 + count)
        }
        _ => None,
    }
}

/// The blocks of a PEM file. Text outside them, such as OpenSSL's bag attributes, is skipped.
pub(super) struct Pem<'a>(Vec<Section<'a>>);

/// One block of a PEM file.
struct Section<'a> {
    label: &'a [u8],
    /// From `-----BEGIN` to the end of the `-----END` line.
    text: &'a [u8],
}

impl<'a> Pem<'a> {
    /// Finds the blocks.
    pub(super) fn read(text: &'a [u8]) -> Result<Self, CertificateError> {
        if matches!(text::decode(text), Err(TextFault::UnmarkedUtf16 | TextFault::BrokenUtf16)) || text.starts_with(&[0xff, 0xfe])
        {
            return Err(CertificateError::Utf16);
        }
        if text.trim_ascii().is_empty() || text == [0xef, 0xbb, 0xbf] {
            return Err(CertificateError::Empty);
        }
        let mut found = Vec::new();
        let mut rest = text;
        while let Some(start) = find(rest, b"-----BEGIN ") {
            let text = &rest[start..];
            let after = &text[b"-----BEGIN ".len()..];
            let label = &after[..find(after, b"-----").ok_or(CertificateError::PemUnreadable)?];
            let end_line = [b"-----END ", label, b"-----"].concat();
            let end = find(text, &end_line).ok_or(CertificateError::PemUnreadable)? + end_line.len();
            found.push(Section { label, text: &text[..end] });
            rest = &text[end..];
        }
        if found.is_empty() { Err(CertificateError::NotPem) } else { Ok(Self(found)) }
    }

    /// Returns the certificates among them.
    pub(super) fn certificates(&self) -> Result<Vec<CertificateDer<'static>>, CertificateError> {
        // What OpenSSL once called them, and what it calls those with its own trust settings behind them.
        let certificates = self.0.iter().filter(|section| matches!(section.label, b"CERTIFICATE" | b"X509 CERTIFICATE"));
        certificates.map(|section| decode(section).map(|der| CertificateDer::from(der.to_vec()))).collect()
    }

    /// Returns whether there is a certificate among them.
    pub(super) fn has_certificate(&self) -> bool {
        self.0.iter().any(|section| section.label.ends_with(b"CERTIFICATE"))
    }

    /// Returns the private keys among them, decrypted.
    pub(super) fn keys(&self, password: Option<&SecretString>) -> Result<Vec<PrivateKeyDer<'static>>, CertificateError> {
        let keys = self.0.iter().filter(|section| section.label.ends_with(b"PRIVATE KEY"));
        keys.map(|section| key(section, password)).collect()
    }
}

fn find(text: &[u8], what: &[u8]) -> Option<usize> {
    memchr::memmem::find(text, what)
}

fn key(section: &Section<'_>, password: Option<&SecretString>) -> Result<PrivateKeyDer<'static>, CertificateError> {
    if section.label == b"ENCRYPTED PRIVATE KEY" {
        return decrypt(section, password.ok_or(CertificateError::Encrypted)?);
    }
    // RFC 1421, section 4.6: how OpenSSL once marked an encrypted key. It derives the key with one round of MD5.
    if find(section.text, b"Proc-Type:").is_some() {
        return Err(CertificateError::OldEncryption);
    }
    let der = decode(section)?.to_vec();
    match section.label {
        b"PRIVATE KEY" => Ok(PrivateKeyDer::Pkcs8(der.into())),
        b"RSA PRIVATE KEY" => Ok(PrivateKeyDer::Pkcs1(der.into())),
        b"EC PRIVATE KEY" => Ok(PrivateKeyDer::Sec1(der.into())),
        _ => Err(CertificateError::PemUnreadable),
    }
}

/// Returns a key in the encrypted form of PKCS#8: RFC 5958, section 3.
fn decrypt(section: &Section<'_>, password: &SecretString) -> Result<PrivateKeyDer<'static>, CertificateError> {
    let der = decode(section)?;
    let encrypted = EncryptedPrivateKeyInfoRef::try_from(der.as_slice()).map_err(|_| CertificateError::EncryptionUnknown)?;
    let decrypted = encrypted.decrypt(password.expose_secret()).map_err(|error| match error {
        pkcs8::Error::EncryptedPrivateKey(pkcs8::pkcs5::Error::UnsupportedAlgorithm { .. }) => {
            CertificateError::EncryptionUnknown
        }
        // Bad padding, or what came out is no key.
        _ => CertificateError::WrongPassword,
    })?;
    // One wrong password in some hundreds leaves padding that looks right.
    if PrivateKeyInfoRef::try_from(decrypted.as_bytes()).is_err() {
        return Err(CertificateError::WrongPassword);
    }
    Ok(PrivateKeyDer::Pkcs8(decrypted.as_bytes().to_vec().into()))
}

/// Returns the content of a block.
fn decode(section: &Section<'_>) -> Result<Zeroizing<Vec<u8>>, CertificateError> {
    // A line may end as Windows, Unix or an old Macintosh ends it.
    let lines = section.text.split(|byte| matches!(byte, b'\n' | b'\r')).filter(|line| !line.starts_with(b"-----"));
    let text: Zeroizing<Vec<u8>> = Zeroizing::new(lines.flatten().copied().filter(|byte| !byte.is_ascii_whitespace()).collect());
    STANDARD.decode(&*text).map(Zeroizing::new).map_err(|_| CertificateError::PemUnreadable)
}

/// Reads a file that holds a certificate or a key; its bytes are wiped on drop.
///
/// # Errors
/// Fails if the file cannot be read, or is far too large.
pub fn read_file(path: &Path) -> Result<Zeroizing<Vec<u8>>, CertificateError> {
    let unreadable = |source| CertificateError::File { path: path.to_owned(), source };
    let metadata = std::fs::metadata(path).map_err(unreadable)?;
    if metadata.len() > LARGEST_FILE {
        return Err(CertificateError::FileTooLarge { path: path.to_owned() });
    }
    let bytes = std::fs::read(path).map(Zeroizing::new).map_err(unreadable)?;
    // Windows saves text as UTF-16, which has a mark that no binary form begins with.
    match &**bytes {
        [0xff, 0xfe, ..] | [0xfe, 0xff, ..] => match text::decode(&bytes) {
            Ok(text) => Ok(Zeroizing::new(text.into_owned().into_bytes())),
            Err(_) => Err(CertificateError::Utf16),
        },
        _ => Ok(bytes),
    }
}

/// The cure for a file with a secret that others may use.
pub const LOOSE_CURE: &str = "let the gateway's user alone read it: chmod 600, or defaultMode: 0440 on a mounted secret";

/// Describes a file with a private key that others may read or replace; `None` if nobody may.
pub fn loose_key(path: &Path) -> Option<String> {
    let mode = loose_permissions(path)?;
    Some(format!("{} holds a private key, and others may use it (mode {mode})", path.display()))
}

/// Describes who else may read a file with a private key or replace it; `None` if nobody may.
#[cfg(unix)]
pub fn loose_permissions(path: &Path) -> Option<String> {
    use std::os::unix::fs::PermissionsExt as _;

    let mode = std::fs::metadata(path).ok()?.permissions().mode() & 0o777;
    // A group that may read is how container platforms hand out secrets.
    (mode & 0o027 != 0).then(|| format!("{mode:03o}"))
}

/// Returns `None`: permissions are not checked on this platform.
#[cfg(not(unix))]
pub fn loose_permissions(_: &Path) -> Option<String> {
    None
}
