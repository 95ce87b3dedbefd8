//! Where the admin and health listeners are.

use schemars::JsonSchema;
use serde::Deserialize;

/// Where the admin listener is unless the config says otherwise.
pub(crate) const DEFAULT_ADMIN: &str = "127.0.0.1:9901";

/// The admin listener.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Eq)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct AdminConfig {
    /// `address:port`.
    pub address: String,
}

/// The listener for probes and metrics.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Eq)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct HealthConfig {
    /// `address:port`.
    pub address: String,
}
