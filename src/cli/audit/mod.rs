//! `entrada audit`: what can be done with files of audit records, one file for each command.

pub mod replay;
mod tail;
mod verify;

use std::process::ExitCode;

use clap::{Args, Subcommand};

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
    /// Decide recorded requests once more, by another config
    Replay(replay::ReplayArguments),
    /// Show records as lines for people
    Tail(tail::TailArguments),
}

/// Runs the command.
///
/// # Errors
/// Returns the error that stopped it; the program then exits with 2.
pub fn run(arguments: &AuditArguments) -> anyhow::Result<ExitCode> {
    match &arguments.command {
        AuditCommand::Verify(arguments) => verify::run(arguments),
        AuditCommand::Replay(arguments) => replay::run(arguments),
        AuditCommand::Tail(arguments) => tail::run(arguments),
    }
}
