//! Who may begin a connection in somebody else's name.

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use super::{ProxyProtocolConfig, Trust};
use crate::{
    clock::Clock,
    config::{Faults, Place},
};

/// How a connection was introduced: by the PROXY protocol header that it began with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Introduction {
    /// The proxy that connected.
    pub by: SocketAddr,
    /// Whether the header said whose connection it is. One that does not is the proxy's own, as far as anybody knows.
    pub names_source: bool,
}

/// The proxies of a listener whose connections begin with a PROXY protocol header.
#[derive(Clone, Debug)]
pub struct Introducers {
    trust: Arc<Trust>,
    clock: Clock,
}

impl Introducers {
    /// Builds them for a listener, where its connections are to begin with a header; `place` is that of `proxy-protocol`.
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

    /// Whether a connection from this address may begin with a header that is believed.
    pub fn include(&self, proxy: IpAddr) -> bool {
        self.trust.may_introduce(proxy, &self.clock)
    }
}
