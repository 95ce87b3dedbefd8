//! The addresses of the admin and health listeners.

use schemars::JsonSchema;
use serde::Deserialize;

/// The default address of the admin listener.
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
