//! Peers that are trusted to name the caller, and the parts of their statements that are used.

use std::{borrow::Cow, net::IpAddr};

use http::HeaderValue;

use super::{
    AddressSource, Caller, ForwardedHeader, TrustConfig, TrustPurpose, TrustStepConfig, TrustedGroup,
    forwarded::{self, Element},
    hop::{self, HopFault},
};
use crate::{
    address::AddressSets,
    base::{
        clock::Clock,
        fields::{Fields, Known},
    },
    connection::{Authority, Introduction, Scheme},
    refusal::{Reason, Refusal},
    settings::{Faults, Place},
};

/// The trust of a listener: by default nobody is trusted.
#[derive(Debug, Default)]
pub struct Trust {
    rule: Rule,
    header: ForwardedHeader,
}

#[derive(Debug)]
enum Rule {
    /// Any of these proxies, in any order.
    Any(Vec<TrustedGroup>),
    /// Each step once, in this order, the outermost first.
    Path(Vec<Step>),
}

impl Default for Rule {
    fn default() -> Self {
        Self::Any(Vec::new())
    }
}

/// One hop between the peer and the caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hop {
    /// The address.
    pub address: IpAddr,
    /// The index of the entry of `trusted-proxies` or `trust-path` by which it is trusted; `None` for the caller.
    pub trusted_by: Option<usize>,
}

#[derive(Debug)]
struct Step {
    group: TrustedGroup,
    optional: bool,
}

impl Trust {
    /// Builds the trust of a listener, whose place in the config is `place`; reports faults otherwise.
    pub fn build(listener: &TrustConfig, place: &Place, sets: &AddressSets, faults: &mut Faults) -> Option<Self> {
        let before = faults.errors();
        let rule = if listener.trust_path.is_empty() {
            let place = place.key("trusted-proxies");
            Rule::Any(TrustedGroup::list(&listener.trusted_proxies, &place, TrustPurpose::ADDRESS, sets, faults))
        } else {
            if !listener.trusted_proxies.is_empty() {
                faults.error(&place.key("trust-path"), "`trust-path` stands beside `trusted-proxies`", "keep one of them");
            }
            Rule::Path(build_path(&listener.trust_path, &place.key("trust-path"), sets, faults))
        };
        (faults.errors() == before).then_some(Self { rule, header: listener.forwarded_header })
    }

    /// Returns whether no proxy may introduce connections.
    pub(super) fn introduces_nobody(&self) -> bool {
        match &self.rule {
            Rule::Any(groups) => !groups.iter().any(TrustedGroup::may_introduce),
            Rule::Path(steps) => {
                // As far in as the first step that every request passes.
                let within = steps.iter().rev().position(|step| !step.optional).map_or(steps.len(), |at| at + 1);
                !steps.iter().rev().take(within).any(|step| step.group.may_introduce())
            }
        }
    }

    /// Returns whether a connection from this address may begin with a PROXY protocol header, which names its peer.
    ///
    /// Proxies that are identified by a header field may not: there is no request yet.
    pub fn may_introduce(&self, address: IpAddr, clock: &Clock) -> bool {
        self.rule.behind_introducer(address, clock).is_some()
    }

    /// Returns whether requests of this peer may be trusted; some only if they carry the header fields of the peer's entry.
    pub fn may_trust(&self, address: IpAddr, clock: &Clock) -> bool {
        match &self.rule {
            Rule::Any(groups) => groups.iter().any(|group| group.may_hold(address, clock)),
            Rule::Path(steps) => steps.iter().any(|step| step.group.may_hold(address, clock)),
        }
    }

    /// Finds the caller's address: the right-most hop that is not trusted, or the left-most if all are.
    ///
    /// # Errors
    /// Fails if a trusted proxy wrote something that is not an address. What an untrusted peer wrote is never read.
    pub fn caller(&self, peer: IpAddr, headers: &Fields, clock: &Clock) -> Result<Caller, Refusal> {
        self.walk(Caller::peer(peer), Walk { rule: &self.rule, headers, clock, steps: self.rule.steps() })
    }

    /// Does the same for a request on a connection that began with a PROXY protocol header, whose source is `peer`.
    ///
    /// # Errors
    /// Fails if a trusted proxy wrote something that is not an address.
    pub fn introduced_caller(
        &self,
        peer: IpAddr,
        introduction: Introduction,
        headers: &Fields,
        clock: &Clock,
    ) -> Result<Caller, Refusal> {
        let by = introduction.by.ip();
        match self.rule.behind_introducer(by, clock) {
            Some(steps) if introduction.names_source => {
                let scheme = introduction.tls.then_some(Scheme::Https);
                let peer = Caller { source: AddressSource::ProxyProtocol, scheme, ..Caller::peer(peer) };
                self.walk(peer, Walk { rule: &self.rule, headers, clock, steps })
            }
            // Whose bytes these are nobody knows, so nothing in them is believed, although the proxy is. Nor is a proxy that was
            // trusted when it connected and is not any more.
            _ => Ok(Caller::peer(by)),
        }
    }

    /// Returns the hops from the peer outwards, up to the caller: for telling how a caller was determined.
    pub fn hops(&self, peer: IpAddr, headers: &Fields, clock: &Clock) -> Vec<Hop> {
        let mut walk = Walk { rule: &self.rule, headers, clock, steps: self.rule.steps() };
        let (peer, mut hops) = (peer.to_canonical(), Vec::new());
        let trusted_by = walk.believes(peer);
        hops.push(Hop { address: peer, trusted_by });
        if trusted_by.is_some() {
            let mut seen = |address, trusted_by| hops.push(Hop { address, trusted_by });
            // What is not an address has refused the request.
            let _ = match self.header {
                ForwardedHeader::XForwardedFor => walk.find_caller(x_forwarded_for(headers), &mut seen),
                ForwardedHeader::Forwarded => {
                    forwarded_elements(headers).and_then(|elements| walk.find_caller(elements.iter().rev().map(node), &mut seen))
                }
            };
        }
        hops
    }

    fn walk(&self, peer: Caller, mut walk: Walk<'_>) -> Result<Caller, Refusal> {
        if walk.believes(peer.address).is_none() {
            return Ok(peer);
        }
        let caller = match self.header {
            ForwardedHeader::XForwardedFor => by_x_forwarded_for(&peer, walk),
            ForwardedHeader::Forwarded => by_forwarded(&peer, walk),
        };
        caller.map_err(|fault| Refusal::new(Reason::CallerAddressUnparsable, fault))
    }
}

fn build_path(written: &[TrustStepConfig], place: &Place, sets: &AddressSets, faults: &mut Faults) -> Vec<Step> {
    let mut steps = Vec::new();
    for (index, step) in written.iter().enumerate() {
        let place = place.index(index);
        let from = place.key("from");
        if step.from.as_slice().is_empty() {
            faults.error(&from, "the step names no proxy, so nothing could pass it", "name the step's proxies, or remove it");
        }
        let group =
            TrustedGroup::build(step.from.as_slice(), &step.require_header, (&from, &place), TrustPurpose::ADDRESS, sets, faults);
        steps.extend(group.map(|group| Step { group, optional: step.optional }));
    }
    steps
}

impl Rule {
    const fn steps(&self) -> usize {
        match self {
            Self::Any(_) => 0,
            Self::Path(steps) => steps.len(),
        }
    }

    /// Returns the number of steps left for a request on a connection that this proxy introduced; `None` if it may not introduce
    /// any.
    fn behind_introducer(&self, proxy: IpAddr, clock: &Clock) -> Option<usize> {
        let introduces = |group: &TrustedGroup| group.introduces(proxy, clock);
        match self {
            Self::Any(groups) => groups.iter().any(introduces).then_some(0),
            Self::Path(steps) => {
                for (ahead, step) in steps.iter().enumerate().rev() {
                    if introduces(&step.group) {
                        return Some(ahead);
                    }
                    if !step.optional {
                        return None;
                    }
                }
                None
            }
        }
    }
}

/// A walk from the peer outwards, hop by hop.
struct Walk<'a> {
    rule: &'a Rule,
    headers: &'a Fields,
    clock: &'a Clock,
    /// The number of steps of the path, from the outermost on, that are still ahead.
    steps: usize,
}

impl Walk<'_> {
    /// Returns the entry by which this hop is trusted, so that its statement about the next one is read; `None` if none holds it.
    fn believes(&mut self, address: IpAddr) -> Option<usize> {
        match self.rule {
            Rule::Any(groups) => groups.iter().position(|group| group.holds(address, self.headers, self.clock)),
            Rule::Path(steps) => {
                while let Some(step) = self.steps.checked_sub(1).map(|at| &steps[at]) {
                    let holds = step.group.holds(address, self.headers, self.clock);
                    if !holds && !step.optional {
                        // This way was not taken: nothing further out is believed, whatever address it shows.
                        self.steps = 0;
                        return None;
                    }
                    self.steps -= 1;
                    if holds {
                        return Some(self.steps);
                    }
                }
                None
            }
        }
    }

    /// Walks to the first hop that is not trusted; returns the address and the number of hops passed. Entries beyond it are never
    /// read, since an untrusted party wrote them.
    fn find_caller(
        mut self,
        hops: impl Iterator<Item = Result<IpAddr, HopFault>>,
        mut seen: impl FnMut(IpAddr, Option<usize>),
    ) -> Result<Option<(IpAddr, usize)>, HopFault> {
        let mut found = None;
        for (index, hop) in hops.enumerate() {
            let address = hop?;
            found = Some((address, index + 1));
            let trusted_by = self.believes(address);
            seen(address, trusted_by);
            if trusted_by.is_none() {
                break;
            }
        }
        Ok(found)
    }
}

/// Returns the hops of `X-Forwarded-For`, the nearest first. Several lines are one list, in order (RFC 9110, section 5.3).
fn x_forwarded_for(headers: &Fields) -> impl Iterator<Item = Result<IpAddr, HopFault>> {
    let lines = headers.get_all(Known::XForwardedFor).rev();
    lines.flat_map(|line| line.as_bytes().rsplit(|byte| *byte == b',')).map(hop::of_x_forwarded_for)
}

/// Returns the hops of `Forwarded`, the nearest last.
fn forwarded_elements(headers: &Fields) -> Result<Vec<Element<'_>>, HopFault> {
    let mut elements = Vec::new();
    for line in headers.get_all(Known::Forwarded) {
        elements.extend(forwarded::elements(line.as_bytes())?);
    }
    Ok(elements)
}

fn by_x_forwarded_for(peer: &Caller, walk: Walk<'_>) -> Result<Caller, HopFault> {
    let headers = walk.headers;
    let found = walk.find_caller(x_forwarded_for(headers), |_, _| {})?;
    Ok(Caller {
        address: found.map_or(peer.address, |(address, _)| address),
        source: found.map_or(peer.source, |_| AddressSource::XForwardedFor),
        peer_is_trusted: true,
        scheme: scheme_towards_caller(headers, found.map_or(1, |(_, steps)| steps)).or(own_scheme(peer, found.is_none())),
        host: last(headers, Known::XForwardedHost).and_then(host),
    })
}

fn by_forwarded(peer: &Caller, walk: Walk<'_>) -> Result<Caller, HopFault> {
    let elements = forwarded_elements(walk.headers)?;
    let found = walk.find_caller(elements.iter().rev().map(node), |_, _| {})?;
    // What is believed of the caller's request is what the proxy said that the caller spoke to.
    let said = found.map(|(_, steps)| &elements[elements.len() - steps]);
    Ok(Caller {
        address: found.map_or(peer.address, |(address, _)| address),
        source: found.map_or(peer.source, |_| AddressSource::Forwarded),
        peer_is_trusted: true,
        scheme: said
            .and_then(|said| said.proto.as_deref())
            .and_then(|proto| scheme(proto.as_bytes()))
            .or(own_scheme(peer, said.is_none())),
        host: said.and_then(|said| said.host.as_deref()).and_then(|name| host(name.as_bytes())),
    })
}

fn node(element: &Element<'_>) -> Result<IpAddr, HopFault> {
    if element.repeats {
        return Err(HopFault::Malformed);
    }
    hop::of_forwarded(element.node.as_ref().map(Cow::as_ref).ok_or(HopFault::Silent)?)
}

/// Returns the scheme that the peer's introduction names, where the peer itself is the caller.
fn own_scheme(peer: &Caller, is_the_caller: bool) -> Option<Scheme> {
    peer.scheme.filter(|_| is_the_caller)
}

/// Returns the scheme that the caller spoke, by `X-Forwarded-Proto` and the number of hops between: the statement of the proxy
/// that the caller connected to.
///
/// Proxies that each add an entry write as many as to `X-Forwarded-For`. A single entry is the nearest proxy's. Several entries,
/// but fewer than hops, cannot be assigned to hops, so they count only if they agree.
fn scheme_towards_caller(headers: &Fields, hops: usize) -> Option<Scheme> {
    let lines = headers.get_all(Known::XForwardedProto).rev();
    let mut entries = lines.flat_map(|line| line.as_bytes().rsplit(|byte| *byte == b',')).map(<[u8]>::trim_ascii);
    let nearest = entries.next().map(scheme)?;
    let mut outermost = nearest;
    let mut agree = true;
    for entry in 1..hops {
        let Some(said) = entries.next().map(scheme) else {
            // Somebody on the way was spoken to in the clear, and nobody knows whether that was the caller's proxy.
            return if entry == 1 || agree { nearest } else { Some(Scheme::Http) };
        };
        outermost = said;
        agree &= said == nearest;
    }
    outermost
}

/// Returns the last entry of a list, written by the nearest proxy.
fn last(headers: &Fields, name: Known) -> Option<&[u8]> {
    let line = headers.get_all(name).next_back()?;
    line.as_bytes().rsplit(|byte| *byte == b',').next().map(<[u8]>::trim_ascii)
}

/// Returns the scheme that a proxy names; some write `ws` and `wss` for WebSockets. Any other word does not mean TLS.
fn scheme(text: &[u8]) -> Option<Scheme> {
    let is_tls = || [&b"https"[..], b"wss"].iter().any(|word| text.eq_ignore_ascii_case(word));
    match text {
        [] => None,
        _ if is_tls() => Some(Scheme::Https),
        _ => Some(Scheme::Http),
    }
}

/// Returns the host in canonical form; an unreadable one counts as absent.
fn host(text: &[u8]) -> Option<HeaderValue> {
    HeaderValue::try_from(Authority::read(text).ok()?.to_string()).ok()
}

#[cfg(test)]
mod tests;
