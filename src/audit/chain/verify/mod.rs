//! The verification of a chain: what was changed, removed, moved or cut off. Nothing is ever written.

mod key;
mod lines;

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
};

use serde::Serialize;
use serde_json::{Map, Value};

pub(crate) use self::key::{Keys, read_keys};
use self::lines::{ChainFile, read};
use super::{encoded, hash_of, seal::ReadSeal};

/// The kind of a finding.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum FindingKind {
    /// A line is not the one that was written.
    Edited,
    /// Lines are not there.
    Missing,
    /// A line stands at another place, or twice.
    Reordered,
    /// A line was put in.
    Inserted,
    /// Lines at the end are not there.
    Truncated,
    /// Lines that no seal covers, although it is long past the time for one.
    UnsealedTail,
    /// A seal whose signature is wrong, or that is signed with another key.
    Signature,
    /// There is no chain.
    Unchained,
}

/// A finding.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Finding {
    pub(crate) kind: FindingKind,
    pub(crate) file: String,
    /// The line, from 1; 0 for the file as a whole.
    pub(crate) line: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) seq_from: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) seq_to: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) expected: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) found: Option<String>,
}

/// The seals of a chain.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Seals {
    pub(crate) valid: u64,
    pub(crate) invalid: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) last_at: Option<u64>,
}

/// The result of a verification.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct Verification {
    pub(crate) files: Vec<String>,
    pub(crate) records: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) first_seq: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) last_seq: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) head: Option<String>,
    pub(crate) seals: Seals,
    /// The ids of the keys that signed.
    pub(crate) keys: BTreeSet<String>,
    /// Whether the keys were compared with known ones.
    pub(crate) keys_known: bool,
    /// The number of records that no seal covers yet.
    pub(crate) unsealed_tail: u64,
    /// The lines that were not whole, and that a record says so of.
    pub(crate) torn: u64,
    pub(crate) findings: Vec<Finding>,
}

/// The keys and limits of a verification.
#[derive(Debug, Default)]
pub(crate) struct Wanted {
    /// The known keys; none: those that the seals name.
    pub(crate) keys: Keys,
    /// Seals that were kept elsewhere.
    pub(crate) anchors: Vec<Map<String, Value>>,
    /// The time, in seconds since 1970.
    pub(crate) now: u64,
}

/// The state of a verification: the chain as far as it was read.
struct Reader<'a> {
    wanted: &'a Wanted,
    result: Verification,
    chain: Option<String>,
    /// The names that the files had when they were written.
    named: BTreeSet<String>,
    /// The number and the hash of the last line of the chain, and where it stands.
    last: Option<(u64, String, String, usize)>,
    /// The hashes of lines by number.
    hashes: BTreeMap<u64, String>,
    /// Numbers that were passed over, each with where that was noticed.
    missing: BTreeMap<u64, (String, usize)>,
    seal: Option<ReadSeal>,
    /// Whether the seal was the last line.
    ends_with_seal: bool,
    last_time: Option<u64>,
}

/// Verifies files, which may be given in any order and compressed.
///
/// # Errors
/// Returns why a file cannot be read.
pub(crate) fn verify(paths: &[PathBuf], wanted: &Wanted) -> anyhow::Result<Verification> {
    let mut files = paths.iter().map(|path| ChainFile::open(path)).collect::<anyhow::Result<Vec<_>>>()?;
    // By the number of the first line: rotated files have names that sort so, but a caller may give them otherwise.
    files.sort_by_key(|file| file.first_seq.unwrap_or(u64::MAX));
    let mut reader = Reader {
        wanted,
        result: Verification { keys_known: !wanted.keys.is_empty(), ..Verification::default() },
        chain: None,
        named: BTreeSet::new(),
        last: None,
        hashes: BTreeMap::new(),
        missing: BTreeMap::new(),
        seal: None,
        ends_with_seal: false,
        last_time: None,
    };
    for file in &files {
        reader.result.files.push(file.name.clone());
        reader.file(file)?;
    }
    reader.finish();
    Ok(reader.result)
}

impl Reader<'_> {
    fn file(&mut self, file: &ChainFile) -> anyhow::Result<()> {
        let mut number = 0;
        let mut held: Option<(usize, Vec<u8>)> = None;
        read(&file.path, |line, whole| {
            number += 1;
            // A line that is not whole is known by the record after it.
            if let Some((at, before)) = held.take()
                && !self.is_torn(&before, line)
            {
                self.line(&file.name, at, &before);
            }
            if whole {
                held = Some((number, line.to_vec()));
            }
            // The last line of a file that is being written may not be whole yet.
        })?;
        if let Some((at, line)) = held {
            self.line(&file.name, at, &line);
        }
        if number == 0 {
            // The first line of a chain is there before any other.
            self.find(FindingKind::Unchained, (&file.name, 0), None, (None, None));
        }
        Ok(())
    }

    /// Returns whether a line is not whole, and the next one says so.
    fn is_torn(&mut self, line: &[u8], next: &[u8]) -> bool {
        if memchr::memmem::find(next, b",\"event\":\"torn\",").is_none() {
            return false;
        }
        let Ok(record) = serde_json::from_slice::<Map<String, Value>>(next) else { return false };
        let is = record.get("event").is_some_and(|event| event == "torn")
            && record.get("hash").and_then(Value::as_str) == Some(&encoded(&hash_of(line)));
        self.result.torn += u64::from(is);
        is
    }

    fn find(
        &mut self,
        kind: FindingKind,
        (file, line): (&str, usize),
        seqs: Option<(u64, u64)>,
        hashes: (Option<&str>, Option<&str>),
    ) {
        self.result.findings.push(Finding {
            kind,
            file: file.to_owned(),
            line,
            seq_from: seqs.map(|seqs| seqs.0),
            seq_to: seqs.map(|seqs| seqs.1),
            expected: hashes.0.map(str::to_owned),
            found: hashes.1.map(str::to_owned),
        });
    }

    /// Reads the next line of the chain.
    fn line(&mut self, file: &str, at: usize, line: &[u8]) {
        self.result.records += 1;
        let record: Option<Map<String, Value>> = serde_json::from_slice(line).ok();
        let number = record.as_ref().and_then(|record| record.get("seq")).and_then(Value::as_u64);
        let previous = record.as_ref().and_then(|record| record.get("prev")).and_then(Value::as_str);
        let (Some(record), Some(seq), Some(previous)) = (&record, number, previous) else {
            let readable = record.is_some();
            let kind = match (self.last.is_some(), readable) {
                (false, _) => FindingKind::Unchained,
                (true, true) => FindingKind::Inserted,
                (true, false) => FindingKind::Edited,
            };
            let after = self.last.as_ref().map(|last| (last.0 + 1, last.0 + 1)).filter(|_| kind == FindingKind::Edited);
            self.find(kind, (file, at), after, (None, None));
            return;
        };
        self.ends_with_seal = false;
        let hash = encoded(&hash_of(line));
        self.follows((file, at), seq, previous, &hash, record);
        if let Some(time) = record.get("time").and_then(Value::as_str).and_then(|time| time.parse::<jiff::Timestamp>().ok()) {
            self.last_time = u64::try_from(time.as_second()).ok();
        }
        if record.get("event").is_some_and(|event| event == "seal") {
            self.seal(record, (file, at));
        }
    }

    /// Holds a line against the one before it.
    fn follows(&mut self, (file, at): (&str, usize), seq: u64, previous: &str, hash: &str, record: &Map<String, Value>) {
        let begins = record.get("event").is_some_and(|event| event == "chain-begin");
        let chain = record.get("chain").and_then(Value::as_str).filter(|_| begins);
        if let Some(chain) = chain {
            if self.chain.as_deref().is_some_and(|known| known != chain) && seq != 1 {
                self.find(FindingKind::Inserted, (file, at), Some((seq, seq)), (self.chain.clone().as_deref(), Some(chain)));
            }
            if seq == 1 && self.last.is_some() {
                // Another chain begins: what led here from the one before cannot be shown.
                let last = self.last.as_ref().map_or(0, |last| last.0);
                let known = self.chain.clone();
                self.find(FindingKind::Missing, (file, at), Some((last + 1, last + 1)), (known.as_deref(), Some(chain)));
                self.last = None;
                self.hashes.clear();
            }
            self.chain = Some(chain.to_owned());
            self.named.extend(record.get("file").and_then(Value::as_str).map(str::to_owned));
        }
        self.result.first_seq.get_or_insert(seq);
        match self.last.clone() {
            None => self.take(seq, hash, (file, at)),
            Some((last, expected, ..)) if seq == last + 1 && previous == expected => self.take(seq, hash, (file, at)),
            Some((last, expected, last_file, last_at)) if seq == last + 1 => {
                // The line before was another one when this one was written.
                self.find(FindingKind::Edited, (&last_file, last_at), Some((last, last)), (Some(previous), Some(&expected)));
                self.take(seq, hash, (file, at));
            }
            Some((last, ..)) if seq > last + 1 => {
                for gone in last + 1..seq {
                    if self.missing.len() >= 1 << 20 {
                        break;
                    }
                    self.missing.insert(gone, (file.to_owned(), at));
                }
                self.take(seq, hash, (file, at));
            }
            Some(_) => {
                self.missing.remove(&seq);
                self.find(FindingKind::Reordered, (file, at), Some((seq, seq)), (None, None));
                self.hashes.entry(seq).or_insert_with(|| hash.to_owned());
            }
        }
    }

    fn take(&mut self, seq: u64, hash: &str, (file, at): (&str, usize)) {
        self.last = Some((seq, hash.to_owned(), file.to_owned(), at));
        self.hashes.insert(seq, hash.to_owned());
        self.result.last_seq = Some(seq);
        self.result.head = Some(hash.to_owned());
    }

    /// Verifies a seal of this chain; those of others are records like all.
    fn seal(&mut self, record: &Map<String, Value>, at: (&str, usize)) {
        let seq = record.get("seq").and_then(Value::as_u64);
        let Some(seal) = ReadSeal::read(record) else {
            self.result.seals.invalid += 1;
            self.find(FindingKind::Signature, at, seq.map(|seq| (seq, seq)), (None, None));
            return;
        };
        if self.chain.as_deref().is_some_and(|chain| chain != seal.chain) {
            return;
        }
        if self.chain.is_none() {
            self.chain = Some(seal.chain.clone());
        }
        self.result.keys.insert(seal.key_id.clone());
        if !self.wanted.keys.verify(&seal) {
            self.result.seals.invalid += 1;
            self.find(FindingKind::Signature, at, Some((seal.seq, seal.seq)), (None, Some(&seal.key_id)));
            return;
        }
        self.result.seals.valid += 1;
        self.result.seals.last_at = Some(seal.sealed_at);
        self.sealed(&seal, at);
        if let (Some(before), Some(named)) = (&self.seal, &seal.previous_seal)
            && *named != before.digest()
            // One of a number that was there already is told of as such: nothing is missing between the two.
            && seal.seq > before.seq
        {
            let found = before.digest();
            self.find(FindingKind::Missing, at, Some((before.seq + 1, seal.seq)), (Some(named), Some(&found)));
        }
        // What lies before a seal that holds need not be remembered, but for anchors.
        let anchored = self.anchored();
        self.hashes.retain(|number, _| *number >= seal.seq || anchored.contains(number));
        self.seal = Some(seal);
        self.ends_with_seal = true;
    }

    fn anchored(&self) -> BTreeSet<u64> {
        let anchors = self.wanted.anchors.iter().filter_map(ReadSeal::read);
        anchors.map(|anchor| anchor.seq).collect()
    }

    /// Holds the hash in a seal against that of the line.
    fn sealed(&mut self, seal: &ReadSeal, at: (&str, usize)) {
        if let Some(found) = self.hashes.get(&seal.seq).cloned()
            && found != seal.hash
        {
            self.find(FindingKind::Edited, at, Some((seal.seq, seal.seq)), (Some(&seal.hash), Some(&found)));
        }
    }

    fn finish(&mut self) {
        self.report_missing();
        let (file, at) = self
            .last
            .as_ref()
            .map_or_else(|| (self.result.files.last().cloned().unwrap_or_default(), 0), |last| (last.2.clone(), last.3));
        self.hold_against_anchors((&file, at));
        if self.result.records == 0 || self.last.is_none() {
            if self.result.findings.is_empty() {
                self.find(FindingKind::Unchained, (&file, at), None, (None, None));
            }
            return;
        }
        let last = self.last.as_ref().map_or(0, |last| last.0);
        self.result.unsealed_tail =
            if self.ends_with_seal { 0 } else { last - self.seal.as_ref().map_or(0, |seal| seal.seq).min(last) };
        match &self.seal {
            None => {
                let tail = self.result.first_seq.map(|first| (first, last));
                self.find(FindingKind::UnsealedTail, (&file, at), tail, (None, None));
            }
            Some(seal) => {
                let (sealed, due) = (seal.seq, 2 * seal.every + 30);
                let (reason, silent) =
                    (seal.reason.clone(), self.wanted.now.saturating_sub(self.last_time.unwrap_or_default()) > due);
                let goes_on = self.last_time.unwrap_or_default().saturating_sub(seal.sealed_at) > due;
                if self.ends_with_seal && reason == "interval" && silent {
                    // While the gateway runs it seals, also when nothing happens; and its last seal says that it was the last.
                    self.find(FindingKind::Truncated, (&file, at), Some((last + 1, last + 1)), (None, None));
                } else if !self.ends_with_seal && (silent || goes_on) {
                    self.find(FindingKind::UnsealedTail, (&file, at), Some((sealed + 1, last)), (None, None));
                }
            }
        }
        self.result.findings.sort_by(|one, other| (&one.file, one.line, one.kind).cmp(&(&other.file, other.line, other.kind)));
    }

    /// Reports the numbers that were never met, a finding for each row of them.
    fn report_missing(&mut self) {
        let mut rows: Vec<(u64, u64, String, usize)> = Vec::new();
        for (seq, (file, at)) in std::mem::take(&mut self.missing) {
            match rows.last_mut().filter(|row| row.1 + 1 == seq && row.3 == at && row.2 == file) {
                Some(row) => row.1 = seq,
                None => rows.push((seq, seq, file, at)),
            }
        }
        for (from, to, file, at) in rows {
            self.find(FindingKind::Missing, (&file, at), Some((from, to)), (None, None));
        }
    }

    /// Holds the chain against seals that were kept elsewhere.
    fn hold_against_anchors(&mut self, at: (&str, usize)) {
        let wanted = self.wanted;
        // A file of seals has those of all chains. Which ones are about these files their names say, since whoever writes a chain anew
        // gives it another id.
        let (named, chain) = (std::mem::take(&mut self.named), self.chain.clone());
        let all: Vec<_> = wanted.anchors.iter().filter_map(ReadSeal::read).collect();
        let is_about = |anchor: &&ReadSeal| named.contains(&anchor.file) || chain.as_deref() == Some(&*anchor.chain);
        let own: Vec<_> = all.iter().filter(is_about).collect();
        // If none is about these files, these are not the files that were sealed.
        let anchors = if own.is_empty() { all.iter().take(1).collect() } else { own };
        for anchor in anchors {
            if !wanted.keys.verify(anchor) {
                self.find(FindingKind::Signature, at, Some((anchor.seq, anchor.seq)), (None, Some(&anchor.key_id)));
                continue;
            }
            if self.chain.as_deref() != Some(&*anchor.chain) {
                let known = self.chain.clone();
                self.find(FindingKind::Missing, at, Some((anchor.seq, anchor.seq)), (Some(&anchor.chain), known.as_deref()));
                continue;
            }
            match (self.hashes.get(&anchor.seq).cloned(), self.result.last_seq) {
                (Some(found), _) if found == anchor.hash => {}
                (Some(found), _) => {
                    self.find(FindingKind::Edited, at, Some((anchor.seq, anchor.seq)), (Some(&anchor.hash), Some(&found)))
                }
                (None, last) if last.is_none_or(|last| anchor.seq > last) => {
                    self.find(FindingKind::Truncated, at, Some((last.unwrap_or(0) + 1, anchor.seq)), (Some(&anchor.hash), None));
                }
                (None, _) if self.result.first_seq.is_some_and(|first| anchor.seq < first) => {}
                (None, _) => self.find(FindingKind::Missing, at, Some((anchor.seq, anchor.seq)), (Some(&anchor.hash), None)),
            }
        }
    }
}

#[cfg(test)]
mod tests;
