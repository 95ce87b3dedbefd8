//! The report for CI systems, in the common subset of JUnit's XML that pytest calls `xunit2`.
//!
//! GitLab shows `classname` as the suite and drops repetitions of name and classname; Jenkins takes the last dot of a classname for
//! the end of a package; older readers show the text of a failure alone, and not its `message`. Hence: classname is the file
//! without its end and without dots, names are unique in a file, and the text says everything.

use std::fmt::Write as _;

use super::report::{Outcomes, lines, plain};
use crate::cases::{Case, CaseResult};

/// A case, its result, and what is told of its failure.
type ToldCase<'a> = (&'a Case, &'a CaseResult, String);

/// Renders the report.
pub(super) fn render(outcomes: &Outcomes) -> String {
    let seconds = outcomes.duration.as_secs_f64();
    let (cases, failed) = (outcomes.cases(), outcomes.failed());
    let mut text = String::from("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n");
    // Writing to a string cannot fail.
    let _ = writeln!(
        text,
        "<testsuites name=\"entrada\" tests=\"{cases}\" failures=\"{failed}\" errors=\"0\" time=\"{seconds:.6}\">"
    );
    let timestamp = jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%S");
    let mut files: Vec<(&str, Vec<ToldCase<'_>>)> = Vec::new();
    for (document, case, result) in outcomes.each() {
        let told = result.failure.as_ref().map_or_else(String::new, |failure| lines(document, failure).join("\n"));
        match files.last_mut().filter(|(file, _)| *file == case.file) {
            Some((_, cases)) => cases.push((case, result, told)),
            None => files.push((&case.file, vec![(case, result, told)])),
        }
    }
    for (file, cases) in files {
        let failed = cases.iter().filter(|(_, result, _)| result.failure.is_some()).count();
        let time: f64 = cases.iter().map(|(_, result, _)| result.duration.as_secs_f64()).sum();
        let _ = writeln!(
            text,
            "  <testsuite name=\"{}\" tests=\"{}\" failures=\"{failed}\" errors=\"0\" skipped=\"0\" time=\"{time:.6}\" timestamp=\"{timestamp}\">",
            escaped(file),
            cases.len()
        );
        for (case, result, told) in cases {
            one(&mut text, case, result, &told);
        }
        text.push_str("  </testsuite>\n");
    }
    text.push_str("</testsuites>\n");
    text
}

fn one(text: &mut String, case: &Case, result: &CaseResult, told: &str) {
    let _ = write!(
        text,
        "    <testcase name=\"{}\" classname=\"{}\" time=\"{:.6}\" file=\"{}\" line=\"{}\"",
        escaped(&case.name),
        escaped(&class(&case.file)),
        result.duration.as_secs_f64(),
        escaped(&case.file),
        case.line
    );
    let Some(failure) = &result.failure else {
        text.push_str("/>\n");
        return;
    };
    let message = failure.differences.first().map_or_else(String::new, |it| format!("{} is not {}", it.field, it.wanted));
    let _ = writeln!(
        text,
        ">\n      <failure message=\"{}\" type=\"unexpected\">{}</failure>\n    </testcase>",
        escaped(&plain(&message)),
        escaped(told)
    );
}

/// Returns the file's name without its end; dots would be taken for packages.
fn class(file: &str) -> String {
    let name = file.strip_suffix(".yaml").unwrap_or(file);
    let name = name.strip_suffix(".test").unwrap_or(name);
    name.trim_start_matches("./").replace('.', "_")
}

/// Escapes a text for an element or an attribute. Line ends stay: they are the only control characters in it.
fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            // XML 1.0, section 2.2: these are no characters of a document, however they are written.
            '\u{fffe}' | '\u{ffff}' => escaped.push('\u{fffd}'),
            letter if letter.is_control() && letter != '\n' => escaped.push('\u{fffd}'),
            letter => escaped.push(letter),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_escaped_and_have_no_control_characters() {
        assert_eq!(escaped("a<b> & \"c\"\u{1b}[31m\nd\u{ffff}"), "a&lt;b&gt; &amp; &quot;c&quot;\u{fffd}[31m\nd\u{fffd}");
    }

    #[test]
    fn the_class_is_the_file_without_dots() {
        for (file, expected) in [("orders.test.yaml", "orders"), ("./a/b.c.test.yaml", "a/b_c"), ("entrada.yaml", "entrada")] {
            assert_eq!(class(file), expected, "{file}");
        }
    }
}
