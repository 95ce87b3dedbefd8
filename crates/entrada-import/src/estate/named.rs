//! Named values: known, given, or asked for.

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    names::identifier,
    output::{Yaml, map, text},
};

/// The use of a named value, from which a stand-in is made that refuses or leads nowhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Hint {
    /// Any text.
    Text,
    /// Within a URL: which part, is seen there.
    Url,
    /// A whole URL.
    WholeUrl,
    /// The URL of an issuer's metadata.
    Metadata,
    /// The scheme of a URL.
    Scheme,
    /// The host of a URL.
    Host,
    /// The port of a URL.
    Port,
    /// A part of a path.
    Path,
    /// An address that is admitted.
    Address,
    /// An address that is refused.
    EveryAddress,
    /// The first address of a range that is refused.
    FirstAddress,
    /// The last address of a range that is refused.
    LastAddress,
    /// A tenant or client id.
    Guid,
    /// A number.
    Number,
}

impl Hint {
    /// Returns the part of a URL that a named value is.
    pub(crate) fn within_url(url: &str, name: &str) -> Self {
        let hole = format!("{{{{{name}}}}}");
        let Some(at) = url.find(&hole) else { return Self::Text };
        let (before, after) = (&url[..at], &url[at + hole.len()..]);
        if before.is_empty() {
            return if after.starts_with("://") { Self::Scheme } else { Self::WholeUrl };
        }
        let Some((_, rest)) = before.split_once("://") else { return Self::Text };
        if rest.contains('/') {
            Self::Path
        } else if rest.ends_with(':') {
            Self::Port
        } else {
            Self::Host
        }
    }

    /// Returns a stand-in: a value with which nothing is admitted, and which leads nowhere.
    fn stand_in(self, name: &str) -> String {
        let word = identifier(name, "value");
        match self {
            Self::Text | Self::Path => format!("unset-{word}"),
            Self::Url | Self::WholeUrl => format!("https://{word}.invalid"),
            Self::Metadata => format!("https://{word}.invalid/.well-known/openid-configuration"),
            Self::Scheme => "https".to_owned(),
            Self::Host => format!("{word}.invalid"),
            Self::Port => "443".to_owned(),
            Self::Address => "192.0.2.1".to_owned(),
            Self::EveryAddress => "0.0.0.0-255.255.255.255".to_owned(),
            Self::FirstAddress => "0.0.0.0".to_owned(),
            Self::LastAddress => "255.255.255.255".to_owned(),
            Self::Guid => "00000000-0000-0000-0000-000000000001".to_owned(),
            Self::Number => "1".to_owned(),
        }
    }
}

/// A named value of the estate.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum NamedValue {
    Plain(String),
    /// A secret, whose value no export holds.
    Secret,
    /// A secret of a vault: its URL, the secret's name, its version, and the client id of the identity.
    KeyVault {
        vault: String,
        secret: String,
        version: Option<String>,
        client: Option<String>,
    },
}

/// The named values of an import.
#[derive(Debug, Default)]
pub(crate) struct NamedValues {
    defined: BTreeMap<String, NamedValue>,
    used: BTreeMap<String, Hint>,
    /// Those that only fields use in which secrets may stand.
    marked: BTreeSet<String>,
}

impl NamedValues {
    pub(crate) fn define(&mut self, name: &str, value: NamedValue) {
        self.defined.insert(name.to_owned(), value);
    }

    /// Returns the value, if it is known.
    pub(crate) fn known(&self, name: &str) -> Option<&str> {
        match self.defined.get(name)? {
            NamedValue::Plain(value) => Some(value),
            NamedValue::Secret | NamedValue::KeyVault { .. } => None,
        }
    }

    pub(crate) fn all_known(&self) -> BTreeMap<String, String> {
        self.defined.keys().filter_map(|name| Some((name.clone(), self.known(name)?.to_owned()))).collect()
    }

    /// Returns the names of secrets.
    pub(crate) fn secrets(&self) -> BTreeSet<String> {
        let secrets = self.defined.iter().filter(|(_, value)| !matches!(value, NamedValue::Plain(_)));
        secrets.map(|(name, _)| name.clone()).collect()
    }

    /// Notes a use; returns whether a person has to supply the value.
    pub(crate) fn used(&mut self, name: &str, hint: Hint) -> bool {
        let known = self.used.entry(name.to_owned()).or_insert(hint);
        // The first use that says what it is decides.
        if matches!(*known, Hint::Text | Hint::Path) && hint != Hint::Text {
            *known = hint;
        }
        !self.defined.contains_key(name)
    }

    /// Notes that a value stands in a field of credentials.
    pub(crate) fn mark_secret(&mut self, name: &str) {
        self.marked.insert(name.to_owned());
    }

    /// Returns the entries of the config, each with a comment.
    pub(crate) fn entries(&self, text_of_all: &str) -> Vec<(String, Yaml, &'static str)> {
        let mut entries = Vec::new();
        for (name, hint) in &self.used {
            if !text_of_all.contains(&format!("{{{{{name}}}}}")) {
                continue;
            }
            let variable =
                name.chars().map(|letter| if letter.is_ascii_alphanumeric() { letter.to_ascii_uppercase() } else { '_' });
            let variable: String = variable.collect();
            let stand_in = |more: Vec<(String, Yaml)>| {
                let mut entries =
                    vec![("env".to_owned(), text(variable.clone())), ("default".to_owned(), text(hint.stand_in(name)))];
                entries.extend(more);
                Yaml::Map(entries)
            };
            let secret = || vec![("secret".to_owned(), Yaml::Plain("true".to_owned()))];
            let (value, comment) = match self.defined.get(name) {
                Some(NamedValue::Plain(value)) => (map([("value", text(value.clone()))]), ""),
                Some(NamedValue::KeyVault { vault, secret, version, .. }) => {
                    let mut parts = vec![("vault".to_owned(), text(vault.clone())), ("secret".to_owned(), text(secret.clone()))];
                    if let Some(version) = version {
                        parts.push(("version".to_owned(), text(version.clone())));
                    }
                    parts.push(("identity".to_owned(), text("managed-identity")));
                    (map([("key-vault", Yaml::Map(parts))]), "")
                }
                Some(NamedValue::Secret) => (stand_in(secret()), "to be supplied: an export has no secrets"),
                None if self.marked.contains(name) => (stand_in(secret()), "to be supplied"),
                None => (stand_in(Vec::new()), "to be supplied"),
            };
            entries.push((name.clone(), value, comment));
        }
        entries
    }

    /// Returns the stand-in of a value that nobody has supplied.
    pub(crate) fn stand_in(&self, name: &str) -> Option<String> {
        let hint = self.used.get(name)?;
        (!self.defined.contains_key(name)).then(|| hint.stand_in(name))
    }

    /// Returns whether a value that is used comes from a vault.
    pub(crate) fn uses_vault(&self) -> bool {
        self.used.keys().any(|name| matches!(self.defined.get(name), Some(NamedValue::KeyVault { .. })))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stand_in_fits_its_place_and_leads_nowhere() {
        for (url, hint) in [
            ("{{x}}/a", Hint::WholeUrl),
            ("{{x}}://h/a", Hint::Scheme),
            ("https://{{x}}/a", Hint::Host),
            ("https://h.{{x}}/a", Hint::Host),
            ("https://h:{{x}}/a", Hint::Port),
            ("https://h/a/{{x}}", Hint::Path),
        ] {
            assert_eq!(Hint::within_url(url, "x"), hint, "{url}");
        }
        assert_eq!(Hint::Host.stand_in("tf-host_name"), "tf-host-name.invalid");
    }

    #[test]
    fn what_is_known_is_written_and_the_rest_is_asked_for() {
        let mut named = NamedValues::default();
        named.define("a", NamedValue::Plain("1".into()));
        named.define("s", NamedValue::Secret);
        assert!(!named.used("a", Hint::Text));
        assert!(!named.used("s", Hint::Text));
        assert!(named.used("u", Hint::Text));
        assert!(named.used("unused", Hint::Text));
        let names: Vec<_> = named.entries("{{a}}{{s}}{{u}}").into_iter().map(|(name, ..)| name).collect();
        assert_eq!(names, ["a", "s", "u"]);
        assert_eq!(named.secrets(), ["s".to_owned()].into());
    }
}
