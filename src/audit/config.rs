//! The settings of audit records: which are written, and where.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Deserialize;

use crate::{
    credentials::KeyVaultCertificateConfig,
    settings::{ConfigDuration, Secret, Size},
};

/// The destinations of audit records.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Eq)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct AuditConfig {
    /// The sinks. Default: standard output.
    pub sinks: Vec<SinkConfig>,
    /// The folder in which records wait for sinks that cross a network. Required by such sinks. Default: none.
    pub spool: Option<SpoolConfig>,
    /// The chain of hashes through the files, by which changes to them are found. Default: none.
    pub chain: Option<ChainConfig>,
    /// The claims of verified tokens that are recorded, by name; a dot leads into a claim that is an object. Nothing else of a token
    /// is recorded. Default: none.
    pub claims: Vec<String>,
    /// Adds to records what a later replay against another config needs. Default: false.
    pub replay: bool,
}

impl Default for AuditConfig {
    fn default() -> Self {
        let sinks = vec![SinkConfig::Stdout(StdoutConfig::default())];
        Self { sinks, spool: None, chain: None, claims: Vec::new(), replay: false }
    }
}

impl AuditConfig {
    /// Returns the same settings without any destination.
    #[must_use]
    pub fn without_sinks(self) -> Self {
        Self { sinks: Vec::new(), spool: None, chain: None, ..self }
    }

    /// Returns the file of the key that seals chains, if it is one.
    pub fn sealing_file(&self) -> Option<&String> {
        match &self.chain.as_ref()?.seal.key {
            SealKeyConfig::File(file) => Some(file),
            SealKeyConfig::Vault(_) => None,
        }
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
    /// Messages of RFC 5424 to a syslog server, or to the system's own.
    Syslog(SyslogConfig),
    /// OpenTelemetry logs to a collector.
    Otlp(OtlpLogsConfig),
    /// Rows to Azure Monitor, through the Logs Ingestion API.
    AzureMonitor(AzureMonitorConfig),
    /// Rows to a Log Analytics workspace, through the HTTP Data Collector API, which Microsoft has retired.
    LogAnalytics(LogAnalyticsConfig),
}

impl SinkConfig {
    /// Returns the key by which it is written.
    pub const fn key(&self) -> &'static str {
        match self {
            Self::Stdout(_) => "stdout",
            Self::File(_) => "file",
            Self::Syslog(_) => "syslog",
            Self::Otlp(_) => "otlp",
            Self::AzureMonitor(_) => "azure-monitor",
            Self::LogAnalytics(_) => "log-analytics",
        }
    }

    /// Returns the decisions whose records it gets; empty for all.
    pub fn only(&self) -> &[RecordedDecision] {
        match self {
            Self::Stdout(sink) => &sink.only,
            Self::File(sink) => &sink.only,
            Self::Syslog(sink) => &sink.only,
            Self::Otlp(sink) => &sink.only,
            Self::AzureMonitor(sink) => &sink.only,
            Self::LogAnalytics(sink) => &sink.only,
        }
    }

    /// Returns its name in metrics, events and the status: the kind, and what tells it from others of its kind.
    pub fn name(&self) -> String {
        match self {
            Self::Stdout(_) => "stdout".to_owned(),
            Self::File(sink) => format!("file:{}", sink.path),
            Self::Syslog(sink) => format!("syslog:{}", sink.address),
            Self::Otlp(sink) => format!("otlp:{}", sink.endpoint),
            Self::AzureMonitor(sink) => format!("azure-monitor:{}/{}", sink.rule, sink.stream),
            Self::LogAnalytics(sink) => format!("log-analytics:{}/{}", sink.workspace, sink.log_type),
        }
    }

    /// Returns whether it crosses a network, so that its records have to wait in the spool.
    pub fn is_remote(&self) -> bool {
        match self {
            Self::Stdout(_) | Self::File(_) => false,
            Self::Syslog(sink) => !sink.address.starts_with("unix:"),
            Self::Otlp(_) | Self::AzureMonitor(_) | Self::LogAnalytics(_) => true,
        }
    }
}

/// A decision, as records have it.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema, PartialEq, Eq)]
#[serde(rename_all = "kebab-case")]
pub enum RecordedDecision {
    /// The request was let through.
    Allow,
    /// The request was refused.
    Deny,
    /// The request failed, or its caller left.
    Error,
}

/// Standard output.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq, Eq)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct StdoutConfig {
    /// The format of a record. Default: json; text where standard output is a terminal.
    pub format: Option<FormatConfig>,
    /// The decisions that are written. Default: all. Records without a decision always are.
    pub only: Vec<RecordedDecision>,
}

/// A file.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Eq)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct FileConfig {
    /// The file; created if necessary, reopened on reload and on SIGUSR1. Its folder has to be there.
    pub path: String,
    /// The decisions that are written. Default: all. Records without a decision always are.
    #[serde(default)]
    pub only: Vec<RecordedDecision>,
    /// When the file is renamed and a new one begun. Default: never.
    #[serde(default)]
    pub rotate: RotateConfig,
    /// The age from which on rotated files are deleted; the newest never is. Default: none is deleted.
    pub keep: Option<ConfigDuration>,
    /// The compression of rotated files. Default: none.
    pub compress: Option<CompressConfig>,
    /// The mode of the file in octal; 0640 at most. Default: "0640".
    pub mode: Option<String>,
}

/// The rotation of a file: whichever comes first.
#[derive(Clone, Copy, Debug, Default, Deserialize, JsonSchema, PartialEq, Eq)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct RotateConfig {
    /// The largest size of a file; at least 64KiB. Default: none.
    pub size: Option<Size>,
    /// The longest time that a file covers, counted from midnight UTC; at least 1m. Default: none.
    pub every: Option<ConfigDuration>,
}

/// The compression of rotated files.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema, PartialEq, Eq)]
#[serde(rename_all = "kebab-case")]
pub enum CompressConfig {
    /// gzip (RFC 1952); `.gz` is added to the name.
    Gzip,
}

/// A syslog server.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Eq)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct SyslogConfig {
    /// The address: `udp://host:514`, `tcp://host:601` (octet counting), `tls://host:6514` or `unix:/dev/log`.
    pub address: String,
    /// The facility of the messages. Default: auth.
    #[serde(default)]
    pub facility: FacilityConfig,
    /// The certificate authorities (PEM) that are trusted for `tls://`, instead of the system's.
    pub ca: Option<String>,
    /// The decisions that are written. Default: all. Records without a decision always are.
    #[serde(default)]
    pub only: Vec<RecordedDecision>,
}

/// A facility of syslog: RFC 5424, section 6.2.1.
#[derive(Clone, Copy, Debug, Default, Deserialize, JsonSchema, PartialEq, Eq)]
#[serde(rename_all = "kebab-case")]
pub enum FacilityConfig {
    /// User-level messages.
    User = 1,
    /// System daemons.
    Daemon = 3,
    /// Security and authorization.
    #[default]
    Auth = 4,
    /// Security and authorization, for few eyes.
    Authpriv = 10,
    /// The log of audits.
    Audit = 13,
    /// For local use.
    Local0 = 16,
    /// For local use.
    Local1 = 17,
    /// For local use.
    Local2 = 18,
    /// For local use.
    Local3 = 19,
    /// For local use.
    Local4 = 20,
    /// For local use.
    Local5 = 21,
    /// For local use.
    Local6 = 22,
    /// For local use.
    Local7 = 23,
}

/// An OpenTelemetry collector that takes logs over HTTP, as Protocol Buffers.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Eq)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct OtlpLogsConfig {
    /// The collector's address, to which `v1/logs` is added: `http://127.0.0.1:4318`.
    pub endpoint: String,
    /// Header fields of each export. Default: none.
    #[serde(default)]
    pub headers: BTreeMap<String, Secret>,
    /// The decisions that are written. Default: all. Records without a decision always are.
    #[serde(default)]
    pub only: Vec<RecordedDecision>,
}

/// A data collection rule of Azure Monitor.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Eq)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct AzureMonitorConfig {
    /// The logs ingestion endpoint of the rule, or of its data collection endpoint.
    pub endpoint: String,
    /// The rule's immutable id: `dcr-` and 32 hexadecimal digits.
    pub rule: String,
    /// The stream of the rule: `Custom-Entrada_CL`.
    pub stream: String,
    /// The credential whose tokens are sent; it needs the role Monitoring Metrics Publisher on the rule.
    pub credential: String,
    /// The decisions that are written. Default: all. Records without a decision always are.
    #[serde(default)]
    pub only: Vec<RecordedDecision>,
}

/// A Log Analytics workspace.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Eq)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct LogAnalyticsConfig {
    /// The workspace's id, a GUID.
    pub workspace: String,
    /// The workspace's primary or secondary key, in base64.
    pub shared_key: Secret,
    /// The name of the table, to which `_CL` is added: letters, digits and `_`, at most 100.
    pub log_type: String,
    /// The address of the workspace's endpoint. Default: `https://WORKSPACE.ods.opinsights.azure.com`.
    pub endpoint: Option<String>,
    /// The decisions that are written. Default: all. Records without a decision always are.
    #[serde(default)]
    pub only: Vec<RecordedDecision>,
}

/// The spool.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Eq)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct SpoolConfig {
    /// The folder, which no other process uses; created if necessary.
    pub directory: String,
    /// The most bytes that it takes; when it is full the oldest records go. At least 1MiB. Default: 1GiB.
    pub size: Option<Size>,
}

/// The chain of hashes.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Eq)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct ChainConfig {
    /// The signatures on the chain.
    pub seal: SealConfig,
}

/// The signatures on a chain.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Eq)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct SealConfig {
    /// The time between two seals; at least 1s. Default: 60s.
    pub every: Option<ConfigDuration>,
    /// The key: a file with a private key (PEM, P-256 or RSA of at least 2048 bits), or a certificate in a Key Vault.
    pub key: SealKeyConfig,
}

/// The key that signs seals.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Eq)]
#[serde(untagged)]
pub enum SealKeyConfig {
    /// A file.
    File(String),
    /// A key in a vault, which signs there.
    Vault(KeyVaultCertificateConfig),
}

/// The format of a record.
#[derive(Clone, Copy, Debug, Default, Deserialize, JsonSchema, PartialEq, Eq)]
#[serde(rename_all = "kebab-case")]
pub enum FormatConfig {
    /// One JSON object per line.
    #[default]
    Json,
    /// One line per record that a person reads.
    Text,
}
