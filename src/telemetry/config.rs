//! What is logged.
use schemars::JsonSchema;
use serde::Deserialize;

/// The gateway's own log.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq, Eq)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct TelemetryConfig {
    /// How much is logged. Default: info.
    pub log: LogLevel,
}

/// How much is logged.
#[derive(Clone, Copy, Debug, Default, Deserialize, JsonSchema, PartialEq, Eq)]
#[serde(rename_all = "kebab-case")]
pub enum LogLevel {
    /// What stops the gateway or a part of it.
    Error,
    /// What an operator should look at.
    Warn,
    /// What happens: start, reload, key and token fetches.
    #[default]
    Info,
    /// How it happens.
    Debug,
    /// Everything.
    Trace,
}

impl LogLevel {
    /// The level's name.
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
