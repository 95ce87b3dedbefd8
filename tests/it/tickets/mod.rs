//! Questions that the people on call ask: each is answered by one record and one line of `docs/troubleshooting.md`.
//!
//! The lines are taken from the page and run by jq. On a machine without jq they are not run, which the tests say.

mod backends;
mod callers;
mod requests;
mod tokens;

use std::{
    io::Write as _,
    path::Path,
    process::{Command, Stdio},
};

use crate::support::{Answer, Gateway};

/// The stand-ins for ids in the lines of the page.
const STAND_INS: [&str; 3] = ["\"THEIR-ID\"", "\"TRACE-ID\"", "\"ID\""];

/// Returns the questions of the page with their lines.
fn questions() -> Vec<(String, String)> {
    let page = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/troubleshooting.md")).unwrap();
    let mut questions = Vec::new();
    for item in page.split("\n- **").skip(1) {
        let (question, rest) = item.split_once("**").unwrap();
        let line = rest.lines().find_map(|line| line.trim().strip_prefix('`')?.strip_suffix('`'));
        questions.push((question.to_owned(), line.unwrap_or_else(|| panic!("{question}: no line of jq")).to_owned()));
    }
    questions
}

/// Asks about a request by its id, and checks that the answer has each of these words.
#[track_caller]
fn assert_answer(gateway: &Gateway, question: &str, id: &str, expected: &[&str]) {
    let (_, line) =
        questions().into_iter().find(|(known, _)| known == question).unwrap_or_else(|| panic!("nobody asks {question}"));
    let line = STAND_INS.iter().fold(line, |line, stand_in| line.replace(stand_in, &format!("\"{id}\"")));
    let records = gateway.written_records().join("\n");
    let Some(answer) = jq(&line, &records) else {
        return eprintln!("jq is not installed: `{line}` was not run");
    };
    assert_eq!(answer.lines().count(), 1, "{question}\n{line}\n{answer}\n{records}");
    for expected in expected {
        assert!(answer.contains(expected), "{question}\n{line}\n{answer}: no `{expected}`\n{records}");
    }
}

/// Runs a line of the page on these records; `None` if there is no jq.
fn jq(line: &str, records: &str) -> Option<String> {
    let (options, rest) = line.strip_prefix("jq ").unwrap().split_once(" '").unwrap();
    let filter = rest.strip_suffix("' audit.jsonl").unwrap_or_else(|| panic!("`{line}` reads no audit.jsonl"));
    let mut child = Command::new("jq")
        .args(options.split(' '))
        .arg(filter)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .ok()?;
    child.stdin.take().unwrap().write_all(records.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{line}: {}", String::from_utf8_lossy(&output.stderr));
    Some(String::from_utf8(output.stdout).unwrap())
}

/// Asks about an answered request, once its record is there.
async fn ask(gateway: &Gateway, question: &str, answer: &Answer, expected: &[&str]) {
    let id = answer.header("x-request-id").unwrap().to_owned();
    gateway.record(|record| record["request_id"] == id).await;
    assert_answer(gateway, question, &id, expected);
}

#[test]
fn every_question_of_the_page_is_asked_here() {
    let asked = [include_str!("backends.rs"), include_str!("callers.rs"), include_str!("requests.rs"), include_str!("tokens.rs")];

    for (question, line) in questions() {
        assert!(asked.iter().any(|source| source.contains(&format!("\"{question}\""))), "nobody asks: {question}\n{line}");
    }
    assert!(questions().len() >= 41);
}
