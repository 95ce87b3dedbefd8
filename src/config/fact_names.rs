//! The names of header fields and query parameters that a config reads, for records that are to be replayed.

use std::{collections::BTreeSet, sync::LazyLock};

use regex::Regex;

use crate::inbound::credential_names::{USUAL, USUAL_PARAMETERS};
use crate::settings::node::{Kind, Node, Text};

/// The names that expressions and `check-header` read; header names are in lower case.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FactNames {
    /// The header fields whose values are recorded.
    pub headers: BTreeSet<String>,
    /// The header fields of which only the presence is recorded, since they are compared with secrets.
    pub secret_headers: BTreeSet<String>,
    /// The query parameters.
    pub parameters: BTreeSet<String>,
    /// The query parameters that credentials are taken from, in lower case.
    secret_parameters: BTreeSet<String>,
    /// The places of tokens and keys: `header x-token`, `query token`.
    pub places: BTreeSet<String>,
}

impl FactNames {
    pub(crate) fn of(document: &Node) -> Self {
        let mut names = Self::default();
        names.places.extend(USUAL_PLACES.map(str::to_owned));
        names.visit(document);
        // What usually holds a credential is never recorded, whatever reads it.
        names.parameters.retain(|name| {
            let name = name.to_ascii_lowercase();
            !names.secret_parameters.contains(&name) && !USUAL_PARAMETERS.contains(&&*name)
        });
        names.headers.retain(|name| !USUAL.contains(&&**name) && name != "set-cookie" && !names.secret_headers.contains(name));
        names
    }

    fn visit(&mut self, node: &Node) {
        match &node.kind {
            Kind::Text(text) => self.read_by(text),
            Kind::List(entries) => entries.iter().for_each(|entry| self.visit(entry)),
            Kind::Map(entries) => {
                for (key, value) in entries {
                    match &*key.text {
                        "check-header" => self.checked(value),
                        // A header or a parameter that a token or a key is taken from is a credential.
                        "header-name" => {
                            self.secret_headers.extend(texts(value).map(str::to_ascii_lowercase));
                            self.places.extend(texts(value).map(|name| format!("header {}", name.to_ascii_lowercase())));
                        }
                        "query-parameter-name" => {
                            self.secret_parameters.extend(texts(value).map(str::to_ascii_lowercase));
                            self.places.extend(texts(value).map(|name| format!("query {name}")));
                        }
                        "cors" => self.headers.extend(OF_PREFLIGHTS.map(str::to_owned)),
                        // A field that proves a proxy, or hands a certificate on.
                        "require-header" => self.secret_headers.extend(keys(value).map(str::to_ascii_lowercase)),
                        "from" => {
                            let header = value.get("header").and_then(Node::as_text);
                            self.secret_headers.extend(header.map(str::to_ascii_lowercase));
                        }
                        _ => {}
                    }
                    self.visit(value);
                }
            }
            Kind::Null | Kind::Bool(_) | Kind::Number(_) | Kind::Broken => {}
        }
    }

    /// Adds the names that an expression reads.
    fn read_by(&mut self, text: &Text) {
        static READ: LazyLock<Regex> = LazyLock::new(|| {
            Regex::new(r#"request\s*\.\s*(headers|query)\s*(?:\[\s*["']([^"']+)["']\s*\]|\.\s*(\w+))"#).expect("a valid pattern")
        });
        if !text.value.starts_with("@(") {
            return;
        }
        for found in READ.captures_iter(&text.value) {
            let Some(name) = found.get(2).or_else(|| found.get(3)) else { continue };
            match &found[1] {
                "headers" if text.names_secret => self.secret_headers.insert(name.as_str().to_ascii_lowercase()),
                "headers" => self.headers.insert(name.as_str().to_ascii_lowercase()),
                _ => self.parameters.insert(name.as_str().to_owned()),
            };
        }
    }

    fn checked(&mut self, policy: &Node) {
        let Some(name) = policy.get("name").and_then(Node::as_text) else { return };
        let of = if names_secret(policy) { &mut self.secret_headers } else { &mut self.headers };
        of.insert(name.to_ascii_lowercase());
    }
}

/// The places of tokens and keys where the config names none.
const USUAL_PLACES: [&str; 2] = ["header authorization", "header ocp-apim-subscription-key"];
/// The fields that the policy `cors` reads.
const OF_PREFLIGHTS: [&str; 3] = ["origin", "access-control-request-method", "access-control-request-headers"];

/// Returns the keys of a map.
fn keys(node: &Node) -> impl Iterator<Item = &str> {
    let entries = match &node.kind {
        Kind::Map(entries) => &**entries,
        _ => &[],
    };
    entries.iter().map(|(key, _)| &*key.text)
}

/// Returns the text, or those of a list.
fn texts(node: &Node) -> impl Iterator<Item = &str> {
    let list = match &node.kind {
        Kind::List(entries) => &**entries,
        _ => std::slice::from_ref(node),
    };
    list.iter().filter_map(Node::as_text)
}

/// Returns whether a secret stands somewhere in the settings.
fn names_secret(node: &Node) -> bool {
    match &node.kind {
        Kind::Text(text) => text.names_secret,
        Kind::List(entries) => entries.iter().any(names_secret),
        Kind::Map(entries) => entries.iter().any(|(_, value)| names_secret(value)),
        Kind::Null | Kind::Bool(_) | Kind::Number(_) | Kind::Broken => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::yaml;

    #[test]
    fn names_are_those_that_something_reads() {
        let text = r#"
inbound:
  - check-header: { name: X-Door, values: [open] }
  - authorize: { condition: "@(request.headers['X-Team'] == 'a' && request.query[\"v\"] == '1' && !has(request.headers.accept))" }
  - validate-azure-ad-token: { header-name: X-Token }
  - validate-api-key: { header-name: [X-Key, X-Old-Key], query-parameter-name: key }
  - set-header: { name: X-Set, value: "@(request.headers[\"cookie\"] + request.headers['x-token'] + request.headers['x-old-key'] + request.query['Key'])" }
  - rate-limit-by-key: { counter-key: "@(request.headers['X-API-Key'] + request.headers['x-functions-key'] + request.query['SIG'])" }
  - set-header: { name: X-Text, value: "request.headers['x-none']" }
"#;
        let names = FactNames::of(&yaml::read(text, 0, &mut Vec::new(), &mut Vec::new()));

        assert_eq!(names.headers.into_iter().collect::<Vec<_>>(), ["accept", "x-door", "x-team"]);
        assert_eq!(names.secret_headers.into_iter().collect::<Vec<_>>(), ["x-key", "x-old-key", "x-token"]);
        assert_eq!(names.parameters.into_iter().collect::<Vec<_>>(), ["v"]);
    }
}
