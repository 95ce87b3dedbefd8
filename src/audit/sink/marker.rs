//! A file beside the records that says whether the process that wrote them has ended in order.
//!
//! It exists while a process writes, and is locked by that process: one that is there and not locked was left by a process that
//! ended without notice.

use std::{
    fs::{self, File, OpenOptions},
    path::{Path, PathBuf},
};

/// The marker of a file or a folder.
#[derive(Debug)]
pub(in crate::audit) struct Marker {
    path: PathBuf,
    /// Holds the lock.
    _file: File,
}

/// The state in which a marker was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::audit) enum Found {
    /// There was none.
    Nothing,
    /// A process has left it.
    Left,
    /// Another process holds it.
    Held,
}

impl Marker {
    /// Sets the marker, and tells what was there. `None` where none can be set, as in a folder that only root writes to.
    pub(in crate::audit) fn set(path: PathBuf) -> (Option<Self>, Found) {
        let existed = path.exists();
        let Ok(file) = OpenOptions::new().append(true).create(true).open(&path) else { return (None, Found::Nothing) };
        match file.try_lock() {
            Ok(()) => (Some(Self { path, _file: file }), if existed { Found::Left } else { Found::Nothing }),
            Err(fs::TryLockError::WouldBlock) => (None, Found::Held),
            Err(fs::TryLockError::Error(_)) => (None, Found::Nothing),
        }
    }

    /// Returns the place of the marker of a file.
    pub(super) fn beside(file: &Path) -> Option<PathBuf> {
        let name = file.file_name()?.to_str()?;
        Some(file.with_file_name(format!(".{name}.open")))
    }
}

impl Drop for Marker {
    fn drop(&mut self) {
        // One that stays says that records may be missing, which is wrong and harmless.
        let _ = fs::remove_file(&self.path);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_marker_tells_how_the_process_before_ended() {
        let folder = tempfile::tempdir().unwrap();
        let path = Marker::beside(&folder.path().join("records.jsonl")).unwrap();
        assert!(path.ends_with(".records.jsonl.open"));

        let (first, found) = Marker::set(path.clone());
        assert_eq!(found, Found::Nothing);
        let (none, found) = Marker::set(path.clone());
        assert!(none.is_none() && found == Found::Held);
        drop(first);
        assert!(!path.exists());

        // As after `kill -9`.
        fs::write(&path, "").unwrap();
        assert_eq!(Marker::set(path).1, Found::Left);
    }
}
