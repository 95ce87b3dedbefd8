//! The report in the Test Anything Protocol, version 14.

use std::fmt::Write as _;

use super::report::{Outcomes, lines};

/// Renders the report.
pub(super) fn render(outcomes: &Outcomes) -> String {
    let mut text = String::from("TAP version 14\n");
    // Writing to a string cannot fail.
    let _ = writeln!(text, "1..{}", outcomes.cases());
    for (index, (document, case, result)) in outcomes.each().enumerate() {
        let word = if result.failure.is_none() { "ok" } else { "not ok" };
        let _ = writeln!(text, "{word} {} - {}", index + 1, escaped(&case.name));
        let Some(failure) = &result.failure else { continue };
        text.push_str("  ---\n");
        let _ = writeln!(text, "  at: {}", quoted(&format!("{}:{}", case.file, case.line)));
        text.push_str("  differences:\n");
        for difference in &failure.differences {
            let said = |text: &str| quoted(&document.said(text));
            let _ = writeln!(
                text,
                "    - {{ field: {}, wanted: {}, found: {} }}",
                quoted(&difference.field),
                said(&difference.wanted),
                said(&difference.found)
            );
        }
        text.push_str("  message: |\n");
        for line in lines(document, failure) {
            let _ = writeln!(text, "    {line}");
        }
        text.push_str("  ...\n");
    }
    text
}

/// Escapes what begins a directive, and what escapes.
fn escaped(name: &str) -> String {
    name.replace('\\', "\\\\").replace('#', "\\#")
}

/// Returns a text as JSON, which is YAML, too.
fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_begin_no_directive() {
        assert_eq!(escaped("all # TODO \\ later"), "all \\# TODO \\\\ later");
    }
}
