//! `entrada schema`: prints the JSON Schema of the config, for editors and linters.

use std::{io::Write as _, process::ExitCode};

/// Prints the schema.
///
/// # Errors
/// Fails if standard output cannot be written to.
pub fn run() -> anyhow::Result<ExitCode> {
    let mut out = std::io::stdout().lock();
    serde_json::to_writer_pretty(&mut out, &crate::config::schema())?;
    writeln!(out)?;
    Ok(ExitCode::SUCCESS)
}
