//! Annotations and a summary for GitHub Actions, which reads none of the formats for CI systems.

use std::{
    fmt::Write as _,
    path::{Component, Path, PathBuf},
};

use super::{
    report::{Outcomes, count, lines},
    text,
};

/// Returns the commands that show failed cases at their lines. Files are named from this folder, and GitHub finds them from that of the repository.
pub(super) fn annotations(outcomes: &Outcomes, here: &Path, repository: Option<&Path>) -> String {
    let mut commands = String::new();
    for (document, case, result) in outcomes.each() {
        let Some(failure) = &result.failure else { continue };
        // Writing to a string cannot fail.
        let _ = writeln!(
            commands,
            "::error file={},line={},title={}::{}",
            property(&in_repository(&case.file, here, repository)),
            case.line,
            property(&case.name),
            data(&lines(document, failure).join("\n"))
        );
    }
    commands
}

/// Returns the name of a file within the repository; one outside keeps its name.
fn in_repository(file: &str, here: &Path, repository: Option<&Path>) -> String {
    let mut whole = PathBuf::new();
    for part in here.join(file).components() {
        match part {
            Component::CurDir => {}
            Component::ParentDir => _ = whole.pop(),
            part => whole.push(part),
        }
    }
    let within = repository.and_then(|repository| whole.strip_prefix(repository).ok());
    within.map_or_else(|| file.to_owned(), |within| within.display().to_string())
}

/// Returns the summary of the step, in Markdown.
pub(super) fn summary(outcomes: &Outcomes) -> String {
    let (cases, failed) = (outcomes.cases(), outcomes.failed());
    let mut markdown = format!("### entrada test: {} of {} hold\n\n", cases - failed, count(cases, "case", "cases"));
    if failed > 0 {
        markdown.push_str("| case | wanted | found |\n| --- | --- | --- |\n");
    }
    for (document, case, result) in outcomes.each() {
        for it in result.failure.iter().flat_map(|failure| &failure.differences) {
            let said = |text: &str| cell(&document.said(text));
            let wanted = format!("{} {}", it.field, it.wanted);
            let _ = writeln!(
                markdown,
                "| {} ({}:{}) | {} | {} |",
                cell(&case.name),
                cell(&case.file),
                case.line,
                said(&wanted),
                said(&it.found)
            );
        }
    }
    for suite in &outcomes.suites {
        if let Some(coverage) = &suite.coverage {
            let _ =
                writeln!(markdown, "\n{}: the cases touch {} % of the rules.", suite.suite.config.display(), coverage.percent());
        }
        if let Some(mutation) = &suite.mutation {
            let _ = write!(markdown, "\n{}: {}", suite.suite.config.display(), text::score(mutation));
        }
    }
    markdown
}

/// Escapes the value of a command's property.
fn property(text: &str) -> String {
    data(text).replace(':', "%3A").replace(',', "%2C")
}

/// Escapes the message of a command.
fn data(text: &str) -> String {
    text.replace('%', "%25").replace('\r', "%0D").replace('\n', "%0A")
}

/// Escapes a cell of a table.
fn cell(text: &str) -> String {
    let mut cell = String::new();
    for letter in text.chars() {
        match letter {
            '|' => cell.push_str("\\|"),
            '<' => cell.push_str("&lt;"),
            '&' => cell.push_str("&amp;"),
            letter if letter.is_control() => cell.push(' '),
            letter => cell.push(letter),
        }
    }
    cell
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_named_from_the_repository() {
        let named = |file: &str, repository| in_repository(file, Path::new("/home/runner/repository/gateway"), repository);
        let repository = Some(Path::new("/home/runner/repository"));

        assert_eq!(named("entrada.test.yaml", repository), "gateway/entrada.test.yaml");
        assert_eq!(named("./../other/a.test.yaml", repository), "other/a.test.yaml");
        assert_eq!(named("/elsewhere/a.test.yaml", repository), "/elsewhere/a.test.yaml");
        assert_eq!(named("entrada.test.yaml", None), "entrada.test.yaml");
    }

    #[test]
    fn a_name_ends_no_command_and_no_cell() {
        assert_eq!(property("100 %: a, b\n::error::"), "100 %25%3A a%2C b%0A%3A%3Aerror%3A%3A");
        assert_eq!(cell("a | <b>\n"), "a \\| &lt;b> ");
    }
}
