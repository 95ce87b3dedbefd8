//! The introduction of a connection by the PROXY protocol.

use std::net::SocketAddr;

/// How a connection was introduced: by the PROXY protocol header that it began with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Introduction {
    /// The proxy that connected.
    pub by: SocketAddr,
    /// Whether the header said whose connection it is. One that does not is the proxy's own, as far as anybody knows.
    pub names_source: bool,
    /// Whether the header said that the source speaks TLS with the proxy.
    pub tls: bool,
}
