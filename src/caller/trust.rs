//! Who may speak for a caller, and what of it is believed.

use std::{borrow::Cow, collections::BTreeMap, net::IpAddr, sync::Arc};

use http::{HeaderMap, HeaderName, HeaderValue, header};

use super::{
    AddressSource, Caller,
    forwarded::{self, Element},
    hop::{self, HopFault},
};
use crate::{
    address::AddressSet,
    clock::Clock,
    config::{Faults, Place},
    listener::{ForwardedHeader, ListenerConfig},
    refusal::{Reason, Refusal},
    request::{Authority, Scheme},
};

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");

/// Whom a listener believes: by default nobody.
#[derive(Debug, Default)]
pub struct Trust {
    proxies: Arc<AddressSet>,
    header: ForwardedHeader,
}

impl Trust {
    /// Builds the trust of a listener, whose place in the config is `place`; or says why not.
    pub fn build(
        listener: &ListenerConfig,
        place: &Place,
        sets: &BTreeMap<String, Arc<AddressSet>>,
        faults: &mut Faults,
    ) -> Option<Self> {
        let place = place.key("trusted-proxies");
        let proxies = AddressSet::build(&listener.trusted_proxies, &place, sets, faults)?;
        if proxies.holds_a_whole_family() {
            // Whoever calls would choose the address that is judged.
            faults.error(
                &place,
                "every address of a family is trusted, so every caller could choose its own address",
                "list the proxies alone",
            );
            return None;
        }
        Some(Self { proxies, header: listener.forwarded_header })
    }

    /// Whether the address is a trusted proxy's.
    pub fn trusts(&self, address: IpAddr, clock: &Clock) -> bool {
        self.proxies.contains(address, clock)
    }

    /// Whose address a request comes from: the right-most hop that is not trusted, or the left-most where all are.
    ///
    /// # Errors
    /// A trusted proxy said something that cannot be read as an address. What an untrusted peer says is never read.
    pub fn caller(&self, peer: IpAddr, headers: &HeaderMap, clock: &Clock) -> Result<Caller, Refusal> {
        let peer = peer.to_canonical();
        if !self.trusts(peer, clock) {
            return Ok(Caller::peer(peer));
        }
        let caller = match self.header {
            ForwardedHeader::XForwardedFor => self.by_x_forwarded_for(peer, headers, clock),
            ForwardedHeader::Forwarded => self.by_forwarded(peer, headers, clock),
        };
        caller.map_err(|fault| Refusal::new(Reason::CallerAddressUnparsable, fault))
    }

    fn by_x_forwarded_for(&self, peer: IpAddr, headers: &HeaderMap, clock: &Clock) -> Result<Caller, HopFault> {
        // Several lines are one list, in order (RFC 9110, section 5.3).
        let lines = headers.get_all(X_FORWARDED_FOR).iter().rev();
        let hops = lines.flat_map(|line| line.as_bytes().rsplit(|byte| *byte == b',')).map(hop::of_x_forwarded_for);
        let found = self.walk(hops, clock)?;
        Ok(Caller {
            address: found.map_or(peer, |(address, _)| address),
            source: found.map_or(AddressSource::Peer, |_| AddressSource::XForwardedFor),
            peer_is_trusted: true,
            scheme: last(headers, &X_FORWARDED_PROTO).and_then(scheme),
            host: last(headers, &X_FORWARDED_HOST).and_then(host),
        })
    }

    fn by_forwarded(&self, peer: IpAddr, headers: &HeaderMap, clock: &Clock) -> Result<Caller, HopFault> {
        let mut elements = Vec::new();
        for line in headers.get_all(header::FORWARDED) {
            elements.extend(forwarded::elements(line.as_bytes())?);
        }
        let found = self.walk(elements.iter().rev().map(node), clock)?;
        // What is believed of the caller's request is what the proxy said that the caller spoke to.
        let said = found.map(|(_, steps)| &elements[elements.len() - steps]);
        Ok(Caller {
            address: found.map_or(peer, |(address, _)| address),
            source: found.map_or(AddressSource::Peer, |_| AddressSource::Forwarded),
            peer_is_trusted: true,
            scheme: said.and_then(|said| said.proto.as_deref()).and_then(|proto| scheme(proto.as_bytes())),
            host: said.and_then(|said| said.host.as_deref()).and_then(|name| host(name.as_bytes())),
        })
    }

    /// Walks from the nearest hop outwards to the first that is not trusted. What lies beyond is never looked at: it was
    /// written by someone who is not believed. With the address, how many hops were walked.
    fn walk(
        &self,
        hops: impl Iterator<Item = Result<IpAddr, HopFault>>,
        clock: &Clock,
    ) -> Result<Option<(IpAddr, usize)>, HopFault> {
        let mut found = None;
        for (index, hop) in hops.enumerate() {
            let address = hop?;
            found = Some((address, index + 1));
            if !self.trusts(address, clock) {
                break;
            }
        }
        Ok(found)
    }
}

fn node(element: &Element<'_>) -> Result<IpAddr, HopFault> {
    if element.repeats {
        return Err(HopFault::Malformed);
    }
    hop::of_forwarded(element.node.as_ref().map(Cow::as_ref).ok_or(HopFault::Silent)?)
}

/// The last entry of a list: what the nearest proxy said.
fn last<'h>(headers: &'h HeaderMap, name: &HeaderName) -> Option<&'h [u8]> {
    let line = headers.get_all(name).iter().next_back()?;
    line.as_bytes().rsplit(|byte| *byte == b',').next().map(<[u8]>::trim_ascii)
}

fn scheme(text: &[u8]) -> Option<Scheme> {
    [Scheme::Http, Scheme::Https].into_iter().find(|scheme| text.eq_ignore_ascii_case(scheme.as_str().as_bytes()))
}

/// The host in its one form; what cannot be read is as if it had not been said.
fn host(text: &[u8]) -> Option<HeaderValue> {
    HeaderValue::try_from(Authority::read(text).ok()?.to_string()).ok()
}

#[cfg(test)]
mod tests;
