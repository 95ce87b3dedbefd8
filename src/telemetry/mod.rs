//! The gateway's own log and metrics.

mod config;
mod log;
mod metrics;

pub use config::{LogLevel, TelemetryConfig};
pub use log::{log_panics, start_logging};
pub(crate) use metrics::NO_ROUTE;
pub use metrics::{Counters, Metrics, MetricsText};
