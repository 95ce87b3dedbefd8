//! The development tenant: plays Entra ID on loopback, so that tests, the demo and a laptop need no cloud.
//!
//! Its metadata, key sets, tokens and error answers have Entra's shapes, and its token endpoint truly verifies what clients
//! send, in every form that Microsoft's own libraries send it in. Two things differ, on purpose:
//!
//! - Entra issues version 1 tokens under another host (`https://sts.windows.net/{tid}/`) than the one that serves the metadata.
//!   This tenant has one host only, so its version 1 issuer is `{base}/{tid}/`; version 2 is `{base}/{tid}/v2.0` as there.
//!   Whoever reads the issuer from the metadata, as one must, sees no difference.
//! - `POST /dev/…` is the tenant's own desk: it registers apps and users, mints tokens with any claims or defects, rolls keys,
//!   and fails or slows down on request. It answers callers on this machine alone.
//!
//! ```no_run
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! use entrada::dev_tenant::{DevTenant, Options};
//!
//! let tenant = DevTenant::start(Options::default()).await?;
//! let token = tenant.token().user("nia").audience("api://orders").scopes(["Orders.Read"]).sign();
//! let expired = tenant.token().audience("api://orders").expired().sign();
//! # Ok(()) }
//! ```

mod assertion;
mod defaults;
mod desk;
pub mod directory;
mod graph;
pub mod keys;
mod managed_identity;
mod metadata;
mod mint;
mod play;
mod problem;
mod registration;
mod server;
mod token;
mod vault;

#[cfg(test)]
mod tests;

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard},
};

pub use directory::{App, FederatedCredential, Tenant, User};
pub use keys::SigningKey;
pub use managed_identity::ManagedIdentity;
pub use mint::{DEFAULT_AUDIENCE, DEFAULT_CLIENT, MintError, PERSONAL_TENANT, TokenBuilder};
pub use play::{Fault, Hold, Recorded};
use tokio_util::sync::{CancellationToken, DropGuard};

use self::{directory::Directory, keys::KeyRing, play::Play};
use crate::base::{clock::Clock, lock::lock};

/// How a development tenant is started.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where it listens. Default: 127.0.0.1, any free port.
    pub address: SocketAddr,
    /// Whether it speaks TLS, with a certificate authority of its own ([`DevTenant::ca_pem`]).
    pub tls: bool,
    /// The name in its URLs instead of the address. Default: the address.
    pub host: Option<String>,
    /// Whether it may listen beyond loopback. It hands tokens to anyone who asks, so that is seldom wise.
    pub allow_remote: bool,
    /// Further base URLs that stand for it in the `aud` of client assertions: Entra answers under several names too.
    pub aliases: Vec<String>,
    /// Whether its keys are shared with no other tenant of the process. Making a key takes about a tenth of a second.
    pub own_keys: bool,
    /// Where the time comes from.
    pub clock: Clock,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            address: SocketAddr::from(([127, 0, 0, 1], 0)),
            tls: false,
            host: None,
            allow_remote: false,
            aliases: Vec::new(),
            own_keys: false,
            clock: Clock::system(),
        }
    }
}

/// Why a development tenant could not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The address is reachable from other machines.
    #[error(
        "{0} is reachable from other machines, and the development tenant gives tokens to anyone; say --allow-remote if that is meant"
    )]
    NotLoopback(SocketAddr),
    /// The address cannot be had.
    #[error("cannot listen on {0}")]
    Bind(SocketAddr, #[source] std::io::Error),
    /// No key.
    #[error("cannot make the signing keys")]
    Key(#[from] keys::KeyError),
    /// No TLS.
    #[error("cannot make the TLS certificate: {0}")]
    Tls(String),
}

/// What the endpoints share.
#[derive(Debug)]
pub(crate) struct State {
    /// `http://127.0.0.1:7070`, without a slash at the end.
    base: String,
    aliases: Vec<String>,
    clock: Clock,
    directory: Mutex<Directory>,
    keys: Mutex<KeyRing>,
    play: Arc<Play>,
    vault: Mutex<vault::Vault>,
    machine: Mutex<managed_identity::Machine>,
}

impl State {
    fn directory(&self) -> MutexGuard<'_, Directory> {
        lock(&self.directory)
    }

    fn keys(&self) -> MutexGuard<'_, KeyRing> {
        lock(&self.keys)
    }

    fn vault(&self) -> MutexGuard<'_, vault::Vault> {
        lock(&self.vault)
    }

    fn machine(&self) -> MutexGuard<'_, managed_identity::Machine> {
        lock(&self.machine)
    }

    fn issuer_v1(&self, tenant: &str) -> String {
        format!("{}/{tenant}/", self.base)
    }

    fn issuer_v2(&self, tenant: &str) -> String {
        format!("{}/{tenant}/v2.0", self.base)
    }
}

/// A running development tenant. Dropping it ends it.
#[derive(Debug)]
pub struct DevTenant {
    state: Arc<State>,
    address: SocketAddr,
    ca_pem: Option<String>,
    stop: CancellationToken,
    _ends_with_this: DropGuard,
}

impl DevTenant {
    /// Starts one, with the [usual registrations](Self::apps).
    ///
    /// # Errors
    ///
    /// Where the address cannot be had or is not this machine's alone, or no key can be made.
    pub async fn start(options: Options) -> Result<Self, StartError> {
        if !options.address.ip().is_loopback() && !options.allow_remote {
            return Err(StartError::NotLoopback(options.address));
        }
        let listener =
            tokio::net::TcpListener::bind(options.address).await.map_err(|error| StartError::Bind(options.address, error))?;
        let address = listener.local_addr().map_err(|error| StartError::Bind(options.address, error))?;
        let own_keys = options.own_keys;
        // Half a second of arithmetic; the other tasks of the thread need not wait for it.
        let keys = tokio::task::spawn_blocking(move || KeyRing::new(own_keys))
            .await
            .map_err(|error| StartError::Tls(error.to_string()))??;
        let host = match options.host {
            Some(host) => format!("{host}:{}", address.port()),
            None => address.to_string(),
        };
        let base = format!("{}://{host}", if options.tls { "https" } else { "http" });
        let tls = if options.tls { Some(server::tls(&host).map_err(StartError::Tls)?) } else { None };
        let state = Arc::new(State {
            base,
            aliases: options.aliases,
            clock: options.clock,
            directory: Mutex::new(defaults::directory()),
            keys: Mutex::new(keys),
            play: Arc::default(),
            vault: Mutex::default(),
            machine: Mutex::default(),
        });
        let (acceptor, ca_pem) = tls.map(|tls| (tls.acceptor, tls.ca_pem)).unzip();
        let stop = CancellationToken::new();
        tokio::spawn(server::serve(listener, acceptor, server::router(&state), stop.clone()));
        Ok(Self { state, address, ca_pem, _ends_with_this: stop.clone().drop_guard(), stop })
    }

    /// Where it listens.
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// What stands where `https://login.microsoftonline.com` would: scheme, host and port.
    pub fn base_url(&self) -> &str {
        &self.state.base
    }

    /// The certificate authority behind its TLS certificate, PEM.
    pub fn ca_pem(&self) -> Option<&str> {
        self.ca_pem.as_deref()
    }

    /// The id of the first tenant.
    pub fn tenant_id(&self) -> String {
        self.state.directory().home(None)
    }

    /// The token endpoint of a tenant, version 2.
    pub fn token_endpoint(&self, tenant: &str) -> String {
        format!("{}/{tenant}/oauth2/v2.0/token", self.state.base)
    }

    /// The issuer of a tenant's version 1 tokens.
    pub fn issuer_v1(&self, tenant: &str) -> String {
        self.state.issuer_v1(tenant)
    }

    /// The issuer of a tenant's version 2 tokens.
    pub fn issuer_v2(&self, tenant: &str) -> String {
        self.state.issuer_v2(tenant)
    }

    /// A token in the making.
    pub fn token(&self) -> TokenBuilder {
        TokenBuilder::new(self.state.clone())
    }

    /// Adds a tenant, or replaces the one of the same id.
    pub fn add_tenant(&self, tenant: Tenant) {
        let mut directory = self.state.directory();
        directory.tenants.retain(|other| other.id != tenant.id);
        directory.tenants.push(tenant);
    }

    /// Adds a user, or replaces the one of the same name.
    pub fn add_user(&self, user: User) {
        self.state.directory().put_user(user);
    }

    /// Registers an app, or replaces its registration.
    pub fn register(&self, app: App) {
        self.state.directory().put_app(app);
    }

    /// Changes a registration in place, or one made for the purpose where there is none.
    pub fn update_app(&self, client_id: &str, change: impl FnOnce(App) -> App) {
        let mut directory = self.state.directory();
        let app = directory.app(client_id).cloned().unwrap_or_else(|| App::new(client_id));
        directory.put_app(change(app));
    }

    /// What is registered.
    pub fn apps(&self) -> Vec<App> {
        self.state.directory().apps.clone()
    }

    /// Signs with a key that nobody has seen yet; the older ones stay published. Returns the new key's id.
    ///
    /// # Panics
    ///
    /// Where the cryptographic library makes no key.
    pub fn roll_keys(&self) -> String {
        match self.state.keys().roll() {
            Ok(key) => key.kid().to_owned(),
            Err(error) => panic!("{error}"),
        }
    }

    /// Publishes only the key that signs now.
    pub fn retire_keys(&self) {
        self.state.keys().retire();
    }

    /// The key that signs now.
    pub fn signing_key(&self) -> Arc<SigningKey> {
        self.state.keys().current()
    }

    /// The claims of a token that one of the published keys signed and that has not expired; `None` for any other text.
    pub fn verify(&self, token: &str) -> Option<serde_json::Map<String, serde_json::Value>> {
        let token = assertion::Assertion::read(token).ok()?;
        let keys = self.state.keys().published.clone();
        let expires = token.claims.get("exp").and_then(serde_json::Value::as_u64)?;
        let good = expires > self.state.clock.unix_seconds() && keys.iter().any(|key| token.is_signed_by(key));
        good.then_some(token.claims)
    }

    /// Plays a fault until it has been played often enough, or [`recover`](Self::recover).
    pub fn fail(&self, fault: Fault) {
        self.state.play.fail(fault);
    }

    /// Ends all faults.
    pub fn recover(&self) {
        self.state.play.recover();
    }

    /// Lets requests whose path contains `path` wait until what is returned is dropped.
    pub fn hold(&self, path: &str) -> Hold {
        self.state.play.hold(path)
    }

    /// How many requests came for paths that end with `path` (`/keys`, `/token`, `/openid-configuration`), faults included.
    pub fn calls(&self, path: &str) -> usize {
        self.state.play.requests(path).len()
    }

    /// Those requests, as they came in. The last few thousand are kept.
    pub fn requests(&self, path: &str) -> Vec<Recorded> {
        self.state.play.requests(path)
    }

    /// Forgets which requests came.
    pub fn forget_calls(&self) {
        self.state.play.forget();
    }

    /// Waits until so many requests have come in for paths that end with `path`.
    pub async fn arrived(&self, path: &str, count: usize) {
        let mut arrivals = self.state.play.arrivals();
        while self.calls(path) < count {
            if arrivals.changed().await.is_err() {
                return;
            }
        }
    }

    /// Ends it and refuses connections from now on.
    pub fn stop(&self) {
        self.stop.cancel();
    }

    /// Waits until it was stopped.
    pub async fn stopped(&self) {
        self.stop.cancelled().await;
    }
}
