//! Operations with the same policies: they become one route by methods, or one route for all that is below the API.

use super::routes::BuiltRoute;
use crate::output::{Item, Yaml};

/// The comment of the rewrite that every operation of an API with a path has.
pub(crate) const BELOW_API: &str = "the path below the API";

/// Merges the routes of one API.
pub(crate) fn merge(routes: Vec<BuiltRoute>, prefix: &str) -> Vec<BuiltRoute> {
    let mut merged: Vec<BuiltRoute> = Vec::new();
    for route in routes {
        let same_place = |own: &&mut BuiltRoute| (&own.path, own.is_exact) == (&route.path, route.is_exact);
        match merged.iter_mut().filter(same_place).find(|own| are_alike(own, &route, false)) {
            Some(own) => absorb(own, route),
            None => merged.push(route),
        }
    }
    into_prefix(merged, prefix)
}

/// Makes one route of all, if one of them takes every path, has the policies of all, and the methods of all.
fn into_prefix(routes: Vec<BuiltRoute>, prefix: &str) -> Vec<BuiltRoute> {
    let whole = routes.iter().position(|route| !route.is_exact && route.path == prefix);
    let Some(whole) = whole.filter(|_| routes.len() > 1) else { return routes };
    // A method that only some operations have must not be let in for all paths.
    let fits = |route: &BuiltRoute| {
        let methods = &routes[whole].methods;
        let has_methods =
            methods.is_empty() || !route.methods.is_empty() && route.methods.iter().all(|method| methods.contains(method));
        has_methods && are_alike(&routes[whole], route, true)
    };
    if !routes.iter().all(fits) {
        return routes;
    }
    let mut routes = routes;
    let mut one = routes.remove(whole);
    routes.into_iter().for_each(|route| absorb(&mut one, route));
    vec![one]
}

fn absorb(own: &mut BuiltRoute, mut other: BuiltRoute) {
    if own.methods.is_empty() || other.methods.is_empty() {
        own.methods.clear();
    } else {
        for method in &other.methods {
            if !own.methods.contains(method) {
                own.methods.push(method.clone());
            }
        }
    }
    own.operations.append(&mut other.operations);
    own.absorbed.append(&mut other.absorbed);
    own.absorbed.push(other);
}

/// Returns whether two routes treat requests alike, wherever their policies come from.
fn are_alike(own: &BuiltRoute, other: &BuiltRoute, without_rewrite: bool) -> bool {
    (own.is_anonymous, own.require_tls, own.refuses) == (other.is_anonymous, other.require_tls, other.refuses)
        && own.guards == other.guards
        && (&own.upstream, &own.authorization) == (&other.upstream, &other.authorization)
        && lists_alike(&own.inbound, &other.inbound, without_rewrite)
        && lists_alike(&own.outbound, &other.outbound, false)
        && lists_alike(&own.on_error, &other.on_error, false)
}

fn lists_alike(own: &[Item], other: &[Item], without_rewrite: bool) -> bool {
    let counts = |item: &&Item| match item {
        Item::Comment(_) => false,
        Item::Policy { name, comment, .. } => !(without_rewrite && name == "rewrite-uri" && comment == BELOW_API),
        Item::Group { .. } | Item::Missing { .. } => true,
    };
    let (mut own, mut other) = (own.iter().filter(counts), other.iter().filter(counts));
    loop {
        match (own.next(), other.next()) {
            (None, None) => return true,
            (Some(left), Some(right)) if items_alike(left, right) => {}
            _ => return false,
        }
    }
}

/// Compares what is done, without the places in comments.
fn items_alike(own: &Item, other: &Item) -> bool {
    match (own, other) {
        (Item::Policy { name, value, .. }, Item::Policy { name: other_name, value: other_value, .. }) => {
            name == other_name && values_alike(value, other_value)
        }
        (Item::Group { name, items }, Item::Group { name: other_name, items: other_items }) => {
            name == other_name && lists_alike(items, other_items, false)
        }
        (Item::Missing { name, .. }, Item::Missing { name: other_name, .. }) => name == other_name,
        _ => false,
    }
}

fn values_alike(own: &Yaml, other: &Yaml) -> bool {
    match (own, other) {
        (Yaml::Branches(own), Yaml::Branches(other)) => {
            own.len() == other.len()
                && own.iter().zip(other).all(|((condition, items), (other_condition, other_items))| {
                    condition == other_condition && lists_alike(items, other_items, false)
                })
        }
        (own, other) => own == other,
    }
}
