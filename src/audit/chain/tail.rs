//! The end of a file of records: the last line of its chain, and a line that is not whole.

use std::{
    fs::File,
    io::{self, Read as _, Seek as _, SeekFrom},
    path::Path,
    time::Duration,
};

use serde_json::{Map, Value};

use super::{Hash, Link, encoded, hash_of, seal::ReadSeal};
use crate::audit::{
    line::{Line, number, plain},
    own_record::{OwnKind, RecordIds},
};

/// The part of a file that is read from its end.
const WINDOW: u64 = 4 << 20;
/// The longest first line.
const FIRST: u64 = 64 << 10;

/// A line that is not whole: a process ended while it wrote it. It stays as it is.
#[derive(Clone, Debug)]
pub(in crate::audit) struct Torn {
    /// Its length.
    pub(in crate::audit) bytes: u64,
    hash: Hash,
}

impl Torn {
    /// Writes the record that says so, with its line end.
    pub(in crate::audit) fn write(&self, now: Duration, into: &mut Vec<u8>) {
        let mut line = Line::begin(into, now, RecordIds::default().next());
        plain!(line, "event", OwnKind::Torn.code());
        number!(line, "bytes", self.bytes);
        plain!(line, "hash", &*encoded(&self.hash));
        line.end();
    }
}

/// The end of a file.
#[derive(Clone, Debug, Default)]
pub(in crate::audit) struct Tail {
    /// The last line of its chain, if it has one.
    pub(in crate::audit) link: Option<Link>,
    /// The line that is not whole.
    pub(in crate::audit) torn: Option<Torn>,
}

impl Tail {
    /// Reads the end of a file.
    pub(in crate::audit) fn read(path: &Path) -> io::Result<Self> {
        let mut file = match File::open(path) {
            Ok(file) => file,
            // A file that can only be written to has no chain that could go on.
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => return Ok(Self::default()),
            Err(error) => return Err(error),
        };
        let length = file.metadata()?.len();
        let mut first = Vec::new();
        (&file).take(FIRST).read_to_end(&mut first)?;
        first.truncate(memchr::memchr(b'\n', &first).unwrap_or(0));
        file.seek(SeekFrom::Start(length.saturating_sub(WINDOW)))?;
        let mut end = Vec::new();
        file.take(WINDOW).read_to_end(&mut end)?;
        Ok(Self::of(&first, &end))
    }

    fn of(first: &[u8], end: &[u8]) -> Self {
        let whole = memchr::memrchr(b'\n', end).map_or(0, |at| at + 1);
        let torn = (whole < end.len()).then(|| Torn { bytes: (end.len() - whole) as u64, hash: hash_of(&end[whole..]) });
        Self { link: link(first, &end[..whole]), torn }
    }
}

/// Returns the end of the chain that begins with a first line, if this is one.
fn link(first: &[u8], end: &[u8]) -> Option<Link> {
    let parsed = |line: &[u8]| serde_json::from_slice::<Map<String, Value>>(line).ok();
    let first = parsed(first)?;
    if first.get("event")? != "chain-begin" {
        return None;
    }
    let chain = first.get("chain")?.as_str()?.to_owned();
    let mut found: Option<Link> = None;
    for line in end.rsplit(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
        let is_seal = memchr::memmem::find(line, b",\"event\":\"seal\"").is_some();
        if found.is_some() && !is_seal {
            continue;
        }
        // The first line of the window may be a part of one.
        let Some(record) = parsed(line) else { continue };
        let Some(seq) = record.get("seq").and_then(Value::as_u64) else { continue };
        let link = found.get_or_insert_with(|| Link { chain: chain.clone(), seq, head: hash_of(line), previous_seal: None });
        if is_seal && let Some(seal) = ReadSeal::read(&record).filter(|seal| seal.chain == chain) {
            link.previous_seal = Some(seal.digest());
            break;
        }
    }
    found
}
