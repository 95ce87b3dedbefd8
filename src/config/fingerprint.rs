//! The digest of a config, and the changes of a reload by name: found by a hash of each item's settings, so that no value is kept.

use std::{
    collections::BTreeMap,
    hash::{DefaultHasher, Hasher},
    sync::Arc,
};

use aws_lc_rs::digest::{Context, SHA256};

use crate::settings::node::{Kind, Node};

/// The number of hexadecimal digits of a digest: enough to tell configs apart, and short enough for every record.
const DIGITS: usize = 16;

/// The hashes of a config's settings, by section and name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Fingerprint {
    prints: BTreeMap<(String, String), Print>,
    digest: String,
    parts: Arc<BTreeMap<String, String>>,
}

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
        let mut parts = BTreeMap::new();
        for (section, value) in document.as_map().into_iter().flatten() {
            let mut add = |name: &str, node: &Node| {
                let disabled = node.get("enabled").is_some_and(|enabled| matches!(enabled.kind, Kind::Bool(false)));
                prints.insert((section.text.clone(), name.to_owned()), Print { hash: hash(node), disabled });
                let part = if name.is_empty() { section.text.clone() } else { format!("{}.{name}", section.text) };
                parts.insert(part, digest(node));
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
        Self { prints, digest: digest(document), parts: Arc::new(parts) }
    }

    /// Returns the digest of each part of the config, as `routes.orders`, without those values that are secrets.
    pub fn parts(&self) -> &Arc<BTreeMap<String, String>> {
        &self.parts
    }

    /// Returns the digest of the whole config, which is the same wherever the settings are: in hexadecimal, without those values that
    /// are secrets. Order, comments and the division into files change nothing.
    pub fn digest(&self) -> &str {
        &self.digest
    }

    /// Returns what is otherwise than before, in words; nothing if all settings are the same.
    pub fn changes_since(&self, before: &Self) -> Vec<String> {
        let mut by_section: BTreeMap<&str, Vec<String>> = BTreeMap::new();
        let (old, new) = (&before.prints, &self.prints);
        let keys = old.keys().chain(new.keys().filter(|key| !old.contains_key(key)));
        for key @ (section, name) in keys {
            let what = match (old.get(key), new.get(key)) {
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
    add(node, &|_| false, &mut hasher);
    hasher.finish()
}

/// A SHA-256 as a hasher, of which the first bytes are the result.
struct Sha256(Context);

impl Hasher for Sha256 {
    fn write(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    fn finish(&self) -> u64 {
        self.0.clone().finish().as_ref().first_chunk().map_or(0, |bytes| u64::from_be_bytes(*bytes))
    }
}

fn digest(document: &Node) -> String {
    // A digest is shown, and a short secret could be guessed from it.
    let is_secret = |key: &str| matches!(key, "client-secret" | "password" | "shared-key");
    let mut hasher = Sha256(Context::new(&SHA256));
    add(document, &is_secret, &mut hasher);
    format!("{:0DIGITS$x}", hasher.finish())
}

/// Adds the settings to a hash: each with its kind, and with its length where it has one. Values under the keys that `without` names
/// are left out, and so are the values of secret named values.
fn add(node: &Node, without: &dyn Fn(&str) -> bool, hasher: &mut dyn Hasher) {
    let text = |text: &str, hasher: &mut dyn Hasher| {
        hasher.write(&(text.len() as u64).to_be_bytes());
        hasher.write(text.as_bytes());
    };
    match &node.kind {
        Kind::Null | Kind::Broken => hasher.write(b"0"),
        Kind::Bool(value) => hasher.write(if *value { b"t" } else { b"f" }),
        Kind::Number(value) => {
            hasher.write(b"n");
            text(&value.to_string(), hasher);
        }
        Kind::Text(value) => {
            hasher.write(b"s");
            text(&value.value, hasher);
        }
        Kind::List(entries) => {
            hasher.write(b"l");
            hasher.write(&(entries.len() as u64).to_be_bytes());
            entries.iter().for_each(|entry| add(entry, without, hasher));
        }
        Kind::Map(entries) => {
            let holds_secret = node.get("secret").is_some_and(|secret| matches!(secret.kind, Kind::Bool(true)));
            // The order of keys says nothing.
            let mut sorted: Vec<_> = entries.iter().collect();
            sorted.sort_by(|(a, _), (b, _)| a.text.cmp(&b.text));
            hasher.write(b"m");
            hasher.write(&(sorted.len() as u64).to_be_bytes());
            for (key, value) in sorted {
                text(&key.text, hasher);
                if !(without(&key.text) || without("password") && holds_secret && matches!(&*key.text, "value" | "default")) {
                    add(value, without, hasher);
                }
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

    #[test]
    fn a_digest_is_that_of_the_settings_without_their_secrets() {
        let text = "tenants: { c: { id: a } }\ncredentials: { g: { client-secret: one } }\nnamed-values: { n: { value: one, secret: true }, p: one }";
        let digest = |text: &str| print(text).digest().to_owned();

        let first = digest(text);
        assert!(first.len() == DIGITS && first.bytes().all(|byte| byte.is_ascii_hexdigit()), "{first}");
        for (row, other, same) in [
            (
                "another order, with a comment",
                "# c\nnamed-values: { p: one, n: { secret: true, value: one } }\ntenants: { c: { id: a } }\ncredentials: { g: { client-secret: one } }",
                true,
            ),
            ("another secret", &*text.replace("client-secret: one", "client-secret: two"), true),
            ("another secret named value", &*text.replace("value: one", "value: two"), true),
            ("another plain value", &*text.replace("p: one", "p: two"), false),
            ("another id", &*text.replace("id: a", "id: b"), false),
            ("another key", &*text.replace("id: a", "ia: d"), false),
        ] {
            assert_eq!(digest(other) == first, same, "{row}");
        }
        // A secret's change is a change nevertheless.
        let other = print(&text.replace("client-secret: one", "client-secret: two"));
        assert_eq!(other.changes_since(&print(text)), ["credentials: `g` changed"]);
    }
}
