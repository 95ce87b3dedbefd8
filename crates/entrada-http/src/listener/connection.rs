//! Connections as requests see them.

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use super::{
    settings::{Listener, ListenerSettings},
    tls::CertificateNames,
};
use crate::{
    certificate::ClientCertificate,
    connection::{Introduction, Slot},
};

/// A connection that carries requests.
#[derive(Debug)]
pub struct Connection {
    /// The listener that accepted it.
    pub listener: Arc<Listener>,
    /// The listener's rules when the connection was made: the connection keeps them across reloads.
    pub settings: Arc<ListenerSettings>,
    /// The peer's socket address; IPv4-mapped addresses become IPv4. The PROXY protocol's source, if there is one.
    pub peer: SocketAddr,
    /// The introduction of the connection, if it began with a PROXY protocol header.
    pub introduction: Option<Introduction>,
    /// The gateway's own address on this connection.
    pub local: SocketAddr,
    /// The TLS facts; absent on a plain connection.
    pub tls: Option<TlsFacts>,
    /// The upstream connections that belong to this one.
    pub affinity: Slot,
    /// The part of audit records that is the same for all requests of this connection.
    pub recorded: Slot,
}

impl Connection {
    /// Makes a plain connection from `peer` under the listener's current rules.
    pub fn plain(listener: Arc<Listener>, peer: SocketAddr, local: SocketAddr) -> Self {
        let settings = listener.settings.load_full();
        Self {
            listener,
            settings,
            peer,
            introduction: None,
            local,
            tls: None,
            affinity: Slot::default(),
            recorded: Slot::default(),
        }
    }

    /// Returns the maker of the connection. `None` if a proxy introduced it without a source: its bytes may be anybody's.
    pub fn maker(&self) -> Option<IpAddr> {
        self.introduction.is_none_or(|introduction| introduction.names_source).then(|| self.peer.ip())
    }

    /// Returns the certificate whose private key the peer has proven to hold; no authority has confirmed it yet.
    pub fn certificate(&self) -> Option<&Arc<ClientCertificate>> {
        self.tls.as_ref()?.certificate.as_ref()
    }
}

/// The results of a TLS handshake.
#[derive(Clone, Debug)]
pub struct TlsFacts {
    /// The version of TLS, such as `1.3`; absent if it is not known.
    pub version: Option<&'static str>,
    /// The name that the client asked for (SNI), lower case.
    pub server_name: Option<Box<str>>,
    /// The names of the certificate that was shown to the client, if the listener has several.
    pub shown: Option<Arc<CertificateNames>>,
    /// The certificate whose private key the client has proven to hold; no authority has confirmed it yet.
    pub certificate: Option<Arc<ClientCertificate>>,
}
