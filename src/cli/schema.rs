//! `entrada schema`: prints the JSON Schema of the config, or of its test cases, for editors and linters.

use std::{io::Write as _, process::ExitCode};

use clap::Args;

/// Arguments of `entrada schema`.
#[derive(Args, Debug)]
pub struct SchemaArguments {
    /// Print the schema of files of test cases, `*.test.yaml`
    #[arg(long)]
    tests: bool,
}

/// Prints the schema.
///
/// # Errors
/// Fails if standard output cannot be written to.
pub fn run(arguments: &SchemaArguments) -> anyhow::Result<ExitCode> {
    let schema = if arguments.tests { crate::config::test_schema() } else { crate::config::schema() };
    writeln!(std::io::stdout(), "{}", serde_json::to_string_pretty(&schema)?)?;
    Ok(ExitCode::SUCCESS)
}
