//! The introduction of a connection by the PROXY protocol.

use std::net::SocketAddr;

/// The introduction of a connection by its PROXY protocol header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Introduction {
    /// The proxy that connected.
    pub by: SocketAddr,
    /// True if the header names the connection's source. Otherwise the connection counts as the proxy's own.
    pub names_source: bool,
    /// True if the header states that the source uses TLS to the proxy.
    pub tls: bool,
}
