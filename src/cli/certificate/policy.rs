//! `entrada certificate policy`: the policy of a vault certificate whose private key cannot leave the vault.

use std::io::Write as _;
use std::process::ExitCode;

use anyhow::bail;
use clap::{Args, ValueEnum};
use serde_json::{Value, json};

/// Arguments of `entrada certificate policy`.
#[derive(Args, Debug)]
pub struct PolicyArguments {
    /// The subject, as CN=gateway; a text without `=` is the common name
    #[arg(long, value_name = "NAME")]
    subject: String,
    /// The validity in months [a tenant's policy may allow fewer]
    #[arg(long, default_value_t = 12, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=36))]
    months: u32,
    /// The size of the RSA key
    #[arg(long, default_value_t = 2048, value_name = "BITS", value_parser = super::make::key_size)]
    bits: u16,
    /// Keep the key in a hardware security module (premium vaults)
    #[arg(long)]
    hsm: bool,
    /// Action of the vault before the certificate expires
    #[arg(long, value_enum, default_value_t)]
    on_expiry: OnExpiry,
    /// Tool that reads the policy
    #[arg(long = "for", value_enum, default_value_t)]
    reader: Reader,
}

/// The vault's action before a certificate ends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum OnExpiry {
    /// Make a new version, which the gateway uses once it is uploaded.
    #[default]
    Renew,
    /// Send an e-mail to the vault's contacts.
    Email,
}

/// The program that reads the policy.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum Reader {
    /// `az keyvault certificate create --policy @policy.json`.
    #[default]
    Az,
    /// `POST {vault}/certificates/{name}/create`.
    Rest,
}

impl PolicyArguments {
    fn subject(&self) -> anyhow::Result<String> {
        let subject = self.subject.trim();
        let subject = if subject.contains('=') { subject.to_owned() } else { format!("CN={subject}") };
        if subject.len() < 4 || subject.chars().any(char::is_control) {
            bail!("the subject {subject:?} cannot be used: write it as CN=gateway");
        }
        Ok(subject)
    }

    fn policy(&self) -> anyhow::Result<Value> {
        let (subject, kind) = (self.subject()?, if self.hsm { "RSA-HSM" } else { "RSA" });
        // The key signs and authenticates a client; each version has a key of its own.
        Ok(match self.reader {
            Reader::Az => json!({
                "issuerParameters": { "name": "Self" },
                "keyProperties": { "exportable": false, "keyType": kind, "keySize": self.bits, "reuseKey": false },
                "lifetimeActions": [{
                    "action": { "actionType": if self.on_expiry == OnExpiry::Renew { "AutoRenew" } else { "EmailContacts" } },
                    "trigger": { "daysBeforeExpiry": 30 },
                }],
                "secretProperties": { "contentType": "application/x-pkcs12" },
                "x509CertificateProperties": {
                    "subject": subject,
                    "keyUsage": ["digitalSignature"],
                    "ekus": ["1.3.6.1.5.5.7.3.2"],
                    "validityInMonths": self.months,
                },
            }),
            Reader::Rest => json!({ "policy": {
                "issuer": { "name": "Self" },
                "key_props": { "exportable": false, "kty": kind, "key_size": self.bits, "reuse_key": false },
                "lifetime_actions": [{
                    "action": { "action_type": if self.on_expiry == OnExpiry::Renew { "AutoRenew" } else { "EmailContacts" } },
                    "trigger": { "days_before_expiry": 30 },
                }],
                "secret_props": { "contentType": "application/x-pkcs12" },
                "x509_props": {
                    "subject": subject,
                    "key_usage": ["digitalSignature"],
                    "ekus": ["1.3.6.1.5.5.7.3.2"],
                    "validity_months": self.months,
                },
            } }),
        })
    }
}

pub(super) fn run(arguments: &PolicyArguments) -> anyhow::Result<ExitCode> {
    writeln!(std::io::stdout(), "{:#}", arguments.policy()?)?;
    if arguments.reader == Reader::Az {
        // Beside the policy, so that standard output can be redirected into the file.
        eprintln!("az keyvault certificate create --vault-name VAULT --name gateway --policy @policy.json");
    }
    Ok(ExitCode::SUCCESS)
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;

    #[derive(clap::Parser)]
    struct Line {
        #[command(flatten)]
        arguments: PolicyArguments,
    }

    #[test]
    fn no_policy_lets_the_key_out() {
        for (line, key, exportable) in [
            (&["policy", "--subject", "gateway"][..], "/keyProperties/keyType", "/keyProperties/exportable"),
            (
                &["policy", "--subject", "CN=gateway", "--hsm", "--for", "rest"],
                "/policy/key_props/kty",
                "/policy/key_props/exportable",
            ),
        ] {
            let policy = Line::parse_from(line).arguments.policy().unwrap();

            assert_eq!(policy.pointer(exportable), Some(&json!(false)), "{policy}");
            assert!(policy.pointer(key).and_then(Value::as_str).unwrap().starts_with("RSA"), "{policy}");
            assert!(policy.to_string().contains("\"CN=gateway\"") && policy.to_string().contains("AutoRenew"), "{policy}");
        }
        assert!(Line::parse_from(["policy", "--subject", " "]).arguments.policy().is_err());
    }
}
