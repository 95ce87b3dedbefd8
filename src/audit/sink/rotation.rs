//! When a file of records is full, and the names of those that were: `records-20261130T120000Z.jsonl`.

use std::{
    fs, io,
    path::{Path, PathBuf},
    time::Duration,
};

/// The rotation of a file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Rotation {
    /// The largest size, in bytes.
    pub(super) size: Option<u64>,
    /// The longest time that a file covers.
    pub(super) every: Option<Duration>,
}

impl Rotation {
    /// Returns the period that a time belongs to.
    pub(super) fn period(self, at: Duration) -> u64 {
        match self.every {
            Some(every) => at.as_secs() / every.as_secs().max(1),
            None => 0,
        }
    }

    /// Returns whether a file of this size has room for so many bytes more. One record always fits into an empty file.
    pub(super) fn has_room(self, size: u64, more: usize) -> bool {
        size == 0 || self.size.is_none_or(|most| size + more as u64 <= most)
    }
}

/// Returns a name for a file that is rotated now, which no other file has.
pub(super) fn rotated_name(path: &Path, now: Duration) -> PathBuf {
    let second = i64::try_from(now.as_secs()).unwrap_or(i64::MAX);
    let time = jiff::Timestamp::from_second(second).unwrap_or(jiff::Timestamp::MAX).strftime("%Y%m%dT%H%M%SZ");
    let (stem, extension) = parts(path);
    let name = |count: u32| {
        let count = if count == 0 { String::new() } else { format!("-{count:04}") };
        path.with_file_name(format!("{stem}-{time}{count}{extension}"))
    };
    let taken = |path: &PathBuf| path.exists() || PathBuf::from(format!("{}.gz", path.display())).exists();
    (0..10_000).map(name).find(|path| !taken(path)).unwrap_or_else(|| name(10_000))
}

/// Returns the rotated files of a file, the oldest first.
pub(super) fn rotated(path: &Path) -> io::Result<Vec<PathBuf>> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or_else(|| Path::new("."));
    let mut names = Vec::new();
    for entry in fs::read_dir(folder)? {
        let name = entry?.file_name();
        names.extend(name.into_string().ok().and_then(|name| Some((rotated_at(path, &name)?, name))));
    }
    names.sort_unstable();
    Ok(names.into_iter().map(|(_, name)| path.with_file_name(name)).collect())
}

/// Returns the time in the name of a rotated file, and the number that tells it from others of that second; `None` for other files.
pub(super) fn rotated_at(path: &Path, name: &str) -> Option<(String, u32)> {
    let (stem, extension) = parts(path);
    let plain = name.strip_suffix(".gz").unwrap_or(name);
    let time = plain.strip_suffix(&*extension)?.strip_prefix(&*stem)?.strip_prefix('-')?;
    let (time, count) = time.split_once('-').unwrap_or((time, "0000"));
    let digits = |text: &str, length: usize| text.len() == length && text.bytes().all(|byte| byte.is_ascii_digit());
    let (day, second) = time.strip_suffix('Z')?.split_once('T')?;
    (digits(day, 8) && digits(second, 6) && digits(count, 4)).then(|| Some((time.to_owned(), count.parse().ok()?))).flatten()
}

/// Returns the stem of a file's name, and its ending with the dot.
fn parts(path: &Path) -> (String, String) {
    let text = |part: Option<&std::ffi::OsStr>| part.map(|part| part.to_string_lossy().into_owned());
    (text(path.file_stem()).unwrap_or_default(), text(path.extension()).map_or_else(String::new, |ending| format!(".{ending}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rotated_files_have_names_that_sort_by_time_and_are_told_from_others() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("records.jsonl");
        let at = Duration::from_secs(1_796_040_000);

        let first = rotated_name(&path, at);
        fs::write(&first, "").unwrap();
        let second = rotated_name(&path, at);
        fs::write(format!("{}.gz", second.display()), "").unwrap();
        let third = rotated_name(&path, at);
        fs::write(&third, "").unwrap();
        fs::write(folder.path().join("records-of-others.jsonl"), "").unwrap();
        fs::write(&path, "").unwrap();

        let name = |path: &Path| path.file_name().unwrap().to_str().unwrap().to_owned();
        assert_eq!(name(&first), "records-20261130T120000Z.jsonl");
        assert_eq!(name(&third), "records-20261130T120000Z-0002.jsonl");
        let listed: Vec<_> = rotated(&path).unwrap().iter().map(|path| name(path)).collect();
        assert_eq!(listed, [name(&first), format!("{}.gz", name(&second)), name(&third)]);
        for other in [
            "records-20261130T120000Z.log",
            "records-2026.jsonl",
            "records-20261130T120000Z-1.jsonl",
            "records-ä0261130T12000Z.jsonl",
        ] {
            assert_eq!(rotated_at(&path, other), None, "{other}");
        }
        assert!(rotated_at(Path::new("/var/log/audit"), "audit-20261130T120000Z.gz").is_some());
    }

    #[test]
    fn a_period_begins_at_midnight_and_a_record_fits_into_an_empty_file() {
        let rotation = Rotation { size: Some(100), every: Some(Duration::from_secs(86_400)) };

        assert_eq!(rotation.period(Duration::from_secs(86_399)), 0);
        assert_eq!(rotation.period(Duration::from_secs(86_400)), 1);
        assert!(rotation.has_room(0, 1_000) && rotation.has_room(50, 50) && !rotation.has_room(50, 51));
        assert_eq!(Rotation::default().period(Duration::from_secs(86_400)), 0);
    }
}
