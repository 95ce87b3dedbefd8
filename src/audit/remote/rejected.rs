//! The records that a receiver refused for good: files beside the spool, for a person to look at.

use std::{
    fs, io,
    io::Write as _,
    path::{Path, PathBuf},
    time::Duration,
};

/// The folder, in that of the spool.
const FOLDER: &str = "rejected";
/// The most bytes that are kept; older files go first.
const MOST: u64 = 64 << 20;

/// Keeps records with the reason, and returns the file.
pub(super) fn keep(spool: &Path, sink: &str, reason: &str, records: &[&[u8]], now: Duration) -> io::Result<PathBuf> {
    let folder = spool.join(FOLDER);
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(&folder)?;
    make_room(&folder)?;
    let plain = |letter: char| if letter.is_ascii_alphanumeric() || letter == '-' { letter } else { '_' };
    let name: String = sink.chars().map(plain).take(80).collect();
    let mut options = fs::OpenOptions::new();
    options.append(true).create(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let path = folder.join(format!("{:013}-{name}.jsonl", now.as_millis()));
    let mut text =
        serde_json::json!({ "rejected_by": sink, "reason": reason, "records": records.len() }).to_string().into_bytes();
    text.push(b'\n');
    for record in records {
        text.extend_from_slice(record);
        text.push(b'\n');
    }
    options.open(&path)?.write_all(&text)?;
    Ok(path)
}

/// Deletes the oldest files beyond the limit.
fn make_room(folder: &Path) -> io::Result<()> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        files.push((entry.file_name(), entry.metadata()?.len(), entry.path()));
    }
    files.sort_unstable();
    let mut total: u64 = files.iter().map(|(_, length, _)| length).sum();
    for (_, length, path) in files {
        if total < MOST {
            break;
        }
        fs::remove_file(path)?;
        total -= length;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_refused_is_kept_with_its_reason() {
        let folder = tempfile::tempdir().unwrap();

        let path =
            keep(folder.path(), "azure-monitor:dcr-0/Custom-A", "400", &[b"{\"a\":1}", b"{\"a\":2}"], Duration::from_secs(7))
                .unwrap();

        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        assert_eq!(name, "0000000007000-azure-monitor_dcr-0_Custom-A.jsonl");
        let text = fs::read_to_string(path).unwrap();
        assert!(
            text.starts_with("{\"reason\":\"400\"") || text.starts_with("{\"records\":2") || text.starts_with("{\"rejected_by\""),
            "{text}"
        );
        assert!(text.ends_with("}\n{\"a\":1}\n{\"a\":2}\n"), "{text}");
    }
}
