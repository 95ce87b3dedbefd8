//! The settings of audit sinks.

use schemars::JsonSchema;
use serde::Deserialize;

/// The destinations of audit records.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Eq)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct AuditConfig {
    /// The sinks. Default: JSON lines on stdout.
    pub sinks: Vec<SinkConfig>,
    /// The claims of verified tokens that are recorded, by name; a dot leads into a claim that is an object. Nothing else of a token
    /// is recorded. Default: none.
    pub claims: Vec<String>,
    /// Adds to records what a later replay against another config needs. Default: false.
    pub replay: bool,
}

impl Default for AuditConfig {
    fn default() -> Self {
        Self { sinks: vec![SinkConfig::Stdout(StdoutConfig::default())], claims: Vec::new(), replay: false }
    }
}

/// One sink.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Eq)]
#[serde(rename_all = "kebab-case")]
pub enum SinkConfig {
    /// One line per record on standard output.
    Stdout(StdoutConfig),
    /// One line per record, appended to a file.
    File(FileConfig),
}

/// Standard output.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq, Eq)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct StdoutConfig {
    /// The format of a record. Default: json.
    pub format: FormatConfig,
}

/// A file.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Eq)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct FileConfig {
    /// The file; created if necessary, reopened on reload. Its mode is 0640 at most.
    pub path: String,
}

/// The format of a record.
#[derive(Clone, Copy, Debug, Default, Deserialize, JsonSchema, PartialEq, Eq)]
#[serde(rename_all = "kebab-case")]
pub enum FormatConfig {
    /// One JSON object per line.
    #[default]
    Json,
}
