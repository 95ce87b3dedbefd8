//! The lines of a file of records, compressed or not.

use std::{
    fs::File,
    io::{BufRead, BufReader, Read},
    path::{Path, PathBuf},
};

use anyhow::Context as _;
use flate2::read::MultiGzDecoder;
use serde_json::Value;

/// The longest line that is read.
const LONGEST: u64 = 16 << 20;

/// A file of a chain.
#[derive(Debug)]
pub(super) struct ChainFile {
    pub(super) path: PathBuf,
    pub(super) name: String,
    /// The number of its first line, if that has one.
    pub(super) first_seq: Option<u64>,
}

impl ChainFile {
    /// Looks at the first line of a file.
    pub(super) fn open(path: &Path) -> anyhow::Result<Self> {
        let mut first = Vec::new();
        reader(path)?.take(LONGEST).read_until(b'\n', &mut first).with_context(|| path.display().to_string())?;
        let first: Option<Value> = serde_json::from_slice(&first).ok();
        let first_seq = first.and_then(|first| first.get("seq").and_then(Value::as_u64));
        Ok(Self { path: path.to_owned(), name: path.display().to_string(), first_seq })
    }
}

fn reader(path: &Path) -> anyhow::Result<Box<dyn BufRead>> {
    let mut file = File::open(path).with_context(|| format!("cannot open {}", path.display()))?;
    let mut magic = [0; 2];
    let read = file.read(&mut magic).with_context(|| path.display().to_string())?;
    let file = File::open(path).with_context(|| format!("cannot open {}", path.display()))?;
    if magic[..read] == [0x1f, 0x8b] {
        Ok(Box::new(BufReader::new(MultiGzDecoder::new(BufReader::new(file)))))
    } else {
        Ok(Box::new(BufReader::with_capacity(1 << 20, file)))
    }
}

/// Reads the lines of a file, without their ends; the closure learns whether a line has one.
pub(super) fn read(path: &Path, mut each: impl FnMut(&[u8], bool)) -> anyhow::Result<()> {
    let mut reader = reader(path)?;
    let mut line = Vec::new();
    loop {
        line.clear();
        let read = (&mut reader).take(LONGEST).read_until(b'\n', &mut line).with_context(|| path.display().to_string())?;
        if read == 0 {
            return Ok(());
        }
        match line.strip_suffix(b"\n") {
            Some(line) => each(line, true),
            None => each(&line, false),
        }
    }
}
