//! The settings of `validate-azure-ad-token`.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Deserialize;

use crate::{
    inbound::mode::ModeConfig,
    settings::{ConfigDuration, OneOrMany},
};

/// Settings of `validate-azure-ad-token`.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct ValidateAzureAdTokenConfig {
    /// The name of the tenant that issues the tokens.
    pub tenant: String,
    /// The tenants whose tokens are accepted: names of `tenants`, GUIDs, `{ file: … }` with one GUID per line, or `any`. Required
    /// if `tenant` stands for several; personal accounts only if their tenant is listed by its GUID. Default: the tenant itself.
    pub allowed_tenants: Option<AllowedTenantsConfig>,
    /// The accepted audiences, compared exactly; at least one.
    pub audiences: Vec<String>,
    /// The accepted client applications. Default: any.
    #[serde(default)]
    pub client_application_ids: Vec<String>,
    /// Claims that the token must have.
    #[serde(default)]
    pub required_claims: Vec<RequiredClaimConfig>,
    /// Scopes of which a user's token must have one. Without `roles`, applications are refused.
    #[serde(default)]
    pub scopes: Vec<String>,
    /// Roles of which the token must have one; with `scopes` too, users need a scope and applications a role.
    #[serde(default)]
    pub roles: Vec<String>,
    /// The accepted kind of tokens. Default: any.
    #[serde(default)]
    pub token_kind: TokenKindConfig,
    /// The accepted type of tokens: access tokens, or the ID tokens that a trusted front end forwards. Default: access.
    #[serde(default)]
    pub token_type: TokenTypeConfig,
    /// The required authentication of the client to Entra: `certificate` requires a certificate or a federated credential.
    /// Default: any.
    #[serde(default)]
    pub client_credential: ClientCredentialConfig,
    /// Whether the token must be bound to the certificate that the caller shows (`cnf` with `x5t#S256`, RFC 8705); a bound token
    /// always needs it. Default: any.
    #[serde(default)]
    pub token_binding: TokenBindingConfig,
    /// Asks Microsoft Graph whether a user is in the groups of `required-claims`, if the token has more groups than it lists: `{
    /// graph: CREDENTIAL }`, or `graph` if only one credential is possible. Default: such a token is refused (`group-overage`).
    pub group_lookup: Option<GroupLookupConfig>,
    /// Asks Microsoft Graph for attributes of a user whose token lacks a mapped claim: `{ graph: CREDENTIAL, claims: { … } }`, or
    /// `graph` for the account name. Default: missing claims are absent.
    pub claim_lookup: Option<ClaimLookupConfig>,
    /// The authentication contexts (`c1` …) of which a user's token must satisfy one. Clients that support it are asked to step
    /// up.
    pub authentication_context: Option<OneOrMany<String>>,
    /// The client id of the API whose custom signing key signs the tokens. Only an app registration with such a key needs this.
    pub signing_keys_of: Option<String>,
    /// The accepted keys: the tenant's, those of `signing-keys-of`, or both during a migration. Default: only the application's
    /// if `signing-keys-of` is set, else the tenant's.
    #[serde(default)]
    pub signing_keys: Vec<SigningKeysConfig>,
    /// The header, or headers in order of preference, that hold the token. Default: Authorization.
    pub header_name: Option<OneOrMany<String>>,
    /// The query parameter that holds the token; tried last, removed before forwarding.
    pub query_parameter_name: Option<String>,
    /// The name by which expressions read the token: `name.claims.…`. A second token policy on a route needs one; the token of
    /// the first is `token`, with or without a name.
    #[serde(rename = "as")]
    pub named: Option<String>,
    /// The accepted clock skew. At most 10m. Default: 5m.
    pub clock_skew: Option<ConfigDuration>,
    /// The status of refusals instead of 401 and 403.
    pub failed_validation_httpcode: Option<u16>,
    /// The sentence of refusals.
    pub failed_validation_error_message: Option<String>,
    /// `report-only` records and counts refusals instead of enforcing them. Default: enforce.
    #[serde(default)]
    pub mode: ModeConfig,
}

/// `any`, or a list of tenants.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Eq)]
#[serde(untagged)]
pub enum AllowedTenantsConfig {
    /// `any`, or one tenant.
    Word(String),
    // Before the file: serde takes a list of one text for the struct as well.
    /// Several.
    List(Vec<AllowedTenantConfig>),
    /// A file with one GUID per line.
    File(TenantFileConfig),
}

/// A tenant, or a file of them.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Eq)]
#[serde(untagged)]
pub enum AllowedTenantConfig {
    /// A name of `tenants`, or a GUID.
    Word(String),
    /// A file with one GUID per line.
    File(TenantFileConfig),
}

/// A file of tenants.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub struct TenantFileConfig {
    /// The file: one GUID per line, comments after `#`.
    pub file: String,
}

/// The source of group memberships.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Eq)]
#[serde(untagged)]
pub enum GroupLookupConfig {
    /// `graph`, with the only credential that can be used for the tenant.
    Word(LookupWord),
    /// Microsoft Graph, with a credential.
    Graph(GraphGroupsConfig),
}

/// The source of claims.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Eq)]
#[serde(untagged)]
pub enum ClaimLookupConfig {
    /// `graph`, with the only credential that can be used for the tenant, for the account name.
    Word(LookupWord),
    /// Microsoft Graph, with a credential.
    Graph(GraphClaimsConfig),
}

/// `graph`.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema, PartialEq, Eq)]
#[serde(rename_all = "kebab-case")]
pub enum LookupWord {
    /// Microsoft Graph.
    Graph,
}

/// The lookup of groups in Microsoft Graph.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Eq)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct GraphGroupsConfig {
    /// The credential whose application may read users and group members (`User.Read.All`, `GroupMember.Read.All`).
    pub graph: String,
    /// The time for which an answer is cached. At most 1h. Default: 5m.
    pub cache: Option<ConfigDuration>,
}

/// The lookup of claims in Microsoft Graph.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Eq)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct GraphClaimsConfig {
    /// The credential whose application may read users (`User.Read.All`).
    pub graph: String,
    /// The claims, each with the attribute that it is filled from. Default: onpremisessamaccountname from onPremisesSamAccountName.
    pub claims: Option<BTreeMap<String, String>>,
    /// The time for which an answer is cached. At most 1h. Default: 5m.
    pub cache: Option<ConfigDuration>,
}

/// A claim that the token must have.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct RequiredClaimConfig {
    /// The claim's name.
    pub name: String,
    /// Whether all the values are required, or any one. Default: all.
    #[serde(default, rename = "match")]
    pub matching: MatchConfig,
    /// The values, none of them empty; without any, the claim must just exist.
    #[serde(default)]
    pub values: Vec<String>,
    /// The separator of values within a claim that is one text; the elements of a list are compared whole.
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

/// The accepted kind of tokens.
#[derive(Clone, Copy, Debug, Default, Deserialize, JsonSchema, PartialEq, Eq)]
#[serde(rename_all = "kebab-case")]
pub enum TokenKindConfig {
    /// Users' and applications' tokens.
    #[default]
    Any,
    /// Users' tokens.
    User,
    /// Applications' tokens.
    App,
}

/// `access` or `id`.
#[derive(Clone, Copy, Debug, Default, Deserialize, JsonSchema, PartialEq, Eq)]
#[serde(rename_all = "kebab-case")]
pub enum TokenTypeConfig {
    /// Access tokens.
    #[default]
    Access,
    /// ID tokens.
    Id,
}

/// `any` or `certificate`.
#[derive(Clone, Copy, Debug, Default, Deserialize, JsonSchema, PartialEq, Eq)]
#[serde(rename_all = "kebab-case")]
pub enum ClientCredentialConfig {
    /// Any authentication.
    #[default]
    Any,
    /// With a certificate or a federated credential.
    Certificate,
}

/// `any` or `certificate`.
#[derive(Clone, Copy, Debug, Default, Deserialize, JsonSchema, PartialEq, Eq)]
#[serde(rename_all = "kebab-case")]
pub enum TokenBindingConfig {
    /// Bound or not.
    #[default]
    Any,
    /// Bound to the caller's certificate.
    Certificate,
}

/// `tenant` or `app`.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema, PartialEq, Eq)]
#[serde(rename_all = "kebab-case")]
pub enum SigningKeysConfig {
    /// The tenant's keys.
    Tenant,
    /// The keys of the application named by `signing-keys-of`.
    App,
}
