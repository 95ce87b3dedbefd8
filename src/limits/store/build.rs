//! The store, built from its settings.

use std::{fs, net::IpAddr, path::Path, sync::Arc};

use aws_lc_rs::hmac;
use rustls::RootCertStore;
use rustls_pki_types::ServerName;
use secrecy::{ExposeSecret as _, SecretString};

use super::{
    Identity, Store,
    config::{KeySecretConfig, OnStoreFailureConfig, RedisConfig, RedisModeConfig},
    logins::{LoginSource, SCOPE},
};
use crate::{
    base::clock::Clock,
    credentials::Credentials,
    redis::{Endpoint, Login, Mode, Settings, Tls},
    settings::{Faults, Lint, Place, Secret, Secrets},
    upstream::tls_client,
};

/// The fewest bytes of the secret that keys are hashed with.
const SHORTEST_SECRET: usize = 16;

/// The context in which a store is built.
#[derive(Clone, Copy, Debug)]
pub(crate) struct StoreContext<'a> {
    /// The folder that file names are relative to.
    pub(crate) base: &'a Path,
    /// The values of secret named values.
    pub(crate) secrets: &'a Secrets,
    /// The gateway's own credentials.
    pub(crate) credentials: &'a Credentials,
    /// The clock.
    pub(crate) clock: &'a Clock,
    /// The store of the previous config.
    pub(crate) previous: Option<&'a Arc<Store>>,
}

impl Store {
    /// Builds the store, or reports faults. That of the previous config is taken over if nothing has changed, with its connections.
    pub(crate) fn build(config: &RedisConfig, with: StoreContext<'_>, place: &Place, faults: &mut Faults) -> Option<Arc<Self>> {
        let before = faults.errors();
        let address = Address::read(config, place, faults);
        let seeds = seeds(config, address.as_ref(), place, faults);
        check_numbers(config, place, faults);
        let login = login(config, with, place, faults);
        let sentinel =
            config.sentinel_password.as_ref().and_then(|secret| reveal(secret, with, &place.key("sentinel-password"), faults));
        let key_secret = key_secret(config, with, place, faults);
        let tls = match &address {
            Some(address) if address.tls => Some(tls(config, &address.endpoint, with.base, place, faults)?),
            _ => None,
        };
        lint(config, &seeds, address.as_ref(), place, faults);
        let (address, login, key_secret) = (address?, login?, key_secret?);
        if faults.errors() > before {
            return None;
        }
        let identity = Identity {
            config: config.clone(),
            login: login.clone(),
            sentinel_password: sentinel.clone(),
            key_secret: hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key_secret.expose_secret().as_bytes()), b"")
                .as_ref()
                .into(),
            authorities: tls.as_ref().map(|(_, roots)| roots.clone()),
        };
        if let Some(previous) = with.previous.filter(|previous| previous.identity.same_as(&identity)) {
            return Some(previous.clone());
        }
        let settings = Settings {
            mode: match config.mode {
                RedisModeConfig::Single => Mode::Single,
                RedisModeConfig::Sentinel => Mode::Sentinel(config.name.clone()?.into()),
                RedisModeConfig::Cluster => Mode::Cluster,
            },
            seeds,
            tls: tls.map(|(tls, _)| tls),
            database: address.database,
            logins: Arc::new(login),
            sentinel_login: sentinel.map(|password| Login {
                user: config.sentinel_username.as_deref().map(Into::into),
                password: Arc::new(password),
            }),
            timeout: config.timeout.0,
        };
        let key = hmac::Key::new(hmac::HMAC_SHA256, key_secret.expose_secret().as_bytes());
        Some(Arc::new(Self::new(identity, settings, key)))
    }
}

/// The URL, taken apart.
struct Address {
    tls: bool,
    endpoint: Endpoint,
    database: u32,
}

impl Address {
    fn read(config: &RedisConfig, place: &Place, faults: &mut Faults) -> Option<Self> {
        let place = place.key("url");
        let cure = "write it as rediss://limits.contoso.example:6380/0";
        let url = url::Url::parse(&config.url).ok().filter(|url| matches!(url.scheme(), "redis" | "rediss"));
        let Some(url) = url else {
            faults.error(&place, "the store's address is not a `redis://` or `rediss://` URL", cure);
            return None;
        };
        if !url.username().is_empty() || url.password().is_some() {
            faults.error(&place, "the URL holds a user or a password", "write `username` and `password` beside it");
            return None;
        }
        if url.query().is_some() || url.fragment().is_some() {
            faults.error(&place, "the URL has a query or a fragment, which means nothing here", cure);
            return None;
        }
        let port = url.port().unwrap_or(6379);
        let endpoint = url.host_str().and_then(|host| Endpoint::parse(&format!("{host}:{port}")));
        let database = match url.path().trim_start_matches('/') {
            "" => Some(0),
            number => number.parse().ok(),
        };
        let (Some(endpoint), Some(database)) = (endpoint, database) else {
            faults.error(&place, "the URL has no host, or its path is not the number of a database", cure);
            return None;
        };
        if config.mode == RedisModeConfig::Cluster && database != 0 {
            faults.error(&place, "a cluster has no other database than 0", "leave the number out");
        }
        Some(Self { tls: url.scheme() == "rediss", endpoint, database })
    }
}

fn seeds(config: &RedisConfig, address: Option<&Address>, place: &Place, faults: &mut Faults) -> Vec<Endpoint> {
    let mut seeds: Vec<_> = address.map(|address| address.endpoint.clone()).into_iter().collect();
    for (index, node) in config.nodes.iter().enumerate() {
        match Endpoint::parse(node) {
            Some(node) => seeds.push(node),
            None => faults.error(
                &place.key("nodes").index(index),
                "the node is not an address with a port",
                "write it as limits-2.contoso.example:6379",
            ),
        }
    }
    match (config.mode, &config.name) {
        (RedisModeConfig::Sentinel, None) => {
            faults.error(
                place,
                "`mode: sentinel` needs the name of the primary",
                "write `name`, as in `sentinel monitor NAME …`",
            );
        }
        (RedisModeConfig::Single | RedisModeConfig::Cluster, Some(_)) => {
            faults.error(
                &place.key("name"),
                "only sentinels know a primary by its name",
                "write `mode: sentinel`, or leave `name` out",
            );
        }
        _ => {}
    }
    if config.mode == RedisModeConfig::Single && !config.nodes.is_empty() {
        let cure = "write `mode: sentinel` or `mode: cluster`, or leave `nodes` out";
        faults.error(&place.key("nodes"), "a single server has no further nodes", cure);
    }
    if config.mode != RedisModeConfig::Sentinel {
        for (key, written) in
            [("sentinel-username", config.sentinel_username.is_some()), ("sentinel-password", config.sentinel_password.is_some())]
        {
            if written {
                faults.error(&place.key(key), "no sentinel is asked", "write `mode: sentinel`, or leave this out");
            }
        }
    }
    if address.is_some_and(|address| !address.tls) && !config.insecure && !seeds.iter().all(is_loopback) {
        let message = "`redis://` shows the password and the counts to the network";
        faults.error(&place.key("url"), message, "write `rediss://`, or `insecure: true` where the network itself protects them");
    }
    seeds
}

fn is_loopback(node: &Endpoint) -> bool {
    &*node.host == "localhost" || node.host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

fn check_numbers(config: &RedisConfig, place: &Place, faults: &mut Faults) {
    let within = |value: std::time::Duration, least: u64, most: u64| (least..=most).contains(&(value.as_millis() as u64));
    if !within(config.timeout.0, 5, 5_000) {
        faults.error(
            &place.key("timeout"),
            "the time is too short or too long for a request to wait",
            "write one from 5ms to 5s",
        );
    }
    if !within(config.permit_timeout.0, 10_000, 86_400_000) {
        let message = "the time is too short for a permit to be renewed, or too long to wait for one that is lost";
        faults.error(&place.key("permit-timeout"), message, "write one from 10s to 24h");
    }
    if config.lease > 25 {
        let message = "few gateways could hold the whole limit without using it";
        faults.error(&place.key("lease"), message, "write a number up to 25, in percent of the limit");
    }
    let fits = |letter: char| letter.is_ascii_alphanumeric() || matches!(letter, '-' | '_' | '.');
    if config.prefix.is_empty() || config.prefix.len() > 64 || !config.prefix.chars().all(fits) {
        faults.error(
            &place.key("prefix"),
            "the prefix is empty, too long, or has other letters",
            "write letters, digits, `-`, `_` and `.`",
        );
    }
}

fn login(config: &RedisConfig, with: StoreContext<'_>, place: &Place, faults: &mut Faults) -> Option<LoginSource> {
    let user: Option<Box<str>> = config.username.as_deref().map(Into::into);
    match (&config.password, &config.credential) {
        (Some(_), Some(_)) => {
            faults.error(place, "both `password` and `credential` are written", "write one of them");
            None
        }
        (Some(password), None) => {
            let place = place.key("password");
            if password.plain().is_some() {
                let message = "the store's password stands in the config itself";
                faults.warning(Lint::ClientSecretInConfig, &place, message, "name a secret from a file, as \"{{name}}\"");
            }
            match password.live(with.secrets) {
                Ok(password) => Some(LoginSource::Password { user, password, clock: with.clock.clone() }),
                Err(unknown) => {
                    faults.error(&place, unknown.to_string(), unknown.cure());
                    None
                }
            }
        }
        (None, Some(name)) => {
            let place = place.key("credential");
            let Some(credential) = with.credentials.find(name) else {
                // One that could not be built has said so.
                if !with.credentials.is_broken(name) {
                    faults.error(&place, format!("there is no credential `{name}`"), "name one of `credentials`");
                }
                return None;
            };
            let slot = credential.slot(SCOPE);
            if slot.is_none() {
                let message = format!("the credential `{name}` has no tenant of its own, so no token is issued to it");
                faults.error(&place, message, "name one with a `tenant`");
            }
            Some(LoginSource::Token { user, slot: slot? })
        }
        (None, None) => {
            if config.username.is_some() {
                faults.error(&place.key("username"), "a user without a password", "write `password` or `credential`, too");
            }
            Some(LoginSource::None)
        }
    }
}

fn key_secret(config: &RedisConfig, with: StoreContext<'_>, place: &Place, faults: &mut Faults) -> Option<SecretString> {
    let cure = "write `key-secret: { file: /run/secrets/limit-keys }` with at least 16 random bytes, the same on every gateway";
    let Some(written) = &config.key_secret else {
        faults.error(place, "`key-secret` is missing: without it the keys of the store would tell who calls", cure);
        return None;
    };
    let place = place.key("key-secret");
    let secret = match written {
        KeySecretConfig::Text(secret) => {
            if secret.plain().is_some() {
                let message = "the secret for the store's keys stands in the config itself";
                faults.warning(Lint::ClientSecretInConfig, &place, message, "name a file: `key-secret: { file: … }`");
            }
            reveal(secret, with, &place, faults)?
        }
        KeySecretConfig::File(file) => match fs::read_to_string(with.base.join(&file.file)) {
            Ok(text) => SecretString::from(text.trim_end_matches(['\r', '\n'])),
            Err(error) => {
                faults.error(&place.key("file"), format!("`{}` cannot be read: {error}", file.file), cure);
                return None;
            }
        },
    };
    if secret.expose_secret().len() < SHORTEST_SECRET {
        faults.error(&place, "the secret is too short: callers could be guessed from the keys", cure);
        return None;
    }
    Some(secret)
}

fn reveal(secret: &Secret, with: StoreContext<'_>, place: &Place, faults: &mut Faults) -> Option<SecretString> {
    secret.reveal(with.secrets).map_err(|unknown| faults.error(place, unknown.to_string(), unknown.cure())).ok()
}

fn tls(
    config: &RedisConfig,
    at: &Endpoint,
    base: &Path,
    place: &Place,
    faults: &mut Faults,
) -> Option<(Tls, Arc<RootCertStore>)> {
    let place = place.key("tls");
    let name = config.tls.server_name.as_deref().unwrap_or(&at.host);
    let Ok(name) = ServerName::try_from(name.to_owned()) else {
        faults.error(
            &place.key("server-name"),
            format!("`{name}` is not a host name"),
            "write the name in the servers' certificates",
        );
        return None;
    };
    let (config, roots) = tls_client(config.tls.ca.as_deref(), base, &place, faults)?;
    Some((Tls { config, name }, roots))
}

fn lint(config: &RedisConfig, seeds: &[Endpoint], address: Option<&Address>, place: &Place, faults: &mut Faults) {
    let in_clear = address.is_some_and(|address| !address.tls) && !seeds.iter().all(is_loopback);
    if in_clear && config.credential.is_some() {
        let message = "the gateway's token is sent to the store without TLS";
        faults.warning(Lint::TokenSentInClear, &place.key("url"), message, "write `rediss://`");
    } else if in_clear && config.password.is_some() {
        let message = "the password is sent to the store without TLS";
        faults.warning(Lint::SecretSentInClear, &place.key("url"), message, "write `rediss://`");
    }
}

/// Warns of a quota that is kept in the process, always or while the store fails.
pub(crate) fn lint_quota(on_failure: Option<OnStoreFailureConfig>, place: &Place, faults: &mut Faults) {
    match on_failure {
        None => {
            let message = "the quota is kept in the process: a restart begins it anew, and each gateway counts by itself";
            faults.warning(Lint::QuotaLocal, place, message, "nothing, where that is meant; else `store: redis`");
        }
        Some(OnStoreFailureConfig::Local) => {
            let message = "while the store fails, each gateway admits the whole quota by itself";
            faults.warning(
                Lint::QuotaLocal,
                &place.key("on-store-failure"),
                message,
                "nothing, where that is meant; else `refuse`",
            );
        }
        Some(OnStoreFailureConfig::Refuse) => {}
    }
}
