//! A partner, as written.

use schemars::JsonSchema;
use serde::Deserialize;

use crate::{address::AddressEntryConfig, config::Day};

/// A partner: whose applications may call, from where, what, and until when.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Eq)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct PartnerConfig {
    /// Whether the partner has access at all: `false` revokes it. Default: true.
    #[serde(default = "yes")]
    pub enabled: bool,
    /// The client ids of the partner's applications; at least one.
    pub client_application_ids: Vec<String>,
    /// The tenants in which the applications are the partner's: names of `tenants`, or GUIDs. Required where a route's token
    /// policy allows more than one tenant. Default: the one that it allows.
    pub tenants: Option<Vec<String>>,
    /// Whether users' tokens that the applications got are the partner's, too. Default: app.
    #[serde(default)]
    pub token_kind: PartnerTokenKind,
    /// How the partner's applications must have authenticated to Entra. Default: any.
    #[serde(default)]
    pub client_credential: PartnerCredential,
    /// The addresses that the partner calls from: addresses, CIDRs, ranges or names of address sets. Default: any address.
    pub addresses: Option<Vec<AddressEntryConfig>>,
    /// The routes that the partner may use. Default: every route that checks partners.
    pub routes: Option<Vec<String>>,
    /// Whom to ask.
    pub owner: Option<String>,
    /// The last day of the partner's access, UTC. Default: it does not end.
    pub expires: Option<Day>,
}

const fn yes() -> bool {
    true
}

/// `app` or `any`.
#[derive(Clone, Copy, Debug, Default, Deserialize, JsonSchema, PartialEq, Eq)]
#[serde(rename_all = "kebab-case")]
pub enum PartnerTokenKind {
    /// Tokens of applications alone.
    #[default]
    App,
    /// Those of users, too.
    Any,
}

/// `any` or `certificate`.
#[derive(Clone, Copy, Debug, Default, Deserialize, JsonSchema, PartialEq, Eq)]
#[serde(rename_all = "kebab-case")]
pub enum PartnerCredential {
    /// No matter how.
    #[default]
    Any,
    /// With a certificate or a federated credential.
    Certificate,
}
