//! 3 · Route: host, then path, then method.

mod build;
mod fold;
mod metadata;
mod paths;
mod pattern;
mod plan;
mod table;
mod trusted_headers;
mod windows;

use std::collections::BTreeMap;

pub(crate) use build::{RouteBuilder, RouteSources};
pub(crate) use metadata::{Described, described};
pub use metadata::{ProtectedResourceMetadataConfig, ResourceMetadata, ResourceMetadataConfig};
pub use plan::{Action, OwnAnswer, Route};
use schemars::JsonSchema;
use serde::Deserialize;
pub use table::{Found, Matching, RouteTable};
pub use trusted_headers::{TrustedHeaders, TrustedHeadersConfig};

use crate::{
    authorization::AuthorizationConfig,
    identity::{BackendAssertionConfig, IdentityHeaderConfig},
    inbound::PolicyConfig,
    outbound::OutboundPolicyConfig,
    request::AcceptConfig,
    token_relay::TokenRelayConfig,
};

/// A route: what it matches, who may use it, and where it leads.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct RouteConfig {
    /// The route's name, as in audit records and metrics.
    pub name: String,
    /// What the route matches.
    #[serde(rename = "match")]
    pub matches: MatchConfig,
    /// Serves without knowing who calls.
    #[serde(default)]
    pub anonymous: bool,
    /// Header fields that are believed from some peers, and removed from the requests of all others. Default: none.
    pub trusted_headers: Option<TrustedHeadersConfig>,
    /// The policies on the request, in the order they run.
    #[serde(default)]
    pub inbound: Vec<PolicyConfig>,
    /// Header fields that tell the upstream who calls, by name; made after the policies on the request have run.
    #[serde(default)]
    pub identity_headers: BTreeMap<String, IdentityHeaderConfig>,
    /// A signed statement of who calls for the upstream, `X-Entrada-Assertion`. Default: none.
    pub backend_assertion: Option<BackendAssertionConfig>,
    /// The policies on the answer, in the order they run.
    #[serde(default)]
    pub outbound: Vec<OutboundPolicyConfig>,
    /// What the upstream gets to see as `Authorization`. Default: remove.
    #[serde(default)]
    pub authorization: AuthorizationConfig,
    /// The upstream's name; or `respond`.
    pub upstream: Option<String>,
    /// An answer of the gateway's own; or `upstream`.
    pub respond: Option<RespondConfig>,
    /// Passes partners' requests for tokens through to a tenant's token endpoint; instead of `upstream`.
    pub token_relay: Option<TokenRelayConfig>,
    /// Answers with the public keys of `backend-assertion`; instead of `upstream`.
    pub assertion_keys: Option<AssertionKeysRouteConfig>,
    /// What is otherwise refused in a target and accepted here.
    #[serde(default)]
    pub accept: Vec<AcceptConfig>,
    /// Answers requests without TLS with 403; what the caller spoke with a trusted proxy counts where that says so. Default: false.
    #[serde(default)]
    pub require_tls: bool,
    /// Tells clients where they get tokens (RFC 9728): `true`, or what is not derived from the token policies. Default: false.
    pub protected_resource_metadata: Option<ProtectedResourceMetadataConfig>,
    /// Upgrades that are let through. Default: none.
    #[serde(default)]
    pub upgrades: Vec<UpgradeConfig>,
}

/// What a route matches. Without a path it matches every path.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct MatchConfig {
    /// Host names: exact, or `*.` and a name for any one name below it. Default: any host.
    #[serde(default)]
    pub hosts: Vec<String>,
    /// A path and all below it, by whole segments; `{name}` captures one segment. Not with `exact-path`.
    pub path: Option<String>,
    /// This path alone. Not with `path`.
    pub exact_path: Option<String>,
    /// Methods. GET includes HEAD. Default: GET HEAD POST PUT PATCH DELETE OPTIONS.
    #[serde(default)]
    pub methods: Vec<String>,
}

impl MatchConfig {
    /// Whether one path is matched, and this method alone.
    pub(crate) fn is_one_path_for(&self, method: &str) -> bool {
        self.exact_path.is_some() && self.methods.as_slice() == [method]
    }
}

/// Answers with the public keys by which backends check assertions.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub struct AssertionKeysRouteConfig {}

/// An answer of the gateway's own.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct RespondConfig {
    /// The status code.
    pub status: u16,
    /// Header fields of the answer.
    #[serde(default)]
    pub headers: BTreeMap<String, String>,
    /// The body.
    pub body: Option<String>,
}

/// An upgrade that a route lets through.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema, PartialEq, Eq)]
#[serde(rename_all = "kebab-case")]
pub enum UpgradeConfig {
    /// WebSocket, RFC 6455.
    Websocket,
}
