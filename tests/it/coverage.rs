//! Checks that every reason, policy and example is tested, by comparing the tables with the tests' own texts.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use entrada::Reason;

use super::support::SEEN_CODES;

fn files(folder: &str, end: &str) -> Vec<PathBuf> {
    let mut folders = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join(folder)];
    let mut files = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in folder.read_dir().unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() && !path.ends_with("node_modules") {
                folders.push(path);
            } else if path.to_string_lossy().ends_with(end) {
                files.push(path);
            }
        }
    }
    files
}

/// Returns the source files of all crates.
fn sources() -> Vec<PathBuf> {
    [files("src", ".rs"), files("crates", ".rs")].concat()
}

fn name(path: &Path) -> String {
    path.strip_prefix(env!("CARGO_MANIFEST_DIR")).unwrap().display().to_string()
}

/// Returns the texts of all tests by file: whole test files, and the code below `#[cfg(test)]` elsewhere.
fn tests() -> BTreeMap<String, String> {
    let whole = |path: &Path| path.ends_with("tests.rs") || path.components().any(|part| part.as_os_str() == "tests");
    let mut tests = BTreeMap::new();
    for path in sources().into_iter().chain(files("tests", ".rs")).chain(files("tests", ".py")) {
        let text = std::fs::read_to_string(&path).unwrap();
        let name = name(&path);
        // This file names none of them; a table of what is to be met would meet itself.
        if name.ends_with("coverage.rs") {
            continue;
        }
        let text = if whole(&path) { Some(&*text) } else { text.split_once("#[cfg(test)]").map(|(_, tests)| tests) };
        if let Some(text) = text {
            tests.insert(name, text.to_owned());
        }
    }
    tests
}

/// Returns the text of the program, without its tests.
fn program() -> String {
    let text = |path: &PathBuf| std::fs::read_to_string(path).unwrap();
    let program = sources().into_iter().filter(|path| !name(path).contains("test") && !path.ends_with("refusal/mod.rs"));
    program.map(|path| text(&path)).map(|text| text.split("#[cfg(test)]").next().unwrap().to_owned()).collect()
}

/// Returns whether `text` contains `word`, and not just a longer word that begins with it.
fn says(text: &str, word: &str) -> bool {
    text.match_indices(word).any(|(at, _)| {
        let next = text[at + word.len()..].chars().next();
        next.is_none_or(|next| !next.is_alphanumeric() && next != '_' && next != '-')
    })
}

#[test]
fn every_reason_is_given_and_met_by_a_test() {
    let (tests, program) = (tests(), program());
    let mut unmet = Vec::new();
    println!("{:32} given  met in", "code");
    for reason in Reason::ALL {
        let variant = format!("{reason:?}");
        let given = says(&program, &format!("Reason::{variant}")) || says(&program, &format!("Self::{variant}"));
        let (by_name, by_code) = (format!("Reason::{variant}"), format!("\"{}\"", reason.code()));
        let met: Vec<_> =
            tests.iter().filter(|(_, text)| says(text, &by_name) || text.contains(&by_code)).map(|(name, _)| &**name).collect();
        println!("{:32} {:5}  {}", reason.code(), given, met.join(" "));
        if given && met.is_empty() {
            unmet.push(reason.code());
        }
    }

    assert!(unmet.is_empty(), "no test meets {unmet:?}");
}

/// Compares the table with the codes that the gateways of the other tests really refused with, in an answer or a record. They are
/// written into a folder, which the environment names: a run of all tests comes first, then this one with `ENTRADA_CHECK_CODES` set.
#[test]
fn every_reason_was_seen() {
    let (Some(folder), Some(_)) = (std::env::var_os(SEEN_CODES), std::env::var_os("ENTRADA_CHECK_CODES")) else {
        println!("skipped: {SEEN_CODES} and ENTRADA_CHECK_CODES are not set");
        return;
    };
    let unseen: Vec<_> =
        Reason::ALL.iter().map(|reason| reason.code()).filter(|code| !Path::new(&folder).join(code).exists()).collect();

    assert!(unseen.is_empty(), "no gateway of a test refused with {unseen:?}");
}

#[test]
fn every_policy_has_an_example_that_loads_and_a_test_that_asks_for_it() {
    let tests = tests();
    let examples = files("config/policies", ".yaml");
    for example in &examples {
        let policy = example.file_stem().unwrap().to_string_lossy().into_owned();
        let met: Vec<_> = tests
            .iter()
            .filter(|(name, text)| name.starts_with("tests/") && says(text, &policy))
            .map(|(name, _)| &**name)
            .collect();
        println!("{policy:24} {}", met.join(" "));

        assert!(!met.is_empty(), "no whole gateway is asked for {policy}");
    }
    assert!(examples.len() > 15, "{examples:?}");
}
