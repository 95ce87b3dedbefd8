//! Parses the arguments and runs the command; prints the error chain and picks the exit code.

use std::process::ExitCode;

use clap::Parser;
use entrada::cli::Arguments;
use mimalloc::MiMalloc;

/// A request takes a few pieces of memory and gives them back: with this allocator a tenth of the instructions that glibc's takes.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

/// Returns whether the output could not be written since nobody reads it.
fn is_unread(error: &anyhow::Error) -> bool {
    let kind = error.root_cause().downcast_ref::<std::io::Error>().map(std::io::Error::kind);
    kind == Some(std::io::ErrorKind::BrokenPipe)
}

fn main() -> ExitCode {
    match Arguments::parse().execute() {
        Ok(code) => code,
        // Whoever read the output has stopped, as `head` does: there is nobody to tell.
        Err(error) if is_unread(&error) => ExitCode::from(2),
        Err(error) => {
            eprintln!("entrada: {error:#}");
            ExitCode::from(2)
        }
    }
}
