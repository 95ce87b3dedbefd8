//! The rules of a config's listeners.

use std::{
    net::SocketAddr,
    sync::{Arc, OnceLock},
};

use crate::{
    address::AddressSets,
    base::clock::Clock,
    config::{Config, Document},
    decision::{DecisionRules, Instructions, RulesContext},
    listener::{Listener, ListenerSettings, ServedCertificate, lint_hosts},
    route::Route,
    settings::{Faults, Lint, OneOrMany, Place},
};

/// The rules of a listener.
#[derive(Debug)]
pub struct ListenerRules {
    /// The listener's name.
    pub name: Arc<str>,
    /// Its addresses.
    pub addresses: Vec<SocketAddr>,
    /// Its settings, which each connection keeps that was made under them.
    pub settings: ListenerSettings,
    /// The rules for questions of another proxy, if the listener answers these alone.
    pub(crate) decides: Option<Arc<DecisionRules>>,
    /// The listener without sockets, for an embedded gateway.
    mounted: OnceLock<Arc<Listener>>,
}

impl ListenerRules {
    /// Returns the listener without sockets, for the connections that an application has accepted itself.
    pub(crate) fn mounted(&self) -> &Arc<Listener> {
        self.mounted.get_or_init(|| Listener::new(self.name.clone(), self.settings.clone()))
    }

    /// Returns what the proxy that asks has to be told, if the listener answers questions.
    pub(crate) fn instructions(&self) -> Option<Instructions> {
        let rules = self.decides.as_ref()?;
        Some(Instructions::of(&self.name, *self.addresses.first()?, self.settings.tls.is_some(), rules))
    }

    /// Returns the certificates that the listener shows; none on a plain one.
    pub(super) fn certificates(&self) -> Arc<[ServedCertificate]> {
        self.settings.tls.as_ref().map_or_else(|| Arc::new([]) as Arc<[_]>, |tls| tls.served())
    }
}

/// Warns of listener certificates that clients will refuse.
pub(super) fn lint_certificates(config: &Config, listeners: &[ListenerRules], now: u64, faults: &mut Faults) {
    let mut all = Vec::new();
    for rules in listeners {
        // A listener that could not be built is none of those, and the index in the config is another one.
        let Some(index) = config.listeners.iter().position(|listener| *listener.name == *rules.name) else { continue };
        let place = Place::root().key("listeners").index(index).key("tls");
        let is_list = matches!(config.listeners[index].tls, Some(OneOrMany::Many(_)));
        for certificate in &*rules.certificates() {
            certificate.lint(&place, is_list, now, faults);
            all.push(certificate.clone());
        }
    }
    // Where a proxy stands in front, callers take its certificate, and the gateway's may be for another name.
    let proxied = config.listeners.iter().any(|listener| !listener.trusted_proxies.is_empty() || !listener.trust_path.is_empty());
    if all.is_empty() || proxied {
        return;
    }
    let hosts = config.routes.iter().enumerate().flat_map(|(index, route)| {
        let place = Place::root().key("routes").index(index).key("match").key("hosts");
        route.matches.hosts.iter().enumerate().map(move |(index, host)| (host.as_str(), place.index(index)))
    });
    lint_hosts(hosts, &all, faults);
}

/// Builds the rules of all listeners, of which there must be one if they are `required`.
pub(super) fn build_listeners(
    document: &Document,
    required: bool,
    (sets, clock): (&AddressSets, &Clock),
    faults: &mut Faults,
) -> Vec<ListenerRules> {
    let Document { config, base, .. } = document;
    let place = Place::root().key("listeners");
    if config.listeners.is_empty() && required {
        faults.error(&place, "no listener is defined, so nothing would be served", "add one with a `name` and an `address`");
    }
    let mut rules: Vec<ListenerRules> = Vec::new();
    for (index, listener) in config.listeners.iter().enumerate() {
        let place = place.index(index);
        if rules.iter().any(|other| *other.name == *listener.name) {
            let message = format!("there are two listeners named `{}`", listener.name);
            faults.error(&place.key("name"), message, "give each listener a name of its own");
        }
        let Some(settings) = listener.settings((base, sets, clock), &place, faults) else { continue };
        rules.push(ListenerRules {
            name: listener.name.as_str().into(),
            addresses: listener.addresses(&place, faults),
            settings,
            decides: None,
            mounted: OnceLock::new(),
        });
    }
    rules
}

/// Builds the rules of listeners that answer questions of other proxies, once the routes are there.
pub(super) fn build_decisions(
    config: &Config,
    sets: &AddressSets,
    routes: &[Route],
    listeners: &mut [ListenerRules],
    faults: &mut Faults,
) {
    // A route that could not be built has been reported, and the indices of the others are not those of the config.
    if routes.len() < config.routes.len() {
        return;
    }
    let with = RulesContext { sets, written: &config.routes, routes, global_outbound: !config.outbound.is_empty() };
    let mut decided = vec![false; routes.len()];
    for (index, listener) in config.listeners.iter().enumerate() {
        let Some(decides) = &listener.decides else { continue };
        let place = Place::root().key("listeners").index(index).key("decides");
        let rules = DecisionRules::build(decides, with, &place, faults).map(Arc::new);
        if let Some(rules) = &rules {
            decided.iter_mut().zip(&*rules.routes).for_each(|(decided, here)| *decided |= here);
        }
        if let Some(listener) = listeners.iter_mut().find(|built| *built.name == *listener.name) {
            listener.decides = rules;
        }
    }
    for (index, route) in config.routes.iter().enumerate().filter(|(index, route)| route.decide_only && !decided[*index]) {
        let place = Place::root().key("routes").index(index).key("decide-only");
        let message = format!("no listener decides the route `{}`, so that nothing reaches it", route.name);
        faults.warning(
            Lint::Unused,
            &place,
            message,
            "name it in the `routes` of a listener's `decides`, or give it an `upstream`",
        );
    }
}
