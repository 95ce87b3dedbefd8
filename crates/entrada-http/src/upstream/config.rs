//! The settings of an upstream.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, de::Error};

use super::UpstreamCertificateConfig;
use crate::settings::ConfigDuration;

/// A backend.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Eq)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct UpstreamConfig {
    /// The servers' URLs; a base path is prepended to the request's path.
    pub servers: Vec<String>,
    /// The choice of a server. Default: least-requests.
    #[serde(default)]
    pub balance: BalanceConfig,
    /// The protocol: `auto` asks TLS servers (ALPN) and speaks HTTP/1.1 to others. Default: auto.
    #[serde(default)]
    pub protocol: ProtocolConfig,
    /// The `Host` that the upstream receives: `upstream` (the server's own), `preserve` (the caller's), or a name. Default:
    /// upstream.
    pub host: Option<String>,
    /// The verification of TLS servers.
    #[serde(default)]
    pub tls: UpstreamTlsConfig,
    /// Deadlines.
    #[serde(default)]
    pub timeouts: TimeoutsConfig,
    /// The requests that are retried. Default: none, except that an unreachable server is skipped in favour of the next one.
    pub retries: Option<RetriesConfig>,
    /// Health checks of the servers. Default: none.
    pub health: Option<UpstreamHealthConfig>,
    /// Ejects a server that fails several times in a row. Default: never.
    pub ejection: Option<EjectionConfig>,
    /// Whether the servers treat `/Orders` and `/orders` as one path, as IIS does: routes that lead here then match the same way.
    /// Default: false.
    #[serde(default)]
    pub case_insensitive_paths: bool,
    /// Rewrites responses that name inner hosts: redirects to them lead to the path by which the caller reaches the same resource, and
    /// cookies of their domains become the caller's host's. Default: false.
    #[serde(default)]
    pub rewrite_redirects: bool,
    /// The owner of a connection to the servers. Default: none, it is shared by requests of all callers.
    pub connection_affinity: Option<AffinityConfig>,
}

/// The owner of a connection.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema, PartialEq, Eq)]
#[serde(rename_all = "kebab-case")]
pub enum AffinityConfig {
    /// The client's connection: only its requests use it, with HTTP/1.1, and both end together. Required before NTLM or Negotiate
    /// is allowed, which authenticate a connection.
    PerCaller,
}

/// The choice of a server.
#[derive(Clone, Copy, Debug, Default, Deserialize, JsonSchema, PartialEq, Eq)]
#[serde(rename_all = "kebab-case")]
pub enum BalanceConfig {
    /// The server with the fewest requests in progress.
    #[default]
    LeastRequests,
    /// Servers in turn.
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

/// The verification of TLS servers.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq, Eq)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct UpstreamTlsConfig {
    /// The only trusted certificate authorities (PEM). Default: the system's.
    pub ca: Option<String>,
    /// The name that the certificate must contain. Default: the server's host.
    pub server_name: Option<String>,
    /// The gateway's own certificate, for servers that request one. Default: none.
    pub client_certificate: Option<UpstreamCertificateConfig>,
}

/// Deadlines towards an upstream.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema, PartialEq, Eq)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct TimeoutsConfig {
    /// For the connection, TLS included. Default: 2s.
    pub connect: ConfigDuration,
    /// From the request to the response head. Default: 30s.
    pub response: ConfigDuration,
    /// The time for which an idle connection is kept. Default: 90s.
    pub idle: ConfigDuration,
}

impl Default for TimeoutsConfig {
    fn default() -> Self {
        Self { connect: ConfigDuration::seconds(2), response: ConfigDuration::seconds(30), idle: ConfigDuration::seconds(90) }
    }
}

/// Retries: of requests whose method is idempotent (RFC 9110, section 9.2.2) and whose body was not started, and of any request
/// that was never sent.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Eq)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct RetriesConfig {
    /// The number of retries: 1 to 5. Default: 1.
    #[serde(default = "one")]
    pub attempts: u32,
    /// The conditions of a retry: `connect-failure`, `reset-before-response`, `timeout`, or a status such as `"503"`. Default:
    /// connect-failure and reset-before-response.
    #[serde(default = "RetryCondition::defaults")]
    pub when: Vec<RetryCondition>,
    /// The largest share of all requests that may be retries. Default: 20%.
    #[serde(default)]
    pub budget: Percent,
}

/// The condition of a retry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RetryCondition {
    /// No connection could be made to any server.
    ConnectFailure,
    /// The connection ended before a response began.
    ResetBeforeResponse,
    /// There was no response in time.
    Timeout,
    /// The response has this status: 400 to 599.
    Status(u16),
}

/// A percentage: `20%`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Percent(pub u32);

/// Checks of a server: `GET` of a path, with a connection of its own. It passes with a status from 200 to 399.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Eq)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct UpstreamHealthConfig {
    /// The path, below the server's base path.
    pub path: String,
    /// The interval, and the timeout of a response. At least 100ms. Default: 5s.
    #[serde(default = "five_seconds")]
    pub interval: ConfigDuration,
    /// The number of checks in a row that must pass before a server returns to service. Default: 2.
    #[serde(default = "two")]
    pub healthy: u32,
    /// The number of checks in a row that must fail before a server is taken out of service. Default: 3.
    #[serde(default = "three")]
    pub unhealthy: u32,
}

/// Ejects a server that fails several times in a row: no connection, no response, or 502, 503 or 504. Only while others are in
/// service; the last one is never ejected.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema, PartialEq, Eq)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct EjectionConfig {
    /// The number of failures in a row. Default: 5.
    pub consecutive_failures: u32,
    /// The duration of the ejection. Default: 30s.
    pub r#for: ConfigDuration,
}

impl Default for EjectionConfig {
    fn default() -> Self {
        Self { consecutive_failures: 5, r#for: ConfigDuration::seconds(30) }
    }
}

impl Default for Percent {
    fn default() -> Self {
        Self(20)
    }
}

const CONDITION_PATTERN: &str = "^(connect-failure|reset-before-response|timeout|[45][0-9][0-9])$";
const PERCENT_PATTERN: &str = "^([0-9]|[1-9][0-9]|100)%$";

impl RetryCondition {
    fn defaults() -> Vec<Self> {
        vec![Self::ConnectFailure, Self::ResetBeforeResponse]
    }

    /// Reads the condition.
    pub fn parse(text: &str) -> Option<Self> {
        Some(match text {
            "connect-failure" => Self::ConnectFailure,
            "reset-before-response" => Self::ResetBeforeResponse,
            "timeout" => Self::Timeout,
            _ => Self::Status(text.parse().ok().filter(|status| (400..600).contains(status) && text.len() == 3)?),
        })
    }
}

impl Percent {
    /// Reads the percentage.
    pub fn parse(text: &str) -> Option<Self> {
        let number = text.strip_suffix('%')?;
        number.parse().ok().filter(|share: &u32| *share <= 100 && share.to_string() == number).map(Self)
    }
}

impl<'de> Deserialize<'de> for RetryCondition {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Cow::<str>::deserialize(deserializer)?;
        Self::parse(&text).ok_or_else(|| {
            D::Error::custom(format!(
                "`{text}` is none of connect-failure, reset-before-response, timeout, or a status as \"503\""
            ))
        })
    }
}

impl<'de> Deserialize<'de> for Percent {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Cow::<str>::deserialize(deserializer)?;
        Self::parse(&text).ok_or_else(|| D::Error::custom(format!("`{text}` is not a share; write it as 20%")))
    }
}

impl JsonSchema for RetryCondition {
    fn schema_name() -> Cow<'static, str> {
        "RetryCondition".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "pattern": CONDITION_PATTERN, "description": "connect-failure, reset-before-response, timeout, or a status as \"503\"." })
    }
}

impl JsonSchema for Percent {
    fn schema_name() -> Cow<'static, str> {
        "Percent".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "pattern": PERCENT_PATTERN, "description": "A share: 20%." })
    }
}

const fn one() -> u32 {
    1
}

const fn two() -> u32 {
    2
}

const fn three() -> u32 {
    3
}

const fn five_seconds() -> ConfigDuration {
    ConfigDuration::seconds(5)
}
