//! `entrada certificate show`: the content of a certificate file, and whether Entra would accept it.

use std::{
    io::Write as _,
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Context as _, anyhow, bail};
use clap::Args;
use rustls::crypto::aws_lc_rs::sign::any_supported_type;
use rustls_pki_types::PrivateKeyDer;
use secrecy::SecretString;
use serde::Serialize;
use serde_json::Value;
use x509_parser::{
    oid_registry::OidRegistry,
    prelude::{FromDer as _, X509Certificate},
    public_key::PublicKey,
};

use super::{Format, in_json, in_words};
use crate::{
    base::clock::Clock,
    certificate::keys::{CertificateError, Contents, Thumbprints, bits, days_in_words, read_file},
};

/// The number of days before its end from which a certificate counts as a problem.
const WARN_DAYS: i64 = 30;

/// Arguments of `entrada certificate show`.
#[derive(Args, Debug)]
pub struct ShowArguments {
    /// The file: PEM, DER or PFX
    file: PathBuf,
    /// The file with the private key, if it is separate
    #[arg(long, value_name = "FILE")]
    private_key: Option<PathBuf>,
    /// The file that holds the password of a PFX, or of an encrypted private key
    #[arg(long, value_name = "FILE")]
    password_file: Option<PathBuf>,
    /// The output format
    #[arg(long, value_enum, default_value_t)]
    format: Format,
    /// Print only the entry for `keyCredentials` of an app manifest, ready to paste
    #[arg(long)]
    key_credential: bool,
}

/// The findings about one certificate.
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
    /// Whole days until it expires; negative after that.
    pub days_left: i64,
    /// `RSA`, `EC` or another word.
    pub key_type: String,
    /// The size of the key, in bits.
    pub key_bits: usize,
    /// The algorithm of the certificate's signature.
    pub signature_algorithm: String,
    /// SHA-1 in hexadecimal, as the portal shows it.
    pub thumbprint: String,
    /// SHA-256 in hexadecimal.
    pub thumbprint_sha256: String,
    /// SHA-1 in base64url.
    pub x5t: String,
    /// SHA-256 in base64url.
    pub x5t_s256: String,
    /// The finding about the private key.
    pub private_key: KeyFinding,
    /// Other certificates in the file.
    pub chain: Vec<String>,
    /// The reasons why Entra would not accept it.
    pub problems: Vec<String>,
    /// The entry for `keyCredentials` of an app manifest.
    pub key_credential: Value,
    #[serde(skip)]
    validity: (i64, i64),
}

/// The finding about a certificate's private key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum KeyFinding {
    /// It is present and belongs to the certificate.
    Matches,
    /// It belongs to another certificate.
    Differs,
    /// It is damaged, or of an unsupported kind.
    Unusable,
    /// It is absent.
    Absent,
}

/// Inspects the certificate in a file.
///
/// # Errors
///
/// Fails if a file cannot be read or holds no certificate.
pub fn inspect(
    file: &Path,
    private_key: Option<&Path>,
    password: Option<&SecretString>,
    clock: &Clock,
) -> anyhow::Result<Inspection> {
    let mut contents = read(file, password)?;
    if let Some(private_key) = private_key {
        contents.keys = std::mem::take(&mut read(private_key, password)?.keys);
    }
    let publics: Vec<Vec<u8>> = contents.keys.iter().filter_map(public).collect();
    let parsed: Vec<X509Certificate<'_>> = contents
        .certificates
        .iter()
        .map(|der| X509Certificate::from_der(der).map(|(_, certificate)| certificate))
        .collect::<Result<_, _>>()
        .with_context(|| format!("a certificate in {} cannot be read", file.display()))?;
    let belongs = |certificate: &X509Certificate<'_>| publics.iter().any(|public| *public == certificate.public_key().raw);
    // The certificate that counts is the one whose key is there; the leaf need not come first.
    let index = parsed.iter().position(belongs).unwrap_or(0);
    let (Some(certificate), Some(der)) = (parsed.get(index), contents.certificates.get(index)) else {
        bail!("{} holds no certificate", file.display());
    };
    let private_key = if belongs(certificate) {
        KeyFinding::Matches
    } else if contents.keys.is_empty() {
        KeyFinding::Absent
    } else if publics.is_empty() {
        KeyFinding::Unusable
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
    let thumbprints = Thumbprints::of(der);
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
    } else if validity.1 - now < WARN_DAYS * 86_400 {
        problems.push(format!(
            "it expires in {} days: make a new one, and upload it beside this one",
            (validity.1 - now).div_euclid(86_400)
        ));
    }
    if signature_algorithm.to_ascii_lowercase().contains("sha1") || signature_algorithm.to_ascii_lowercase().contains("md5") {
        problems.push(format!("it is signed with {signature_algorithm}; Entra wants SHA-256 or better"));
    }
    match private_key {
        KeyFinding::Differs => problems.push("the private key belongs to another certificate".to_owned()),
        KeyFinding::Unusable => problems.push("the private key is damaged, or of a kind that is not understood".to_owned()),
        KeyFinding::Matches | KeyFinding::Absent => {}
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
        thumbprint: thumbprints.hex(),
        thumbprint_sha256: thumbprints.hex_sha256(),
        x5t: thumbprints.x5t(),
        x5t_s256: thumbprints.x5t_s256(),
        private_key,
        chain: parsed
            .iter()
            .enumerate()
            .filter(|(other, _)| *other != index)
            .map(|(_, other)| other.subject().to_string())
            .collect(),
        problems,
        key_credential: super::key_credential(&certificate.subject().to_string(), der, validity),
        validity,
    })
}

fn read(file: &Path, password: Option<&SecretString>) -> anyhow::Result<Contents> {
    let told = |error: CertificateError| match error {
        CertificateError::NotPfx => anyhow!("{} is neither PEM nor DER nor PFX", file.display()),
        CertificateError::Encrypted => anyhow!("{} needs a password: say --password-file FILE", file.display()),
        CertificateError::File { .. } | CertificateError::FileTooLarge { .. } => error.into(),
        error => anyhow!("{}: {error}; {}", file.display(), error.cure()),
    };
    Contents::from_any(&read_file(file).map_err(told)?, password).map_err(told)
}

/// Returns the public half of a private key, in the form of certificates.
fn public(key: &PrivateKeyDer<'_>) -> Option<Vec<u8>> {
    any_supported_type(key).ok()?.public_key().map(|public| public.to_vec())
}

pub(super) fn run(arguments: &ShowArguments) -> anyhow::Result<ExitCode> {
    let password = arguments.password_file.as_deref().map(super::password).transpose()?;
    let found = inspect(&arguments.file, arguments.private_key.as_deref(), password.as_ref(), &Clock::system())?;
    if arguments.key_credential {
        if found.key_type != "RSA" || found.key_bits < 2048 {
            bail!("{}", found.problems.join("; "));
        }
        writeln!(std::io::stdout(), "{:#}", found.key_credential)?;
        return Ok(ExitCode::SUCCESS);
    }
    match arguments.format {
        Format::Json => writeln!(std::io::stdout(), "{}", serde_json::to_string_pretty(&found)?)?,
        Format::Text => write!(std::io::stdout(), "{}", words(&found))?,
    }
    Ok(if found.problems.is_empty() { ExitCode::SUCCESS } else { ExitCode::from(1) })
}

fn words(found: &Inspection) -> String {
    let left = days_in_words(found.days_left);
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
                KeyFinding::Unusable => "in the file, and of no use",
                KeyFinding::Absent => "not in the file",
            }
        ),
        format!("Thumbprint   {}   (SHA-1, as the portal shows it)", found.thumbprint),
        format!("SHA-256      {}", found.thumbprint_sha256),
        format!("x5t          {}", found.x5t),
        format!("x5t#S256     {}", found.x5t_s256),
    ];
    lines.extend(found.chain.iter().map(|subject| format!("Also there   {subject}")));
    lines.extend(found.problems.iter().map(|problem| format!("Problem      {problem}")));
    lines.push(String::new());
    lines.join("\n")
}
