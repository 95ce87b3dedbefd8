//! `entrada completions SHELL`: prints a completion script for a shell.

use std::{io::Write as _, process::ExitCode};

use clap::{Args, CommandFactory as _};
use clap_complete::Shell;

/// Arguments of `entrada completions`.
#[derive(Args, Debug)]
pub struct CompletionsArguments {
    /// The shell to complete for
    shell: Shell,
}

/// Prints the script.
///
/// # Errors
/// Fails if standard output cannot be written to.
pub fn run(arguments: &CompletionsArguments) -> anyhow::Result<ExitCode> {
    let mut script = Vec::new();
    clap_complete::generate(arguments.shell, &mut super::Arguments::command(), "entrada", &mut script);
    std::io::stdout().lock().write_all(&script)?;
    Ok(ExitCode::SUCCESS)
}
