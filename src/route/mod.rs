//! 3 · Route: host, then path, then method.

mod build;
mod build_lists;
mod fold;
mod limits;
mod metadata;
mod paths;
mod pattern;
mod plan;
mod report_only;
mod shadow;
mod table;
mod trusted_headers;
mod windows;

use std::collections::BTreeMap;

pub(crate) use build::{RouteBuilder, RouteSources};
pub use limits::{RouteLimits, RouteLimitsConfig};
pub(crate) use metadata::{Described, described};
pub use metadata::{ProtectedResourceMetadataConfig, ResourceMetadata, ResourceMetadataConfig};
pub(crate) use plan::RequireTls;
pub(crate) use plan::answer_of_keys;
pub use plan::{Action, Route};
use schemars::JsonSchema;
use serde::Deserialize;
pub(crate) use shadow::lint as lint_shadowed;
pub use table::{Found, Matching, RouteTable};
pub use trusted_headers::{TrustedHeaders, TrustedHeadersConfig};

use crate::{
    authorization::AuthorizationConfig,
    identity::{BackendAssertionConfig, IdentityHeaderConfig},
    inbound::{ModeConfig, PolicyConfig, ReturnResponseConfig},
    outbound::OutboundPolicyConfig,
    request::AcceptConfig,
    settings::OneOrMany,
    token_relay::TokenRelayConfig,
};

/// A route: the requests that it matches, their policies, and their destination.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct RouteConfig {
    /// The route's name in audit records and metrics.
    pub name: String,
    /// The requests that the route matches.
    #[serde(rename = "match")]
    pub matches: MatchConfig,
    /// Serves without authenticating the caller.
    #[serde(default)]
    pub anonymous: bool,
    /// Header fields that are trusted from some peers, and removed from the requests of all others. Default: none.
    pub trusted_headers: Option<TrustedHeadersConfig>,
    /// `report-only` records and counts the refusals of the route's own policies instead of enforcing them. Default: enforce.
    #[serde(default)]
    pub mode: ModeConfig,
    /// The policies on the request, in the order they run.
    #[serde(default)]
    pub inbound: Vec<PolicyConfig>,
    /// Header fields that identify the caller to the upstream, by name; made after the policies on the request have run.
    #[serde(default)]
    pub identity_headers: BTreeMap<String, IdentityHeaderConfig>,
    /// A signed statement about the caller for the upstream, `X-Entrada-Assertion`. Default: none.
    pub backend_assertion: Option<BackendAssertionConfig>,
    /// The policies on the response, in the order they run.
    #[serde(default)]
    pub outbound: Vec<OutboundPolicyConfig>,
    /// The policies on refusals and faults of the gateway, in the order they run; never on an upstream's answer. Default: none.
    #[serde(default)]
    pub on_error: Vec<OutboundPolicyConfig>,
    /// The `Authorization` that the upstream receives. Default: remove.
    #[serde(default)]
    pub authorization: AuthorizationConfig,
    /// The upstream's name; or `respond`.
    pub upstream: Option<String>,
    /// Decides for other proxies alone, which forward the requests themselves; instead of `upstream`. Default: false.
    #[serde(default)]
    pub decide_only: bool,
    /// A response of the gateway's own; or `upstream`.
    pub respond: Option<RespondConfig>,
    /// Relays partners' token requests to a tenant's token endpoint; instead of `upstream`.
    pub token_relay: Option<TokenRelayConfig>,
    /// Answers with the public keys of `backend-assertion`; instead of `upstream`.
    pub assertion_keys: Option<AssertionKeysRouteConfig>,
    /// The ambiguities of a target that are accepted here and refused otherwise.
    #[serde(default)]
    pub accept: Vec<AcceptConfig>,
    /// Refuses requests without TLS with 403; behind a trusted proxy, the scheme that it states counts. `redirect`: GET and HEAD are
    /// redirected to https. Default: false.
    #[serde(default)]
    pub require_tls: RequireTlsConfig,
    /// The limits of the route's requests. Default: those of the listener and the upstream.
    pub limits: Option<RouteLimitsConfig>,
    /// Tells the caller in `Server-Timing` how long policies, credential and upstream took. Default: false.
    #[serde(default)]
    pub server_timing: bool,
    /// Tells clients where to get tokens (RFC 9728): `true`, or the values that are not derived from the token policies. Default:
    /// false.
    pub protected_resource_metadata: Option<ProtectedResourceMetadataConfig>,
    /// The allowed upgrades. Default: none.
    #[serde(default)]
    pub upgrades: Vec<UpgradeConfig>,
}

/// Whether a route requires TLS: `true`, `false` or `redirect`.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema, PartialEq, Eq)]
#[serde(untagged)]
pub enum RequireTlsConfig {
    /// Whether requests without TLS are refused.
    Refuse(bool),
    /// Whether they are redirected.
    Word(RequireTlsWord),
}

/// `redirect`.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema, PartialEq, Eq)]
#[serde(rename_all = "kebab-case")]
pub enum RequireTlsWord {
    /// GET and HEAD without TLS are redirected to https, other methods refused.
    Redirect,
}

impl Default for RequireTlsConfig {
    fn default() -> Self {
        Self::Refuse(false)
    }
}

/// The requests that a route matches. Without a path it matches every path.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct MatchConfig {
    /// Host names: exact, or `*.` followed by a domain for any single label below it. Default: any host.
    #[serde(default)]
    pub hosts: Vec<String>,
    /// A path and everything below it, by whole segments; `{name}` captures one segment. Not with `exact-path`.
    pub path: Option<String>,
    /// Only this path. Not with `path`.
    pub exact_path: Option<String>,
    /// Methods. GET includes HEAD. Default: GET HEAD POST PUT PATCH DELETE OPTIONS.
    #[serde(default)]
    pub methods: Vec<String>,
}

impl MatchConfig {
    /// Returns whether one path is matched, with only this method.
    pub(crate) fn is_one_path_for(&self, method: &str) -> bool {
        self.exact_path.is_some() && self.methods.as_slice() == [method]
    }
}

/// Answers with the public keys by which backends verify assertions.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub struct AssertionKeysRouteConfig {}

/// A response of the gateway's own.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct RespondConfig {
    /// The status code.
    pub status: u16,
    /// Header fields of the response: texts, or expressions `@(…)`; a list makes a line for each value.
    #[serde(default)]
    pub headers: BTreeMap<String, OneOrMany<String>>,
    /// The body: a text, or an expression. Default: none.
    pub body: Option<String>,
}

impl RespondConfig {
    /// Returns the policy that answers alike.
    fn as_policy(&self) -> ReturnResponseConfig {
        let Self { status, headers, body } = self.clone();
        ReturnResponseConfig { status: Some(status), headers, body }
    }
}

/// An upgrade that a route allows.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema, PartialEq, Eq)]
#[serde(rename_all = "kebab-case")]
pub enum UpgradeConfig {
    /// WebSocket, RFC 6455.
    Websocket,
}
