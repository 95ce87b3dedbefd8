//! The common part of the formats: the results, and their parts in words.

use std::time::Duration;

use crate::{
    cases::{Case, CaseResult, Failure, Suite, coverage::Coverage, mutation::Mutation},
    config::Document,
    refusal::trace::{Step, Verdict},
    settings::Place,
};

/// The results of a command.
pub(super) struct Outcomes {
    pub(super) suites: Vec<SuiteOutcome>,
    pub(super) duration: Duration,
}

/// The results of one config.
pub(super) struct SuiteOutcome {
    pub(super) suite: Suite,
    /// The results, by the index of their case.
    pub(super) results: Vec<(usize, CaseResult)>,
    pub(super) coverage: Option<Coverage>,
    pub(super) mutation: Option<Mutation>,
}

impl SuiteOutcome {
    /// Returns the cases with their results.
    pub(super) fn cases(&self) -> impl Iterator<Item = (&Case, &CaseResult)> {
        self.results.iter().filter_map(|(index, result)| Some((self.suite.cases.get(*index)?, result)))
    }
}

impl Outcomes {
    /// Returns the cases with their results, and the config that they test.
    pub(super) fn each(&self) -> impl Iterator<Item = (&Document, &Case, &CaseResult)> {
        self.suites.iter().flat_map(|suite| suite.cases().map(|(case, result)| (&suite.suite.document, case, result)))
    }

    /// Returns the number of cases.
    pub(super) fn cases(&self) -> usize {
        self.suites.iter().map(|suite| suite.results.len()).sum()
    }

    /// Returns the number of cases that do not hold.
    pub(super) fn failed(&self) -> usize {
        self.each().filter(|(_, _, result)| result.failure.is_some()).count()
    }

    /// Returns the lowest coverage of a config, in percent.
    pub(super) fn covered(&self) -> usize {
        self.suites.iter().filter_map(|suite| suite.coverage.as_ref().map(Coverage::percent)).min().unwrap_or(0)
    }

    /// Returns the lowest score of a config, in percent; 0 where cases fail, since mutants then show nothing.
    pub(super) fn score(&self) -> usize {
        self.suites.iter().map(|suite| suite.mutation.as_ref().map_or(0, Mutation::score)).min().unwrap_or(0)
    }
}

/// Returns the differences and steps of a failed case, one a line, without the config's secrets.
pub(super) fn lines(document: &Document, failure: &Failure) -> Vec<String> {
    let mut lines = Vec::new();
    let (number, all) = failure.request;
    if all > 1 {
        lines.push(format!("request  {number} of {all}"));
    }
    for difference in &failure.differences {
        lines.push(format!("wanted   {} {}", difference.field, difference.wanted));
        lines.push(format!("found    {}", difference.found));
    }
    lines.extend(failure.because.iter().map(|because| format!("because  {because}")));
    lines.extend(failure.steps.iter().map(|step| step_line(document, step)));
    lines.iter().map(|line| plain(&document.said(line))).collect()
}

fn step_line(document: &Document, step: &Step) -> String {
    let mark = match step.verdict {
        Verdict::Passed | Verdict::Answered => '✓',
        Verdict::Refused(_) => '✗',
        Verdict::WouldRefuse(_) => '!',
    };
    let place = step.place.as_ref().map(|place| position(document, place)).unwrap_or_default();
    let said = match step.verdict {
        Verdict::Refused(reason) | Verdict::WouldRefuse(reason) if step.detail.is_empty() => reason.code().to_owned(),
        Verdict::Refused(reason) | Verdict::WouldRefuse(reason) => format!("{reason}: {}", step.detail),
        Verdict::Passed | Verdict::Answered => step.detail.to_string(),
    };
    format!("{mark} {:<38} {place:<24} {said}", step.at).trim_end().to_owned()
}

/// Returns the file and line of a setting.
pub(super) fn position(document: &Document, place: &Place) -> String {
    document.position(place).map_or_else(String::new, |(file, line, _)| format!("{file}:{line}"))
}

/// Returns the text without letters that a terminal or a parser would take for more than text.
pub(super) fn plain(text: &str) -> String {
    text.chars().map(|letter| if letter.is_control() { '\u{fffd}' } else { letter }).collect()
}

/// Returns a number with its noun.
pub(super) fn count(number: usize, one: &str, many: &str) -> String {
    format!("{number} {}", if number == 1 { one } else { many })
}
