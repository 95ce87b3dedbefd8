//! Checks that reference pages and the committed schema agree with the code.
//!
//! Generated parts are rewritten by `ENTRADA_BLESS=1 cargo test --test it reference`. Hand-written parts are checked for
//! completeness.

mod audit;
mod commands;
mod complete;
mod expressions;
mod limits;
mod links;
mod lints;
mod log_analytics;
mod metrics;
mod policies;
mod refusals;
mod schema;

use std::path::{Path, PathBuf};

/// The command that rewrites the generated parts.
const BLESS: &str = "ENTRADA_BLESS=1 cargo test --test it reference";

fn is_blessed() -> bool {
    std::env::var_os("ENTRADA_BLESS").is_some()
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Returns the text of a file of the repository.
fn read(name: &str) -> String {
    std::fs::read_to_string(root().join(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// Compares a generated file with its expected content, or rewrites it.
fn hold(name: &str, expected: &str) {
    let path = root().join(name);
    if std::fs::read_to_string(&path).is_ok_and(|text| text == expected) {
        return;
    }
    assert!(is_blessed(), "{name} is not what the code says; write it anew with `{BLESS}` and look at the difference");
    std::fs::write(path, expected).unwrap();
}

/// Compares the generated blocks of a page, each between `<!-- begin NAME -->` and `<!-- end NAME -->`, with their expected
/// content, or rewrites them. A missing block is appended.
fn hold_blocks(name: &str, blocks: &[(String, String)]) {
    let before = read(name);
    let mut text = before.clone();
    for (block, expected) in blocks {
        let (begin, end) = (format!("<!-- begin {block} -->\n"), format!("<!-- end {block} -->\n"));
        match (text.find(&begin), text.find(&end)) {
            (Some(from), Some(to)) => text.replace_range(from + begin.len()..to, expected),
            (None, None) => text.push_str(&format!("\n## {block}\n\n{begin}{expected}{end}")),
            _ => panic!("{name}: `{block}` has no begin or no end"),
        }
    }
    for line in before.lines() {
        if let Some(block) = line.strip_prefix("<!-- begin ").and_then(|rest| rest.strip_suffix(" -->")) {
            assert!(
                blocks.iter().any(|(known, _)| known == block),
                "{name}: nothing is called `{block}` any more; remove its part"
            );
        }
    }
    if text != before {
        assert!(is_blessed(), "{name} is not what the code says; write it anew with `{BLESS}` and look at the difference");
        std::fs::write(root().join(name), text).unwrap();
    }
}

/// Returns the rows of the tables under a heading of this text, each as its cells, without separator rows.
fn rows(page: &str, heading: &str) -> Vec<Vec<String>> {
    let (_, part) = page.split_once(&format!("\n{heading}\n")).unwrap_or_else(|| panic!("no heading is `{heading}`"));
    let level = heading.split(' ').next().unwrap();
    let part = part.lines().take_while(|line| !(line.starts_with('#') && line.split(' ').next().unwrap().len() <= level.len()));
    let mut rows = Vec::new();
    let mut in_table = false;
    for line in part {
        let Some(line) = line.strip_prefix("| ").and_then(|line| line.strip_suffix('|')) else {
            in_table = false;
            continue;
        };
        // The first line of a table is its head, the second one draws a line.
        if in_table && !line.starts_with("---") {
            rows.push(line.replace("\\|", "\u{0}").split('|').map(|cell| cell.trim().replace('\u{0}', "|")).collect());
        }
        in_table = true;
    }
    rows
}

/// Escapes the text for a cell of a table.
fn cell(text: &str) -> String {
    text.replace('|', "\\|").replace('\n', " ")
}

/// Returns the sources of the program by path, without their tests.
fn sources() -> Vec<(PathBuf, String)> {
    let mut folders = vec![root().join("src"), root().join("crates")];
    let mut found = Vec::new();
    while let Some(folder) = folders.pop() {
        let Ok(entries) = folder.read_dir() else { continue };
        for entry in entries {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|end| end == "rs")
                && !path.strip_prefix(root()).unwrap().to_string_lossy().contains("test")
            {
                let text = std::fs::read_to_string(&path).unwrap();
                found.push((path, text.split("\n#[cfg(test)]\nmod tests {").next().unwrap().to_owned()));
            }
        }
    }
    found.sort();
    found
}
