//! The settings of a route's `authorization`.

use schemars::JsonSchema;
use serde::Deserialize;

use crate::settings::Secret;

/// The `Authorization` that the upstream receives.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq, Eq)]
#[serde(untagged)]
pub enum AuthorizationConfig {
    /// One of the words.
    Word(AuthorizationWord),
    /// The validated token moves to `Authorization`; the place it came from is cleared.
    FromHeader(FromHeaderConfig),
    /// The gateway's own token, acquired for this route.
    Credential(UseCredentialConfig),
    /// A token that is exchanged for the user's, on the user's behalf.
    OnBehalfOf(OnBehalfOfConfig),
    /// A user name and a password of the gateway's own.
    Basic(BasicConfig),
    /// No setting: the same as `remove`.
    #[default]
    #[serde(skip)]
    Absent,
}

/// `keep` or `remove`.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema, PartialEq, Eq)]
#[serde(rename_all = "kebab-case")]
pub enum AuthorizationWord {
    /// Forwards the token as received.
    Keep,
    /// Clears `Authorization` and every place in which a token policy of the route looks.
    Remove,
}

/// The token of another header becomes `Authorization: Bearer`.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Eq)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct FromHeaderConfig {
    /// The header; one that a token policy of the route reads.
    pub from_header: String,
}

/// The gateway's own token, by the client credentials grant.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Eq)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct UseCredentialConfig {
    /// The credential's name.
    pub credential: String,
    /// One resource with `/.default`.
    pub scope: String,
    /// The tenant that issues the token: a name of `tenants`; `"@(token.tenant)"`, the caller's own; or `"@(captures.name)"`, one of
    /// `allowed-tenants` that the path names by its id. Default: the credential's.
    pub tenant: Option<String>,
    /// The tenants that the path may name: ids, or names of `tenants`. Default: those that the route's token policy lists.
    #[serde(default)]
    pub allowed_tenants: Vec<String>,
}

/// A user name and a password of the gateway's own (RFC 7617).
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Eq)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct BasicConfig {
    /// The user name and the password.
    pub basic: BasicCredentialConfig,
}

/// A user name and a password.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Eq)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct BasicCredentialConfig {
    /// The user name, without a colon.
    pub username: String,
    /// The password; usually `"{{name}}"` of a secret.
    pub password: Secret,
}

/// A token for the upstream on behalf of the calling user.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Eq)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct OnBehalfOfConfig {
    /// The credential's name; its `client-id` is an audience of the route.
    pub on_behalf_of: String,
    /// One or more delegated permissions of one resource, separated by spaces.
    pub scope: String,
}
