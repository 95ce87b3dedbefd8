//! From host, path and method to a route.
//!
//! Host, path and method are decided in this order with no way back: a host that some route names exactly is served by such
//! routes alone, and a path that is served with other methods is 405. Among paths an exact one comes first, then the one with
//! the most segments; where those are alike, a segment that is written out comes before a capture, from left to right.
//!
//! The table is a trie of segments for each host, so that a lookup costs what the path is long, however many routes there are.

use std::{collections::HashMap, sync::Arc};

use http::{HeaderValue, Method};

use super::{
    Captures, MatchConfig,
    pattern::{Host, Pattern, Segment},
};
use crate::{
    config::{Faults, Place},
    refusal::{Reason, Refusal},
    request::{IncomingRequest, Target, TargetFault},
};

/// Which route a request takes.
#[derive(Debug, Default)]
pub struct RouteTable {
    hosts: HashMap<Box<str>, usize>,
    /// By the name that follows the first dot.
    below: HashMap<Box<str>, usize>,
    any: Option<usize>,
    paths: Vec<Paths>,
    /// The names that each route captures, by its index.
    captures: Vec<Arc<[Arc<str>]>>,
    /// Where in the config each route stands.
    places: Vec<Place>,
}

/// The route of a request.
#[derive(Debug)]
pub struct Found {
    /// The route's index, in the order of the config.
    pub route: usize,
    /// What its path captured.
    pub captures: Captures,
}

/// The paths of one host: a trie of segments, whose root is the first node.
#[derive(Debug, Default)]
struct Paths {
    nodes: Vec<Node>,
    leaves: Vec<Leaf>,
}

#[derive(Debug, Default)]
struct Node {
    literals: HashMap<Box<str>, usize>,
    capture: Option<usize>,
    /// The leaf of a path that ends here and has nothing below it.
    exact: Option<usize>,
    /// The leaf of a path that begins so.
    prefix: Option<usize>,
}

/// A path: its routes, told apart by their methods.
#[derive(Debug)]
struct Leaf {
    routes: Vec<(usize, Vec<Method>)>,
    allow: HeaderValue,
}

impl RouteTable {
    /// Builds the table from what the routes match, in the order of the config. `place` is that of the list of routes.
    pub fn build<'a>(matches: impl IntoIterator<Item = &'a MatchConfig>, place: &Place, faults: &mut Faults) -> Self {
        let matches = matches.into_iter().enumerate();
        Self::build_at(matches.map(|(route, config)| (config, place.index(route), "match")), faults)
    }

    /// As [`build`](Self::build), for what routes and others match: each with its place, and the key there that says it.
    pub(crate) fn build_at<'a>(
        matches: impl IntoIterator<Item = (&'a MatchConfig, Place, &'a str)>,
        faults: &mut Faults,
    ) -> Self {
        let mut table = Self::default();
        for (route, (config, place, key)) in matches.into_iter().enumerate() {
            table.places.push(place.clone());
            let place = place.key(key);
            let pattern = Pattern::read(config, &place, faults);
            let names = pattern.iter().flat_map(|pattern| pattern.captures().map(Arc::from)).collect();
            table.captures.push(names);
            if let Some(pattern) = pattern {
                table.insert(route, &pattern, &place, faults);
            }
        }
        for leaf in table.paths.iter_mut().flat_map(|paths| &mut paths.leaves) {
            leaf.allow = allow(&leaf.routes);
        }
        table
    }

    fn insert(&mut self, route: usize, pattern: &Pattern, place: &Place, faults: &mut Faults) {
        // One fault for a pair of routes, however many hosts they share.
        let mut alike: Option<usize> = None;
        for host in &pattern.hosts {
            let new = self.paths.len();
            let at = match host {
                Host::Exact(name) => *self.hosts.entry(name.clone()).or_insert(new),
                Host::Below(name) => *self.below.entry(name.clone()).or_insert(new),
                Host::Any => *self.any.get_or_insert(new),
            };
            if at == new {
                self.paths.push(Paths { nodes: vec![Node::default()], leaves: Vec::new() });
            }
            let leaf = self.paths[at].leaf(pattern);
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

    /// The names that a route's path captures.
    pub fn captures(&self, route: usize) -> Vec<String> {
        self.captures.get(route).map_or_else(Vec::new, |names| names.iter().map(|name| (**name).to_owned()).collect())
    }

    /// The route of a request.
    ///
    /// # Errors
    /// `no-route`; `method-not-allowed`; `request-target-invalid` where a careless reader of the target would find another route.
    pub fn find(&self, incoming: &IncomingRequest) -> Result<Found, Refusal> {
        self.find_for(&incoming.authority.host, &incoming.target, &incoming.method)
    }

    /// The route of a request with this host, target and method; for preflights, which ask about another method than their own.
    ///
    /// # Errors
    /// As [`find`](Self::find).
    pub fn find_for(&self, host: &str, target: &Target, method: &Method) -> Result<Found, Refusal> {
        let paths = self.paths_of(host).ok_or(Reason::NoRoute)?;
        let place = paths.find(&target.path).ok_or(Reason::NoRoute)?;
        // The route may accept the target's oddities by name; that lets a backend read them as it likes, and must not let a
        // caller reach what another route guards.
        if let Some(careless) = target.careless_path()
            && paths.find(&careless).is_some_and(|other| other.leaf != place.leaf)
        {
            return Err(TargetFault::TwoRoutes.into());
        }
        let leaf = &paths.leaves[place.leaf];
        let Some((route, _)) = leaf.routes.iter().find(|(_, methods)| methods.contains(method)) else {
            return Err(Refusal { allow: Some(leaf.allow.clone()), ..Reason::MethodNotAllowed.into() });
        };
        let names = &self.captures[*route];
        let segments = names
            .iter()
            .zip(&place.captured)
            .map(|(name, (from, to))| (name.clone(), target.path.slice_ref(&target.path[*from..*to])));
        let captures = Captures { segments: segments.collect(), rest: target.path.slice_ref(&target.path[place.rest..]) };
        Ok(Found { route: *route, captures })
    }

    /// The paths of the most specific host: those of less specific ones are not served under it.
    fn paths_of(&self, host: &str) -> Option<&Paths> {
        let below = || host.split_once('.').and_then(|(_, parent)| self.below.get(parent));
        let at = self.hosts.get(host).or_else(below).copied().or(self.any)?;
        self.paths.get(at)
    }
}

impl Paths {
    /// The leaf of a pattern, made where there is none.
    fn leaf(&mut self, pattern: &Pattern) -> &mut Leaf {
        let mut at = 0;
        for segment in &pattern.segments {
            let new = self.nodes.len();
            at = match segment {
                Segment::Literal(text) => *self.nodes[at].literals.entry(text.clone()).or_insert(new),
                Segment::Capture(_) => *self.nodes[at].capture.get_or_insert(new),
            };
            if at == new {
                self.nodes.push(Node::default());
            }
        }
        let new = self.leaves.len();
        let node = &mut self.nodes[at];
        let leaf = *if pattern.exact { &mut node.exact } else { &mut node.prefix }.get_or_insert(new);
        if leaf == new {
            self.leaves.push(Leaf { routes: Vec::new(), allow: HeaderValue::from_static("") });
        }
        &mut self.leaves[leaf]
    }

    fn find(&self, path: &str) -> Option<Match> {
        let mut search = Search { paths: self, path, captured: Vec::new(), found: None };
        search.descend(0, 0, 0);
        search.found.map(|(_, found)| found)
    }
}

/// Where a path led.
#[derive(Debug)]
struct Match {
    leaf: usize,
    /// Where in the path the rest begins.
    rest: usize,
    /// From where to where each capture goes.
    captured: Vec<(usize, usize)>,
}

struct Search<'a> {
    paths: &'a Paths,
    path: &'a str,
    /// The captures on the way to the node that is looked at.
    captured: Vec<(usize, usize)>,
    /// The best match so far, with its number of segments.
    found: Option<(usize, Match)>,
}

impl Search<'_> {
    /// Looks at a node and below it. `at` is where in the path the part behind the node begins: a slash, or the end. Whether
    /// an exact match was found, which ends the search.
    ///
    /// No deeper than the longest path of the config, and no node is looked at twice: the config bounds the cost, not the caller.
    fn descend(&mut self, node: usize, at: usize, depth: usize) -> bool {
        let node = &self.paths.nodes[node];
        // Of two that are as long, the first one found stays: written out segments are tried before captures.
        if let Some(leaf) = node.prefix
            && self.found.as_ref().is_none_or(|(best, _)| depth > *best)
        {
            self.found = Some((depth, Match { leaf, rest: at, captured: self.captured.clone() }));
        }
        if at == self.path.len() {
            let Some(leaf) = node.exact else { return false };
            self.found = Some((depth, Match { leaf, rest: at, captured: std::mem::take(&mut self.captured) }));
            return true;
        }
        let from = at + 1;
        let to = memchr::memchr(b'/', &self.path.as_bytes()[from..]).map_or(self.path.len(), |length| from + length);
        if let Some(child) = node.literals.get(&self.path[from..to])
            && self.descend(*child, to, depth + 1)
        {
            return true;
        }
        if let (Some(child), true) = (node.capture, from < to) {
            self.captured.push((from, to));
            if self.descend(child, to, depth + 1) {
                return true;
            }
            self.captured.pop();
        }
        false
    }
}

/// RFC 9110, section 10.2.1.
fn allow(routes: &[(usize, Vec<Method>)]) -> HeaderValue {
    let mut methods: Vec<_> = routes.iter().flat_map(|(_, methods)| methods.iter().map(Method::as_str)).collect();
    methods.sort_unstable();
    methods.dedup();
    HeaderValue::try_from(methods.join(", ")).expect("method names are tokens")
}

#[cfg(test)]
mod tests;
