//! Files: what is read, and as what.

use std::{
    fs,
    path::{Path, PathBuf},
};

use super::{
    apiops, arm, folder,
    input::{File, is_template, value},
    model::Estate,
    openapi,
};
use crate::{ImportError, Options};

/// The largest file that is read, in bytes.
const LARGEST: u64 = 16 << 20;
/// The maximum number of files.
const MOST: usize = 20_000;
/// The deepest nesting of folders.
const DEEPEST: usize = 24;

/// Reads all that the paths name.
pub(crate) fn gather(paths: &[PathBuf], options: &Options) -> Result<Estate, ImportError> {
    let mut estate = Estate::default();
    for (name, value) in &options.named_values {
        estate.named.define(name, super::named::NamedValue::Plain(value.clone()));
    }
    for path in &options.overrides {
        let overrides = value(&read(path)?).ok_or_else(|| ImportError::Unreadable {
            file: path.display().to_string(),
            reason: "it is neither JSON nor YAML".to_owned(),
        })?;
        estate.read_overrides(&overrides);
    }
    for path in paths {
        if path.is_dir() {
            let mut files = Vec::new();
            walk(path, path, &mut files, 0)?;
            files.sort_by(|left: &File, right: &File| left.name.cmp(&right.name));
            if apiops::is_layout(&files) {
                apiops::read(&files, &mut estate)?;
            } else {
                folder::read(&files, &mut estate, options)?;
            }
        } else {
            let name = path.file_name().map_or_else(|| path.display().to_string(), |name| name.to_string_lossy().into_owned());
            let file = File { name, text: read(path)? };
            one(&file, &mut estate, options, paths.len() == 1)?;
        }
    }
    if estate.documents.all.is_empty() && estate.apis.is_empty() {
        return Err(ImportError::Nothing);
    }
    // What was given on the command line counts more than what an export says.
    for (name, value) in &options.named_values {
        estate.named.define(name, super::named::NamedValue::Plain(value.clone()));
    }
    Ok(estate)
}

/// Reads one file by its content.
pub(crate) fn one(file: &File, estate: &mut Estate, options: &Options, is_alone: bool) -> Result<(), ImportError> {
    let text = file.text.trim_start_matches('\u{feff}').trim_start();
    if text.starts_with('<') || is_template(&file.name) {
        return folder::single(file, estate, options, is_alone);
    }
    let value = value(&file.text).ok_or_else(|| ImportError::Unreadable {
        file: file.name.clone(),
        reason: "it is neither XML, JSON nor YAML".to_owned(),
    })?;
    if openapi::is_description(&value) {
        return openapi::read(file, &value, estate);
    }
    if arm::is_template(&value) {
        return arm::read(file, &value, estate);
    }
    Err(ImportError::Unreadable {
        file: file.name.clone(),
        reason: "it is no policy document, no ARM template and no OpenAPI description".to_owned(),
    })
}

fn read(path: &Path) -> Result<String, ImportError> {
    let unreadable = |reason: String| ImportError::Unreadable { file: path.display().to_string(), reason };
    let length = fs::metadata(path).map_err(|error| unreadable(error.to_string()))?.len();
    if length > LARGEST {
        return Err(unreadable("it is larger than 16 MiB".to_owned()));
    }
    let bytes = fs::read(path).map_err(|error| unreadable(error.to_string()))?;
    Ok(decoded(&bytes))
}

/// Decodes UTF-8, and UTF-16 with its mark.
fn decoded(bytes: &[u8]) -> String {
    let units = |from: fn([u8; 2]) -> u16| {
        let units: Vec<u16> = bytes[2..].chunks_exact(2).map(|pair| from([pair[0], pair[1]])).collect();
        String::from_utf16_lossy(&units)
    };
    match bytes {
        [0xff, 0xfe, ..] => units(u16::from_le_bytes),
        [0xfe, 0xff, ..] => units(u16::from_be_bytes),
        _ => String::from_utf8_lossy(bytes).into_owned(),
    }
}

fn walk(root: &Path, folder: &Path, files: &mut Vec<File>, depth: usize) -> Result<(), ImportError> {
    let unreadable = |path: &Path, error: &std::io::Error| ImportError::Unreadable {
        file: path.display().to_string(),
        reason: error.to_string(),
    };
    if depth > DEEPEST {
        return Ok(());
    }
    for entry in fs::read_dir(folder).map_err(|error| unreadable(folder, &error))? {
        let entry = entry.map_err(|error| unreadable(folder, &error))?;
        let path = entry.path();
        let kind = entry.file_type().map_err(|error| unreadable(&path, &error))?;
        if entry.file_name().to_string_lossy().starts_with('.') {
            continue;
        }
        if kind.is_dir() {
            walk(root, &path, files, depth + 1)?;
        } else if kind.is_file() && is_read(&path) {
            if files.len() >= MOST {
                return Err(ImportError::Unreadable {
                    file: folder.display().to_string(),
                    reason: "there are too many files".to_owned(),
                });
            }
            let relative = path.strip_prefix(root).unwrap_or(&path);
            let parts: Vec<_> = relative.components().map(|part| part.as_os_str().to_string_lossy().into_owned()).collect();
            files.push(File { name: parts.join("/"), text: read(&path)? });
        }
    }
    Ok(())
}

fn is_read(path: &Path) -> bool {
    let extension = path.extension().and_then(|extension| extension.to_str()).unwrap_or_default().to_ascii_lowercase();
    matches!(extension.as_str(), "xml" | "tpl" | "json" | "yaml" | "yml")
}
