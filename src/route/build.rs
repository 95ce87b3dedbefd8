//! Building of routes: their policies in order, reserved names, and destinations.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    sync::{Arc, atomic::AtomicBool},
};

use super::{
    Described, ResourceMetadata, RouteConfig, RouteTable, TrustedHeaders,
    limits::RouteLimits,
    plan::{Action, RequireTls, Route, Target},
    report_only,
};
use crate::{
    address::AddressSets,
    authorization::{self, Authorization, AuthorizationConfig},
    credentials::Credentials,
    entra::Tenants,
    graph::Graphs,
    identity::{AssertionKeys, BackendAssertion, IdentityHeaders},
    identity_http::IdentityHttp,
    inbound::{
        LimitContext, PolicyConfig, ReturnResponse, SharedPolicies,
        build_context::{AskedCertificates, BuildContext, CertificateContext, OnError, PartnerRoute},
        credential_names::CredentialNames,
        filters,
        list::{self, Fragments, ListContext, PolicyList, Written, allows_several_tenants},
        validate_azure_ad_token,
    },
    outbound::{OutboundList, OutboundPolicyConfig},
    partner::Partners,
    request::{Ambiguities, Reserved, ReservedNames, TokenPlace},
    settings::{Faults, Lint, Place, Secrets},
    telemetry::Metrics,
    token_relay::{self, TokenRelay},
    upstream::{UpstreamConfig, Upstreams},
};

/// The parts of the document that define routes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RouteSources<'a> {
    /// The routes as written.
    pub(crate) routes: &'a [RouteConfig],
    /// The policies that run first on every route.
    pub(crate) inbound: &'a [PolicyConfig],
    /// The policies that run first on every response.
    pub(crate) outbound: &'a [OutboundPolicyConfig],
    /// The policies that run first on every refusal.
    pub(crate) on_error: &'a [OutboundPolicyConfig],
    /// Named lists of policies.
    pub(crate) fragments: &'a Fragments,
    /// The upstreams by name, including those that could not be built.
    pub(crate) upstreams: &'a BTreeMap<String, UpstreamConfig>,
    /// The requirements of all listeners for clients' certificates.
    pub(crate) asked_certificates: AskedCertificates,
    /// Whether every listener offers HTTP/2 to browsers, which take it only over TLS.
    pub(crate) all_offer_http2: bool,
}

/// The context in which routes are built.
#[derive(Debug)]
pub(crate) struct RouteBuilder<'a> {
    pub(crate) config: RouteSources<'a>,
    /// The folder that file names are relative to.
    pub(crate) base: &'a Path,
    pub(crate) sets: &'a AddressSets,
    pub(crate) secrets: &'a Secrets,
    pub(crate) tenants: &'a Tenants,
    pub(crate) credentials: &'a Credentials,
    pub(crate) graphs: &'a Graphs,
    pub(crate) upstreams: &'a Upstreams,
    pub(crate) partners: &'a Arc<Partners>,
    pub(crate) table: &'a RouteTable,
    /// Whether routes that name no other target lead to a service of the application.
    pub(crate) before_service: bool,
    pub(crate) described: &'a [Described],
    pub(crate) metrics: &'a Metrics,
    pub(crate) workers: usize,
    pub(crate) limits: LimitContext<'a>,
    pub(crate) http: &'a Arc<IdentityHttp>,
    /// The names under which callers send credentials.
    pub(crate) credential_names: &'a CredentialNames,
    /// The keys that sign assertions; `None` if they cannot be used, which was reported.
    pub(crate) assertion_keys: Option<&'a Arc<AssertionKeys>>,
}

impl<'a> RouteBuilder<'a> {
    /// Builds all routes, or reports their faults.
    pub(crate) fn build(&self, faults: &mut Faults) -> Vec<Route> {
        self.check_names(faults);
        // A name made from an identity is reserved on every route, one that a route overrides on all routes of its upstream:
        // so the routes are built first, and told of each other's names at the end.
        let mut names = ReservedNames::default();
        let shared = SharedPolicies::default();
        let mut routes: Vec<_> = self
            .config
            .routes
            .iter()
            .enumerate()
            .filter_map(|(index, route)| self.route(index, route, (&mut names, &shared), faults))
            .collect();
        names.check(faults);
        self.lint_affinity(&routes, faults);
        self.describe(&mut routes, &shared, faults);
        let mut by_upstream: BTreeMap<Box<[Arc<str>]>, Arc<Reserved>> = BTreeMap::new();
        for route in &mut routes {
            let reserved = by_upstream.entry(route.upstreams.clone());
            route.reserved = reserved.or_insert_with_key(|upstreams| Arc::new(names.finish_for(upstreams))).clone();
        }
        routes
    }

    /// Warns of upstreams with per-caller connections that receive no caller's credentials.
    fn lint_affinity(&self, routes: &[Route], faults: &mut Faults) {
        let kept = |upstream: &str| {
            routes.iter().any(|route| route.upstreams.iter().any(|name| **name == *upstream) && route.authorization.is_kept())
        };
        for upstream in self.upstreams.iter().filter(|upstream| upstream.has_affinity() && !kept(upstream.name())) {
            let place = Place::root().key("upstreams").key(upstream.name()).key("connection-affinity");
            let message = "no route lets callers' own credentials through to this upstream, so NTLM and Negotiate never reach it";
            faults.warning(Lint::AffinityUnused, &place, message, "write `authorization: keep` on its route, or leave this out");
        }
        let affinity = self.upstreams.iter().find(|upstream| upstream.has_affinity());
        if let Some(upstream) = affinity.filter(|_| self.config.all_offer_http2) {
            let place = Place::root().key("upstreams").key(upstream.name()).key("connection-affinity");
            let message = "every listener offers HTTP/2, which browsers then take, and there NTLM and Negotiate cannot work";
            faults.warning(
                Lint::AffinityOverHttp2,
                &place,
                message,
                "write `http2: false` on the listener that these callers use",
            );
        }
    }

    /// Adds the requested metadata to routes, and adds the routes that serve it.
    fn describe(&self, routes: &mut Vec<Route>, shared: &SharedPolicies, faults: &mut Faults) {
        for described in self.described {
            let Some(metadata) = ResourceMetadata::build(described, &self.config, self.tenants, faults) else { continue };
            for index in &described.routes {
                // A route that could not be built keeps the config from being used, whichever route this is then.
                if let Some(route) = routes.get_mut(*index) {
                    route.metadata = Some(metadata.clone());
                }
            }
            let names = described.routes.iter().filter_map(|index| self.config.routes.get(*index)).map(|route| &*route.name);
            let name = format!("{} (metadata)", names.collect::<Vec<_>>().join(", "));
            routes.extend(self.document(&name, metadata, shared, faults));
        }
    }

    /// Makes the route of a metadata document. It is served without a token: of the global policies only those run that come
    /// before the first one that requires a token.
    fn document(
        &self,
        name: &str,
        metadata: Arc<ResourceMetadata>,
        shared: &SharedPolicies,
        faults: &mut Faults,
    ) -> Option<Route> {
        let asks = |policy: &PolicyConfig| {
            let mut asks = false;
            list::each(std::slice::from_ref(policy), self.config.fragments, 0, &mut |policy| {
                asks |= policy.is(|settings| settings.requires_token());
            });
            asks
        };
        let public = self.config.inbound.iter().position(asks).unwrap_or(self.config.inbound.len());
        let list = Written {
            policies: &self.config.inbound[..public],
            place: Place::root().key("inbound"),
            name: "global",
            shared: true,
            report_only: false,
        };
        let mut names = ReservedNames::default();
        let mut context = BuildContext {
            faults,
            sets: self.sets,
            secrets: self.secrets,
            tenants: self.tenants,
            limits: self.limits,
            captures: None,
            anonymous: true,
            reserved: &mut names,
            certificates: self.certificates(),
            partners: None,
            token_places: &mut Vec::new(),
            graph: None,
            tokens_before: &mut Default::default(),
            on_error: Default::default(),
            credential_names: self.credential_names,
            upstreams: Some((self.upstreams, self.config.upstreams)),
            key_places: &mut Vec::new(),
        };
        let inbound = PolicyList::build(&[list], self.list_context(shared), &mut context);
        let place = Place::root();
        let setting = authorization::AuthorizationContext {
            credentials: self.credentials,
            tenants: self.tenants,
            listed_tenants: &[],
            token_places: &[],
            captures: &[],
            secrets: self.secrets,
            anonymous: true,
        };
        let authorization = Authorization::build(&AuthorizationConfig::Absent, setting, &place, faults)?;
        Some(Route {
            name: name.into(),
            accept: Ambiguities::NONE,
            require_tls: RequireTls::No,
            limits: RouteLimits::default(),
            server_timing: false,
            websocket: false,
            report_only: false,
            hinted: AtomicBool::new(false),
            trusted_headers: None,
            inbound,
            identity_headers: Default::default(),
            backend_assertion: None,
            key_places: Box::default(),
            authorization,
            action: Action::Describe(metadata),
            upstreams: Box::default(),
            outbound: Default::default(),
            on_error: self.on_error_everywhere(&mut Faults::default()),
            metadata: None,
            reserved: Reserved::always(),
            read: Box::default(),
            judges_upstream_fields: false,
            counters: self.metrics.route(name, self.workers),
        })
    }

    /// Returns the context of the outermost lists.
    fn list_context<'c>(&'c self, shared: &'c SharedPolicies) -> ListContext<'c> {
        ListContext { fragments: self.config.fragments, shared, depth: 0, report_only: false }
    }

    /// Returns the state of clients' certificates before any policy of a route.
    pub(super) fn certificates(&self) -> CertificateContext<'a> {
        let asked = self.config.asked_certificates;
        CertificateContext { base: self.base, asked, validated: asked.required }
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

    fn route(
        &self,
        index: usize,
        config: &RouteConfig,
        (names, shared): (&mut ReservedNames, &SharedPolicies),
        faults: &mut Faults,
    ) -> Option<Route> {
        let place = Place::root().key("routes").index(index);
        let target = config.leads_to(self.before_service, &place, faults);
        let lists = self.lists(config, &place);
        let mut policies = Vec::new();
        for list in &lists {
            list::each(list.policies, self.config.fragments, 0, &mut |policy| policies.push(policy));
        }
        let upstreams = self.upstreams_of(config, &policies, &place, faults);
        names.enter(upstreams.iter().map(|name| &**name));
        let several_tenants = allows_several_tenants(policies.iter().copied(), self.tenants);
        let partner_route = PartnerRoute { name: &config.name, has_token: false, several_tenants, checked: false };
        let (mut token_places, mut key_places) = (Vec::new(), Vec::new());
        let captures = self.table.captures(index);
        let mut context = BuildContext {
            faults,
            sets: self.sets,
            secrets: self.secrets,
            tenants: self.tenants,
            limits: self.limits,
            captures: Some(&captures),
            anonymous: config.anonymous,
            reserved: names,
            certificates: self.certificates(),
            partners: Some((self.partners, partner_route)),
            token_places: &mut token_places,
            graph: Some((self.graphs, self.credentials)),
            tokens_before: &mut Default::default(),
            on_error: Default::default(),
            credential_names: self.credential_names,
            upstreams: Some((self.upstreams, self.config.upstreams)),
            key_places: &mut key_places,
        };
        let inbound = PolicyList::build(&lists, self.list_context(shared), &mut context);
        // The answer can read what the policies before it know.
        let respond = match &target {
            Some(Target::Respond(respond)) => ReturnResponse::respond(&respond.as_policy(), &place.key("respond"), &mut context),
            _ => None,
        };
        let outbound = self.global(self.config.outbound, "outbound", OnError::No, &mut context);
        let own = (&place.key("outbound"), "outbound");
        let outbound = outbound.then(OutboundList::build(&config.outbound, own, self.config.fragments, &mut context));
        let on_error = self.global(self.config.on_error, "on-error", OnError::Everywhere, &mut context);
        context.on_error = OnError::OfRoute;
        let own = (&place.key("on-error"), "on-error");
        let on_error = on_error.then(OutboundList::build(&config.on_error, own, self.config.fragments, &mut context));
        context.on_error = OnError::No;
        let identity_headers =
            IdentityHeaders::build(&config.identity_headers, &place.key("identity-headers"), &mut context).unwrap_or_default();
        let trusted_headers = config
            .trusted_headers
            .as_ref()
            .and_then(|config| TrustedHeaders::build(config, &place.key("trusted-headers"), &mut context));
        let mut read = names.take_read();
        read.extend(token_places.iter().filter_map(|place| match place {
            TokenPlace::Header(name) => Some(name.clone()),
            TokenPlace::Query(_) => None,
        }));
        let action = match target {
            Some(Target::Respond(_)) => respond.map(|answer| Action::Respond(Box::new(answer))),
            target => target.and_then(|target| self.action(target, config, &place, faults)),
        };
        let forwards = config.upstream.is_some() || matches!(action, Some(Action::Service | Action::Decide));
        let told = [
            ("identity-headers", !config.identity_headers.is_empty()),
            ("backend-assertion", config.backend_assertion.is_some()),
        ];
        for (key, _) in told.into_iter().filter(|(_, written)| *written && !forwards) {
            faults.error(&place.key(key), "the route has no upstream that could be told who calls", "leave it out");
        }

        let authenticates = lists.iter().any(|list| list::authenticates(list.policies, self.config.fragments, 0));
        check_authentication(config, forwards, authenticates, &place, faults);
        if authenticates {
            report_only::check(config, &lists, self.config.fragments, &place, faults);
        }
        if config.mode.is_report_only() && config.token_relay.is_some() {
            let message = "a route that relays token requests judges them by itself, and none of that can be report-only";
            faults.error(&place.key("mode"), message, "leave it out");
        }
        filters::lint(&inbound, faults);
        let backend_assertion = config.backend_assertion.as_ref().and_then(|config| {
            // A token is what there is to assert something of: other ways to say who calls leave none.
            let knows = !token_places.is_empty();
            BackendAssertion::build(config, self.assertion_keys, knows, &place.key("backend-assertion"), faults)
        });
        let listed_tenants = listed_tenants(&policies, self.tenants);
        let setting = authorization::AuthorizationContext {
            credentials: self.credentials,
            tenants: self.tenants,
            listed_tenants: &listed_tenants,
            token_places: &token_places,
            captures: &captures,
            secrets: self.secrets,
            anonymous: config.anonymous,
        };
        let authorization = Authorization::build(&config.authorization, setting, &place.key("authorization"), faults);
        if let Some(authorization) = &authorization {
            authorization.check_audiences(&audiences(&policies), &place.key("authorization"), faults);
        }
        let judges_upstream_fields = backend_assertion.is_some() || inbound.judges_upstream_fields();
        Some(Route {
            name: config.name.as_str().into(),
            accept: config.accept.iter().copied().collect::<Ambiguities>(),
            require_tls: config.require_tls.into(),
            limits: RouteLimits::build(config.limits.as_ref(), &place.key("limits"), faults),
            server_timing: config.server_timing,
            report_only: config.mode.is_report_only(),
            websocket: config.upgrades.contains(&super::UpgradeConfig::Websocket),
            hinted: AtomicBool::new(false),
            trusted_headers,
            inbound,
            identity_headers,
            backend_assertion,
            key_places: key_places.into(),
            authorization: authorization?,
            action: action?,
            upstreams,
            outbound,
            on_error,
            metadata: None,
            reserved: Reserved::always(),
            read: read.into(),
            judges_upstream_fields,
            counters: self.metrics.route(&config.name, self.workers),
        })
    }

    fn action(&self, target: Target<'_>, config: &RouteConfig, place: &Place, faults: &mut Faults) -> Option<Action> {
        match target {
            Target::Respond(_) => None,
            Target::Relay(relay) => {
                let with = token_relay::RelayContext {
                    tenants: self.tenants,
                    partners: self.partners,
                    http: self.http,
                    route: &config.name,
                    one_path: (config.matches.is_one_path_for("POST"), &place.key("match")),
                };
                TokenRelay::build(relay, with, &place.key("token-relay"), faults).map(|relay| Action::Relay(Box::new(relay)))
            }
            Target::Keys => self.assertion_keys.cloned().map(Action::Keys),
            Target::Service => Some(Action::Service),
            Target::Decide => Some(Action::Decide),
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

    /// Returns the lists of policies that a route's requests pass, in order.
    fn lists(&self, config: &'a RouteConfig, place: &Place) -> [Written<'a>; 2] {
        [
            // The rules of the whole gateway are not the route's to suspend.
            Written {
                policies: self.config.inbound,
                place: Place::root().key("inbound"),
                name: "global",
                shared: true,
                report_only: false,
            },
            Written {
                policies: &config.inbound,
                place: place.key("inbound"),
                name: "inbound",
                shared: false,
                report_only: config.mode.is_report_only(),
            },
        ]
    }
}

/// Returns the tenants that the token policies list; none if one of them does not list its tenants.
fn listed_tenants(policies: &[&PolicyConfig], tenants: &Tenants) -> Vec<Box<str>> {
    let listed = policies.iter().filter_map(|policy| match policy {
        PolicyConfig::ValidateAzureAdToken(policy) => Some(validate_azure_ad_token::listed_tenants(policy, tenants)),
        _ => None,
    });
    listed.collect::<Option<Vec<_>>>().unwrap_or_default().concat()
}

/// Returns the audiences that the policies for Entra's tokens accept.
fn audiences<'a>(policies: &[&'a PolicyConfig]) -> Vec<&'a str> {
    let of_entra = policies.iter().filter_map(|policy| match policy {
        PolicyConfig::ValidateAzureAdToken(policy) => Some(&policy.audiences),
        _ => None,
    });
    of_entra.flatten().map(String::as_str).collect()
}

/// Checks that a forwarding route authenticates, or is marked as anonymous; an anonymous one forwards no identity.
fn check_authentication(config: &RouteConfig, forwards: bool, authenticates: bool, place: &Place, faults: &mut Faults) {
    if forwards && !authenticates && !config.anonymous {
        faults.missing(
            &place.key("name"),
            format!("route `{}` forwards requests and authenticates nobody", config.name),
            "add `validate-azure-ad-token`, `validate-jwt`, `validate-client-certificate` or `validate-api-key` to its `inbound` list, or say `anonymous: true`",
        );
    }
}

/// Formats "one of …", for cures.
fn one_of<'n>(names: impl Iterator<Item = &'n String>) -> String {
    let names: Vec<_> = names.map(|name| format!("`{name}`")).collect();
    if names.is_empty() { "none is defined".to_owned() } else { format!("defined are {}", names.join(", ")) }
}
