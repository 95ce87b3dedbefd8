//! `docs/lints.md`.

use entrada::unstable::settings::{Lint, Severity};

use super::{cell, hold_blocks};

#[test]
fn the_table_of_lints_is_the_programs() {
    let mut table = "| code | severity | topic | meaning |\n| --- | --- | --- | --- |\n".to_owned();
    for lint in Lint::ALL {
        let severity = match lint.severity() {
            Severity::Error => "error",
            Severity::Warning => "warning",
        };
        table.push_str(&format!("| `{lint}` | {severity} | {} | {} |\n", lint.topic().as_str(), cell(lint.meaning())));
    }

    hold_blocks("docs/lints.md", &[("codes".to_owned(), table)]);
}
