//! The values of a YAML text, each with its place in the text.

use std::fmt;

use serde_json::Number;
#[cfg(any(test, feature = "testing"))]
use serde_json::{Map, Value};

use super::origin::Origin;

/// One value and its place.
#[derive(Clone, Debug)]
pub struct Node {
    /// The value.
    pub kind: Kind,
    /// Where it stands.
    pub at: Origin,
    /// The place of the value itself, where this node is an alias.
    pub anchored: Option<Box<Origin>>,
}

/// The key of an entry and its place.
#[derive(Clone, Debug)]
pub struct Key {
    /// The key's text.
    pub text: String,
    /// Where it stands.
    pub at: Origin,
}

/// The kind of a value.
#[derive(Clone)]
pub enum Kind {
    /// No value, `~` or `null`.
    Null,
    /// `true` or `false`.
    Bool(bool),
    /// A number.
    Number(Number),
    /// A string.
    Text(Text),
    /// A sequence.
    List(Vec<Node>),
    /// A mapping, in the order of the file.
    Map(Vec<(Key, Node)>),
    /// A value that was reported already.
    Broken,
}

/// Shows the entries of lists and maps, but no values, since they may be secrets.
impl fmt::Debug for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::List(entries) => entries.fmt(f),
            Self::Map(entries) => entries.fmt(f),
            Self::Null => f.write_str("Null"),
            Self::Bool(_) => f.write_str("Bool"),
            Self::Number(_) => f.write_str("Number"),
            Self::Text(_) => f.write_str("Text"),
            Self::Broken => f.write_str("Broken"),
        }
    }
}

/// A text, and the other readings that it allows.
#[derive(Clone)]
pub struct Text {
    /// The string, with variables filled in.
    pub value: String,
    /// Written without quotes, and read as a number by some readers of YAML: `0123`, `0x1f`, `1_000`.
    pub odd: bool,
    /// Holds `{{…}}` of named values that are secrets.
    pub names_secret: bool,
}

/// Shows no value, since it may be a secret.
impl fmt::Debug for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Text").finish_non_exhaustive()
    }
}

impl Text {
    /// Makes a text that stands in the file as it is.
    pub const fn plain(value: String) -> Self {
        Self { value, odd: false, names_secret: false }
    }
}

impl Node {
    /// Makes a node.
    pub const fn new(kind: Kind, at: Origin) -> Self {
        Self { kind, at, anchored: None }
    }

    pub(crate) const fn broken(at: Origin) -> Self {
        Self::new(Kind::Broken, at)
    }

    /// Calls `visit` for each stretch of the files that belongs to this value: keys and scalars, including the targets of
    /// aliases.
    pub fn each_part(&self, visit: &mut impl FnMut(&Origin)) {
        if let Some(anchored) = &self.anchored {
            visit(&self.at);
            visit(anchored);
        }
        match &self.kind {
            Kind::List(entries) => entries.iter().for_each(|entry| entry.each_part(visit)),
            Kind::Map(entries) => entries.iter().for_each(|(key, value)| {
                visit(&key.at);
                value.each_part(visit);
            }),
            Kind::Null | Kind::Bool(_) | Kind::Number(_) | Kind::Text(_) | Kind::Broken => visit(&self.at),
        }
    }

    /// Returns the entries of a mapping.
    pub const fn as_map(&self) -> Option<&Vec<(Key, Self)>> {
        if let Kind::Map(entries) = &self.kind { Some(entries) } else { None }
    }

    /// Returns the string.
    pub fn as_text(&self) -> Option<&str> {
        if let Kind::Text(text) = &self.kind { Some(&text.value) } else { None }
    }

    /// Returns the value of `key`, where this is a map that has it.
    pub fn get(&self, key: &str) -> Option<&Self> {
        self.as_map()?.iter().find(|(name, _)| name.text == key).map(|(_, value)| value)
    }

    /// Returns the name of this kind of value in messages.
    pub const fn what(&self) -> &'static str {
        match &self.kind {
            Kind::Null => "nothing",
            Kind::Bool(_) => "true or false",
            Kind::Number(_) => "a number",
            Kind::Text(_) => "a text",
            Kind::List(_) => "a list",
            Kind::Map(_) => "a map",
            Kind::Broken => "unreadable",
        }
    }

    /// Returns the value alone, without its places.
    #[cfg(any(test, feature = "testing"))]
    pub fn to_json(&self) -> Value {
        match &self.kind {
            Kind::Null | Kind::Broken => Value::Null,
            Kind::Bool(value) => Value::Bool(*value),
            Kind::Number(value) => Value::Number(value.clone()),
            Kind::Text(text) => Value::String(text.value.clone()),
            Kind::List(entries) => Value::Array(entries.iter().map(Self::to_json).collect()),
            Kind::Map(entries) => {
                Value::Object(entries.iter().map(|(key, value)| (key.text.clone(), value.to_json())).collect::<Map<_, _>>())
            }
        }
    }
}
