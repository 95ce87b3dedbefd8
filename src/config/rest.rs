//! What can be read of a config beside its faults, so that all that is wrong with it is told in one go.
//!
//! What the reader found wrong is taken out, and what is left is built like a whole config. Of what that tells only those faults
//! count that cannot come from what was taken out.

use super::{
    document::Document,
    fault::{Fault, Place, Severity},
    node::{Kind, Node},
    report::Finding,
};

/// Names that may be missing because what defines them was taken out.
const SECTIONS: [&str; 8] =
    ["named-values", "tenants", "issuers", "address-sets", "credentials", "partners", "upstreams", "fragments"];

/// A config without what was wrong with it.
#[derive(Debug)]
pub(crate) struct Rest {
    pub(crate) document: Document,
    /// What was taken out.
    pub(crate) without: Vec<Place>,
}

/// Takes out of the document what the errors are about. `None` where the fault is the document itself.
pub(crate) fn without_errors(document: &Node, findings: &[Finding]) -> Option<(Node, Vec<Place>)> {
    let mut without: Vec<Place> =
        findings.iter().filter(|finding| finding.severity == Severity::Error).map(|finding| finding.place.clone()).collect();
    if without.iter().any(|place| *place == Place::root()) {
        return None;
    }
    let mut rest = document.clone();
    take_out(&mut rest, &Place::root(), &mut without);
    Some((rest, without))
}

/// Takes out what stands at one of the places, and what was reported already.
fn take_out(node: &mut Node, place: &Place, without: &mut Vec<Place>) {
    let mut stays = |node: &mut Node, place: Place| {
        if matches!(node.kind, Kind::Broken) {
            without.push(place);
            return false;
        }
        if without.contains(&place) {
            return false;
        }
        take_out(node, &place, without);
        true
    };
    match &mut node.kind {
        Kind::Map(entries) => entries.retain_mut(|(key, value)| stays(value, place.key(&key.text))),
        Kind::List(entries) => {
            for (index, entry) in entries.iter_mut().enumerate() {
                if !stays(entry, place.index(index)) {
                    entry.kind = Kind::Broken;
                }
            }
            // Those in between have to stay, or the places of all behind them would be others.
            while entries.last().is_some_and(|entry| matches!(entry.kind, Kind::Broken)) {
                entries.pop();
            }
        }
        Kind::Null | Kind::Bool(_) | Kind::Number(_) | Kind::Text(_) | Kind::Broken => {}
    }
}

impl Rest {
    /// Whether a fault that the build found is one of the config, and not of what was taken out.
    pub(crate) fn is_the_configs(&self, fault: &Fault) -> bool {
        fault.severity == Severity::Error && self.without.iter().all(|place| !comes_from(fault, place))
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
