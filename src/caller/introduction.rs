//! Peers that may begin a connection on behalf of another.

use std::{net::IpAddr, sync::Arc};

use super::{ProxyProtocolConfig, Trust};
use crate::{
    base::clock::Clock,
    settings::{Faults, Place},
};

/// The proxies of a listener whose connections begin with a PROXY protocol header.
#[derive(Clone, Debug)]
pub struct Introducers {
    trust: Arc<Trust>,
    clock: Clock,
}

impl Introducers {
    /// Builds the list for a listener whose connections begin with a header; `place` is that of `proxy-protocol`.
    pub fn build(
        config: ProxyProtocolConfig,
        trust: &Arc<Trust>,
        clock: &Clock,
        place: &Place,
        faults: &mut Faults,
    ) -> Option<Self> {
        if config == ProxyProtocolConfig::None {
            return None;
        }
        if trust.introduces_nobody() {
            // A header field cannot be asked for before there is a request.
            faults.error(
                place,
                "no proxy may introduce connections, so every connection would be closed",
                "list the proxies in `trusted-proxies`, or in `trust-path`, without `require-header`",
            );
        }
        Some(Self { trust: trust.clone(), clock: clock.clone() })
    }

    /// Returns whether a connection from this address may begin with a trusted header.
    pub fn include(&self, proxy: IpAddr) -> bool {
        self.trust.may_introduce(proxy, &self.clock)
    }
}

/// The peers that speak for others, by address alone.
#[derive(Clone, Debug)]
pub struct TrustedPeers {
    trust: Arc<Trust>,
    clock: Clock,
}

impl TrustedPeers {
    /// Collects the peers that are trusted, or some of whose requests may be.
    pub fn new(trust: &Arc<Trust>, clock: &Clock) -> Self {
        Self { trust: trust.clone(), clock: clock.clone() }
    }

    /// Returns whether the peer is one of them.
    pub fn include(&self, peer: IpAddr) -> bool {
        self.trust.may_believe(peer, &self.clock)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{address::AddressSets, listener::ListenerConfig};

    fn introducers(listener: &str) -> (Option<Introducers>, bool) {
        let config: ListenerConfig = crate::config::part(&format!("name: a\naddress: 127.0.0.1:0\n{listener}"));
        let (mut faults, place) = (Faults::default(), Place::root());
        let trust = Arc::new(Trust::build(&config, &place, &AddressSets::default(), &mut faults).expect("sound"));
        let introducers = Introducers::build(config.proxy_protocol, &trust, &Clock::manual(0), &place, &mut faults);
        (introducers, faults.any_error())
    }

    #[test]
    fn trusted_proxies_may_introduce_connections_where_that_is_asked_for() {
        let (some, faulty) = introducers("proxy-protocol: required\ntrusted-proxies: [10.2.0.1]");
        let some = some.expect("it is asked for");
        assert!(!faulty && some.include([10, 2, 0, 1].into()) && !some.include([10, 2, 0, 2].into()));

        assert!(introducers("trusted-proxies: [10.2.0.1]").0.is_none());
        assert!(introducers("proxy-protocol: required").1, "nobody could connect");
    }
}
