//! Entries of the report, and their sums.

use std::collections::BTreeMap;

/// The fate of an element or an expression.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Verdict {
    /// The same decision and the same request to the backend.
    Same,
    /// The same decision and request; something else differs.
    Note,
    /// Translated, with a difference that is told.
    Changed,
    /// Not translated.
    Not,
}

impl Verdict {
    /// Returns the word of the report.
    pub fn word(self) -> &'static str {
        match self {
            Self::Same => "same",
            Self::Note => "note",
            Self::Changed => "changed",
            Self::Not => "not",
        }
    }
}

/// The kind of an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum EntryKind {
    /// An element of a policy document.
    Element,
    /// An expression.
    Expression,
    /// A resource: an API, an operation, a backend, a subscription.
    Resource,
}

impl EntryKind {
    /// Returns the word of the report.
    pub fn word(self) -> &'static str {
        match self {
            Self::Element => "element",
            Self::Expression => "expression",
            Self::Resource => "resource",
        }
    }
}

/// An element, an expression or a resource, and what became of it.
#[derive(Clone, Debug)]
pub struct Entry {
    /// The file, relative to what was given.
    pub file: String,
    /// The line, counted from 1.
    pub line: usize,
    /// The column, counted from 1.
    pub column: usize,
    /// The last line.
    pub end_line: usize,
    /// The scope: `global`, `product`, `api`, `operation` or `fragment`.
    pub scope: &'static str,
    /// The API, operation, product or fragment.
    pub owner: String,
    /// The section: `inbound`, `backend`, `outbound`, `on-error`; empty for resources.
    pub section: &'static str,
    /// The name of the element, or of the one that holds the expression.
    pub element: String,
    /// The way to it: `inbound/choose[1]/when[2]/set-header[1]`.
    pub path: String,
    /// The kind.
    pub kind: EntryKind,
    /// The verdict.
    pub verdict: Verdict,
    /// The stable code of the reason; empty if there is none.
    pub code: String,
    /// The reason, in a sentence.
    pub reason: String,
    /// The advice, in a sentence.
    pub advice: String,
    /// Whether it restricts or grants access.
    pub security: bool,
    /// A JSON pointer into the config; `None` if nothing was written.
    pub yaml: Option<String>,
    /// Names that were asked for.
    pub needs: Vec<String>,
    /// The begin of the source, with what may be secret masked.
    pub excerpt: String,
}

/// A finding about a dangerous original.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Lint {
    /// The file.
    pub file: String,
    /// The line.
    pub line: usize,
    /// The stable code: `L1` to `L17`.
    pub code: &'static str,
    /// The finding, in a sentence.
    pub message: String,
}

/// Something that a person has to supply.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Need {
    /// The kind: `named-value`, `fragment`, `backend`, `partner`, `secret`.
    pub kind: &'static str,
    /// The name.
    pub name: String,
    /// The advice: where it goes.
    pub advice: String,
}

/// Counts by verdict.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Translated alike.
    pub same: usize,
    /// With a note.
    pub note: usize,
    /// Changed.
    pub changed: usize,
    /// Not translated.
    pub not: usize,
}

impl Totals {
    /// Counts an entry.
    pub fn add(&mut self, verdict: Verdict) {
        *match verdict {
            Verdict::Same => &mut self.same,
            Verdict::Note => &mut self.note,
            Verdict::Changed => &mut self.changed,
            Verdict::Not => &mut self.not,
        } += 1;
    }

    /// Returns the number of entries.
    pub fn all(&self) -> usize {
        self.same + self.note + self.changed + self.not
    }
}

/// The report of an import.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// The entries, by file and position.
    pub entries: Vec<Entry>,
    /// The dangerous originals.
    pub lints: Vec<Lint>,
    /// The things that a person has to supply.
    pub needs: Vec<Need>,
    /// The policy documents, each with its scope.
    pub documents: Vec<(String, &'static str)>,
    /// The variables' names there and here, where they differ.
    pub renamed: BTreeMap<String, String>,
    /// The number of routes.
    pub routes: usize,
    /// The routes that stand for several operations, each with the method and template of those.
    pub merged: Vec<(String, Vec<String>)>,
    /// The number of routes in which a refusal stands for something that was not translated.
    pub refused_routes: usize,
    /// The kinds of files that were seen and are out of scope, with counts.
    pub out_of_scope: BTreeMap<String, usize>,
    /// The number of elements and of expressions that the documents hold, counted apart from the entries.
    pub found: (usize, usize),
}

impl Report {
    /// Sums the entries of a kind.
    pub fn totals(&self, kind: EntryKind) -> Totals {
        let mut totals = Totals::default();
        self.entries.iter().filter(|entry| entry.kind == kind).for_each(|entry| totals.add(entry.verdict));
        totals
    }

    /// Returns the worst verdict.
    pub fn worst(&self) -> Verdict {
        self.entries.iter().map(|entry| entry.verdict).max().unwrap_or(Verdict::Same)
    }

    /// Returns whether each element and expression of the documents has its entry.
    pub fn accounts_for_all(&self) -> bool {
        self.totals(EntryKind::Element).all() == self.found.0 && self.totals(EntryKind::Expression).all() == self.found.1
    }

    /// Returns the documents of which nothing is missing in the translation.
    pub fn whole_documents(&self) -> Vec<&str> {
        let lacking: std::collections::BTreeSet<&str> =
            self.entries.iter().filter(|entry| entry.verdict == Verdict::Not).map(|entry| entry.file.as_str()).collect();
        self.documents.iter().map(|(file, _)| file.as_str()).filter(|file| !lacking.contains(file)).collect()
    }

    /// Returns the reasons why something was not translated, the most frequent first.
    pub fn reasons(&self) -> Vec<(&str, usize)> {
        let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
        for entry in self.entries.iter().filter(|entry| entry.verdict == Verdict::Not && entry.code != "enclosed") {
            *counts.entry(&entry.code).or_default() += 1;
        }
        let mut reasons: Vec<_> = counts.into_iter().collect();
        reasons.sort_by_key(|(code, count)| (std::cmp::Reverse(*count), *code));
        reasons
    }
}
