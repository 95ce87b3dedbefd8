//! 2 · Caller: the address of a request's caller.
//!
//! The caller is the peer, unless the peer is a trusted proxy; then it is the right-most hop that is not one. Nothing that an
//! untrusted party wrote is evaluated, so a client cannot choose its address. Nobody is trusted by default.
//!
//! Where a connection begins with a PROXY protocol header, its source is the initial peer.

mod config;
mod forwarded;
mod hop;
mod listener_trust;
mod trust;
mod trusted_group;

use std::net::IpAddr;

pub use crate::connection::Introduction;
pub use config::{ForwardedHeader, ProxyProtocolConfig, TrustConfig, TrustStepConfig, TrustedGroupConfig, TrustedProxyConfig};
pub use hop::HopFault;
use http::HeaderValue;
pub use listener_trust::ListenerTrust;
pub use trust::{Hop, Trust};
pub(crate) use trusted_group::{TrustPurpose, TrustedGroup};

use crate::{
    base::{clock::Clock, fields::Fields},
    connection::Scheme,
    listener::Connection,
    refusal::Refusal,
};

/// The caller's address, and its source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    /// The caller's address; IPv4-mapped addresses become IPv4.
    pub address: IpAddr,
    /// The source of the address.
    pub source: AddressSource,
    /// True if the peer is a trusted proxy, so that its forwarding headers count.
    pub peer_is_trusted: bool,
    /// The scheme that the caller used, as stated by a trusted proxy.
    pub scheme: Option<Scheme>,
    /// The host that the caller asked for, as stated by a trusted proxy. Forwarded, and never used for routing.
    pub host: Option<HeaderValue>,
}

impl Caller {
    /// Determines the caller of a request with these header fields on this connection.
    ///
    /// # Errors
    /// Fails if a trusted proxy wrote something that is not an address.
    pub(crate) fn of(connection: &Connection, headers: &Fields, clock: &Clock) -> Result<Self, Refusal> {
        let peer = connection.peer.ip();
        match (connection.settings.trusted_peers.downcast_ref::<ListenerTrust>(), connection.introduction) {
            (Some(ListenerTrust { trust, .. }), None) => trust.caller(peer, headers, clock),
            (Some(ListenerTrust { trust, .. }), Some(introduction)) => {
                trust.introduced_caller(peer, introduction, headers, clock)
            }
            // A listener whose peers are told otherwise lets nobody speak for a caller.
            (None, introduction) => Ok(Self::peer(introduction.map_or(peer, |introduction| introduction.by.ip()))),
        }
    }

    /// Returns the hops from the peer of a connection to the caller of a request with these header fields.
    pub(crate) fn hops(connection: &Connection, headers: &Fields, clock: &Clock) -> Vec<Hop> {
        let peer = connection.peer.ip();
        match connection.settings.trusted_peers.downcast_ref::<ListenerTrust>() {
            Some(ListenerTrust { trust, .. }) => trust.hops(peer, headers, clock),
            None => vec![Hop { address: peer, trusted_by: None }],
        }
    }

    /// Makes the peer itself the caller.
    pub fn peer(address: IpAddr) -> Self {
        Self { address: address.to_canonical(), source: AddressSource::Peer, peer_is_trusted: false, scheme: None, host: None }
    }

    /// Returns whether the peer is a trusted proxy, so that its forwarding headers count.
    pub const fn via_trusted_proxy(&self) -> bool {
        self.peer_is_trusted
    }
}

/// The source of the caller's address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AddressSource {
    /// The connection itself.
    Peer,
    /// The question of another proxy, which asked for a decision.
    Question,
    /// The PROXY protocol header that the connection began with, from a trusted proxy.
    ProxyProtocol,
    /// `X-Forwarded-For`, from a trusted proxy.
    XForwardedFor,
    /// `Forwarded`, from a trusted proxy.
    Forwarded,
}

impl AddressSource {
    /// Returns its name in records.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Peer => "peer",
            Self::Question => "question",
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
            (AddressSource::Question, "question"),
            (AddressSource::ProxyProtocol, "proxy-protocol"),
            (AddressSource::XForwardedFor, "x-forwarded-for"),
            (AddressSource::Forwarded, "forwarded"),
        ] {
            assert_eq!(source.as_str(), word);
        }
    }
}
