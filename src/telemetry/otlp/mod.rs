//! OTLP: spans and metrics that are pushed to a collector, over HTTP as Protocol Buffers.
//!
//! A request costs nothing here unless it is sampled. Its spans are then made when it ends, and go into a buffer of its worker; a task
//! on the background runtime sends what there is. What a collector does not take in time is dropped and counted: traces and metrics
//! are not records.

mod export;
mod metrics;
pub(crate) mod protobuf;
mod settings;
mod traces;

pub use self::{
    export::{Exporter, Source},
    settings::{OtlpConfig, OtlpMetricsConfig, OtlpProtocol, OtlpSettings, TracesConfig, check},
    traces::Traces,
};
