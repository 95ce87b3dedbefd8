//! `entrada audit`: what can be done with files of audit records.

use std::process::ExitCode;

use clap::{Args, Subcommand};

mod tail;
mod verify;

/// Arguments of `entrada audit`.
#[derive(Args, Debug)]
pub struct AuditArguments {
    #[command(subcommand)]
    command: AuditCommand,
}

#[derive(Debug, Subcommand)]
enum AuditCommand {
    /// Verify the chain through files of records: what was changed, removed, moved or cut off
    Verify(verify::VerifyArguments),
    /// Show records as lines for people
    Tail(tail::TailArguments),
}

/// Runs the command.
///
/// # Errors
/// Fails if a file cannot be read.
pub fn run(arguments: &AuditArguments) -> anyhow::Result<ExitCode> {
    match &arguments.command {
        AuditCommand::Verify(arguments) => verify::run(arguments),
        AuditCommand::Tail(arguments) => tail::run(arguments),
    }
}
