//! The readable rest of a faulty config, so that all of its faults are reported together.
//!
//! Faulty settings are removed, and the rest is built like a whole config. Of its faults only those are reported that cannot be
//! consequences of the removal.

use std::collections::HashSet;

use serde::de::DeserializeOwned;

use super::{
    document::Document,
    repair::{Repair, repair},
};
use crate::settings::{
    deserialize::settings,
    fault::{Fault, Place, Severity},
    node::{Kind, Node},
};

/// Sections with names that may be missing because their definition was removed.
const SECTIONS: [&str; 8] =
    ["named-values", "tenants", "issuers", "address-sets", "credentials", "partners", "upstreams", "fragments"];

/// The maximum number of settings that are removed because they lack a removed part. Beyond it, the first errors suffice.
const MOST_MISFITS: usize = 64;

/// A config without its faulty parts.
pub(crate) struct PartialConfig {
    pub(crate) document: Document,
    /// The config as written, without the removed parts.
    pub(crate) nodes: Node,
    /// The removed parts.
    pub(crate) without: Vec<Place>,
}

/// The readable rest beside the errors: settings, the nodes that they were made of, and what was taken out or made up. `None` where
/// the fault is the document itself.
pub(crate) fn readable<T: DeserializeOwned>(
    document: &Node,
    repairs: Vec<Repair>,
    gone: &HashSet<Place>,
) -> Option<(T, Node, Vec<Place>)> {
    if gone.contains(&Place::root()) {
        return None;
    }
    let mut nodes = document.clone();
    let mut without = Vec::new();
    repair(&mut nodes, repairs, &mut without);
    take_out(&mut nodes, &Place::root(), gone, &mut without);
    without.extend(gone.iter().cloned());
    for _ in 0..MOST_MISFITS {
        match settings(&nodes) {
            Ok(config) => return Some((config, nodes, without)),
            // What lacks a part that is gone cannot be read either, and goes, too.
            Err(misfit) => {
                let place = misfit.place();
                remove(&mut nodes, place.pointer())?;
                without.push(place);
            }
        }
    }
    None
}

/// Removes the values at these places, and those that were reported already.
fn take_out(node: &mut Node, place: &Place, wrong: &HashSet<Place>, broken: &mut Vec<Place>) {
    let mut stays = |node: &mut Node, place: Place| {
        if matches!(node.kind, Kind::Broken) {
            broken.push(place);
            return false;
        }
        if wrong.contains(&place) {
            return false;
        }
        take_out(node, &place, wrong, broken);
        true
    };
    match &mut node.kind {
        Kind::Map(entries) => entries.retain_mut(|(key, value)| stays(value, place.key(&key.text))),
        Kind::List(entries) => {
            for (index, entry) in entries.iter_mut().enumerate() {
                if !stays(entry, place.index(index)) {
                    // It keeps its place, so that those behind it keep theirs; nobody reads it.
                    entry.kind = Kind::Broken;
                }
            }
        }
        Kind::Null | Kind::Bool(_) | Kind::Number(_) | Kind::Text(_) | Kind::Broken => {}
    }
}

/// Removes the value at a pointer. `None` if there is none.
fn remove(node: &mut Node, pointer: &str) -> Option<()> {
    let (step, rest) = split(pointer)?;
    match &mut node.kind {
        Kind::Map(entries) => {
            let at = entries.iter().position(|(key, _)| escaped(&key.text) == step)?;
            if rest.is_empty() {
                entries.remove(at);
                return Some(());
            }
            remove(&mut entries[at].1, rest)
        }
        Kind::List(entries) => {
            let entry = entries.get_mut(step.parse::<usize>().ok()?)?;
            if rest.is_empty() {
                let gone = !matches!(entry.kind, Kind::Broken);
                entry.kind = Kind::Broken;
                return gone.then_some(());
            }
            remove(entry, rest)
        }
        Kind::Null | Kind::Bool(_) | Kind::Number(_) | Kind::Text(_) | Kind::Broken => None,
    }
}

/// Splits off the first step of a pointer.
fn split(pointer: &str) -> Option<(&str, &str)> {
    let pointer = pointer.strip_prefix('/')?;
    Some(pointer.find('/').map_or((pointer, ""), |end| pointer.split_at(end)))
}

fn escaped(key: &str) -> String {
    key.replace('~', "~0").replace('/', "~1")
}

impl PartialConfig {
    /// Returns a fault of the build at its place as written, unless the removal caused it.
    pub(crate) fn as_written(&self, fault: &Fault) -> Option<Fault> {
        let fault = Fault { place: self.written(fault.place.pointer()), ..fault.clone() };
        let own = fault.severity == Severity::Error && self.without.iter().all(|place| !comes_from(&fault, place));
        let misses_it = fault.misses_another && self.without.iter().any(|place| may_be_missed(&fault, place));
        (own && !misses_it).then_some(fault)
    }

    /// Returns the written place: list entries after a removed one have moved up.
    fn written(&self, mut pointer: &str) -> Place {
        let (mut node, mut place) = (Some(&self.nodes), String::new());
        while let Some((step, rest)) = split(pointer) {
            place.push('/');
            let (step, below) = match node.map(|node| &node.kind) {
                Some(Kind::List(entries)) => {
                    let index = step.parse::<usize>().ok();
                    let mut left = entries.iter().enumerate().filter(|(_, entry)| !matches!(entry.kind, Kind::Broken));
                    match index.and_then(|index| left.nth(index)) {
                        Some((index, entry)) => (index.to_string(), Some(entry)),
                        None => (step.to_owned(), None),
                    }
                }
                Some(Kind::Map(entries)) => {
                    (step.to_owned(), entries.iter().find(|(key, _)| escaped(&key.text) == step).map(|(_, value)| value))
                }
                _ => (step.to_owned(), None),
            };
            place.push_str(&step);
            (node, pointer) = (below, rest);
        }
        Place::from(place)
    }
}

fn comes_from(fault: &Fault, taken_out: &Place) -> bool {
    let (at, out) = (fault.place.pointer(), taken_out.pointer());
    let within = |inner: &str, outer: &str| inner == outer || inner.strip_prefix(outer).is_some_and(|rest| rest.starts_with('/'));
    let around = &out[..out.rfind('/').unwrap_or_default()];
    // About the thing itself or a part of it; about the map or list that it was taken out of, which may be told at its name; or about
    // what is around that.
    if within(at, out) || within(around, at) || at.strip_prefix(around) == Some("/name") {
        return true;
    }
    // Something that names what is gone.
    let mut parts = out.split('/').skip(1);
    let (section, name) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
    SECTIONS.contains(&section) && !name.is_empty() && fault.message.contains(&format!("`{name}`"))
}

/// Whether the fault may be there only because what was taken out, or stands on that, is missed: a policy of the route or of the lists
/// that many routes have, a listener, or what these name.
fn may_be_missed(fault: &Fault, out: &Place) -> bool {
    const LISTS: [&str; 3] = ["inbound", "outbound", "fragments"];
    const NAMED: [&str; 4] = ["listeners", "tenants", "issuers", "partners"];
    let step = |place: &Place, at: usize| place.pointer().split('/').nth(at).unwrap_or_default().to_owned();
    // Whether a route authenticates is told by its lists as they are written, whatever they name.
    let by_lists_alone = fault.place.pointer().ends_with("/name");
    LISTS.contains(&&*step(out, 1))
        || !by_lists_alone && NAMED.contains(&&*step(out, 1))
        || step(out, 1) == "routes" && step(out, 2) == step(&fault.place, 2)
}
