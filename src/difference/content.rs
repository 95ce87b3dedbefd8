//! The content of settings, as a text in which every name stands for what it names: settings with the same text mean the same.

use std::{
    cell::RefCell,
    collections::{BTreeMap, HashMap},
    fmt::Write as _,
    path::PathBuf,
};

use aws_lc_rs::digest::{SHA256, digest};

use crate::{
    config::Document,
    settings::{
        Place,
        node::{Kind, Node},
    },
};

/// The sections whose entries others name.
const NAMED: [&str; 7] = ["address-sets", "tenants", "issuers", "partners", "upstreams", "credentials", "fragments"];
/// Policies that look at all partners.
const OF_PARTNERS: [&str; 3] = ["check-partner", "validate-api-key", "token-relay"];
/// The settings that name files whose content counts.
const FILES: [&str; 4] = ["file", "service-tags", "ca", "crl"];
/// The largest file whose content is compared, in bytes.
const MAX_FILE: u64 = 64 << 20;

/// The settings of a config, by their content.
#[derive(Debug)]
pub(crate) struct Contents {
    nodes: Node,
    base: PathBuf,
    /// The sections that have an entry of this name.
    named: HashMap<String, Vec<&'static str>>,
    /// The texts by place, and the digests of entries of sections.
    texts: RefCell<HashMap<String, String>>,
}

impl Contents {
    pub(crate) fn of(document: &Document, nodes: Node) -> Self {
        let mut named: HashMap<String, Vec<&'static str>> = HashMap::new();
        for section in NAMED {
            for (name, _) in nodes.get(section).and_then(Node::as_map).into_iter().flatten() {
                named.entry(name.text.clone()).or_default().push(section);
            }
        }
        Self { nodes, base: document.base.clone(), named, texts: RefCell::default() }
    }

    /// Returns the settings.
    pub(crate) const fn nodes(&self) -> &Node {
        &self.nodes
    }

    /// Returns the node at a place.
    pub(crate) fn node(&self, place: &Place) -> Option<&Node> {
        let mut node = &self.nodes;
        for part in place.pointer().split('/').skip(1) {
            let part = part.replace("~1", "/").replace("~0", "~");
            node = match &node.kind {
                Kind::List(entries) => entries.get(part.parse::<usize>().ok()?)?,
                _ => node.get(&part)?,
            };
        }
        Some(node)
    }

    /// Returns the content at a place.
    pub(crate) fn text(&self, place: &Place) -> String {
        let pointer = place.pointer();
        if let Some(text) = self.texts.borrow().get(pointer) {
            return text.clone();
        }
        let mut text = String::new();
        if let Some(node) = self.node(place) {
            self.write(node, &[], &mut text);
        }
        self.texts.borrow_mut().insert(pointer.to_owned(), text.clone());
        text
    }

    /// Returns the digest of the content at a place, without these keys.
    pub(crate) fn digest_without(&self, place: &Place, without: &[&str]) -> String {
        let mut text = String::new();
        if let Some(node) = self.node(place) {
            self.write(node, without, &mut text);
        }
        short(&text)
    }

    /// Returns the digest of each setting at a place, without these.
    pub(crate) fn parts(&self, place: &Place, without: &[&str]) -> BTreeMap<String, String> {
        let entries = self.node(place).and_then(Node::as_map).into_iter().flatten();
        let kept = entries.filter(|(key, _)| !without.contains(&key.text.as_str()));
        kept.map(|(key, _)| (key.text.clone(), short(&self.text(&place.key(&key.text))))).collect()
    }

    /// Returns the digest of an entry of a section.
    pub(crate) fn digest_of(&self, section: &str, name: &str) -> String {
        let key = format!("#{section}/{name}");
        if let Some(known) = self.texts.borrow().get(&key) {
            return known.clone();
        }
        // What holds itself ends here.
        self.texts.borrow_mut().insert(key.clone(), "itself".to_owned());
        let text = self.text(&Place::root().key(section).key(name));
        let digest = short(&text);
        self.texts.borrow_mut().insert(key, digest.clone());
        digest
    }

    fn write(&self, node: &Node, without: &[&str], text: &mut String) {
        match &node.kind {
            Kind::Null | Kind::Broken => text.push_str("null"),
            // Writing to a string cannot fail.
            Kind::Bool(value) => drop(write!(text, "{value}")),
            Kind::Number(value) => drop(write!(text, "{value}")),
            Kind::Text(value) => {
                let _ = write!(text, "{:?}", value.value);
                for section in self.named.get(&value.value).into_iter().flatten() {
                    let _ = write!(text, "={}", self.digest_of(section, &value.value));
                }
                if value.names_secret {
                    self.named_values(&value.value, text);
                }
            }
            Kind::List(entries) => {
                text.push('[');
                for entry in entries {
                    self.write(entry, &[], text);
                    text.push(',');
                }
                text.push(']');
            }
            Kind::Map(entries) => {
                // The order of keys says nothing.
                let mut sorted: Vec<_> = entries.iter().filter(|(key, _)| !without.contains(&key.text.as_str())).collect();
                sorted.sort_by(|(a, _), (b, _)| a.text.cmp(&b.text));
                text.push('{');
                for (key, value) in sorted {
                    let _ = write!(text, "{}:", key.text);
                    self.write(value, &[], text);
                    self.beyond(&key.text, value, text);
                    text.push(',');
                }
                text.push('}');
            }
        }
    }

    /// Writes what a setting means beyond its own text.
    fn beyond(&self, key: &str, value: &Node, text: &mut String) {
        if OF_PARTNERS.contains(&key) {
            let partners = self.nodes.get("partners").and_then(Node::as_map).into_iter().flatten();
            for (name, _) in partners {
                let _ = write!(text, "{}={}", name.text, self.digest_of("partners", &name.text));
            }
        }
        if FILES.contains(&key)
            && let Some(name) = value.as_text()
        {
            let path = self.base.join(name);
            let small = std::fs::metadata(&path).is_ok_and(|file| file.len() <= MAX_FILE);
            match small.then(|| std::fs::read(&path)) {
                Some(Ok(bytes)) => drop(write!(text, "={}", hexadecimal(&bytes))),
                _ => text.push_str("=unread"),
            }
        }
    }

    /// Writes the sources of the secrets that a text names.
    fn named_values(&self, value: &str, text: &mut String) {
        let names = value.split("{{").skip(1).filter_map(|rest| rest.split_once("}}")).map(|(name, _)| name.trim());
        for name in names {
            let node = self.nodes.get("named-values").and_then(|values| values.get(name));
            if let Some(node) = node {
                self.write(node, &["value"], text);
            }
        }
    }
}

fn short(text: &str) -> String {
    hexadecimal(text.as_bytes())
}

fn hexadecimal(bytes: &[u8]) -> String {
    digest(&SHA256, bytes).as_ref()[..16].iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}
