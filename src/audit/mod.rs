//! 8 · Audit: the record of each request, written whatever the outcome.
//!
//! The record is made by a drop guard, the gateway's [`Recorder`](crate::gateway::Recorder), so that a caller that leaves is
//! recorded too. It goes as one JSON line into a buffer of the thread that carried the request ([`AuditLog`]); a writer thread
//! empties the buffers into the sinks. `tracing` is not used for it: writing a line into a buffer directly costs a fifth of it on
//! the hot path.

pub(crate) mod check;
mod config;
pub(crate) mod line;
mod log;
mod recent;

pub use config::{AuditConfig, FileConfig, FormatConfig, SinkConfig, StdoutConfig};
pub use log::AuditLog;
pub(crate) use log::WorkerLog;
pub use recent::{RECENT_RECORDS, Read, RecentRecords};
