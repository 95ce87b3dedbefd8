//! Reports of a config's faults, for people and for machines.

use crate::settings::Finding;
use std::{borrow::Cow, fmt, sync::Arc};

use annotate_snippets::{AnnotationKind, Group, Level, Renderer, Snippet, renderer::DecorStyle};
use serde_json::{Value, json};

use super::{document::Document, partial_check::PartialConfig, silence::Silenced};
use crate::settings::{
    fault::{Faults, Place, Severity},
    origin::Sources,
};

/// All findings, sorted by place, without duplicates. Its `Display` is the report for people, without colours.
#[derive(Clone)]
pub struct Report {
    findings: Vec<Finding>,
    /// The findings that are accepted by name.
    silenced: Vec<Silenced>,
    pub(super) sources: Arc<Sources>,
    /// True if the config's file could not be read at all.
    unread: bool,
    /// The readable rest of a faulty config.
    rest: Option<Arc<PartialConfig>>,
}

impl Report {
    pub(crate) fn new(mut findings: Vec<Finding>, sources: Arc<Sources>) -> Self {
        for finding in &mut findings {
            finding.say_no_secret(&sources);
        }
        // One slip can be seen from several sides, and an alias shows it at each use: the reader sees it once.
        findings.sort_by(|a, b| (&a.origin, &a.place, &a.message).cmp(&(&b.origin, &b.place, &b.message)));
        findings.dedup_by(|a, b| a.origin == b.origin && a.message == b.message && (a.origin.is_some() || a.place == b.place));
        Self { findings, silenced: Vec::new(), sources, unread: false, rest: None }
    }

    /// Returns the number of errors.
    pub fn errors(&self) -> usize {
        self.count(Severity::Error)
    }

    /// Returns the number of warnings.
    pub fn warnings(&self) -> usize {
        self.count(Severity::Warning)
    }

    /// Returns whether there are no findings.
    pub fn is_empty(&self) -> bool {
        self.findings.is_empty()
    }

    /// Makes the report of a config whose file cannot be read.
    pub(crate) fn unread(finding: Finding, sources: Arc<Sources>) -> Self {
        Self { unread: true, ..Self::new(vec![finding], sources) }
    }

    /// Returns whether the config's file could not be read at all.
    #[doc(hidden)]
    pub const fn is_unread(&self) -> bool {
        self.unread
    }

    /// Returns the number of findings that are silenced.
    pub fn silenced(&self) -> usize {
        self.silenced.len()
    }

    /// Replaces the findings by those that are told and those that are silenced.
    pub(super) fn replaced(self, split: impl FnOnce(Vec<Finding>, &Sources) -> (Vec<Finding>, Vec<Silenced>)) -> Self {
        let (told, silenced) = split(self.findings, &self.sources);
        let mut report = Self { rest: self.rest, unread: self.unread, ..Self::new(told, self.sources) };
        report.silenced = [self.silenced, silenced].concat();
        report
    }

    /// Joins this report and another one of the same config.
    #[must_use]
    #[doc(hidden)]
    pub fn and(self, other: &Self) -> Self {
        let findings = [self.findings, other.findings.clone()].concat();
        let silenced = [self.silenced, other.silenced.clone()].concat();
        Self { silenced, unread: self.unread, rest: self.rest, ..Self::new(findings, self.sources) }
    }

    /// Returns the findings.
    pub fn findings(&self) -> &[Finding] {
        &self.findings
    }

    /// Attaches the readable rest of the config.
    pub(crate) fn beside(self, rest: PartialConfig) -> Self {
        Self { rest: Some(Arc::new(rest)), ..self }
    }

    /// Adds the faults that `build` finds in the readable rest of the config, so that one fault does not hide another.
    #[must_use]
    #[doc(hidden)]
    pub fn with_the_rest(self, build: impl FnOnce(&Document, &mut Faults)) -> Self {
        let Some(rest) = self.rest.clone() else { return self };
        let (mut all, mut own) = (Faults::default(), Faults::default());
        build(&rest.document, &mut all);
        all.iter().filter_map(|fault| rest.as_written(fault)).for_each(|fault| own.add(fault));
        let more = rest.document.report(&own);
        self.and(&more)
    }

    fn count(&self, severity: Severity) -> usize {
        self.findings.iter().filter(|finding| finding.severity == severity).count()
    }

    /// Renders the report for people: each fault with its lines, and at the end the totals. Empty if there are no findings.
    pub fn render(&self, colours: bool) -> String {
        if self.is_empty() {
            return String::new();
        }
        let renderer = if colours { Renderer::styled() } else { Renderer::plain() }.decor_style(DecorStyle::Ascii);
        let mut text = String::new();
        for finding in &self.findings {
            text.push_str(&self.render_one(finding, &renderer));
            text.push_str("\n\n");
        }
        text.push_str(&self.summary());
        text.push('\n');
        text
    }

    fn render_one(&self, finding: &Finding, renderer: &Renderer) -> String {
        let level = match finding.severity {
            Severity::Error => Level::ERROR,
            Severity::Warning => Level::WARNING,
        };
        let title = level.primary_title(finding.message.as_str());
        // Of an error there is nothing to silence.
        let code = (!finding.is_error()).then(|| Level::NOTE.message(format!("`{}` in docs/lints.md", finding.lint)));
        let Some(origin) = &finding.origin else {
            let cure = finding.cure.as_deref().map(|cure| Level::HELP.message(cure));
            let place = (finding.place != Place::root()).then(|| Level::NOTE.message(format!("at `{}`", finding.place)));
            return renderer.render(&[Group::with_title(title).elements(place).elements(cure).elements(code)]);
        };
        let mut group = Group::with_title(title).element(
            self.snippet(origin.file).annotation(AnnotationKind::Primary.span(self.sources.first_line(origin))).annotations(
                finding
                    .related
                    .iter()
                    .filter(|(other, _)| other.file == origin.file)
                    .map(|(other, label)| AnnotationKind::Context.span(self.sources.first_line(other)).label(label)),
            ),
        );
        for (other, label) in finding.related.iter().filter(|(other, _)| other.file != origin.file) {
            let range = self.sources.first_line(other);
            group = group.element(self.snippet(other.file).annotation(AnnotationKind::Context.span(range).label(label)));
        }
        if let Some(cure) = finding.cure.as_deref() {
            group = group.element(Level::HELP.message(cure));
        }
        renderer.render(&[group.elements(code)])
    }

    fn snippet<'a>(&'a self, file: usize) -> Snippet<'a, annotate_snippets::Annotation<'a>> {
        Snippet::source(self.sources.shown(file)).path(self.sources.get(file).name.as_str())
    }

    /// `2 errors, 1 warning, 1 silenced`.
    pub fn summary(&self) -> String {
        let count = |number: usize, word: &str| format!("{number} {word}{}", if number == 1 { "" } else { "s" });
        let told = match (self.errors(), self.warnings()) {
            (0, 0) => "no faults".to_owned(),
            (errors, 0) => count(errors, "error"),
            (0, warnings) => count(warnings, "warning"),
            (errors, warnings) => format!("{}, {}", count(errors, "error"), count(warnings, "warning")),
        };
        if self.silenced.is_empty() { told } else { format!("{told}, {} silenced", self.silenced.len()) }
    }

    /// Returns the report for machines: one object per fault.
    pub fn to_json(&self) -> Value {
        self.findings.iter().map(|finding| self.one_to_json(finding)).collect()
    }

    /// Returns the silenced findings for machines, each with the reason.
    pub fn silenced_to_json(&self) -> Value {
        let one = |silenced: &Silenced| {
            let mut value = self.one_to_json(&silenced.finding);
            value["reason"] = json!(self.sources.said(&silenced.reason, None));
            if let Some(day) = silenced.until {
                value["until"] = json!(day.to_string());
            }
            value
        };
        self.silenced.iter().map(one).collect()
    }

    pub(super) fn all_silenced(&self) -> &[Silenced] {
        &self.silenced
    }

    fn one_to_json(&self, finding: &Finding) -> Value {
        let severity = match finding.severity {
            Severity::Error => "error",
            Severity::Warning => "warning",
        };
        let mut value = json!({
            "severity": severity,
            "code": finding.code(),
            "message": finding.message,
            "place": self.sources.said(&finding.place.to_string(), finding.origin.as_ref()),
            "pointer": self.pointer(finding),
        });
        if let Some(cure) = &finding.cure {
            value["cure"] = json!(cure);
        }
        if let Some(origin) = &finding.origin {
            let (line, column) = self.sources.line_column(origin.file, origin.start);
            value["file"] = json!(self.sources.get(origin.file).name);
            value["line"] = json!(line);
            value["column"] = json!(column);
            value["text"] = json!(self.sources.shown(origin.file)[self.sources.first_line(origin)]);
        }
        if !finding.related.is_empty() {
            value["related"] = finding
                .related
                .iter()
                .map(|(origin, label)| {
                    let (line, column) = self.sources.line_column(origin.file, origin.start);
                    json!({ "file": self.sources.get(origin.file).name, "line": line, "column": column, "message": label })
                })
                .collect();
        }
        value
    }

    /// Returns the pointer of a finding, for machines; in the form for people if one of its keys must not be shown.
    pub(super) fn pointer(&self, finding: &Finding) -> String {
        match self.sources.said(&finding.place.to_string(), finding.origin.as_ref()) {
            Cow::Owned(said) => said,
            Cow::Borrowed(_) => finding.place.pointer().to_owned(),
        }
    }

    /// Returns one line per fault, `file:line:column: severity: message; cure`: for logs and tests.
    pub fn lines(&self) -> Vec<String> {
        self.findings
            .iter()
            .map(|finding| {
                let at = finding.origin.as_ref().map_or_else(String::new, |origin| {
                    let (line, column) = self.sources.line_column(origin.file, origin.start);
                    format!("{}:{line}:{column}: ", self.sources.get(origin.file).name)
                });
                let severity = match finding.severity {
                    Severity::Error => "",
                    Severity::Warning => "warning: ",
                };
                let cure = finding.cure.as_ref().map_or_else(String::new, |cure| format!("; {cure}"));
                format!("{at}{severity}{}{cure}", finding.message)
            })
            .collect()
    }

    /// Writes each fault to the log as one event.
    #[doc(hidden)]
    pub fn log(&self) {
        for finding in &self.findings {
            let position = finding.origin.as_ref().map(|origin| {
                let (line, column) = self.sources.line_column(origin.file, origin.start);
                format!("{}:{line}:{column}", self.sources.get(origin.file).name)
            });
            let at = (finding.place != Place::root()).then(|| finding.place.to_string());
            let at = at.as_deref().map(|at| self.sources.said(at, finding.origin.as_ref()));
            let (at, position, cure, code) = (at.as_deref(), position.as_deref(), finding.cure.as_deref(), finding.code());
            match finding.severity {
                Severity::Error => tracing::error!(at, position, cure, "{}", finding.message),
                Severity::Warning => tracing::warn!(at, position, cure, code, "{}", finding.message),
            }
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.render(false))
    }
}

impl fmt::Debug for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Report").field(&self.lines()).finish()
    }
}

impl std::error::Error for Report {}
