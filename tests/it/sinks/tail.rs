//! `entrada audit tail`.

use std::{
    io::{BufRead as _, BufReader, Write as _},
    process::{Command, Stdio},
};

use tempfile::tempdir;

const RECORDS: &str = concat!(
    "{\"time\":\"2026-11-30T12:00:00.004711Z\",\"request_id\":\"r-1\",\"caller\":\"203.0.113.7\",\"method\":\"GET\",\"host\":\"a\",\"path\":\"/1\",\"decision\":\"deny\",\"code\":\"role-missing\",\"status\":403,\"complete\":true,\"duration_us\":1}\n",
    "{\"time\":\"2026-11-30T12:00:01.000000Z\",\"request_id\":\"r-2\",\"caller\":\"192.0.2.1\",\"method\":\"GET\",\"host\":\"a\",\"path\":\"/2\",\"decision\":\"allow\",\"status\":200,\"complete\":true,\"duration_us\":2}\n",
    "{\"time\":\"2026-11-30T12:00:02.000000Z\",\"event\":\"handshake-failed\",\"peer\":\"192.0.2.1:443\"}\n",
);

fn tail(arguments: &[&str]) -> (i32, String, String) {
    let folder = tempdir().unwrap();
    let path = folder.path().join("r.jsonl");
    std::fs::write(&path, RECORDS).unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_entrada")).args(["audit", "tail"]).arg(path).args(arguments).output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}

#[test]
fn records_are_lines_for_people_chosen_by_a_condition() {
    for (arguments, expected) in [
        (&[][..], &["/1", "/2", "handshake-failed"][..]),
        (&["--where", "code == \"role-missing\""], &["/1"]),
        (&["--where", "decision == 'allow' && status < 300"], &["/2"]),
        (&["--where", "cidr('203.0.113.0/24', caller)"], &["/1"]),
        (&["--where", "has(record.event)"], &["handshake-failed"]),
        (&["-n", "1"], &["handshake-failed"]),
        (&["-n", "1", "--where", "has(record.decision)"], &["/2"]),
    ] {
        let (code, text, _) = tail(arguments);
        assert_eq!((code, text.lines().count()), (0, expected.len()), "{arguments:?}: {text}");
        assert!(text.lines().zip(expected).all(|(line, part)| line.contains(part)), "{arguments:?}: {text}");
    }
    assert!(tail(&[]).1.starts_with("2026-11-30T12:00:00.004Z deny 403 role-missing GET a/1 caller=203.0.113.7 1µs r-1\n"));
}

#[test]
fn what_cannot_be_read_or_is_no_condition_is_told() {
    let (code, _, error) = tail(&["--where", "code = 'x'"]);
    assert!(code == 2 && error.contains("--where"), "{error}");
    let absent = Command::new(env!("CARGO_BIN_EXE_entrada")).args(["audit", "tail", "/nowhere.jsonl"]).output().unwrap();
    assert_eq!(absent.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&absent.stderr).contains("cannot open /nowhere.jsonl"));
}

#[test]
fn it_follows_a_file_across_its_rotation_and_waits_for_whole_lines() {
    let folder = tempdir().unwrap();
    let path = folder.path().join("r.jsonl");
    std::fs::write(&path, "").unwrap();
    let mut child = Command::new(env!("CARGO_BIN_EXE_entrada"))
        .args(["audit", "tail", "--follow", "--where", "decision == 'deny'"])
        .arg(&path)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut file = std::fs::OpenOptions::new().append(true).open(&path).unwrap();
    let (first, rest) = RECORDS.split_at(100);

    file.write_all(first.as_bytes()).unwrap();
    file.write_all(rest.as_bytes()).unwrap();
    assert!(lines.next().unwrap().unwrap().contains(" a/1 "));
    std::fs::rename(&path, folder.path().join("r-1.jsonl")).unwrap();
    file.write_all(RECORDS.replace("/1\"", "/late\"").as_bytes()).unwrap();
    std::fs::write(&path, RECORDS.replace("/1\"", "/new\"")).unwrap();

    assert!(lines.next().unwrap().unwrap().contains(" a/late "));
    assert!(lines.next().unwrap().unwrap().contains(" a/new "));
    child.kill().unwrap();
    child.wait().unwrap();
}
