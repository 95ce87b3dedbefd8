//! The arrivals of a request at the gateway: each listener, and each proxy that either config trusts to name the caller.
//!
//! Which caller a config sees by an arrival is asked of the engine, with a request from an address that nobody else has.

use std::{collections::BTreeSet, net::IpAddr};

use super::{
    cell::{Address, Arrival},
    side::Side,
    space::AddressSpace,
};
use crate::{caller::ForwardedHeader, config::ListenerConfig, connection::Scheme, offline::OfflineRequest, settings::Place};

/// The caller of the question.
const PROBE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(198, 18, 77, 77));

/// The arrivals, the addresses of callers behind them, and what cannot be compared.
#[derive(Debug, Default)]
pub(crate) struct Arrivals {
    pub(crate) arrivals: Vec<(Arrival, AddressSpace)>,
    /// Listeners that only one of the configs has, in words.
    pub(crate) alone: Vec<String>,
}

/// A proxy that some config trusts.
struct Proxy {
    address: IpAddr,
    hops: Vec<IpAddr>,
    fields: Vec<(String, String)>,
}

/// Finds the arrivals to two configs. `schemes` is whether it matters which scheme the caller uses.
pub(crate) async fn arrivals(sides: [&Side; 2], schemes: bool) -> Arrivals {
    let mut found = Arrivals::default();
    let [old, new] = sides.map(|side| side.document.config.listeners.as_slice());
    if old.is_empty() && new.is_empty() {
        found.arrivals.push((direct([None, None], false), AddressSpace::all()));
        return found;
    }
    let mut known: BTreeSet<String> = BTreeSet::new();
    for (index, listener) in old.iter().enumerate() {
        let same = |other: &&ListenerConfig| other.name == listener.name;
        let same_address = |other: &&ListenerConfig| other.address.as_slice() == listener.address.as_slice();
        let Some(other) = new.iter().find(same).or_else(|| new.iter().find(same_address)) else {
            found.alone.push(format!("the listener {} is removed", listener.name));
            continue;
        };
        let at = new.iter().position(|listener| listener.name == other.name).unwrap_or(0);
        let content = |side: &Side, index: usize| {
            let parts = ["trusted-proxies", "trust-path", "forwarded-header", "client-certificates", "proxy-protocol"];
            let place = Place::root().key("listeners").index(index);
            parts.map(|key| side.content(&place.key(key))).join(" ")
        };
        let trust = [content(sides[0], index), content(sides[1], at)];
        let tls = [listener, other].map(|listener| listener.tls.is_some());
        if !known.insert(format!("{tls:?} {trust:?}")) {
            continue;
        }
        found.arrivals.push((direct([Some(listener), Some(other)], tls[0]), AddressSpace::all()));
        Box::pin(through_proxies(sides, [listener, other], (trust[0] != trust[1], schemes), &mut found)).await;
    }
    let is_new = |other: &&ListenerConfig| {
        old.iter().all(|listener| listener.name != other.name && listener.address.as_slice() != other.address.as_slice())
    };
    found.alone.extend(new.iter().filter(is_new).map(|listener| format!("the listener {} is added", listener.name)));
    found
}

fn direct(listeners: [Option<&ListenerConfig>; 2], tls: bool) -> Arrival {
    let scheme = |listener: Option<&ListenerConfig>| match listener {
        Some(listener) if listener.tls.is_none() => Scheme::Http,
        _ => Scheme::Https,
    };
    Arrival {
        tls: tls || listeners[0].is_none(),
        schemes: listeners.map(scheme),
        listeners: listeners.map(|listener| listener.map(|listener| listener.name.clone()).unwrap_or_default()),
        proxy: None,
        hops: Vec::new(),
        forwarded: false,
        fields: Vec::new(),
        callers: [Address::Any, Address::Any],
    }
}

async fn through_proxies(
    sides: [&Side; 2],
    listeners: [&ListenerConfig; 2],
    (changed, schemes): (bool, bool),
    found: &mut Arrivals,
) {
    let mut proxies = Vec::new();
    let mut hops = AddressSpace::default();
    for (side, listener) in sides.into_iter().zip(listeners) {
        let spaces = trusted(side, listener, &mut proxies);
        hops = hops.or(&spaces);
    }
    let judged = sides.iter().any(|side| looks_at_peers(side));
    let plain = direct([Some(listeners[0]), Some(listeners[1])], listeners[0].tls.is_some());
    // Of proxies that both configs trust alike one is enough, and only where something depends on it.
    let mut alike = false;
    for proxy in proxies {
        let forwarded = listeners[0].forwarded_header == ForwardedHeader::Forwarded;
        let mut arrival =
            Arrival { proxy: Some(proxy.address), hops: proxy.hops, forwarded, fields: proxy.fields, ..plain.clone() };
        let Some(callers) = callers(sides, &arrival).await else { continue };
        arrival.callers = callers;
        let same = callers[0] == callers[1];
        if same && (alike || !(judged || schemes && !arrival.tls) || callers[0] != Address::Any) {
            continue;
        }
        alike |= same;
        if changed || same {
            let callers = AddressSpace::all().without(&hops);
            if schemes && !arrival.tls {
                let secure = arrival.callers.map(|caller| if caller == Address::Any { Scheme::Https } else { Scheme::Http });
                let mut told = Arrival { schemes: secure, ..arrival.clone() };
                told.fields.push(("x-forwarded-proto".to_owned(), "https".to_owned()));
                found.arrivals.push((told, callers.clone()));
            }
            found.arrivals.push((arrival, callers));
        }
    }
}

/// Returns whether a rule of the config looks at the address of the peer.
fn looks_at_peers(side: &Side) -> bool {
    let root = Place::root();
    let text = side.content(&root.key("inbound")) + &side.content(&root.key("fragments")) + &side.content(&root.key("routes"));
    text.contains("of:\"peer\"") || text.contains("trusted-headers:")
}

/// Collects the proxies of a listener, and returns all their addresses.
fn trusted(side: &Side, listener: &ListenerConfig, proxies: &mut Vec<Proxy>) -> AddressSpace {
    let index = side.document.config.listeners.iter().position(|other| other.name == listener.name).unwrap_or(0);
    let place = Place::root().key("listeners").index(index);
    let mut all = AddressSpace::default();
    for (space, fields) in side.trusted(&listener.trusted_proxies, &place.key("trusted-proxies")) {
        // A part that the other config may not trust is a class of its own.
        let fresh =
            space.without(&proxies.iter().fold(AddressSpace::default(), |all, proxy| all.or(&AddressSpace::one(proxy.address))));
        let samples = space.sample().into_iter().chain(fresh.sample()).chain(space.ends().take(4));
        for address in samples {
            if proxies.iter().all(|proxy| proxy.address != address) {
                let fields = fields.iter().filter_map(|(name, values)| Some((name.clone(), values.first()?.clone())));
                proxies.push(Proxy { address, hops: Vec::new(), fields: fields.collect() });
            }
        }
        all = all.or(&space);
    }
    let mut steps = Vec::new();
    for (index, step) in listener.trust_path.iter().enumerate() {
        let space = side.space(step.from.as_slice(), &place.key("trust-path").index(index));
        let fields: Vec<(String, String)> = step
            .require_header
            .iter()
            .filter_map(|(name, values)| Some((name.to_ascii_lowercase(), values.first()?.clone())))
            .collect();
        steps.extend(space.sample().map(|address| (address, fields, step.optional)));
        all = all.or(&space);
    }
    for whole in [true, false] {
        let kept: Vec<_> = steps.iter().filter(|(_, _, optional)| whole || !optional).collect();
        let Some((last, before)) = kept.split_last() else { continue };
        let proxy = Proxy {
            address: last.0,
            hops: before.iter().map(|(address, ..)| *address).collect(),
            fields: kept.iter().flat_map(|(_, fields, _)| fields.iter().cloned()).collect(),
        };
        if proxies.iter().all(|other| other.address != proxy.address || other.hops != proxy.hops) {
            proxies.push(proxy);
        }
    }
    all
}

/// Returns which caller each config sees; `None` if one of them sees none.
async fn callers(sides: [&Side; 2], arrival: &Arrival) -> Option<[Address; 2]> {
    let mut callers = [Address::Any, Address::Any];
    for (index, side) in sides.into_iter().enumerate() {
        let mut request = OfflineRequest::new("GET", "https://another.example/", PROBE).ok()?;
        arrival.put(&mut request, index, PROBE);
        request.read_trace = false;
        let seen = side.gateway.run(&request).await.caller?.address;
        callers[index] = if seen == PROBE { Address::Any } else { Address::Known(seen) };
    }
    Some(callers)
}

impl Arrival {
    /// Lets a request come on this arrival, from this caller.
    pub(crate) fn put(&self, request: &mut OfflineRequest, index: usize, caller: IpAddr) {
        let listener = &self.listeners[index];
        request.listener = (!listener.is_empty()).then(|| listener.clone());
        request.scheme = if self.tls { Scheme::Https } else { Scheme::Http };
        request.peer = self.proxy.unwrap_or(caller);
        for (name, value) in &self.fields {
            request.set_header(name, Some(value));
        }
        if self.proxy.is_none() {
            return;
        }
        let hops = std::iter::once(caller).chain(self.hops.iter().copied());
        let node = |hop: IpAddr| match hop {
            hop if !self.forwarded => hop.to_string(),
            IpAddr::V4(hop) => format!("for={hop}"),
            IpAddr::V6(hop) => format!("for=\"[{hop}]\""),
        };
        let list = hops.map(node).collect::<Vec<_>>().join(", ");
        request.set_header(if self.forwarded { "Forwarded" } else { "X-Forwarded-For" }, Some(&list));
    }
}
