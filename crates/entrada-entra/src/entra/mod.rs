//! The identity provider: clouds, tenants, signing keys, tokens.

mod algorithm;
mod footprint;
mod issuer;
mod json;
mod jws;
mod key_set;
mod keys;
mod members;
mod metadata;
mod openid;
mod tenant;
mod tenants;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
#[cfg(test)]
mod tests;
pub mod token;
mod verification;
mod verified_token_cache;
mod verified_tokens;
mod verify;

use schemars::JsonSchema;
use serde::Deserialize;

pub use self::{
    algorithm::Algorithm,
    key_set::{KeySet, KeySetStatus},
    keys::{inspect_key_set, inspect_signature},
    metadata::inspect_metadata,
    openid::{IssuerConfig, IssuerKeysConfig},
    tenant::{Tenant, TenantId, UNKNOWN_TENANT},
    tenants::Tenants,
    verified_token_cache::VerifiedTokenCacheStatus,
    verified_tokens::VerifiedTokensConfig,
};
pub use self::{
    issuer::is_guid,
    json::read_object,
    jws::inspect_form,
    tenant::{GraphAddress, PERSONAL_ACCOUNTS, graph_address},
    verification::{JUDGED_CLAIMS, PayloadForm, VerifiedWith},
    verified_tokens::VerifiedTokens,
    verify::{IssuerVerdict, Moment, Profile, Verified, Verifier, VerifyError},
};

/// An Entra tenant.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Eq)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct TenantConfig {
    /// The tenant: a GUID, a verified domain, or `organizations` or `common` for several tenants.
    pub id: String,
    /// The cloud of the tenant. Default: public.
    #[serde(default)]
    pub cloud: CloudConfig,
    /// Another authority host: the development tenant, External ID, a private cloud. `http` only for loopback.
    pub authority: Option<String>,
    /// The address of Microsoft Graph, for `group-lookup` and `claim-lookup`, such as `https://dod-graph.microsoft.us`. `http`
    /// only for loopback. Default: the cloud's; the authority itself if that is on this machine.
    pub graph: Option<String>,
    /// The time for which the last good keys stay valid while the authority is unreachable. Default: 24h.
    pub stale: Option<crate::settings::ConfigDuration>,
    /// Whether the gateway is ready only once it has the keys of this tenant, if a route accepts its tokens. Default: true.
    pub required: Option<bool>,
}

impl TenantConfig {
    /// Returns the tenant's token endpoint; `None` if id and authority do not form a URL.
    pub fn token_endpoint(&self) -> Option<url::Url> {
        let authority = match (&self.authority, self.cloud) {
            (Some(authority), _) => authority,
            (None, CloudConfig::Public) => "https://login.microsoftonline.com",
            (None, CloudConfig::UsGovernment) => "https://login.microsoftonline.us",
            (None, CloudConfig::China) => "https://login.partner.microsoftonline.cn",
        };
        let mut url = url::Url::parse(authority).ok()?;
        url.path_segments_mut().ok()?.pop_if_empty().extend([&*self.id, "oauth2", "v2.0", "token"]);
        Some(url)
    }
}

/// A national cloud.
#[derive(Clone, Copy, Debug, Default, Deserialize, JsonSchema, PartialEq, Eq, Hash)]
#[serde(rename_all = "kebab-case")]
pub enum CloudConfig {
    /// The worldwide cloud.
    #[default]
    Public,
    /// US Government.
    UsGovernment,
    /// China, operated by 21Vianet.
    China,
}
