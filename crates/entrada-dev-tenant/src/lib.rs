//! The development tenant: simulates Entra ID on loopback, so that tests, the demo and a laptop need no cloud.
//!
//! Its metadata, key sets, tokens and error answers have Entra's shapes, and its token endpoint really verifies what clients
//! send, in every form that Microsoft's own libraries send it in. Two things differ, on purpose:
//!
//! - Entra issues version 1 tokens under another host (`https://sts.windows.net/{tid}/`) than the one that serves the metadata.
//!   This tenant has one host only, so its version 1 issuer is `{base}/{tid}/`; version 2 is `{base}/{tid}/v2.0` as there.
//!   A client that reads the issuer from the metadata, as it must, sees no difference.
//! - `POST /dev/…` controls the tenant: it registers apps and users, mints tokens with any claims or defects, rolls keys,
//!   and fails or slows down on request. It answers callers on this machine alone.
//!
//! ```no_run
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! use entrada_dev_tenant::{DevTenant, Options};
//!
//! let tenant = DevTenant::start(Options::default()).await?; let token =
//! tenant.token().user("nia").audience("api://orders").scopes(["Orders.Read"]).sign(); let expired =
//! tenant.token().audience("api://orders").expired().sign();
//! # Ok(()) }
//! ```

mod assertion;
mod control;
mod defaults;
pub mod directory;
mod graph;
mod interference;
pub mod keys;
mod managed_identity;
mod metadata;
mod mint;
mod monitor;
mod problem;
mod registration;
mod server;
mod sign_in;
mod token;
mod vault;

#[cfg(test)]
mod tests;

use entrada_base::{self as base};
use entrada_x509 as certificate;
use std::{
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard},
};

pub use directory::{App, FederatedCredential, Tenant, User};
pub use interference::{Fault, Hold, Recorded};
pub use keys::SigningKey;
pub use managed_identity::ManagedIdentity;
pub use mint::{ClientAuthentication, DEFAULT_AUDIENCE, DEFAULT_CLIENT, MintError, PERSONAL_TENANT, TokenBuilder};
pub use monitor::Rule;
use tokio_util::sync::{CancellationToken, DropGuard};

use self::{directory::Directory, interference::Interference, keys::KeyRing};
use crate::base::{clock::Clock, lock::lock};

/// The options of a development tenant.
#[derive(Clone, Debug)]
pub struct Options {
    /// The address to listen on. Default: 127.0.0.1, any free port.
    pub address: SocketAddr,
    /// Enables TLS, with a certificate authority of its own ([`DevTenant::ca_pem`]).
    pub tls: bool,
    /// The name in its URLs instead of the address. Default: the address.
    pub host: Option<String>,
    /// Allows listening beyond loopback. The tenant gives tokens to anyone who asks, so that is rarely wise.
    pub allow_remote: bool,
    /// Further base URLs that are accepted as `aud` of client assertions: Entra has several names too.
    pub aliases: Vec<String>,
    /// Makes keys that are not shared with other tenants of the process. Making a key takes about a tenth of a second.
    pub own_keys: bool,
    /// The clock.
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

/// The reason why a development tenant could not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The address is reachable from other machines.
    #[error(
        "{0} is reachable from other machines, and the development tenant gives tokens to anyone; say --allow-remote if that is meant"
    )]
    NotLoopback(SocketAddr),
    /// The address is unavailable.
    #[error("cannot listen on {0}")]
    Bind(SocketAddr, #[source] std::io::Error),
    /// No key could be made.
    #[error("cannot make the signing keys")]
    Key(#[from] keys::KeyError),
    /// TLS could not be set up.
    #[error("cannot make the TLS certificate: {0}")]
    Tls(String),
}

/// The state that the endpoints share.
#[derive(Debug)]
pub(crate) struct State {
    /// `http://127.0.0.1:7070`, without a trailing slash.
    base: String,
    aliases: Vec<String>,
    clock: Clock,
    directory: Mutex<Directory>,
    keys: Mutex<KeyRing>,
    interference: Arc<Interference>,
    vault: Mutex<vault::Vault>,
    machine: Mutex<managed_identity::Machine>,
    monitor: Mutex<monitor::Monitor>,
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

    fn monitor(&self) -> MutexGuard<'_, monitor::Monitor> {
        lock(&self.monitor)
    }

    fn issuer_v1(&self, tenant: &str) -> String {
        format!("{}/{tenant}/", self.base)
    }

    fn issuer_v2(&self, tenant: &str) -> String {
        format!("{}/{tenant}/v2.0", self.base)
    }
}

/// A running development tenant, which stops on drop.
#[derive(Debug)]
pub struct DevTenant {
    state: Arc<State>,
    address: SocketAddr,
    ca_pem: Option<String>,
    stop: CancellationToken,
    _ends_with_this: DropGuard,
}

impl DevTenant {
    /// Starts a tenant, with the [usual registrations](Self::apps).
    ///
    /// # Errors
    ///
    /// Fails if the address is unavailable or not limited to this machine, or if no key can be made.
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
            interference: Arc::default(),
            vault: Mutex::default(),
            machine: Mutex::default(),
            monitor: Mutex::default(),
        });
        state.machine().server_thumbprint = tls.as_ref().map(|tls| tls.thumbprint.clone());
        let (acceptor, ca_pem) = tls.map(|tls| (tls.acceptor, tls.ca_pem)).unzip();
        let stop = CancellationToken::new();
        tokio::spawn(server::serve(listener, acceptor, server::router(&state), stop.clone()));
        Ok(Self { state, address, ca_pem, _ends_with_this: stop.clone().drop_guard(), stop })
    }

    /// Returns its address.
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Returns the counterpart of `https://login.microsoftonline.com`: scheme, host and port.
    pub fn base_url(&self) -> &str {
        &self.state.base
    }

    /// Returns the certificate authority behind its TLS certificate, PEM.
    pub fn ca_pem(&self) -> Option<&str> {
        self.ca_pem.as_deref()
    }

    /// Returns the id of the first tenant.
    pub fn tenant_id(&self) -> String {
        self.state.directory().home(None)
    }

    /// Returns the token endpoint of a tenant, version 2.
    pub fn token_endpoint(&self, tenant: &str) -> String {
        format!("{}/{tenant}/oauth2/v2.0/token", self.state.base)
    }

    /// Returns the issuer of a tenant's version 1 tokens.
    pub fn issuer_v1(&self, tenant: &str) -> String {
        self.state.issuer_v1(tenant)
    }

    /// Returns the issuer of a tenant's version 2 tokens.
    pub fn issuer_v2(&self, tenant: &str) -> String {
        self.state.issuer_v2(tenant)
    }

    /// Starts a token.
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

    /// Changes a registration, or a new one if there is none.
    pub fn update_app(&self, client_id: &str, change: impl FnOnce(App) -> App) {
        let mut directory = self.state.directory();
        let app = directory.app(client_id).cloned().unwrap_or_else(|| App::new(client_id));
        directory.put_app(change(app));
    }

    /// Returns the registrations.
    pub fn apps(&self) -> Vec<App> {
        self.state.directory().apps.clone()
    }

    /// Signs with a new key from now on; the older ones stay published. Returns the new key's id.
    ///
    /// # Panics
    ///
    /// Panics if the cryptographic library makes no key.
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

    /// Returns the key that signs now.
    pub fn signing_key(&self) -> Arc<SigningKey> {
        self.state.keys().current()
    }

    /// Returns the claims of a token that is signed by one of the published keys and has not expired; `None` for any other text.
    pub fn verify(&self, token: &str) -> Option<serde_json::Map<String, serde_json::Value>> {
        let token = assertion::Assertion::read(token).ok()?;
        let keys = self.state.keys().published.clone();
        let expires = token.claims.get("exp").and_then(serde_json::Value::as_u64)?;
        let good = expires > self.state.clock.unix_seconds() && keys.iter().any(|key| token.is_signed_by(key));
        good.then_some(token.claims)
    }

    /// Defines a data collection rule of Azure Monitor. Without any, every rule takes every row.
    pub fn define_rule(&self, immutable_id: &str, rule: Rule) {
        self.state.monitor().rules.insert(immutable_id.to_owned(), rule);
    }

    /// Defines a Log Analytics workspace by the bytes of its key.
    pub fn define_workspace(&self, id: &str, key: &[u8]) {
        self.state.monitor().workspaces.insert(id.to_owned(), key.to_owned());
    }

    /// Returns the rows that Azure Monitor took for a stream, or for a table of the Data Collector API (`NAME_CL`).
    pub fn rows(&self, stream: &str) -> Vec<serde_json::Value> {
        self.state.monitor().rows(stream)
    }

    /// Plays a fault until it has been played often enough, or until [`recover`](Self::recover).
    pub fn fail(&self, fault: Fault) {
        self.state.interference.fail(fault);
    }

    /// Ends all faults.
    pub fn recover(&self) {
        self.state.interference.recover();
    }

    /// Holds requests whose path contains `path` until the returned value is dropped.
    pub fn hold(&self, path: &str) -> Hold {
        self.state.interference.hold(path)
    }

    /// Returns the number of requests for paths that end with `path` (`/keys`, `/token`, `/openid-configuration`), faults
    /// included.
    pub fn calls(&self, path: &str) -> usize {
        self.state.interference.requests(path).len()
    }

    /// Returns those requests, as received. The last few thousand are kept.
    pub fn requests(&self, path: &str) -> Vec<Recorded> {
        self.state.interference.requests(path)
    }

    /// Forgets the recorded requests.
    pub fn forget_calls(&self) {
        self.state.interference.forget();
    }

    /// Waits until this many requests have arrived for paths that end with `path`.
    pub async fn arrived(&self, path: &str, count: usize) {
        let mut arrivals = self.state.interference.arrivals();
        while self.calls(path) < count {
            if arrivals.changed().await.is_err() {
                return;
            }
        }
    }

    /// Stops the tenant; connections are refused from now on.
    pub fn stop(&self) {
        self.stop.cancel();
    }

    /// Waits until it was stopped.
    pub async fn stopped(&self) {
        self.stop.cancelled().await;
    }
}
