//! `entrada token acquire`: a token of the gateway's own, acquired as the gateway would.
//!
//! By default, only its loggable parts are shown. The token itself is shown only on request.

use std::{fmt::Write as _, path::PathBuf, process::ExitCode, sync::Arc, time::Duration};

use anyhow::{Context as _, bail};
use clap::Args;
use secrecy::{ExposeSecret as _, SecretString};
use serde::Serialize;
use serde_json::{Map, Value};

use super::decode::{self, Decoded};
use crate::{
    base::clock::Clock,
    certificate::keys::days_in_words,
    cli::{certificate::Format, config_file::ConfigFile, credentials::Loaded},
    credentials::{AccessToken, CertificateStatus, Credential, ErrorStatus, TokenSlot, UserToken},
};

/// Arguments of `entrada token acquire`.
#[derive(Args, Debug)]
pub struct AcquireArguments {
    /// The credential, by its name in the config
    #[arg(long, value_name = "NAME")]
    credential: String,
    /// The scope of the token: one resource, followed by /.default
    #[arg(long, value_name = "SCOPE")]
    scope: String,
    /// A tenant other than the credential's: a name of the config, a GUID or a verified domain
    #[arg(long, value_name = "TENANT")]
    tenant: Option<String>,
    /// Exchange a user's token, which this file holds (`-` reads standard input)
    #[arg(long, value_name = "FILE", conflicts_with = "tenant")]
    on_behalf_of: Option<PathBuf>,
    #[command(flatten)]
    config: ConfigFile,
    /// Print the token itself, too; anyone who sees it can use it
    #[arg(long)]
    show_token: bool,
    /// The output format
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

/// The result of the request.
#[derive(Debug, Serialize)]
pub(super) struct Acquired {
    credential: String,
    client_id: String,
    /// The token endpoint; absent for a managed identity.
    #[serde(skip_serializing_if = "Option::is_none")]
    token_endpoint: Option<String>,
    scope: String,
    certificates: Vec<CertificateStatus>,
    duration_ms: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    token: Option<Token>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<ErrorStatus>,
}

/// A token, described.
#[derive(Debug, Serialize)]
struct Token {
    kind: String,
    /// Its expiry, in seconds since 1970.
    expires_at: u64,
    expires_in: u64,
    /// The seconds until the gateway would renew it.
    renewed_in: u64,
    /// The header, unless the token is opaque.
    header: Option<Map<String, Value>>,
    claims: Option<Map<String, Value>>,
    #[serde(skip)]
    decoded: Decoded,
    /// The token itself, if it was requested.
    #[serde(skip_serializing_if = "Option::is_none")]
    access_token: Option<String>,
}

pub(super) fn run(arguments: &AcquireArguments) -> anyhow::Result<ExitCode> {
    let clock = Clock::system();
    let loaded = match Loaded::load(&arguments.config.path(), &clock) {
        Ok(loaded) => loaded,
        Err(report) => {
            eprint!("{report}");
            return Ok(ExitCode::from(2));
        }
    };
    let name = &arguments.credential;
    let Some(credential) = loaded.credentials.find(name) else {
        if loaded.credentials.is_broken(name) {
            eprint!("{}", loaded.report());
            return Ok(ExitCode::from(2));
        }
        let known: Vec<_> = loaded.names().collect();
        bail!(
            "the config has no credential `{name}`; it has: {}",
            if known.is_empty() { "none".into() } else { known.join(", ") }
        );
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    let (slot, endpoint) = slot(arguments, &loaded, credential, &clock)?;
    let acquired = runtime.block_on(acquire(arguments, credential, &slot, endpoint, &clock));
    let text = match arguments.format {
        Format::Json => format!("{:#}\n", serde_json::to_value(&acquired)?),
        Format::Text => in_words(&acquired, arguments.show_token),
    };
    std::io::Write::write_all(&mut std::io::stdout(), text.as_bytes())?;
    if let Some(note) = loaded.note() {
        eprintln!("{note}");
    }
    Ok(if acquired.error.is_none() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Returns the gateway's slot for this token, and the tenant that is used instead of the credential's own.
fn slot(
    arguments: &AcquireArguments,
    loaded: &Loaded,
    credential: &Arc<Credential>,
    clock: &Clock,
) -> anyhow::Result<(Arc<TokenSlot>, Option<String>)> {
    let name = credential.name();
    if (arguments.tenant.is_some() || arguments.on_behalf_of.is_some()) && !credential.is_application() {
        bail!("`{name}` is a managed identity: it asks its own tenant alone, for itself alone");
    }
    if let Some(file) = &arguments.on_behalf_of {
        let token = SecretString::from(super::wrapping::bare(&decode::read(Some(file))?));
        let (tenant, expires_at) = whose(token.expose_secret(), clock).context("a user's token is needed")?;
        let user = UserToken { token: &token, tenant: &tenant, expires_at };
        let slot = credential.slot_on_behalf_of(user, &arguments.scope);
        return Ok((slot.context("the tenant of the user's token makes no URL")?, Some(tenant)));
    }
    let Some(written) = &arguments.tenant else {
        let slot = credential.slot(&arguments.scope);
        return Ok((slot.with_context(|| format!("`{name}` has no tenant of its own: say which one, as --tenant"))?, None));
    };
    let tenant = match loaded.credentials.tenant_of(credential, written) {
        Some(id) => id.to_owned(),
        None if loaded.document.config.tenants.contains_key(written) => {
            bail!("the tenant `{written}` is another cloud's or another authority's than `{name}`, or stands for many")
        }
        None if written.contains('.') || uuid::Uuid::parse_str(written).is_ok() => written.clone(),
        None => bail!("`{written}` is neither a tenant of the config nor a GUID nor a domain"),
    };
    let slot = credential.slot_in(&tenant, &arguments.scope).context("the tenant makes no URL")?;
    Ok((slot, Some(tenant)))
}

/// Returns the tenant and the expiry of a user's token, unverified: Entra verifies it.
fn whose(token: &str, clock: &Clock) -> anyhow::Result<(String, u64)> {
    let Decoded { kind, claims, .. } = decode::decode(token, clock.unix_seconds());
    let claims = claims.with_context(|| format!("the file holds {kind}"))?;
    let tenant = claims.get("tid").and_then(Value::as_str).context("the token in the file has no `tid`")?;
    let expires_at = claims.get("exp").and_then(Value::as_u64).context("the token in the file has no `exp`")?;
    if expires_at <= clock.unix_seconds() {
        bail!("the token in the file has expired");
    }
    Ok((tenant.to_owned(), expires_at))
}

async fn acquire(
    arguments: &AcquireArguments,
    credential: &Credential,
    slot: &Arc<TokenSlot>,
    tenant: Option<String>,
    clock: &Clock,
) -> Acquired {
    let began = clock.monotonic();
    let outcome = slot.token().await;
    let duration = clock.monotonic().saturating_sub(began);
    // After the attempt: a vault's certificate is known only then, and of several the one that was accepted stands first.
    let status = credential.status();
    let (token, error) = match outcome {
        Ok(token) => (Some(Token::of(&token, arguments.show_token, clock)), None),
        Err(error) => (None, Some(ErrorStatus::of(&error.failure, clock.unix_seconds()))),
    };
    Acquired {
        credential: status.name,
        client_id: credential.client_id().to_owned(),
        token_endpoint: match tenant {
            Some(tenant) => credential.token_endpoint_in(&tenant),
            None => status.token_endpoint,
        },
        scope: arguments.scope.clone(),
        certificates: status.certificates,
        duration_ms: u64::try_from(duration.as_millis()).unwrap_or(u64::MAX),
        token,
        error,
    }
}

impl Token {
    fn of(token: &AccessToken, show: bool, clock: &Clock) -> Self {
        let now = clock.unix_seconds();
        let decoded = decode::decode(token.expose(), now);
        Self {
            kind: decoded.kind.clone(),
            expires_at: token.expires_at(),
            expires_in: token.expires_at().saturating_sub(now),
            renewed_in: token.renew_in(clock).as_secs(),
            header: decoded.header.clone(),
            claims: decoded.claims.clone(),
            decoded,
            access_token: show.then(|| token.expose().to_owned()),
        }
    }
}

fn in_words(acquired: &Acquired, show_token: bool) -> String {
    let mut text = String::new();
    // Writing to a text cannot fail.
    let mut line = |title: &str, value: &str| _ = writeln!(text, "{title:<12} {}", decode::printable(value));
    line("Credential", &format!("{}, client {}", acquired.credential, acquired.client_id));
    line("Asked at", acquired.token_endpoint.as_deref().unwrap_or("the platform's own endpoint"));
    line("For", &acquired.scope);
    for certificate in &acquired.certificates {
        let CertificateStatus { subject, thumbprint, days_left, .. } = certificate;
        let words = match (subject, days_left) {
            (Some(subject), Some(days)) => format!("{subject}, thumbprint {thumbprint}, {}", days_in_words(*days)),
            _ => format!("thumbprint {thumbprint}, known by its private key alone"),
        };
        line("Certificate", &words);
    }
    let took = Duration::from_millis(acquired.duration_ms);
    if let Some(error) = &acquired.error {
        line("No token", &error.message);
        line("Code", error.code.as_deref().unwrap_or("none"));
        for (title, value) in [
            ("Meaning", error.meaning),
            ("Cure", error.cure.as_deref()),
            ("Trace id", error.trace_id.as_deref()),
            ("Request id", error.correlation_id.as_deref()),
        ] {
            if let Some(value) = value {
                line(title, value);
            }
        }
        return text;
    }
    let Some(token) = &acquired.token else { return text };
    line("Token", &format!("{}, in {} ms", token.kind, took.as_millis()));
    line("Lifetime", &format!("{}; renewed after {}", span(token.expires_in), span(token.renewed_in)));
    text.push_str(&decode::claims_in_words(&token.decoded));
    match &token.access_token {
        Some(access_token) => _ = writeln!(text, "\n{access_token}"),
        None if !show_token => text.push_str("\nThe token itself is not shown; --show-token does that.\n"),
        None => {}
    }
    text
}

fn span(seconds: u64) -> String {
    decode::span(seconds.into())
}
