//! The cells of two configs: hosts, paths and methods, cut at what either of them names.

use std::collections::{BTreeMap, BTreeSet};

use http::Method;

use super::{
    cell::{Cell, Target},
    side::Side,
    world::World,
};
use crate::{
    request,
    route::{MatchConfig, RequireTlsConfig, RequireTlsWord},
    settings::Place,
};

/// A segment that no route names.
const SEGMENT: &str = "another";
/// A host that no route names.
const HOST: &str = "another.example";
/// The most patterns that several routes of one host match.
const MOST_MET: usize = 4_096;
/// The methods of a route without `methods`.
const USUAL: [&str; 7] = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"];
/// Methods of which one that no route names stands for all others.
const RARE: [&str; 4] = ["PROPFIND", "SEARCH", "REPORT", "LINK"];

/// The cells of two configs.
#[derive(Debug, Default)]
pub(crate) struct Cells {
    pub(crate) cells: Vec<Cell>,
    /// The number of hosts, paths and methods that were looked at.
    pub(crate) looked_at: usize,
    /// Whether a limit was met.
    pub(crate) cut_short: bool,
}

/// The routes of a config by the hosts that they name.
#[derive(Debug, Default)]
struct Hosts {
    exact: BTreeMap<String, Vec<usize>>,
    below: BTreeMap<String, Vec<usize>>,
    any: Vec<usize>,
}

impl Hosts {
    fn of(side: &Side) -> Self {
        let mut hosts = Self::default();
        for (index, route) in side.document.config.routes.iter().enumerate() {
            if route.matches.hosts.is_empty() {
                hosts.any.push(index);
            }
            for host in &route.matches.hosts {
                let host = host.to_ascii_lowercase();
                let host = host.trim_end_matches('.');
                match host.strip_prefix("*.") {
                    Some(below) => hosts.below.entry(below.to_owned()).or_default().push(index),
                    None => hosts.exact.entry(host.to_owned()).or_default().push(index),
                }
            }
        }
        hosts
    }

    /// Returns the routes that serve a host.
    fn serving(&self, host: &str) -> &[usize] {
        let below = || host.split_once('.').and_then(|(_, parent)| self.below.get(parent));
        self.exact.get(host).or_else(below).unwrap_or(&self.any)
    }
}

/// Makes the cells of two configs, at most `most` of hosts, paths and methods.
pub(crate) fn cells(sides: [&Side; 2], world: &World, most: usize) -> Cells {
    let served = sides.map(Hosts::of);
    let methods = methods(sides, world);
    let asks = sides.iter().any(|side| has_cors(side));
    let sensitive = sides.map(Sensitive::of);
    let mut merged: BTreeMap<Key, usize> = BTreeMap::new();
    let mut found = Cells::default();
    for host in hosts(&served, world) {
        let (paths, whole) = paths(sides, &served, &host, world);
        found.cut_short |= !whole;
        for path in paths {
            let Ok(target) = request::Target::read(&path) else { continue };
            for (method, preflight) in methods.iter().flat_map(|method| [(method, false), (method, true)]) {
                if preflight && (!asks || *method == Method::OPTIONS) {
                    continue;
                }
                found.looked_at += 1;
                if found.looked_at > most {
                    found.cut_short = true;
                    return found;
                }
                let targets = sides.map(|side| lead(side, &host, &target, method, preflight));
                if let [Target::Nowhere(old), Target::Nowhere(new)] = &targets
                    && old == new
                {
                    continue;
                }
                // A preflight that nobody answers is a request for its own method.
                if preflight && !targets.iter().zip(sides).any(|(target, side)| answers(side, target)) {
                    continue;
                }
                let by = [0, 1].map(|index| sensitive[index].of_target(&targets[index]));
                let key = Key {
                    targets: targets.clone(),
                    preflight,
                    method: by.iter().any(|by| by.method).then(|| method.to_string()),
                    host: by.iter().any(|by| by.host).then(|| host.clone()),
                    path: by.iter().any(|by| by.path).then(|| path.clone()),
                };
                add(&mut found.cells, &mut merged, key, (&host, &path, method.as_str()));
            }
        }
    }
    found
}

/// The facts by which cells are told apart.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Key {
    targets: [Target; 2],
    preflight: bool,
    method: Option<String>,
    host: Option<String>,
    path: Option<String>,
}

fn add(cells: &mut Vec<Cell>, merged: &mut BTreeMap<Key, usize>, key: Key, (host, path, method): (&str, &str, &str)) {
    let (targets, preflight) = (key.targets.clone(), key.preflight);
    let at = *merged.entry(key).or_insert_with(|| {
        cells.push(Cell {
            targets,
            host: host.to_owned(),
            path: path.to_owned(),
            method: method.to_owned(),
            preflight,
            hosts: Vec::new(),
            methods: Vec::new(),
            paths: Vec::new(),
        });
        cells.len() - 1
    });
    let cell = &mut cells[at];
    for (list, text) in [(&mut cell.hosts, host), (&mut cell.methods, method), (&mut cell.paths, path)] {
        if list.last().is_none_or(|last| last != text) && !list.iter().any(|known| known == text) {
            list.push(text.to_owned());
        }
    }
}

/// Finds where a request leads.
pub(crate) fn lead(side: &Side, host: &str, target: &request::Target, method: &Method, preflight: bool) -> Target {
    let table = &side.gateway.runtime().table;
    let found = table.find_for(host, target, method);
    if preflight {
        // Only routes that answer such questions are found by the method that is asked about.
        if let Ok(found) = &found
            && side.gateway.runtime().routes[found.route].inbound.answers_preflights()
        {
            return Target::Route(found.route);
        }
        return lead(side, host, target, &Method::OPTIONS, false);
    }
    match found {
        Ok(found) => Target::Route(found.route),
        Err(refusal) => Target::Nowhere(refusal.reason.code()),
    }
}

fn answers(side: &Side, target: &Target) -> bool {
    let Target::Route(index) = target else { return false };
    side.gateway.runtime().routes.get(*index).is_some_and(|route| route.inbound.answers_preflights())
}

fn has_cors(side: &Side) -> bool {
    side.gateway.runtime().routes.iter().any(|route| route.inbound.answers_preflights())
}

/// The facts that a route looks at besides those that led to it.
#[derive(Clone, Copy, Debug, Default)]
struct By {
    method: bool,
    host: bool,
    path: bool,
}

/// The facts that each route of a config looks at.
struct Sensitive(Vec<By>);

impl Sensitive {
    fn of(side: &Side) -> Self {
        let root = Place::root();
        let everywhere = side.content(&root.key("inbound")) + &side.content(&root.key("fragments"));
        let of_route = |index: usize| {
            let place = root.key("routes").index(index);
            let route = &side.document.config.routes[index];
            let text = side.content(&place.key("inbound")) + &side.content(&place.key("identity-headers"));
            let reads = |word: &str| text.contains(word) || everywhere.contains(word);
            By {
                method: reads("request.method") || route.require_tls == RequireTlsConfig::Word(RequireTlsWord::Redirect),
                host: reads("request.host") || reads("request.url"),
                path: reads("request.path") || reads("captures") || reads("request.url"),
            }
        };
        Self((0..side.document.config.routes.len()).map(of_route).collect())
    }

    fn of_target(&self, target: &Target) -> By {
        match target {
            Target::Route(index) => self.0.get(*index).copied().unwrap_or_default(),
            Target::Nowhere(_) => By::default(),
        }
    }
}

fn methods(sides: [&Side; 2], world: &World) -> Vec<Method> {
    let mut names: BTreeSet<String> = USUAL.map(str::to_owned).into();
    for side in sides {
        names.extend(side.document.config.routes.iter().flat_map(|route| route.matches.methods.iter().cloned()));
    }
    names.extend(world.methods.iter().filter(|name| name.bytes().all(|byte| byte.is_ascii_uppercase())).cloned());
    names.extend(RARE.into_iter().find(|name| !names.contains(*name)).map(str::to_owned));
    // The first one stands for those that are treated alike: what a reader would try is GET.
    let mut names: Vec<String> = names.into_iter().collect();
    names.sort_by_key(|name| USUAL.iter().position(|usual| usual == name).unwrap_or(USUAL.len()));
    names.iter().filter_map(|name| Method::from_bytes(name.as_bytes()).ok()).collect()
}

fn hosts(served: &[Hosts; 2], world: &World) -> Vec<String> {
    let mut hosts = BTreeSet::from([HOST.to_owned()]);
    for side in served {
        hosts.extend(side.exact.keys().cloned());
    }
    let named = |host: &String| served.iter().any(|side| side.exact.contains_key(host));
    for below in served.iter().flat_map(|side| side.below.keys()) {
        hosts.extend(["any", "another", "other"].map(|label| format!("{label}.{below}")).into_iter().find(|host| !named(host)));
    }
    let is_name = |text: &&String| {
        !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-.".contains(&byte))
    };
    hosts.extend(world.hosts.iter().filter(is_name).cloned());
    hosts.into_iter().collect()
}

/// Returns the paths under a host at which something may change, and whether they are all.
fn paths(sides: [&Side; 2], served: &[Hosts; 2], host: &str, world: &World) -> (BTreeSet<String>, bool) {
    let mut found = BTreeSet::from(["/".to_owned(), format!("/{SEGMENT}")]);
    let mut within: Vec<&str> = Vec::new();
    // Where an upstream knows no case, another spelling is another question.
    let folds = sides.iter().any(|side| side.folds());
    for text in &world.paths {
        if text.starts_with('/') {
            let text = text.trim_end_matches('/');
            found.extend([text.to_owned(), format!("{text}/{SEGMENT}")]);
        } else {
            within.push(text.trim_matches('/'));
        }
    }
    let mut patterns = BTreeSet::new();
    for (side, hosts) in sides.into_iter().zip(served) {
        patterns.extend(hosts.serving(host).iter().map(|index| Pattern::of(&side.document.config.routes[*index].matches)));
    }
    // A path that a condition names may be one that a capture matches.
    patterns.extend(world.paths.iter().filter(|text| text.starts_with('/')).map(|text| Pattern::literal(text)));
    let whole = meet(&mut patterns);
    for at in patterns.iter().flat_map(|pattern| pattern.at(world)) {
        let at = at.trim_end_matches('/').to_owned();
        let beside = at.rsplit_once('/').map_or("", |(parent, _)| parent);
        found.extend([format!("{at}/"), format!("{at}/{SEGMENT}"), format!("{beside}/{SEGMENT}")]);
        found.extend(within.iter().map(|text| format!("{at}/{text}")));
        if folds {
            found.insert(at.to_ascii_uppercase());
        }
        if !at.is_empty() {
            found.insert(at);
        }
    }
    found.remove("");
    (found, whole)
}

/// The pattern of a path.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Pattern(Vec<Segment>);

/// The pattern of one segment.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Segment {
    Literal(String),
    /// Any text, under this name.
    Capture(String),
}

impl Pattern {
    fn of(matches: &MatchConfig) -> Self {
        let path = matches.path.as_ref().or(matches.exact_path.as_ref()).map_or("/", String::as_str);
        let segment = |segment: &str| match segment.strip_prefix('{').and_then(|segment| segment.strip_suffix('}')) {
            Some(name) => Segment::Capture(name.to_owned()),
            None => Segment::Literal(segment.to_owned()),
        };
        let segments = path.split('/').skip(1).map(segment);
        Self(segments.filter(|segment| *segment != Segment::Literal(String::new())).collect())
    }

    fn literal(path: &str) -> Self {
        let segments = path.split('/').filter(|segment| !segment.is_empty());
        Self(segments.map(|segment| Segment::Literal(segment.to_owned())).collect())
    }

    fn captures(&self) -> bool {
        self.0.iter().any(|segment| matches!(segment, Segment::Capture(_)))
    }

    /// Returns the pattern of the paths that both match, where the shorter one matches what is below it.
    fn met_by(&self, other: &Self) -> Option<Self> {
        let length = self.0.len().max(other.0.len());
        let segment = |index: usize| match (self.0.get(index), other.0.get(index)) {
            (Some(Segment::Literal(own)), Some(Segment::Literal(theirs))) => {
                (own == theirs).then(|| Segment::Literal(own.clone()))
            }
            (Some(literal @ Segment::Literal(_)), _) | (_, Some(literal @ Segment::Literal(_))) => Some(literal.clone()),
            (Some(capture), _) | (None, Some(capture)) => Some(capture.clone()),
            (None, None) => None,
        };
        (0..length).map(segment).collect::<Option<Vec<_>>>().map(Self)
    }

    /// Returns paths of the pattern: with each text that a capture of this name is compared with, and with another one.
    fn at(&self, world: &World) -> Vec<String> {
        let mut found = vec![String::new()];
        for segment in &self.0 {
            let fills: Vec<String> = match segment {
                Segment::Literal(text) => vec![text.clone()],
                Segment::Capture(name) => {
                    let compared = world.captures.get(name).into_iter().flatten();
                    let plain = |text: &&String| {
                        !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte))
                    };
                    compared.filter(plain).take(8).cloned().chain([format!("{SEGMENT}-{name}")]).collect()
                }
            };
            found = found.iter().flat_map(|begin| fills.iter().map(move |fill| format!("{begin}/{fill}"))).take(64).collect();
        }
        found
    }
}

/// Adds the patterns of paths that several of the patterns match: which route takes those is a question of its own. Returns false if
/// there are too many.
fn meet(patterns: &mut BTreeSet<Pattern>) -> bool {
    let written: Vec<Pattern> = patterns.iter().cloned().collect();
    let mut open: Vec<Pattern> = written.iter().filter(|pattern| pattern.captures()).cloned().collect();
    while let Some(pattern) = open.pop() {
        for other in &written {
            let Some(both) = pattern.met_by(other).filter(|both| !patterns.contains(both)) else { continue };
            if patterns.len() >= written.len() + MOST_MET {
                return false;
            }
            if both.captures() {
                open.push(both.clone());
            }
            patterns.insert(both);
        }
    }
    true
}

/// Returns what the path of a cell is captured as, by the route that it leads to.
pub(crate) fn captures(side: &Side, cell: &Cell, index: usize) -> Vec<(String, String)> {
    let Target::Route(route) = cell.targets[index] else { return Vec::new() };
    let Some(config) = side.document.config.routes.get(route) else { return Vec::new() };
    let pattern = config.matches.path.as_ref().or(config.matches.exact_path.as_ref()).map_or("/", String::as_str);
    let captured = pattern.split('/').zip(cell.path.split('/'));
    let named =
        captured.filter_map(|(segment, text)| Some((segment.strip_prefix('{')?.strip_suffix('}')?.to_owned(), text.to_owned())));
    named.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pattern(path: &str) -> Pattern {
        Pattern::of(&crate::settings::testing::part(&format!("path: \"{path}\"")))
    }

    #[test]
    fn paths_that_several_patterns_match_are_questions_of_their_own() {
        for (one, other, both) in [
            ("/a/{id}/c", "/a/b", Some("/a/b/c")),
            ("/{x}/b", "/a/{y}", Some("/a/b")),
            ("/a", "/a/{id}", Some("/a/{id}")),
            ("/a/b", "/a/c", None),
            ("/", "/a", Some("/a")),
        ] {
            assert_eq!(pattern(one).met_by(&pattern(other)), both.map(pattern), "{one} {other}");
        }
        let mut patterns = ["/{x}/{y}/c", "/a/{y}", "/{x}/b"].map(pattern).into();
        assert!(meet(&mut patterns));
        assert!(patterns.contains(&pattern("/a/b/c")), "{patterns:?}");
    }
}
