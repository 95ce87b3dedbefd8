//! The settings of a listener.

use schemars::JsonSchema;
use serde::Deserialize;

use super::ClientCertificatesConfig;
use crate::{
    caller::{ProxyProtocolConfig, TrustStepConfig, TrustedProxyConfig},
    settings::{Size, Span},
};

/// A listener: its addresses, and the proxies that it trusts.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct ListenerConfig {
    /// The listener's name in audit records and metrics.
    pub name: String,
    /// `address:port`, or a list of them.
    pub address: OneOrMany<String>,
    /// Server certificates, chosen by the requested server name (SNI); the first is the default. Absent: no TLS.
    pub tls: Option<OneOrMany<TlsConfig>>,
    /// Whether HTTP/2 is served besides HTTP/1.1. Without it browsers can sign in with Windows credentials (NTLM), which need a
    /// connection with a single caller. Default: true.
    #[serde(default = "yes")]
    pub http2: bool,
    /// Requests client certificates. Default: they are not requested.
    pub client_certificates: Option<ClientCertificatesConfig>,
    /// The proxies that may speak for a caller. Default: none.
    #[serde(default)]
    pub trusted_proxies: Vec<TrustedProxyConfig>,
    /// The proxies that requests pass through, the outermost first. Instead of `trusted-proxies`, if there are different
    /// entrances: each step is trusted once, and only in this order.
    #[serde(default)]
    pub trust_path: Vec<TrustStepConfig>,
    /// The header in which trusted proxies name the caller; the others are removed unread. Default: x-forwarded-for.
    #[serde(default)]
    pub forwarded_header: ForwardedHeader,
    /// Whether connections begin with a PROXY protocol header, before TLS. Only trusted proxies may then connect. Default: none.
    #[serde(default)]
    pub proxy_protocol: ProxyProtocolConfig,
    /// The limits for clients of the listener.
    #[serde(default)]
    pub limits: LimitsConfig,
}

const fn yes() -> bool {
    true
}

/// One value or a list of them.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Eq)]
#[serde(untagged)]
pub enum OneOrMany<T> {
    /// A single one.
    One(T),
    /// Several.
    Many(Vec<T>),
}

impl<T> OneOrMany<T> {
    /// Returns the values, in the order written.
    pub fn as_slice(&self) -> &[T] {
        match self {
            Self::One(value) => std::slice::from_ref(value),
            Self::Many(values) => values,
        }
    }
}

/// A server certificate with its key; both are read again when the files change.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Eq)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct TlsConfig {
    /// The certificate chain, PEM, leaf first.
    pub certificate: String,
    /// The private key, PEM.
    pub private_key: String,
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

/// The limits of a listener. All of them have defaults.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Eq)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct LimitsConfig {
    /// The maximum number of connections. At the limit the one that has been idle longest is closed for a new one. Default:
    /// 10000.
    pub connections: u32,
    /// The maximum number of connections of one peer: an IPv4 address, or a /64 of IPv6. Trusted proxies are exempt; a value of
    /// at least `connections` means no limit. Default: a quarter of `connections`.
    pub connections_per_peer: Option<u32>,
    /// The size limit of a request's head: request line and header fields. Default: 64KiB.
    pub header_bytes: Size,
    /// The timeout for TLS handshake and head, from accept or from the head's first byte on. Default: 10s.
    pub header_timeout: Span,
    /// The idle timeout of a connection between requests. Default: 75s.
    pub idle_timeout: Span,
    /// The size limit of a request's body. Default: 100MiB.
    pub body_bytes: Size,
    /// The timeout for the next bytes of a request's body, as long as the request is not answered. Default: 30s.
    pub body_timeout: Span,
    /// The timeout for a client that reads nothing of a waiting response. Default: 30s.
    pub write_timeout: Span,
    /// The longest duration of one request, streams included. Default: 1h.
    pub max_stream: Span,
}

impl Default for LimitsConfig {
    fn default() -> Self {
        Self {
            connections: 10_000,
            connections_per_peer: None,
            header_bytes: Size(64 << 10),
            header_timeout: Span::seconds(10),
            idle_timeout: Span::seconds(75),
            body_bytes: Size(100 << 20),
            body_timeout: Span::seconds(30),
            write_timeout: Span::seconds(30),
            max_stream: Span::seconds(3_600),
        }
    }
}
