//! Fragments in `:path`, found in the header blocks as they were sent: HPACK, RFC 7541.
//!
//! `h2` hands over a path whose fragment was cut off, and two readers would disagree about such a target (RFC 9110, section 4.2.5).
//! So the blocks are followed besides: of each field only what concerns a path is kept. Faults of the coding are `h2`'s to report;
//! where this reading is lost, every later target of the connection counts as one with a fragment.

use std::collections::VecDeque;

use crate::connection::frames::{CONTINUATION, END_HEADERS, Frame, HEADERS, PADDED, PRIORITY};

/// The name of the target's field.
const PATH: &[u8] = b":path";
/// The first index of the dynamic table.
const DYNAMIC: usize = 62;
/// The indices of `:path` in the static table.
const STATIC_PATHS: std::ops::RangeInclusive<usize> = 4..=5;
/// The size of the table with which a client may compress its heads: what it may use before it is told.
pub(super) const TABLE: usize = 4_096;
/// The size that an entry adds to its name and value. RFC 7541, section 4.1.
const ENTRY: usize = 32;
/// The length of a header block beyond which it is not read. `h2` accepts none of that length.
const LONGEST_BLOCK: usize = 1 << 20;
/// The capacity of the block's buffer that is kept for the next block.
const KEPT: usize = 4 << 10;

/// A reader that follows the header blocks of a client.
#[derive(Debug, Default)]
pub(super) struct Targets {
    /// The block that is being received.
    block: Vec<u8>,
    stream: u32,
    flags: u8,
    kind: u8,
    /// The number of bytes that the frame still has.
    left: usize,
    table: Table,
    /// The streams whose target has a fragment, in order.
    fragments: VecDeque<u32>,
    lost: bool,
}

impl Targets {
    /// Follows the head of a frame.
    pub(super) fn frame(&mut self, frame: Frame) {
        match frame.kind {
            HEADERS => {
                self.block.clear();
                self.stream = frame.stream;
            }
            CONTINUATION => {}
            _ => return,
        }
        (self.kind, self.flags, self.left) = (frame.kind, frame.flags, frame.length as usize);
        if self.left == 0 {
            self.end_of_frame();
        }
    }

    /// Follows a part of the frame's payload.
    pub(super) fn payload(&mut self, bytes: &[u8]) {
        if self.lost {
            return;
        }
        self.block.extend_from_slice(bytes);
        self.left = self.left.saturating_sub(bytes.len());
        if self.block.len() > LONGEST_BLOCK {
            self.lose();
        } else if self.left == 0 {
            self.end_of_frame();
        }
    }

    /// Returns whether the target of this stream has a fragment. Streams are asked for in order.
    pub(super) fn has_fragment(&mut self, stream: u32) -> bool {
        while self.fragments.front().is_some_and(|first| *first < stream) {
            self.fragments.pop_front();
        }
        self.lost || self.fragments.front() == Some(&stream)
    }

    fn end_of_frame(&mut self) {
        if self.kind == HEADERS && self.unwrap_headers().is_none() {
            return self.lose();
        }
        if self.flags & END_HEADERS == 0 || self.lost {
            return;
        }
        let read = self.table.read(&self.block);
        // A connection at rest keeps little.
        self.block.clear();
        self.block.shrink_to(KEPT);
        match read {
            Some(true) => self.fragments.push_back(self.stream),
            Some(false) => {}
            None => self.lose(),
        }
    }

    /// Removes padding and priority. RFC 9113, section 6.2.
    fn unwrap_headers(&mut self) -> Option<()> {
        let mut begin = 0;
        let mut padding = 0;
        if self.flags & PADDED != 0 {
            padding = usize::from(*self.block.first()?);
            begin += 1;
        }
        if self.flags & PRIORITY != 0 {
            begin += 5;
        }
        let end = self.block.len().checked_sub(padding).filter(|end| *end >= begin)?;
        self.block.truncate(end);
        self.block.drain(..begin);
        Some(())
    }

    fn lose(&mut self) {
        self.lost = true;
        self.block = Vec::new();
    }
}

/// The dynamic table of a client's encoder, as far as it concerns paths.
#[derive(Debug)]
struct Table {
    /// The newest first.
    entries: VecDeque<Entry>,
    size: usize,
    most: usize,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    name: Name,
    size: usize,
    /// The value contains `#`.
    has_hash: bool,
}

#[derive(Clone, Copy, Debug)]
struct Name {
    length: usize,
    is_path: bool,
}

impl Default for Table {
    fn default() -> Self {
        Self { entries: VecDeque::new(), size: 0, most: TABLE }
    }
}

impl Table {
    /// Reads a header block. Returns whether it has a path with a fragment; `None` for a faulty one.
    fn read(&mut self, mut block: &[u8]) -> Option<bool> {
        let mut found = false;
        while let Some(first) = block.first().copied() {
            // RFC 7541, section 6.
            match first {
                0x80.. => {
                    let index = integer(&mut block, 7).filter(|index| *index > 0)?;
                    found |= index >= DYNAMIC && self.entry(index).map(|entry| entry.name.is_path && entry.has_hash)?;
                }
                0x40.. => {
                    let (name, value) = self.literal(&mut block, 6, true)?;
                    found |= name.is_path && value.has_hash;
                    self.insert(Entry { name, size: name.length + value.length + ENTRY, has_hash: value.has_hash });
                }
                0x20.. => {
                    self.most = integer(&mut block, 5).filter(|most| *most <= TABLE)?;
                    self.evict(self.most);
                }
                _ => {
                    let (name, value) = self.literal(&mut block, 4, false)?;
                    found |= name.is_path && value.has_hash;
                }
            }
        }
        Some(found)
    }

    /// Reads a literal field. Of one that does not enter the table nothing matters but whether it is a path: a token, say, is not decoded
    /// a second time for it.
    fn literal(&self, block: &mut &[u8], prefix: u8, enters_table: bool) -> Option<(Name, Text)> {
        let name = match integer(block, prefix)? {
            0 => {
                let name = string(block)?.read()?;
                Name { length: name.length, is_path: name.is_path }
            }
            index if index >= DYNAMIC => self.entry(index)?.name,
            index => Name { length: usize::from(*STATIC_NAMES.get(index - 1)?), is_path: STATIC_PATHS.contains(&index) },
        };
        let value = string(block)?;
        Some((name, if enters_table || name.is_path { value.read()? } else { Text::default() }))
    }

    fn entry(&self, index: usize) -> Option<Entry> {
        self.entries.get(index - DYNAMIC).copied()
    }

    fn insert(&mut self, entry: Entry) {
        self.evict(self.most.saturating_sub(entry.size));
        if entry.size <= self.most {
            self.size += entry.size;
            self.entries.push_front(entry);
        }
    }

    /// Evicts the oldest entries until the others have no more than this size.
    fn evict(&mut self, most: usize) {
        while self.size > most {
            let Some(oldest) = self.entries.pop_back() else { return };
            self.size -= oldest.size;
        }
    }
}

/// Reads an integer. RFC 7541, section 5.1; as long as those that `h2` accepts.
fn integer(block: &mut &[u8], prefix: u8) -> Option<usize> {
    let (first, mut rest) = block.split_first()?;
    let mask = (1 << prefix) - 1;
    let mut value = usize::from(*first) & mask;
    if value == mask {
        for shift in [0, 7, 14, 21] {
            let (byte, after) = rest.split_first()?;
            rest = after;
            value += usize::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                *block = rest;
                return Some(value);
            }
        }
        return None;
    }
    *block = rest;
    Some(value)
}

/// A string literal, as far as it concerns paths.
#[derive(Clone, Copy, Debug, Default)]
struct Text {
    length: usize,
    is_path: bool,
    has_hash: bool,
}

/// A string literal as it is in the block.
#[derive(Clone, Copy, Debug)]
struct Literal<'a> {
    bytes: &'a [u8],
    is_coded: bool,
}

/// Takes a string literal from the block. RFC 7541, section 5.2.
fn string<'a>(block: &mut &'a [u8]) -> Option<Literal<'a>> {
    let is_coded = block.first()? & 0x80 != 0;
    let length = integer(block, 7)?;
    let (bytes, rest) = block.split_at_checked(length)?;
    *block = rest;
    Some(Literal { bytes, is_coded })
}

impl Literal<'_> {
    /// Reads the text; `None` if its code is faulty.
    fn read(self) -> Option<Text> {
        let bytes = self.bytes;
        if !self.is_coded {
            return Some(Text { length: bytes.len(), is_path: bytes == PATH, has_hash: bytes.contains(&b'#') });
        }
        let mut text = Text { is_path: true, ..Text::default() };
        decode(bytes, |letter| {
            text.is_path &= PATH.get(text.length) == Some(&letter);
            text.has_hash |= letter == b'#';
            text.length += 1;
        })?;
        text.is_path &= text.length == PATH.len();
        Some(text)
    }
}

/// Decodes the Huffman code. RFC 7541, appendix B: codes of one length follow each other in the order of their letters, and begin
/// where those of the next shorter length end. What is left at the end is padding.
///
/// The codes of nearly all letters have eight bits or fewer, and are looked up by the next eight bits.
fn decode(bytes: &[u8], mut letter: impl FnMut(u8)) -> Option<()> {
    let mut rest = bytes.iter();
    // The next bits, from the highest one on, and their number.
    let (mut bits, mut count) = (0_u64, 0_usize);
    loop {
        // No code is longer than what there is then.
        while count <= 56
            && let Some(byte) = rest.next()
        {
            bits |= u64::from(*byte) << (56 - count);
            count += 8;
        }
        let short = SHORT[(bits >> 56) as usize];
        let (length, symbol) = match short.length {
            0 => match long(bits, count)? {
                Some(found) => found,
                None => return Some(()),
            },
            length => (usize::from(length), short.letter),
        };
        if length > count {
            return Some(());
        }
        letter(symbol);
        bits <<= length;
        count -= length;
    }
}

/// Finds the code of more than eight bits that these begin with, with its length; none if there are too few bits, and `None` where
/// there is no such code, or that of the end of a string, which is none of a text.
fn long(bits: u64, count: usize) -> Option<Option<(usize, u8)>> {
    for (length, codes) in CODES.iter().enumerate().skip(9) {
        if length > count {
            return Some(None);
        }
        let code = (bits >> (64 - length)) as u32;
        if let Some(nth) = code.checked_sub(codes.first).filter(|nth| *nth < codes.count) {
            return Some(Some((length, u8::try_from(LETTERS[codes.begin + nth as usize]).ok()?)));
        }
    }
    // A code of 31 bits would be needed, for which there must be as many.
    if count < CODES.len() { Some(None) } else { None }
}

/// The letter whose code some eight bits begin with, and the length of the code; 0 where it is longer.
#[derive(Clone, Copy)]
struct Short {
    length: u8,
    letter: u8,
}

/// The codes of eight bits or fewer, by the next eight bits.
static SHORT: [Short; 256] = short();

const fn short() -> [Short; 256] {
    let (codes, letters) = (codes(), letters());
    let mut short = [Short { length: 0, letter: 0 }; 256];
    let mut length = 1;
    while length <= 8 {
        let mut nth = 0;
        while nth < codes[length].count {
            let letter = letters[codes[length].begin + nth as usize] as u8;
            let first = (codes[length].first + nth) << (8 - length);
            let mut at = 0;
            while at < 1 << (8 - length) {
                short[first as usize + at] = Short { length: length as u8, letter };
                at += 1;
            }
            nth += 1;
        }
        length += 1;
    }
    short
}

/// The codes of one length.
#[derive(Clone, Copy)]
struct Codes {
    first: u32,
    count: u32,
    /// The index of their first letter in [`LETTERS`].
    begin: usize,
}

/// The codes by their length.
static CODES: [Codes; 31] = codes();
/// The letters in the order of their codes.
static LETTERS: [u16; 257] = letters();

const fn codes() -> [Codes; 31] {
    let mut codes = [Codes { first: 0, count: 0, begin: 0 }; 31];
    let mut letter = 0;
    while letter < LENGTHS.len() {
        codes[LENGTHS[letter] as usize].count += 1;
        letter += 1;
    }
    let mut length = 1;
    while length < codes.len() {
        let shorter = codes[length - 1];
        codes[length].first = (shorter.first + shorter.count) << 1;
        codes[length].begin = shorter.begin + shorter.count as usize;
        length += 1;
    }
    codes
}

const fn letters() -> [u16; 257] {
    let mut letters = [0; 257];
    let (mut at, mut length) = (0, 1);
    while length <= 30 {
        let mut letter = 0;
        while letter < LENGTHS.len() {
            if LENGTHS[letter] == length {
                letters[at] = letter as u16;
                at += 1;
            }
            letter += 1;
        }
        length += 1;
    }
    letters
}

/// The length of each letter's code, and of the end-of-string symbol. RFC 7541, appendix B.
#[rustfmt::skip]
const LENGTHS: [u8; 257] = [
    13, 23, 28, 28, 28, 28, 28, 28, 28, 24, 30, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 28,
    6, 10, 10, 12, 13, 6, 8, 11, 10, 10, 8, 11, 8, 6, 6, 6, 5, 5, 5, 6, 6, 6, 6, 6, 6, 6, 7, 8, 15, 6, 12, 10,
    13, 6, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 8, 7, 8, 13, 19, 13, 14, 6,
    15, 5, 6, 5, 6, 5, 6, 6, 6, 5, 7, 7, 6, 6, 6, 5, 6, 7, 6, 5, 5, 6, 7, 7, 7, 7, 7, 15, 11, 14, 13, 28,
    20, 22, 20, 20, 22, 22, 22, 23, 22, 23, 23, 23, 23, 23, 24, 23, 24, 24, 22, 23, 24, 23, 23, 23, 23, 21, 22, 23, 22, 23, 23, 24,
    22, 21, 20, 22, 22, 23, 23, 21, 23, 22, 22, 24, 21, 22, 23, 23, 21, 21, 22, 21, 23, 22, 23, 23, 20, 22, 22, 22, 23, 22, 22, 23,
    26, 26, 20, 19, 22, 23, 22, 25, 26, 26, 26, 27, 27, 26, 24, 25, 19, 21, 26, 27, 27, 26, 27, 24, 21, 21, 26, 26, 28, 27, 27, 27,
    20, 24, 20, 21, 22, 21, 21, 23, 22, 22, 25, 25, 24, 24, 26, 23, 26, 27, 26, 26, 27, 27, 27, 27, 27, 28, 27, 27, 27, 27, 27, 26,
    30,
];

/// The lengths of the names of the static table. RFC 7541, appendix A.
#[rustfmt::skip]
const STATIC_NAMES: [u8; 61] = [
    10, 7, 7, 5, 5, 7, 7, 7, 7, 7, 7, 7, 7, 7, 14, 15,
    15, 13, 6, 27, 3, 5, 13, 13, 19, 16, 16, 14, 16, 13, 12, 6,
    4, 4, 6, 7, 4, 4, 8, 17, 13, 8, 19, 13, 4, 8, 12, 18,
    19, 5, 7, 7, 11, 6, 10, 25, 17, 10, 4, 3, 16,
];

#[cfg(test)]
mod tests;
