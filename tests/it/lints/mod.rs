//! Tests of the lints of `check`: each with a config that has its finding and one that has none; their silences; and the reports for
//! machines.

mod files;
mod sarif;
mod silenced;
mod table;

use std::{collections::BTreeSet, path::Path};

use entrada::unstable::{
    config::{Document, Report},
    server,
    settings::{Faults, Lint, Severity},
};

/// Returns the report of `check` on a config in this folder.
fn check(folder: &Path, text: &str) -> Report {
    let file = folder.join("entrada.yaml");
    std::fs::write(&file, text).unwrap();
    match Document::load_with(&file, &|_| None) {
        Ok(document) => {
            let mut faults = Faults::default();
            drop(server::try_out(&document, &mut faults));
            document.report(&faults)
        }
        Err(report) => report,
    }
}

fn codes(report: &Report) -> BTreeSet<&'static str> {
    report.findings().iter().map(|finding| finding.code()).collect()
}

#[test]
fn each_lint_has_a_config_with_its_finding_and_one_without() {
    let folder = tempfile::tempdir().unwrap();
    files::write_files(folder.path());
    let pairs = table::pairs();
    let mut wrong = Vec::new();
    for table::Pair { code, with, without } in &pairs {
        let (found, quiet) = (check(folder.path(), with), check(folder.path(), without));
        for (report, text) in [(&found, with), (&quiet, without)] {
            if report.errors() > 0 {
                wrong.push(format!("{code}: an error:\n{report}\n{text}"));
            }
        }
        if !codes(&found).contains(code) {
            wrong.push(format!("{code}: not found:\n{found}\n{with}"));
        }
        if codes(&quiet).contains(code) {
            wrong.push(format!("{code}: found in:\n{quiet}\n{without}"));
        }
        let of_it = found.findings().iter().filter(|finding| finding.code() == *code);
        let no_cure: Vec<_> = of_it.filter(|finding| finding.cure().is_none()).map(|finding| finding.message()).collect();
        if !no_cure.is_empty() {
            wrong.push(format!("{code}: without a cure: {no_cure:?}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));

    let shown: BTreeSet<_> = pairs.iter().map(|pair| pair.code).collect();
    let warnings = Lint::ALL.iter().filter(|lint| lint.severity() == Severity::Warning);
    let missing: Vec<_> = warnings.map(|lint| lint.code()).filter(|code| !shown.contains(code)).collect();
    assert!(missing.is_empty(), "tests/it/lints/table.rs: write a pair for {missing:?}");
    assert_eq!(codes(&check(folder.path(), "routes: 5")), BTreeSet::from([Lint::ConfigInvalid.code()]));
}

#[test]
fn a_code_is_unique_and_never_of_another_form() {
    let codes: BTreeSet<_> = Lint::ALL.iter().map(|lint| lint.code()).collect();

    assert_eq!(codes.len(), Lint::ALL.len());
    for lint in Lint::ALL {
        let word = |word: &str| !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit());
        assert!(lint.code().split('-').all(word), "{lint}");
        assert_eq!(Lint::of_code(lint.code()), Some(*lint));
        assert!(lint.meaning().ends_with('.') && !lint.meaning().contains('\n'), "{lint}");
    }
}
