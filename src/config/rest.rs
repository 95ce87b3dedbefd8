//! The readable rest of a faulty config, so that all of its faults are reported together.
//!
//! Faulty settings are removed, and the rest is built like a whole config. Of its faults only those are reported that cannot be
//! consequences of the removal.

use std::collections::HashSet;

use serde::de::DeserializeOwned;

use super::document::Document;
use crate::settings::Finding;
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
pub(crate) struct Rest {
    pub(crate) document: Document,
    /// The config as written, without the removed parts.
    pub(crate) nodes: Node,
    /// The removed parts.
    pub(crate) without: Vec<Place>,
}

/// Returns the readable rest: settings, their nodes, and the removed places. `None` if the document itself is faulty.
pub(crate) fn readable<T: DeserializeOwned>(document: &Node, findings: &[Finding]) -> Option<(T, Node, Vec<Place>)> {
    let errors = findings.iter().filter(|finding| finding.severity == Severity::Error);
    let wrong: HashSet<Place> = errors.map(|finding| finding.place.clone()).collect();
    if wrong.contains(&Place::root()) {
        return None;
    }
    let mut nodes = document.clone();
    let mut without = Vec::new();
    take_out(&mut nodes, &Place::root(), &wrong, &mut without);
    without.extend(wrong);
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

impl Rest {
    /// Returns a fault of the build at its place as written, unless the removal caused it.
    pub(crate) fn as_written(&self, fault: &Fault) -> Option<Fault> {
        let fault = Fault { place: self.written(fault.place.pointer()), ..fault.clone() };
        let counts = fault.severity == Severity::Error && self.without.iter().all(|place| !comes_from(&fault, place));
        counts.then_some(fault)
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
    if within(at, out) || within(around, at) || at.strip_prefix(around) == Some("/name") || misses_a_policy(at, out) {
        return true;
    }
    // Something that names what is gone.
    let mut parts = out.split('/').skip(1);
    let (section, name) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
    SECTIONS.contains(&section) && !name.is_empty() && fault.message.contains(&format!("`{name}`"))
}

/// Returns whether the setting at `at` may be faulty only because a policy at `out` was removed, which may have validated a token
/// or named one: this affects the whole route, and every route for shared lists.
fn misses_a_policy(at: &str, out: &str) -> bool {
    let is_entry = out.rsplit('/').next().is_some_and(|step| !step.is_empty() && step.bytes().all(|byte| byte.is_ascii_digit()));
    let steps: Vec<&str> = out.split('/').skip(1).collect();
    match steps.as_slice() {
        ["routes", route, "inbound" | "outbound", ..] if is_entry => at
            .strip_prefix("/routes/")
            .and_then(|rest| rest.strip_prefix(route))
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('/')),
        ["inbound" | "outbound" | "fragments", ..] if is_entry => {
            ["/routes", "/inbound", "/outbound", "/fragments"].iter().any(|section| at.starts_with(section))
        }
        _ => false,
    }
}
