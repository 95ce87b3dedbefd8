//! `entrada certificate new`: an RSA key and a self-signed certificate, as Entra accepts them.

use std::{
    fs::OpenOptions,
    io::Write as _,
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};

use anyhow::Context as _;
use aws_lc_rs::rand;
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use clap::Args;
use p12_keystore::{Certificate as P12Certificate, KeyStore, KeyStoreEntry, PrivateKey, PrivateKeyChain};
use rcgen::{
    CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, KeyPair, KeyUsagePurpose, PKCS_RSA_SHA256, RsaKeySize,
    SerialNumber,
};
use secrecy::{ExposeSecret as _, SecretString};
use serde_json::{Value, json};
use zeroize::Zeroizing;

use super::{Format, in_json, in_words};
use crate::{base::clock::Clock, certificate::keys::Thumbprints};

/// The backdating of certificates, in seconds: clocks differ, and one that is valid from this very second is not valid yet for
/// others.
const BACKDATED: u64 = 300;

/// Arguments of `entrada certificate new`.
#[derive(Args, Debug)]
pub struct NewArguments {
    /// The subject, such as CN=gateway or CN=gateway,O=Contoso; a text without `=` is the common name
    #[arg(long, value_name = "NAME")]
    subject: String,
    /// The number of days for which it is valid [a tenant's policy may allow fewer]
    #[arg(long, default_value_t = 365, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=3650))]
    days: u32,
    /// The size of the RSA key
    #[arg(long, default_value_t = 2048, value_name = "BITS", value_parser = key_size)]
    bits: u16,
    /// The PEM file for certificate and private key [default: the common name with .pem]
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Write a PFX (PKCS#12) file as well
    #[arg(long, value_name = "FILE")]
    pfx: Option<PathBuf>,
    /// The file that holds the password of the PFX [default: a new password, written beside the PFX]
    #[arg(long, value_name = "FILE", requires = "pfx")]
    password_file: Option<PathBuf>,
    /// Replace existing files
    #[arg(long)]
    force: bool,
    /// The output format
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

pub(super) fn key_size(text: &str) -> Result<u16, String> {
    match text.parse() {
        Ok(bits @ (2048 | 3072 | 4096)) => Ok(bits),
        _ => Err("Entra takes RSA keys from 2048 bits on; say 2048, 3072 or 4096".to_owned()),
    }
}

/// The settings of a new certificate.
#[derive(Clone, Debug)]
pub struct NewCertificate {
    /// The subject: `CN=gateway,O=Contoso`, or a common name alone.
    pub subject: String,
    /// The number of days for which it is valid.
    pub days: u32,
    /// The size of the RSA key: 2048, 3072 or 4096.
    pub bits: u16,
}

/// The reason why no certificate could be made.
#[derive(Debug, thiserror::Error)]
pub enum MakeError {
    /// The subject cannot be read.
    #[error("the subject {subject:?} cannot be used: {why}")]
    Subject {
        /// The subject as given.
        subject: String,
        /// The fault of the subject.
        why: String,
    },
    /// The cryptographic library refused.
    #[error("the certificate cannot be made")]
    Certificate(#[from] rcgen::Error),
    /// The PFX cannot be written.
    #[error("the PFX cannot be made: {0}")]
    Pfx(String),
}

/// A certificate with its private key.
pub struct Made {
    subject: String,
    der: Vec<u8>,
    thumbprints: Thumbprints,
    certificate_pem: String,
    key_pem: Zeroizing<String>,
    key_der: Zeroizing<Vec<u8>>,
    not_before: i64,
    not_after: i64,
}

impl std::fmt::Debug for Made {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Made")
            .field("subject", &self.subject)
            .field("thumbprint", &self.thumbprints.hex())
            .finish_non_exhaustive()
    }
}

impl NewCertificate {
    /// Makes key and certificate. Takes seconds for 4096 bits.
    ///
    /// # Errors
    ///
    /// Fails if the subject cannot be read.
    pub fn make(&self, clock: &Clock) -> Result<Made, MakeError> {
        let size = match self.bits {
            4096 => RsaKeySize::_4096,
            3072 => RsaKeySize::_3072,
            _ => RsaKeySize::_2048,
        };
        let key = KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, size)?;
        let from = clock.unix_seconds().saturating_sub(BACKDATED);
        let to = from + u64::from(self.days) * 86_400;
        let epoch = rcgen::date_time_ymd(1970, 1, 1);
        let mut params = CertificateParams::default();
        params.distinguished_name = distinguished_name(&self.subject)?;
        params.not_before = epoch + Duration::from_secs(from);
        params.not_after = epoch + Duration::from_secs(to);
        params.serial_number = Some(SerialNumber::from(uuid::Uuid::new_v4().as_bytes().to_vec()));
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        let certificate = params.self_signed(&key)?;
        Ok(Made {
            subject: subject_text(&params.distinguished_name),
            thumbprints: Thumbprints::of(certificate.der()),
            der: certificate.der().to_vec(),
            certificate_pem: certificate.pem(),
            key_pem: Zeroizing::new(key.serialize_pem()),
            key_der: Zeroizing::new(key.serialize_der()),
            not_before: from.cast_signed(),
            not_after: to.cast_signed(),
        })
    }
}

impl Made {
    /// Returns the certificate, DER.
    pub fn der(&self) -> &[u8] {
        &self.der
    }

    /// Returns the certificate alone, PEM: for uploading.
    pub fn certificate_pem(&self) -> &str {
        &self.certificate_pem
    }

    /// Returns certificate and private key, PEM: for the gateway.
    pub fn pem(&self) -> Zeroizing<String> {
        Zeroizing::new(format!("{}{}", self.certificate_pem, *self.key_pem))
    }

    /// Returns certificate and private key as a PKCS#12 store (PBES2 with AES-256, HMAC-SHA-256).
    ///
    /// # Errors
    ///
    /// Fails if the library refuses, as it does for an empty password.
    pub fn pfx(&self, password: &SecretString) -> Result<Vec<u8>, MakeError> {
        let refused = |error: p12_keystore::error::Error| MakeError::Pfx(error.to_string());
        if password.expose_secret().is_empty() {
            return Err(MakeError::Pfx("a PFX needs a password".to_owned()));
        }
        let certificate = P12Certificate::from_der(&self.der).map_err(refused)?;
        let key = PrivateKey::from_der(&self.key_der).map_err(refused)?;
        let chain = PrivateKeyChain::new(self.thumbprints.sha1().to_vec(), key, [certificate]);
        let mut store = KeyStore::new();
        store.add_entry(&self.subject, KeyStoreEntry::PrivateKeyChain(chain));
        store.writer(password.expose_secret()).write().map_err(refused)
    }

    /// Returns its thumbprints, as the portal, manifests and assertions use them.
    pub const fn thumbprints(&self) -> &Thumbprints {
        &self.thumbprints
    }

    /// Returns the entry for `keyCredentials` of an app manifest.
    pub fn key_credential(&self) -> Value {
        super::key_credential(&self.subject, &self.der, (self.not_before, self.not_after))
    }
}

/// Reads `CN=gateway,O=Contoso`; a comma in a value is written `\,` (RFC 4514).
fn distinguished_name(subject: &str) -> Result<DistinguishedName, MakeError> {
    let wrong = |why: String| MakeError::Subject { subject: subject.to_owned(), why };
    let mut name = DistinguishedName::new();
    if !subject.contains('=') && !subject.trim().is_empty() {
        name.push(DnType::CommonName, subject.trim());
        return Ok(name);
    }
    let mut parts = vec![String::new()];
    let mut letters = subject.chars();
    while let Some(letter) = letters.next() {
        match letter {
            '\\' => parts.last_mut().into_iter().for_each(|part| part.extend(letters.next())),
            ',' => parts.push(String::new()),
            other => parts.last_mut().into_iter().for_each(|part| part.push(other)),
        }
    }
    for part in parts {
        let (key, value) = part
            .split_once('=')
            .ok_or_else(|| wrong(format!("{:?} is not a name with a value, as CN=gateway is", part.trim())))?;
        let kind = match key.trim().to_ascii_uppercase().as_str() {
            "CN" => DnType::CommonName,
            "O" => DnType::OrganizationName,
            "OU" => DnType::OrganizationalUnitName,
            "L" => DnType::LocalityName,
            "S" | "ST" => DnType::StateOrProvinceName,
            "C" => DnType::CountryName,
            other => return Err(wrong(format!("{other:?} is not one of CN, O, OU, L, ST and C"))),
        };
        if value.trim().is_empty() {
            return Err(wrong(format!("{} has no value", key.trim())));
        }
        name.push(kind, value.trim());
    }
    if name.get(&DnType::CommonName).is_none() {
        return Err(wrong("it has no CN".to_owned()));
    }
    Ok(name)
}

fn subject_text(name: &DistinguishedName) -> String {
    let text = |value: &rcgen::DnValue| match value {
        rcgen::DnValue::Utf8String(text) => text.clone(),
        rcgen::DnValue::PrintableString(text) => text.as_str().to_owned(),
        other => format!("{other:?}"),
    };
    let parts: Vec<String> = name
        .iter()
        .map(|(kind, value)| {
            let kind = match kind {
                DnType::OrganizationName => "O",
                DnType::OrganizationalUnitName => "OU",
                DnType::LocalityName => "L",
                DnType::StateOrProvinceName => "ST",
                DnType::CountryName => "C",
                _ => "CN",
            };
            format!("{kind}={}", text(value).replace(',', "\\,"))
        })
        .collect();
    parts.join(",")
}

/// Makes a random password of letters and digits: 24 random bytes.
fn new_password() -> anyhow::Result<SecretString> {
    let mut bytes = Zeroizing::new([0; 24]);
    rand::fill(bytes.as_mut()).ok().context("the system gives no random bytes")?;
    Ok(SecretString::from(URL_SAFE_NO_PAD.encode(bytes.as_ref())))
}

/// Writes a file that only its owner may read, from its first byte on.
fn write_private(path: &Path, content: &[u8], force: bool) -> anyhow::Result<()> {
    let mut options = OpenOptions::new();
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    // An existing file keeps its permissions, so it is taken away rather than written over.
    if force
        && let Err(error) = std::fs::remove_file(path)
        && error.kind() != std::io::ErrorKind::NotFound
    {
        return Err(error).with_context(|| format!("cannot replace {}", path.display()));
    }
    let mut file = options.write(true).create_new(true).open(path).with_context(|| {
        format!("cannot write {}{}", path.display(), if path.exists() { "; --force replaces it" } else { "" })
    })?;
    file.write_all(content).with_context(|| format!("cannot write {}", path.display()))
}

/// Makes a file name from a common name: characters other than letters, digits, dots, dashes and underscores become dashes.
fn file_name(subject: &str) -> String {
    let common = subject.split(',').find_map(|part| part.strip_prefix("CN=")).unwrap_or(subject);
    let name: String = common
        .chars()
        .map(|letter| if letter.is_ascii_alphanumeric() || "._-".contains(letter) { letter } else { '-' })
        .collect();
    format!("{}.pem", name.trim_matches(['.', '-']))
}

pub(super) fn run(arguments: &NewArguments) -> anyhow::Result<ExitCode> {
    let request = NewCertificate { subject: arguments.subject.clone(), days: arguments.days, bits: arguments.bits };
    let made = request.make(&Clock::system())?;
    let pem = arguments.out.clone().unwrap_or_else(|| PathBuf::from(file_name(&made.subject)));
    let public = pem.with_extension("cer");
    write_private(&pem, made.pem().as_bytes(), arguments.force)?;
    write_private(&public, made.certificate_pem.as_bytes(), arguments.force)?;
    let mut password_file = arguments.password_file.clone();
    if let Some(pfx) = &arguments.pfx {
        let password = match &password_file {
            Some(file) => super::password(file)?,
            None => {
                let (password, file) = (new_password()?, PathBuf::from(format!("{}.password", pfx.display())));
                write_private(&file, password.expose_secret().as_bytes(), arguments.force)?;
                password_file = Some(file);
                password
            }
        };
        write_private(pfx, &made.pfx(&password)?, arguments.force)?;
    }
    match arguments.format {
        Format::Json => {
            writeln!(std::io::stdout(), "{:#}", report(&made, &pem, &public, arguments.pfx.as_deref(), password_file.as_deref()))?
        }
        Format::Text => write!(
            std::io::stdout(),
            "{}",
            words(&made, arguments.bits, &pem, &public, arguments.pfx.as_deref(), password_file.as_deref())
        )?,
    }
    Ok(ExitCode::SUCCESS)
}

fn report(made: &Made, pem: &Path, public: &Path, pfx: Option<&Path>, password_file: Option<&Path>) -> Value {
    json!({
        "subject": made.subject,
        "not_before": in_json(made.not_before),
        "not_after": in_json(made.not_after),
        "thumbprint": made.thumbprints.hex(),
        "x5t": made.thumbprints.x5t(),
        "x5t_s256": made.thumbprints.x5t_s256(),
        "pem": pem,
        "certificate": public,
        "pfx": pfx,
        "pfx_password_file": password_file,
        "key_credential": made.key_credential(),
    })
}

fn words(made: &Made, bits: u16, pem: &Path, public: &Path, pfx: Option<&Path>, password_file: Option<&Path>) -> String {
    let mut lines = vec![
        format!("Subject      {}", made.subject),
        format!("Valid        {} to {}", in_words(made.not_before), in_words(made.not_after)),
        format!("Key          RSA, {bits} bits, certificate signed with SHA-256"),
        format!("Thumbprint   {}   (SHA-1, as the portal shows it)", made.thumbprints.hex()),
        format!("x5t          {}", made.thumbprints.x5t()),
        format!("x5t#S256     {}", made.thumbprints.x5t_s256()),
        String::new(),
        format!("{}   certificate and private key, for the gateway; keep it secret", pem.display()),
        format!("{}   the certificate alone: upload it to the app registration (Certificates & secrets)", public.display()),
    ];
    if let (Some(pfx), Some(password)) = (pfx, password_file) {
        lines.push(format!("{}   the same as PFX; its password is in {}", pfx.display(), password.display()));
    }
    lines.push(String::new());
    lines.push("Or add this entry to keyCredentials of the app manifest:".to_owned());
    lines.push(made.key_credential().to_string());
    lines.push(String::new());
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_subjects() {
        let read = |text: &str| distinguished_name(text).map(|name| subject_text(&name));

        assert_eq!(read("CN=gateway").expect("reads"), "CN=gateway");
        assert_eq!(read("gateway").expect("reads"), "CN=gateway");
        assert_eq!(read("CN=gateway, O=Contoso\\, Ltd").expect("reads"), "CN=gateway,O=Contoso\\, Ltd");
        for wrong in ["", "O=Contoso", "CN=", "X=1,CN=a", "CN=a,b"] {
            assert!(read(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn names_files_plainly() {
        assert_eq!(file_name("CN=gateway contoso/..,O=x"), "gateway-contoso.pem");
    }
}
