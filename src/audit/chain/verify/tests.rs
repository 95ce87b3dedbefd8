use std::{fs, sync::Arc, time::Duration};

use tempfile::TempDir;

use super::*;
use crate::{
    audit::chain::{Chain, ChainSettings, SealReason, Signer, Tail},
    identity::SigningKey,
};

/// 2026-11-30T12:00:00Z.
const BEGIN: Duration = Duration::from_secs(1_796_040_000);
const EVERY: Duration = Duration::from_secs(60);

fn settings() -> ChainSettings {
    ChainSettings { every: EVERY, signer: Arc::new(Signer::here(SigningKey::generate().unwrap())) }
}

fn record(number: u64) -> Vec<u8> {
    let at = jiff::Timestamp::from_second((BEGIN.as_secs() + number).cast_signed()).unwrap();
    format!("{{\"time\":\"{at}\",\"record_id\":\"{number:032x}\",\"decision\":\"allow\",\"path\":\"/{number}\"}}\n").into_bytes()
}

/// A chain with a record a second, in two files, the last seal at its end.
struct House {
    folder: TempDir,
    lines: [Vec<String>; 2],
}

impl House {
    fn new() -> Self {
        let (folder, settings) = (tempfile::tempdir().unwrap(), settings());
        let (mut first, mut second) = (Vec::new(), Vec::new());
        let mut chain = Chain::begin(&settings, "r.jsonl", BEGIN, &mut first);
        for number in 0..100 {
            chain.link(&record(number), &mut first);
            chain.seal_if_due(BEGIN + Duration::from_secs(number), &mut first);
        }
        chain.seal(BEGIN + Duration::from_secs(100), SealReason::Rotation, &mut first);
        chain.file_was(&folder.path().join("r-1.jsonl"));
        chain.begin_file("r.jsonl", BEGIN + Duration::from_secs(100), &mut second);
        for number in 100..200 {
            chain.link(&record(number), &mut second);
            chain.seal_if_due(BEGIN + Duration::from_secs(number), &mut second);
        }
        chain.seal(BEGIN + Duration::from_secs(200), SealReason::Stop, &mut second);
        let lines = [first, second].map(|file| String::from_utf8(file).unwrap().lines().map(str::to_owned).collect());
        Self { folder, lines }
    }

    fn verify_with(&self, lines: &[Vec<String>; 2], wanted: &Wanted) -> Verification {
        let paths = ["r-1.jsonl", "r.jsonl"].map(|name| self.folder.path().join(name));
        for (path, lines) in paths.iter().zip(lines) {
            fs::write(path, lines.iter().map(|line| format!("{line}\n")).collect::<String>()).unwrap();
        }
        // The order in which they are given does not matter.
        verify(&[paths[1].clone(), paths[0].clone()], wanted).unwrap()
    }

    fn verify(&self, lines: &[Vec<String>; 2]) -> Verification {
        self.verify_with(lines, &Wanted { now: BEGIN.as_secs() + 100_000, ..Wanted::default() })
    }

    fn anchors(&self) -> Vec<Map<String, Value>> {
        let all = self.lines.iter().flatten().map(|line| serde_json::from_str::<Map<String, Value>>(line).unwrap());
        all.filter(|record| record.get("event").is_some_and(|event| event == "seal")).collect()
    }
}

fn kinds(result: &Verification) -> Vec<FindingKind> {
    let mut kinds: Vec<_> = result.findings.iter().map(|finding| finding.kind).collect();
    kinds.sort_unstable();
    kinds.dedup();
    kinds
}

#[test]
fn nothing_is_found_in_what_was_not_touched() {
    let house = House::new();

    let result = house.verify(&house.lines);

    assert!(result.findings.is_empty(), "{:?}", result.findings);
    assert_eq!((result.first_seq, result.last_seq, result.unsealed_tail), (Some(1), Some(result.records), 0));
    assert!(result.seals.valid >= 5 && result.seals.invalid == 0, "{:?}", result.seals);
    // Also with the anchors, and with the key.
    let keys = Keys::of(&house.anchors()[0]);
    let wanted = Wanted { anchors: house.anchors(), keys, now: BEGIN.as_secs() + 100_000 };
    assert!(house.verify_with(&house.lines, &wanted).findings.is_empty());
}

#[test]
fn each_edit_gap_reordering_and_cut_is_found() {
    type Change = fn(&mut [Vec<String>; 2]);
    let changes: [(&str, Change, FindingKind); 22] = [
        ("a path is another", |lines| lines[0][10] = lines[0][10].replace("\"path\":\"/", "\"path\":\"/x"), FindingKind::Edited),
        ("a decision is another", |lines| lines[1][40] = lines[1][40].replace("allow", "deny"), FindingKind::Edited),
        ("a blank is added", |lines| lines[0][20].push(' '), FindingKind::Edited),
        (
            "members change places",
            |lines| {
                let record: Value = serde_json::from_str(&lines[0][30]).unwrap();
                lines[0][30] =
                    record.to_string().replace("\"decision\":\"allow\",", "").replacen('{', "{\"decision\":\"allow\",", 1);
            },
            FindingKind::Edited,
        ),
        ("a line is no JSON any more", |lines| lines[0][15].truncate(20), FindingKind::Edited),
        (
            "the line before the last seal is another",
            |lines| {
                let at = lines[1].len() - 2;
                lines[1][at] = lines[1][at].replace("/199", "/198");
            },
            FindingKind::Edited,
        ),
        ("the first line is another", |lines| lines[0][0] = lines[0][0].replace("r.jsonl", "s.jsonl"), FindingKind::Edited),
        ("a line is gone", |lines| _ = lines[0].remove(50), FindingKind::Missing),
        ("nineteen lines are gone", |lines| _ = lines[1].drain(20..39), FindingKind::Missing),
        ("the end of the first file is gone", |lines| lines[0].truncate(80), FindingKind::Missing),
        ("the beginning of the second file is gone", |lines| _ = lines[1].drain(..3), FindingKind::Missing),
        ("the whole first file is that of a later time", |lines| lines[0].clear(), FindingKind::Unchained),
        ("two lines change places", |lines| lines[0].swap(40, 41), FindingKind::Reordered),
        (
            "a line stands in the other file",
            |lines| {
                let moved = lines[0].remove(30);
                lines[1].insert(30, moved);
            },
            FindingKind::Reordered,
        ),
        (
            "a line is there twice",
            |lines| {
                let twice = lines[0][30].clone();
                lines[0].insert(31, twice);
            },
            FindingKind::Reordered,
        ),
        (
            "a line is put in",
            |lines| lines[1].insert(9, String::from_utf8(record(7)).unwrap().trim().to_owned()),
            FindingKind::Inserted,
        ),
        (
            "a line is put in with a number",
            |lines| {
                let forged = lines[1][9].replace("/107", "/forged").replace("/108", "/forged");
                lines[1].insert(10, forged);
            },
            FindingKind::Reordered,
        ),
        (
            "the last seal and more are cut off",
            |lines| {
                let end = lines[1].len() - 10;
                lines[1].truncate(end);
            },
            FindingKind::UnsealedTail,
        ),
        (
            "everything after a seal is cut off",
            |lines| {
                let at = lines[1].iter().position(|line| line.contains("\"reason\":\"interval\"")).unwrap();
                lines[1].truncate(at + 1);
            },
            FindingKind::Truncated,
        ),
        (
            "a line is added at the end",
            |lines| lines[1].push(String::from_utf8(record(9)).unwrap().trim().to_owned()),
            FindingKind::Inserted,
        ),
        (
            "a seal signs something else",
            |lines| {
                let at = lines[0].iter().position(|line| line.contains("\"event\":\"seal\"")).unwrap();
                lines[0][at] = lines[0][at].replace("\"sealed_at\":17", "\"sealed_at\":18");
            },
            FindingKind::Signature,
        ),
        (
            "the chain numbers are taken out of every line",
            |lines| {
                for line in lines.iter_mut().flatten() {
                    let end = line.find(",\"seq\":").unwrap();
                    line.truncate(end);
                    line.push('}');
                }
            },
            FindingKind::Unchained,
        ),
    ];
    let house = House::new();
    for (name, change, expected) in changes {
        let mut lines = house.lines.clone();
        change(&mut lines);
        assert_ne!(lines, house.lines, "{name}");

        let result = house.verify(&lines);

        assert!(kinds(&result).contains(&expected), "{name}: {:?}", result.findings);
    }
}

#[test]
fn a_gap_is_told_by_the_numbers_that_are_missing_and_where() {
    let house = House::new();
    let mut lines = house.lines.clone();
    lines[0].drain(20..39);

    let result = house.verify(&lines);

    let gaps: Vec<_> = result.findings.iter().filter(|finding| finding.kind == FindingKind::Missing).collect();
    assert_eq!(gaps.len(), 1, "{:?}", result.findings);
    assert_eq!((gaps[0].seq_from, gaps[0].seq_to, gaps[0].line), (Some(21), Some(39), 21));
}

#[test]
fn no_row_of_missing_numbers_ends_before_it_begins() {
    let house = House::new();
    let mut lines = house.lines.clone();
    // As two processes write that append to one file: what the first one wrote last stands behind the second one's beginning.
    let late = lines[1].drain(..40).collect::<Vec<_>>();
    lines[1].splice(60..60, late);

    let result = house.verify(&lines);

    assert!(kinds(&result).contains(&FindingKind::Reordered), "{:?}", result.findings);
    assert!(result.findings.iter().all(|finding| finding.seq_from <= finding.seq_to), "{:?}", result.findings);
}

/// Writes the whole chain anew after a change, as somebody can who has no key, or another one.
fn rewritten(settings: &ChainSettings) -> [Vec<String>; 2] {
    let mut all = Vec::new();
    let mut forged = Chain::begin(settings, "r.jsonl", BEGIN, &mut all);
    for number in (0..200).filter(|number| *number != 66) {
        forged.link(&record(number), &mut all);
        forged.seal_if_due(BEGIN + Duration::from_secs(number), &mut all);
    }
    forged.seal(BEGIN + Duration::from_secs(200), SealReason::Stop, &mut all);
    [String::from_utf8(all).unwrap().lines().map(str::to_owned).collect(), Vec::new()]
}

#[test]
fn a_history_written_anew_with_another_key_is_found_by_the_key_or_by_an_anchor() {
    let house = House::new();
    let lines = rewritten(&settings());
    let now = BEGIN.as_secs() + 100_000;
    let path = house.folder.path().join("forged.jsonl");
    fs::write(&path, lines[0].iter().map(|line| format!("{line}\n")).collect::<String>()).unwrap();
    let files = [path];
    assert!(verify(&files, &Wanted { now, ..Wanted::default() }).unwrap().findings.is_empty(), "in itself it is whole");

    let by_anchor = verify(&files, &Wanted { anchors: house.anchors(), now, ..Wanted::default() }).unwrap();
    let known = Keys::of(&house.anchors()[0]);
    let by_key = verify(&files, &Wanted { keys: known, now, ..Wanted::default() }).unwrap();

    assert!(kinds(&by_anchor).contains(&FindingKind::Missing), "{:?}", by_anchor.findings);
    assert!(kinds(&by_key).contains(&FindingKind::Signature), "{:?}", by_key.findings);
}

#[test]
fn what_was_cut_off_is_found_by_an_anchor_that_goes_further() {
    let house = House::new();
    let mut lines = house.lines.clone();
    // At a rotation, where a file may end.
    lines[1].clear();
    let path = house.folder.path().join("r-1.jsonl");
    let anchors = house.anchors();
    house.verify(&lines);
    let now = BEGIN.as_secs() + 100_000;

    let alone = verify(std::slice::from_ref(&path), &Wanted { now, ..Wanted::default() }).unwrap();
    let anchored = verify(&[path], &Wanted { anchors, now, ..Wanted::default() }).unwrap();

    assert!(alone.findings.is_empty(), "{:?}", alone.findings);
    assert!(kinds(&anchored).contains(&FindingKind::Truncated), "{:?}", anchored.findings);
}

#[test]
fn a_file_that_is_being_written_is_whole_so_far() {
    let house = House::new();
    let mut lines = house.lines.clone();
    let at = lines[1].iter().position(|line| line.contains("\"reason\":\"interval\"")).unwrap();
    lines[1].truncate(at + 5);
    let last = BEGIN.as_secs() + 160;
    let paths = ["r-1.jsonl", "r.jsonl"].map(|name| house.folder.path().join(name));
    house.verify(&lines);
    // The next line is written just now.
    let text = fs::read_to_string(&paths[1]).unwrap();
    fs::write(&paths[1], format!("{text}{{\"time\":\"2026-11")).unwrap();

    let result = verify(&paths, &Wanted { now: last, ..Wanted::default() }).unwrap();

    assert!(result.findings.is_empty(), "{:?}", result.findings);
    assert!(result.unsealed_tail > 0);
}

#[test]
fn a_line_that_a_crash_left_stays_and_the_chain_goes_on_after_it() {
    let (folder, settings) = (tempfile::tempdir().unwrap(), settings());
    let mut out = Vec::new();
    let mut chain = Chain::begin(&settings, "r.jsonl", BEGIN, &mut out);
    (0..10).for_each(|number| chain.link(&record(number), &mut out));
    // The last line is not whole, and even one that lacks its line end alone is not.
    for (cut, name) in [(30, "torn.jsonl"), (1, "without-end.jsonl")] {
        let path = folder.path().join(name);
        fs::write(&path, &out[..out.len() - cut]).unwrap();
        let tail = Tail::read(&path).unwrap();
        let mut after = vec![b'\n'];
        let mut chain = Chain::take_up(&settings, tail.link.unwrap(), tail.torn.as_ref(), name, BEGIN, &mut after);
        (10..20).for_each(|number| chain.link(&record(number), &mut after));
        chain.seal(BEGIN + Duration::from_secs(20), SealReason::Stop, &mut after);
        fs::write(&path, [&out[..out.len() - cut], &after].concat()).unwrap();

        let result = verify(&[path], &Wanted { now: BEGIN.as_secs() + 30, ..Wanted::default() }).unwrap();

        assert!(result.findings.is_empty(), "{name}: {:?}", result.findings);
        assert_eq!((result.torn, result.seals.valid), (1, 1), "{name}");
    }
}

#[test]
fn compressed_files_are_read_and_what_is_no_chain_is_found() {
    let house = House::new();
    let path = house.folder.path().join("r-1.jsonl.gz");
    let mut encoder = flate2::write::GzEncoder::new(fs::File::create(&path).unwrap(), flate2::Compression::fast());
    let text: String = house.lines[0].iter().map(|line| format!("{line}\n")).collect();
    std::io::Write::write_all(&mut encoder, text.as_bytes()).unwrap();
    encoder.finish().unwrap();
    let now = BEGIN.as_secs() + 100_000;

    assert!(verify(&[path], &Wanted { now, ..Wanted::default() }).unwrap().findings.is_empty());

    let empty = house.folder.path().join("empty.jsonl");
    fs::write(&empty, "").unwrap();
    assert_eq!(kinds(&verify(&[empty], &Wanted { now, ..Wanted::default() }).unwrap()), [FindingKind::Unchained]);
    assert!(verify(&[house.folder.path().join("absent")], &Wanted::default()).is_err());
}
