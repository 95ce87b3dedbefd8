//! How far each sink is, in a small file beside the records.

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
};

use super::segment::Cursor;
use crate::audit::chain::hash_of;

/// The beginning of the files' names.
const BEGINNING: &str = "cursor-";

/// The places of all sinks, by name.
#[derive(Debug, Default)]
pub(super) struct Cursors {
    folder: PathBuf,
    places: BTreeMap<String, Cursor>,
}

impl Cursors {
    /// Reads those of earlier processes.
    pub(super) fn read(folder: &Path) -> io::Result<Self> {
        let mut places = BTreeMap::new();
        for entry in fs::read_dir(folder)? {
            let path = entry?.path();
            let is_one = path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(BEGINNING));
            if is_one && path.extension().is_none() {
                places.extend(read(&fs::read_to_string(&path)?));
            }
        }
        Ok(Self { folder: folder.to_owned(), places })
    }

    /// Returns the place of a sink.
    pub(super) fn get(&self, sink: &str) -> Option<Cursor> {
        self.places.get(sink).copied()
    }

    /// Moves a sink on, never back.
    pub(super) fn advance(&mut self, sink: &str, to: Cursor) -> io::Result<()> {
        match self.places.get_mut(sink) {
            Some(place) if *place < to => *place = to,
            Some(_) => return Ok(()),
            None => _ = self.places.insert(sink.to_owned(), to),
        }
        self.write(sink, to)
    }

    /// Puts a sink somewhere.
    pub(super) fn set(&mut self, sink: &str, to: Cursor) -> io::Result<()> {
        self.places.insert(sink.to_owned(), to);
        self.write(sink, to)
    }

    /// Forgets the sinks that are not among these; returns them.
    pub(super) fn keep(&mut self, sinks: &[String]) -> Vec<(String, Cursor)> {
        let gone: Vec<_> =
            self.places.iter().filter(|(name, _)| !sinks.contains(name)).map(|(name, at)| (name.clone(), *at)).collect();
        for (name, _) in &gone {
            self.places.remove(name);
            // One that stays is found again, and forgotten again.
            let _ = fs::remove_file(self.path(name));
        }
        gone
    }

    /// Returns the place that is farthest back.
    pub(super) fn least(&self) -> Option<Cursor> {
        self.places.values().min().copied()
    }

    /// Returns the sinks, with their places.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&String, Cursor)> {
        self.places.iter().map(|(name, at)| (name, *at))
    }

    /// Replaces the file in one step. It need not reach the disk at once: from an older place, records are sent once more.
    fn write(&self, sink: &str, to: Cursor) -> io::Result<()> {
        let path = self.path(sink);
        let part = path.with_extension("part");
        fs::write(&part, format!("{} {}\n{sink}\n", to.position, to.record))?;
        fs::rename(part, path)
    }

    fn path(&self, sink: &str) -> PathBuf {
        let hash = hash_of(sink.as_bytes());
        let name: String = hash[..8].iter().map(|byte| format!("{byte:02x}")).collect();
        self.folder.join(format!("{BEGINNING}{name}"))
    }
}

fn read(text: &str) -> Option<(String, Cursor)> {
    let mut lines = text.lines();
    let (position, record) = lines.next()?.split_once(' ')?;
    Some((lines.next()?.to_owned(), Cursor { position: position.parse().ok()?, record: record.parse().ok()? }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_outlive_a_process_and_never_go_back() {
        let folder = tempfile::tempdir().unwrap();
        let at = |position| Cursor { position, record: position / 10 };
        let mut cursors = Cursors::read(folder.path()).unwrap();
        cursors.set("otlp:http://127.0.0.1:4318", at(50)).unwrap();
        cursors.advance("otlp:http://127.0.0.1:4318", at(90)).unwrap();
        cursors.advance("otlp:http://127.0.0.1:4318", at(70)).unwrap();
        cursors.set("syslog:tcp://a:601", at(30)).unwrap();
        fs::write(folder.path().join("cursor-0000"), "nonsense").unwrap();

        let mut cursors = Cursors::read(folder.path()).unwrap();

        assert_eq!(cursors.get("otlp:http://127.0.0.1:4318"), Some(at(90)));
        assert_eq!(cursors.least(), Some(at(30)));
        assert_eq!(cursors.keep(&["otlp:http://127.0.0.1:4318".to_owned()]), [("syslog:tcp://a:601".to_owned(), at(30))]);
        assert_eq!(Cursors::read(folder.path()).unwrap().iter().count(), 1);
    }
}
