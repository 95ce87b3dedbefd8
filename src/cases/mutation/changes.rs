//! Changes of the policies that change a request or an answer, and of what a route and its upstream do beside their policies.

use super::{edit::Edit, sites::Sites};
use crate::settings::{
    Place,
    node::{Kind, Node},
};

/// Adds the mutants of a policy that sets one value.
pub(super) fn policy(sites: &mut Sites<'_>, policy: &str, place: &Place, what: &str) {
    match policy {
        "set-variable" => {
            replaced(sites, &place.key("value"), what);
            let at = place.key("when-absent");
            if sites.text(&at) == Some("skip") {
                sites.add(&at, format!("{what}: an absent value refuses"), Edit::Delete(at.clone()));
            }
        }
        "set-body" => replaced(sites, &place.key("value"), what),
        "set-method" => {
            if let Some(method) = sites.text(place) {
                let other = if method == "PUT" { "POST" } else { "PUT" };
                sites.add(place, format!("{what}: {other} instead"), Edit::Replace(place.clone(), other.to_owned()));
            }
        }
        "set-status" => {
            let at = place.key("code");
            if let Some(code) = number(sites.get(&at)) {
                let other = if code == 500 { 400 } else { 500 };
                sites.add(&at, format!("{what}: {code} becomes {other}"), Edit::ReplaceNumber(at.clone(), other));
            }
        }
        _ => {}
    }
}

/// Adds the mutants of a filter that judges the last hop.
pub(super) fn filter(sites: &mut Sites<'_>, place: &Place, what: &str) {
    let at = place.key("of");
    if sites.text(&at) == Some("peer") {
        sites.add(&at, format!("{what}: the peer becomes the caller"), Edit::Delete(at.clone()));
    }
}

/// Adds the mutant that leads to another upstream.
pub(super) fn backend(sites: &mut Sites<'_>, place: &Place, what: &str) {
    let at = place.key("upstream");
    let Some(own) = sites.text(&at).filter(|own| !own.starts_with('@')) else { return };
    let upstreams = sites.get(&Place::root().key("upstreams")).and_then(Node::as_map).into_iter().flatten();
    let Some(other) = upstreams.map(|(key, _)| key.text.clone()).find(|name| name != own) else { return };
    sites.add(&at, format!("{what}: `{other}` instead"), Edit::Replace(at.clone(), other));
}

/// Adds the mutants of a route's own settings.
pub(super) fn route(sites: &mut Sites<'_>, place: &Place, name: &str) {
    let tls = place.key("require-tls");
    if sites.get(&tls).is_some() {
        sites.add(&tls, format!("route {name}: without require-tls"), Edit::Delete(tls.clone()));
    }
    let limits = place.key("limits");
    for (key, _) in sites.get(&limits).and_then(Node::as_map).into_iter().flatten() {
        let at = limits.key(&key.text);
        sites.add(&at, format!("route {name}: without limits.{}", key.text), Edit::Delete(at.clone()));
    }
    let basic = place.key("authorization").key("basic");
    if sites.get(&basic).is_some() {
        let change = format!("route {name}: authorization basic becomes remove");
        sites.add(&basic, change, Edit::Set(place.clone(), "authorization", "remove".into()));
    }
}

/// Adds the mutants of an upstream.
pub(super) fn upstream(sites: &mut Sites<'_>, place: &Place, name: &str) {
    let at = place.key("rewrite-redirects");
    if matches!(sites.get(&at).map(|node| &node.kind), Some(Kind::Bool(true))) {
        sites.add(&at, format!("upstream {name}: without rewrite-redirects"), Edit::Delete(at.clone()));
    }
}

/// Adds the mutant that sets another text.
fn replaced(sites: &mut Sites<'_>, at: &Place, what: &str) {
    if sites.text(at).is_some() {
        sites.add(at, format!("{what}: another value"), Edit::Replace(at.clone(), "another-value".to_owned()));
    }
}

fn number(node: Option<&Node>) -> Option<u64> {
    match &node?.kind {
        Kind::Number(number) => number.as_u64(),
        _ => None,
    }
}
