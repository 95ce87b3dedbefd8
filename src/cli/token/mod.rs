//! `entrada token`: the content of a token, the gateway's verdict on it, and the tokens that it acquires itself.

mod acquire;
mod by_route;
mod client_assertion;
mod decode;
mod wrapping;

#[cfg(test)]
mod tests;

use std::process::ExitCode;

pub use acquire::AcquireArguments;
use clap::{Args, Subcommand};
pub use decode::{Check, DecodeArguments, Decoded, decode};

/// Arguments of `entrada token`.
#[derive(Args, Debug)]
pub struct TokenArguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Show header and claims of a token; with --verify, report the check that fails
    Decode(DecodeArguments),
    /// Acquire a token of the gateway's own, as the gateway would
    Acquire(AcquireArguments),
}

/// Runs `entrada token`.
///
/// # Errors
///
/// Returns the error that stopped it.
pub fn run(arguments: &TokenArguments) -> anyhow::Result<ExitCode> {
    match &arguments.command {
        Command::Decode(arguments) => decode::run(arguments),
        Command::Acquire(arguments) => acquire::run(arguments),
    }
}
