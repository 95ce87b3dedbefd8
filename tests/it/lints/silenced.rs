//! Tests of silences: by a comment or an entry, with a reason, until a day.

use std::process::{Command, Output};

use serde_json::Value;

use super::{check, codes};

const BASE: &str = "listeners: [ { name: public, address: \"127.0.0.1:0\" } ]
upstreams: { backend: { servers: [\"http://127.0.0.1:1\"] } }
";

/// A config with two routes, each of which has a star in its path, on lines 4 and 6.
fn stars(first: &str, second: &str, more: &str) -> String {
    format!(
        "{BASE}routes:
  - {{ name: a, match: {{ path: /a/* }}, anonymous: true, upstream: backend }}{first}
  # of the second
  - {{ name: b, match: {{ path: /b/* }}, anonymous: true, upstream: backend }}{second}
{more}"
    )
}

/// The error names what is wrong; whatever stands in for the code meanwhile is not the writer's.
#[test]
fn a_silence_of_a_code_that_is_none_is_one_error_and_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    for (code, cure) in [
        ("tokn-unrestricted", "did you mean `token-unrestricted`?"),
        ("ConfigInvalid", "did you mean"),
        ("nonsense", "write one of"),
        ("7", ""),
    ] {
        let entry = format!("lints: {{ allow: [ {{ code: {code}, reason: of it }} ] }}");

        let report = check(folder.path(), &stars("", "", &entry));

        let found: Vec<_> = report.findings().iter().map(|finding| finding.code()).collect();
        assert_eq!(found, ["config-invalid"], "{report}");
        assert!(report.to_string().contains(cure), "{report}");
    }
}

#[test]
fn a_silence_reaches_what_it_names_and_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    let comment = "   # entrada: allow path-star because its files are called so";
    let entry = |at: &str| format!("lints: {{ allow: [ {{ code: path-star, reason: its files are called so{at} }} ] }}");
    for (text, silenced, told) in [
        (stars("", "", ""), 0, vec!["path-star", "path-star"]),
        (stars(comment, "", ""), 1, vec!["path-star"]),
        (stars(comment, comment, ""), 2, vec![]),
        (stars("", "", &entry("")), 2, vec![]),
        (stars("", "", &entry(", at: \"routes[a]\"")), 1, vec!["path-star"]),
        (stars("", "", &entry(", at: \"routes[0]\"")), 1, vec!["path-star"]),
        (stars("", "", &entry(", at: /routes/0/match")), 1, vec!["path-star"]),
        (stars("", "", &entry(", at: \"routes[b].match.path\"")), 1, vec!["path-star"]),
        (stars("", "", &entry(", at: \"routes[c]\"")), 0, vec!["path-star", "path-star", "silence-unused"]),
        (stars("", "", &entry(", until: 2020-01-31")), 0, vec!["path-star", "path-star", "silence-expired"]),
        (stars("", "", &entry(", until: 2120-01-31")), 2, vec![]),
        // The comment stands above its line, and another one between.
        (stars("\n  # entrada: allow path-star because of b", "", ""), 1, vec!["path-star"]),
        // A comment reaches its own line alone.
        (stars("", "", "# entrada: allow path-star because of nothing\n"), 0, vec!["path-star", "path-star", "silence-unused"]),
        (stars("", "   # entrada: allow path-stars because of b", ""), 0, vec!["path-star", "path-star", "silence-invalid"]),
        (stars("", "   # entrada: allow path-star", ""), 0, vec!["path-star", "path-star", "silence-invalid"]),
        // What is about a silence cannot be silenced, nor can an error.
        (stars("   # entrada: allow silence-unused because of it", "", ""), 0, vec!["path-star", "path-star", "silence-invalid"]),
        (stars("   # entrada: allow config-invalid because of it", "", ""), 0, vec!["path-star", "path-star", "silence-invalid"]),
    ] {
        let report = check(folder.path(), &text);

        let mut found: Vec<_> = report.findings().iter().map(|finding| finding.code()).collect();
        found.sort_unstable();
        assert_eq!((report.silenced(), found), (silenced, told), "{report}\n{text}");
        assert_eq!(report.errors(), 0, "{report}");
    }
}

#[test]
fn a_text_that_reads_like_a_comment_silences_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let text = format!(
        "{BASE}routes:
  - name: a
    match: {{ path: /a }}
    anonymous: true
    respond:
      status: 200
      body: |
        tenants: # entrada: allow unused because a body says so
tenants: {{ other: {{ id: aaaabbbb-0000-cccc-1111-dddd2222eeee }} }}
"
    );

    let report = check(folder.path(), &text);

    assert_eq!((report.silenced(), codes(&report).contains("silence-unused")), (0, false), "{report}");
    assert!(codes(&report).contains("unused"), "{report}");
}

#[test]
fn an_error_cannot_be_silenced() {
    let folder = tempfile::tempdir().unwrap();
    for (line, place) in [
        ("drain-timeout: soon   # entrada: allow config-invalid because of it", "drain-timeout"),
        ("lints: { allow: [ { code: path-star } ] }", "lints"),
        ("lints: { allow: [ { code: path-star, reason: \"\" } ] }", "lints"),
        ("lints: { allow: [ { code: path-stars, reason: x } ] }", "lints"),
        ("lints: { allow: [ { code: path-star, reason: x, until: soon } ] }", "lints"),
    ] {
        let report = check(folder.path(), &stars("", "", line));

        assert!(report.errors() == 1, "{line}: {report}");
        assert!(report.lines().iter().any(|fault| !fault.contains("warning")), "{place}: {report}");
    }
}

fn entrada(arguments: &[&str], file: &std::path::Path) -> Output {
    Command::new(env!("CARGO_BIN_EXE_entrada")).args(arguments).arg(file).env_remove("ENTRADA_CONFIG").output().unwrap()
}

#[test]
fn the_command_tells_what_is_silenced_and_why() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("entrada.yaml");
    let comment = "   # entrada: allow path-star until 2120-01-31 because its files are called so";
    std::fs::write(&file, stars(comment, comment, "")).unwrap();

    let strict = entrada(&["check", "--deny-warnings", "--format", "json"], &file);
    let text = entrada(&["check"], &file);
    std::fs::write(&file, stars(comment, "", "")).unwrap();
    let told = entrada(&["check", "--deny-warnings"], &file);

    assert_eq!(strict.status.code(), Some(0), "{}", String::from_utf8_lossy(&strict.stdout));
    let report: Value = serde_json::from_slice(&strict.stdout).unwrap();
    assert_eq!((&report["warnings"], &report["findings"]), (&0.into(), &Value::Array(Vec::new())), "{report}");
    let silenced = &report["silenced"][0];
    assert_eq!(
        (&silenced["code"], &silenced["reason"], &silenced["until"], &silenced["line"]),
        (&"path-star".into(), &"its files are called so".into(), &"2120-01-31".into(), &4.into()),
        "{report}"
    );
    assert!(String::from_utf8_lossy(&text.stdout).contains("no faults, 2 silenced"), "{text:?}");
    let told_text = String::from_utf8_lossy(&told.stdout);
    assert!(told.status.code() == Some(1) && told_text.contains("`path-star` in docs/lints.md"), "{told_text}");
}
