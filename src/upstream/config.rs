//! The settings of an upstream, as written.

use schemars::JsonSchema;
use serde::Deserialize;

use crate::config::Span;

/// A backend.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Eq)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct UpstreamConfig {
    /// The servers' URLs; a base path is put before the request's path.
    pub servers: Vec<String>,
    /// How a server is chosen. Default: least-requests.
    #[serde(default)]
    pub balance: BalanceConfig,
    /// The protocol: `auto` asks TLS servers (ALPN) and speaks HTTP/1.1 to others. Default: auto.
    #[serde(default)]
    pub protocol: ProtocolConfig,
    /// The `Host` that the upstream sees: `upstream` (the server's own), `preserve` (the caller's), or a name. Default: upstream.
    pub host: Option<String>,
    /// How TLS servers are verified.
    #[serde(default)]
    pub tls: UpstreamTlsConfig,
    /// Deadlines.
    #[serde(default)]
    pub timeouts: TimeoutsConfig,
}

/// How a server is chosen.
#[derive(Clone, Copy, Debug, Default, Deserialize, JsonSchema, PartialEq, Eq)]
#[serde(rename_all = "kebab-case")]
pub enum BalanceConfig {
    /// The server with the fewest requests under way.
    #[default]
    LeastRequests,
    /// One after the other.
    RoundRobin,
}

/// The protocol towards the servers.
#[derive(Clone, Copy, Debug, Default, Deserialize, JsonSchema, PartialEq, Eq)]
#[serde(rename_all = "kebab-case")]
pub enum ProtocolConfig {
    /// HTTP/2 where a TLS server offers it, HTTP/1.1 otherwise.
    #[default]
    Auto,
    /// HTTP/1.1.
    Http1,
    /// HTTP/2; h2c when the scheme is http.
    Http2,
}

/// How TLS servers are verified.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq, Eq)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct UpstreamTlsConfig {
    /// Certificate authorities (PEM) that alone are trusted. Default: the system's.
    pub ca: Option<String>,
    /// The name that the certificate must bear. Default: the server's host.
    pub server_name: Option<String>,
}

/// Deadlines towards an upstream.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema, PartialEq, Eq)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct TimeoutsConfig {
    /// For the connection, TLS included. Default: 2s.
    pub connect: Span,
    /// From the request to the response head. Default: 30s.
    pub response: Span,
    /// How long an idle connection is kept. Default: 90s.
    pub idle: Span,
}

impl Default for TimeoutsConfig {
    fn default() -> Self {
        Self { connect: Span::seconds(2), response: Span::seconds(30), idle: Span::seconds(90) }
    }
}
