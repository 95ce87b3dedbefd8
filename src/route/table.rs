//! Routing: from host, path and method to a route.
//!
//! Host, path and method are decided in this order without backtracking: a host that some route names exactly is served only by
//! such routes, and a path that is served with other methods is 405. Among paths an exact one comes first, then the one with the
//! most segments; among equal ones, a literal segment precedes a capture, from left to right.
//!
//! The table is a trie of segments for each host, so that the cost of a lookup depends on the path's length, not on the number of
//! routes.
//!
//! Routes to a case-insensitive upstream (`case-insensitive-paths`) match as it reads: `/Admin` is `/admin` there. Such an
//! upstream only receives requests by the route that the path has in any spelling; a path that is closer to another route's in
//! another case is refused, since a caller could otherwise bypass that route. The same holds for paths that Windows reads as
//! others. Routes to other upstreams match as written.

use std::{collections::HashMap, fmt::Write as _, sync::Arc};

use http::{HeaderValue, Method};

use super::{
    MatchConfig,
    fold::fold,
    paths::{Match, Paths},
    pattern::{Host, Pattern},
    windows,
};
use crate::request::Captures;
use crate::{
    refusal::{Reason, Refusal},
    request::{Ambiguities, IncomingRequest, Target, TargetFault},
    settings::{Faults, Lint, Place},
};

/// The table from requests to routes.
#[derive(Debug, Default)]
pub struct RouteTable {
    hosts: HashMap<Box<str>, usize>,
    /// By the name after the first dot.
    below: HashMap<Box<str>, usize>,
    any: Option<usize>,
    served: Vec<Served>,
    /// The names that each route captures, by its index.
    captures: Vec<Arc<[Arc<str>]>>,
    /// The place of each route in the config.
    places: Vec<Place>,
    /// The name of each route.
    route_names: Vec<Box<str>>,
    /// Whether each route leads to a case-insensitive upstream.
    folds: Vec<bool>,
    /// The ambiguities that each route accepts in a target.
    accepts: Vec<Ambiguities>,
    /// The digest of all that decides which route a request has: tables with the same one find the same routes, by their indices.
    digest: [u8; 32],
}

/// The pattern of a route, and the settings that affect it.
#[derive(Clone, Debug)]
pub struct Matching<'a> {
    /// The route's name.
    pub name: &'a str,
    /// The settings as written.
    pub config: &'a MatchConfig,
    /// The route's place, and the key of its pattern there.
    pub at: (Place, &'a str),
    /// True if the route leads to a case-insensitive upstream.
    pub folds: bool,
    /// The ambiguities that the route accepts in a target.
    pub accepts: Ambiguities,
}

/// The paths of one host.
#[derive(Debug, Default)]
struct Served {
    /// The paths as written.
    written: Paths,
    /// All of them in lower case, if a route leads to a case-insensitive upstream.
    folded: Option<Paths>,
}

/// The route of a request.
#[derive(Debug)]
pub struct Found {
    /// The route's index, in the order of the config.
    pub route: usize,
    /// The captures of its path.
    pub captures: Captures,
}

impl RouteTable {
    /// Builds the table from the routes' patterns, in the order of the config.
    pub fn build<'a>(matching: impl IntoIterator<Item = Matching<'a>>, faults: &mut Faults) -> Self {
        let mut table = Self::default();
        let mut patterns = Vec::new();
        let mut written = String::new();
        for (route, Matching { name, config, at: (place, key), folds, accepts }) in matching.into_iter().enumerate() {
            // Writing to a text cannot fail. Debug quotes texts, so that no two patterns are written alike.
            let _ = writeln!(written, "{config:?} {folds} {accepts:?}");
            table.places.push(place.clone());
            table.route_names.push(name.into());
            table.folds.push(folds);
            table.accepts.push(accepts);
            let place = place.key(key);
            let pattern = Pattern::read(config, &place, faults);
            let names = pattern.iter().flat_map(|pattern| pattern.captures().map(Arc::from)).collect();
            table.captures.push(names);
            if let Some(pattern) = pattern {
                table.insert(route, &pattern, &place, faults);
                patterns.push((route, pattern, place));
            }
        }
        table.fold(&patterns, faults);
        for served in &mut table.served {
            served.written.finish();
            served.folded.iter_mut().for_each(Paths::finish);
        }
        let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, written.as_bytes());
        table.digest.copy_from_slice(digest.as_ref());
        table
    }

    /// Returns whether another table finds the same routes as this one, by their indices and with the same captures.
    pub(crate) fn finds_alike(&self, other: &Self) -> bool {
        self.digest == other.digest
    }

    fn insert(&mut self, route: usize, pattern: &Pattern, place: &Place, faults: &mut Faults) {
        // One fault for a pair of routes, however many hosts they share.
        let mut alike: Option<usize> = None;
        for host in &pattern.hosts {
            let new = self.served.len();
            let at = match host {
                Host::Exact(name) => *self.hosts.entry(name.clone()).or_insert(new),
                Host::Below(name) => *self.below.entry(name.clone()).or_insert(new),
                Host::Any => *self.any.get_or_insert(new),
            };
            if at == new {
                self.served.push(Served::default());
            }
            let leaf = self.served[at].written.leaf(pattern);
            let same = |(_, methods): &&(usize, Vec<Method>)| methods.iter().any(|method| pattern.methods.contains(method));
            alike = alike.or(leaf.routes.iter().find(same).map(|(other, _)| *other));
            leaf.routes.push((route, pattern.methods.clone()));
        }
        if let Some(other) = alike {
            faults.error(
                place,
                format!("the route matches requests that `{}` matches alike", self.places[other]),
                "give one of them another host, path or method, or remove it",
            );
        }
    }

    /// Builds the lower-case paths of each host that needs them.
    fn fold(&mut self, patterns: &[(usize, Pattern, Place)], faults: &mut Faults) {
        let at = |table: &Self, host: &Host| match host {
            Host::Exact(name) => table.hosts[name],
            Host::Below(name) => table.below[name],
            Host::Any => table.any.expect("the pattern is in the table"),
        };
        for (_, pattern, place) in patterns.iter().filter(|(route, ..)| self.folds[*route]) {
            if let Some(literal) = pattern.literals().find(|literal| fold(literal) != literal.to_ascii_lowercase()) {
                faults.error(
                    place,
                    format!("`{literal}` has capital letters beyond ASCII, which are not compared without case"),
                    format!("write `{}`", fold(literal)),
                );
            }
            if let Some(literal) = pattern.literals().find(|literal| windows::reads_otherwise(literal)) {
                faults.error(
                    place,
                    format!("`{literal}` could be read as another name by an upstream that knows no case, so requests for it are refused"),
                    "match a path without it, or take `case-insensitive-paths` from the upstream if it is not on Windows",
                );
            }
            for host in &pattern.hosts {
                let at = at(self, host);
                self.served[at].folded.get_or_insert_default();
            }
        }
        for (route, pattern, place) in patterns {
            let mut alike: Option<usize> = None;
            for host in &pattern.hosts {
                let at = at(self, host);
                let Some(folded) = &mut self.served[at].folded else { continue };
                let leaf = folded.leaf_by(pattern, |literal| fold(literal).into());
                let same = |(other, methods): &&(usize, Vec<Method>)| {
                    let spelled_otherwise = patterns.iter().any(|(it, theirs, _)| it == other && !theirs.is_spelled_as(pattern));
                    spelled_otherwise
                        && (self.folds[*other] || self.folds[*route])
                        && methods.iter().any(|method| pattern.methods.contains(method))
                };
                alike = alike.or(leaf.routes.iter().find(same).map(|(other, _)| *other));
                leaf.routes.push((*route, pattern.methods.clone()));
            }
            if let Some(other) = alike {
                let message = format!(
                    "the path differs from that of `{}` by case alone, and an upstream of the two knows no case",
                    self.places[other]
                );
                faults.error(place, message, "give one of them another host, path or method, or remove it");
            }
        }
    }

    /// Returns the names that a route's path captures.
    pub fn captures(&self, route: usize) -> Vec<String> {
        self.captures.get(route).map_or_else(Vec::new, |names| names.iter().map(|name| (**name).to_owned()).collect())
    }

    /// Finds the route of a request.
    ///
    /// # Errors
    /// Returns `no-route`, `method-not-allowed`, or `request-target-invalid` if a lenient reader of the target would find another
    /// route.
    pub fn find(&self, incoming: &IncomingRequest) -> Result<Found, Refusal> {
        self.find_for(&incoming.authority.host, &incoming.target, &incoming.method)
    }

    /// Returns the methods that are served under this host, if any.
    pub fn allow(&self, host: &str) -> Option<&HeaderValue> {
        self.served_at(host).map(|served| &served.written.allow)
    }

    /// Finds the route of a request with this host, target and method; for preflights, which ask about another method than their
    /// own.
    ///
    /// Ambiguities of the target that the route does not accept are refused by the route, so its other readings do not matter
    /// then.
    ///
    /// # Errors
    /// Fails as [`find`](Self::find).
    pub fn find_for(&self, host: &str, target: &Target, method: &Method) -> Result<Found, Refusal> {
        let served = self.served_at(host).ok_or_else(|| self.nothing_at(host))?;
        if let Some(folded) = &served.folded
            && let Some(found) = self.find_folded(folded, target, method)?
        {
            return Ok(found);
        }
        let paths = &served.written;
        let place = paths.find(&target.path).ok_or_else(|| self.nowhere(host, target, method))?;
        let leaf = paths.at(&place);
        let Some(route) = leaf.route(method) else {
            return Err(Refusal::of_method(leaf.allow.clone()));
        };
        if self.folds[route] {
            // Without case the path is another route's, or it would have been found before.
            return Err(TargetFault::TwoRoutes.into());
        }
        if target.accepted_by(self.accepts[route]).is_ok() {
            // The route may accept the target's ambiguities by name; that lets a backend read them as it likes, and must not let a
            // caller reach what another route guards.
            let leads_elsewhere = |reading: &String| paths.find(reading).is_some_and(|other| other.leaf != place.leaf);
            if target.readings()?.iter().any(leads_elsewhere) {
                return Err(TargetFault::TwoRoutes.into());
            }
        }
        Ok(self.found(route, &place, target))
    }

    /// Finds the route of a request among the lower-case paths; `None` if it does not lead to a case-insensitive upstream.
    fn find_folded(&self, folded: &Paths, target: &Target, method: &Method) -> Result<Option<Found>, Refusal> {
        // As long as the path, so that what is found in the one stands at the same place in the other.
        let lower = target.path.to_ascii_lowercase();
        let place = folded.find(&lower);
        // What the upstream may take for it: letters beyond ASCII know no case there, either, and some of them are ASCII's then.
        let all = fold(&target.path);
        let governing = if all == lower { None } else { Some(folded.find(&all)) };
        let Some(judged) = governing.as_ref().unwrap_or(&place) else { return Ok(None) };
        let (leaf, judged) = (folded.at(judged), judged.leaf);
        let route = match leaf.route(method) {
            Some(route) if self.folds[route] => route,
            None if leaf.routes.iter().any(|(route, _)| self.folds[*route]) => {
                return Err(Refusal::of_method(leaf.allow.clone()));
            }
            Some(_) | None => return Ok(None),
        };
        let Some(place) = place.filter(|place| place.leaf == judged) else { return Err(TargetFault::TwoRoutes.into()) };
        if target.accepted_by(self.accepts[route]).is_ok() {
            let readings = target.readings()?;
            let leads_elsewhere = |reading: &String| folded.find(&fold(reading)).is_some_and(|other| other.leaf != place.leaf);
            if readings.iter().any(leads_elsewhere) {
                return Err(TargetFault::TwoRoutes.into());
            }
            if windows::reads_otherwise(&target.path) || readings.iter().any(|reading| windows::reads_otherwise(reading)) {
                return Err(TargetFault::OtherSpelling.into());
            }
        }
        Ok(Some(self.found(route, &place, target)))
    }

    /// The refusal of a request for a host that no route names, where every route names hosts.
    fn nothing_at(&self, host: &str) -> Refusal {
        let whose = if host.is_empty() { "a request without a host".to_owned() } else { format!("the host `{host}`") };
        let others = match self.places.len() {
            1 => "the only one names another host".to_owned(),
            all => format!("all {all} of them name other hosts"),
        };
        Refusal::new(Reason::NoRoute, format!("no route serves {whose}: {others}"))
    }

    /// The refusal of a request for a path that is not served under its host: says what is, and which route would take it elsewhere.
    #[cold]
    fn nowhere(&self, host: &str, target: &Target, method: &Method) -> Refusal {
        const SHOWN: usize = 5;
        let Some(served) = self.served_at(host).filter(|_| self.names(host)) else {
            return Refusal::new(Reason::NoRoute, "no route has this path");
        };
        let mut own: Vec<usize> = served.written.routes().collect();
        own.sort_unstable();
        own.dedup();
        let more = own.len().saturating_sub(SHOWN);
        let shown: Vec<String> = own.iter().take(SHOWN).map(|route| format!("`{}`", self.name(*route))).collect();
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        let cause = format!("the host `{host}` is served by {}{more} alone, and none of them has this path", shown.join(", "));
        let refusal = Refusal::new(Reason::NoRoute, cause);
        match self.elsewhere(host, target, method) {
            Some(route) => refusal.with_hint(format!(
                "`{}` would take it under another host; a host that a route names is served by the routes that name it: add \
                 `{host}` to the `hosts` of that route, if it is meant to serve it",
                self.name(route)
            )),
            None => refusal,
        }
    }

    /// Returns the route that a less specific host would lead to.
    fn elsewhere(&self, host: &str, target: &Target, method: &Method) -> Option<usize> {
        let below = host.split_once('.').and_then(|(_, parent)| self.below.get(parent)).filter(|_| self.hosts.contains_key(host));
        [below.copied(), self.any].into_iter().flatten().find_map(|at| {
            let paths = &self.served.get(at)?.written;
            paths.at(&paths.find(&target.path)?).route(method)
        })
    }

    /// Returns whether some route names this host, by itself or with `*.`.
    fn names(&self, host: &str) -> bool {
        let below = || host.split_once('.').is_some_and(|(_, parent)| self.below.contains_key(parent));
        self.hosts.contains_key(host) || below()
    }

    /// Returns the name of a route as the config has it.
    fn name(&self, route: usize) -> &str {
        self.route_names.get(route).map_or("", |name| name)
    }

    /// Warns of hosts that some routes name, where routes without hosts are not served under them.
    pub fn lint_hosts<'a>(&self, matching: impl IntoIterator<Item = Matching<'a>>, faults: &mut Faults) {
        // What cannot be read was reported when the table was built.
        let read = |(route, Matching { config, at: (place, key), .. }): (usize, Matching<'_>)| {
            let place = place.key(key);
            Some((route, Pattern::read(config, &place, &mut Faults::default())?, place))
        };
        let patterns: Vec<_> = matching.into_iter().enumerate().filter_map(read).collect();
        let without: Vec<usize> =
            patterns.iter().filter(|(_, pattern, _)| pattern.hosts.contains(&Host::Any)).map(|(route, ..)| *route).collect();
        let Some(first) = without.first() else { return };
        let mut told: Vec<&Host> = Vec::new();
        for (_, pattern, place) in &patterns {
            let new = pattern.hosts.iter().enumerate().find(|(_, host)| **host != Host::Any && !told.contains(host));
            let Some((index, host)) = new else { continue };
            told.extend(pattern.hosts.iter());
            let written = match host {
                Host::Exact(name) => name.to_string(),
                Host::Below(name) => format!("*.{name}"),
                Host::Any => continue,
            };
            let others = without.len() - 1;
            let more = if others > 0 { format!(" and {others} more") } else { String::new() };
            let message = format!(
                "`{written}` is served by the routes that name it alone: `{}`{more} without `hosts` are not served under it",
                self.name(*first)
            );
            faults.warning(
                Lint::HostNamedElsewhere,
                &place.key("hosts").index(index),
                message,
                "name the host at those routes, too, or give them `hosts` of their own",
            );
        }
    }

    fn found(&self, route: usize, place: &Match, target: &Target) -> Found {
        let names = &self.captures[route];
        let segments = names
            .iter()
            .zip(&place.captured)
            .map(|(name, (from, to))| (name.clone(), target.path.slice_ref(&target.path[*from..*to])));
        let captures = Captures { segments: segments.collect(), rest: target.path.slice_ref(&target.path[place.rest..]) };
        Found { route, captures }
    }

    /// Returns the paths of the most specific host: those of less specific ones are not served under it.
    fn served_at(&self, host: &str) -> Option<&Served> {
        let below = || if self.below.is_empty() { None } else { self.below.get(host.split_once('.')?.1) };
        let at = self.hosts.get(host).or_else(below).copied().or(self.any)?;
        self.served.get(at)
    }
}

#[cfg(test)]
mod tests;
