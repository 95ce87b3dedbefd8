//! OTLP: spans and metrics that are pushed to a collector, as Protocol Buffers over HTTP or gRPC.
//!
//! A request costs nothing here unless it is sampled. Its spans are then made when it ends, and go into a buffer of its worker; a task
//! on the background runtime sends what there is. What a collector does not take in time is dropped and counted: traces and metrics
//! are not records.

mod collector;
mod export;
mod grpc;
mod metrics;
pub(crate) mod protobuf;
pub(crate) mod reading;
mod settings;
mod traces;

pub use self::{
    export::{Exporter, Source},
    settings::{OtlpConfig, OtlpMetricsConfig, OtlpProtocol, OtlpSettings, TracesConfig, check},
    traces::Traces,
};
