//! A file of the spool: records one after the other, each with its length and its checksum.

use std::{
    fs::File,
    io::{self, Read as _, Seek as _, SeekFrom},
    path::{Path, PathBuf},
};

use flate2::Crc;

/// The bytes before each record: its length and its checksum, both little-endian.
pub(super) const HEADER: usize = 8;
/// The longest record: nothing that this program writes is as long.
const LONGEST: u32 = 16 << 20;
/// The ending of the files' names.
const ENDING: &str = ".spool";

/// A place in the spool: bytes and records since it was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::audit) struct Cursor {
    /// The number of bytes before it.
    pub(in crate::audit) position: u64,
    /// The number of records before it.
    pub(in crate::audit) record: u64,
}

impl Cursor {
    /// Returns the place after a record of this length.
    pub(super) const fn after(self, length: usize) -> Self {
        Self { position: self.position + (HEADER + length) as u64, record: self.record + 1 }
    }
}

/// A file of the spool.
#[derive(Clone, Debug)]
pub(super) struct Segment {
    pub(super) path: PathBuf,
    pub(super) start: Cursor,
    pub(super) end: Cursor,
}

impl Segment {
    /// Returns an empty one that begins there.
    pub(super) fn new(folder: &Path, start: Cursor) -> Self {
        let name = format!("{:020}-{:020}{ENDING}", start.position, start.record);
        Self { path: folder.join(name), start, end: start }
    }

    /// Returns the one of this name; its end is not known yet.
    pub(super) fn named(folder: &Path, name: &str) -> Option<Self> {
        let (position, record) = name.strip_suffix(ENDING)?.split_once('-')?;
        let number = |text: &str| (text.len() == 20).then(|| text.parse().ok()).flatten();
        let start = Cursor { position: number(position)?, record: number(record)? };
        Some(Self { path: folder.join(name), start, end: start })
    }

    /// Returns its size.
    pub(super) const fn bytes(&self) -> u64 {
        self.end.position - self.start.position
    }
}

/// Adds a record to a buffer, as it stands in a file.
pub(super) fn frame(record: &[u8], into: &mut Vec<u8>) {
    let length = u32::try_from(record.len()).unwrap_or(u32::MAX);
    into.extend_from_slice(&length.to_le_bytes());
    into.extend_from_slice(&checksum(record).to_le_bytes());
    into.extend_from_slice(record);
}

fn checksum(record: &[u8]) -> u32 {
    let mut crc = Crc::new();
    // Also of the length: a file full of zeros is no row of empty records.
    crc.update(&u32::try_from(record.len()).unwrap_or(u32::MAX).to_le_bytes());
    crc.update(b"entrada");
    crc.update(record);
    crc.sum()
}

/// Returns the first record of these bytes; `None` if it is not whole or not right.
pub(super) fn unframed(bytes: &[u8]) -> Option<&[u8]> {
    let (length, rest) = bytes.split_first_chunk::<4>()?;
    let (sum, rest) = rest.split_first_chunk::<4>()?;
    let length = Some(u32::from_le_bytes(*length)).filter(|length| *length <= LONGEST)?;
    let record = rest.get(..length as usize)?;
    (checksum(record) == u32::from_le_bytes(*sum)).then_some(record)
}

/// Records, each with the place after it.
pub(super) type Placed = Vec<(Vec<u8>, Cursor)>;

/// Reads whole records from a place in a segment on, about as many bytes as asked for.
///
/// Returns the records, each with the place after it, and whether something follows that is no record.
pub(super) fn read(segment: &Segment, from: Cursor, most: usize) -> io::Result<(Placed, bool)> {
    let mut file = File::open(&segment.path)?;
    file.seek(SeekFrom::Start(from.position - segment.start.position))?;
    let there = segment.end.position.saturating_sub(from.position);
    let mut wanted = there.min(most as u64);
    loop {
        let mut bytes = Vec::new();
        (&file).take(wanted).read_to_end(&mut bytes)?;
        let (mut records, mut at, mut rest) = (Vec::new(), from, &*bytes);
        while let Some(record) = unframed(rest) {
            at = at.after(record.len());
            rest = &rest[HEADER + record.len()..];
            records.push((record.to_vec(), at));
        }
        // A single record that is longer than what was asked for.
        if records.is_empty() && wanted < there {
            wanted = there.min(u64::from(LONGEST) + HEADER as u64).max(wanted * 2).min(there);
            if bytes.len() as u64 >= u64::from(LONGEST) {
                return Ok((records, true));
            }
            file.seek(SeekFrom::Start(from.position - segment.start.position))?;
            continue;
        }
        let all = at.position - from.position + rest.len() as u64 >= there;
        return Ok((records, !rest.is_empty() && all));
    }
}

/// Returns the place behind the last whole record of a file, and its length.
pub(super) fn scan(segment: &Segment) -> io::Result<(Cursor, u64)> {
    let bytes = std::fs::read(&segment.path)?;
    let (mut at, mut rest) = (segment.start, &*bytes);
    while let Some(record) = unframed(rest) {
        at = at.after(record.len());
        rest = &rest[HEADER + record.len()..];
    }
    Ok((at, bytes.len() as u64))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn segment(folder: &Path, records: &[Vec<u8>]) -> Segment {
        let mut segment = Segment::new(folder, Cursor { position: 100, record: 7 });
        let mut bytes = Vec::new();
        for record in records {
            frame(record, &mut bytes);
            segment.end = segment.end.after(record.len());
        }
        std::fs::write(&segment.path, bytes).unwrap();
        segment
    }

    #[test]
    fn a_name_tells_where_a_file_begins() {
        let folder = Path::new("/spool");
        let written = Segment::new(folder, Cursor { position: 100, record: 7 });
        let name = written.path.file_name().unwrap().to_str().unwrap();

        assert_eq!(name, "00000000000000000100-00000000000000000007.spool");
        assert_eq!(Segment::named(folder, name).unwrap().start, written.start);
        for other in ["1-2.spool", "00000000000000000100.spool", "cursor-1", "0000000000000000010a-00000000000000000007.spool"] {
            assert!(Segment::named(folder, other).is_none(), "{other}");
        }
    }

    proptest! {
        #[test]
        fn records_are_read_as_they_were_written_in_pieces_of_any_size(
            records in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..200), 1..20),
            most in 1_usize..500,
        ) {
            let folder = tempfile::tempdir().unwrap();
            let segment = segment(folder.path(), &records);
            let (mut found, mut at) = (Vec::new(), segment.start);
            while at < segment.end {
                let (some, damaged) = read(&segment, at, most).unwrap();
                prop_assert!(!damaged && !some.is_empty());
                at = some.last().unwrap().1;
                found.extend(some.into_iter().map(|(record, _)| record));
            }

            prop_assert_eq!(at, segment.end);
            prop_assert_eq!(found, records);
        }

        #[test]
        fn a_file_that_was_cut_or_changed_ends_at_the_last_record_that_is_right(
            records in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 1..50), 1..10),
            cut in 0_usize..600, flip in proptest::option::of(0_usize..600),
        ) {
            let folder = tempfile::tempdir().unwrap();
            let segment = segment(folder.path(), &records);
            let mut bytes = std::fs::read(&segment.path).unwrap();
            bytes.truncate(cut);
            let mut intact = bytes.len();
            if let Some(at) = flip.filter(|at| *at < bytes.len()) {
                bytes[at] ^= 0x41;
                intact = at;
            }
            std::fs::write(&segment.path, &bytes).unwrap();

            let (end, length) = scan(&segment).unwrap();

            let mut expected = segment.start;
            for record in &records {
                if (expected.after(record.len()).position - segment.start.position) as usize > intact {
                    break;
                }
                expected = expected.after(record.len());
            }
            prop_assert_eq!((end, length), (expected, bytes.len() as u64));
        }
    }
}
