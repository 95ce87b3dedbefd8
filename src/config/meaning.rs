//! Settings that are well-formed, work, and do something else than is meant.

use std::collections::BTreeSet;

use super::Config;
use crate::{
    authorization::{AuthorizationConfig, AuthorizationWord},
    inbound::{PolicyConfig, list},
    route::{RequireTlsConfig, RouteConfig},
    settings::{
        Lint,
        fault::{Faults, Place},
        suggest,
    },
    upstream::UpstreamConfig,
};

/// Warns of what cannot be meant.
pub(super) fn lint(config: &Config, faults: &mut Faults) {
    let root = Place::root();
    for (index, route) in config.routes.iter().enumerate() {
        lint_route(route, &root.key("routes").index(index), config, faults);
    }
    for (name, policies) in &config.fragments {
        lint_list(policies, &root.key("fragments").key(name), config, faults);
    }
    lint_list(&config.inbound, &root.key("inbound"), config, faults);
    lint_partners(config, faults);
    for (name, upstream) in &config.upstreams {
        lint_host(upstream, &root.key("upstreams").key(name).key("host"), faults);
    }
}

fn lint_route(route: &RouteConfig, place: &Place, config: &Config, faults: &mut Faults) {
    lint_list(&route.inbound, &place.key("inbound"), config, faults);
    let has_tls = config
        .listeners
        .iter()
        .any(|listener| listener.tls.is_some() || !listener.trusted_proxies.is_empty() || !listener.trust_path.is_empty());
    let requires_tls = route.require_tls != RequireTlsConfig::default();
    if requires_tls && !has_tls && !config.listeners.is_empty() {
        let message = "no listener has TLS, and none trusts a proxy that could have had it, so every request is refused";
        faults.warning(
            Lint::TlsRequiredNowhere,
            &place.key("require-tls"),
            message,
            "give a listener `tls`, or name the proxies that end TLS in `trusted-proxies`",
        );
    }
    let Some(upstream) = route.upstream.as_ref().and_then(|name| config.upstreams.get(name)) else { return };
    let keeps = matches!(route.authorization, AuthorizationConfig::Word(AuthorizationWord::Keep));
    if keeps && route.anonymous && upstream.connection_affinity.is_none() {
        let message = "the route validates no token, and sends whatever callers put into `Authorization` to the backend";
        faults.warning(
            Lint::AnonymousAuthorizationKept,
            &place.key("authorization"),
            message,
            "validate it with `validate-azure-ad-token`, or write `authorization: remove`",
        );
    }
}

/// Warns of policies that stand behind one that ends every request.
fn lint_list(policies: &[PolicyConfig], place: &Place, config: &Config, faults: &mut Faults) {
    let end = policies.iter().position(|policy| ends(policy, config, 0));
    if let Some((end, next)) = end.and_then(|end| Some((end, policies.get(end + 1)?))) {
        let message = format!("this policy never runs: `{}` before it ends every request", policies[end].name());
        faults.warning(
            Lint::PolicyUnreachable,
            &place.index(end + 1).key(next.name()),
            message,
            "move it before that one, or remove it",
        );
    }
    for (index, policy) in policies.iter().enumerate() {
        let place = place.index(index).key(policy.name());
        match policy {
            PolicyConfig::AnyOf(lists) => {
                for (index, policies) in lists.iter().enumerate() {
                    lint_list(policies, &place.index(index), config, faults);
                }
            }
            PolicyConfig::ReportOnly(policies) => lint_list(policies, &place, config, faults),
            PolicyConfig::Choose(branches) => {
                for (index, branch) in branches.iter().enumerate() {
                    let key = if branch.otherwise.is_some() { "otherwise" } else { "do" };
                    lint_list(branch.policies(), &place.index(index).key(key), config, faults);
                }
            }
            PolicyConfig::ValidateAzureAdToken(token) => {
                for (index, audience) in token.audiences.iter().enumerate() {
                    lint_audience(audience, &place.key("audiences").index(index), faults);
                }
            }
            _ => {}
        }
    }
}

/// Returns whether no request gets past the policy.
fn ends(policy: &PolicyConfig, config: &Config, depth: usize) -> bool {
    let list_ends = |policies: &[PolicyConfig]| policies.iter().any(|policy| ends(policy, config, depth + 1));
    depth < list::MAX_DEPTH
        && match policy {
            PolicyConfig::ReturnResponse(_) => true,
            PolicyConfig::IncludeFragment(name) => config.fragments.get(name).is_some_and(|policies| list_ends(policies)),
            PolicyConfig::ReportOnly(policies) => list_ends(policies),
            PolicyConfig::AnyOf(lists) => !lists.is_empty() && lists.iter().all(|policies| list_ends(policies)),
            PolicyConfig::Choose(branches) => {
                branches.iter().any(|branch| branch.otherwise.is_some())
                    && branches.iter().all(|branch| list_ends(branch.policies()))
            }
            _ => false,
        }
}

/// Warns of audiences that no token has.
fn lint_audience(audience: &str, place: &Place, faults: &mut Faults) {
    if let Some(uri) = audience.strip_suffix("/.default") {
        let message =
            format!("no token is for `{audience}`: clients ask for it so, and the audience is what stands before the slash");
        faults.warning(Lint::AudienceNeverIssued, place, message, format!("write `{uri}`"));
    } else if let Some(uri) = audience.strip_suffix('/').filter(|uri| uri.starts_with("api://")) {
        let message = format!("no token of Entra is for `{audience}`: an application ID URI does not end with a slash");
        faults.warning(Lint::AudienceNeverIssued, place, message, format!("write `{uri}`"));
    }
}

/// Warns of partners that no route asks for.
fn lint_partners(config: &Config, faults: &mut Faults) {
    // The routes that check partners, and the names that each lets in where it lists them.
    let mut checks: Vec<(&str, Option<&Vec<String>>)> = Vec::new();
    for route in &config.routes {
        for policies in [&config.inbound, &route.inbound] {
            list::each(policies, &config.fragments, 0, &mut |policy| match policy {
                PolicyConfig::CheckPartner(check) => checks.push((&route.name, check.partners.as_ref())),
                PolicyConfig::ValidateApiKey(check) => checks.push((&route.name, check.partners.as_ref())),
                _ => {}
            });
        }
        if route.token_relay.is_some() {
            checks.push((&route.name, None));
        }
    }
    let routes: BTreeSet<&str> = checks.iter().map(|(route, _)| *route).collect();
    for (name, partner) in config.partners.iter().filter(|(_, partner)| partner.enabled) {
        let may_use = |route: &str| partner.routes.as_ref().is_none_or(|routes| routes.iter().any(|name| name == route));
        let asked = checks.iter().any(|(route, names)| may_use(route) && names.is_none_or(|names| names.contains(name)));
        if !asked {
            let message =
                format!("no route asks for the partner `{name}`, so what is written here lets nobody in and keeps nobody out");
            let cure = if routes.is_empty() {
                "write `- check-partner: {}` behind the token policy of the routes that it may use"
            } else {
                "list it in `check-partner` of its routes, or remove it"
            };
            faults.warning(Lint::PartnerUnchecked, &Place::root().key("partners").key(name), message, cure);
        }
    }
}

/// Warns of a host that is likely one of the words, mistyped.
fn lint_host(upstream: &UpstreamConfig, place: &Place, faults: &mut Faults) {
    const WORDS: [&str; 2] = ["preserve", "upstream"];
    let Some(host) = upstream.host.as_deref().filter(|host| !WORDS.contains(host) && !host.contains(['.', ':'])) else { return };
    if let Some(word) = suggest::close(host, &WORDS) {
        faults.warning(
            Lint::HostMistyped,
            place,
            format!("backends would get to see `{host}` as the host's name"),
            format!("did you mean `{word}`?"),
        );
    }
}
