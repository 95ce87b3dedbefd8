//! The gateway's own log and metrics.

mod config;
mod exposition;
mod log;
mod metrics;
mod otlp;
mod process;
mod requests;

pub use config::{LogLevel, TelemetryConfig};
pub use exposition::{Format, MetricsText};
pub use log::{log_panics, start_logging};
pub use metrics::Metrics;
pub(crate) use metrics::NO_ROUTE;
pub use otlp::{
    Exporter, OtlpConfig, OtlpMetricsConfig, OtlpProtocol, OtlpSettings, Source, Traces, TracesConfig, check as check_otlp,
};
pub(crate) use otlp::{protobuf::Message, reading};
pub use process::write_process;
pub(crate) use requests::decision;
pub use requests::{Counted, Counters, DecisionCounts, Decisions, WouldDenyCount};
