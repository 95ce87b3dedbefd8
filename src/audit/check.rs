//! A look at the settings of the audit log, and at its sinks before they are opened: whether they can be.

use std::path::Path;

use super::{AuditConfig, SinkConfig};
use crate::settings::{Faults, Place};

/// Checks the settings, and whether the files of the sinks can be opened. Nothing is made.
pub(crate) fn check(config: &AuditConfig, base: &Path, faults: &mut Faults) {
    for (index, name) in config.claims.iter().enumerate() {
        let place = Place::root().key("audit").key("claims").index(index);
        if name.split('.').any(str::is_empty) {
            faults.error(&place, "this names no claim", "write the name of a claim, as department or extn.costCenter");
        } else if config.claims[..index].contains(name) {
            faults.error(&place, format!("the claim `{name}` is listed twice"), "keep one of them");
        }
    }
    let place = Place::root().key("audit").key("sinks");
    for (index, sink) in config.sinks.iter().enumerate() {
        if let SinkConfig::File(file) = sink {
            check_file(&base.join(&file.path), &place.index(index).key("file").key("path"), faults);
        }
    }
}

fn check_file(path: &Path, place: &Place, faults: &mut Faults) {
    let shown = path.display();
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or_else(|| Path::new("."));
    if path.is_dir() {
        faults.error(place, format!("`{shown}` is a folder"), "name a file in it, as `audit/entrada.jsonl`");
    } else if path.exists() {
        if let Err(error) = writable(path) {
            faults.error(
                place,
                format!("`{shown}` cannot be written to: {error}"),
                "let this user write to it, or name another file",
            );
        }
    } else if !folder.is_dir() {
        let cure = format!("make it: mkdir -p {}", folder.display());
        faults.error(place, format!("the folder `{}` is not there", folder.display()), cure);
    } else if let Err(error) = writable(folder) {
        let message = format!("no file can be made in `{}`: {error}", folder.display());
        faults.error(place, message, "let this user write there, or name another folder");
    }
}

/// Returns what the system says to writing there.
#[cfg(unix)]
fn writable(path: &Path) -> std::io::Result<()> {
    Ok(rustix::fs::access(path, rustix::fs::Access::WRITE_OK)?)
}

#[cfg(not(unix))]
fn writable(path: &Path) -> std::io::Result<()> {
    let read_only = std::fs::metadata(path)?.permissions().readonly();
    if read_only { Err(std::io::ErrorKind::PermissionDenied.into()) } else { Ok(()) }
}
