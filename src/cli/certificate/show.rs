//! `entrada certificate show`: what is in a certificate file, and whether Entra would take it.

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Context as _, bail};
use aws_lc_rs::{digest, rsa::KeyPair as RsaKeyPair, signature::KeyPair as _};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use clap::Args;
use p12_keystore::Pkcs12Archive;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, pem::PemObject as _};
use secrecy::{ExposeSecret as _, SecretString};
use serde::Serialize;
use x509_parser::{
    oid_registry::OidRegistry,
    prelude::{FromDer as _, X509Certificate},
    public_key::PublicKey,
};

use super::{Format, hex, in_json, in_words};
use crate::clock::Clock;

/// A certificate file is small; a wrong path should not be read into memory whole.
const LARGEST_FILE: u64 = 1 << 20;

/// Arguments of `entrada certificate show`.
#[derive(Args, Debug)]
pub struct ShowArguments {
    /// The file: PEM, DER or PFX
    file: PathBuf,
    /// The file with the private key, where it is another one
    #[arg(long, value_name = "FILE")]
    private_key: Option<PathBuf>,
    /// The file that holds the password of a PFX
    #[arg(long, value_name = "FILE")]
    password_file: Option<PathBuf>,
    /// How to speak
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

/// What was found out about one certificate.
#[derive(Clone, Debug, Serialize)]
pub struct Inspection {
    /// The subject.
    pub subject: String,
    /// The issuer.
    pub issuer: String,
    /// The start of its validity, RFC 3339.
    pub not_before: String,
    /// The end of its validity, RFC 3339.
    pub not_after: String,
    /// Whole days until it ends; negative when it has.
    pub days_left: i64,
    /// `RSA`, `EC` or another word.
    pub key_type: String,
    /// The size of the key, in bits.
    pub key_bits: usize,
    /// What the certificate was signed with.
    pub signature_algorithm: String,
    /// SHA-1 in hexadecimal, as the portal shows it.
    pub thumbprint: String,
    /// SHA-1 in base64url.
    pub x5t: String,
    /// SHA-256 in base64url.
    pub x5t_s256: String,
    /// What is known of the private key.
    pub private_key: KeyFinding,
    /// Other certificates in the file.
    pub chain: Vec<String>,
    /// Why Entra would not take it.
    pub problems: Vec<String>,
    #[serde(skip)]
    validity: (i64, i64),
}

/// What is known of a certificate's private key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum KeyFinding {
    /// It is there and belongs to the certificate.
    Matches,
    /// There is one, of another certificate.
    Differs,
    /// There is none.
    Absent,
}

struct Contents {
    certificates: Vec<CertificateDer<'static>>,
    keys: Vec<PrivateKeyDer<'static>>,
}

/// Looks at the certificate in a file.
///
/// # Errors
///
/// When a file cannot be read or holds no certificate.
pub fn inspect(
    file: &Path,
    private_key: Option<&Path>,
    password: Option<&SecretString>,
    clock: &Clock,
) -> anyhow::Result<Inspection> {
    let mut contents = read(file, password)?;
    if let Some(private_key) = private_key {
        contents.keys = read(private_key, password)?.keys;
    }
    let publics: Vec<Vec<u8>> = contents.keys.iter().filter_map(rsa_public).collect();
    let parsed: Vec<X509Certificate<'_>> = contents
        .certificates
        .iter()
        .map(|der| X509Certificate::from_der(der).map(|(_, certificate)| certificate))
        .collect::<Result<_, _>>()
        .with_context(|| format!("a certificate in {} cannot be read", file.display()))?;
    let belongs = |certificate: &X509Certificate<'_>| {
        publics.iter().any(|public| *public == certificate.public_key().subject_public_key.data.as_ref())
    };
    // The certificate that counts is the one whose key is there; the leaf need not come first.
    let index = parsed.iter().position(belongs).unwrap_or(0);
    let (Some(certificate), Some(der)) = (parsed.get(index), contents.certificates.get(index)) else {
        bail!("{} holds no certificate", file.display());
    };
    let private_key = if belongs(certificate) {
        KeyFinding::Matches
    } else if contents.keys.is_empty() {
        KeyFinding::Absent
    } else {
        KeyFinding::Differs
    };

    let (key_type, key_bits) = match certificate.public_key().parsed() {
        // The parser counts whole bytes of the modulus; a key's size counts from its highest bit.
        Ok(PublicKey::RSA(key)) => ("RSA", bits(key.modulus)),
        Ok(PublicKey::EC(point)) => ("EC", point.key_size()),
        _ => ("unknown", 0),
    };
    let now = clock.unix_seconds().cast_signed();
    let validity = (certificate.validity().not_before.timestamp(), certificate.validity().not_after.timestamp());
    let signature_algorithm = OidRegistry::default()
        .with_all_crypto()
        .get(&certificate.signature_algorithm.algorithm)
        .map_or_else(|| certificate.signature_algorithm.algorithm.to_id_string(), |entry| entry.sn().to_owned());
    let mut problems = Vec::new();
    if key_type != "RSA" {
        problems.push("Entra accepts certificates with RSA keys only".to_owned());
    } else if key_bits < 2048 {
        problems.push(format!("Entra accepts no RSA keys below 2048 bits, and this one has {key_bits}"));
    }
    if now > validity.1 {
        problems.push("it has expired".to_owned());
    } else if now < validity.0 {
        problems.push("it is not valid yet".to_owned());
    }
    if signature_algorithm.to_ascii_lowercase().contains("sha1") || signature_algorithm.to_ascii_lowercase().contains("md5") {
        problems.push(format!("it is signed with {signature_algorithm}; Entra wants SHA-256 or better"));
    }
    if private_key == KeyFinding::Differs {
        problems.push("the private key belongs to another certificate".to_owned());
    }
    Ok(Inspection {
        subject: certificate.subject().to_string(),
        issuer: certificate.issuer().to_string(),
        not_before: in_json(validity.0),
        not_after: in_json(validity.1),
        days_left: (validity.1 - now).div_euclid(86_400),
        key_type: key_type.to_owned(),
        key_bits,
        signature_algorithm,
        thumbprint: hex(digest::digest(&digest::SHA1_FOR_LEGACY_USE_ONLY, der).as_ref()),
        x5t: URL_SAFE_NO_PAD.encode(digest::digest(&digest::SHA1_FOR_LEGACY_USE_ONLY, der)),
        x5t_s256: URL_SAFE_NO_PAD.encode(digest::digest(&digest::SHA256, der)),
        private_key,
        chain: parsed
            .iter()
            .enumerate()
            .filter(|(other, _)| *other != index)
            .map(|(_, other)| other.subject().to_string())
            .collect(),
        problems,
        validity,
    })
}

fn bits(number: &[u8]) -> usize {
    let first = number.iter().position(|byte| *byte != 0).unwrap_or(number.len());
    number[first..].first().map_or(0, |top| (number.len() - first) * 8 - top.leading_zeros() as usize)
}

fn read(file: &Path, password: Option<&SecretString>) -> anyhow::Result<Contents> {
    let size = std::fs::metadata(file).with_context(|| format!("cannot read {}", file.display()))?.len();
    if size > LARGEST_FILE {
        bail!("{} is larger than 1 MiB: that is no certificate file", file.display());
    }
    let bytes = zeroize::Zeroizing::new(std::fs::read(file).with_context(|| format!("cannot read {}", file.display()))?);
    if memchr::memmem::find(&bytes, b"-----BEGIN ").is_some() {
        return pem(file, &bytes);
    }
    if X509Certificate::from_der(&bytes).is_ok() {
        return Ok(Contents { certificates: vec![CertificateDer::from(bytes.to_vec())], keys: Vec::new() });
    }
    pfx(file, &bytes, password)
}

fn pem(file: &Path, bytes: &[u8]) -> anyhow::Result<Contents> {
    if memchr::memmem::find(bytes, b"-----BEGIN ENCRYPTED PRIVATE KEY").is_some()
        || memchr::memmem::find(bytes, b"Proc-Type: 4,ENCRYPTED").is_some()
    {
        bail!("the private key in {} is encrypted; decrypt it with `openssl pkey -in {0} -out FILE`", file.display());
    }
    let certificates = CertificateDer::pem_slice_iter(bytes).collect::<Result<Vec<_>, _>>();
    let keys = PrivateKeyDer::pem_slice_iter(bytes).collect::<Result<Vec<_>, _>>();
    match (certificates, keys) {
        (Ok(certificates), Ok(keys)) => Ok(Contents { certificates, keys }),
        (Err(error), _) | (_, Err(error)) => bail!("a PEM block in {} is damaged: {error}", file.display()),
    }
}

fn pfx(file: &Path, bytes: &[u8], password: Option<&SecretString>) -> anyhow::Result<Contents> {
    let text = password.map_or("", |password| password.expose_secret());
    let archive = Pkcs12Archive::from_pkcs12(bytes, text).map_err(|error| {
        // A wrong password shows as a wrong MAC, or as bad padding where there is no MAC.
        let wrong = matches!(error, p12_keystore::error::Error::MacError(_) | p12_keystore::error::Error::Pkcs5Error(_));
        match (wrong, password.is_some()) {
            (true, true) => anyhow::anyhow!("the password of {} is wrong", file.display()),
            (true, false) => anyhow::anyhow!("{} needs a password: say --password-file FILE", file.display()),
            (false, _) => anyhow::anyhow!("{} is neither PEM nor DER nor PFX ({error})", file.display()),
        }
    })?;
    Ok(Contents {
        certificates: archive.certs.iter().map(|bag| CertificateDer::from(bag.cert.as_der().to_vec())).collect(),
        keys: archive.keys.iter().map(|bag| PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(bag.key.as_der().to_vec()))).collect(),
    })
}

/// The public half of an RSA key, as certificates hold it.
fn rsa_public(key: &PrivateKeyDer<'_>) -> Option<Vec<u8>> {
    let pair = match key {
        PrivateKeyDer::Pkcs8(der) => RsaKeyPair::from_pkcs8(der.secret_pkcs8_der()),
        PrivateKeyDer::Pkcs1(der) => RsaKeyPair::from_der(der.secret_pkcs1_der()),
        _ => return None,
    };
    pair.ok().map(|pair| pair.public_key().as_ref().to_vec())
}

pub(super) fn run(arguments: &ShowArguments) -> anyhow::Result<ExitCode> {
    let password = arguments.password_file.as_deref().map(super::password).transpose()?;
    let found = inspect(&arguments.file, arguments.private_key.as_deref(), password.as_ref(), &Clock::system())?;
    match arguments.format {
        Format::Json => println!("{}", serde_json::to_string_pretty(&found)?),
        Format::Text => print!("{}", words(&found)),
    }
    Ok(if found.problems.is_empty() { ExitCode::SUCCESS } else { ExitCode::from(1) })
}

fn words(found: &Inspection) -> String {
    let left = match found.days_left {
        days if days < 0 => format!("expired {} days ago", -days),
        days => format!("{days} days left"),
    };
    let mut lines = vec![
        format!("Subject      {}", found.subject),
        if found.issuer == found.subject { "Issuer       itself".to_owned() } else { format!("Issuer       {}", found.issuer) },
        format!("Valid        {} to {} ({left})", in_words(found.validity.0), in_words(found.validity.1)),
        format!(
            "Key          {}, {} bits; certificate signed with {}",
            found.key_type, found.key_bits, found.signature_algorithm
        ),
        format!(
            "Private key  {}",
            match found.private_key {
                KeyFinding::Matches => "in the file, and belongs to the certificate",
                KeyFinding::Differs => "of another certificate",
                KeyFinding::Absent => "not in the file",
            }
        ),
        format!("Thumbprint   {}   (SHA-1, as the portal shows it)", found.thumbprint),
        format!("x5t          {}", found.x5t),
        format!("x5t#S256     {}", found.x5t_s256),
    ];
    lines.extend(found.chain.iter().map(|subject| format!("Also there   {subject}")));
    lines.extend(found.problems.iter().map(|problem| format!("Problem      {problem}")));
    lines.push(String::new());
    lines.join("\n")
}
