//! The process: workers, listeners, reload and drain.
//!
//! Requests are carried by one thread per core, each with its own runtime, sockets and upstream pools, so that no core waits for
//! another. Other work (key and token fetches, the admin listener, file watching) runs on one background runtime.

mod build;
mod error;
pub(crate) mod expiry_notices;
mod export;
mod share;
#[cfg(test)]
mod tests;
mod worker;

use std::{collections::HashMap, io, net::SocketAddr, path::PathBuf, sync::Arc, thread::JoinHandle, time::Duration};

use arc_swap::ArcSwap;
use tokio::{runtime::Handle, sync::oneshot};

pub(crate) use self::build::build;
use self::{
    build::build_with_report,
    export::{export, otlp},
    share::Share,
    worker::{Command, Worker},
};
pub use self::{build::try_out, error::ServerError};
use crate::{
    admin::{self, Admin, AdminListeners, BoundAdmin, Connections, History, Lifecycle, Reload, ShownConfig},
    audit::{AuditConfig, AuditLog},
    base::{
        clock::Clock,
        process_limits::{open_files_for, raise_open_files},
    },
    config::{Config, Document, Report, Written},
    gateway::{
        DataPlane,
        candidate::{Candidates, Sample},
        runtime::{Purpose, Runtime},
    },
    listener::{self, Drainer, InheritedSocket, InheritedSockets, Listener, ListenerSettings},
    telemetry::{Metrics, Traces},
};

/// The time that the last export of traces and metrics may take.
const LAST_EXPORT: Duration = Duration::from_secs(5);
/// The time that giving back the last permits of concurrent calls may take.
const LAST_PERMITS: Duration = Duration::from_millis(500);

/// The options of the process, beyond its config.
#[derive(Clone, Debug)]
pub struct ServerOptions {
    /// The number of threads that carry requests.
    pub workers: usize,
    /// The clock.
    pub clock: Clock,
    /// The share of requests that a candidate judges as well, if there is to be one; see [`Server::judge_beside`].
    pub candidate: Option<Sample>,
}

impl Default for ServerOptions {
    fn default() -> Self {
        Self { workers: std::thread::available_parallelism().map_or(1, usize::from), clock: Clock::system(), candidate: None }
    }
}

/// A running gateway.
#[derive(Debug)]
pub struct Server {
    runtime: Arc<ArcSwap<Runtime>>,
    /// Where the active config is written, for explanations.
    written: Arc<ArcSwap<Written>>,
    /// The parts of the active config that the console shows.
    shown: Arc<ArcSwap<ShownConfig>>,
    audit: Arc<AuditLog>,
    metrics: Arc<Metrics>,
    lifecycle: Arc<Lifecycle>,
    /// The place of a candidate, if there is to be one.
    candidates: Option<Arc<Candidates>>,
    listeners: HashMap<ListenerKey, RunningListener>,
    admin: AdminListeners,
    workers: Vec<Worker>,
    writer: Option<JoinHandle<()>>,
    background: Option<tokio::runtime::Runtime>,
    drain_delay: Duration,
    drain_timeout: Duration,
    /// The word that ends the export of traces and metrics, if there is one.
    export: Option<oneshot::Sender<std::sync::mpsc::Sender<()>>>,
    /// The sinks of records, and the folder that file names are relative to.
    sinks: (AuditConfig, PathBuf),
    options: ServerOptions,
    /// Sockets that another process opened.
    sockets: InheritedSockets,
}

/// The identity of a listener: it is the same across reloads as long as its name and address stay.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct ListenerKey {
    name: Arc<str>,
    address: SocketAddr,
}

#[derive(Debug)]
struct RunningListener {
    listener: Arc<Listener>,
    local: SocketAddr,
    drainer: Drainer,
    /// Its sockets, for a gateway that takes over. They keep the address: whoever drains closes them first.
    sockets: Vec<std::net::TcpListener>,
}

/// A listener with open sockets, one for each worker, that is not served yet.
struct Bound {
    key: ListenerKey,
    settings: ListenerSettings,
    /// Empty for a listener that is running already.
    sockets: Vec<std::net::TcpListener>,
}

impl Server {
    /// Starts a gateway: compiles the config, opens the listeners, and starts to fetch keys and tokens.
    ///
    /// # Errors
    /// Fails if the config is faulty, or if a resource that it names is unavailable.
    pub fn start(document: &Document, options: ServerOptions) -> Result<Self, ServerError> {
        Self::start_with_sockets(document, options, InheritedSockets::default())
    }

    /// Does the same with listening sockets that another process opened: a listener takes those at its address, else those with its
    /// name, and opens its own only where there are none.
    ///
    /// # Errors
    /// Fails as [`Server::start`] does.
    #[doc(hidden)]
    pub fn start_with_sockets(
        document: &Document,
        options: ServerOptions,
        sockets: InheritedSockets,
    ) -> Result<Self, ServerError> {
        let config = &document.config;
        raise_open_files();
        let metrics = Arc::new(Metrics::default());
        let (built, report) = build_with_report(document, &options, Purpose::Listeners, &metrics, None)?;
        let shown = Arc::new(ArcSwap::from_pointee(ShownConfig::of(document, &built, &report)));
        let runtime = Arc::new(ArcSwap::from_pointee(built));
        let audit = {
            let runtime = runtime.load_full();
            let context = runtime.audit_context(&document.base);
            AuditLog::open(&config.audit, context, options.workers).map_err(ServerError::Audit)?
        };
        audit.kept().keep(config.recent_decisions());
        // Only now: where the config is faulty there is no runtime to end, which must not happen within another one.
        let background = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("background")
            .enable_all()
            .build()
            .map_err(ServerError::Thread)?;
        let otlp = otlp(config);
        let percent = otlp.as_ref().and_then(|otlp| otlp.traces);
        let traces = percent.map(|percent| Arc::new(Traces::new(percent.0, options.workers)));
        let lifecycle = Arc::<Lifecycle>::default();
        let candidates = options.candidate.map(|sample| Candidates::new(sample, options.workers));
        let plane = |index| {
            let plane = DataPlane::new(runtime.clone(), audit.clone(), index);
            plane.of_process(traces.clone(), lifecycle.draining(), candidates.clone())
        };
        let workers = (0..options.workers)
            .map(|index| Worker::spawn(plane(index), index))
            .collect::<io::Result<_>>()
            .map_err(ServerError::Thread)?;
        let digest = Some(document.fingerprint.digest().to_owned());
        let at = options.clock.unix_seconds();
        lifecycle.started(Reload { at, generation: Some(0), digest, ..Reload::default() });
        let history = Arc::new(History::default());
        background.spawn(history.clone().sample(metrics.clone(), options.clock.clone()));
        let written = Arc::new(ArcSwap::from_pointee(document.written()));
        let admin = Admin {
            runtime: runtime.clone(),
            written: written.clone(),
            audit: audit.clone(),
            metrics: metrics.clone(),
            traces: traces.clone(),
            lifecycle: lifecycle.clone(),
            shown: shown.clone(),
            history,
            followers: admin::followers(),
            candidates: candidates.clone(),
            ending: Default::default(),
        };
        let export = otlp.and_then(|otlp| export(otlp, traces, admin.clone(), background.handle()));
        let admin = AdminListeners::new(admin);
        let mut server = Self {
            runtime,
            written,
            shown,
            metrics,
            lifecycle,
            candidates,
            listeners: HashMap::new(),
            admin,
            workers,
            writer: Some(audit.spawn_writer().map_err(ServerError::Thread)?),
            audit,
            background: Some(background),
            export,
            drain_delay: drain_delay(config),
            drain_timeout: drain_timeout(config),
            sinks: (config.audit.clone(), document.base.clone()),
            options,
            sockets,
        };
        let admin = server.admin.bind(config, &server.sockets)?;
        server.serve_admin(admin, config);
        let runtime = server.runtime();
        let bound = server.bind(&runtime)?;
        runtime.start(server.handle());
        server.audit.start(server.handle());
        server.handle().spawn(expiry_notices::tell(server.runtime.clone()));
        server.serve(bound);
        for unused in server.sockets.close_rest() {
            tracing::warn!(socket = unused, "no listener has the name or the address of an inherited socket; it was closed");
        }
        Ok(server)
    }

    /// Switches to another config, completely or not at all. Requests in progress keep the rules that they started with.
    ///
    /// # Errors
    /// Fails if the config is faulty, or if a resource that it names is unavailable; the old one then stays active.
    pub fn reload(&mut self, document: &Document) -> Result<(), ServerError> {
        let changes = document.fingerprint.changes_since(&self.shown.load_full().fingerprint);
        let result = self.try_reload(document);
        let at = self.options.clock.unix_seconds();
        self.lifecycle.reloaded(match &result {
            Ok(()) => {
                let digest = Some(document.fingerprint.digest().to_owned());
                Reload { at, generation: Some(self.runtime().generation), digest, changes, error: None }
            }
            Err(error) => Reload { at, error: Some(crate::base::error_chain::chain(error)), ..Reload::default() },
        });
        result
    }

    /// Lets another config judge the requests as well, without effect, beside the active one; it replaces the one before. To be called
    /// again after each reload.
    ///
    /// # Errors
    /// Returns the faults of the config; none judges then.
    pub fn judge_beside(&self, document: &Document) -> Result<(), Box<Report>> {
        let Some(candidates) = &self.candidates else { return Ok(()) };
        candidates.set(document, &self.runtime(), self.handle())
    }

    /// Returns the files that the candidate names.
    pub fn candidate_files(&self) -> Vec<PathBuf> {
        let current = self.candidates.as_ref().and_then(|candidates| candidates.status().current);
        current.map(|candidate| candidate.files().to_vec()).unwrap_or_default()
    }

    /// Notes that the candidate cannot be read; none judges then.
    pub fn rejects_candidate(&self, fault: &str) {
        self.candidates.iter().for_each(|candidates| candidates.reject(fault.to_owned()));
    }

    /// Notes for the console why a config could not be read.
    #[doc(hidden)]
    pub fn not_reloaded(&self, error: String) {
        let at = self.options.clock.unix_seconds();
        self.lifecycle.reloaded(Reload { at, error: Some(error), ..Reload::default() });
    }

    fn try_reload(&mut self, document: &Document) -> Result<(), ServerError> {
        let before = self.runtime.load_full();
        let (runtime, report) = build_with_report(document, &self.options, Purpose::Listeners, &self.metrics, Some(&before))?;
        let bound = self.bind(&runtime)?;
        let admin = self.admin.bind(&document.config, &self.sockets)?;
        self.audit.reopen(&document.config.audit, runtime.audit_context(&document.base)).map_err(ServerError::Audit)?;
        self.sinks = (document.config.audit.clone(), document.base.clone());
        // From here on nothing fails. The rules come first, so that a new listener never meets the old ones.
        let runtime = Arc::new(runtime);
        runtime.start(self.handle());
        self.shown.store(Arc::new(ShownConfig::of(document, &runtime, &report)));
        self.audit.kept().keep(document.config.recent_decisions());
        self.runtime.store(runtime.clone());
        self.written.store(Arc::new(document.written()));
        self.workers.iter().for_each(Worker::refresh);
        before.partners.give_way_to(&runtime.partners);
        self.drain_delay = drain_delay(&document.config);
        self.drain_timeout = drain_timeout(&document.config);
        self.serve(bound);
        self.serve_admin(admin, &document.config);
        Ok(())
    }

    /// Reopens the files of records, so that they can be moved away. Nothing else changes, and no record is lost.
    ///
    /// # Errors
    /// Fails if one cannot be opened; records then continue to go to the old files.
    pub fn reopen_files(&self) -> Result<(), ServerError> {
        let (config, base) = &self.sinks;
        self.audit.reopen(config, self.runtime().audit_context(base)).map_err(ServerError::Audit)
    }

    /// Opens the sockets of new listeners.
    fn bind(&self, runtime: &Runtime) -> Result<Vec<Bound>, ServerError> {
        let mut all = Vec::new();
        let share = Share::of(runtime);
        for rules in &runtime.listeners {
            for &address in &rules.addresses {
                let key = ListenerKey { name: rules.name.clone(), address };
                let sockets = if self.listeners.contains_key(&key) {
                    Vec::new()
                } else {
                    self.sockets_of(&rules.name, address)
                        .map_err(|source| ServerError::Bind { address: address.to_string(), source })?
                };
                all.push(Bound { key, settings: share.applied(rules.settings.clone()), sockets });
            }
        }
        Ok(all)
    }

    /// Returns the sockets of a new listener: inherited ones, or its own.
    fn sockets_of(&self, name: &str, address: SocketAddr) -> io::Result<Vec<std::net::TcpListener>> {
        match self.sockets.take(name, Some(address)) {
            inherited if inherited.is_empty() => listener::bind(address, self.options.workers),
            inherited => listener::spread(inherited, self.options.workers),
        }
    }

    /// Serves new listeners, applies new settings to existing ones, and drains removed ones.
    fn serve(&mut self, bound: Vec<Bound>) {
        let mut gone = std::mem::take(&mut self.listeners);
        for (key, running) in &gone {
            // One that moves to another address: what it asks of certificates holds for the connections that it still has, too.
            if let Some(moved) = bound.iter().find(|bound| bound.key.name == key.name) {
                running.listener.settings.store(Arc::new(moved.settings.clone()));
            }
        }
        for Bound { key, settings, sockets } in bound {
            if let Some(running) = gone.remove(&key) {
                running.listener.settings.store(Arc::new(settings));
                self.listeners.insert(key, running);
                continue;
            }
            let Some(local) = sockets.first().and_then(|socket| socket.local_addr().ok()) else { continue };
            let listener = Listener::new(key.name.clone(), settings);
            let (drainer, drain) = Drainer::new();
            let copies = sockets.iter().filter_map(|socket| socket.try_clone().ok()).collect();
            for (worker, socket) in self.workers.iter().cycle().zip(sockets) {
                worker.tell(Command::Serve { socket, listener: listener.clone(), drain: drain.clone() });
            }
            tracing::info!(listener = %key.name, address = %local, "listening");
            self.listeners.insert(key, RunningListener { listener, local, drainer, sockets: copies });
        }
        for (key, running) in gone {
            tracing::info!(listener = %key.name, address = %running.local, "no longer listening");
            running.drain(self.drain_timeout);
        }
        self.tell_of_connections();
    }

    /// Updates the status of the listeners, and warns if more connections are allowed than the process can have.
    fn tell_of_connections(&self) {
        let share = Share::of(&self.runtime());
        let listeners = self.listeners.values().map(|running| (running.local, running.listener.clone())).collect();
        let needed = open_files_for(share.wanted);
        let connections = Connections { open_files: raise_open_files(), open_files_needed: needed, listeners };
        if let Some(warning) = connections.warning() {
            tracing::warn!("{warning}");
        }
        self.lifecycle.set_connections(connections);
    }

    fn serve_admin(&mut self, bound: BoundAdmin, config: &Config) {
        let background = self.handle().clone();
        self.admin.serve(bound, config, &background, self.drain_timeout);
    }

    /// Returns the background runtime.
    pub fn handle(&self) -> &Handle {
        self.background.as_ref().expect("the background runtime lives as long as the server").handle()
    }

    /// Returns the address of the listener of this name; the first if there are several.
    pub fn address(&self, name: &str) -> Option<SocketAddr> {
        self.listeners.iter().filter(|(key, _)| &*key.name == name).map(|(_, running)| running.local).min()
    }

    /// Returns the address of the admin listener.
    pub fn admin_address(&self) -> Option<SocketAddr> {
        self.admin.own_address()
    }

    /// Returns the address of the health listener, if it is separate.
    pub fn health_address(&self) -> Option<SocketAddr> {
        self.admin.health_address()
    }

    /// Returns the active config.
    #[doc(hidden)]
    pub fn runtime(&self) -> Arc<Runtime> {
        self.runtime.load_full()
    }

    /// Returns the state of the process.
    #[doc(hidden)]
    pub const fn lifecycle(&self) -> &Arc<Lifecycle> {
        &self.lifecycle
    }

    /// Returns the records of requests.
    #[doc(hidden)]
    pub const fn audit(&self) -> &Arc<AuditLog> {
        &self.audit
    }

    /// Returns the sockets of all listeners, for a gateway that takes over.
    ///
    /// # Errors
    /// Fails if the process has too many open files.
    #[doc(hidden)]
    pub fn listening_sockets(&self) -> io::Result<Vec<InheritedSocket>> {
        let mut all = self.admin.sockets()?;
        for (key, running) in &self.listeners {
            for socket in &running.sockets {
                all.push(InheritedSocket { name: (&*key.name).into(), socket: socket.try_clone()? });
            }
        }
        Ok(all)
    }

    /// Returns whether all workers respond within a second.
    #[doc(hidden)]
    pub async fn workers_respond(&self) -> bool {
        let answers: Vec<_> = self.workers.iter().map(Worker::ask).collect();
        let all = async {
            for answer in answers {
                if answer.await.is_err() {
                    return false;
                }
            }
            true
        };
        tokio::time::timeout(Duration::from_secs(1), all).await.unwrap_or(false)
    }

    /// Tells balancers by `/readyz` that the end is near. Returns the time for which connections are still to be accepted.
    #[doc(hidden)]
    pub fn announce_drain(&self) -> Duration {
        self.lifecycle.drains();
        self.drain_delay
    }

    /// Stops accepting connections, lets the requests in progress end, and stops. Those not finished after `drain-timeout` are
    /// aborted.
    pub fn drain(mut self) {
        self.lifecycle.drains();
        self.listeners.drain().for_each(|(_, running)| running.drain(self.drain_timeout));
        for worker in self.workers.drain(..) {
            worker.finish();
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.listeners.drain().for_each(|(_, running)| running.drain(Duration::ZERO));
        for worker in self.workers.drain(..) {
            worker.finish();
        }
        // The last requests have ended: others need not wait for what they held.
        if let Some(store) = &self.runtime().limit_store {
            store.finish(LAST_PERMITS);
        }
        self.admin.stop();
        if let Some(export) = self.export.take() {
            let (receipt, done) = std::sync::mpsc::channel();
            // An end in time or not: what a collector does not take is lost.
            let _ = export.send(receipt).map(|()| done.recv_timeout(LAST_EXPORT));
        }
        // The writer goes last: it writes the records that the workers' last requests left.
        self.audit.stop();
        if let Some(writer) = self.writer.take() {
            // A writer that panicked has said so.
            let _ = writer.join();
        }
        self.audit.finish();
        if let Some(background) = self.background.take() {
            // Not a drop: a server may be dropped within another runtime, where waiting is not allowed.
            background.shutdown_background();
        }
    }
}

impl RunningListener {
    /// Stops listening, and lets its requests go on for the time.
    fn drain(self, timeout: Duration) {
        drop(self.sockets);
        self.drainer.drain(timeout);
    }
}

fn drain_delay(config: &Config) -> Duration {
    config.drain_delay.map_or(Duration::ZERO, |span| span.0)
}

fn drain_timeout(config: &Config) -> Duration {
    config.drain_timeout.map_or(Duration::from_secs(30), |span| span.0)
}
