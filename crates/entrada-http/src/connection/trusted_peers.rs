//! The peers that a listener trusts, as seen by the listener: by their addresses alone.

use std::{any::Any, fmt::Debug, net::IpAddr};

/// The peers that a listener trusts. A connection keeps them for its requests, which get their whole type back with
/// `downcast_ref`.
pub trait TrustedPeers: Any + Debug + Send + Sync {
    /// Returns whether a connection from this address may begin with a trusted PROXY protocol header.
    fn may_introduce(&self, peer: IpAddr) -> bool;

    /// Returns whether this peer may send requests of other callers, so that it may have any number of connections.
    fn may_speak_for_others(&self, peer: IpAddr) -> bool;
}

impl dyn TrustedPeers {
    /// Returns the peers as this type, if they are of it.
    pub fn downcast_ref<T: TrustedPeers>(&self) -> Option<&T> {
        (self as &dyn Any).downcast_ref()
    }
}

/// No trusted peers.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoTrustedPeers;

impl TrustedPeers for NoTrustedPeers {
    fn may_introduce(&self, _: IpAddr) -> bool {
        false
    }

    fn may_speak_for_others(&self, _: IpAddr) -> bool {
        false
    }
}
