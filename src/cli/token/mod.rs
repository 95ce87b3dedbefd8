//! `entrada token`: what is in a token, and what the gateway would say of it.

mod decode;

#[cfg(test)]
mod tests;

use std::process::ExitCode;

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
    /// Show header and claims of a token; with --verify, say which check fails
    Decode(DecodeArguments),
}

/// Carries out `entrada token`.
///
/// # Errors
///
/// What stopped it.
pub fn run(arguments: &TokenArguments) -> anyhow::Result<ExitCode> {
    match &arguments.command {
        Command::Decode(arguments) => decode::run(arguments),
    }
}
