//! The changes of a reload, by name: found by a hash of each item's settings, so that no value is kept.

use std::{
    collections::BTreeMap,
    hash::{DefaultHasher, Hash as _, Hasher as _},
};

use crate::settings::node::{Kind, Node};

/// The hashes of a config's settings, by section and name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Fingerprint(BTreeMap<(String, String), Print>);

/// One thing of the config.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Print {
    hash: u64,
    /// Whether it says `enabled: false`.
    disabled: bool,
}

impl Fingerprint {
    pub(crate) fn of(document: &Node) -> Self {
        let mut prints = BTreeMap::new();
        for (section, value) in document.as_map().into_iter().flatten() {
            let mut add = |name: &str, node: &Node| {
                let disabled = node.get("enabled").is_some_and(|enabled| matches!(enabled.kind, Kind::Bool(false)));
                prints.insert((section.text.clone(), name.to_owned()), Print { hash: hash(node), disabled });
            };
            let named = |entries: &[Node]| entries.iter().all(|entry| entry.get("name").is_some());
            match &value.kind {
                Kind::List(entries) if matches!(&*section.text, "routes" | "listeners") && named(entries) => {
                    entries.iter().for_each(|entry| add(entry.get("name").and_then(Node::as_text).unwrap_or_default(), entry));
                }
                Kind::Map(entries) if NAMED.contains(&&*section.text) => {
                    entries.iter().for_each(|(key, node)| add(&key.text, node))
                }
                _ => add("", value),
            }
        }
        Self(prints)
    }

    /// Returns what is otherwise than before, in words; nothing if all settings are the same.
    pub fn changes_since(&self, before: &Self) -> Vec<String> {
        let mut by_section: BTreeMap<&str, Vec<String>> = BTreeMap::new();
        let keys = before.0.keys().chain(self.0.keys().filter(|key| !before.0.contains_key(key)));
        for key @ (section, name) in keys {
            let what = match (before.0.get(key), self.0.get(key)) {
                (Some(old), Some(new)) if old == new => continue,
                (None, _) => "added",
                (_, None) => "removed",
                (Some(old), Some(new)) if !old.disabled && new.disabled => "switched off",
                (Some(old), Some(new)) if old.disabled && !new.disabled => "switched on",
                (Some(_), Some(_)) => "changed",
            };
            let change = if name.is_empty() { what.to_owned() } else { format!("`{name}` {what}") };
            by_section.entry(section).or_default().push(change);
        }
        by_section.into_iter().map(|(section, changes)| told(section, &changes)).collect()
    }
}

/// Sections whose entries have names of their own.
const NAMED: [&str; 8] =
    ["named-values", "tenants", "issuers", "address-sets", "credentials", "partners", "upstreams", "fragments"];

/// The most changes that are told of one section.
const MOST: usize = 20;

fn told(section: &str, changes: &[String]) -> String {
    let more = changes.len().saturating_sub(MOST);
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    format!("{section}: {}{more}", changes[..changes.len().min(MOST)].join(", "))
}

fn hash(node: &Node) -> u64 {
    let mut hasher = DefaultHasher::new();
    add(node, &mut hasher);
    hasher.finish()
}

fn add(node: &Node, hasher: &mut DefaultHasher) {
    std::mem::discriminant(&node.kind).hash(hasher);
    match &node.kind {
        Kind::Null | Kind::Broken => {}
        Kind::Bool(value) => value.hash(hasher),
        Kind::Number(value) => value.to_string().hash(hasher),
        Kind::Text(text) => text.value.hash(hasher),
        Kind::List(entries) => {
            entries.len().hash(hasher);
            entries.iter().for_each(|entry| add(entry, hasher));
        }
        Kind::Map(entries) => {
            // The order of keys says nothing.
            let mut sorted: Vec<_> = entries.iter().collect();
            sorted.sort_by(|(a, _), (b, _)| a.text.cmp(&b.text));
            sorted.len().hash(hasher);
            for (key, value) in sorted {
                key.text.hash(hasher);
                add(value, hasher);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::yaml;

    fn print(text: &str) -> Fingerprint {
        Fingerprint::of(&yaml::read(text, 0, &mut Vec::new(), &mut Vec::new()))
    }

    #[test]
    fn changes_are_told_by_name() {
        let before = print(
            "routes: [ { name: a, upstream: u }, { name: b, upstream: u } ]\n\
             partners: { fabrikam: { addresses: [192.0.2.1] }, litware: { enabled: false } }\ndrain-timeout: 5s",
        );
        for (text, expected) in [
            (
                "routes: [ { upstream: u, name: a }, { name: c, upstream: u } ]\n\
                 partners: { fabrikam: { addresses: [192.0.2.1], enabled: false }, litware: {} }\ndrain-timeout: 6s",
                &[
                    "drain-timeout: changed",
                    "partners: `fabrikam` switched off, `litware` switched on",
                    "routes: `b` removed, `c` added",
                ][..],
            ),
            (
                "drain-timeout: 5s\nroutes: [ { name: b, upstream: u }, { name: a, upstream: v } ]\n\
                 partners: { fabrikam: { addresses: [192.0.2.1] }, litware: { enabled: false } }",
                &["routes: `a` changed"],
            ),
        ] {
            assert_eq!(print(text).changes_since(&before), expected);
        }
        assert!(before.changes_since(&before).is_empty());
    }
}
