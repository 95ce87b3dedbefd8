//! What a listener is told.

use schemars::JsonSchema;
use serde::Deserialize;

use super::ClientCertificatesConfig;
use crate::{
    caller::{ProxyProtocolConfig, TrustStepConfig, TrustedProxyConfig},
    settings::{Size, Span},
};

/// A listener: where it listens, and whom it believes.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct ListenerConfig {
    /// The listener's name, as in audit records and metrics.
    pub name: String,
    /// `address:port`, or a list of them.
    pub address: OneOrMany<String>,
    /// Server certificates, chosen by the name that the client asks for (SNI); the first is the default. Absent: no TLS.
    pub tls: Option<OneOrMany<TlsConfig>>,
    /// Whether HTTP/2 is spoken besides HTTP/1.1. Without it browsers can sign in with Windows credentials (NTLM), which are of a
    /// connection's one caller. Default: true.
    #[serde(default = "yes")]
    pub http2: bool,
    /// Whether clients show certificates of their own. Default: they are not asked for.
    pub client_certificates: Option<ClientCertificatesConfig>,
    /// Who may speak for a caller. Default: nobody.
    #[serde(default)]
    pub trusted_proxies: Vec<TrustedProxyConfig>,
    /// The proxies that requests pass through on their way, the outermost first. Instead of `trusted-proxies`, where entrances
    /// differ: each step is believed once, and in this order alone.
    #[serde(default)]
    pub trust_path: Vec<TrustStepConfig>,
    /// The header in which trusted proxies name the caller; the others are removed unread. Default: x-forwarded-for.
    #[serde(default)]
    pub forwarded_header: ForwardedHeader,
    /// Whether connections begin with a PROXY protocol header, before TLS. Only trusted proxies may then connect. Default: none.
    #[serde(default)]
    pub proxy_protocol: ProxyProtocolConfig,
    /// What a client may ask of the listener.
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
    /// The values, in the order written.
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

/// Which header names the caller.
#[derive(Clone, Copy, Debug, Default, Deserialize, JsonSchema, PartialEq, Eq)]
#[serde(rename_all = "kebab-case")]
pub enum ForwardedHeader {
    /// `X-Forwarded-For`.
    #[default]
    XForwardedFor,
    /// `Forwarded`, RFC 7239.
    Forwarded,
}

/// Limits of a listener. All of them hold by default.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Eq)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct LimitsConfig {
    /// Connections at once. When there are as many the one that has rested longest is closed for a new one. Default: 10000.
    pub connections: u32,
    /// Connections at once of one peer: an IPv4 address, or a /64 of IPv6. Trusted proxies may have any number; as many as
    /// `connections` are no limit. Default: a quarter of `connections`.
    pub connections_per_peer: Option<u32>,
    /// The bytes of a request's head: request line and header fields. Default: 64KiB.
    pub header_bytes: Size,
    /// The time for TLS handshake and head, from accept or from the head's first byte on. Default: 10s.
    pub header_timeout: Span,
    /// How long a connection may be idle between requests. Default: 75s.
    pub idle_timeout: Span,
    /// The bytes of a request's body. Default: 100MiB.
    pub body_bytes: Size,
    /// How long the next bytes of a request's body may take, as long as the request is not answered. Default: 30s.
    pub body_timeout: Span,
    /// How long a client may take no byte of an answer that waits for it. Default: 30s.
    pub write_timeout: Span,
    /// How long one request may take in all, streams included. Default: 1h.
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
