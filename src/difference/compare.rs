//! The comparison of two configs, from their cells to the groups.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use super::{
    arrivals::arrivals,
    cell::{Arrival, Cell, Target},
    cells::{Cells, captures, cells},
    changes,
    describe::Words,
    group::Groups,
    judge::{Finding, Judge, in_words},
    not_compared,
    region::Region,
    report::{Difference, Routes, Treatment, Unknown},
    side::Side,
    space::AddressSpace,
    treatment,
    walk::{Cube, End, Walker, name_of, walk},
    witness::Mint,
    world::{World, expiries},
};
use crate::settings::Place;

/// The most cubes that are judged.
const MOST_CUBES: usize = 50_000;
/// The settings of a route that decide whom it serves.
const RULES: [&str; 2] = ["name", "match"];

/// The options of a comparison.
#[derive(Clone, Debug)]
pub struct Options {
    /// The routes whose name contains this text.
    pub route: Option<String>,
    /// The most hosts, paths and methods that are looked at, and parts that are told apart.
    pub most_cells: usize,
    /// The number of values that are tried for conditions that cannot be taken apart.
    pub samples: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self { route: None, most_cells: 1_000_000, samples: 64 }
    }
}

/// A comparison with its results so far.
struct Comparison<'a> {
    judge: Judge<'a>,
    options: &'a Options,
    rules: [Vec<String>; 2],
    groups: Groups,
    treatment: BTreeSet<Treatment>,
    unknown: BTreeSet<Unknown>,
    cut_short: BTreeSet<String>,
    parts: usize,
    cubes: usize,
    /// Treatments and refusals that were looked at.
    seen: HashSet<String>,
    same: BTreeMap<usize, bool>,
    from: Option<u64>,
}

/// Compares two configs, which are compiled for the same time.
pub async fn difference(sides: [&Side; 2], options: &Options) -> Difference {
    let world = World::of(sides);
    let mint = Mint::default();
    let judge = Judge { sides, world: &world, mint: &mint, samples: options.samples };
    let now = sides[0].gateway.now();
    let found = cells(sides, &world, options.most_cells);
    let mut comparison = Comparison {
        judge,
        options,
        rules: [rules(sides[0]), rules(sides[1])],
        groups: Groups::default(),
        treatment: BTreeSet::new(),
        unknown: BTreeSet::new(),
        cut_short: BTreeSet::new(),
        parts: 0,
        cubes: 0,
        seen: HashSet::new(),
        same: BTreeMap::new(),
        from: None,
    };
    Box::pin(comparison.at_one_time(sides, &found)).await;
    // Accesses that end later end in one config and not in the other, perhaps.
    let later: BTreeSet<u64> = sides.iter().flat_map(|side| expiries(side, now)).collect();
    let own = [expiries(sides[0], now), expiries(sides[1], now)];
    let may_matter = own[0] != own[1] || comparison.parts > 0;
    for time in later.iter().filter(|_| may_matter) {
        sides.iter().for_each(|side| side.set_time(*time));
        comparison.from = Some(*time);
        Box::pin(comparison.at_one_time(sides, &found)).await;
    }
    sides.iter().for_each(|side| side.set_time(now));
    if found.cut_short {
        comparison.cut_short.insert(format!("there are more than {} hosts, paths and methods", options.most_cells));
    }
    Box::pin(comparison.finish(sides, &found)).await
}

/// Returns the digest of the rules of each route.
fn rules(side: &Side) -> Vec<String> {
    let root = Place::root();
    let global = side.contents.digest_without(&root.key("inbound"), &[]);
    let names_matter = world_names_routes(side);
    let of_route = |index: usize| {
        let own = side.contents.digest_without(&root.key("routes").index(index), &RULES);
        let name = if names_matter { side.document.config.routes[index].name.as_str() } else { "" };
        format!("{global} {own} {name}")
    };
    (0..side.document.config.routes.len()).map(of_route).collect()
}

/// Returns whether what a route is called decides something.
fn world_names_routes(side: &Side) -> bool {
    let config = &side.document.config;
    config.partners.values().any(|partner| partner.routes.is_some()) || {
        let root = Place::root();
        let text =
            side.content(&root.key("inbound")) + &side.content(&root.key("fragments")) + &side.content(&root.key("routes"));
        text.contains("route.name")
    }
}

impl Comparison<'_> {
    /// Compares the configs as they are at the time of both engines.
    async fn at_one_time(&mut self, sides: [&Side; 2], cells: &Cells) {
        let arrivals = Box::pin(arrivals(sides, looks_at_schemes(sides))).await;
        for what in &arrivals.alone {
            self.treatment.insert(Treatment {
                route: "every route".to_owned(),
                what: what.clone(),
                before: String::new(),
                after: String::new(),
            });
        }
        for (arrival, callers) in &arrivals.arrivals {
            let alike = arrival.callers[0] == arrival.callers[1] && arrival.schemes[0] == arrival.schemes[1];
            for cell in &cells.cells {
                if !self.is_asked(sides, cell) || self.has_same_rules(cell) && alike {
                    continue;
                }
                if self.parts >= self.options.most_cells {
                    self.cut_short.insert(format!("there are more than {} parts", self.options.most_cells));
                    return;
                }
                Box::pin(self.cell(sides, (cell, arrival), callers)).await;
            }
        }
    }

    /// Returns whether the cell is of a route that is asked for.
    fn is_asked(&self, sides: [&Side; 2], cell: &Cell) -> bool {
        let Some(asked) = &self.options.route else { return true };
        let names = [name_of(sides[0], &cell.targets[0]), name_of(sides[1], &cell.targets[1])];
        names.iter().flatten().any(|name| name.contains(asked.as_str()))
    }

    /// Returns whether both configs have the same rules for the cell.
    fn has_same_rules(&mut self, cell: &Cell) -> bool {
        let [Target::Route(old), Target::Route(new)] = cell.targets else { return false };
        let same = self.rules[0].get(old) == self.rules[1].get(new);
        self.same.entry(new).and_modify(|all| *all &= same).or_insert(same);
        same
    }

    async fn cell(&mut self, sides: [&Side; 2], (cell, arrival): (&Cell, &Arrival), callers: &AddressSpace) {
        if let Target::Route(new) = cell.targets[1]
            && matches!(cell.targets[0], Target::Nowhere(_))
        {
            self.same.insert(new, false);
        }
        let walker = |index: usize| Walker::new(sides[index], index, cell, arrival, captures(sides[index], cell, index));
        let issuers = self.judge.world.issuers.iter().map(|issuer| issuer.key.clone()).collect();
        let walked = walk(&[walker(0), walker(1)], self.judge.world, Region::of(callers.clone(), issuers));
        self.parts += walked.parts;
        self.cut_short.extend(walked.cut_short.map(str::to_owned));
        for cube in &walked.cubes {
            if self.cubes >= MOST_CUBES {
                self.cut_short.insert(format!("there are more than {MOST_CUBES} differences"));
                return;
            }
            Box::pin(self.cube(sides, cube, (cell, arrival))).await;
        }
    }

    async fn cube(&mut self, sides: [&Side; 2], cube: &Cube, (cell, arrival): (&Cell, &Arrival)) {
        let changes_access = cube.ends[0].serves() != cube.ends[1].serves();
        if !changes_access && !self.seen.insert(format!("{:?} {:?}", cell.targets, cube.ends)) {
            // One request shows how they are treated.
            return;
        }
        self.cubes += 1;
        match Box::pin(self.judge.find(cube, (cell, arrival))).await {
            Finding::Shown(shown) => {
                let (witness, judged) = *shown;
                let served = judged.served();
                if served[0] == served[1] {
                    let route = name_of(sides[1], &cell.targets[1]).or_else(|| name_of(sides[0], &cell.targets[0]));
                    let route = route.unwrap_or_else(|| "no route".to_owned());
                    let [old, new] = &judged.outcomes;
                    let seen = treatment::between(&route, [old, new]);
                    if seen.is_empty() {
                        self.told_by_settings(sides, cell, &route);
                    }
                    self.treatment.extend(seen);
                } else {
                    let words = Words { sides, world: self.judge.world };
                    self.groups.add(cube, (cell, arrival), (witness, served), words, self.from);
                }
            }
            Finding::Unknown(why) if changes_access => {
                let place = self.judge.free_position(&cube.region).unwrap_or_else(|| cause(cube, cell, sides));
                let [before, after] = [in_words(&cube.ends[0]), in_words(&cube.ends[1])];
                self.unknown.insert(Unknown { place, why: format!("{before} → {after}: {why}") });
            }
            Finding::Unknown(_) => {
                let route = name_of(sides[1], &cell.targets[1]).unwrap_or_else(|| "no route".to_owned());
                self.told_by_settings(sides, cell, &route);
            }
        }
    }

    /// Tells a change of treatment that no request has shown by the settings that differ.
    fn told_by_settings(&mut self, sides: [&Side; 2], cell: &Cell, route: &str) {
        for change in changes::between(sides, &cell.targets) {
            let (before, after) = (String::new(), String::new());
            self.treatment.insert(Treatment { route: route.to_owned(), what: change.what, before, after });
        }
    }

    async fn finish(mut self, sides: [&Side; 2], cells: &Cells) -> Difference {
        let all = sides[1].document.config.routes.len();
        let unmet = (0..all).filter(|index| !self.same.contains_key(index)).count();
        let same = self.same.values().filter(|same| **same).count() + if self.parts == 0 { unmet } else { 0 };
        let words = Words { sides, world: self.judge.world };
        let groups = Box::pin(std::mem::take(&mut self.groups).finish(words, self.judge.mint)).await;
        self.unseen_settings(sides);
        self.treatment.extend(treatment::reserved(sides));
        let complete = self.cut_short.is_empty();
        Difference {
            complete,
            cut_short: self.cut_short.into_iter().collect(),
            cells: cells.cells.len() + self.parts,
            routes: Routes { all, same: complete.then_some(same) },
            groups,
            treatment: self.treatment.into_iter().collect(),
            not_compared: not_compared::changes(sides),
            unknown: self.unknown.into_iter().collect(),
            same_rules: self.cubes == 0 && elsewhere_alike(sides),
        }
    }

    /// Tells settings of routes that differ and of which no request has shown anything.
    fn unseen_settings(&mut self, sides: [&Side; 2]) {
        const COMPARED: [&str; 8] =
            ["name", "match", "inbound", "upstream", "authorization", "anonymous", "mode", "identity-headers"];
        for section in ["outbound", "on-error"] {
            let place = Place::root().key(section);
            if sides[0].content(&place) != sides[1].content(&place) {
                let what = format!("{section}: the policies on every answer differ");
                let (route, before, after) = ("every route".to_owned(), String::new(), String::new());
                self.treatment.insert(Treatment { route, what, before, after });
            }
        }
        for (new, route) in sides[1].document.config.routes.iter().enumerate() {
            let Some(old) = sides[0].document.config.routes.iter().position(|other| other.name == route.name) else { continue };
            if self.options.route.as_ref().is_some_and(|asked| !route.name.contains(asked.as_str())) {
                continue;
            }
            let place = |index: usize| Place::root().key("routes").index(index);
            let parts = [sides[0].contents.parts(&place(old), &COMPARED), sides[1].contents.parts(&place(new), &COMPARED)];
            let keys: BTreeSet<&String> = parts[0].keys().chain(parts[1].keys()).collect();
            for key in keys.into_iter().filter(|key| parts[0].get(*key) != parts[1].get(*key)) {
                let nodes = [sides[0].contents.node(&place(old).key(key)), sides[1].contents.node(&place(new).key(key))];
                let mut told = Vec::new();
                match nodes {
                    [Some(before), Some(after)] => changes::nodes_differ([before, after], &place(new).key(key), &mut told),
                    [Some(_), None] => told.push((place(new), format!("{key} is removed"))),
                    _ => told.push((place(new), format!("{key} is added"))),
                }
                for (_, what) in told {
                    let (before, after) = (String::new(), String::new());
                    self.treatment.insert(Treatment { route: route.name.clone(), what: format!("{key}: {what}"), before, after });
                }
            }
        }
    }
}

/// Returns whether all that no walk looks at is the same.
fn elsewhere_alike(sides: [&Side; 2]) -> bool {
    const SECTIONS: [&str; 13] = [
        "listeners",
        "tenants",
        "issuers",
        "upstreams",
        "credentials",
        "backend-assertion",
        "outbound",
        "on-error",
        "identity-http",
        "verified-tokens",
        "audit",
        "named-values",
        "health",
    ];
    SECTIONS.iter().all(|section| {
        let place = Place::root().key(section);
        sides[0].content(&place) == sides[1].content(&place)
    })
}

/// Returns the place of the entry by which a cube differs.
fn cause(cube: &Cube, cell: &Cell, sides: [&Side; 2]) -> String {
    let refused = cube.ends.iter().enumerate().find_map(|(index, end)| match end {
        End::Refused(refused) => Some((index, refused)),
        _ => None,
    });
    let Some((index, refused)) = refused else {
        return name_of(sides[1], &cell.targets[1]).unwrap_or_default();
    };
    match crate::explain::position(&sides[index].document, &refused.place) {
        Some(position) => format!("{}:{}", position.file, position.line),
        None => refused.place.to_string(),
    }
}

/// Returns whether some rule looks at the scheme that a caller uses.
fn looks_at_schemes(sides: [&Side; 2]) -> bool {
    let root = Place::root();
    sides.iter().any(|side| {
        let text =
            side.content(&root.key("inbound")) + &side.content(&root.key("fragments")) + &side.content(&root.key("routes"));
        text.contains("request.scheme") || text.contains("request.url") || text.contains("require-tls")
    })
}
