//! `docs/refusal-codes.md`.

use entrada::Reason;

use super::{cell, hold_blocks, read, rows};

const PAGE: &str = "docs/refusal-codes.md";

#[test]
fn the_table_of_codes_is_the_programs() {
    let mut table = "| code | status | `error` | title | meaning |\n| --- | --- | --- | --- | --- |\n".to_owned();
    for reason in Reason::ALL {
        let error = reason.challenge_error().map(|error| format!("`{error}`")).unwrap_or_default();
        table.push_str(&format!(
            "| `{}` | {} | {error} | {} | {} |\n",
            reason.code(),
            reason.status().as_u16(),
            cell(reason.title()),
            cell(reason.meaning()),
        ));
    }

    hold_blocks(PAGE, &[("codes".to_owned(), table)]);
}

#[test]
fn every_code_has_its_usual_cause_and_cure() {
    let told = rows(&read(PAGE), "## Causes and cures");
    for row in &told {
        assert_eq!(row.len(), 3, "{row:?}");
        assert!(row.iter().all(|cell| !cell.is_empty()), "{PAGE}: cause and cure of {row:?}");
    }
    let told: Vec<_> = told.iter().map(|row| row[0].trim_matches('`')).collect();
    let codes: Vec<_> = Reason::ALL.iter().map(|reason| reason.code()).collect();

    let missing: Vec<_> = codes.iter().filter(|code| !told.contains(code)).collect();
    assert!(
        missing.is_empty(),
        "{PAGE}: write a row `| \\`code\\` | usual cause | cure |` under \"Causes and cures\" for {missing:?}"
    );
    assert_eq!(told, codes, "{PAGE}: the rows stand in the order of the table of codes");
}
