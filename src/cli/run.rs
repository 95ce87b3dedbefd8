//! `entrada run`: serves the routes of a config until it is stopped.

use std::{fmt, io::IsTerminal as _, path::PathBuf, process::ExitCode};

use anyhow::Context;
use clap::Args;

use super::{
    config_file::ConfigFile,
    signals::{SignalAction, Signals},
};
use crate::{
    config::{Document, Fingerprint, Report},
    server::{self, Server, ServerError, ServerOptions},
    settings::watch::Watch,
    telemetry::{self, LogLevel},
};

/// Arguments of `entrada run`.
#[derive(Args, Debug)]
pub struct RunArguments {
    #[command(flatten)]
    config: ConfigFile,
    /// The number of threads that carry requests [default: one for each core]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    workers: Option<u16>,
}

/// Serves until SIGTERM, SIGINT or SIGQUIT, then drains. SIGHUP or a changed file reloads, SIGUSR1 reopens the files of records.
///
/// # Errors
/// Fails if the gateway cannot start.
pub fn run(arguments: &RunArguments) -> anyhow::Result<ExitCode> {
    // A runtime of its own: signals are caught before anything that takes time, and the gateway's own runtimes do not exist yet.
    let control = tokio::runtime::Builder::new_current_thread().enable_all().build().context("no runtime could be had")?;
    let signals = control.block_on(async { Signals::catch() }).context("signals cannot be waited for")?;
    let document = match load(arguments) {
        Ok(document) => document,
        Err(report) => {
            telemetry::start_logging(LogLevel::default());
            return Ok(cannot_start(&report));
        }
    };
    telemetry::start_logging(document.config.telemetry.log);
    telemetry::log_panics();
    let mut options = ServerOptions::default();
    if let Some(workers) = arguments.workers {
        options.workers = workers.into();
    }
    let mut server = match Server::start(&document, options) {
        Ok(server) => server,
        Err(ServerError::Config(report)) => return Ok(cannot_start(&report)),
        Err(error) => {
            tracing::error!(error = crate::base::error_chain::chain(&error), "the gateway cannot start");
            return Ok(ExitCode::from(2));
        }
    };
    tracing::info!(generation = 0, digest = document.fingerprint.digest(), "the config is in force");
    if let Some(address) = server.admin_address() {
        tracing::info!(%address, "the console is here");
    }
    control.block_on(serve(&mut server, signals, arguments, &document));
    tracing::info!("draining");
    server.drain();
    tracing::info!("stopped");
    Ok(ExitCode::SUCCESS)
}

/// Tells why the config cannot be used: a person in full, a log one event a fault.
fn cannot_start(report: &Report) -> ExitCode {
    if std::io::stderr().is_terminal() {
        eprint!("{}", report.render(true));
    } else {
        report.log();
        tracing::error!("the config cannot be used: {}", report.summary());
    }
    ExitCode::from(2)
}

/// Reads the config.
///
/// # Errors
/// Fails with all faults of the config.
fn load(arguments: &RunArguments) -> Result<Document, Report> {
    Document::load(&arguments.config.path())
        .map_err(|report| report.with_the_rest(|document, faults| drop(server::try_out(document, faults))))
}

/// Handles signals and file changes until the process is stopped.
async fn serve(server: &mut Server, mut signals: Signals, arguments: &RunArguments, document: &Document) {
    let mut in_force = document.fingerprint.clone();
    let mut watch = Watch::new(watched(server, document));
    loop {
        let (told, cause) = tokio::select! {
            told = signals.next() => (told, Cause::Signal),
            files = watch.changed() => (SignalAction::Reload, Cause::Files(files)),
        };
        match told {
            SignalAction::Drain => return,
            SignalAction::Reload => reload(server, arguments, (&mut watch, &mut in_force), &cause),
            SignalAction::Reopen => reopen(server),
            SignalAction::Nothing(signal) => tracing::info!(signal, "a signal without a meaning was ignored"),
        }
    }
}

/// Reopens the files of records after they were moved away.
fn reopen(server: &Server) {
    match server.reopen_files() {
        Ok(()) => tracing::info!("the files of the audit log were opened again"),
        Err(error) => {
            tracing::error!(error = crate::base::error_chain::chain(&error), "the files of the audit log stay as they were");
        }
    }
}

/// The cause of a reload.
#[derive(Debug)]
enum Cause {
    /// The signal SIGHUP.
    Signal,
    /// Files that have changed.
    Files(Vec<PathBuf>),
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        /// The most files that are named.
        const MOST: usize = 5;
        match self {
            Self::Signal => f.write_str("signal SIGHUP"),
            Self::Files(files) => {
                let named: Vec<_> = files.iter().take(MOST).map(|file| file.display().to_string()).collect();
                let more = files.len().saturating_sub(MOST);
                write!(f, "{}{}", named.join(", "), if more > 0 { format!(" and {more} more") } else { String::new() })
            }
        }
    }
}

/// Loads the current config. One that cannot be used is reported, and the old one stays active.
fn reload(server: &mut Server, arguments: &RunArguments, (watch, in_force): (&mut Watch, &mut Fingerprint), cause: &Cause) {
    let document = match load(arguments) {
        Ok(document) => document,
        Err(report) => return not_taken(server, &report, cause),
    };
    let result = server.reload(&document);
    watch.set(watched(server, &document));
    match result {
        Ok(()) => {
            let changes = document.fingerprint.changes_since(in_force).join("; ");
            let changes = if changes.is_empty() { "none in the config itself" } else { &changes };
            let (generation, digest) = (server.runtime().generation, document.fingerprint.digest());
            tracing::info!(generation, digest, changes, %cause, "the new config is in force");
            *in_force = document.fingerprint;
        }
        Err(error) => {
            if let ServerError::Config(report) = &error {
                return not_taken(server, report, cause);
            }
            tracing::error!(
                error = crate::base::error_chain::chain(&error),
                %cause,
                "the new config was not taken; the old one stays in force"
            );
        }
    }
}

/// Logs the reasons why a config was rejected, line by line, and shows them on the console.
fn not_taken(server: &Server, report: &Report, cause: &Cause) {
    let faults = report.lines().join("\n");
    report.log();
    tracing::error!(faults = report.summary(), %cause, "the new config cannot be used; the old one stays in force");
    server.not_reloaded(faults);
}

/// Returns the files whose change causes a reload: the config's own, and those that it names.
fn watched(server: &Server, document: &Document) -> Vec<PathBuf> {
    let runtime = server.runtime();
    document.files.iter().chain(&document.folders).chain(&runtime.files).cloned().collect()
}
