//! The settings of a listener.

use schemars::JsonSchema;
use serde::Deserialize;

use super::client_certificates::ClientCertificatesConfig;
use crate::settings::{ConfigDuration, OneOrMany, Size};

/// A server certificate with its key; both are read again when the files change.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Eq)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct TlsConfig {
    /// The certificate chain, PEM, leaf first.
    pub certificate: String,
    /// The private key, PEM.
    pub private_key: String,
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
    pub header_timeout: ConfigDuration,
    /// The idle timeout of a connection between requests. Default: 75s.
    pub idle_timeout: ConfigDuration,
    /// The size limit of a request's body. Default: 100MiB.
    pub body_bytes: Size,
    /// The timeout for the next bytes of a request's body, as long as the request is not answered. Default: 30s.
    pub body_timeout: ConfigDuration,
    /// The timeout for a client that reads nothing of a waiting response. Default: 30s.
    pub write_timeout: ConfigDuration,
    /// The longest duration of one request, streams included. Default: 1h.
    pub max_stream: ConfigDuration,
}

/// The settings of a listener, but for where it listens and whom it trusts.
#[derive(Clone, Copy, Debug)]
pub struct SettingsConfig<'a> {
    /// The limits for clients.
    pub limits: &'a LimitsConfig,
    /// The certificates; absent on a plain listener.
    pub tls: Option<&'a OneOrMany<TlsConfig>>,
    /// Whether clients show certificates of their own.
    pub client_certificates: Option<&'a ClientCertificatesConfig>,
    /// Whether HTTP/2 is spoken besides HTTP/1.1.
    pub http2: bool,
    /// Whether connections begin with a PROXY protocol header.
    pub proxy_protocol: bool,
}

impl Default for LimitsConfig {
    fn default() -> Self {
        Self {
            connections: 10_000,
            connections_per_peer: None,
            header_bytes: Size(64 << 10),
            header_timeout: ConfigDuration::seconds(10),
            idle_timeout: ConfigDuration::seconds(75),
            body_bytes: Size(100 << 20),
            body_timeout: ConfigDuration::seconds(30),
            write_timeout: ConfigDuration::seconds(30),
            max_stream: ConfigDuration::seconds(3_600),
        }
    }
}
