//! Building the routes: policies in their order, what is reserved, where each route leads.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use super::{
    RouteConfig, RouteTable,
    plan::{Action, OwnAnswer, Route, Target},
};
use crate::{
    address::AddressSets,
    authorization::Authorization,
    config::{Config, Faults, Place, Secrets},
    credentials::Credentials,
    entra::Tenants,
    inbound::{InboundPolicy, PolicyConfig, PolicyEntry, Scope},
    outbound::OutboundPolicy,
    request::{Oddities, Reserved, ReservedNames},
    telemetry::Metrics,
    upstream::Upstreams,
};

/// What routes are built from.
#[derive(Debug)]
pub(crate) struct RouteBuilder<'a> {
    pub(crate) config: &'a Config,
    pub(crate) sets: &'a AddressSets,
    pub(crate) secrets: &'a Secrets,
    pub(crate) tenants: &'a Tenants,
    pub(crate) credentials: &'a Credentials,
    pub(crate) upstreams: &'a Upstreams,
    pub(crate) table: &'a RouteTable,
    pub(crate) metrics: &'a Metrics,
    pub(crate) workers: usize,
}

/// One policy of a route with its place, fragments spliced in.
struct Written<'a> {
    config: &'a PolicyConfig,
    place: Place,
    at: Arc<str>,
}

impl<'a> RouteBuilder<'a> {
    /// Builds all routes, or says in `faults` why not.
    pub(crate) fn build(&self, faults: &mut Faults) -> Vec<Route> {
        self.check_names(faults);
        // A name made from an identity is reserved on every route, one that a route overrides on all routes of its upstream:
        // so the routes are built first, and told of each other's names at the end.
        let mut names = ReservedNames::default();
        let mut routes: Vec<_> = self
            .config
            .routes
            .iter()
            .enumerate()
            .filter_map(|(index, route)| self.route(index, route, &mut names, faults))
            .collect();
        names.check(faults);
        let mut by_upstream: BTreeMap<Option<String>, Arc<Reserved>> = BTreeMap::new();
        for route in &mut routes {
            let upstream = route.upstream_name().map(str::to_owned);
            let reserved = by_upstream.entry(upstream).or_insert_with_key(|upstream| Arc::new(names.finish(upstream.as_deref())));
            route.reserved = reserved.clone();
        }
        routes
    }

    fn check_names(&self, faults: &mut Faults) {
        let mut seen = BTreeSet::new();
        for (index, route) in self.config.routes.iter().enumerate() {
            if !seen.insert(&route.name) {
                let place = Place::root().key("routes").index(index).key("name");
                faults.error(&place, format!("there are two routes named `{}`", route.name), "give each route a name of its own");
            }
        }
    }

    fn route(&self, index: usize, config: &RouteConfig, names: &mut ReservedNames, faults: &mut Faults) -> Option<Route> {
        let place = Place::root().key("routes").index(index);
        let action = self.action(config, &place, faults);
        names.enter(config.upstream.as_deref());

        let mut token_places = Vec::new();
        let captures = self.table.captures(index);
        let mut scope = Scope {
            faults,
            sets: &self.sets.by_name,
            secrets: self.secrets,
            tenants: self.tenants,
            captures: Some(&captures),
            anonymous: config.anonymous,
            reserved: names,
            token_places: &mut token_places,
        };
        let mut inbound = Vec::new();
        for written in self.policies(config, &place, scope.faults) {
            let policy = InboundPolicy::build(written.config, &written.place, &mut scope);
            inbound.extend(policy.map(|policy| PolicyEntry { policy, at: written.at }));
        }
        let outbound = config
            .outbound
            .iter()
            .enumerate()
            .filter_map(|(index, policy)| OutboundPolicy::build(policy, &place.key("outbound").index(index), &mut scope));
        let outbound: Vec<_> = outbound.collect();

        let authenticates = self.policies(config, &place, faults).iter().any(|written| written.config.authenticates());
        check_authentication(config, authenticates, &place, faults);
        let authorization = Authorization::build(
            &config.authorization,
            self.credentials,
            &token_places,
            config.anonymous,
            &place.key("authorization"),
            faults,
        );
        Some(Route {
            name: config.name.as_str().into(),
            accept: config.accept.iter().copied().collect::<Oddities>(),
            require_tls: config.require_tls,
            websocket: config.upgrades.contains(&super::UpgradeConfig::Websocket),
            inbound,
            authorization: authorization?,
            action: action?,
            outbound,
            reserved: Arc::default(),
            counters: self.metrics.route(&config.name, self.workers),
        })
    }

    fn action(&self, config: &RouteConfig, place: &Place, faults: &mut Faults) -> Option<Action> {
        match config.leads_to(place, faults)? {
            Target::Respond(respond) => OwnAnswer::build(respond, &place.key("respond"), faults).map(Action::Respond),
            Target::Upstream(name) => {
                let upstream = self.upstreams.find(name).cloned().map(Action::Forward);
                // An upstream that is there and could not be built has been reported where it stands.
                if upstream.is_none() && !self.config.upstreams.contains_key(name) {
                    faults.error(
                        &place.key("upstream"),
                        format!("there is no upstream `{name}`"),
                        one_of(self.config.upstreams.keys()),
                    );
                }
                upstream
            }
        }
    }

    /// The policies of a route in the order they run, fragments spliced in.
    fn policies(&self, config: &'a RouteConfig, place: &Place, faults: &mut Faults) -> Vec<Written<'a>> {
        let mut all = Vec::new();
        let global = List { policies: &self.config.inbound, place: Place::root().key("inbound"), name: "global" };
        let own = List { policies: &config.inbound, place: place.key("inbound"), name: "inbound" };
        for list in [global, own] {
            self.splice(&list, &mut Vec::new(), &mut all, faults);
        }
        all
    }

    fn splice(&self, list: &List<'a>, within: &mut Vec<&'a str>, all: &mut Vec<Written<'a>>, faults: &mut Faults) {
        for (index, policy) in list.policies.iter().enumerate() {
            let place = list.place.index(index);
            let PolicyConfig::IncludeFragment(name) = policy else {
                let at = format!("{}[{index}].{}", list.name, policy.name()).into();
                all.push(Written { config: policy, place: place.key(policy.name()), at });
                continue;
            };
            let place = place.key("include-fragment");
            if within.contains(&name.as_str()) {
                faults.error(&place, format!("the fragment `{name}` includes itself"), "take it out of its own list");
            } else if let Some((name, policies)) = self.config.fragments.get_key_value(name) {
                within.push(name);
                let place = Place::root().key("fragments").key(name);
                self.splice(&List { policies, place, name }, within, all, faults);
                within.pop();
            } else {
                faults.error(&place, format!("there is no fragment `{name}`"), one_of(self.config.fragments.keys()));
            }
        }
    }
}

/// A list of policies as it stands in the config, with the name that audit records give it.
struct List<'a> {
    policies: &'a [PolicyConfig],
    place: Place,
    name: &'a str,
}

/// A forwarding route authenticates, or says that it does not; one that says so hands on no identity.
fn check_authentication(config: &RouteConfig, authenticates: bool, place: &Place, faults: &mut Faults) {
    if config.upstream.is_some() && !authenticates && !config.anonymous {
        faults.error(
            &place.key("name"),
            format!("route `{}` forwards requests and authenticates nobody", config.name),
            "add `validate-azure-ad-token` or `validate-jwt` to its `inbound` list, or say `anonymous: true`",
        );
    }
}

/// "one of …", for cures.
fn one_of<'n>(names: impl Iterator<Item = &'n String>) -> String {
    let names: Vec<_> = names.map(|name| format!("`{name}`")).collect();
    if names.is_empty() { "none is defined".to_owned() } else { format!("defined are {}", names.join(", ")) }
}
