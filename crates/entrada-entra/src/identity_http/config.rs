//! Settings of the calls to identity services.

use schemars::JsonSchema;
use serde::Deserialize;

/// The way of calls to Entra and other identity services out of the machine.
#[derive(Clone, Default, Deserialize, JsonSchema, PartialEq, Eq)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct IdentityHttpConfig {
    /// The HTTP proxy for these calls. Default: `HTTPS_PROXY`, with the exceptions of `NO_PROXY`.
    pub proxy: Option<String>,
    /// Certificate authorities (PEM) that are trusted for these calls in addition to the system's.
    pub ca: Option<String>,
}

impl std::fmt::Debug for IdentityHttpConfig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("IdentityHttpConfig").field("ca", &self.ca).finish_non_exhaustive()
    }
}
