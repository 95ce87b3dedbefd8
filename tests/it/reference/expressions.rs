//! `docs/expressions.md`.

use entrada::unstable::expression::{Expression, limits};

use super::read;

const PAGE: &str = "docs/expressions.md";

/// Returns the lines of the page's blocks in this language.
fn block_lines(language: &str) -> Vec<String> {
    let (page, fence) = (read(PAGE), format!("```{language}\n"));
    let blocks = page.split(&fence).skip(1).map(|rest| rest.split("```").next().unwrap());
    blocks.flat_map(str::lines).filter(|line| !line.is_empty()).map(str::to_owned).collect()
}

#[test]
fn every_example_is_an_expression() {
    let examples = block_lines("cel");
    assert!(examples.len() > 20, "{examples:?}");
    for example in examples {
        if let Err(error) = Expression::parse_knowing(&example, &["device".into()]) {
            panic!("{PAGE}: {example}: {error}; {}", error.cure);
        }
    }
}

#[test]
fn bounds_are_the_programs() {
    let page = read(PAGE);
    let kibibytes = |bytes: usize| format!("{} KiB", bytes / 1024);
    for row in [
        format!("| length | {} bytes |", limits::LENGTH),
        format!("| signs (operators, dots, brackets, quotes) | {} |", limits::SIGNS),
        format!("| nested brackets, and choices, as `a ? b : c ? d : e` | {} |", limits::NESTING),
        format!("| nested parts, chains as `a + b + c` included | {} |", limits::DEPTH),
        format!("| parts | {} |", limits::PARTS),
        format!("| a compiled pattern | {} |", kibibytes(limits::PATTERN)),
        format!("| steps of an evaluation | {} |", limits::STEPS),
        format!("| text that an evaluation makes | {} |", kibibytes(limits::TEXT)),
    ] {
        assert!(page.contains(&row), "{PAGE}: the row `{row}`");
    }
}

#[test]
fn every_name_and_function_is_documented() {
    let page = read(PAGE);
    // The program's own answers to what it does not know list what it knows.
    let known = |source: &str| {
        let cure = Expression::parse(source).expect_err("nothing is called so").cure;
        let list = cure.strip_prefix("there are ").unwrap_or_else(|| panic!("{cure}")).to_owned();
        list.split(", ").map(str::to_owned).collect::<Vec<_>>()
    };
    for (source, prefix) in [
        ("zzzzzzzz.x", ""),
        ("request.zzzzzzzz", "request."),
        ("caller.zzzzzzzz", "caller."),
        ("caller.certificate.zzzzzzzz", "."),
        ("partner.zzzzzzzz", "partner."),
        ("route.zzzzzzzz", "route."),
        ("response.zzzzzzzz", "response."),
    ] {
        for name in known(source) {
            let dotted = format!("`{prefix}{name}");
            assert!(page.contains(&dotted), "{PAGE}: {dotted}");
        }
    }
    for function in known("zzzzzzzz()") {
        assert!(page.contains(&format!("{function}(")), "{PAGE}: {function}()");
    }
    for name in ["claims", "kind", "tenant", "client", "subject", "scopes", "roles"] {
        assert!(page.contains(&format!("`token.{name}")), "{PAGE}: token.{name}");
    }
}
