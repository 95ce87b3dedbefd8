//! Policy documents: their sections, their scope, and the values that others fill in.

use crate::{
    expression::scope::Section,
    xml::{self, Element, Lines, Node, Problem, Text},
};

/// The scope of a document.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum DocumentScope {
    /// All APIs.
    Global,
    /// All APIs of a workspace.
    Workspace,
    /// A product.
    Product,
    /// An API.
    Api,
    /// An operation of an API.
    Operation,
    /// A fragment, which others include.
    Fragment,
}

impl DocumentScope {
    /// Returns the word of the report.
    pub fn word(self) -> &'static str {
        match self {
            Self::Global => "global",
            Self::Workspace => "workspace",
            Self::Product => "product",
            Self::Api => "api",
            Self::Operation => "operation",
            Self::Fragment => "fragment",
        }
    }

    /// Reads the word of the command line.
    pub fn from_word(word: &str) -> Option<Self> {
        [Self::Global, Self::Workspace, Self::Product, Self::Api, Self::Operation, Self::Fragment]
            .into_iter()
            .find(|scope| scope.word() == word)
    }
}

/// A policy document.
#[derive(Clone, Debug)]
pub(crate) struct PolicyDocument {
    /// Its number within the import.
    pub(crate) id: usize,
    /// The file, relative to what was given.
    pub(crate) file: String,
    pub(crate) scope: DocumentScope,
    /// The API, operation, product or fragment.
    pub(crate) owner: String,
    pub(crate) root: Element,
    pub(crate) lines: Lines,
    pub(crate) text: String,
    pub(crate) problems: Vec<Problem>,
}

/// The fault of a text that is no policy document.
#[derive(Debug, thiserror::Error)]
#[error("{file}: no policy document: the root has to be `<policies>` or `<fragment>`")]
pub struct NoDocument {
    /// The file.
    pub file: String,
}

impl PolicyDocument {
    /// Reads a document.
    pub(crate) fn read(id: usize, file: &str, text: &str, scope: DocumentScope, owner: &str) -> Result<Self, NoDocument> {
        let document = xml::read(text);
        let mut problems = document.problems;
        let (mut roots, others): (Vec<_>, Vec<_>) =
            document.elements.into_iter().partition(|element| matches!(element.name.as_str(), "policies" | "fragment"));
        if roots.is_empty() {
            return Err(NoDocument { file: file.to_owned() });
        }
        let root = roots.remove(0);
        for other in others.iter().chain(&roots) {
            problems.push(Problem { at: other.start, message: format!("`<{}>` stands beside the root", other.name) });
        }
        if let Some(at) = text.find("%{") {
            problems.push(Problem { at, message: "a directive of a Terraform template, which is not run".to_owned() });
        }
        let scope = if root.name == "fragment" { DocumentScope::Fragment } else { scope };
        Ok(Self {
            id,
            file: file.to_owned(),
            scope,
            owner: owner.to_owned(),
            root,
            lines: Lines::of(text),
            text: text.to_owned(),
            problems,
        })
    }

    /// Returns a section.
    pub(crate) fn section(&self, section: Section) -> Option<&Element> {
        self.root.child(section.name())
    }

    /// Returns what cannot be read and stands in no policy of `inbound`, `backend` or `outbound`, where the policy would refuse.
    pub(crate) fn damage(&self) -> Option<(usize, String)> {
        const SECTIONS: [&str; 4] = ["inbound", "backend", "outbound", "on-error"];
        let lists: Vec<&Element> = match self.root.name.as_str() {
            "fragment" => vec![&self.root],
            _ => SECTIONS[..3].iter().filter_map(|name| self.root.child(name)).collect(),
        };
        let is_in_policy =
            |at: usize| lists.iter().flat_map(|list| list.elements()).any(|policy| (policy.start..policy.end).contains(&at));
        if let Some(problem) = self.problems.iter().find(|problem| !is_in_policy(problem.at)) {
            return Some((problem.at, problem.message.clone()));
        }
        if self.root.name == "fragment" {
            return None;
        }
        let mut seen = Vec::new();
        self.root.children.iter().find_map(|node| match node {
            Node::Element(section) if !SECTIONS.contains(&section.name.as_str()) => {
                Some((section.start, format!("`<{}>` is no section", section.name)))
            }
            Node::Element(section) if seen.contains(&&section.name) => {
                Some((section.start, format!("`<{}>` is here twice", section.name)))
            }
            Node::Element(section) => {
                seen.push(&section.name);
                None
            }
            Node::Text(text) if says_something(text) => Some((text.start, "a text stands beside the sections".to_owned())),
            Node::Text(_) => None,
        })
    }

    /// Returns the line of an offset.
    pub(crate) fn line(&self, offset: usize) -> usize {
        self.lines.place(offset).0
    }

    /// Returns the begin of the source at an offset, in one line, with what may be secret masked.
    pub(crate) fn excerpt(&self, start: usize, length: usize) -> String {
        let rest = self.text.get(start..).unwrap_or_default();
        let mut excerpt = String::new();
        let mut count = 0;
        let mut blank = false;
        for letter in rest.chars().take(length * 4) {
            if letter.is_whitespace() {
                blank = true;
                continue;
            }
            if blank && count > 0 {
                excerpt.push(' ');
                count += 1;
            }
            blank = false;
            excerpt.push(letter);
            count += 1;
            if letter == '>' && !excerpt.contains("@(") && !excerpt.contains("@{") || count >= length {
                break;
            }
        }
        masked(&excerpt)
    }
}

/// Returns whether a text that stands among elements is more than a stray sign: it may be a hole that rules are filled into.
pub(crate) fn says_something(text: &Text) -> bool {
    text.content.chars().any(char::is_alphanumeric)
}

/// Words in the names of credentials.
const CREDENTIAL_WORDS: &[&str] =
    &["key", "secret", "password", "pwd", "token", "authorization", "credential", "basic", "sas", "code"];

/// Returns whether a name is one of a credential.
pub(crate) fn is_credential_name(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    CREDENTIAL_WORDS.iter().any(|word| name.contains(word))
}

/// Masks literals of more than 12 characters, if a name of a credential stands before them.
fn masked(text: &str) -> String {
    let mut masked = String::with_capacity(text.len());
    let mut word = String::new();
    let mut before = String::new();
    for letter in text.chars() {
        if letter.is_ascii_alphanumeric() || matches!(letter, '-' | '_' | '.' | '+' | '/' | '=' | '~') {
            word.push(letter);
            continue;
        }
        push_masked(&mut masked, &word, &before);
        before.push_str(&word);
        before.push(letter);
        word.clear();
        masked.push(letter);
    }
    push_masked(&mut masked, &word, &before);
    masked
}

fn push_masked(masked: &mut String, word: &str, before: &str) {
    // Words of prose and names have no digits.
    let is_random =
        word.len() > 12 && word.bytes().any(|byte| byte.is_ascii_digit()) && word.bytes().any(|byte| byte.is_ascii_alphabetic());
    if is_random && !word.contains("://") && is_credential_name(before) {
        masked.push_str("***");
    } else {
        masked.push_str(word);
    }
}

/// Replaces the holes `${name}` of Terraform templates by named values `{{tf-name}}`.
pub(crate) fn with_named_values(text: &str) -> String {
    if !text.contains("${") {
        return text.to_owned();
    }
    let mut replaced = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find("${") {
        replaced.push_str(&rest[..at]);
        let inner = &rest[at + 2..];
        let end = inner.find('}');
        let name = end.map(|end| inner[..end].trim());
        let is_name = |name: &&str| {
            !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.'))
        };
        match (name.filter(is_name), end) {
            (Some(name), Some(end)) => {
                replaced.push_str(&format!("{{{{tf-{}}}}}", name.replace('_', "-")));
                rest = &inner[end + 1..];
            }
            _ => {
                replaced.push_str("${");
                rest = inner;
            }
        }
    }
    replaced.push_str(rest);
    replaced
}

/// Returns the names of the named values `{{name}}` in a text.
pub(crate) fn named_values_of(text: &str) -> Vec<String> {
    let mut names = Vec::new();
    let mut rest = text;
    while let Some(at) = rest.find("{{") {
        let inner = &rest[at + 2..];
        let Some(end) = inner.find("}}") else { break };
        let name = inner[..end].trim();
        if is_named_value(name) {
            names.push(name.to_owned());
            rest = &inner[end + 2..];
        } else {
            rest = inner;
        }
    }
    names
}

/// Returns whether a text is the name of a named value.
pub(crate) fn is_named_value(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn holes_of_templates_become_named_values() {
        assert_eq!(with_named_values("https://${host_name}/a${b}"), "https://{{tf-host-name}}/a{{tf-b}}");
        assert_eq!(with_named_values("${ f(\"x\") } ${open"), "${ f(\"x\") } ${open");
        assert_eq!(named_values_of("{{a}}{{ b-c }}{{d e}} {{f"), ["a", "b-c"]);
    }

    #[test]
    fn excerpts_are_one_line_and_hide_credentials() {
        let text = "<policies>\n<set-header\n  name=\"X-Functions-Key\" value=\"aB3dE5gH7jK9mN1\" other=\"plain-text-only\"/></policies>";
        let document = PolicyDocument::read(0, "a.xml", text, DocumentScope::Api, "a").expect("a document");
        let start = text.find("<set-header").expect("it is there");
        assert_eq!(
            document.excerpt(start, 120),
            "<set-header name=\"X-Functions-Key\" value=\"***\" other=\"plain-text-only\"/>"
        );
    }

    #[test]
    fn what_is_no_policy_document_is_refused() {
        assert!(PolicyDocument::read(0, "a.xml", "<html></html>", DocumentScope::Api, "a").is_err());
        let fragment =
            PolicyDocument::read(0, "a.xml", "<fragment><base /></fragment>", DocumentScope::Api, "a").expect("a document");
        assert_eq!(fragment.scope, DocumentScope::Fragment);
        let template =
            PolicyDocument::read(0, "a.xml", "<policies>%{ if x }</policies>", DocumentScope::Api, "a").expect("a document");
        assert_eq!(template.problems.len(), 1);
    }
}
