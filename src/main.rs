//! Parses the arguments and runs the command; prints the error chain and picks the exit code.

use std::process::ExitCode;

use clap::Parser;
use entrada::cli::Arguments;

fn main() -> ExitCode {
    match Arguments::parse().execute() {
        Ok(code) => code,
        Err(error) => {
            eprintln!("entrada: {error:#}");
            ExitCode::from(2)
        }
    }
}
