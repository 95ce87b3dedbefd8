//! `entrada demo`: a tenant, two backends and a gateway in one process, and a series of requests that it admits or refuses.

mod backend;
mod environment;
mod table;
mod walk;

#[cfg(test)]
mod tests;

use std::{
    io::{self, IsTerminal as _, Write as _},
    process::ExitCode,
};

use anyhow::Context as _;
use clap::Args;

use self::{environment::Environment, walk::Outcome};
use super::certificate::Format;

/// Arguments of `entrada demo`.
#[derive(Args, Debug)]
pub struct DemoArguments {
    /// Exit after the requests: 0 only if every outcome was as expected
    #[arg(long)]
    once: bool,
    /// The output format
    #[arg(long, value_enum, default_value_t)]
    format: Format,
    /// Expect another outcome of one request, so that a test sees that the demo notices it
    #[arg(long, hide = true, value_name = "NUMBER")]
    break_expectation: Option<usize>,
}

/// Runs `entrada demo`.
///
/// # Errors
///
/// Fails if one of the parts cannot start.
pub fn run(arguments: &DemoArguments) -> anyhow::Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().context("no threads can be had")?;
    let environment = Environment::set(&runtime)?;
    let outcomes = runtime.block_on(async {
        environment.ready().await?;
        walk::walk(&environment, arguments.break_expectation).await
    })?;
    let good = outcomes.iter().all(Outcome::is_as_expected);
    print(&match arguments.format {
        Format::Json => format!("{:#}\n", serde_json::Value::from_iter(outcomes.iter().map(Outcome::to_json))),
        Format::Text => table::render(&outcomes, colours()),
    })?;
    if !arguments.once {
        print(&environment.farewell())?;
        runtime.block_on(super::dev_tenant::told_to_stop()).context("signals cannot be waited for")?;
    }
    environment.strike();
    Ok(if good { ExitCode::SUCCESS } else { ExitCode::from(1) })
}

/// Prints the text at once: the caller may be waiting for it.
fn print(text: &str) -> anyhow::Result<()> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        // `entrada demo | head` is no failure of ours.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        result => result.context("cannot write to standard output"),
    }
}

/// Returns whether to use colours: only in terminals, and unless declined (<https://no-color.org>).
fn colours() -> bool {
    let declined = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    io::stdout().is_terminal() && !declined && std::env::var_os("TERM").is_none_or(|term| term != "dumb")
}
