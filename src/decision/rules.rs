//! The rules of a listener for questions: who may ask, about which routes, and what is told.

use std::{net::IpAddr, sync::Arc};

use http::HeaderName;

use super::{
    DecidesConfig, DialectConfig,
    answer::{Admitted, Answer, Told},
    changes::Untellable,
    kept,
};
use crate::{
    address::{AddressSet, AddressSets},
    base::{clock::Clock, fields::Fields},
    route::{Action, Route, RouteConfig},
    settings::{Faults, Lint, Place},
};

/// The rules, built.
#[derive(Debug)]
pub(crate) struct DecisionRules {
    /// How the proxy asks.
    pub(crate) dialect: DialectConfig,
    /// The addresses that may ask; `None` if the certificate alone counts.
    peers: Option<Arc<AddressSet>>,
    /// Whether the routes, by their index, are decided here.
    pub(crate) routes: Arc<[bool]>,
    /// The fields that answers may change, which the proxy's own config lists, and those that no client may set.
    told: Told,
}

/// The context in which rules are built.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RulesContext<'a> {
    /// The named address sets.
    pub(crate) sets: &'a AddressSets,
    /// The routes as written.
    pub(crate) written: &'a [RouteConfig],
    /// The routes, built, in the same order.
    pub(crate) routes: &'a [Route],
    /// Whether policies stand in the global list on responses.
    pub(crate) global_outbound: bool,
}

impl DecisionRules {
    /// Builds the rules at this place, or reports their faults.
    pub(crate) fn build(config: &DecidesConfig, with: RulesContext<'_>, place: &Place, faults: &mut Faults) -> Option<Self> {
        let before = faults.errors();
        if config.peers.is_empty() && config.client_certificates.is_none() {
            faults.error(
                place,
                "it is not said which proxies may ask, and whoever asks chooses the request that is judged",
                "list their addresses as `peers: [10.0.0.0/24]`, or ask for their certificates with `client-certificates`",
            );
        }
        let peers = peers(config, with.sets, place, faults);
        let indices = routes(config, with.written, place, faults);
        if faults.errors() > before {
            return None;
        }
        if with.global_outbound {
            let message =
                "the policies on every response do not run for requests that another proxy forwards: it has the response";
            faults.warning(Lint::DecisionOutbound, &place.key("routes"), message, "change the response in the proxy that asks");
        }
        for &index in &indices {
            let (written, route) = (&with.written[index], &with.routes[index]);
            kept::check(config, written, route, &Place::root().key("routes").index(index), faults);
        }
        let decided: Vec<&Route> = indices.iter().map(|index| &with.routes[*index]).collect();
        let names = names(config.dialect, &decided, with.routes);
        let removed =
            if config.dialect.is_grpc() || config.dialect == DialectConfig::EnvoyHttp { spellings(&names) } else { Vec::new() };
        let mut flags = vec![false; with.routes.len()];
        indices.into_iter().for_each(|index| flags[index] = true);
        (faults.errors() == before).then(|| Self {
            dialect: config.dialect,
            peers,
            routes: flags.into(),
            told: Told::new(names, removed),
        })
    }

    /// Returns whether a proxy of this address may ask.
    pub(crate) fn admits(&self, peer: IpAddr, clock: &Clock) -> bool {
        self.peers.as_ref().is_none_or(|peers| peers.contains(peer, clock))
    }

    /// Makes the answer to a question about an admitted request; `informs` are fields for the response to the caller.
    ///
    /// # Errors
    /// Fails if the proxy cannot be told of a change.
    pub(crate) fn admit(&self, admitted: &Admitted<'_>, informs: &Fields) -> Result<Answer, Untellable> {
        self.dialect.admit(admitted, &self.told, informs)
    }

    /// Returns the fields that answers may change, which the proxy's own config lists.
    pub(crate) fn names(&self) -> &[HeaderName] {
        &self.told.names
    }
}

fn peers(config: &DecidesConfig, sets: &AddressSets, place: &Place, faults: &mut Faults) -> Option<Arc<AddressSet>> {
    if config.peers.is_empty() {
        return None;
    }
    let place = place.key("peers");
    let peers = AddressSet::build(&config.peers, &place, sets, faults)?;
    if peers.holds_a_whole_family() {
        let message = "every address of a family may ask, so every client could ask for itself and be told the identity headers";
        faults.error(&place, message, "list the proxies alone");
    }
    Some(peers)
}

/// Returns the indices of the routes that are decided.
fn routes(config: &DecidesConfig, written: &[RouteConfig], place: &Place, faults: &mut Faults) -> Vec<usize> {
    let place = place.key("routes");
    let Some(names) = &config.routes else {
        let decided: Vec<_> = (0..written.len()).filter(|index| written[*index].decide_only).collect();
        if decided.is_empty() {
            let message = "no route is decided here: none is listed, and none has `decide-only: true`";
            faults.error(
                &place,
                message,
                "list the routes by their names, or write `decide-only: true` on those without an upstream",
            );
        }
        return decided;
    };
    let mut found = Vec::new();
    for (index, name) in names.iter().enumerate() {
        match written.iter().position(|route| route.name == *name) {
            Some(route) => found.push(route),
            None => {
                faults.error(&place.index(index), format!("there is no route `{name}`"), "write the `name` of one of `routes`")
            }
        }
    }
    if names.is_empty() {
        faults.error(&place, "the list is empty, so every question would be refused", "list the routes by their names");
    }
    found.sort_unstable();
    found.dedup();
    found
}

/// The fields that the gateway makes for every backend.
const FORWARDING: [HeaderName; 6] = [
    HeaderName::from_static("x-forwarded-for"),
    HeaderName::from_static("x-forwarded-proto"),
    HeaderName::from_static("x-forwarded-host"),
    HeaderName::from_static("x-request-id"),
    HeaderName::from_static("traceparent"),
    HeaderName::from_static("tracestate"),
];

/// The fields that are removed from every request, by the names that are in use: proxies that change the fields of a list alone have them
/// on it. A request with another one of the kind is refused.
const COMMON: [&str; 33] = [
    "forwarded",
    "x-forwarded-port",
    "x-forwarded-prefix",
    "x-forwarded-server",
    "x-forwarded-scheme",
    "x-forwarded-ssl",
    "x-forwarded-method",
    "x-forwarded-uri",
    "x-forwarded-user",
    "x-forwarded-email",
    "x-forwarded-groups",
    "x-forwarded-client-cert",
    "x-forwarded-tls-client-cert",
    "x-original-url",
    "x-original-uri",
    "x-original-method",
    "x-rewrite-url",
    "x-http-method-override",
    "x-real-ip",
    "x-client-ip",
    "true-client-ip",
    "cf-connecting-ip",
    "x-auth-request-user",
    "x-auth-request-email",
    "remote-user",
    "x-remote-user",
    "x-ms-client-principal",
    "x-ms-client-principal-id",
    "x-ms-client-principal-name",
    "x-ms-client-principal-idp",
    "x-arr-clientcert",
    "client-cert",
    "proxy",
];

/// Returns the fields that answers may change: what the decided routes write, what any route reserves on them, and what never comes from a
/// client. Envoy over gRPC shows every field of a request, so that those of clients need no list.
fn names(dialect: DialectConfig, decided: &[&Route], all: &[Route]) -> Vec<HeaderName> {
    let mut names: Vec<HeaderName> = FORWARDING.to_vec();
    for route in all {
        let own = decided.iter().any(|decided| std::ptr::eq(*decided, route));
        let written = route.written_names();
        names.extend(written.into_iter().filter(|name| own || decided.iter().any(|decided| decided.reserved.contains(name))));
    }
    if !dialect.is_grpc() {
        names.extend(COMMON.map(HeaderName::from_static));
    }
    names.sort_by(|one, other| one.as_str().cmp(other.as_str()));
    names.dedup();
    names
}

/// Returns the names, and each with underscores, as backends of CGI may read it.
fn spellings(names: &[HeaderName]) -> Vec<HeaderName> {
    let folded = names.iter().filter_map(|name| HeaderName::try_from(name.as_str().replace('-', "_")).ok());
    let mut all: Vec<_> = names.iter().cloned().chain(folded).collect();
    all.sort_by(|one, other| one.as_str().cmp(other.as_str()));
    all.dedup();
    all
}

/// Returns whether requests of the route can be decided: it leads to an upstream, or nowhere.
pub(super) const fn leads_to_a_backend(route: &Route) -> bool {
    matches!(route.action, Action::Forward(_) | Action::Decide)
}
