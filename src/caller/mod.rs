//! 2 · Caller: whose address this is.
//!
//! The peer's, unless the peer is a trusted proxy; then the right-most hop that is not one. Nothing that an untrusted party
//! wrote is looked at, so the bytes that a client controls cannot choose its address. Nobody is trusted by default.
//!
//! Where a connection begins with a PROXY protocol header, its source is the peer to begin with.

mod believed;
mod config;
mod forwarded;
mod hop;
mod introduction;
mod trust;

use std::net::IpAddr;

pub use crate::connection::Introduction;
pub(crate) use believed::{Believed, Stake};
pub use config::{ProxyProtocolConfig, TrustStepConfig, TrustedGroupConfig, TrustedProxyConfig};
pub use hop::HopFault;
use http::HeaderValue;
pub use introduction::{Introducers, TrustedPeers};
pub use trust::Trust;

use crate::connection::Scheme;

/// Whose address a request comes from, and how that is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    /// The caller's address; IPv4-mapped addresses are folded.
    pub address: IpAddr,
    /// Who said so.
    pub source: AddressSource,
    /// Whether the peer is a trusted proxy, so that what it says of the caller is believed.
    pub peer_is_trusted: bool,
    /// The scheme that the caller used, where a trusted proxy said so.
    pub scheme: Option<Scheme>,
    /// The host that the caller asked for, where a trusted proxy said so. Handed on, and never used for routing.
    pub host: Option<HeaderValue>,
}

impl Caller {
    /// The caller is the peer itself.
    pub fn peer(address: IpAddr) -> Self {
        Self { address: address.to_canonical(), source: AddressSource::Peer, peer_is_trusted: false, scheme: None, host: None }
    }

    /// Whether the peer is a trusted proxy, so that what it says of the caller is believed.
    pub const fn believed(&self) -> bool {
        self.peer_is_trusted
    }
}

/// Who said what the caller's address is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AddressSource {
    /// The connection itself.
    Peer,
    /// The PROXY protocol header that the connection began with, from a trusted proxy.
    ProxyProtocol,
    /// `X-Forwarded-For`, from a trusted proxy.
    XForwardedFor,
    /// `Forwarded`, from a trusted proxy.
    Forwarded,
}

impl AddressSource {
    /// The word for it in records.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Peer => "peer",
            Self::XForwardedFor => "x-forwarded-for",
            Self::Forwarded => "forwarded",
            Self::ProxyProtocol => "proxy-protocol",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_have_a_word_for_each_source() {
        for (source, word) in [
            (AddressSource::Peer, "peer"),
            (AddressSource::ProxyProtocol, "proxy-protocol"),
            (AddressSource::XForwardedFor, "x-forwarded-for"),
            (AddressSource::Forwarded, "forwarded"),
        ] {
            assert_eq!(source.as_str(), word);
        }
    }
}
