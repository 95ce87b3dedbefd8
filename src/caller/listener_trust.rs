//! The trust of a listener, which each of its connections keeps.

use std::net::IpAddr;

use super::{ProxyProtocolConfig, Trust, TrustConfig};
use crate::{
    address::AddressSets,
    base::clock::Clock,
    connection::TrustedPeers,
    settings::{Faults, Place},
};

/// The trusted peers of a listener. It determines the peers that may introduce connections or send requests of other callers, and the
/// caller of each request.
#[derive(Debug)]
pub struct ListenerTrust {
    pub(super) trust: Trust,
    clock: Clock,
}

impl ListenerTrust {
    /// Builds the trust of a listener, whose place in the config is `place`; reports faults otherwise.
    pub fn build(config: &TrustConfig, clock: &Clock, place: &Place, sets: &AddressSets, faults: &mut Faults) -> Option<Self> {
        let trust = Trust::build(config, place, sets, faults)?;
        if config.proxy_protocol == ProxyProtocolConfig::Required && trust.introduces_nobody() {
            // A header field cannot be asked for before there is a request.
            faults.error(
                &place.key("proxy-protocol"),
                "no proxy may introduce connections, so every connection would be closed",
                "list the proxies in `trusted-proxies`, or in `trust-path`, without `require-header`",
            );
        }
        Some(Self { trust, clock: clock.clone() })
    }
}

impl TrustedPeers for ListenerTrust {
    fn may_introduce(&self, peer: IpAddr) -> bool {
        self.trust.may_introduce(peer, &self.clock)
    }

    fn may_speak_for_others(&self, peer: IpAddr) -> bool {
        self.trust.may_trust(peer, &self.clock)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn trust(config: &str) -> (ListenerTrust, bool) {
        let config = crate::settings::testing::part(config);
        let (mut faults, place) = (Faults::default(), Place::root());
        let trust = ListenerTrust::build(&config, &Clock::manual(0), &place, &AddressSets::default(), &mut faults);
        (trust.expect("sound"), faults.any_error())
    }

    #[test]
    fn trusted_proxies_may_introduce_connections_where_that_is_asked_for() {
        let (trust, faulty) = self::trust("proxy-protocol: required\ntrusted-proxies: [10.2.0.1]");
        assert!(!faulty && trust.may_introduce([10, 2, 0, 1].into()) && !trust.may_introduce([10, 2, 0, 2].into()));

        assert!(self::trust("proxy-protocol: required").1, "nobody could connect");
        assert!(!self::trust("proxy-protocol: none").1);
    }
}
