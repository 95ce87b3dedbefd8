//! The connection of a request, as described by the application that accepted it.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::Arc,
};

use axum::extract::ConnectInfo;
use http::Extensions;
use rustls_pki_types::CertificateDer;

use crate::{
    certificate::ClientCertificate,
    gateway::runtime::{ListenerRules, Runtime},
    listener::{Connection, Limits, Listener, ListenerSettings, TlsFacts},
};

/// The listener's name in records of connections that belong to no listener of the config.
const NO_LISTENER: &str = "application";

/// Describes the connection of a request, in the request's extensions.
///
/// ```
/// use entrada::Peer;
///
/// let mut request = http::Request::new(());
/// let peer = Peer::new("192.0.2.7:50000".parse()?).on_listener("public");
/// request.extensions_mut().insert(peer);
/// # Ok::<_, std::net::AddrParseError>(())
/// ```
///
/// Without it, the address is taken from axum's [`ConnectInfo<SocketAddr>`](ConnectInfo). A request with neither is refused.
#[derive(Clone, Debug)]
pub struct Peer {
    address: SocketAddr,
    local: Option<SocketAddr>,
    listener: Option<Arc<str>>,
    tls: Option<TlsFacts>,
}

impl Peer {
    /// Describes a connection from this address without TLS.
    pub fn new(address: SocketAddr) -> Self {
        Self { address, local: None, listener: None, tls: None }
    }

    /// Sets the local address of the connection.
    #[must_use]
    pub fn to_local(self, local: SocketAddr) -> Self {
        Self { local: Some(local), ..self }
    }

    /// Assigns the connection to the listener of this name in the config, whose trusted proxies, certificate requirements and limits of
    /// bodies and streams then apply. Default: the first listener. A request with a name that the config does not have is refused.
    #[must_use]
    pub fn on_listener(self, name: impl Into<Arc<str>>) -> Self {
        Self { listener: Some(name.into()), ..self }
    }

    /// States that the connection uses TLS, with the server name that the client requested (SNI) and the client's certificate chain, its own
    /// certificate first; empty if it presented none. The handshake must have verified that the client holds the key.
    #[must_use]
    pub fn with_tls(self, server_name: Option<&str>, certificates: &[CertificateDer<'_>]) -> Self {
        let certificate = ClientCertificate::read(certificates).ok().map(Arc::new);
        let server_name = server_name.map(|name| name.to_ascii_lowercase().into());
        Self { tls: Some(TlsFacts { version: None, server_name, shown: None, certificate }), ..self }
    }

    /// Reads the description of the connection from the extensions of a request.
    pub(super) fn of(extensions: &Extensions) -> Option<Self> {
        let connect_info = || extensions.get::<ConnectInfo<SocketAddr>>().map(|ConnectInfo(address)| Self::new(*address));
        extensions.get::<Self>().cloned().or_else(connect_info)
    }

    /// Returns a placeholder for a connection that the application did not describe, for the record of the refusal.
    pub(super) fn unknown() -> Connection {
        Self::new(SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0)).under(None)
    }

    /// Builds the connection with the rules of its listener; returns `None` if the config does not have this listener.
    pub(super) fn connection(self, runtime: &Runtime) -> Option<Connection> {
        let rules = match &self.listener {
            Some(name) => Some(runtime.listener(name)?),
            None => runtime.listeners.first(),
        };
        Some(self.under(rules))
    }

    fn under(self, rules: Option<&ListenerRules>) -> Connection {
        let canonical = |address: SocketAddr| SocketAddr::new(address.ip().to_canonical(), address.port());
        let nowhere = || Listener::new(NO_LISTENER, ListenerSettings::plain(Limits::default()));
        let listener = rules.map_or_else(nowhere, |rules| rules.mounted().clone());
        let peer = canonical(self.address);
        Connection { tls: self.tls, ..Connection::plain(listener, peer, self.local.map_or(peer, canonical)) }
    }
}
