//! The connection that a request came on, as the application that accepted it tells of it.

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

/// What a connection is called that is no listener's of the config.
const NO_LISTENER: &str = "application";

/// Facts of the connection that a request came on, for the request's extensions.
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
/// Without it axum's [`ConnectInfo<SocketAddr>`](ConnectInfo) tells the address; a request with neither is refused.
#[derive(Clone, Debug)]
pub struct Peer {
    address: SocketAddr,
    local: Option<SocketAddr>,
    listener: Option<Arc<str>>,
    tls: Option<TlsFacts>,
}

impl Peer {
    /// A connection without TLS from this address.
    pub fn new(address: SocketAddr) -> Self {
        Self { address, local: None, listener: None, tls: None }
    }

    /// The address that was connected to.
    #[must_use]
    pub fn to_local(self, local: SocketAddr) -> Self {
        Self { local: Some(local), ..self }
    }

    /// The connection counts as one of the config's listener of this name: its trusted proxies and limits of bodies and streams hold,
    /// and what it asks of certificates. Default: the config's first listener. A name that the config does not have refuses the request.
    #[must_use]
    pub fn on_listener(self, name: impl Into<Arc<str>>) -> Self {
        Self { listener: Some(name.into()), ..self }
    }

    /// The connection has TLS: with the name that the client asked for (SNI), and the certificates that it has shown and proven to hold the
    /// key of, its own first; none if it showed none.
    #[must_use]
    pub fn with_tls(self, server_name: Option<&str>, certificates: &[CertificateDer<'_>]) -> Self {
        let certificate = ClientCertificate::read(certificates).ok().map(Arc::new);
        let server_name = server_name.map(|name| name.to_ascii_lowercase().into());
        Self { tls: Some(TlsFacts { server_name, shown: None, certificate }), ..self }
    }

    /// What the extensions tell of the connection.
    pub(super) fn of(extensions: &Extensions) -> Option<Self> {
        let connect_info = || extensions.get::<ConnectInfo<SocketAddr>>().map(|ConnectInfo(address)| Self::new(*address));
        extensions.get::<Self>().cloned().or_else(connect_info)
    }

    /// Makes the connection of a request that nothing is told of. It is only there for the record of the refusal.
    pub(super) fn unknown() -> Connection {
        Self::new(SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0)).under(None)
    }

    /// Makes the connection, under the rules of its listener; `None` if the config does not have that.
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
