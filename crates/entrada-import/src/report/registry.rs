//! The register of elements and expressions: each is entered before anything is translated, so that none can be forgotten.

use std::collections::HashMap;

use super::{Entry, EntryKind, Verdict};
use crate::{
    policy::PolicyDocument,
    xml::{Element, Node, Text},
};

/// The longest excerpt, in characters.
const EXCERPT: usize = 120;

/// A verdict with its reason.
#[derive(Clone, Debug)]
pub(crate) struct Judgement {
    pub(crate) verdict: Verdict,
    pub(crate) code: String,
    pub(crate) reason: String,
    pub(crate) advice: String,
}

impl Judgement {
    /// Makes a judgement without a reason.
    pub(crate) fn same() -> Self {
        Self { verdict: Verdict::Same, code: String::new(), reason: String::new(), advice: String::new() }
    }

    pub(crate) fn new(verdict: Verdict, code: &str, reason: impl Into<String>, advice: impl Into<String>) -> Self {
        Self { verdict, code: code.to_owned(), reason: reason.into(), advice: advice.into() }
    }
}

/// All elements and expressions, by document and offset.
#[derive(Debug, Default)]
pub(crate) struct Registry {
    entries: Vec<Entry>,
    judged: Vec<bool>,
    parents: Vec<Option<usize>>,
    elements: HashMap<(usize, usize), usize>,
    expressions: HashMap<(usize, usize), usize>,
    /// The number of elements and expressions of the documents.
    pub(crate) found: (usize, usize),
}

impl Registry {
    /// Enters all of a document.
    pub(crate) fn enter(&mut self, document: &PolicyDocument) {
        let (elements, expressions) = count(&document.root);
        self.found.0 += elements;
        self.found.1 += expressions;
        self.element(document, &document.root, None, "", "");
    }

    fn element(
        &mut self,
        document: &PolicyDocument,
        element: &Element,
        parent: Option<usize>,
        path: &str,
        section: &'static str,
    ) {
        let id = self.push(document, (element.start, element.end), EntryKind::Element, &element.name, path, section);
        self.parents[id] = parent;
        self.elements.insert((document.id, element.start), id);
        for attribute in &element.attributes {
            self.expression(document, &attribute.value, id, &element.name, path, section);
        }
        let mut counts: HashMap<&str, usize> = HashMap::new();
        for node in &element.children {
            match node {
                Node::Text(text) => self.expression(document, text, id, &element.name, path, section),
                Node::Element(inner) => {
                    let count = counts.entry(&inner.name).or_default();
                    *count += 1;
                    let own = match inner.name.as_str() {
                        "inbound" => "inbound",
                        "backend" => "backend",
                        "outbound" => "outbound",
                        "on-error" => "on-error",
                        _ => section,
                    };
                    let is_section = section.is_empty() && own != section;
                    let step = if is_section { inner.name.clone() } else { format!("{}[{count}]", inner.name) };
                    let path = if path.is_empty() { step } else { format!("{path}/{step}") };
                    self.element(document, inner, Some(id), &path, if section.is_empty() { own } else { section });
                }
            }
        }
    }

    fn expression(
        &mut self,
        document: &PolicyDocument,
        text: &Text,
        parent: usize,
        element: &str,
        path: &str,
        section: &'static str,
    ) {
        let Some(expression) = text.expression() else { return };
        let start = text.content_start();
        let id = self.push(document, (start, start + expression.len()), EntryKind::Expression, element, path, section);
        self.parents[id] = Some(parent);
        self.expressions.insert((document.id, text.start), id);
    }

    fn push(
        &mut self,
        document: &PolicyDocument,
        (start, end): (usize, usize),
        kind: EntryKind,
        element: &str,
        path: &str,
        section: &'static str,
    ) -> usize {
        let (line, column) = document.lines.place(start);
        let (end_line, _) = document.lines.place(end);
        self.entries.push(Entry {
            file: document.file.clone(),
            line,
            column,
            end_line,
            scope: document.scope.word(),
            owner: document.owner.clone(),
            section,
            element: element.to_owned(),
            path: path.to_owned(),
            kind,
            verdict: Verdict::Same,
            code: String::new(),
            reason: String::new(),
            advice: String::new(),
            security: kind == EntryKind::Element && crate::kinds::is_security(element),
            yaml: None,
            needs: Vec::new(),
            excerpt: document.excerpt(start, EXCERPT),
        });
        self.judged.push(false);
        self.parents.push(None);
        self.entries.len() - 1
    }

    /// Adds a resource, judged.
    pub(crate) fn resource(&mut self, entry: Entry) {
        self.entries.push(entry);
        self.judged.push(true);
        self.parents.push(None);
    }

    /// Returns the entry of an element.
    pub(crate) fn of_element(&self, document: usize, element: &Element) -> Option<usize> {
        self.elements.get(&(document, element.start)).copied()
    }

    /// Judges an element or expression; of several judgements the worst counts.
    pub(crate) fn judge(&mut self, id: usize, judgement: &Judgement) {
        let entry = &mut self.entries[id];
        if !self.judged[id] || judgement.verdict > entry.verdict {
            entry.verdict = judgement.verdict;
            entry.code.clone_from(&judgement.code);
            entry.reason.clone_from(&judgement.reason);
            entry.advice.clone_from(&judgement.advice);
        }
        self.judged[id] = true;
    }

    pub(crate) fn judge_element(&mut self, document: usize, element: &Element, judgement: &Judgement) {
        if let Some(id) = self.of_element(document, element) {
            self.judge(id, judgement);
        }
    }

    pub(crate) fn judge_expression(&mut self, document: usize, text: &Text, judgement: &Judgement) {
        if let Some(id) = self.expressions.get(&(document, text.start)).copied() {
            self.judge(id, judgement);
        }
    }

    /// Judges all that stands within an element and has no judgement of its own.
    pub(crate) fn judge_within(&mut self, document: usize, element: &Element, judgement: &Judgement) {
        let judge_text = |registry: &mut Self, text: &Text| {
            if let Some(id) = registry.expressions.get(&(document, text.start)).copied()
                && !(registry.judged[id] && registry.entries[id].verdict == Verdict::Not)
            {
                registry.judge(id, judgement);
            }
        };
        element.attributes.iter().for_each(|attribute| judge_text(self, &attribute.value));
        for node in &element.children {
            match node {
                Node::Text(text) => judge_text(self, text),
                Node::Element(inner) => {
                    self.judge_element(document, inner, judgement);
                    self.judge_within(document, inner, judgement);
                }
            }
        }
    }

    /// Returns whether something has judged an entry.
    pub(crate) fn is_judged(&self, id: usize) -> bool {
        self.judged[id]
    }

    /// Returns the element around an expression.
    pub(crate) fn around(&self, document: usize, text: &Text) -> Option<usize> {
        self.expressions.get(&(document, text.start)).and_then(|id| self.parents[*id])
    }

    /// Adds a name that an element needs.
    pub(crate) fn need(&mut self, id: usize, name: &str) {
        let needs = &mut self.entries[id].needs;
        if !needs.iter().any(|own| own == name) {
            needs.push(name.to_owned());
        }
    }

    /// Notes the place in the config that an element became.
    pub(crate) fn place(&mut self, id: usize, pointer: &str) {
        self.entries[id].yaml.get_or_insert_with(|| pointer.to_owned());
    }

    /// Returns file, line and column of an entry.
    pub(crate) fn position(&self, id: usize) -> (String, usize, usize) {
        let entry = &self.entries[id];
        (entry.file.clone(), entry.line, entry.column)
    }

    /// Returns the entries by position. What nothing has judged takes part in what is around it; a document that nothing has read
    /// is not translated.
    pub(crate) fn finish(mut self) -> Vec<Entry> {
        let unread = Judgement::new(
            Verdict::Not,
            "unreached",
            "no API, product or fragment of the import leads here",
            "import it together with what uses it",
        );
        for id in 0..self.entries.len() {
            if self.judged[id] {
                continue;
            }
            let judgement = match self.parents[id] {
                Some(parent) => {
                    let around = &self.entries[parent];
                    Judgement {
                        verdict: around.verdict,
                        code: around.code.clone(),
                        reason: around.reason.clone(),
                        advice: around.advice.clone(),
                    }
                }
                None => unread.clone(),
            };
            self.judge(id, &judgement);
        }
        for id in 0..self.entries.len() {
            if let (None, Some(parent)) = (&self.entries[id].yaml, self.parents[id])
                && self.entries[id].verdict != Verdict::Not
            {
                self.entries[id].yaml = self.entries[parent].yaml.clone();
            }
            if self.entries[id].verdict == Verdict::Not {
                self.entries[id].yaml = None;
            }
        }
        let place = |entry: &Entry| (entry.file.clone(), entry.line, entry.column, entry.kind, entry.path.clone());
        self.entries.sort_by_cached_key(place);
        self.entries
    }
}

/// Counts the elements and expressions of an element, itself included.
fn count(element: &Element) -> (usize, usize) {
    let mut elements = 1;
    let mut expressions = element.attributes.iter().filter(|attribute| attribute.value.expression().is_some()).count();
    for node in &element.children {
        match node {
            Node::Text(text) => expressions += usize::from(text.expression().is_some()),
            Node::Element(inner) => {
                let (more, also) = count(inner);
                elements += more;
                expressions += also;
            }
        }
    }
    (elements, expressions)
}
