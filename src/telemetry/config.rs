//! The settings of logging.
use schemars::JsonSchema;
use serde::Deserialize;

use super::OtlpConfig;

/// The gateway's own log, and the export of traces and metrics.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq, Eq)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct TelemetryConfig {
    /// The level of the log. Default: info.
    pub log: LogLevel,
    /// Traces and metrics that are pushed to an OpenTelemetry collector. Default: none.
    pub otlp: Option<OtlpConfig>,
}

/// The level of the log.
#[derive(Clone, Copy, Debug, Default, Deserialize, JsonSchema, PartialEq, Eq)]
#[serde(rename_all = "kebab-case")]
pub enum LogLevel {
    /// Events that stop the gateway or a part of it.
    Error,
    /// Events that an operator should look at.
    Warn,
    /// Normal events: start, reload, key and token fetches.
    #[default]
    Info,
    /// Details of normal events.
    Debug,
    /// All events.
    Trace,
}

impl LogLevel {
    /// Returns the level's name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warn => "warn",
            Self::Info => "info",
            Self::Debug => "debug",
            Self::Trace => "trace",
        }
    }
}
