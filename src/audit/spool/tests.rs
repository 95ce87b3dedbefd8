use super::*;

const SINK: &str = "otlp:http://127.0.0.1:4318";
const OTHER: &str = "syslog:tcp://siem.contoso.example:601";

fn line(number: usize) -> String {
    format!("{{\"record\":{number},\"text\":\"{}\"}}\n", "x".repeat(1_000))
}

fn append(spool: &Spool, numbers: std::ops::Range<usize>) -> Lost {
    let (lost, error) = spool.append(numbers.map(line).collect::<String>().as_bytes());
    assert!(error.is_none(), "{error:?}");
    lost
}

/// Reads everything that waits for a sink, and returns the numbers of the records.
fn drain(spool: &Spool, sink: &str) -> Vec<usize> {
    let mut numbers = Vec::new();
    loop {
        let batch = spool.read(sink, 10_000).unwrap();
        let Some((_, end)) = batch.records.last() else { return numbers };
        spool.commit(sink, *end).unwrap();
        numbers.extend(batch.records.iter().map(|(record, _)| {
            let record: serde_json::Value = serde_json::from_slice(record).unwrap();
            usize::try_from(record["record"].as_u64().unwrap()).unwrap()
        }));
    }
}

fn files(folder: &Path) -> usize {
    fs::read_dir(folder)
        .unwrap()
        .filter(|entry| entry.as_ref().unwrap().path().extension().is_some_and(|it| it == "spool"))
        .count()
}

fn open(folder: &Path, size: u64, sinks: &[&str]) -> (Spool, SpoolFound) {
    let (spool, found) = Spool::open(folder, size).unwrap();
    spool.set_sinks(&sinks.iter().map(|sink| (*sink).to_owned()).collect::<Vec<_>>()).unwrap();
    (spool, found)
}

#[test]
fn each_sink_gets_every_record_once_in_order_also_after_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let (spool, found) = open(folder.path(), 8 << 20, &[SINK, OTHER]);
    assert!(!found.unclean && found.cut == 0);
    append(&spool, 0..2_000);
    assert_eq!(drain(&spool, SINK), (0..2_000).collect::<Vec<_>>());
    assert!(spool.waiting(OTHER) > 2_000_000 && spool.waiting(SINK) == 0);
    append(&spool, 2_000..2_100);
    drop(spool);

    let (spool, found) = open(folder.path(), 8 << 20, &[SINK, OTHER]);

    assert!(!found.unclean);
    assert_eq!(drain(&spool, SINK), (2_000..2_100).collect::<Vec<_>>());
    assert_eq!(drain(&spool, OTHER), (0..2_100).collect::<Vec<_>>());
    assert_eq!(files(folder.path()), 1, "what everybody has is deleted");
}

#[test]
fn after_a_crash_only_what_was_not_whole_is_missing_and_the_next_start_knows() {
    let folder = tempfile::tempdir().unwrap();
    let (spool, _) = open(folder.path(), 8 << 20, &[SINK]);
    append(&spool, 0..50);
    // As after `kill -9`: nothing is dropped, and the lock is gone with the process.
    let copy = tempfile::tempdir().unwrap();
    for entry in fs::read_dir(folder.path()).unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), copy.path().join(entry.file_name())).unwrap();
    }
    let segment =
        fs::read_dir(copy.path()).unwrap().map(|entry| entry.unwrap().path()).find(|path| path.extension().is_some()).unwrap();
    let length = fs::metadata(&segment).unwrap().len();
    OpenOptions::new().write(true).open(&segment).unwrap().set_len(length - 500).unwrap();

    let (after, found) = open(copy.path(), 8 << 20, &[SINK]);
    append(&after, 50..60);

    assert!(found.unclean && found.cut > 0, "{found:?}");
    let expected: Vec<_> = (0..49).chain(50..60).collect();
    assert_eq!(drain(&after, SINK), expected);
    let held = Spool::open(folder.path(), 8 << 20).unwrap_err();
    assert!(held.to_string().contains("another process uses this spool"), "{held}");
}

#[test]
fn when_it_is_full_the_oldest_go_and_are_counted_for_those_who_had_not_got_them() {
    let folder = tempfile::tempdir().unwrap();
    let (spool, _) = open(folder.path(), 1 << 20, &[SINK, OTHER]);
    let mut lost = std::collections::BTreeMap::new();
    for begin in (0..3_000).step_by(100) {
        for (sink, count) in append(&spool, begin..begin + 100) {
            *lost.entry(sink).or_insert(0) += count;
        }
        if begin < 1_000 {
            drain(&spool, OTHER);
        }
    }

    let (one, other) = (drain(&spool, SINK), drain(&spool, OTHER));

    assert_eq!(one.last(), Some(&2_999));
    assert_eq!(one.len() as u64 + lost[SINK], 3_000, "every record has arrived or is counted");
    assert_eq!(other.len() as u64 + lost[OTHER] + 1_000, 3_000);
    assert!(one.windows(2).all(|pair| pair[0] + 1 == pair[1]), "the newest are left");
    assert!(one.len() > 800 && one.len() < 1_050, "{}", one.len());
}

#[test]
fn a_damaged_file_is_passed_over_and_the_rest_arrives() {
    let folder = tempfile::tempdir().unwrap();
    let (spool, _) = open(folder.path(), 1 << 20, &[SINK]);
    append(&spool, 0..400);
    let first = lock(&spool.state).segments[0].clone();
    let mut bytes = fs::read(&first.path).unwrap();
    bytes[50_000] ^= 1;
    fs::write(&first.path, bytes).unwrap();

    let (mut arrived, mut damaged) = (0, 0);
    loop {
        let batch = spool.read(SINK, 10_000).unwrap();
        damaged += batch.damaged;
        match batch.records.last() {
            Some((_, end)) => spool.commit(SINK, *end).unwrap(),
            None if batch.damaged == 0 => break,
            None => {}
        }
        arrived += batch.records.len() as u64;
    }

    assert_eq!(arrived + damaged, 400);
    assert!(damaged > 50 && damaged < 130, "the rest of one file: {damaged}");
}

#[test]
fn a_sink_that_is_new_begins_now_and_one_that_is_gone_is_counted() {
    let folder = tempfile::tempdir().unwrap();
    let (spool, _) = open(folder.path(), 8 << 20, &[SINK]);
    append(&spool, 0..10);

    let lost = spool.set_sinks(&[OTHER.to_owned()]).unwrap();
    append(&spool, 10..12);

    assert_eq!(lost, [(SINK.to_owned(), 10)]);
    assert_eq!(drain(&spool, OTHER), [10, 11]);
    assert!(drain(&spool, SINK).is_empty());
}

#[cfg(target_os = "linux")]
#[test]
fn what_a_full_disk_does_not_take_waits_and_is_written_later() {
    let folder = tempfile::tempdir().unwrap();
    let (spool, _) = open(folder.path(), 8 << 20, &[SINK]);
    append(&spool, 0..10);
    // A device that is always full.
    lock(&spool.state).file = Some(OpenOptions::new().append(true).open("/dev/full").unwrap());
    let (lost, error) = spool.append((10..20).map(line).collect::<String>().as_bytes());
    assert!(lost.is_empty());
    assert_eq!(error.map(|error| error.kind()), Some(io::ErrorKind::StorageFull));
    assert!(spool.waiting(SINK) > 20_000);

    append(&spool, 20..25);

    assert_eq!(drain(&spool, SINK), (0..25).collect::<Vec<_>>());
}
