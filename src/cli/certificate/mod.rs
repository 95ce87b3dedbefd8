//! `entrada certificate`: makes certificates for app registrations, and shows the content of certificate files.

mod make;
mod policy;
mod show;

#[cfg(test)]
mod tests;

use std::{path::Path, process::ExitCode};

use anyhow::{Context as _, anyhow};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use clap::{Args, Subcommand, ValueEnum};
pub use make::{Made, MakeError, NewArguments, NewCertificate};
pub use policy::PolicyArguments;
use secrecy::SecretString;
use serde_json::{Value, json};
pub use show::{Inspection, KeyFinding, ShowArguments, inspect};
use zeroize::Zeroizing;

use crate::{base::text, certificate::keys::Thumbprints};

/// Arguments of `entrada certificate`.
#[derive(Args, Debug)]
pub struct CertificateArguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Make a key and a self-signed certificate for an app registration
    New(NewArguments),
    /// Show the content of a certificate file (PEM, DER or PFX)
    Show(ShowArguments),
    /// Print the policy of a vault certificate whose key cannot be exported
    Policy(PolicyArguments),
}

/// The output format of a command.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// For people.
    #[default]
    Text,
    /// For machines.
    Json,
}

/// Runs `entrada certificate`.
///
/// # Errors
///
/// Returns the error that stopped it.
pub fn run(arguments: &CertificateArguments) -> anyhow::Result<ExitCode> {
    match &arguments.command {
        Command::New(arguments) => make::run(arguments),
        Command::Show(arguments) => show::run(arguments),
        Command::Policy(arguments) => policy::run(arguments),
    }
}

/// Reads the password from a file, without the line end that editors add.
fn password(file: &Path) -> anyhow::Result<SecretString> {
    let bytes = std::fs::read(file).map(Zeroizing::new);
    let bytes = bytes.with_context(|| format!("cannot read the password file {}", file.display()))?;
    let password =
        text::secret(&bytes).map_err(|fault| anyhow!("the password file {}: {fault}; {}", file.display(), fault.cure()))?;
    Ok(SecretString::from(password.as_str()))
}

/// Returns the entry for `keyCredentials` of an app manifest.
fn key_credential(subject: &str, der: &[u8], (not_before, not_after): (i64, i64)) -> Value {
    json!({
        "customKeyIdentifier": STANDARD.encode(Thumbprints::of(der).sha1()),
        "displayName": subject,
        "endDateTime": in_json(not_after),
        "key": STANDARD.encode(der),
        "keyId": uuid::Uuid::new_v4().to_string(),
        "startDateTime": in_json(not_before),
        "type": "AsymmetricX509Cert",
        "usage": "Verify",
    })
}

/// Formats a time: `2027-11-21 12:00:00 UTC`.
fn in_words(seconds: i64) -> String {
    jiff::Timestamp::from_second(seconds)
        .map(|at| at.strftime("%Y-%m-%d %H:%M:%S UTC").to_string())
        .unwrap_or_else(|_| seconds.to_string())
}

/// Formats a time: `2027-11-21T12:00:00Z`.
fn in_json(seconds: i64) -> String {
    jiff::Timestamp::from_second(seconds).map(|at| at.to_string()).unwrap_or_else(|_| seconds.to_string())
}
