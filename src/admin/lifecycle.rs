//! The state of the process: the server notes it, and the console shows it.

use std::{
    collections::VecDeque,
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use arc_swap::{ArcSwap, ArcSwapOption};
use serde::Serialize;

use crate::{
    base::{lock::lock, process_limits::connections_that_fit},
    listener::Listener,
};

/// The state of the process.
#[derive(Debug, Default)]
pub struct Lifecycle {
    /// Shared with the workers, which answer the health checks of decision listeners.
    draining: Arc<AtomicBool>,
    last_reload_error: ArcSwapOption<String>,
    /// The time of the start, in seconds since 1970.
    started_at: AtomicU64,
    /// The time of the last reload, or of the start, in seconds since 1970.
    reloaded_at: AtomicU64,
    /// The configs that were read, the newest first.
    reloads: Mutex<VecDeque<Reload>>,
    connections: ArcSwap<Connections>,
}

/// The number of reloads that are remembered.
const RELOADS: usize = 20;

/// A config that was read.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Reload {
    /// The time, in seconds since 1970.
    pub at: u64,
    /// The generation, if it was taken.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub generation: Option<u64>,
    /// The digest, if it was taken.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub digest: Option<String>,
    /// The changes, by name; nothing for the first one.
    pub changes: Vec<String>,
    /// Why it was not taken.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// The connections of all listeners.
#[derive(Debug, Default)]
pub struct Connections {
    /// The limit of open files, if it is known.
    pub open_files: Option<u64>,
    /// The number of files that the allowed connections may need; more than the limit causes a warning.
    pub open_files_needed: u64,
    /// The listeners, one for each address.
    pub listeners: Vec<(SocketAddr, Arc<Listener>)>,
}

impl Connections {
    /// Describes a problem of the limits, if there is one.
    pub fn warning(&self) -> Option<String> {
        let open_files = self.open_files.filter(|open_files| *open_files < self.open_files_needed)?;
        let most = connections_that_fit(open_files);
        Some(format!(
            "the connections that the listeners allow may need {} open files and the process may have {open_files}, so that \
             {most} connections are let in at once: raise the limit (`LimitNOFILE=`, `ulimit -n`), or lower `limits.connections`",
            self.open_files_needed
        ))
    }
}

impl Lifecycle {
    /// Returns whether the gateway is draining: it finishes its requests and accepts no new connections.
    pub fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Relaxed)
    }

    /// Returns what tells the workers whether the gateway is draining.
    pub(crate) fn draining(&self) -> Arc<AtomicBool> {
        self.draining.clone()
    }

    /// Notes that the gateway finishes its requests and takes no new connections.
    pub(crate) fn drains(&self) {
        self.draining.store(true, Ordering::Relaxed);
    }

    /// Returns the connections of all listeners.
    pub fn connections(&self) -> Arc<Connections> {
        self.connections.load_full()
    }

    /// Notes the current listeners.
    pub(crate) fn set_connections(&self, connections: Connections) {
        self.connections.store(Arc::new(connections));
    }

    /// Notes the config with which the process starts.
    pub(crate) fn started(&self, reload: Reload) {
        self.started_at.store(reload.at, Ordering::Relaxed);
        self.reloaded(reload);
    }

    /// Notes a config that was read, taken or not.
    pub(crate) fn reloaded(&self, reload: Reload) {
        self.last_reload_error.store(reload.error.clone().map(Arc::new));
        self.reloaded_at.store(reload.at, Ordering::Relaxed);
        let mut reloads = lock(&self.reloads);
        reloads.truncate(RELOADS - 1);
        reloads.push_front(reload);
    }

    /// Returns the configs that were read, the newest first.
    pub(super) fn reloads(&self) -> Vec<Reload> {
        lock(&self.reloads).iter().cloned().collect()
    }

    /// Returns the time of the start, in seconds since 1970.
    pub(super) fn started_at(&self) -> u64 {
        self.started_at.load(Ordering::Relaxed)
    }

    /// Returns the time of the last reload, or of the start, in seconds since 1970.
    pub fn reloaded_at(&self) -> u64 {
        self.reloaded_at.load(Ordering::Relaxed)
    }

    /// Returns the reason why the last reload failed; `None` if it succeeded.
    pub fn last_reload_error(&self) -> Option<Arc<String>> {
        self.last_reload_error.load_full()
    }
}
