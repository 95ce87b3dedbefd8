//! The paths of one host: a trie of segments.

use http::{HeaderValue, Method};

use super::pattern::{Pattern, Segment};

/// A trie of segments, whose root is the first node.
#[derive(Debug)]
pub(super) struct Paths {
    nodes: Vec<Node>,
    leaves: Vec<Leaf>,
    /// The methods of all leaves, for `Allow`.
    pub(super) allow: HeaderValue,
}

#[derive(Debug, Default)]
struct Node {
    /// The nodes of segments that are written out, sorted as [`literal`](Self::literal) looks for them.
    literals: Vec<(Box<str>, usize)>,
    capture: Option<usize>,
    /// The leaf of a path that ends here and has nothing below it.
    exact: Option<usize>,
    /// The leaf of a path prefix.
    prefix: Option<usize>,
}

impl Node {
    /// Returns where the node of a segment is in the list, or else where it would be. Lengths are compared first: most differ.
    fn literal(&self, segment: &str) -> Result<usize, usize> {
        self.literals.binary_search_by(|(literal, _)| literal.len().cmp(&segment.len()).then_with(|| (**literal).cmp(segment)))
    }
}

/// A path: its routes, distinguished by their methods.
#[derive(Debug)]
pub(super) struct Leaf {
    pub(super) routes: Vec<(usize, Vec<Method>)>,
    /// The methods of all of them, for `Allow`.
    pub(super) allow: HeaderValue,
}

impl Default for Paths {
    fn default() -> Self {
        Self { nodes: vec![Node::default()], leaves: Vec::new(), allow: HeaderValue::from_static("") }
    }
}

impl Paths {
    /// Returns the leaf of a pattern, making it if necessary.
    pub(super) fn leaf(&mut self, pattern: &Pattern) -> &mut Leaf {
        self.leaf_by(pattern, |literal| literal.into())
    }

    /// Returns the leaf of a pattern whose literals are spelled by `spell`, making it if necessary.
    pub(super) fn leaf_by(&mut self, pattern: &Pattern, spell: impl Fn(&str) -> Box<str>) -> &mut Leaf {
        let mut at = 0;
        for segment in &pattern.segments {
            let new = self.nodes.len();
            at = match segment {
                Segment::Literal(text) => {
                    let (node, segment) = (&mut self.nodes[at], spell(text));
                    let place = node.literal(&segment);
                    place.map(|known| node.literals[known].1).unwrap_or_else(|place| {
                        node.literals.insert(place, (segment, new));
                        new
                    })
                }
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

    /// Returns the routes of all paths; one may come several times.
    pub(super) fn routes(&self) -> impl Iterator<Item = usize> {
        self.leaves.iter().flat_map(|leaf| leaf.routes.iter().map(|(route, _)| *route))
    }

    /// Records the methods of each leaf, when all routes are added.
    pub(super) fn finish(&mut self) {
        for leaf in &mut self.leaves {
            leaf.allow = allow(&leaf.routes);
        }
        self.allow = allow(self.leaves.iter().flat_map(|leaf| &leaf.routes));
    }

    /// Returns the leaf of a match.
    pub(super) fn at(&self, place: &Match) -> &Leaf {
        &self.leaves[place.leaf]
    }

    /// Finds the match of a path.
    pub(super) fn find(&self, path: &str) -> Option<Match> {
        let mut search = Search { paths: self, path, captured: Vec::new(), found: None };
        search.descend(0, 0, 0);
        search.found.map(|(_, found)| found)
    }
}

impl Leaf {
    /// Returns the route that serves a method.
    pub(super) fn route(&self, method: &Method) -> Option<usize> {
        self.routes.iter().find(|(_, methods)| methods.contains(method)).map(|(route, _)| *route)
    }
}

/// The match of a path.
#[derive(Debug)]
pub(super) struct Match {
    pub(super) leaf: usize,
    /// The start of the rest in the path.
    pub(super) rest: usize,
    /// The range of each capture.
    pub(super) captured: Vec<(usize, usize)>,
}

struct Search<'a> {
    paths: &'a Paths,
    path: &'a str,
    /// The captures on the way to the current node.
    captured: Vec<(usize, usize)>,
    /// The best match so far, with its number of segments.
    found: Option<(usize, Match)>,
}

impl Search<'_> {
    /// Searches a node and its descendants. `at` is the position in the path after the node's part: a slash, or the end. Returns
    /// whether an exact match was found, which ends the search.
    ///
    /// The depth is bounded by the longest path of the config, and no node is visited twice: the config bounds the cost, not the
    /// caller.
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
        if let Ok(literal) = node.literal(&self.path[from..to])
            && self.descend(node.literals[literal].1, to, depth + 1)
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

/// Builds the value of `Allow`. RFC 9110, section 10.2.1.
fn allow<'a>(routes: impl IntoIterator<Item = &'a (usize, Vec<Method>)>) -> HeaderValue {
    let mut methods: Vec<_> = routes.into_iter().flat_map(|(_, methods)| methods.iter().map(Method::as_str)).collect();
    methods.sort_unstable();
    methods.dedup();
    HeaderValue::try_from(methods.join(", ")).expect("method names are tokens")
}
