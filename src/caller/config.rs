//! The settings of trust in proxies.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Deserialize;

use crate::{
    address::{AddressEntryConfig, NotedAddressConfig},
    settings::OneOrMany,
};

/// Trusted peers, as `trusted-proxies` and others list them: an address, a CIDR, a range or the name of an address set; or
/// addresses that are trusted under a condition.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Eq)]
#[serde(untagged)]
pub enum TrustedProxyConfig {
    /// `10.1.0.0/28`, `app-gateways`.
    Text(String),
    /// The same with a note.
    Noted(NotedAddressConfig),
    /// Addresses that are trusted under a condition.
    Group(TrustedGroupConfig),
}

/// Addresses that are trusted where the request bears certain header fields.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Eq)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct TrustedGroupConfig {
    /// Addresses, CIDRs, ranges or names of address sets.
    pub addresses: Vec<AddressEntryConfig>,
    /// Required header fields, each with its accepted values. Such a field identifies a proxy whose addresses are shared by all
    /// customers of a platform, such as Front Door.
    #[serde(default)]
    pub require_header: BTreeMap<String, Vec<String>>,
}

/// A step of `trust-path`: proxies that a request passes through on its way.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Eq)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct TrustStepConfig {
    /// The proxies of this step: an address, a CIDR, a range or the name of an address set, or a list of them.
    pub from: OneOrMany<AddressEntryConfig>,
    /// Allows requests that do not pass through these proxies. Default: false.
    #[serde(default)]
    pub optional: bool,
    /// Header fields that the request must carry for the step to be trusted, each with its accepted values.
    #[serde(default)]
    pub require_header: BTreeMap<String, Vec<String>>,
}

/// Whether connections begin with a PROXY protocol header, which names the peer.
#[derive(Clone, Copy, Debug, Default, Deserialize, JsonSchema, PartialEq, Eq)]
#[serde(rename_all = "kebab-case")]
pub enum ProxyProtocolConfig {
    /// They do not.
    #[default]
    None,
    /// They do (version 1 or 2), and only trusted proxies may connect.
    Required,
}

/// The header that names the caller.
#[derive(Clone, Copy, Debug, Default, Deserialize, JsonSchema, PartialEq, Eq)]
#[serde(rename_all = "kebab-case")]
pub enum ForwardedHeader {
    /// `X-Forwarded-For`.
    #[default]
    XForwardedFor,
    /// `Forwarded`, RFC 7239.
    Forwarded,
}

/// The settings of a listener about trusted proxies.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct TrustConfig {
    /// Proxies that are trusted in any order.
    pub trusted_proxies: Vec<TrustedProxyConfig>,
    /// Proxies that are trusted only in this order, the outermost first.
    pub trust_path: Vec<TrustStepConfig>,
    /// The header in which the proxies name the caller.
    pub forwarded_header: ForwardedHeader,
    /// Whether connections begin with a PROXY protocol header.
    pub proxy_protocol: ProxyProtocolConfig,
}
