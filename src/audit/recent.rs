//! The newest records in memory, for the console: a ring of the lines as they were written, bounded in number and in bytes.
//!
//! The writer thread adds what it has just handed to the sinks, in one piece, and mostly in the very buffer; requests never wait for it.
//! Lines are found and parsed only when somebody reads.

use std::{collections::VecDeque, mem, sync::Mutex};

use bytes::Bytes;
use tokio::sync::watch;

use super::sink::count_lines;
use crate::base::lock::lock;

/// The number of records that are kept if the config does not say.
pub const RECENT_RECORDS: usize = 1_000;

/// The memory for each record on average, in bytes: longer ones leave room for fewer.
const BYTES_PER_RECORD: usize = 4 << 10;

/// The newest records. Each has a number, from 1, in the order in which they were written out.
#[derive(Debug)]
pub struct RecentRecords {
    kept: Mutex<Kept>,
    newest: watch::Sender<u64>,
}

#[derive(Debug)]
struct Kept {
    most: usize,
    pieces: VecDeque<Piece>,
    records: u64,
    bytes: usize,
}

/// Lines that were written out together.
#[derive(Clone, Debug)]
struct Piece {
    /// The number of the first of them.
    first: u64,
    records: u64,
    lines: Bytes,
}

/// The records after some number.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Read {
    /// The number of the oldest record that is kept; one more than `newest` if none is.
    pub oldest: u64,
    /// The number of the newest record; 0 before the first one.
    pub newest: u64,
    /// The records with their numbers, oldest first, each one JSON object.
    pub records: Vec<(u64, Bytes)>,
}

impl Default for RecentRecords {
    fn default() -> Self {
        let kept = Kept { most: RECENT_RECORDS, pieces: VecDeque::new(), records: 0, bytes: 0 };
        Self { kept: Mutex::new(kept), newest: watch::channel(0).0 }
    }
}

impl RecentRecords {
    /// Keeps at most this many records from now on.
    pub fn keep(&self, most: usize) {
        let mut kept = lock(&self.kept);
        kept.most = most;
        kept.shrink();
    }

    /// Adds whole lines, this many. Takes the buffer, and leaves another one, where lines that are kept fill most of it.
    pub(super) fn add(&self, lines: &mut Vec<u8>, records: u64) {
        let mut kept = lock(&self.kept);
        let newest = *self.newest.borrow() + records;
        let before = tail(lines, records, kept.most);
        let length = lines.len() - before;
        if before > 0 {
            // Older ones would come before a gap.
            (kept.pieces, kept.records, kept.bytes) = Default::default();
        }
        if length > 0 {
            let records = if before == 0 { records } else { count_lines(&lines[before..]) };
            let first = newest + 1 - records;
            let room = lines.capacity();
            let lines = if 2 * length >= room {
                Bytes::from(mem::replace(lines, Vec::with_capacity(room))).slice(before..)
            } else {
                Bytes::copy_from_slice(&lines[before..])
            };
            kept.records += records;
            kept.bytes += length;
            kept.pieces.push_back(Piece { first, records, lines });
            kept.shrink();
        }
        self.newest.send_replace(newest);
    }

    /// Returns the records after the one with this number.
    pub fn after(&self, number: u64) -> Read {
        let kept = lock(&self.kept);
        let newest = *self.newest.borrow();
        let pieces: Vec<_> = kept.pieces.iter().filter(|piece| piece.last() > number).cloned().collect();
        let left = newest.saturating_sub(kept.most as u64);
        let oldest = kept.pieces.front().map_or(newest + 1, |piece| piece.first.max(left + 1));
        drop(kept);
        // A piece goes as a whole: what is left of the oldest one does not count any more.
        let number = number.max(oldest - 1);
        let records = pieces.iter().flat_map(Piece::numbered).filter(|(own, _)| *own > number).collect();
        Read { oldest, newest, records }
    }

    /// Returns a receiver of the number of the newest record, whenever that changes.
    pub fn newest(&self) -> watch::Receiver<u64> {
        self.newest.subscribe()
    }
}

impl Kept {
    fn shrink(&mut self) {
        let most_bytes = self.most * BYTES_PER_RECORD;
        while let Some(oldest) = self.pieces.front() {
            let (records, bytes) = (self.records - oldest.records, self.bytes - oldest.lines.len());
            if self.most > 0 && (records < self.most as u64 && self.bytes <= most_bytes || self.pieces.len() == 1) {
                break;
            }
            (self.records, self.bytes) = (records, bytes);
            self.pieces.pop_front();
        }
    }
}

impl Piece {
    const fn last(&self) -> u64 {
        self.first + self.records - 1
    }

    fn numbered(&self) -> impl Iterator<Item = (u64, Bytes)> {
        let mut begin = 0;
        let lines = memchr::memchr_iter(b'\n', &self.lines).map(move |end| {
            let line = self.lines.slice(begin..end);
            begin = end + 1;
            line
        });
        (self.first..).zip(lines)
    }
}

/// Returns where the last ones of these lines begin, at most `most` of them, and not more than there is memory for.
fn tail(lines: &[u8], records: u64, most: usize) -> usize {
    if most == 0 {
        return lines.len();
    }
    let of_number =
        if records <= most as u64 { 0 } else { memchr::memrchr_iter(b'\n', lines).nth(most).map_or(0, |end| end + 1) };
    let too_long = lines.len().saturating_sub(most * BYTES_PER_RECORD);
    let of_bytes = match too_long.checked_sub(1) {
        Some(before) => memchr::memchr(b'\n', &lines[before..]).map_or(lines.len(), |end| before + end + 1),
        None => 0,
    };
    of_number.max(of_bytes)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn add(records: &RecentRecords, lines: &[&str]) {
        let text: String = lines.iter().map(|line| format!("{line}\n")).collect();
        records.add(&mut text.into_bytes(), lines.len() as u64);
    }

    fn numbers(read: &Read) -> Vec<(u64, &str)> {
        read.records.iter().map(|(number, line)| (*number, str::from_utf8(line).unwrap())).collect()
    }

    #[test]
    fn the_newest_are_kept_with_their_numbers() {
        let records = RecentRecords::default();
        records.keep(3);
        assert_eq!(records.after(0), Read { oldest: 1, newest: 0, records: Vec::new() });

        add(&records, &["a", "b"]);
        add(&records, &["c"]);
        assert_eq!(numbers(&records.after(0)), [(1, "a"), (2, "b"), (3, "c")]);
        assert_eq!(numbers(&records.after(2)), [(3, "c")]);

        add(&records, &["d"]);
        assert_eq!(numbers(&records.after(0)), [(2, "b"), (3, "c"), (4, "d")]);
        assert_eq!(records.after(0).oldest, 2);

        add(&records, &["e", "f", "g", "h", "i"]);
        assert_eq!(numbers(&records.after(0)), [(7, "g"), (8, "h"), (9, "i")]);
        assert_eq!(records.after(9), Read { oldest: 7, newest: 9, records: Vec::new() });
    }

    #[test]
    fn a_full_buffer_is_taken_and_an_empty_one_of_its_size_left() {
        let records = RecentRecords::default();
        let (mut full, mut roomy) = (Vec::with_capacity(64), Vec::with_capacity(4_096));
        full.extend_from_slice(&[b"x".repeat(39), b"\n".to_vec()].concat());
        roomy.extend_from_slice(b"y\n");
        let places = (full.as_ptr(), roomy.as_ptr());

        records.add(&mut full, 1);
        records.add(&mut roomy, 1);

        assert!(full.is_empty() && full.capacity() >= 64 && full.as_ptr() != places.0);
        assert_eq!((roomy.as_ptr(), &*roomy), (places.1, &b"y\n"[..]));
        let read = records.after(0).records;
        assert_eq!(read[0].1.as_ptr(), places.0);
        assert_eq!(read[1].1, "y");
    }

    #[test]
    fn another_number_counts_at_once_and_none_keeps_nothing() {
        let records = RecentRecords::default();
        add(&records, &["a", "b", "c"]);
        records.keep(1);
        assert_eq!(numbers(&records.after(0)), [(3, "c")]);

        records.keep(0);
        add(&records, &["d"]);
        assert_eq!(records.after(0), Read { oldest: 5, newest: 4, records: Vec::new() });
    }

    #[test]
    fn a_follower_learns_of_each_addition() {
        let records = RecentRecords::default();
        let mut newest = records.newest();
        assert!(!newest.has_changed().unwrap());

        add(&records, &["a", "b"]);

        assert!(newest.has_changed().unwrap());
        assert_eq!(*newest.borrow_and_update(), 2);
    }

    proptest! {
        #[test]
        fn memory_is_bounded_and_the_newest_that_fit_are_there(
            most in 0_usize..5,
            additions in prop::collection::vec(prop::collection::vec(0_usize..3 * BYTES_PER_RECORD, 1..9), 0..9),
        ) {
            let records = RecentRecords::default();
            records.keep(most);
            let mut all = Vec::new();
            for lengths in &additions {
                let lines: Vec<_> = lengths.iter().map(|length| "x".repeat(*length)).collect();
                add(&records, &lines.iter().map(String::as_str).collect::<Vec<_>>());
                all.extend(lines);
            }

            let read = records.after(0);

            prop_assert_eq!(read.newest, all.len() as u64);
            prop_assert!(read.records.len() <= most);
            prop_assert!(lock(&records.kept).bytes <= 2 * most * BYTES_PER_RECORD);
            let newest = all.iter().enumerate().rev().take(read.records.len()).rev();
            let expected: Vec<_> = newest.map(|(index, line)| (index as u64 + 1, Bytes::from(line.clone()))).collect();
            prop_assert_eq!(&read.records, &expected);
            prop_assert_eq!(read.oldest, read.newest + 1 - read.records.len() as u64);
        }
    }
}
