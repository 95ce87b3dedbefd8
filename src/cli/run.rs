//! `entrada run`: serves the routes of a config until it is stopped.

use std::{path::PathBuf, process::ExitCode};

use anyhow::Context;
use clap::Args;

use super::signals::{SignalAction, Signals};
use crate::{
    config::{Document, Report},
    gateway::runtime::Runtime,
    server::{Server, ServerError, ServerOptions},
    settings::watch::Watch,
    telemetry,
};

/// Arguments of `entrada run`.
#[derive(Args, Debug)]
pub struct RunArguments {
    /// The config file
    #[arg(long, default_value = "config/entrada.yaml", env = "ENTRADA_CONFIG")]
    config: PathBuf,
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
    let Ok(document) = load(arguments) else { return Ok(ExitCode::from(2)) };
    telemetry::start_logging(document.config.telemetry.log);
    telemetry::log_panics();
    let mut options = ServerOptions::default();
    if let Some(workers) = arguments.workers {
        options.workers = workers.into();
    }
    let mut server = match Server::start(&document, options) {
        Ok(server) => server,
        Err(ServerError::Config(report)) => {
            eprint!("{report}");
            return Ok(ExitCode::from(2));
        }
        Err(error) => return Err(error.into()),
    };
    if let Some(address) = server.admin_address() {
        tracing::info!(%address, "the status page is here");
    }
    control.block_on(serve(&mut server, signals, arguments, &document));
    tracing::info!("draining");
    server.drain();
    tracing::info!("stopped");
    Ok(ExitCode::SUCCESS)
}

/// Reads the config; its faults are printed.
///
/// # Errors
/// Returns all faults of the config.
fn load(arguments: &RunArguments) -> Result<Document, Report> {
    let document = Document::load(&arguments.config).map_err(|report| {
        let report = report.with_the_rest(|document, faults| drop(Runtime::try_out(document, faults)));
        eprint!("{report}");
        report
    })?;
    eprint!("{}", document.warnings());
    Ok(document)
}

/// Handles signals and file changes until the process is stopped.
async fn serve(server: &mut Server, mut signals: Signals, arguments: &RunArguments, document: &Document) {
    let mut watch = Watch::new(watched(server, document));
    loop {
        let told = tokio::select! {
            told = signals.next() => told,
            () = watch.changed() => SignalAction::Reload,
        };
        match told {
            SignalAction::Drain => return,
            SignalAction::Reload => reload(server, arguments, &mut watch),
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

/// Loads the current config. One that cannot be used is reported, and the old one stays active.
fn reload(server: &mut Server, arguments: &RunArguments, watch: &mut Watch) {
    let document = match load(arguments) {
        Ok(document) => document,
        Err(report) => return not_taken(server, &report),
    };
    let result = server.reload(&document);
    watch.set(watched(server, &document));
    match result {
        Ok(()) => tracing::info!(generation = server.runtime().generation, "the new config is in force"),
        Err(error) => {
            if let ServerError::Config(report) = &error {
                eprint!("{report}");
                return not_taken(server, report);
            }
            tracing::error!(
                error = crate::base::error_chain::chain(&error),
                "the new config was not taken; the old one stays in force"
            );
        }
    }
}

/// Logs the reasons why a config was rejected, line by line, and shows them on the status page.
fn not_taken(server: &Server, report: &Report) {
    let faults = report.lines().join("\n");
    tracing::error!(faults, "the new config cannot be used; the old one stays in force");
    server.reloaded(Some(faults));
}

/// Returns the files whose change causes a reload: the config's own, and those that it names.
fn watched(server: &Server, document: &Document) -> Vec<PathBuf> {
    let runtime = server.runtime();
    document.files.iter().chain(&document.folders).chain(&runtime.files).cloned().collect()
}
