//! Who may speak for a caller, and what of it is believed.

use std::{borrow::Cow, collections::BTreeMap, net::IpAddr, sync::Arc};

use http::{HeaderMap, HeaderName, HeaderValue, header};

use super::{
    AddressSource, Caller, Introduction, TrustStepConfig, TrustedProxyConfig,
    forwarded::{self, Element},
    hop::{self, HopFault},
};
use crate::{
    address::{AddressEntryConfig, AddressSet, AddressSets},
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
    rule: Rule,
    header: ForwardedHeader,
}

#[derive(Debug)]
enum Rule {
    /// Any of them, in any order.
    Any(Vec<Believed>),
    /// Each once, in this order, the outermost first.
    Path(Vec<Step>),
}

impl Default for Rule {
    fn default() -> Self {
        Self::Any(Vec::new())
    }
}

#[derive(Debug)]
struct Step {
    believed: Believed,
    optional: bool,
}

/// Proxies, and what their requests must bear.
#[derive(Debug)]
struct Believed {
    addresses: Arc<AddressSet>,
    required: Vec<(HeaderName, Vec<HeaderValue>)>,
}

impl Believed {
    fn build(
        addresses: &[AddressEntryConfig],
        required: &BTreeMap<String, Vec<String>>,
        (list, place): (&Place, &Place),
        sets: &AddressSets,
        faults: &mut Faults,
    ) -> Option<Self> {
        let required = read_required(required, &place.key("require-header"), faults);
        let addresses = AddressSet::build(addresses, list, sets, faults)?;
        if addresses.holds_a_whole_family() {
            // Whoever calls would choose the address that is judged.
            faults.error(
                list,
                "every address of a family is trusted, so every caller could choose its own address",
                "list the proxies alone",
            );
            return None;
        }
        Some(Self { addresses, required: required? })
    }

    /// Whether these proxies are told by their addresses alone, which are all that is known when a connection begins.
    const fn may_introduce(&self) -> bool {
        self.required.is_empty()
    }

    /// Whether the address is one of these proxies', and the request bears what it must.
    fn holds(&self, address: IpAddr, headers: &HeaderMap, clock: &Clock) -> bool {
        self.addresses.contains(address, clock)
            && self.required.iter().all(|(name, accepted)| {
                let mut values = headers.get_all(name).iter();
                // Exactly one: of two it would not be known which the proxy wrote.
                matches!((values.next(), values.next()), (Some(value), None) if accepted.contains(value))
            })
    }
}

fn read_required(
    written: &BTreeMap<String, Vec<String>>,
    place: &Place,
    faults: &mut Faults,
) -> Option<Vec<(HeaderName, Vec<HeaderValue>)>> {
    let before = faults.errors();
    let mut required = Vec::new();
    for (name, values) in written {
        let place = place.key(name);
        let Ok(name) = HeaderName::from_bytes(name.as_bytes()) else {
            faults.error(&place, format!("`{name}` is no header name"), "use letters, digits and `-`");
            continue;
        };
        if values.is_empty() {
            faults.error(&place, "no value is listed, so the proxies would never be believed", "list the accepted values");
        }
        let mut accepted = Vec::new();
        for (index, value) in values.iter().enumerate() {
            match HeaderValue::from_str(value) {
                Ok(value) if !value.is_empty() => accepted.push(value),
                _ => faults.error(&place.index(index), format!("`{value}` is no header value"), "write the value as it is sent"),
            }
        }
        required.push((name, accepted));
    }
    (faults.errors() == before).then_some(required)
}

impl Trust {
    /// Builds the trust of a listener, whose place in the config is `place`; or says why not.
    pub fn build(listener: &ListenerConfig, place: &Place, sets: &AddressSets, faults: &mut Faults) -> Option<Self> {
        let before = faults.errors();
        let rule = if listener.trust_path.is_empty() {
            Rule::Any(build_any(&listener.trusted_proxies, &place.key("trusted-proxies"), sets, faults))
        } else {
            if !listener.trusted_proxies.is_empty() {
                faults.error(&place.key("trust-path"), "`trust-path` stands beside `trusted-proxies`", "keep one of them");
            }
            Rule::Path(build_path(&listener.trust_path, &place.key("trust-path"), sets, faults))
        };
        (faults.errors() == before).then_some(Self { rule, header: listener.forwarded_header })
    }

    /// Whether there is no proxy that may introduce connections.
    pub(super) fn introduces_nobody(&self) -> bool {
        match &self.rule {
            Rule::Any(believed) => !believed.iter().any(Believed::may_introduce),
            Rule::Path(steps) => {
                // As far in as the first step that every request passes.
                let within = steps.iter().rev().position(|step| !step.optional).map_or(steps.len(), |at| at + 1);
                !steps.iter().rev().take(within).any(|step| step.believed.may_introduce())
            }
        }
    }

    /// Whether a connection from this address may begin with a PROXY protocol header, which says who its peer is.
    ///
    /// Proxies that are told from others by a header field may not: it cannot be asked for before there is a request.
    pub fn may_introduce(&self, address: IpAddr, clock: &Clock) -> bool {
        self.rule.behind_introducer(address, clock).is_some()
    }

    /// Whose address a request comes from: the right-most hop that is not trusted, or the left-most where all are.
    ///
    /// # Errors
    /// A trusted proxy said something that cannot be read as an address. What an untrusted peer says is never read.
    pub fn caller(&self, peer: IpAddr, headers: &HeaderMap, clock: &Clock) -> Result<Caller, Refusal> {
        self.walk(peer, AddressSource::Peer, Walk { rule: &self.rule, headers, clock, steps: self.rule.steps() })
    }

    /// The same for a request on a connection that began with a PROXY protocol header, whose source is `peer`.
    ///
    /// # Errors
    /// A trusted proxy said something that cannot be read as an address.
    pub fn introduced_caller(
        &self,
        peer: IpAddr,
        introduction: Introduction,
        headers: &HeaderMap,
        clock: &Clock,
    ) -> Result<Caller, Refusal> {
        let by = introduction.by.ip();
        match self.rule.behind_introducer(by, clock) {
            Some(steps) if introduction.names_source => {
                self.walk(peer, AddressSource::ProxyProtocol, Walk { rule: &self.rule, headers, clock, steps })
            }
            // Whose bytes these are nobody knows, so nothing in them is believed, although the proxy is. Nor is a proxy that was
            // trusted when it connected and is not any more.
            _ => Ok(Caller::peer(by)),
        }
    }

    fn walk(&self, peer: IpAddr, source: AddressSource, mut walk: Walk<'_>) -> Result<Caller, Refusal> {
        let peer = Caller { source, ..Caller::peer(peer) };
        if !walk.believes(peer.address) {
            return Ok(peer);
        }
        let caller = match self.header {
            ForwardedHeader::XForwardedFor => by_x_forwarded_for(&peer, walk),
            ForwardedHeader::Forwarded => by_forwarded(&peer, walk),
        };
        caller.map_err(|fault| Refusal::new(Reason::CallerAddressUnparsable, fault))
    }
}

fn build_any(written: &[TrustedProxyConfig], place: &Place, sets: &AddressSets, faults: &mut Faults) -> Vec<Believed> {
    let mut any = Vec::new();
    let mut everything = Vec::new();
    for (index, entry) in written.iter().enumerate() {
        let place = place.index(index);
        let (addresses, list, required) = match entry {
            TrustedProxyConfig::Text(text) => (vec![AddressEntryConfig::Text(text.clone())], &place, None),
            TrustedProxyConfig::Noted(noted) => (vec![AddressEntryConfig::Noted(noted.clone())], &place, None),
            TrustedProxyConfig::Group(group) => (group.addresses.clone(), &place.key("addresses"), Some(&group.require_header)),
        };
        // One entry of its own is a list of one: its faults are told at the entry.
        let mut own = Faults::default();
        let believed = Believed::build(&addresses, required.unwrap_or(&BTreeMap::new()), (list, &place), sets, &mut own);
        for mut fault in own.iter().cloned() {
            if required.is_none() && fault.place.pointer().starts_with(place.index(0).pointer()) {
                fault.place = Place::from(fault.place.pointer().replacen(place.index(0).pointer(), place.pointer(), 1));
            }
            faults.add(fault);
        }
        everything.extend(addresses);
        any.extend(believed);
    }
    // However a whole family is put together from several entries.
    if any.len() == written.len() && any.len() > 1 {
        let all = AddressSet::build(&everything, place, sets, &mut Faults::default());
        if all.is_some_and(|all| all.holds_a_whole_family()) {
            faults.error(
                place,
                "every address of a family is trusted, so every caller could choose its own address",
                "list the proxies alone",
            );
        }
    }
    any
}

fn build_path(written: &[TrustStepConfig], place: &Place, sets: &AddressSets, faults: &mut Faults) -> Vec<Step> {
    let mut steps = Vec::new();
    for (index, step) in written.iter().enumerate() {
        let place = place.index(index);
        let from = place.key("from");
        if step.from.as_slice().is_empty() {
            faults.error(&from, "the step names no proxy, so nothing could pass it", "name the step's proxies, or remove it");
        }
        let believed = Believed::build(step.from.as_slice(), &step.require_header, (&from, &place), sets, faults);
        steps.extend(believed.map(|believed| Step { believed, optional: step.optional }));
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

    /// How many steps are ahead of a request on a connection that this proxy introduced; `None` if it may not.
    fn behind_introducer(&self, proxy: IpAddr, clock: &Clock) -> Option<usize> {
        let introduces = |believed: &Believed| believed.may_introduce() && believed.addresses.contains(proxy, clock);
        match self {
            Self::Any(believed) => believed.iter().any(introduces).then_some(0),
            Self::Path(steps) => {
                for (ahead, step) in steps.iter().enumerate().rev() {
                    if introduces(&step.believed) {
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
    headers: &'a HeaderMap,
    clock: &'a Clock,
    /// How many steps of the path, from the outermost on, are still ahead.
    steps: usize,
}

impl Walk<'_> {
    /// Whether this hop is believed, so that what it says of the next one is read.
    fn believes(&mut self, address: IpAddr) -> bool {
        match self.rule {
            Rule::Any(believed) => believed.iter().any(|believed| believed.holds(address, self.headers, self.clock)),
            Rule::Path(steps) => {
                while let Some(step) = self.steps.checked_sub(1).map(|at| &steps[at]) {
                    let holds = step.believed.holds(address, self.headers, self.clock);
                    if !holds && !step.optional {
                        // This way was not taken: nothing further out is believed, whatever address it shows.
                        self.steps = 0;
                        return false;
                    }
                    self.steps -= 1;
                    if holds {
                        return true;
                    }
                }
                false
            }
        }
    }

    /// Walks to the first hop that is not believed. What lies beyond is never looked at: it was written by someone who is
    /// not believed. With the address, how many hops were walked.
    fn find_caller(mut self, hops: impl Iterator<Item = Result<IpAddr, HopFault>>) -> Result<Option<(IpAddr, usize)>, HopFault> {
        let mut found = None;
        for (index, hop) in hops.enumerate() {
            let address = hop?;
            found = Some((address, index + 1));
            if !self.believes(address) {
                break;
            }
        }
        Ok(found)
    }
}

fn by_x_forwarded_for(peer: &Caller, walk: Walk<'_>) -> Result<Caller, HopFault> {
    let headers = walk.headers;
    // Several lines are one list, in order (RFC 9110, section 5.3).
    let lines = headers.get_all(X_FORWARDED_FOR).iter().rev();
    let hops = lines.flat_map(|line| line.as_bytes().rsplit(|byte| *byte == b',')).map(hop::of_x_forwarded_for);
    let found = walk.find_caller(hops)?;
    Ok(Caller {
        address: found.map_or(peer.address, |(address, _)| address),
        source: found.map_or(peer.source, |_| AddressSource::XForwardedFor),
        peer_is_trusted: true,
        scheme: last(headers, &X_FORWARDED_PROTO).and_then(scheme),
        host: last(headers, &X_FORWARDED_HOST).and_then(host),
    })
}

fn by_forwarded(peer: &Caller, walk: Walk<'_>) -> Result<Caller, HopFault> {
    let mut elements = Vec::new();
    for line in walk.headers.get_all(header::FORWARDED) {
        elements.extend(forwarded::elements(line.as_bytes())?);
    }
    let found = walk.find_caller(elements.iter().rev().map(node))?;
    // What is believed of the caller's request is what the proxy said that the caller spoke to.
    let said = found.map(|(_, steps)| &elements[elements.len() - steps]);
    Ok(Caller {
        address: found.map_or(peer.address, |(address, _)| address),
        source: found.map_or(peer.source, |_| AddressSource::Forwarded),
        peer_is_trusted: true,
        scheme: said.and_then(|said| said.proto.as_deref()).and_then(|proto| scheme(proto.as_bytes())),
        host: said.and_then(|said| said.host.as_deref()).and_then(|name| host(name.as_bytes())),
    })
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
