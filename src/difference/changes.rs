//! The settings that differ between the rules of two routes: the causes of a difference.

use std::collections::BTreeMap;

use super::{
    cell::Target,
    report::ChangedPlace,
    side::{Side, each_text},
};
use crate::{
    config::Document,
    explain::{policy_at, position},
    inbound::list::Listed,
    settings::{
        Place,
        node::{Kind, Node},
    },
};

/// The most changes that are told of one cause.
const MOST: usize = 6;
/// The longest value that is told.
const LONGEST: usize = 80;

/// The changes of the entry at a place of one config, and of what it names; none if it is the same in the other.
pub(crate) fn of_entry(sides: [&Side; 2], routes: [usize; 2], (index, place): (usize, &Place)) -> Vec<ChangedPlace> {
    let found = pairs(sides, routes).into_iter().filter(|pair| {
        pair[index].as_ref().is_some_and(|entry| {
            let own = entry.place.pointer();
            place.pointer() == own || place.pointer().strip_prefix(own).is_some_and(|rest| rest.starts_with('/'))
        })
    });
    let mut found: Vec<_> = found.flat_map(|pair| of_pair(sides, &pair)).collect();
    found.truncate(MOST);
    found
}

/// The changes between the rules of two routes.
pub(crate) fn between(sides: [&Side; 2], targets: &[Target; 2]) -> Vec<ChangedPlace> {
    match targets {
        [Target::Route(old), Target::Route(new)] => {
            let mut found = entries(sides, [*old, *new]);
            if found.is_empty() {
                found.extend(other_settings(sides, [*old, *new]));
            }
            if is_another(sides, [*old, *new]) && (found.is_empty() || found.len() > MOST) {
                found = vec![route(sides[1], 1, *new, "takes the requests now")];
            }
            found.truncate(MOST);
            found
        }
        [Target::Route(old), Target::Nowhere(_)] => vec![gone(sides, *old, (0, 1))],
        [Target::Nowhere(_), Target::Route(new)] => vec![gone(sides, *new, (1, 0))],
        [Target::Nowhere(_), Target::Nowhere(_)] => Vec::new(),
    }
}

/// Returns whether the routes have different names, so that one has taken over from the other.
fn is_another(sides: [&Side; 2], routes: [usize; 2]) -> bool {
    name(sides[0], routes[0]) != name(sides[1], routes[1])
}

fn name(side: &Side, index: usize) -> &str {
    side.document.config.routes.get(index).map_or("", |route| route.name.as_str())
}

/// Tells that a route serves requests that the other config serves nowhere.
fn gone(sides: [&Side; 2], index: usize, (here, there): (usize, usize)) -> ChangedPlace {
    let known = sides[there].document.config.routes.iter().any(|route| route.name == name(sides[here], index));
    let what = match (known, here) {
        (true, _) => "its `match` differs",
        (false, 0) => "the route is removed, and no other takes the path",
        (false, _) => "the route is new",
    };
    route(sides[here], here, index, what)
}

fn route(side: &Side, index: usize, route: usize, what: &str) -> ChangedPlace {
    let place = Place::root().key("routes").index(route).key("name");
    changed(side, index, &place, format!("route {}: {what}", name(side, route)))
}

fn changed(side: &Side, index: usize, place: &Place, what: String) -> ChangedPlace {
    ChangedPlace {
        config: if index == 0 { "old" } else { "new" },
        place: nearest(&side.document, place),
        pointer: place.pointer().to_owned(),
        what,
    }
}

/// Returns the position of a setting, or of the nearest around it.
fn nearest(document: &Document, place: &Place) -> Option<crate::explain::Position> {
    let mut pointer = place.pointer().to_owned();
    loop {
        if let Some(position) = position(document, &Place::from(pointer.clone())) {
            return Some(position);
        }
        pointer = pointer.rsplit_once('/')?.0.to_owned();
    }
}

/// An entry of the old list and the one of the new list that stands for it, where they differ.
type Pair<'a> = [Option<Listed<'a>>; 2];

/// Pairs the entries of both lists that differ: those of the same policy, in their order.
fn pairs<'a>(sides: [&'a Side; 2], routes: [usize; 2]) -> Vec<Pair<'a>> {
    let lists = [sides[0].entries(routes[0]), sides[1].entries(routes[1])];
    let contents = |index: usize| {
        let entry = |entry: &Listed<'_>| format!("{} {}", entry.report_only, sides[index].content(&entry.place));
        lists[index].iter().map(entry).collect::<Vec<_>>()
    };
    let (old, new) = (contents(0), contents(1));
    let alone = |own: &[String], others: &[String]| -> Vec<usize> {
        let mut others: Vec<&String> = others.iter().collect();
        let mut alone = Vec::new();
        for (index, content) in own.iter().enumerate() {
            match others.iter().position(|other| *other == content) {
                Some(at) => drop(others.remove(at)),
                None => alone.push(index),
            }
        }
        alone
    };
    let (removed, mut added) = (alone(&old, &new), alone(&new, &old));
    let mut found: Vec<Pair<'a>> = Vec::new();
    for before in removed {
        let own = &lists[0][before];
        let same_policy = added.iter().position(|after| lists[1][*after].config.name() == own.config.name());
        let after = same_policy.map(|at| lists[1][added.remove(at)].clone());
        found.push([Some(own.clone()), after]);
    }
    found.extend(added.into_iter().map(|after| [None, Some(lists[1][after].clone())]));
    found
}

fn of_pair(sides: [&Side; 2], pair: &Pair<'_>) -> Vec<ChangedPlace> {
    match pair {
        [Some(old), Some(new)] => entry_changes(sides, [old, new]),
        [Some(old), None] => vec![changed(sides[0], 0, &old.place, format!("{} is removed", old.config.name()))],
        [None, Some(new)] => vec![changed(sides[1], 1, &new.place, format!("{} is added", new.config.name()))],
        [None, None] => Vec::new(),
    }
}

/// Compares the entries of both lists.
fn entries(sides: [&Side; 2], routes: [usize; 2]) -> Vec<ChangedPlace> {
    let mut found: Vec<_> = pairs(sides, routes).iter().flat_map(|pair| of_pair(sides, pair)).collect();
    if found.is_empty() {
        let order = |index: usize| {
            let entries = sides[index].entries(routes[index]);
            entries.iter().map(|entry| sides[index].content(&entry.place)).collect::<Vec<_>>()
        };
        let first = sides[1].entries(routes[1]).first().map(|entry| entry.place.clone());
        if let Some(first) = first.filter(|_| order(0) != order(1)) {
            found.push(changed(sides[1], 1, &first, "the order differs".to_owned()));
        }
    }
    found
}

fn entry_changes(sides: [&Side; 2], entries: [&Listed<'_>; 2]) -> Vec<ChangedPlace> {
    let [old, new] = entries;
    let mut found = Vec::new();
    if old.report_only != new.report_only {
        let what = if new.report_only { "its refusals are only reported" } else { "its refusals are enforced" };
        found.push(changed(sides[1], 1, &new.place, what.to_owned()));
    }
    let nodes = [sides[0].contents.node(&old.place), sides[1].contents.node(&new.place)];
    if let [Some(before), Some(after)] = nodes {
        let mut told = Vec::new();
        nodes_differ([before, after], &new.place, &mut told);
        found.extend(told.into_iter().map(|(place, what)| changed(sides[1], 1, &place, what)));
        if found.is_empty() {
            found.extend(named(sides, after));
        }
    }
    found
}

/// Returns the changes of what the settings name.
fn named(sides: [&Side; 2], node: &Node) -> Vec<ChangedPlace> {
    let mut names = Vec::new();
    each_text(node, None, &mut |text| names.push(text.to_owned()));
    let mut found = Vec::new();
    for section in ["address-sets", "tenants", "issuers", "partners", "upstreams", "credentials", "fragments"] {
        let all = sides[1].contents.nodes().get(section).and_then(Node::as_map).into_iter().flatten();
        for (key, after) in all {
            let place = Place::root().key(section).key(&key.text);
            let of_all = section == "partners" && !names.contains(&key.text);
            let meant = names.contains(&key.text) || of_all;
            let Some(before) = sides[0].contents.node(&place).filter(|_| meant) else { continue };
            if sides[0].contents.digest_of(section, &key.text) == sides[1].contents.digest_of(section, &key.text) {
                continue;
            }
            let mut told = Vec::new();
            nodes_differ([before, after], &place, &mut told);
            if told.is_empty() {
                // A file, or what it names in turn.
                let deeper = if section == "address-sets" { named(sides, after) } else { Vec::new() };
                if deeper.is_empty() {
                    told.push((place, format!("{section}.{}: the content differs", key.text)));
                }
                found.extend(deeper);
            }
            found.extend(told.into_iter().map(|(place, what)| changed(sides[1], 1, &place, what)));
        }
    }
    found
}

/// Compares settings of the route besides its policies.
fn other_settings(sides: [&Side; 2], routes: [usize; 2]) -> Vec<ChangedPlace> {
    let place = |index: usize| Place::root().key("routes").index(routes[index]);
    let [old, new] = [0, 1].map(|index| sides[index].contents.parts(&place(index), &["name", "inbound"]));
    let keys: BTreeMap<&String, ()> = old.keys().chain(new.keys()).map(|key| (key, ())).collect();
    let mut found = Vec::new();
    for (key, ()) in keys.into_iter().filter(|(key, ())| old.get(*key) != new.get(*key)) {
        let nodes = [0, 1].map(|index| sides[index].contents.node(&place(index).key(key)));
        let mut told = Vec::new();
        match nodes {
            [Some(before), Some(after)] => nodes_differ([before, after], &place(1).key(key), &mut told),
            [Some(_), None] => told.push((place(1), format!("{key} is removed"))),
            _ => told.push((place(1).key(key), format!("{key} is added"))),
        }
        if told.is_empty() {
            told.push((place(1).key(key), format!("{key}: what it names differs")));
        }
        found.extend(told.into_iter().map(|(place, what)| changed(sides[1], 1, &place, what)));
    }
    found
}

/// Compares two values, and tells where they differ.
pub(crate) fn nodes_differ([before, after]: [&Node; 2], place: &Place, told: &mut Vec<(Place, String)>) {
    if told.len() >= MOST || written(before) == written(after) {
        return;
    }
    let key = place.pointer().rsplit('/').next().unwrap_or_default().to_owned();
    match (&before.kind, &after.kind) {
        (Kind::Map(old), Kind::Map(new)) => {
            for (name, value) in new {
                match before.get(&name.text) {
                    Some(other) => nodes_differ([other, value], &place.key(&name.text), told),
                    None => told.push((place.key(&name.text), format!("{} is added: {}", name.text, short(&written(value))))),
                }
            }
            for (name, value) in old.iter().filter(|(name, _)| after.get(&name.text).is_none()) {
                told.push((place.clone(), format!("{} is removed: {}", name.text, short(&written(value)))));
            }
        }
        (Kind::List(old), Kind::List(new)) => {
            let (old, new): (Vec<String>, Vec<String>) = (old.iter().map(written).collect(), new.iter().map(written).collect());
            let plus = new.iter().filter(|value| !old.contains(value)).map(|value| format!("+ {}", short(value)));
            let minus = old.iter().filter(|value| !new.contains(value)).map(|value| format!("- {}", short(value)));
            let mut parts: Vec<String> = plus.chain(minus).take(MOST).collect();
            if parts.is_empty() {
                parts.push("the order differs".to_owned());
            }
            told.push((place.clone(), format!("{key}: {}", parts.join(", "))));
        }
        _ => {
            let (before, after) = (hidden(&key, before), hidden(&key, after));
            told.push((place.clone(), format!("{key}: {} → {}", short(&before), short(&after))));
        }
    }
}

/// Writes a value as people do, on one line; texts that name secrets name them only.
fn written(node: &Node) -> String {
    match &node.kind {
        Kind::Null | Kind::Broken => "nothing".to_owned(),
        Kind::Bool(value) => value.to_string(),
        Kind::Number(value) => value.to_string(),
        Kind::Text(text) => text.value.clone(),
        Kind::List(entries) => format!("[{}]", entries.iter().map(written).collect::<Vec<_>>().join(", ")),
        Kind::Map(entries) => {
            let entries = entries.iter().map(|(key, value)| format!("{}: {}", key.text, hidden(&key.text, value)));
            format!("{{ {} }}", entries.collect::<Vec<_>>().join(", "))
        }
    }
}

fn hidden(key: &str, value: &Node) -> String {
    if matches!(key, "client-secret" | "password" | "shared-key" | "sha256") { "***".to_owned() } else { written(value) }
}

fn short(text: &str) -> String {
    if text.chars().count() <= LONGEST {
        return text.to_owned();
    }
    let begin: String = text.chars().take(LONGEST - 1).collect();
    format!("{begin}…")
}

/// Returns the name of the policy at a place.
pub(crate) fn policy_name(side: &Side, place: &Place) -> Option<&'static str> {
    policy_at(&side.document.config, place).map(crate::inbound::PolicyConfig::name)
}
