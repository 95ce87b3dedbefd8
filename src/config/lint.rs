//! Warnings about settings that work but are probably mistakes.

use std::{
    collections::{BTreeSet, HashSet},
    net::{IpAddr, SocketAddr},
};

use super::Config;
use crate::settings::{Finding, Lint};
use crate::settings::{
    fault::{Faults, Place},
    node::{Kind, Node},
};
use crate::{
    authorization::{AuthorizationConfig, AuthorizationWord},
    inbound::{
        PolicyConfig, list,
        validate_azure_ad_token::{TokenKindConfig, TokenTypeConfig, ValidateAzureAdTokenConfig},
    },
};

/// Maps of named things that have no effect unless something else names them.
const NAMED: &[&str] = &["tenants", "issuers", "address-sets", "upstreams", "fragments"];

/// Reports names that nothing uses: often a typing error on the other side.
pub(crate) fn unused(document: &Node, used_values: &BTreeSet<String>) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (key, _) in document.get("named-values").and_then(Node::as_map).into_iter().flatten() {
        if !used_values.contains(&key.text) {
            let place = Place::root().key("named-values").key(&key.text);
            let message = format!("the named value `{}` is used nowhere", key.text);
            findings.push(Finding::warning(Lint::Unused, key.at.clone(), &place, message, "remove it"));
        }
    }
    let mut texts = HashSet::new();
    // What only a test case names is not in use.
    let sections = document.as_map().into_iter().flatten().filter(|(key, _)| key.text != "tests");
    sections.for_each(|(_, section)| gather(section, &mut texts));
    for section in NAMED {
        for (key, _) in document.get(section).and_then(Node::as_map).into_iter().flatten() {
            if !texts.contains(key.text.as_str()) {
                let place = Place::root().key(section).key(&key.text);
                let message = format!("`{}` is used nowhere", key.text);
                findings.push(Finding::warning(
                    Lint::Unused,
                    key.at.clone(),
                    &place,
                    message,
                    "remove it, or look for a name that is mistyped",
                ));
            }
        }
    }
    findings
}

/// Collects all texts of the document.
fn gather<'a>(node: &'a Node, texts: &mut HashSet<&'a str>) {
    match &node.kind {
        Kind::Text(text) => {
            texts.insert(&text.value);
        }
        Kind::List(entries) => entries.iter().for_each(|entry| gather(entry, texts)),
        Kind::Map(entries) => entries.iter().for_each(|(_, value)| gather(value, texts)),
        Kind::Null | Kind::Bool(_) | Kind::Number(_) | Kind::Broken => {}
    }
}

/// Warns of settings that admit more than intended.
pub(crate) fn lint(config: &Config, faults: &mut Faults) {
    let root = Place::root();
    for (index, listener) in config.listeners.iter().enumerate() {
        let open = |address: &&String| address.parse::<SocketAddr>().is_ok_and(|address| !address.ip().is_loopback());
        if listener.tls.is_none()
            && listener.trusted_proxies.is_empty()
            && listener.trust_path.is_empty()
            && listener.address.as_slice().iter().any(|address| open(&address))
        {
            let message = format!("the listener `{}` takes tokens without TLS from the network", listener.name);
            faults.warning(
                Lint::ListenerWithoutTls,
                &root.key("listeners").index(index).key("address"),
                message,
                "give it `tls`, or name the proxies that end TLS in `trusted-proxies`",
            );
        }
    }
    for (place, policies) in policy_lists(config) {
        for (index, policy) in policies.iter().enumerate() {
            let place = place.index(index).key(policy.name());
            lint_policy(policy, &policies[index + 1..], &place, faults);
            super::exposure::lint_policy(policy, &policies[index + 1..], &place, faults);
        }
    }
    super::meaning::lint(config, faults);
    super::exposure::lint(config, faults);
    for (index, route) in config.routes.iter().enumerate() {
        lint_route(route, &root.key("routes").index(index), config, faults);
    }
}

/// Returns all lists of policies on requests, with their places.
fn policy_lists(config: &Config) -> Vec<(Place, &[PolicyConfig])> {
    let root = Place::root();
    let mut lists = vec![(root.key("inbound"), config.inbound.as_slice())];
    lists.extend(config.fragments.iter().map(|(name, list)| (root.key("fragments").key(name), list.as_slice())));
    lists.extend(
        config
            .routes
            .iter()
            .enumerate()
            .map(|(index, route)| (root.key("routes").index(index).key("inbound"), route.inbound.as_slice())),
    );
    // What is tried is judged as what is enforced: it will be.
    let mut next = 0;
    while let Some((place, policies)) = lists.get(next) {
        let within = policies.iter().enumerate().filter_map(|(index, policy)| match policy {
            PolicyConfig::ReportOnly(policies) => Some((place.index(index).key(policy.name()), policies.as_slice())),
            _ => None,
        });
        let within: Vec<_> = within.collect();
        lists.extend(within);
        next += 1;
    }
    lists
}

/// Returns whether a policy decides about what a token policy before it lets through.
pub(super) fn decides(policy: &PolicyConfig) -> bool {
    policy.is(|settings| settings.restricts_callers()) && !policy.mode().is_report_only()
}

fn lint_policy(policy: &PolicyConfig, later: &[PolicyConfig], place: &Place, faults: &mut Faults) {
    if let PolicyConfig::ValidateAzureAdToken(token) = policy
        && is_wide(token)
        && !later.iter().any(decides)
    {
        let cure = "name `scopes` and `roles`, `client-application-ids` or `required-claims`";
        faults.warning(
            Lint::TokenUnrestricted,
            place,
            "every user and application that has any permission for this audience is let through",
            cure,
        );
    }
    match policy {
        PolicyConfig::ValidateAzureAdToken(token) => lint_token(token, later, place, faults),
        PolicyConfig::SetHeader(config) => {
            let looks_meant = |text: &str| {
                let root = text.split(['.', '[']).next().unwrap_or_default();
                text.len() > root.len() && ["token", "caller", "request", "partner", "captures"].contains(&root)
            };
            if config.value.as_ref().and_then(|value| value.plain()).is_some_and(looks_meant) {
                let cure = "write \"@(…)\" around it for what it stands for";
                faults.warning(
                    Lint::ExpressionUnmarked,
                    &place.key("value"),
                    "the header is this text itself, which reads like an expression",
                    cure,
                );
            }
        }
        _ => {}
    }
}

/// Warns of settings of a token policy that require less, or something else, than they seem to.
fn lint_token(token: &ValidateAzureAdTokenConfig, later: &[PolicyConfig], place: &Place, faults: &mut Faults) {
    for (index, scope) in token.scopes.iter().enumerate().filter(|(_, scope)| scope.contains("://")) {
        let bare = scope.rsplit('/').next().unwrap_or_default();
        let message =
            format!("no token has the scope `{scope}`: clients ask for it so, and tokens hold the part behind the last slash");
        faults.warning(Lint::ScopeNeverIssued, &place.key("scopes").index(index), message, format!("write `{bare}`"));
    }
    let restricts_applications = !token.roles.is_empty()
        || !token.client_application_ids.is_empty()
        || !token.required_claims.is_empty()
        || token.token_kind == TokenKindConfig::User
        || token.token_type == TokenTypeConfig::Id
        || later.iter().any(decides);
    if !token.scopes.is_empty() && !restricts_applications {
        let cure = "name the `roles` that applications need, or say `token-kind: user`";
        faults.warning(
            Lint::ApplicationsUnrestricted,
            place,
            "`scopes` are asked of users alone: every application with any role for this audience is let through",
            cure,
        );
    }
}

/// Returns whether only tenant and audience of a token are checked. An ID token's audience is the application that its user
/// signed in to.
fn is_wide(token: &ValidateAzureAdTokenConfig) -> bool {
    token.token_type == TokenTypeConfig::Access
        && token.scopes.is_empty()
        && token.roles.is_empty()
        && token.client_application_ids.is_empty()
        && token.required_claims.is_empty()
}

fn lint_route(route: &crate::route::RouteConfig, place: &Place, config: &Config, faults: &mut Faults) {
    for (key, path) in [("path", &route.matches.path), ("exact-path", &route.matches.exact_path)] {
        if let Some(path) = path.as_ref().filter(|path| path.contains('*')) {
            // What is no path at all has faults of its own.
            if path.contains("{*") || !path.starts_with('/') {
                continue;
            }
            let message = format!("`*` in `{path}` is a star in the path of a request, and stands for nothing else");
            let cure = match path.strip_suffix("/*").or_else(|| path.strip_suffix("/**")).filter(|path| !path.contains('*')) {
                Some(path) => {
                    format!("write `path: {}`, which matches all below it by itself", if path.is_empty() { "/" } else { path })
                }
                None => "a `path` matches all below it by itself; write `{name}` for any one segment".to_owned(),
            };
            faults.warning(Lint::PathStar, &place.key("match").key(key), message, cure);
        }
    }
    let Some(upstream) = route.upstream.as_ref().and_then(|name| config.upstreams.get(name)) else { return };
    let mut chosen = Vec::new();
    for policies in [&config.inbound, &route.inbound] {
        list::each(policies, &config.fragments, 0, &mut |policy| {
            if let PolicyConfig::SetBackendService(policy) = policy {
                chosen.extend(policy.upstreams().filter_map(|name| config.upstreams.get(name)));
            }
        });
    }
    let servers = std::iter::once(upstream).chain(chosen).flat_map(|upstream| &upstream.servers);
    let Some(server) = servers.into_iter().find(|server| is_in_clear(server)) else { return };
    let mut warn = |lint: Lint, what: &str, at: &Place| {
        let message = format!("{what} travels to the upstream in clear, to {server}: whoever reads it on its way can use it");
        faults.warning(lint, at, message, "use `https://` servers, or send none where the upstream needs none");
    };
    let token = Lint::TokenSentInClear;
    match &route.authorization {
        // Where a connection is one caller's own it is Windows credentials that are kept.
        AuthorizationConfig::Word(AuthorizationWord::Keep) if upstream.connection_affinity.is_some() => {}
        AuthorizationConfig::Word(AuthorizationWord::Keep) => warn(token, "the caller's token", &place.key("authorization")),
        AuthorizationConfig::FromHeader(_) => warn(token, "the caller's token", &place.key("authorization")),
        AuthorizationConfig::Credential(_) => warn(token, "the gateway's own token", &place.key("authorization")),
        AuthorizationConfig::OnBehalfOf(_) => {
            warn(token, "the token that the gateway gets on the user's behalf", &place.key("authorization"))
        }
        AuthorizationConfig::Basic(_) => warn(Lint::SecretSentInClear, "the gateway's password", &place.key("authorization")),
        AuthorizationConfig::Word(AuthorizationWord::Remove) | AuthorizationConfig::Absent => {}
    }
    if route.backend_assertion.is_some() {
        warn(token, "the gateway's assertion about the caller", &place.key("backend-assertion"));
    }
    for (index, policy) in route.inbound.iter().enumerate() {
        let PolicyConfig::SetHeader(header) = policy else { continue };
        let mut values = header.value.iter().chain(&header.values);
        if values.any(|value| value.names_secret()) {
            warn(Lint::SecretSentInClear, "a secret", &place.key("inbound").index(index).key("set-header"));
        }
    }
}

/// Returns whether requests to the server can be read in transit.
fn is_in_clear(server: &str) -> bool {
    let Some(rest) = server.strip_prefix("http://") else { return false };
    let authority = rest.split('/').next().unwrap_or_default();
    let host =
        url::Url::parse(server).ok().and_then(|url| url.host_str().map(str::to_owned)).unwrap_or_else(|| authority.to_owned());
    let address = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
    host != "localhost" && !address.is_ok_and(|address| address.is_loopback())
}
