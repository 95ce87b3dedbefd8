//! The addresses of the admin and health listeners.

use schemars::JsonSchema;
use serde::Deserialize;

use super::Config;
use crate::audit::RECENT_RECORDS;

/// The default address of the admin listener.
pub(crate) const DEFAULT_ADMIN: &str = "127.0.0.1:9901";

/// The most records that the console may keep.
const MOST_DECISIONS: u32 = 10_000;

/// The admin listener.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Eq)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct AdminConfig {
    /// `address:port`. Default: 127.0.0.1:9901.
    #[serde(default = "default_address")]
    pub address: String,
    /// The number of audit records that are kept in memory for the console, at most 10000; longer ones than 4 KiB on average leave room for
    /// fewer. 0 keeps none. Default: 1000.
    #[schemars(range(max = 10_000))]
    pub recent_decisions: Option<u32>,
}

fn default_address() -> String {
    DEFAULT_ADMIN.to_owned()
}

impl Config {
    /// Returns the number of records that are kept for the console.
    pub(crate) fn recent_decisions(&self) -> usize {
        let written = self.admin.as_ref().and_then(|admin| admin.recent_decisions);
        written.map_or(RECENT_RECORDS, |most| most.min(MOST_DECISIONS) as usize)
    }
}

/// The listener for probes and metrics.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Eq)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct HealthConfig {
    /// `address:port`.
    pub address: String,
}
