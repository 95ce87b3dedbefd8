//! `entrada run`: serves the routes of a config until it is stopped.

use std::{
    fmt,
    io::IsTerminal as _,
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::Context;
use clap::Args;
use tokio::sync::oneshot;

use super::{
    config_file::ConfigFile,
    platform::{
        ServiceManager, SignalAction, Signals, activated_sockets,
        take_over::{HandOver, Predecessor, Successor},
    },
};
use crate::{
    config::{Document, Fingerprint, Report},
    gateway::candidate::Sample,
    listener::{InheritedSocket, InheritedSockets},
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
    /// Take over the listening sockets of the gateway that waits at this unix socket, if there is one, and wait there for the next
    #[arg(long, value_name = "SOCKET")]
    take_over: Option<PathBuf>,
    /// A second config, which judges the requests as well, without any effect: what it would decide otherwise stands in records, in
    /// metrics and on the status page
    #[arg(long, value_name = "FILE")]
    candidate: Option<PathBuf>,
    /// The share of requests that the candidate judges
    #[arg(long, value_name = "PERCENT", default_value = "100%", requires = "candidate")]
    candidate_sample: Sample,
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
    options.candidate = arguments.candidate.as_ref().map(|_| arguments.candidate_sample);
    let manager = ServiceManager::find();
    let (predecessor, sockets) = match inherited_sockets(arguments) {
        Ok(inherited) => inherited,
        Err(error) => {
            tracing::error!(error = format!("{error:#}"), "the gateway cannot start");
            return Ok(ExitCode::from(2));
        }
    };
    let mut server = match Server::start_with_sockets(&document, options, InheritedSockets::new(sockets)) {
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
    warn_of_unreachable_probes(&server);
    if arguments.take_over.is_some() && document.config.audit.chain.is_some() {
        tracing::warn!(
            cure = "leave `chain` out, or let systemd hold the sockets (entrada.socket), so that there is one process at a time",
            "with --take-over two processes write the audit files for a moment, which breaks their chain"
        );
    }
    let beside = judge_beside(&server, arguments);
    control.block_on(serve(&mut server, signals, (&manager, predecessor), arguments, (&document, beside)));
    manager.tell("STOPPING=1\nSTATUS=draining");
    tracing::info!("draining");
    server.drain();
    tracing::info!("stopped");
    Ok(ExitCode::SUCCESS)
}

/// Warns in a pod whose probes nobody can ask: the kubelet asks at the pod's address.
fn warn_of_unreachable_probes(server: &Server) {
    let probes = server.health_address().or_else(|| server.admin_address());
    if std::env::var_os("KUBERNETES_SERVICE_HOST").is_some()
        && let Some(address) = probes.filter(|address| address.ip().is_loopback())
    {
        let cure = "the kubelet cannot reach the probes: write `health: { address: \"0.0.0.0:9902\" }`";
        tracing::warn!(%address, "{cure}");
    }
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

/// Reads the candidate and lets it judge beside the active config, if there is one. It has no effect, and neither have its faults: they
/// are told. Returns the files whose change calls for another reading.
fn judge_beside(server: &Server, arguments: &RunArguments) -> Vec<PathBuf> {
    let Some(path) = &arguments.candidate else { return Vec::new() };
    let document = match Document::load(path) {
        Ok(document) => document,
        Err(report) => {
            report.log();
            tracing::warn!(faults = report.summary(), "the candidate cannot be read; no candidate judges");
            server.rejects_candidate(&report.lines().join("\n"));
            return vec![path.clone()];
        }
    };
    match server.judge_beside(&document) {
        Ok(()) => tracing::info!(digest = document.fingerprint.digest(), "the candidate judges beside the config in force"),
        Err(report) => {
            report.log();
            tracing::warn!(faults = report.summary(), "the candidate cannot be used; no candidate judges");
        }
    }
    document.files.iter().chain(&document.folders).cloned().chain(server.candidate_files()).collect()
}

/// Handles signals and file changes until the process is stopped.
async fn serve(
    server: &mut Server,
    mut signals: Signals,
    (manager, predecessor): (&ServiceManager, Option<Predecessor>),
    arguments: &RunArguments,
    (document, beside): (&Document, Vec<PathBuf>),
) {
    let mut succession = Succession::begin(predecessor, arguments.take_over.as_deref());
    let mut signs_of_life = ServiceManager::watchdog().map(tokio::time::interval);
    manager.tell("READY=1\nSTATUS=serving");
    let mut in_force = document.fingerprint.clone();
    let mut watch = Watch::new(watched(server, document).into_iter().chain(beside));
    loop {
        let (told, cause) = tokio::select! {
            told = signals.next() => (told, Cause::Signal),
            files = watch.changed() => (SignalAction::Reload, Cause::Files(files)),
            () = succession.next(server) => return tracing::info!("a successor serves"),
            () = next(&mut signs_of_life) => {
                // Only of a process whose workers carry requests: this thread alone would prove nothing.
                if server.workers_respond().await {
                    manager.tell("WATCHDOG=1");
                }
                continue;
            }
        };
        match told {
            SignalAction::Drain => return announce(server, &mut signals).await,
            SignalAction::Reload => {
                manager.tell_of_reload();
                reload(server, arguments, (&mut watch, &mut in_force), &cause);
                manager.tell("READY=1");
            }
            SignalAction::Reopen => reopen(server),
            SignalAction::Nothing(signal) => tracing::info!(signal, "a signal without a meaning was ignored"),
        }
    }
}

/// Returns the sockets that other processes opened, and the gateway that this one takes over from, if there is one.
fn inherited_sockets(arguments: &RunArguments) -> anyhow::Result<(Option<Predecessor>, Vec<InheritedSocket>)> {
    let mut sockets = activated_sockets()?;
    let predecessor = match arguments.take_over.as_deref().map(Predecessor::ask).transpose()?.flatten() {
        Some((predecessor, handed)) => {
            tracing::info!(sockets = handed.len(), "taking over from the gateway in service");
            sockets.extend(handed);
            Some(predecessor)
        }
        None => None,
    };
    Ok((predecessor, sockets))
}

/// The change from one gateway to the next one.
#[derive(Debug, Default)]
struct Succession {
    hand_over: Option<HandOver>,
    /// The word of a successor that has the sockets and does not serve yet.
    word: Option<oneshot::Receiver<()>>,
}

impl Succession {
    /// Lets the predecessor go, and waits at its place. Must be called within a runtime.
    fn begin(predecessor: Option<Predecessor>, path: Option<&Path>) -> Self {
        let hand_over = path.and_then(|path| {
            let listening = HandOver::listen(path);
            if let Err(error) = &listening {
                tracing::error!(error = format!("{error:#}"), "this gateway serves, and cannot be taken over from");
            }
            listening.ok()
        });
        if let Some(predecessor) = predecessor {
            predecessor.release();
        }
        Self { hand_over, word: None }
    }

    /// Waits until a successor serves. Each that asks gets the sockets; one that fails changes nothing.
    async fn next(&mut self, server: &Server) {
        loop {
            let asked = async {
                match &mut self.hand_over {
                    Some(hand_over) => hand_over.successor().await,
                    None => std::future::pending().await,
                }
            };
            let told = async {
                match &mut self.word {
                    Some(word) => word.await.is_ok(),
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                successor = asked => self.word = hand_over(successor, server),
                serves = told => {
                    if serves {
                        return;
                    }
                    tracing::error!("the successor failed; this gateway serves on");
                    self.word = None;
                }
            }
        }
    }
}

/// Hands the sockets to a successor. Returns its word; `None` if it does not take them.
fn hand_over(successor: Successor, server: &Server) -> Option<oneshot::Receiver<()>> {
    let handed = server.listening_sockets().and_then(|sockets| successor.hand_over(&sockets));
    match &handed {
        Ok(_) => tracing::info!("a successor has the listening sockets"),
        Err(error) => tracing::error!(%error, "a successor did not take the listening sockets; this gateway serves on"),
    }
    handed.ok()
}

/// Waits for the next tick; for ever without an interval.
async fn next(interval: &mut Option<tokio::time::Interval>) {
    match interval {
        Some(interval) => drop(interval.tick().await),
        None => std::future::pending().await,
    }
}

/// Says that the end is near, and goes on accepting connections for `drain-delay`, or until a second signal to stop.
async fn announce(server: &Server, signals: &mut Signals) {
    let delay = server.announce_drain();
    if delay.is_zero() {
        return;
    }
    tracing::info!(?delay, "not ready any more; connections are still accepted for the delay");
    let again = async { while signals.next().await != SignalAction::Drain {} };
    let _ = tokio::time::timeout(delay, again).await;
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
        Err(report) => {
            not_taken(server, &report, cause);
            // The candidate is another file, and goes on beside the config that stays.
            judge_beside(server, arguments);
            return;
        }
    };
    match server.reload(&document) {
        Ok(()) => {
            let changes = document.fingerprint.changes_since(in_force).join("; ");
            let changes = if changes.is_empty() { "none in the config itself" } else { &changes };
            let (generation, digest) = (server.runtime().generation, document.fingerprint.digest());
            tracing::info!(generation, digest, changes, %cause, "the new config is in force");
            *in_force = document.fingerprint.clone();
        }
        Err(ServerError::Config(report)) => not_taken(server, &report, cause),
        Err(error) => tracing::error!(
            error = crate::base::error_chain::chain(&error),
            %cause,
            "the new config was not taken; the old one stays in force"
        ),
    }
    let beside = judge_beside(server, arguments);
    watch.set(watched(server, &document).into_iter().chain(beside));
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
