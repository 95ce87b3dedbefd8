//! The settings of a partner.

use schemars::JsonSchema;
use serde::Deserialize;

use super::ApiKeyConfig;
use crate::{
    address::AddressEntryConfig,
    limits::{OnStoreFailureConfig, StoreChoice, StoreConfig},
    settings::{ConfigDuration, Date},
};

/// A partner: its applications, and the addresses, routes and period of its access.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Eq)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct PartnerConfig {
    /// Enables the partner's access; `false` revokes it. Default: true.
    #[serde(default = "yes")]
    pub enabled: bool,
    /// The client ids of the partner's applications; at least one, unless there are `api-keys`.
    #[serde(default)]
    pub client_application_ids: Vec<String>,
    /// The partner's API keys, for `validate-api-key`. Default: none.
    #[serde(default)]
    pub api_keys: Vec<ApiKeyConfig>,
    /// The tenants in which the applications are the partner's: names of `tenants`, or GUIDs. Required where a route's token
    /// policy allows more than one tenant. Default: the one that it allows.
    pub tenants: Option<Vec<String>>,
    /// Whether tokens of users that the applications obtained count as the partner's, too. Default: app.
    #[serde(default)]
    pub token_kind: PartnerTokenKind,
    /// How the partner's applications must have authenticated to Entra. Default: any.
    #[serde(default)]
    pub client_credential: PartnerCredential,
    /// The certificates of which the partner's calls must show one, whatever their issuer. Default: none is required.
    pub client_certificate: Option<PinConfig>,
    /// The addresses that the partner calls from: addresses, CIDRs, ranges or names of address sets. Default: any address.
    pub addresses: Option<Vec<AddressEntryConfig>>,
    /// The limit of calls in any sliding period of this length, over all routes together. Default: no limit.
    pub rate_limit: Option<PartnerLimitConfig>,
    /// The limit of calls in each period, over all routes together; periods follow each other from the first of January 1970 on,
    /// UTC. Kept in the process, where a restart begins anew, unless `store` says otherwise. Default: no limit.
    pub quota: Option<PartnerLimitConfig>,
    /// The routes that the partner may use. Default: every route that checks partners.
    pub routes: Option<Vec<String>>,
    /// The owner: the person or team to contact.
    pub owner: Option<String>,
    /// The last day of the partner's access, UTC. Default: unlimited.
    pub expires: Option<Date>,
}

const fn yes() -> bool {
    true
}

/// A number of calls within a period.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema, PartialEq, Eq)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct PartnerLimitConfig {
    /// The number of calls; at least 1.
    pub calls: u64,
    /// The length of the period: from 1s on, for a rate up to 24h.
    pub renewal_period: ConfigDuration,
    /// The store of the counts. Default: local; redis, where `redis.default-store` is true.
    pub store: Option<StoreConfig>,
    /// The treatment of calls while the store fails. Default: refuse.
    pub on_store_failure: Option<OnStoreFailureConfig>,
}

impl PartnerLimitConfig {
    /// Returns the store that is named.
    pub(super) const fn store(&self) -> StoreChoice {
        StoreChoice { store: self.store, on_failure: self.on_store_failure }
    }
}

/// Certificates that are identified by their thumbprints.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Eq)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct PinConfig {
    /// SHA-1 or SHA-256 of each certificate, in hexadecimal. Two of them serve while one replaces the other.
    pub thumbprints: Vec<String>,
}

/// `app` or `any`.
#[derive(Clone, Copy, Debug, Default, Deserialize, JsonSchema, PartialEq, Eq)]
#[serde(rename_all = "kebab-case")]
pub enum PartnerTokenKind {
    /// Tokens of applications only.
    #[default]
    App,
    /// Tokens of users as well.
    Any,
}

/// `any` or `certificate`.
#[derive(Clone, Copy, Debug, Default, Deserialize, JsonSchema, PartialEq, Eq)]
#[serde(rename_all = "kebab-case")]
pub enum PartnerCredential {
    /// Any credential.
    #[default]
    Any,
    /// With a certificate or a federated credential.
    Certificate,
}
