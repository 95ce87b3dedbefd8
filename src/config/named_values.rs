//! Named values: `{{name}}` in any text of the config, replaced once, after parsing.
//!
//! The content of a variable or a file is not expanded again, so it cannot name other values. A named value's own `value` may
//! name others. Inside an expression `@(…)` a value becomes a string literal: it can never become code. Secrets are not inserted:
//! their text stays `{{name}}`, which only a [`Secret`](crate::settings::Secret) can hold.

use crate::settings::parts::{Part, is_name, parts};
use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    path::Path,
    sync::Arc,
};

use secrecy::{ExposeSecret as _, SecretString};

use crate::base::text;
use crate::certificate::keys::{LOOSE_CURE, loose_permissions};
use crate::expression::literal;
use crate::settings::{
    Finding, KeyVaultSecretConfig, Lint, SecretCell, blank,
    fault::Place,
    node::{Kind, Node},
    origin::{Origin, Sources},
    secret::SecretSource,
    suggest,
};

/// The longest file of a named value, in bytes.
const FILE_LIMIT: u64 = 64 << 10;

/// Returns whether a text is an expression.
pub(crate) fn is_expression(text: &str) -> bool {
    text.starts_with("@(")
}

/// Returns whether the byte at `at` is inside a string literal of the expression.
fn inside_string(expression: &str, at: usize) -> bool {
    let mut quote = None;
    let mut escaped = false;
    for letter in expression[..at].chars() {
        match quote {
            _ if escaped => escaped = false,
            Some(_) if letter == '\\' => escaped = true,
            Some(open) if open == letter => quote = None,
            None if matches!(letter, '"' | '\'') => quote = Some(letter),
            _ => {}
        }
    }
    quote.is_some()
}

/// The source of variables and files.
pub(crate) struct ValueSources<'a> {
    pub(crate) variable: &'a dyn Fn(&str) -> Option<String>,
    pub(crate) base: &'a Path,
}

/// The meaning of a named value.
#[derive(Clone)]
enum NamedValue {
    Plain(String),
    Secret(SecretSource),
    /// Unavailable; that was reported.
    Failed,
}

enum State {
    Underway,
    Done(NamedValue),
}

/// All named values of a config.
pub(crate) struct NamedValues<'a> {
    entries: BTreeMap<&'a str, (&'a Origin, &'a Node)>,
    states: BTreeMap<&'a str, State>,
    value_sources: ValueSources<'a>,
    findings: Vec<Finding>,
    files: Vec<std::path::PathBuf>,
    hidden: Vec<Origin>,
    used: BTreeSet<String>,
}

/// The result of the replacement.
pub(crate) struct Resolved {
    pub(crate) secrets: BTreeMap<String, SecretSource>,
    pub(crate) findings: Vec<Finding>,
    /// The files that named values were read from.
    pub(crate) files: Vec<std::path::PathBuf>,
    /// The names in use.
    pub(crate) used: BTreeSet<String>,
}

/// Replaces the named values in the whole document.
pub(crate) fn resolve(document: &mut Node, value_sources: ValueSources<'_>, sources: &mut Sources) -> Resolved {
    let section = document.get("named-values").cloned();
    let mut values = NamedValues {
        entries: BTreeMap::new(),
        states: BTreeMap::new(),
        value_sources,
        findings: Vec::new(),
        files: Vec::new(),
        hidden: Vec::new(),
        used: BTreeSet::new(),
    };
    if let Some(section) = section.as_ref().filter(|section| section.as_map().is_none()) {
        section.each_part(&mut |origin| values.hidden.push(origin.clone()));
    }
    for (key, node) in section.as_ref().and_then(Node::as_map).into_iter().flatten() {
        if !is_name(&key.text) {
            let place = Place::root().key("named-values").key(&key.text);
            let message = format!("`{}` is no name for a named value", key.text);
            // `key:"value"` without a blank is all of it a key.
            values.hidden.push(key.at.clone());
            values.findings.push(Finding::error(key.at.clone(), &place, message, "use letters, digits, `-`, `_` and `.`"));
        }
        blank::named_value(node, &mut values.hidden);
        values.entries.insert(&key.text, (&key.at, node));
    }
    for name in values.entries.keys().copied().collect::<Vec<_>>() {
        values.value(name);
    }
    if let Kind::Map(entries) = &mut document.kind {
        for (key, node) in entries.iter_mut().filter(|(key, _)| key.text != "named-values") {
            values.replace(node, &Place::root().key(&key.text));
        }
    }
    for origin in &values.hidden {
        sources.hide(origin.clone());
    }
    let secrets: BTreeMap<_, _> = values
        .states
        .into_iter()
        .filter_map(|(name, state)| match state {
            State::Done(NamedValue::Secret(secret)) => Some((name.to_owned(), secret)),
            State::Done(_) | State::Underway => None,
        })
        .collect();
    for secret in secrets.values() {
        if let SecretSource::Known(secret) = secret {
            sources.keep_secret(secret.expose_secret());
        }
    }
    Resolved { secrets, findings: values.findings, files: values.files, used: values.used }
}

impl<'a> NamedValues<'a> {
    /// Resolves the name, once. `None` while it is being resolved: it names itself.
    fn value(&mut self, name: &'a str) -> Option<NamedValue> {
        match self.states.get(name) {
            Some(State::Underway) => return None,
            Some(State::Done(value)) => return Some(value.clone()),
            None => {}
        }
        self.states.insert(name, State::Underway);
        let (key, node) = self.entries[name];
        let place = Place::root().key("named-values").key(name);
        let value = self.read(name, key, node, &place).unwrap_or(NamedValue::Failed);
        self.states.insert(name, State::Done(value.clone()));
        Some(value)
    }

    fn error(&mut self, at: &Origin, place: &Place, message: impl Into<String>, cure: impl Into<String>) {
        self.findings.push(Finding::error(at.clone(), place, message, cure));
    }

    fn read(&mut self, name: &str, key: &Origin, node: &'a Node, place: &Place) -> Option<NamedValue> {
        // What is no map, and a value that is no text, is for the schema to report.
        node.as_map()?;
        let secret = matches!(node.get("secret").map(|node| &node.kind), Some(Kind::Bool(true)));
        let sources: Vec<&str> =
            ["value", "env", "file", "key-vault"].into_iter().filter(|source| node.get(source).is_some()).collect();
        let source = match sources.as_slice() {
            [] => {
                let cure = "give it one of `value`, `env`, `file` or `key-vault`";
                self.error(key, place, "this named value has no source", cure);
                return None;
            }
            [source] => *source,
            [_, second, ..] => {
                let message = format!("this named value has several sources: {}", sources.join(", "));
                let at = node.get(second).map_or(key, |node| &node.at);
                self.error(at, &place.key(second), message, "keep one of them");
                return None;
            }
        };
        if let Some(default) = node.get("default")
            && source != "env"
        {
            self.error(
                &default.at,
                &place.key("default"),
                "`default` stands in for a variable, and there is none",
                "remove it, or name the variable in `env`",
            );
        }
        if matches!(source, "file" | "key-vault")
            && let Some(Node { kind: Kind::Bool(false), at, .. }) = node.get("secret")
        {
            self.error(
                at,
                &place.key("secret"),
                format!("what comes from a {} is always a secret", if source == "file" { "file" } else { "vault" }),
                "remove `secret`, or use `value` or `env`",
            );
        }
        let written = node.get(source)?;
        let at = &written.at;
        let place = place.key(source);
        if source == "key-vault" {
            let secret = SecretCell::new(name, self.key_vault(written, &place)?);
            return Some(NamedValue::Secret(SecretSource::Vault(Arc::new(secret))));
        }
        let (text, uses_secret) = self.own_text(written, &place)?;
        if uses_secret && !secret {
            self.error(at, &place, "this value is made from a secret and is none itself", "add `secret: true`");
            return None;
        }
        let text = match source {
            "env" => self.variable(&text, node.get("default"), at, &place)?,
            "file" => return self.file(&text, at, &place).map(|secret| NamedValue::Secret(SecretSource::Known(secret))),
            _ => text,
        };
        Some(if secret { NamedValue::Secret(SecretSource::Known(text.into())) } else { NamedValue::Plain(text) })
    }

    /// Returns the vault of the value. Missing or wrong settings are reported by the schema check.
    fn key_vault(&mut self, node: &'a Node, place: &Place) -> Option<KeyVaultSecretConfig> {
        let mut text = |key: &str| -> Option<Option<String>> {
            let Some(written) = node.get(key) else { return Some(None) };
            let place = place.key(key);
            let (text, uses_secret) = self.own_text(written, &place)?;
            if uses_secret {
                self.error(&written.at, &place, "this text names a secret, and none may stand here", "write it out");
                return None;
            }
            Some(Some(text))
        };
        let (vault, secret, version, identity) = (text("vault"), text("secret"), text("version"), text("identity"));
        Some(KeyVaultSecretConfig {
            vault: vault??,
            secret: secret??,
            version: version?,
            identity: identity??,
            required: matches!(node.get("required").map(|node| &node.kind), Some(Kind::Bool(true))),
        })
    }

    fn variable(&mut self, name: &str, default: Option<&'a Node>, at: &Origin, place: &Place) -> Option<String> {
        if let Some(value) = (self.value_sources.variable)(name) {
            return Some(value);
        }
        if let Some(default) = default {
            return self.own_text(default, place).map(|(text, _)| text);
        }
        self.error(at, place, format!("the environment variable `{name}` is not set"), "set it, or give a `default`");
        None
    }

    fn file(&mut self, path: &str, at: &Origin, place: &Place) -> Option<SecretString> {
        let path = self.value_sources.base.join(path);
        self.files.push(path.clone());
        match read_secret(&path) {
            Ok(secret) => {
                if let Some(mode) = loose_permissions(&path) {
                    let message = format!("`{}` holds a secret, and others may use it (mode {mode})", path.display());
                    self.findings.push(Finding::warning(Lint::SecretFilePermissions, at.clone(), place, message, LOOSE_CURE));
                }
                Some(secret)
            }
            Err((what, cure)) => {
                self.error(at, place, format!("`{}` cannot be used: {what}", path.display()), cure);
                None
            }
        }
    }

    /// Returns a text of the section itself, with named values inserted, and whether one was a secret.
    fn own_text(&mut self, node: &'a Node, place: &Place) -> Option<(String, bool)> {
        let text = node.as_text()?;
        let mut result = String::new();
        let mut uses_secret = false;
        for part in parts(text) {
            match part {
                Part::Text(text) => result.push_str(text),
                Part::Malformed { .. } => self.malformed(node, place)?,
                Part::Name { name, .. } => match self.look_up(name, node, place)? {
                    NamedValue::Plain(value) => result.push_str(&value),
                    NamedValue::Secret(SecretSource::Known(secret)) => {
                        uses_secret = true;
                        result.push_str(secret.expose_secret());
                    }
                    NamedValue::Secret(SecretSource::Vault(_)) => {
                        let cure = format!("write `{{{{{name}}}}}` where the value is used, with the text around it");
                        self.error(&node.at, place, format!("`{name}` is in a vault, and no other value is made from it"), cure);
                        return None;
                    }
                    NamedValue::Failed => return None,
                },
            }
        }
        Some((result, uses_secret))
    }

    fn malformed(&mut self, node: &Node, place: &Place) -> Option<()> {
        self.error(
            &node.at,
            place,
            "`{{` begins the name of a named value, and none follows",
            "write `{{name}}`; a text that needs `{{` itself gets it from a named value with `env`",
        );
        None
    }

    fn look_up(&mut self, name: &str, node: &Node, place: &Place) -> Option<NamedValue> {
        let Some(name) = self.entries.get_key_value(name).map(|(name, _)| *name) else {
            let cure = suggest::known(name, self.entries.keys().copied(), "the named values are")
                .unwrap_or_else(|| "define it in `named-values`".to_owned());
            self.error(&node.at, place, format!("no named value is called `{name}`"), cure);
            return None;
        };
        self.used.insert(name.to_owned());
        let value = self.value(name);
        if value.is_none() {
            self.error(&node.at, place, format!("the named value `{name}` is made from itself"), "break the circle");
        }
        value
    }

    /// Replaces the named values in the texts below.
    fn replace(&mut self, node: &mut Node, place: &Place) {
        match &mut node.kind {
            Kind::List(entries) => {
                for (index, entry) in entries.iter_mut().enumerate() {
                    self.replace(entry, &place.index(index));
                }
            }
            Kind::Map(entries) => {
                for (key, value) in entries {
                    if key.text.contains("{{") {
                        self.error(
                            &key.at,
                            place,
                            "a key cannot hold a named value",
                            "write the key out; `{{name}}` works in values",
                        );
                    }
                    self.replace(value, &place.key(&key.text));
                }
            }
            Kind::Text(text) if text.value.contains("{{") => match self.replaced(node, place) {
                Some((value, names_secret)) => {
                    let Kind::Text(text) = &mut node.kind else { return };
                    text.value = value;
                    text.names_secret = names_secret;
                }
                None => node.kind = Kind::Broken,
            },
            Kind::Text(_) | Kind::Null | Kind::Bool(_) | Kind::Number(_) | Kind::Broken => {}
        }
    }

    fn replaced(&mut self, node: &Node, place: &Place) -> Option<(String, bool)> {
        let text = node.as_text()?;
        let expression = is_expression(text);
        let mut result = String::new();
        let (mut names_secret, mut put_braces) = (false, false);
        let mut failed = false;
        for part in parts(text) {
            match part {
                Part::Text(text) => result.push_str(text),
                Part::Malformed { .. } => failed |= self.malformed(node, place).is_none(),
                Part::Name { name, at } if expression && inside_string(text, at) => {
                    let cure = "leave the quotes out: inside of `@(…)` a named value is a string already; join with `+`";
                    self.error(&node.at, place, format!("`{{{{{name}}}}}` stands inside of a string"), cure);
                    failed = true;
                }
                Part::Name { name, .. } => match self.look_up(name, node, place) {
                    Some(NamedValue::Plain(value)) => {
                        put_braces |= value.contains("{{");
                        result.push_str(&if expression { literal(&value) } else { value });
                    }
                    Some(NamedValue::Secret(_)) if expression => {
                        // What goes wrong in an expression is told with its values.
                        let cure = format!("write text around it instead, as in `Bearer {{{{{name}}}}}`");
                        self.error(&node.at, place, format!("the secret `{name}` cannot stand inside of an expression"), cure);
                        failed = true;
                    }
                    Some(NamedValue::Secret(_)) => {
                        names_secret = true;
                        let _ = write!(result, "{{{{{name}}}}}");
                    }
                    Some(NamedValue::Failed) | None => failed = true,
                },
            }
        }
        // What a variable holds must not be able to name a secret.
        if names_secret && put_braces {
            self.error(
                &node.at,
                place,
                "a value beside a secret holds `{{`, which would name another secret",
                "put the two into one named value with `secret: true`",
            );
            failed = true;
        }
        (!failed).then_some((result, names_secret))
    }
}

/// The secret in a file, or what is wrong and what mends it.
fn read_secret(path: &Path) -> Result<SecretString, (String, &'static str)> {
    use std::io::{Error, ErrorKind, Read as _};

    let mut bytes = zeroize::Zeroizing::new(Vec::new());
    let read = std::fs::File::open(path).and_then(|file| file.take(FILE_LIMIT + 1).read_to_end(&mut bytes));
    let read = read.and_then(|length| match length as u64 {
        ..=FILE_LIMIT => Ok(()),
        _ => Err(Error::new(ErrorKind::FileTooLarge, "it is longer than 64 KiB")),
    });
    read.map_err(|error| (error.to_string(), "check that it is there and that this user may read it"))?;
    let secret = text::secret(&bytes).map_err(|fault| (fault.to_string(), fault.cure()))?;
    Ok(SecretString::from(secret.as_str()))
}
