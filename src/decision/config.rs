//! The settings of a listener that answers questions of other proxies.

use schemars::JsonSchema;
use serde::Deserialize;

use crate::{address::AddressEntryConfig, listener::ClientCertificatesConfig};

/// Answers the questions of another proxy instead of serving requests. `peers`, `client-certificates` or both say which proxies may ask.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Eq)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct DecidesConfig {
    /// How the proxy asks.
    pub dialect: DialectConfig,
    /// The addresses of the proxies that may ask: addresses, CIDRs, ranges or names of address sets. Default: those with a certificate.
    #[serde(default)]
    pub peers: Vec<AddressEntryConfig>,
    /// The certificates of the proxies that may ask. Default: none is asked for.
    pub client_certificates: Option<ClientCertificatesConfig>,
    /// The routes whose requests are decided, by name. Default: those with `decide-only`.
    pub routes: Option<Vec<String>>,
    /// Hands tokens and passwords of the gateway's own (`credential`, `on-behalf-of`, `basic`) to the proxy, which sends them on. Default:
    /// false.
    #[serde(default)]
    pub carry_tokens: bool,
}

/// How a proxy asks.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema, PartialEq, Eq)]
#[serde(rename_all = "kebab-case")]
pub enum DialectConfig {
    /// Envoy's external authorization over gRPC; also Envoy Gateway, Istio, Contour.
    EnvoyGrpc,
    /// Envoy's external authorization over HTTP.
    EnvoyHttp,
    /// Traefik's `forwardAuth`; also HAProxy with the script of `config/decisions`.
    Traefik,
    /// Caddy's `forward_auth`.
    Caddy,
    /// The `auth_request` of nginx.
    Nginx,
}

impl DialectConfig {
    /// Returns its name in the config.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::EnvoyGrpc => "envoy-grpc",
            Self::EnvoyHttp => "envoy-http",
            Self::Traefik => "traefik",
            Self::Caddy => "caddy",
            Self::Nginx => "nginx",
        }
    }
}
