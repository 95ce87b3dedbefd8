//! 8 · Audit: the record of each request, written whatever the outcome.
//!
//! The record is made by a drop guard, the gateway's [`Recorder`](crate::gateway::Recorder), so that a caller that leaves is
//! recorded too. It goes as one JSON line into a buffer of the thread that carried the request ([`AuditLog`]); a writer thread
//! empties the buffers into the sinks. `tracing` is not used for it: writing a line into a buffer directly costs a fifth of it on
//! the hot path.
//!
//! | part | responsibility |
//! | --- | --- |
//! | `line`, `own_record`, `text` | the form of records, those of the log itself, and their form for people |
//! | `log`, `outlet` | the buffers, and the writer thread with the sinks |
//! | `sink` | standard output, files, the system's syslog |
//! | `spool`, `remote` | what waits for the network, and its delivery |
//! | `chain` | hashes and seals through files, and their verification |

mod chain;
pub(crate) mod check;
mod config;
pub(crate) mod line;
mod log;
mod outlet;
mod own_record;
mod recent;
mod remote;
mod sink;
mod spool;
pub(crate) mod text;

pub use chain::ChainStatus;
pub(crate) use chain::verify;
pub use config::{AuditConfig, FileConfig, FormatConfig, RecordedDecision, SinkConfig, StdoutConfig};
pub use log::AuditLog;
pub(crate) use log::WorkerLog;
pub(crate) use outlet::AuditContext;
pub use recent::{RECENT_RECORDS, Read, RecentRecords};
pub(crate) use remote::RemoteContext;
pub use remote::row;
pub use sink::SinkStatus;
