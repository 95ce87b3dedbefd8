//! The config: a YAML file, read with all its faults at once, and its settings.
//!
//! Written settings (`…Config`, plain data as in the file) and the objects built from them are two things. The settings of a
//! stage stand beside that stage; this module knows the document as a whole. Building is pure: no network, no clock.

pub(crate) mod admin;
mod beside;
mod document;
mod effect;
mod exposure;
mod fact_marks;
mod fact_names;
mod fingerprint;
mod forms;
mod habits;
mod lint;
mod listener;
mod meaning;
mod merge;
pub(crate) mod named_values;
mod partial_check;
mod repair;
pub(crate) mod report;
mod sarif;
mod schema;
mod settings_file;
mod silence;
mod silence_comment;
pub(crate) mod test_case;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
mod unsupported;
mod validate;

pub(crate) use self::admin::DEFAULT_ADMIN;
pub use self::admin::{AdminConfig, HealthConfig};
use std::collections::BTreeMap;

pub use document::{Document, Written};
pub(crate) use fact_marks::proofs;
pub use fact_marks::{FactMarks, Marked};
pub use fact_names::FactNames;
pub use fingerprint::Fingerprint;
pub use listener::ListenerConfig;
pub(crate) use listener::address_cure;
pub(crate) use merge::TEST_FILE;
pub use report::Report;
pub use schema::{schema, test_schema};
use schemars::JsonSchema;
use serde::Deserialize;
pub(crate) use settings_file::SettingsFile;
pub use silence::LintsConfig;
pub use test_case::TestConfig;

use crate::{
    address::AddressSetConfig,
    audit::AuditConfig,
    credentials::CredentialConfig,
    entra::{IssuerConfig, TenantConfig, VerifiedTokensConfig},
    identity::AssertionKeysConfig,
    identity_http::IdentityHttpConfig,
    inbound::PolicyConfig,
    limits::RedisConfig,
    outbound::OutboundPolicyConfig,
    partner::PartnerConfig,
    route::RouteConfig,
    settings::{ConfigDuration, KeyVaultSecretConfig},
    telemetry::TelemetryConfig,
    upstream::UpstreamConfig,
};

/// The whole config.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct Config {
    /// Further files with the same keys, relative to this one; `*` stands for any part of a file name. A name defined twice is an error.
    pub include: Vec<String>,
    /// Values that any text of the config may refer to as `{{name}}`.
    pub named_values: BTreeMap<String, NamedValueConfig>,
    /// The listeners of the gateway; at least one.
    pub listeners: Vec<ListenerConfig>,
    /// The time after SIGTERM for which connections are still accepted while `/readyz` says no already, so that balancers turn away
    /// first. Default: 0s.
    pub drain_delay: Option<ConfigDuration>,
    /// The time for which requests may continue after SIGTERM, and after `drain-delay`, before their connections are closed. Default: 30s.
    pub drain_timeout: Option<ConfigDuration>,
    /// The read-only admin listener. Default: 127.0.0.1:9901.
    pub admin: Option<AdminConfig>,
    /// The listener for probes and metrics. Default: on the admin listener.
    pub health: Option<HealthConfig>,
    /// The way of calls to Entra and other identity services out of the machine.
    pub identity_http: Option<IdentityHttpConfig>,
    /// The Entra tenants whose tokens are accepted or acquired.
    pub tenants: BTreeMap<String, TenantConfig>,
    /// Issuers of tokens besides Entra, for `validate-jwt`.
    pub issuers: BTreeMap<String, IssuerConfig>,
    /// The cache of tokens that a policy accepted, whose signatures need not be verified again, bounded for the whole process. 0
    /// disables it. Default: { memory: 64MiB, largest: 8KiB }.
    pub verified_tokens: Option<VerifiedTokensConfig>,
    /// The store of limits that several gateways share. Default: none, each gateway counts by itself.
    pub redis: Option<RedisConfig>,
    /// Named lists of addresses.
    pub address_sets: BTreeMap<String, AddressSetConfig>,
    /// The gateway's own identities towards upstreams.
    pub credentials: BTreeMap<String, CredentialConfig>,
    /// The signing of assertions for backends, for `backend-assertion` on a route.
    pub backend_assertion: Option<AssertionKeysConfig>,
    /// The partners whose daemons call, for `check-partner`.
    pub partners: BTreeMap<String, PartnerConfig>,
    /// The backends.
    pub upstreams: BTreeMap<String, UpstreamConfig>,
    /// Policies that run first on every route.
    pub inbound: Vec<PolicyConfig>,
    /// Policies that run first on every response.
    pub outbound: Vec<OutboundPolicyConfig>,
    /// Policies that run first on every refusal and fault of the gateway, also of requests that no route takes.
    pub on_error: Vec<OutboundPolicyConfig>,
    /// Named lists of policies, for `include-fragment`.
    pub fragments: BTreeMap<String, Vec<PolicyConfig>>,
    /// The routes; their order does not matter.
    pub routes: Vec<RouteConfig>,
    /// The destinations of audit records.
    pub audit: AuditConfig,
    /// The gateway's own log.
    pub telemetry: TelemetryConfig,
    /// Test cases, for `entrada test`.
    pub tests: Vec<TestConfig>,
    /// The findings of `check` that are accepted, each with a reason. Default: none.
    pub lints: LintsConfig,
}

/// A named value: `{{name}}` in any text of the config is replaced by it.
#[derive(Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct NamedValueConfig {
    /// The value itself.
    pub value: Option<String>,
    /// The environment variable that holds it.
    pub env: Option<String>,
    /// The replacement if the environment variable is not set.
    pub default: Option<String>,
    /// The file that holds it; trailing line ends are removed. Always a secret.
    pub file: Option<String>,
    /// The secret of a Key Vault that holds it; read again while the gateway runs. Always a secret.
    pub key_vault: Option<KeyVaultSecretConfig>,
    /// Never printed, and allowed only in settings for secrets. Default: false, except for `file` and `key-vault`.
    #[serde(default)]
    pub secret: bool,
}

/// Omits the value, which may be a secret.
impl std::fmt::Debug for NamedValueConfig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { env, file, key_vault, secret, .. } = self;
        let mut shown = f.debug_struct("NamedValueConfig");
        shown.field("env", env).field("file", file).field("key_vault", key_vault).field("secret", secret).finish_non_exhaustive()
    }
}
