//! `entrada doctor`: examines each credential, and the store of shared limits, link by link, and reports the broken one with its cure.

mod rehearse;
#[cfg(test)]
mod tests;

use std::{collections::BTreeSet, fmt::Write as _, io::Write as _, process::ExitCode};

use clap::Args;
use serde::Serialize;

use super::{certificate::Format, config_file::ConfigFile, credentials::Loaded};
use crate::{
    authorization::AuthorizationConfig,
    base::clock::Clock,
    config::{Config, Document},
    credentials::{Credential, Outcome, Step},
    settings::{Fault, Severity},
};

/// Arguments of `entrada doctor`.
#[derive(Args, Debug)]
pub struct DoctorArguments {
    #[command(flatten)]
    config: ConfigFile,
    /// One credential, by its name [default: each]; can be given several times
    #[arg(long, value_name = "NAME")]
    credential: Vec<String>,
    /// Rehearse the next rotation of this credential: acquire a token with each certificate, key version and identity that it would use,
    /// without touching what serves
    #[arg(long, value_name = "CREDENTIAL", conflicts_with = "credential")]
    rehearse: Option<String>,
    /// The scope of a token to try [default: those of the routes, or else Microsoft Graph]; can be given several times
    #[arg(long, value_name = "SCOPE")]
    scope: Vec<String>,
    /// The tenant to try, for credentials that have none of their own: a GUID, a verified domain or a name of the config
    #[arg(long, value_name = "TENANT")]
    tenant: Option<String>,
    /// The output format
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

/// The findings about the credentials.
#[derive(Debug, Serialize)]
struct Diagnosis {
    healthy: bool,
    credentials: Vec<Examined>,
    /// The links of the store of shared limits; absent without one.
    #[serde(skip_serializing_if = "Option::is_none")]
    limit_store: Option<Vec<Step>>,
}

/// The findings about one credential.
#[derive(Debug, Serialize)]
struct Examined {
    credential: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    client_id: Option<String>,
    outcome: Outcome,
    steps: Vec<Step>,
}

/// Examines the credentials.
///
/// # Errors
/// Fails for a name that the config does not have, or if standard output cannot be written to.
pub fn run(arguments: &DoctorArguments) -> anyhow::Result<ExitCode> {
    let clock = Clock::system();
    let loaded = match Loaded::load(&arguments.config.path(), &clock) {
        Ok(loaded) => loaded,
        Err(report) => {
            eprint!("{report}");
            return Ok(ExitCode::from(2));
        }
    };
    let named = arguments.credential.iter().chain(&arguments.rehearse);
    if let Some(absent) = named.into_iter().find(|name| !loaded.names().any(|known| known == *name)) {
        let known: Vec<_> = loaded.names().collect();
        let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
        anyhow::bail!("the config has no credential `{absent}`; it has: {known}");
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    if let Some(name) = &arguments.rehearse {
        let rehearsed = runtime.block_on(rehearse::of(arguments, &loaded, name));
        return rehearse::tell(&rehearsed, arguments.format);
    }
    let diagnosis = runtime.block_on(diagnose(arguments, &loaded, &clock));
    let text = match arguments.format {
        Format::Json => format!("{:#}\n", serde_json::to_value(&diagnosis)?),
        Format::Text => in_words(&diagnosis),
    };
    std::io::stdout().lock().write_all(text.as_bytes())?;
    if let Some(note) = loaded.note() {
        eprintln!("{note}");
    }
    Ok(if diagnosis.healthy { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

async fn diagnose(arguments: &DoctorArguments, loaded: &Loaded, clock: &Clock) -> Diagnosis {
    let mut credentials = Vec::new();
    let wanted = |name: &&str| arguments.credential.is_empty() || arguments.credential.iter().any(|wanted| wanted == name);
    for name in loaded.names().filter(wanted) {
        let mut steps = match loaded.credentials.find(name) {
            Some(credential) => examine(arguments, loaded, credential).await,
            None => Vec::new(),
        };
        let faults: Vec<_> = loaded.faults_of(name).filter(|fault| !steps.iter().any(|step| tells(step, fault))).collect();
        steps.splice(..0, faults.into_iter().map(|fault| of_fault(fault, &loaded.document)));
        if steps.is_empty() {
            // Built by nothing, faulted by nothing of its own: what it stands on is broken.
            let cure = "mend the credential that opens its vault or vouches for it";
            steps.push(Step::new("config", Outcome::Failed, "what it stands on cannot be built").cure(cure));
        }
        let outcome = steps.iter().map(|step| step.outcome).max().unwrap_or(Outcome::Ok);
        let client_id = loaded.credentials.find(name).map(|credential| credential.client_id().to_owned());
        credentials.push(Examined { credential: name.to_owned(), client_id, outcome, steps });
    }
    // Whoever names a credential asks for nothing else.
    let limit_store = if arguments.credential.is_empty() { examine_store(loaded, clock).await } else { None };
    let store_fails = limit_store.iter().flatten().any(|step| step.outcome == Outcome::Failed);
    let healthy = !store_fails && credentials.iter().all(|examined| examined.outcome != Outcome::Failed);
    Diagnosis { healthy, credentials, limit_store }
}

/// Examines the store of shared limits; `None` if the config has none.
async fn examine_store(loaded: &Loaded, clock: &Clock) -> Option<Vec<Step>> {
    Some(match loaded.limit_store(clock)? {
        Ok(store) => {
            store.start();
            store.examine().await
        }
        Err(faults) => faults.iter().map(|fault| of_fault(fault, &loaded.document)).collect(),
    })
}

async fn examine(arguments: &DoctorArguments, loaded: &Loaded, credential: &Credential) -> Vec<Step> {
    let asked = arguments.tenant.as_deref().filter(|_| !credential.has_own_tenant());
    let tenant = asked.map(|asked| loaded.credentials.tenant_of(credential, asked).unwrap_or(asked));
    let scopes = if arguments.scope.is_empty() {
        scopes(&loaded.document.config, credential)
    } else {
        arguments.scope.iter().cloned().collect()
    };
    let scopes: Vec<String> = scopes.into_iter().collect();
    let mut steps = credential.examine(tenant, &scopes).await;
    if steps.iter().all(|step| step.outcome != Outcome::Failed) {
        let name = &**credential.name();
        let exchanges = loaded
            .document
            .config
            .routes
            .iter()
            .any(|route| matches!(&route.authorization, AuthorizationConfig::OnBehalfOf(used) if used.on_behalf_of == name));
        steps.extend(credential.examine_registration(tenant, exchanges).await);
    }
    steps
}

/// Returns the scopes for which the gateway would use this credential: those of its routes, and of the vaults that it opens.
fn scopes(config: &Config, credential: &Credential) -> BTreeSet<String> {
    let name = &**credential.name();
    let of_routes = config.routes.iter().filter_map(|route| match &route.authorization {
        AuthorizationConfig::Credential(used) if used.credential == name => Some(used.scope.clone()),
        // Without a user there is nothing to exchange; that the client is accepted shows with any of the resource's scopes.
        AuthorizationConfig::OnBehalfOf(used) if used.on_behalf_of == name => {
            let (resource, _) = used.scope.split(' ').next()?.rsplit_once('/')?;
            Some(format!("{resource}/.default"))
        }
        _ => None,
    });
    let vaults = config.credentials.values().flat_map(|other| other.vaults_opened_by(name));
    let mut scopes: BTreeSet<String> = of_routes.chain(vaults).collect();
    if scopes.is_empty() {
        scopes.extend(credential.graph_scope());
    }
    scopes
}

/// Returns whether a link has already reported a warning of the build.
fn tells(step: &Step, fault: &Fault) -> bool {
    step.found.starts_with(&fault.message)
}

fn of_fault(fault: &Fault, document: &Document) -> Step {
    let outcome = match fault.severity {
        Severity::Warning => Outcome::Warning,
        Severity::Error => Outcome::Failed,
    };
    let cure = fault.cure.as_deref().map(|cure| document.said(cure).into_owned());
    Step { cure, ..Step::new("config", outcome, document.said(&fault.message)) }
}

fn in_words(diagnosis: &Diagnosis) -> String {
    let mut text = String::new();
    // Writing to a text cannot fail.
    for examined in &diagnosis.credentials {
        let client = examined.client_id.as_ref().map(|id| format!("  client {id}")).unwrap_or_default();
        let _ = writeln!(text, "{}{client}", examined.credential);
        put_steps(&examined.steps, &mut text);
    }
    let failed = diagnosis.credentials.iter().filter(|examined| examined.outcome == Outcome::Failed).count();
    let all = diagnosis.credentials.len();
    let _ = match (all, failed) {
        (0, _) => writeln!(text, "The config has no credentials."),
        (_, 0) => writeln!(text, "Every credential gets its tokens."),
        _ => writeln!(text, "{failed} of {all} credentials would get no token, or not every one."),
    };
    if let Some(steps) = &diagnosis.limit_store {
        let _ = writeln!(text, "\nredis");
        put_steps(steps, &mut text);
        let fails = steps.iter().any(|step| step.outcome == Outcome::Failed);
        let _ = writeln!(text, "{}", if fails { "Shared limits would not be counted." } else { "Shared limits are counted." });
    }
    text
}

fn put_steps(steps: &[Step], text: &mut String) {
    for step in steps {
        let outcome = match step.outcome {
            Outcome::Ok => "ok",
            Outcome::Warning => "warning",
            Outcome::Failed => "FAILED",
            Outcome::Skipped => "skipped",
        };
        // Writing to a text cannot fail.
        let _ = writeln!(text, "  {outcome:<8} {:<16} {}", step.step, printable(&step.found));
        if let Some(cure) = &step.cure {
            let _ = writeln!(text, "  {:<8} {:<16} -> {}", "", "", printable(cure));
        }
    }
    text.push('\n');
}

/// Makes a service's answer safe for a terminal.
fn printable(text: &str) -> String {
    text.chars().map(|letter| if letter.is_control() { char::REPLACEMENT_CHARACTER } else { letter }).collect()
}
