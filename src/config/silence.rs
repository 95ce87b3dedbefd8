//! Silences of lints: findings that are accepted by name, each with its reason, and until a day where one is given.

use std::collections::HashMap;

use schemars::JsonSchema;
use serde::Deserialize;

use super::{Config, report::Report, silence_comment::comments};
use crate::settings::{
    Date, Finding, Lint,
    fault::Place,
    node::{Kind, Node},
    origin::{Origin, Sources},
};

/// The findings of `check` that are accepted.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq, Eq)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct LintsConfig {
    /// The findings that are silenced, by code and place. A comment on the line does the same for one line:
    /// `# entrada: allow CODE because REASON`.
    pub allow: Vec<AllowedLintConfig>,
}

/// A finding that is silenced.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Eq)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct AllowedLintConfig {
    /// The code of the lint.
    pub code: Lint,
    /// The place, as `check` names it: `routes[orders].inbound[0]`, by name or index, or a JSON pointer; all that is below it counts,
    /// too. Default: the whole config.
    pub at: Option<String>,
    /// The reason why the finding is accepted.
    #[schemars(length(min = 1))]
    pub reason: String,
    /// The last day on which it is accepted, UTC. Default: without an end.
    pub until: Option<Date>,
}

/// A finding that is silenced, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Silenced {
    pub(super) finding: Finding,
    pub(super) reason: String,
    pub(super) until: Option<Date>,
    /// True if a comment of the file silences it.
    pub(super) in_source: bool,
}

/// The silences of a config.
#[derive(Clone, Debug, Default)]
pub(super) struct Silences {
    all: Vec<Silence>,
    names: Names,
}

/// A silence, as written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Silence {
    pub(super) lint: Lint,
    pub(super) reach: Reach,
    pub(super) reason: String,
    pub(super) until: Option<Date>,
    /// Where it is written.
    pub(super) at: Origin,
    pub(super) place: Place,
}

/// The findings that a silence concerns.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Reach {
    /// Those on one line of a file.
    Line { file: usize, line: usize },
    /// Those at this place and below it.
    Place(String),
    /// Those of the whole config.
    Everything,
}

impl Silences {
    /// Reads the comments of the files and the entries of the config. Comments that are no silence are findings.
    pub(super) fn read(document: &Node, config: Option<&Config>, sources: &Sources) -> (Self, Vec<Finding>) {
        let (mut all, invalid) = comments(document, sources);
        let written = config.map(|config| config.lints.allow.as_slice()).unwrap_or_default();
        for (index, allowed) in written.iter().enumerate() {
            let place = Place::root().key("lints").key("allow").index(index);
            let list = document.get("lints").and_then(|lints| lints.get("allow")).map(|allow| &allow.kind);
            let Some(node) = list.and_then(|list| if let Kind::List(list) = list { list.get(index) } else { None }) else {
                continue;
            };
            // What stands in for a code that is none has an error of its own, and silences nothing.
            let code = node.get("code").map(|code| &code.kind);
            if !matches!(code, Some(Kind::Text(text)) if text.value == allowed.code.code()) {
                continue;
            }
            all.push(Silence {
                lint: allowed.code,
                reach: allowed.at.clone().map_or(Reach::Everything, Reach::Place),
                reason: allowed.reason.trim().to_owned(),
                until: allowed.until,
                at: node.get("code").unwrap_or(node).at.clone(),
                place: place.key("code"),
            });
        }
        (Self { all, names: config.map(Names::of).unwrap_or_default() }, invalid)
    }

    /// Takes the silenced findings out of a report. `whole`: the report has all findings of the config, so that a silence without any is
    /// unused.
    pub(super) fn apply(
        &self,
        findings: Vec<Finding>,
        now: u64,
        whole: bool,
        sources: &Sources,
    ) -> (Vec<Finding>, Vec<Silenced>) {
        let mut used = vec![false; self.all.len()];
        let (mut told, mut silenced) = (Vec::new(), Vec::new());
        for finding in findings {
            let silence = self.all.iter().enumerate().filter(|(_, silence)| self.concerns(silence, &finding, sources));
            let mut matching = silence.inspect(|(index, _)| used[*index] = true).map(|(_, silence)| silence).collect::<Vec<_>>();
            matching.retain(|silence| silence.holds(now));
            match matching.first() {
                Some(silence) => silenced.push(Silenced {
                    finding,
                    reason: silence.reason.clone(),
                    until: silence.until,
                    in_source: matches!(silence.reach, Reach::Line { .. }),
                }),
                None => told.push(finding),
            }
        }
        for (silence, used) in self.all.iter().zip(used) {
            told.extend(silence.complaint(used || !whole, now));
        }
        (told, silenced)
    }

    fn concerns(&self, silence: &Silence, finding: &Finding, sources: &Sources) -> bool {
        if silence.lint != finding.lint || !finding.lint.can_be_silenced() {
            return false;
        }
        match &silence.reach {
            Reach::Everything => true,
            Reach::Line { file, line } => finding
                .origin
                .as_ref()
                .is_some_and(|origin| origin.file == *file && sources.line_column(origin.file, origin.start).0 == *line),
            Reach::Place(at) => {
                let (indexed, named) = (finding.place.to_string(), self.names.of_place(&finding.place));
                is_within(finding.place.pointer(), at)
                    || is_within(&indexed, at)
                    || named.is_some_and(|named| is_within(&named, at))
            }
        }
    }
}

impl Silence {
    fn holds(&self, now: u64) -> bool {
        self.until.is_none_or(|day| now < day.end())
    }

    /// Returns the finding about a silence that is without effect.
    fn complaint(&self, used: bool, now: u64) -> Option<Finding> {
        let code = self.lint.code();
        let (lint, message, cure) = match self.until.filter(|_| !self.holds(now)) {
            Some(day) => {
                let message = format!("`{code}` was silenced until {day}, and that day has passed");
                (Lint::SilenceExpired, message, "mend what it is about, or give a later day")
            }
            None if !self.lint.can_be_silenced() => {
                (Lint::SilenceInvalid, format!("`{code}` cannot be silenced"), "remove the silence, and mend what it is about")
            }
            None if !used => (Lint::SilenceUnused, format!("nothing is found here that is `{code}`"), "remove the silence"),
            None => return None,
        };
        Some(Finding::warning(lint, self.at.clone(), &self.place, message, cure))
    }
}

/// Returns whether a place is the outer one, or below it.
fn is_within(place: &str, outer: &str) -> bool {
    place.strip_prefix(outer).is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[', '/']))
}

/// The names of entries of lists, by section.
#[derive(Clone, Debug, Default)]
pub(super) struct Names(HashMap<&'static str, Vec<String>>);

impl Names {
    fn of(config: &Config) -> Self {
        let routes = config.routes.iter().map(|route| route.name.clone()).collect();
        let listeners = config.listeners.iter().map(|listener| listener.name.clone()).collect();
        Self(HashMap::from([("routes", routes), ("listeners", listeners)]))
    }

    /// Returns a place by the name of its entry instead of the index: `routes[orders].inbound[0]`.
    fn of_place(&self, place: &Place) -> Option<String> {
        let mut parts = place.pointer().splitn(4, '/').skip(1);
        let (section, index) = (parts.next()?, parts.next()?.parse::<usize>().ok()?);
        let name = self.0.get(section)?.get(index)?;
        let rest = parts.next().map(|rest| format!(".{}", Place::from(format!("/{rest}")))).unwrap_or_default();
        Some(format!("{section}[{name}]{rest}"))
    }
}

impl Report {
    /// Takes the silenced findings out.
    pub(super) fn silence(self, silences: &Silences, now: u64, whole: bool) -> Self {
        let whole = whole && self.errors() == 0;
        self.replaced(|findings, sources| silences.apply(findings, now, whole, sources))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_holds_what_is_below_it_and_no_neighbour() {
        for (place, outer, expected) in [
            ("routes[1].inbound[0].ip-filter", "routes[1]", true),
            ("routes[1].inbound[0].ip-filter", "routes[1].inbound[0].ip-filter", true),
            ("routes[10].inbound[0]", "routes[1]", false),
            ("routes[1].inbounds", "routes[1].inbound", false),
            ("/routes/1/inbound", "/routes/1", true),
            ("/routes/10", "/routes/1", false),
        ] {
            assert_eq!(is_within(place, outer), expected, "{place} {outer}");
        }
    }
}
