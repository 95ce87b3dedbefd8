//! Admits callers with an Entra access token.

use schemars::JsonSchema;
use serde::Deserialize;

use super::Scope;
use crate::{
    config::{Place, Span},
    exchange::Exchange,
    listener::OneOrMany,
    refusal::{Reason, Refusal},
    request::IncomingRequest,
    upstream::UpstreamRequest,
};

/// Settings of `validate-azure-ad-token`.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct ValidateAzureAdTokenConfig {
    /// The name of the tenant that issues the tokens.
    pub tenant: String,
    /// Names or GUIDs of the tenants whose tokens are accepted; required where `tenant` is `organizations` or `common`. Default: the tenant itself.
    #[serde(default)]
    pub allowed_tenants: Vec<String>,
    /// The accepted audiences, compared exactly; at least one.
    pub audiences: Vec<String>,
    /// The accepted client applications. Default: any.
    #[serde(default)]
    pub client_application_ids: Vec<String>,
    /// Claims that the token must have.
    #[serde(default)]
    pub required_claims: Vec<RequiredClaimConfig>,
    /// Scopes of which a user's token must have one.
    #[serde(default)]
    pub scopes: Vec<String>,
    /// Roles of which the token must have one; with `scopes` too, users need a scope and applications a role.
    #[serde(default)]
    pub roles: Vec<String>,
    /// Whose tokens are accepted. Default: any.
    #[serde(default)]
    pub token_kind: TokenKindConfig,
    /// The client id of the application whose own signing keys sign the tokens.
    pub signing_keys_of: Option<String>,
    /// The header, or headers in order of preference, that hold the token. Default: Authorization.
    pub header_name: Option<OneOrMany<String>>,
    /// The query parameter that holds the token; tried last, removed before forwarding.
    pub query_parameter_name: Option<String>,
    /// How far clocks may differ. At most 10m. Default: 5m.
    pub clock_skew: Option<Span>,
    /// The status of refusals instead of 401 and 403.
    pub failed_validation_httpcode: Option<u16>,
    /// The sentence of refusals.
    pub failed_validation_error_message: Option<String>,
}

/// A claim that the token must have.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct RequiredClaimConfig {
    /// The claim's name.
    pub name: String,
    /// Whether all the values must be there, or any one. Default: all.
    #[serde(default, rename = "match")]
    pub matching: MatchConfig,
    /// The values; none means that the claim must exist.
    #[serde(default)]
    pub values: Vec<String>,
    /// What separates the values within one text.
    pub separator: Option<String>,
}

/// `all` or `any`.
#[derive(Clone, Copy, Debug, Default, Deserialize, JsonSchema, PartialEq, Eq)]
#[serde(rename_all = "kebab-case")]
pub enum MatchConfig {
    /// Every value.
    #[default]
    All,
    /// At least one value.
    Any,
}

/// Whose tokens are accepted.
#[derive(Clone, Copy, Debug, Default, Deserialize, JsonSchema, PartialEq, Eq)]
#[serde(rename_all = "kebab-case")]
pub enum TokenKindConfig {
    /// Users' and applications'.
    #[default]
    Any,
    /// Users'.
    User,
    /// Applications'.
    App,
}

/// Admits callers with an Entra access token.
#[derive(Debug)]
pub struct ValidateAzureAdToken {}

impl ValidateAzureAdToken {
    pub(crate) fn build(config: &ValidateAzureAdTokenConfig, place: &Place, scope: &mut Scope<'_>) -> Option<Self> {
        let _ = (config, place, scope);
        Some(Self {})
    }

    pub(crate) async fn check(
        &self,
        exchange: &mut Exchange,
        incoming: &IncomingRequest,
        outgoing: &mut UpstreamRequest,
    ) -> Result<(), Refusal> {
        let _ = (exchange, incoming, outgoing);
        Err(Refusal::from(Reason::TokenMissing))
    }
}
