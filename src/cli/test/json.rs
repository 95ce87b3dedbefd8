//! The report for machines.

use std::time::Duration;

use serde_json::{Value, json};

use super::report::{Outcomes, SuiteOutcome, plain};
use crate::{
    cases::{Case, CaseResult},
    config::Document,
    refusal::trace::{Step, Verdict},
};

/// Renders the report. With one config, its coverage and mutants stand beside the cases; with several, below `configs`.
pub(super) fn render(outcomes: &Outcomes) -> Value {
    let failed = outcomes.failed();
    let cases: Vec<_> = outcomes.each().map(|(document, case, result)| one(document, case, result)).collect();
    let mut value = json!({
        "passed": outcomes.cases() - failed,
        "failed": failed,
        // What keeps cases from running ends the command before there is a report.
        "errors": 0,
        "duration_ms": milliseconds(outcomes.duration),
        "cases": cases,
    });
    match outcomes.suites.as_slice() {
        [suite] => measured(suite, &mut value),
        suites => {
            let configs = suites.iter().map(|suite| {
                let mut value = json!({ "config": suite.suite.config.display().to_string() });
                measured(suite, &mut value);
                value
            });
            value["configs"] = configs.collect();
        }
    }
    value
}

fn measured(suite: &SuiteOutcome, value: &mut Value) {
    if let Some(coverage) = &suite.coverage {
        value["coverage"] = coverage.to_json(&suite.suite.document);
    }
    if let Some(mutation) = &suite.mutation {
        value["mutants"] = mutation.to_json(&suite.suite);
        value["mutation"] = json!({
            "killed": mutation.killed(),
            "survived": mutation.survivors().count(),
            "equivalent": mutation.equivalent(),
            "unusable": mutation.unusable(),
            "score": mutation.score(),
            "duration_ms": milliseconds(mutation.duration),
        });
    }
}

fn one(document: &Document, case: &Case, result: &CaseResult) -> Value {
    let said = |text: &str| plain(&document.said(text));
    let mut value = json!({
        "name": case.name,
        "file": case.file,
        "line": case.line,
        "passed": result.failure.is_none(),
        "duration_us": u64::try_from(result.duration.as_micros()).unwrap_or(u64::MAX),
        "differences": [],
    });
    if let Some(failure) = &result.failure {
        value["request"] = json!(failure.request.0);
        value["differences"] = failure
            .differences
            .iter()
            .map(|it| json!({ "field": it.field, "wanted": said(&it.wanted), "found": said(&it.found) }))
            .collect();
        value["because"] = failure.because.iter().map(|it| said(it)).collect();
        value["steps"] = failure.steps.iter().map(|it| step(document, it)).collect();
    }
    value
}

fn step(document: &Document, step: &Step) -> Value {
    let (outcome, code) = match step.verdict {
        Verdict::Passed => ("passed", None),
        Verdict::Refused(reason) => ("refused", Some(reason.code())),
        Verdict::WouldRefuse(reason) => ("would-refuse", Some(reason.code())),
        Verdict::Answered => ("answered", None),
    };
    let place = step.place.as_ref().and_then(|place| document.position(place));
    json!({
        "at": &*step.at,
        "outcome": outcome,
        "code": code,
        "reason": plain(&document.said(&step.detail)),
        "place": place.map(|(file, line, column)| json!({ "file": file, "line": line, "column": column })),
    })
}

fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
