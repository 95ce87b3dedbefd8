//! The keeping of rotated files: they are compressed, and deleted when they are old, by a thread of its own.

use std::{
    fs::{self, File},
    io::{self, BufReader, BufWriter, Write as _},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU8, Ordering},
    },
    time::{Duration, SystemTime},
};

use flate2::{Compression, write::GzEncoder};

use super::rotation;

/// The rules for rotated files.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::audit) struct Keeping {
    /// Whether they are compressed.
    pub(in crate::audit) compress: bool,
    /// The age from which on they are deleted.
    pub(in crate::audit) keep: Option<Duration>,
}

/// The work on rotated files; one thread at a time.
#[derive(Debug, Default)]
pub(super) struct Housekeeping {
    state: Arc<AtomicU8>,
}

/// Nothing is done, something is, or something is and there is more to do.
const IDLE: u8 = 0;
const BUSY: u8 = 1;
const AGAIN: u8 = 2;

impl Housekeeping {
    /// Starts the work, unless there is none, or it is going on.
    pub(super) fn start(&self, path: &Path, keeping: Keeping) {
        let begun = |state| Some(if state == IDLE { BUSY } else { AGAIN });
        if keeping == Keeping::default() || self.state.fetch_update(Ordering::AcqRel, Ordering::Acquire, begun) != Ok(IDLE) {
            return;
        }
        let (path, state) = (path.to_owned(), self.state.clone());
        let work = move || {
            loop {
                if let Err(error) = keep_house(&path, keeping, SystemTime::now()) {
                    tracing::warn!(path = %path.display(), %error, "rotated files of audit records cannot be compressed or deleted");
                }
                // A file that was rotated meanwhile is seen in the next round.
                if state.compare_exchange(BUSY, IDLE, Ordering::AcqRel, Ordering::Acquire).is_ok() {
                    return;
                }
                state.store(BUSY, Ordering::Release);
            }
        };
        if std::thread::Builder::new().name("audit-files".into()).spawn(work).is_err() {
            self.state.store(IDLE, Ordering::Release);
        }
    }
}

/// Compresses the rotated files of a file, and deletes those that are too old; the newest stays in any case.
fn keep_house(path: &Path, keeping: Keeping, now: SystemTime) -> io::Result<()> {
    let mut files = rotation::rotated(path)?;
    if let Some(keep) = keeping.keep {
        let newest = files.pop();
        for file in &files {
            let age = fs::metadata(file)?.modified().ok().and_then(|modified| now.duration_since(modified).ok());
            if age.is_some_and(|age| age > keep) {
                fs::remove_file(file)?;
                tracing::info!(path = %file.display(), "a file of audit records was older than `keep`, and was deleted");
            }
        }
        files.extend(newest);
    }
    if keeping.compress {
        for file in files.iter().filter(|file| file.exists() && file.extension().is_none_or(|extension| extension != "gz")) {
            compress(file)?;
        }
    }
    Ok(())
}

/// Replaces a file by its compressed form, which is complete before the file goes.
fn compress(file: &Path) -> io::Result<()> {
    let with = |ending: &str| PathBuf::from(format!("{}{ending}", file.display()));
    let (part, done) = (with(".gz.part"), with(".gz"));
    let metadata = fs::metadata(file)?;
    let target = File::create(&part)?;
    target.set_permissions(metadata.permissions())?;
    let mut encoder = GzEncoder::new(BufWriter::new(target), Compression::default());
    io::copy(&mut BufReader::new(File::open(file)?), &mut encoder)?;
    let mut target = encoder.finish()?;
    target.flush()?;
    let target = target.into_inner().map_err(io::IntoInnerError::into_error)?;
    // Its age stays that of its last record.
    target.set_modified(metadata.modified()?)?;
    target.sync_all()?;
    fs::rename(&part, &done)?;
    fs::remove_file(file)
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use super::*;

    #[test]
    fn rotated_files_are_compressed_and_the_old_ones_go_but_never_the_newest() {
        let folder = tempfile::tempdir().unwrap();
        let file = |name: &str| folder.path().join(name);
        let day = Duration::from_secs(86_400);
        let now = SystemTime::now();
        for (name, days) in [
            ("r.jsonl", 99),
            ("r-20260101T000000Z.jsonl", 40),
            ("r-20260102T000000Z.jsonl.gz", 31),
            ("r-20260103T000000Z.jsonl", 29),
            ("r-20260104T000000Z.jsonl", 50),
            ("r-other.jsonl", 99),
        ] {
            fs::write(file(name), name).unwrap();
            File::options().write(true).open(file(name)).unwrap().set_modified(now - day * days).unwrap();
        }

        keep_house(&file("r.jsonl"), Keeping { compress: true, keep: Some(day * 30) }, now).unwrap();

        let mut names: Vec<_> =
            fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        assert_eq!(names, ["r-20260103T000000Z.jsonl.gz", "r-20260104T000000Z.jsonl.gz", "r-other.jsonl", "r.jsonl"]);
        let mut text = String::new();
        let kept = File::open(file("r-20260103T000000Z.jsonl.gz")).unwrap();
        flate2::read::GzDecoder::new(kept).read_to_string(&mut text).unwrap();
        assert_eq!(text, "r-20260103T000000Z.jsonl");
    }
}
