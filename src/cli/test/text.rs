//! The report for people.

use std::fmt::Write as _;

use super::report::{Outcomes, SuiteOutcome, count, lines, plain, position};
use crate::{
    cases::{coverage::Coverage, mutation::Mutation},
    config::Document,
};

/// Renders the report: the cases that do not hold, and the totals.
pub(super) fn render(outcomes: &Outcomes, colours: bool) -> String {
    let (red, green, end) = if colours { ("\u{1b}[31m", "\u{1b}[32m", "\u{1b}[0m") } else { ("", "", "") };
    let mut text = String::new();
    for (document, case, result) in outcomes.each() {
        let Some(failure) = &result.failure else { continue };
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{red}✗ {}{end}   {}:{}", case.name, case.file, case.line);
        for line in lines(document, failure) {
            let _ = writeln!(text, "      {line}");
        }
    }
    let (cases, failed) = (outcomes.cases(), outcomes.failed());
    let colour = if failed == 0 { green } else { red };
    let _ = writeln!(
        text,
        "{colour}{}, {}, {}{end}; {} ms",
        count(cases, "case", "cases"),
        count(cases - failed, "holds", "hold"),
        count(failed, "does not", "do not"),
        outcomes.duration.as_millis()
    );
    for suite in &outcomes.suites {
        let several = outcomes.suites.len() > 1;
        if several && (suite.coverage.is_some() || suite.mutation.is_some()) {
            let _ = writeln!(text, "\n{}", suite.suite.config.display());
        }
        if let Some(coverage) = &suite.coverage {
            text.push_str(&rules(&suite.suite.document, coverage));
        }
        text.push_str(&changes(suite));
    }
    text
}

/// Renders the rules that no case touches.
fn rules(document: &Document, coverage: &Coverage) -> String {
    let mut text = String::new();
    let missing: Vec<_> = coverage.missing().collect();
    if !missing.is_empty() {
        text.push_str("\nno case touches\n");
        let places: Vec<_> = missing.iter().map(|missing| position(document, &missing.place)).collect();
        let width = places.iter().map(String::len).max().unwrap_or(0);
        let what = missing.iter().map(|missing| missing.what.chars().count()).max().unwrap_or(0).min(60);
        for (missing, place) in missing.iter().zip(places) {
            let _ = writeln!(text, "   {place:<width$}   {:<what$}   {}", missing.what, missing.said);
        }
    }
    let share = |touched: usize, total: usize| format!("{touched} of {total}");
    let of = |part: &crate::cases::coverage::Part| share(part.touched(), part.total);
    let _ = writeln!(
        text,
        "{} routes; {} entries have passed, {} have refused; {} branches; {} codes; {} elements of lists: {} %",
        of(&coverage.routes),
        of(&coverage.passed),
        of(&coverage.refused),
        of(&coverage.branches),
        of(&coverage.codes),
        of(&coverage.list_items),
        coverage.percent()
    );
    text
}

/// Renders the changes that no case notices.
fn changes(suite: &SuiteOutcome) -> String {
    let Some(mutation) = &suite.mutation else { return String::new() };
    let document = &suite.suite.document;
    let mut text = String::new();
    let survivors: Vec<_> = mutation.survivors().collect();
    if !survivors.is_empty() {
        text.push_str("\nno case notices\n");
    }
    for (mutant, witness) in &survivors {
        let _ = writeln!(text, "   {}   {}", position(document, &mutant.place), plain(&document.said(&mutant.change)));
        match witness {
            Some(witness) => {
                let _ = writeln!(text, "         {}", plain(&document.said(&witness.request)));
                let (before, after) = (document.said(&witness.before), document.said(&witness.after));
                let _ = writeln!(text, "         before   {}\n         after    {}", plain(&before), plain(&after));
            }
            None => text.push_str("         no request like those of the cases tells the two apart\n"),
        }
    }
    text.push_str(&score(mutation));
    text
}

/// Returns the line of the score.
pub(super) fn score(mutation: &Mutation) -> String {
    let (killed, survived) = (mutation.killed(), mutation.survivors().count());
    format!(
        "{} of {} are noticed: {} %; {} make no difference, {} would be no usable config; {} ms\n",
        killed,
        count(killed + survived, "change", "changes"),
        mutation.score(),
        mutation.equivalent(),
        mutation.unusable(),
        mutation.duration.as_millis()
    )
}
