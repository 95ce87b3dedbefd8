//! `entrada run`: serves the routes of a config until it is told to stop.

use std::{path::PathBuf, process::ExitCode};

use anyhow::Context;
use clap::Args;
use tokio::signal::unix::{SignalKind, signal};

use crate::{
    config::{Document, Report, watch::Watch},
    runtime::Runtime,
    server::{Server, ServerError, ServerOptions},
    telemetry,
};

/// Arguments of `entrada run`.
#[derive(Args, Debug)]
pub struct RunArguments {
    /// The config file
    #[arg(long, default_value = "config/entrada.yaml", env = "ENTRADA_CONFIG")]
    config: PathBuf,
    /// How many threads carry requests [default: one for each core]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    workers: Option<u16>,
}

/// Serves until SIGTERM or SIGINT, then drains. SIGHUP or a changed file reloads.
///
/// # Errors
/// When the gateway cannot start.
pub fn run(arguments: &RunArguments) -> anyhow::Result<ExitCode> {
    let Ok(document) = load(arguments) else { return Ok(ExitCode::from(2)) };
    telemetry::start_logging(document.config.telemetry.log);
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
    server.handle().clone().block_on(serve(&mut server, arguments, &document)).context("signals cannot be waited for")?;
    tracing::info!("draining");
    server.drain();
    tracing::info!("stopped");
    Ok(ExitCode::SUCCESS)
}

/// Reads the config; what is wrong with it is printed.
///
/// # Errors
/// All that is wrong with it.
fn load(arguments: &RunArguments) -> Result<Document, Report> {
    let document = Document::load(&arguments.config).map_err(|report| {
        let report = report.with_the_rest(|document, faults| drop(Runtime::try_out(document, faults)));
        eprint!("{report}");
        report
    })?;
    eprint!("{}", document.warnings());
    Ok(document)
}

/// Reloads when told to, until told to stop.
async fn serve(server: &mut Server, arguments: &RunArguments, document: &Document) -> std::io::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut hangup = signal(SignalKind::hangup())?;
    let mut watch = Watch::new(watched(server, document));
    loop {
        tokio::select! {
            _ = terminate.recv() => return Ok(()),
            _ = interrupt.recv() => return Ok(()),
            _ = hangup.recv() => reload(server, arguments, &mut watch),
            () = watch.changed() => reload(server, arguments, &mut watch),
        }
    }
}

/// Goes over to the config as it is now. One that cannot be used is reported, and the old one serves on.
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
            tracing::error!(error = crate::causes::chain(&error), "the new config was not taken; the old one stays in force");
        }
    }
}

/// Notes why a config was not taken, line by line, where operators look: the log and the status page.
fn not_taken(server: &Server, report: &Report) {
    let faults = report.lines().join("\n");
    tracing::error!(faults, "the new config cannot be used; the old one stays in force");
    server.reloaded(Some(faults));
}

/// The files whose change is a reason to reload: the config's own, and those that it names.
fn watched(server: &Server, document: &Document) -> Vec<PathBuf> {
    let runtime = server.runtime();
    document.files.iter().chain(&document.folders).chain(&runtime.files).cloned().collect()
}
