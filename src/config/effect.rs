//! Entries without an effect, found by comparing what is written: policies that stand twice, branches and alternatives that never run.

use crate::settings::{
    Lint,
    fault::{Faults, Place},
    node::{Kind, Node},
};

/// Policies that judge a request alone: the same one a second time decides nothing.
const JUDGES: [&str; 4] = ["check-header", "authorize", "validate-client-certificate", "check-partner"];

/// Policies that count for themselves, so that two that are written alike do not decide alike.
const COUNTERS: [&str; 3] = ["rate-limit-by-key", "quota-by-key", "limit-concurrency"];

/// Warns of entries of policy lists that have no effect.
pub(super) fn lint(document: &Node, faults: &mut Faults) {
    let root = Place::root();
    if let Some(list) = document.get("inbound") {
        lint_list(list, &root.key("inbound"), faults);
    }
    for (name, list) in document.get("fragments").and_then(Node::as_map).into_iter().flatten() {
        lint_list(list, &root.key("fragments").key(&name.text), faults);
    }
    for (index, route) in document.get("routes").map(entries).unwrap_or_default().iter().enumerate() {
        if let Some(list) = route.get("inbound") {
            lint_list(list, &root.key("routes").index(index).key("inbound"), faults);
        }
    }
}

fn entries(list: &Node) -> &[Node] {
    if let Kind::List(entries) = &list.kind { entries } else { &[] }
}

/// Returns name and settings of an entry.
fn policy(entry: &Node) -> Option<(&str, &Node)> {
    entry.as_map()?.first().map(|(key, value)| (key.text.as_str(), value))
}

fn lint_list(list: &Node, place: &Place, faults: &mut Faults) {
    let list = entries(list);
    for (index, entry) in list.iter().enumerate() {
        let Some((name, settings)) = policy(entry) else { continue };
        let place = place.index(index).key(name);
        if JUDGES.contains(&name) && list[..index].iter().any(|before| same(before, entry)) {
            let message = "the same check stands before it, so this one never refuses";
            faults.warning(Lint::PolicyShadowed, &place, message, "remove it");
        }
        match name {
            "any-of" => lint_alternatives(settings, &place, faults),
            "report-only" => lint_list(settings, &place, faults),
            "choose" => lint_branches(settings, &place, faults),
            _ => {}
        }
    }
}

/// Warns of alternatives that admit nothing that one before them does not admit.
fn lint_alternatives(lists: &Node, place: &Place, faults: &mut Faults) {
    let lists = entries(lists);
    for (index, list) in lists.iter().enumerate() {
        let place = place.index(index);
        let counts = |list: &Node| entries(list).iter().filter_map(policy).any(|(name, _)| COUNTERS.contains(&name));
        let begins = |before: &&Node| {
            let (before, own) = (entries(before), entries(list));
            !before.is_empty() && before.len() <= own.len() && before.iter().zip(own).all(|(before, own)| same(before, own))
        };
        if let Some(before) = lists[..index].iter().position(|before| !counts(before) && begins(&before)) {
            let message = format!("this list never decides: it admits only what list {before} has admitted before it");
            faults.warning(Lint::AnyOfNeverWins, &place, message, "put the stricter list first, or remove it");
        }
        lint_list(list, &place, faults);
    }
}

/// Warns of branches behind one that is taken always, or for the same condition.
fn lint_branches(branches: &Node, place: &Place, faults: &mut Faults) {
    let mut before: Vec<String> = Vec::new();
    for (index, branch) in entries(branches).iter().enumerate() {
        let place = place.index(index);
        let condition = branch.get("when").and_then(Node::as_text).map(condition);
        let reason = match &condition {
            _ if before.iter().any(|before| before == "true") => Some("a branch before it is always taken"),
            Some(condition) if condition == "false" => Some("its condition is never true"),
            Some(condition) if before.contains(condition) => Some("a branch before it has the same condition"),
            _ => None,
        };
        if let Some(reason) = reason {
            let message = format!("this branch never runs: {reason}");
            faults.warning(Lint::BranchUnreachable, &place, message, "remove it, or mend the conditions");
        }
        before.extend(condition);
        for key in ["do", "otherwise"] {
            if let Some(list) = branch.get(key) {
                lint_list(list, &place.key(key), faults);
            }
        }
    }
}

/// Returns a condition without its frame and blanks at its ends.
fn condition(text: &str) -> String {
    let inner = text.trim().strip_prefix("@(").and_then(|inner| inner.strip_suffix(')')).unwrap_or(text);
    inner.trim().to_owned()
}

/// Returns whether two values are written alike; the order of keys does not matter.
fn same(a: &Node, b: &Node) -> bool {
    match (&a.kind, &b.kind) {
        (Kind::Null, Kind::Null) => true,
        (Kind::Bool(a), Kind::Bool(b)) => a == b,
        (Kind::Number(a), Kind::Number(b)) => a == b,
        (Kind::Text(a), Kind::Text(b)) => a.value == b.value && a.names_secret == b.names_secret,
        (Kind::List(a), Kind::List(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same(a, b)),
        (Kind::Map(a), Kind::Map(own)) => {
            a.len() == own.len() && a.iter().all(|(key, value)| b.get(&key.text).is_some_and(|other| same(value, other)))
        }
        _ => false,
    }
}
