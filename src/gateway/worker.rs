//! The state that the requests of one worker share.

use std::sync::{Arc, Mutex, atomic::AtomicBool};

use super::{candidate::Candidates, runtime::Snapshot};
use crate::{audit::WorkerLog, telemetry::Traces};

/// The state of one worker. Requests hold it, so that reference counts are not shared between cores.
#[derive(Debug)]
pub(crate) struct WorkerState {
    /// The runtime of the last request, which usually is that of the next.
    pub(super) snapshot: Mutex<Snapshot>,
    pub(super) log: Arc<WorkerLog>,
    /// The spans of sampled requests, if they are exported.
    pub(super) traces: Option<Arc<Traces>>,
    /// Set once the gateway drains.
    pub(super) draining: Arc<AtomicBool>,
    /// The place of a config that judges beside the active one, if the process was started so.
    pub(super) candidates: Option<Arc<Candidates>>,
}
