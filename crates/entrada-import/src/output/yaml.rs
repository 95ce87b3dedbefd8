//! YAML with comments, and with the place of each policy.

use std::fmt::Write as _;

/// A value of the config.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Yaml {
    /// A text, quoted where YAML needs it.
    Text(String),
    /// A number, a boolean, or a word that needs no quotes.
    Plain(String),
    List(Vec<Self>),
    Map(Vec<(String, Self)>),
    /// The branches of `choose`; without a condition it is `otherwise`.
    Branches(Vec<(Option<String>, Vec<Item>)>),
}

/// An entry of a list of policies.
#[derive(Clone, Debug)]
pub(crate) enum Item {
    /// A policy, and the entry of the report that it comes from.
    Policy { name: String, value: Yaml, origin: usize, comment: String },
    /// A line for something that was left out.
    Comment(String),
    /// Policies that stand in a document or a fragment of their own.
    Group { name: String, items: Vec<Self> },
    /// Policies of a fragment that the import does not have.
    Missing { name: String, origin: usize, comment: String },
}

/// Compares what is written, wherever it comes from.
impl PartialEq for Item {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Policy { name, value, comment, .. }, Self::Policy { name: n, value: v, comment: c, .. }) => {
                name == n && value == v && comment == c
            }
            (Self::Comment(own), Self::Comment(other)) => own == other,
            (Self::Group { name, items }, Self::Group { name: n, items: i }) => name == n && items == i,
            (Self::Missing { name, .. }, Self::Missing { name: n, .. }) => name == n,
            _ => false,
        }
    }
}

impl Item {
    /// Returns whether anything but comments would be written.
    pub(crate) fn writes(&self) -> bool {
        match self {
            Self::Policy { .. } | Self::Missing { .. } => true,
            Self::Comment(_) => false,
            Self::Group { items, .. } => items.iter().any(Self::writes),
        }
    }
}

/// Makes a text.
pub(crate) fn text(content: impl Into<String>) -> Yaml {
    Yaml::Text(content.into())
}

/// Makes a map.
pub(crate) fn map<const N: usize>(entries: [(&str, Yaml); N]) -> Yaml {
    Yaml::Map(entries.into_iter().map(|(key, value)| (key.to_owned(), value)).collect())
}

/// Writes YAML, and notes the JSON pointer of each policy.
#[derive(Debug, Default)]
pub(crate) struct Writer {
    out: String,
    pub(crate) places: Vec<(String, usize)>,
}

impl Writer {
    pub(crate) fn finish(self) -> (String, Vec<(String, usize)>) {
        (self.out, self.places)
    }

    /// Writes a line of its own.
    pub(crate) fn line(&mut self, indent: usize, line: &str) {
        let _ = write!(self.out, "{:indent$}", "");
        // Comments hold names of files and resources, which may hold anything.
        self.out.extend(line.chars().map(|letter| if is_break(letter) { ' ' } else { letter }));
        self.out.push('\n');
    }

    /// Writes a key with a value on one line.
    pub(crate) fn entry(&mut self, indent: usize, key: &str, value: &Yaml) {
        let line = format!("{}: {}", quoted_key(key), flow(value));
        self.line(indent, &line);
    }

    /// Writes a list of policies below a key.
    pub(crate) fn policies(&mut self, indent: usize, key: &str, items: &[Item], pointer: &str) {
        if items.iter().any(Item::writes) {
            self.line(indent, &format!("{key}:"));
            self.items(indent + 2, items, &mut 0, pointer);
        } else {
            // A list of nothing but comments is empty.
            items.iter().for_each(|item| self.comments(indent, item));
        }
    }

    fn comments(&mut self, indent: usize, item: &Item) {
        match item {
            Item::Comment(comment) => self.line(indent, &format!("# {comment}")),
            Item::Group { items, .. } => items.iter().for_each(|item| self.comments(indent, item)),
            Item::Policy { .. } | Item::Missing { .. } => {}
        }
    }

    fn items(&mut self, indent: usize, items: &[Item], index: &mut usize, pointer: &str) {
        for item in items {
            match item {
                Item::Comment(comment) => self.line(indent, &format!("# {comment}")),
                Item::Group { name, items } => {
                    if items.iter().any(Item::writes) {
                        self.line(indent, &format!("# from {name}"));
                    }
                    self.items(indent, items, index, pointer);
                }
                Item::Missing { name, origin, comment } => {
                    self.places.push((format!("{pointer}/{index}"), *origin));
                    self.line(indent, &format!("- include-fragment: {}  # {comment}", scalar(name)));
                    *index += 1;
                }
                Item::Policy { name, value, origin, comment } => {
                    let own = format!("{pointer}/{index}");
                    self.places.push((own.clone(), *origin));
                    self.policy(indent, name, value, comment, &format!("{own}/{name}"));
                    *index += 1;
                }
            }
        }
    }

    fn policy(&mut self, indent: usize, name: &str, value: &Yaml, comment: &str, pointer: &str) {
        let comment = if comment.is_empty() { String::new() } else { format!("  # {comment}") };
        match value {
            Yaml::Branches(branches) => {
                self.line(indent, &format!("- {name}:{comment}"));
                for (index, (condition, items)) in branches.iter().enumerate() {
                    let own = format!("{pointer}/{index}");
                    match condition {
                        Some(condition) => {
                            self.line(indent + 4, &format!("- when: {}", scalar(condition)));
                            self.branch(indent + 6, "do", items, &own);
                        }
                        None if items.iter().any(Item::writes) => {
                            self.line(indent + 4, "- otherwise:");
                            self.items(indent + 8, items, &mut 0, &format!("{own}/otherwise"));
                        }
                        None => {
                            self.line(indent + 4, "- otherwise: []");
                            items.iter().for_each(|item| self.comments(indent + 6, item));
                        }
                    }
                }
            }
            value => {
                let value = flow(value);
                self.line(indent, &format!("- {name}: {value}{comment}"));
            }
        }
    }

    fn branch(&mut self, indent: usize, key: &str, items: &[Item], pointer: &str) {
        if items.iter().any(Item::writes) {
            self.line(indent, &format!("{key}:"));
            self.items(indent + 2, items, &mut 0, &format!("{pointer}/{key}"));
        } else {
            self.line(indent, &format!("{key}: []"));
            items.iter().for_each(|item| self.comments(indent, item));
        }
    }
}

/// Returns whether a reader of YAML may take a letter for the end of a line, or refuses it.
fn is_break(letter: char) -> bool {
    letter.is_control() || matches!(letter, '\u{feff}' | '\u{2028}' | '\u{2029}')
}

/// Writes a value on one line.
pub(crate) fn flow(value: &Yaml) -> String {
    match value {
        Yaml::Text(text) => scalar(text),
        Yaml::Plain(word) => word.clone(),
        Yaml::List(entries) => format!("[{}]", entries.iter().map(flow).collect::<Vec<_>>().join(", ")),
        Yaml::Map(entries) if entries.is_empty() => "{}".to_owned(),
        Yaml::Map(entries) => {
            let entries: Vec<_> = entries.iter().map(|(key, value)| format!("{}: {}", quoted_key(key), flow(value))).collect();
            format!("{{ {} }}", entries.join(", "))
        }
        Yaml::Branches(_) => "[]".to_owned(),
    }
}

/// Writes a key.
pub(crate) fn quoted_key(key: &str) -> String {
    let is_plain = !key.is_empty()
        && key.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.'))
        && key.bytes().any(|byte| byte.is_ascii_alphabetic())
        && key.bytes().next().is_some_and(|byte| byte.is_ascii_alphabetic())
        && !is_word(key);
    if is_plain { key.to_owned() } else { quoted(key) }
}

/// Writes a text: plain if every reader of YAML takes it for one.
pub(crate) fn scalar(text: &str) -> String {
    let is_plain = !text.is_empty()
        && text.bytes().next().is_some_and(|byte| byte.is_ascii_alphabetic() || byte == b'/')
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b'/'))
        && !is_word(text);
    if is_plain { text.to_owned() } else { quoted(text) }
}

/// Returns whether a reader of YAML takes a text for something else.
fn is_word(text: &str) -> bool {
    matches!(text.to_ascii_lowercase().as_str(), "true" | "false" | "yes" | "no" | "on" | "off" | "null" | "y" | "n")
}

/// Writes a text in double quotes.
fn quoted(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len() + 2);
    quoted.push('"');
    for letter in text.chars() {
        match letter {
            '"' => quoted.push_str("\\\""),
            '\\' => quoted.push_str("\\\\"),
            '\n' => quoted.push_str("\\n"),
            '\r' => quoted.push_str("\\r"),
            '\t' => quoted.push_str("\\t"),
            letter if is_break(letter) => {
                let _ = write!(quoted, "\\u{:04x}", u32::from(letter));
            }
            letter => quoted.push(letter),
        }
    }
    quoted.push('"');
    quoted
}

#[cfg(test)]
mod tests {
    use entrada_base::settings::yaml;
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn policies_are_written_with_their_places() {
        let policy =
            |name: &str, value: Yaml, origin| Item::Policy { name: name.into(), value, origin, comment: "a.xml:1".into() };
        let inner = vec![policy("set-status", map([("code", Yaml::Plain("404".into()))]), 2)];
        let choose = policy("choose", Yaml::Branches(vec![(Some("@(a == 'b')".into()), inner), (None, vec![])]), 1);
        let mut writer = Writer::default();
        writer.policies(0, "inbound", &[Item::Comment("left out".into()), choose], "/routes/0/inbound");
        let (text, places) = writer.finish();
        assert_eq!(
            text,
            "inbound:\n  # left out\n  - choose:  # a.xml:1\n      - when: \"@(a == 'b')\"\n        do:\n          \
             - set-status: { code: 404 }  # a.xml:1\n      - otherwise: []\n"
        );
        let expected = [("/routes/0/inbound/0", 1), ("/routes/0/inbound/0/choose/0/do/0", 2)];
        assert_eq!(places, expected.map(|(place, origin)| (place.to_owned(), origin)));
    }

    proptest! {
        #[test]
        fn a_text_is_read_as_it_was_written(content in "\\PC{0,60}", key in "[a-zA-Z0-9: {}#-]{1,12}") {
            let written = format!("{}: {}\n", quoted_key(&key), scalar(&content));
            let mut findings = Vec::new();
            let read = yaml::read(&written, 0, &mut findings, &mut Vec::new());
            prop_assert!(findings.is_empty(), "{written}: {findings:?}");
            prop_assert_eq!(read.get(&key).and_then(|value| value.as_text()), Some(&*content));
        }
    }
}
