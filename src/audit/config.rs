//! Where audit records are told to go.

use schemars::JsonSchema;
use serde::Deserialize;

/// Where audit records go.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Eq)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct AuditConfig {
    /// The sinks. Default: JSON lines on stdout.
    pub sinks: Vec<SinkConfig>,
}

impl Default for AuditConfig {
    fn default() -> Self {
        Self { sinks: vec![SinkConfig::Stdout(StdoutConfig::default())] }
    }
}

/// One sink.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Eq)]
#[serde(rename_all = "kebab-case")]
pub enum SinkConfig {
    /// One line a record on standard output.
    Stdout(StdoutConfig),
    /// One line a record at the end of a file.
    File(FileConfig),
}

/// Standard output.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq, Eq)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct StdoutConfig {
    /// The form of a record. Default: json.
    pub format: FormatConfig,
}

/// A file.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Eq)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct FileConfig {
    /// The file; made if need be, opened again on reload. Its mode is 0640 at most.
    pub path: String,
}

/// The form of a record.
#[derive(Clone, Copy, Debug, Default, Deserialize, JsonSchema, PartialEq, Eq)]
#[serde(rename_all = "kebab-case")]
pub enum FormatConfig {
    /// One JSON object a line.
    #[default]
    Json,
}
