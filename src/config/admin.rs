//! The addresses of the admin and health listeners.

use schemars::JsonSchema;
use serde::Deserialize;

use super::Config;
use crate::{
    audit::RECENT_RECORDS,
    inbound::validate_azure_ad_token::ValidateAzureAdTokenConfig,
    listener::{ClientCertificatesConfig, TlsConfig},
    settings::OneOrMany,
};

/// The default address of the admin listener.
pub(crate) const DEFAULT_ADMIN: &str = "127.0.0.1:9901";

/// The most records that the console may keep.
const MOST_DECISIONS: u32 = 10_000;

/// The admin listener.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct AdminConfig {
    /// `address:port`. Other addresses than those of loopback need `validate-azure-ad-token`, `client-certificates` or `anonymous`. Default:
    /// 127.0.0.1:9901.
    pub address: String,
    /// Names by which browsers ask for it, without a port. Addresses and `localhost` are accepted without being listed. Default: none.
    pub hosts: Vec<String>,
    /// Server certificates, as of a listener. Default: no TLS.
    pub tls: Option<OneOrMany<TlsConfig>>,
    /// Requests client certificates; `mode: required` admits those alone who show one. Needs `tls`. Default: they are not requested.
    pub client_certificates: Option<ClientCertificatesConfig>,
    /// The token that `/api` and `/metrics` require. The console itself is served to anyone, and asks for it. Default: none is required.
    pub validate_azure_ad_token: Option<Box<ValidateAzureAdTokenConfig>>,
    /// Serves whoever reaches the address, also from the network. Default: false.
    pub anonymous: bool,
    /// The number of audit records that are kept in memory for the console, at most 10000; longer ones than 4 KiB on average leave room for
    /// fewer. 0 keeps none. Default: 1000.
    #[schemars(range(max = 10_000))]
    pub recent_decisions: Option<u32>,
}

impl Default for AdminConfig {
    fn default() -> Self {
        Self {
            address: DEFAULT_ADMIN.to_owned(),
            hosts: Vec::new(),
            tls: None,
            client_certificates: None,
            validate_azure_ad_token: None,
            anonymous: false,
            recent_decisions: None,
        }
    }
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
