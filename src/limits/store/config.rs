//! The settings of the store that several gateways share.

use schemars::JsonSchema;
use serde::Deserialize;

use crate::settings::{ConfigDuration, Secret};

/// The store of shared limits: a Redis or a Valkey.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Eq)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct RedisConfig {
    /// The address and the number of the database: `rediss://limits.contoso.example:6380/0`; `redis://` without TLS is for loopback,
    /// or with `insecure: true`. Default port: 6379. For `sentinel` and `cluster`, the first of the addresses to ask.
    pub url: String,
    /// How the servers are found. Default: single.
    #[serde(default)]
    pub mode: RedisModeConfig,
    /// Further addresses to ask, each `host:port`, for `sentinel` and `cluster`. Default: none.
    #[serde(default)]
    pub nodes: Vec<String>,
    /// The name by which sentinels know the primary. Required for `sentinel`.
    pub name: Option<String>,
    /// The user. Default: the server's default user; with `credential`, the object id in the token.
    pub username: Option<String>,
    /// The user's password. Default: none.
    pub password: Option<Secret>,
    /// The credential of the gateway whose Entra token is the password, for managed services; renewed on open connections before it
    /// ends. Default: none.
    pub credential: Option<String>,
    /// The user at the sentinels. Default: their default user.
    pub sentinel_username: Option<String>,
    /// The password at the sentinels. Default: none.
    pub sentinel_password: Option<Secret>,
    /// TLS towards the servers, for `rediss://`.
    #[serde(default)]
    pub tls: RedisTlsConfig,
    /// Allows `redis://`, which shows password and counts to the network, for servers that are not on loopback. Default: false.
    #[serde(default)]
    pub insecure: bool,
    /// The secret that callers are hashed with before they stand in keys: required, and the same on every gateway. At least 16 bytes.
    /// Another secret begins all counts anew.
    pub key_secret: Option<KeySecretConfig>,
    /// The beginning of all keys; only letters, digits, `-`, `_` and `.`. Default: entrada.
    #[serde(default = "entrada")]
    pub prefix: String,
    /// The time that a request waits for the store, from 5ms to 5s. Default: 50ms.
    #[serde(default = "fifty_milliseconds")]
    pub timeout: ConfigDuration,
    /// The calls that a gateway may take ahead for a busy key, in percent of the limit: up to 25. 0 asks for every call. Default: 0.
    #[serde(default)]
    pub lease: u8,
    /// The time after which the permit of a concurrent call ends whose gateway is gone; from 10s to 24h. Default: 1h.
    #[serde(default = "an_hour")]
    pub permit_timeout: ConfigDuration,
    /// Keeps limits here wherever `store` is not written. Default: false.
    #[serde(default)]
    pub default_store: bool,
}

impl RedisConfig {
    /// Returns the files that the settings name.
    pub(crate) fn files(&self) -> impl Iterator<Item = &String> {
        let secret = match &self.key_secret {
            Some(KeySecretConfig::File(file)) => Some(&file.file),
            Some(KeySecretConfig::Text(_)) | None => None,
        };
        secret.into_iter().chain(&self.tls.ca)
    }
}

/// How the servers are found.
#[derive(Clone, Copy, Debug, Default, Deserialize, JsonSchema, PartialEq, Eq)]
#[serde(rename_all = "kebab-case")]
pub enum RedisModeConfig {
    /// There is one.
    #[default]
    Single,
    /// Sentinels know the primary.
    Sentinel,
    /// Each node of a cluster has some of the keys.
    Cluster,
}

/// TLS towards the servers.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq, Eq)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct RedisTlsConfig {
    /// The only trusted certificate authorities (PEM). Default: the system's.
    pub ca: Option<String>,
    /// The name in the certificates of servers that are known by an address alone. Default: the host of `url`.
    pub server_name: Option<String>,
}

/// A secret, or the file that holds it.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Eq)]
#[serde(untagged)]
pub enum KeySecretConfig {
    /// The secret: `{{name}}`.
    Text(Secret),
    /// The file that holds it; line ends at its end are removed.
    File(KeySecretFileConfig),
}

/// The file that holds a secret.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub struct KeySecretFileConfig {
    /// The file.
    pub file: String,
}

/// The store of counts.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema, PartialEq, Eq)]
#[serde(rename_all = "kebab-case")]
pub enum StoreConfig {
    /// In this process; a restart begins with zero.
    Local,
    /// In a Redis or Valkey that several gateways share.
    Redis,
}

/// The treatment of calls while the store does not answer.
#[derive(Clone, Copy, Debug, Default, Deserialize, JsonSchema, PartialEq, Eq)]
#[serde(rename_all = "kebab-case")]
pub enum OnStoreFailureConfig {
    /// Calls are refused.
    #[default]
    Refuse,
    /// Each gateway counts by itself, up to the whole limit.
    Local,
}

fn entrada() -> String {
    "entrada".to_owned()
}

const fn fifty_milliseconds() -> ConfigDuration {
    ConfigDuration(std::time::Duration::from_millis(50))
}

const fn an_hour() -> ConfigDuration {
    ConfigDuration(std::time::Duration::from_hours(1))
}
