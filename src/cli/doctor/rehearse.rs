//! `entrada doctor --rehearse`: what the next rotation of a credential would do.

use std::{fmt::Write as _, io::Write as _, process::ExitCode};

use serde::Serialize;

use super::{DoctorArguments, of_fault, printable, scopes};
use crate::{
    cli::{certificate::Format, credentials::Loaded},
    credentials::{Outcome, Rehearsal, Rehearsed, Step},
};

/// The result for one credential.
#[derive(Debug, Serialize)]
pub(super) struct Rehearsing {
    credential: String,
    /// The faults of its settings, which the next start would meet.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    faults: Vec<Step>,
    /// The rehearsal for each scope; empty if the credential cannot be built.
    scopes: Vec<Rehearsal>,
    /// True if each thing that was tried gets a token.
    pub(super) holds: bool,
}

/// Rehearses the next rotation of a credential.
pub(super) async fn of(arguments: &DoctorArguments, loaded: &Loaded, name: &str) -> Rehearsing {
    let faults: Vec<_> = loaded.faults_of(name).map(|fault| of_fault(fault, &loaded.document)).collect();
    let mut rehearsals = Vec::new();
    if let Some(credential) = loaded.credentials.find(name) {
        let asked = arguments.tenant.as_deref().filter(|_| !credential.has_own_tenant());
        let tenant = asked.map(|asked| loaded.credentials.tenant_of(credential, asked).unwrap_or(asked));
        let wanted = match arguments.scope.is_empty() {
            true => scopes(&loaded.document.config, credential).into_iter().take(1).collect(),
            false => arguments.scope.clone(),
        };
        for scope in &wanted {
            rehearsals.push(credential.rehearse(tenant, scope).await);
        }
    }
    let broken = faults.iter().any(|fault| fault.outcome == Outcome::Failed);
    let holds = !broken && !rehearsals.is_empty() && rehearsals.iter().all(|rehearsal| rehearsal.holds);
    Rehearsing { credential: name.to_owned(), faults, scopes: rehearsals, holds }
}

/// Prints the result.
///
/// # Errors
/// Fails if standard output cannot be written to.
pub(super) fn tell(rehearsing: &Rehearsing, format: Format) -> anyhow::Result<ExitCode> {
    let text = match format {
        Format::Json => format!("{:#}\n", serde_json::to_value(rehearsing)?),
        Format::Text => in_words(rehearsing),
    };
    std::io::stdout().lock().write_all(text.as_bytes())?;
    Ok(if rehearsing.holds { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Puts the result into words.
pub(super) fn in_words(rehearsing: &Rehearsing) -> String {
    let mut text = format!("{}\n", rehearsing.credential);
    // Writing to a text cannot fail.
    for fault in &rehearsing.faults {
        let _ = writeln!(text, "  {:<8} {}", word(fault.outcome), printable(&fault.found));
        cure(&mut text, fault.cure.as_deref());
    }
    for Rehearsal { scope, tried, verdict, .. } in &rehearsing.scopes {
        let _ = writeln!(text, "  tokens for {}", printable(scope));
        for Rehearsed { what, part, outcome, found, cure: remedy, .. } in tried {
            let _ = writeln!(text, "  {:<8} {part:<7} {}", word(*outcome), printable(what));
            let _ = writeln!(text, "  {:<8} {:<7} {}", "", "", printable(found));
            cure(&mut text, remedy.as_deref());
        }
        let _ = writeln!(text, "\n  {}", printable(verdict));
    }
    if rehearsing.scopes.is_empty() {
        let _ = writeln!(text, "\n  the credential cannot be built: after the next start there would be no token");
    }
    text
}

const fn word(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Ok => "ok",
        Outcome::Warning => "warning",
        Outcome::Failed => "FAILED",
        Outcome::Skipped => "skipped",
    }
}

fn cure(text: &mut String, cure: Option<&str>) {
    if let Some(cure) = cure {
        let _ = writeln!(text, "  {:<8} {:<7} -> {}", "", "", printable(cure));
    }
}
