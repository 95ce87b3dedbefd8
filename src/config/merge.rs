//! Included files, and their merge into one document.

use std::{
    collections::HashMap,
    io::Read as _,
    path::{Path, PathBuf},
};

use super::schema::{Additional, Shape};
use crate::settings::{Finding, Lint};
use crate::settings::{
    fault::Place,
    node::{Key, Kind, Node},
    origin::{Origin, SourceFile, Sources},
    yaml,
};

/// The end of the names of files of test cases.
pub(crate) const TEST_FILE: &str = ".test.yaml";

/// The longest file that is read, in bytes.
const FILE_LIMIT: u64 = 16 << 20;

/// A document in parts.
pub(crate) struct Reading {
    pub(crate) document: Node,
    pub(crate) findings: Vec<Finding>,
    /// The folders of included files, in which new ones may appear.
    pub(crate) folders: Vec<PathBuf>,
}

/// Reads a file and adds it to the sources.
///
/// # Errors
/// Returns the error of the system, or fails if the file is too long or not text.
pub(crate) fn add_file(path: &Path, sources: &mut Sources) -> std::io::Result<usize> {
    use std::io::{Error, ErrorKind};

    let mut bytes = Vec::new();
    std::fs::File::open(path)?.take(FILE_LIMIT + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > FILE_LIMIT {
        return Err(Error::new(ErrorKind::FileTooLarge, "it is longer than 16 MiB"));
    }
    let text = String::from_utf8(bytes).map_err(|_| Error::new(ErrorKind::InvalidData, "it is not UTF-8"))?;
    Ok(sources.add(SourceFile { name: path.display().to_string(), path: path.to_owned(), text }))
}

/// Reads the main file, which is already in the sources, and everything that it includes.
pub(crate) fn read(main: usize, base: &Path, sources: &mut Sources, shape: Shape<'_>) -> Reading {
    let mut findings = Vec::new();
    let mut folders = Vec::new();
    let mut document = read_one(main, sources, &mut findings);
    for (pattern, at, place) in includes(&document) {
        if pattern.contains("{{") {
            findings.push(Finding::error(at, &place, "a file to include cannot hold a named value", "write its name out"));
            continue;
        }
        match expand(base, &pattern, &mut folders) {
            Err(error) => {
                findings.push(Finding::error(
                    at,
                    &place,
                    format!("`{pattern}` cannot be read: {error}"),
                    "paths are relative to the config file",
                ));
            }
            Ok(paths) if paths.is_empty() => {
                findings.push(Finding::warning(
                    Lint::IncludeMatchesNothing,
                    at,
                    &place,
                    format!("`{pattern}` matches no file"),
                    "check the path; it is relative to the config file",
                ));
            }
            Ok(paths) => {
                for path in paths {
                    include(&path, (&at, &place), &mut document, sources, shape, &mut findings);
                }
            }
        }
    }
    names_once(&document, &mut findings);
    Reading { document, findings, folders }
}

/// Reads one file; parts that must not be shown are hidden.
pub(super) fn read_one(file: usize, sources: &mut Sources, findings: &mut Vec<Finding>) -> Node {
    let mut hidden = Vec::new();
    let node = yaml::read(&sources.get(file).text, file, findings, &mut hidden);
    hidden.into_iter().for_each(|origin| sources.hide(origin));
    node
}

/// Hides an omitted value, which is never checked against the schema.
fn hide(node: &Node, sources: &mut Sources) {
    node.each_part(&mut |origin| sources.hide(origin.clone()));
}

fn include(
    path: &Path,
    (at, place): (&Origin, &Place),
    document: &mut Node,
    sources: &mut Sources,
    shape: Shape<'_>,
    findings: &mut Vec<Finding>,
) {
    if sources.paths().any(|known| known == path) {
        // Two patterns may well match the same file.
        return;
    }
    match add_file(path, sources) {
        Ok(file) => {
            let more = read_one(file, sources, findings);
            let mut left_out = Vec::new();
            merge(document, more, shape, findings, &mut left_out);
            left_out.iter().for_each(|node| hide(node, sources));
        }
        Err(error) => {
            let message = format!("`{}` cannot be read: {error}", path.display());
            findings.push(Finding::error(at.clone(), place, message, "check that it is there and that this user may read it"));
        }
    }
}

/// Returns the includes of the document. The schema check reports those that are not texts.
fn includes(document: &Node) -> Vec<(String, Origin, Place)> {
    let place = Place::root().key("include");
    let Some(Node { kind: Kind::List(entries), .. }) = document.get("include") else { return Vec::new() };
    entries
        .iter()
        .enumerate()
        .filter_map(|(index, entry)| Some((entry.as_text()?.to_owned(), entry.at.clone(), place.index(index))))
        .collect()
}

/// Returns the files that match a pattern, sorted by name; `*` is only allowed in the last part.
fn expand(base: &Path, pattern: &str, folders: &mut Vec<PathBuf>) -> std::io::Result<Vec<PathBuf>> {
    use std::io::{Error, ErrorKind};

    let path = base.join(pattern);
    if !pattern.contains('*') {
        return Ok(vec![path]);
    }
    let folder = path.parent().unwrap_or(base).to_owned();
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default().to_owned();
    if folder.to_string_lossy().contains('*') {
        return Err(Error::new(ErrorKind::InvalidInput, "`*` works in the name of the file, not in that of a folder"));
    }
    let mut found = Vec::new();
    let listed = if folder.as_os_str().is_empty() { Path::new(".") } else { &folder };
    for entry in std::fs::read_dir(listed)? {
        let entry = entry?.file_name();
        // Editors and Kubernetes keep files of their own behind a leading dot.
        // Files of test cases stand beside those of routes, and are none.
        let is_config = |entry: &&str| !entry.starts_with('.') && !entry.ends_with(TEST_FILE);
        if let Some(entry) = entry.to_str().filter(|entry| is_config(entry) && matches(&name, entry)) {
            found.push(folder.join(entry));
        }
    }
    found.retain(|path| path.is_file());
    found.sort();
    folders.push(listed.to_owned());
    Ok(found)
}

/// Returns whether the name matches the pattern, in which `*` stands for any text.
fn matches(pattern: &str, name: &str) -> bool {
    let mut pieces = pattern.split('*');
    let first = pieces.next().unwrap_or_default();
    let Some(mut rest) = name.strip_prefix(first) else { return false };
    let mut pieces: Vec<&str> = pieces.collect();
    let Some(last) = pieces.pop() else { return rest.is_empty() };
    for piece in pieces {
        let Some(at) = rest.find(piece) else { return false };
        rest = &rest[at + piece.len()..];
    }
    rest.len() >= last.len() && rest.ends_with(last)
}

/// Merges an included file. Lists are appended, maps of named things are joined, and nothing is ever replaced. Values that cannot
/// be merged are left out.
fn merge(document: &mut Node, more: Node, shape: Shape<'_>, findings: &mut Vec<Finding>, left_out: &mut Vec<Node>) {
    if !matches!(more.kind, Kind::Map(_)) {
        left_out.push(more.clone());
    }
    let Kind::Map(more) = more.kind else {
        if !matches!(more.kind, Kind::Broken | Kind::Null) {
            let message = format!("a config is a map, not {}", more.what());
            findings.push(Finding::error(more.at, &Place::root(), message, "write the same keys as in the main file"));
        }
        return;
    };
    if matches!(document.kind, Kind::Null) {
        document.kind = Kind::Map(Vec::new());
    }
    let Kind::Map(entries) = &mut document.kind else { return };
    for (key, value) in more {
        let place = Place::root().key(&key.text);
        if key.text == "include" {
            findings.push(Finding::error(key.at, &place, "an included file cannot include others", "name them in the main file"));
            left_out.push(value);
            continue;
        }
        let Some((first, existing)) = entries.iter_mut().find(|(known, _)| known.text == key.text) else {
            entries.push((key, value));
            continue;
        };
        match (&mut existing.kind, value.kind) {
            (Kind::List(existing), Kind::List(more)) => existing.extend(more),
            (Kind::Map(existing), Kind::Map(more)) if holds_named_things(shape, &key.text) => {
                join(existing, more, &place, findings, left_out)
            }
            (Kind::Broken | Kind::Null, kind) => existing.kind = kind,
            (_, Kind::Broken | Kind::Null) => {}
            (_, kind) => {
                left_out.push(Node::new(kind, value.at));
                let message = format!("`{}` stands in two files", key.text);
                findings.push(
                    Finding::error(key.at, &place, message, "keep it in one of them").related(first.at.clone(), "the first one"),
                );
            }
        }
    }
}

fn join(
    existing: &mut Vec<(Key, Node)>,
    more: Vec<(Key, Node)>,
    place: &Place,
    findings: &mut Vec<Finding>,
    left_out: &mut Vec<Node>,
) {
    for (key, value) in more {
        match existing.iter().find(|(known, _)| known.text == key.text) {
            Some((first, _)) => {
                let finding = Finding::error(
                    key.at,
                    &place.key(&key.text),
                    format!("`{}` is defined twice", key.text),
                    "rename or remove one of the two",
                );
                findings.push(finding.related(first.at.clone(), "the first one"));
                left_out.push(value);
            }
            None => existing.push((key, value)),
        }
    }
}

/// Returns whether the keys below this key are names chosen by the user, as in `tenants`, and not settings.
fn holds_named_things(document: Shape<'_>, key: &str) -> bool {
    document.property(key).is_some_and(|shape| shape.properties().is_none() && matches!(shape.additional(), Additional::Each(_)))
}

/// Refuses two things of one list, such as two routes, with the same name.
pub(super) fn names_once(document: &Node, findings: &mut Vec<Finding>) {
    for (key, value) in document.as_map().into_iter().flatten() {
        let Kind::List(entries) = &value.kind else { continue };
        let mut names: HashMap<&str, &Origin> = HashMap::new();
        for (index, entry) in entries.iter().enumerate() {
            let Some((name, at)) = entry.get("name").and_then(|name| Some((name.as_text()?, &name.at))) else { continue };
            match names.get(name) {
                Some(first) => {
                    let place = Place::root().key(&key.text).index(index).key("name");
                    let finding = Finding::error(
                        at.clone(),
                        &place,
                        format!("`{name}` is defined twice"),
                        "rename or remove one of the two",
                    );
                    findings.push(finding.related((*first).clone(), "the first one"));
                }
                None => {
                    names.insert(name, at);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stars_match_any_run_of_letters() {
        for (pattern, name, expected) in [
            ("*.yaml", "a.yaml", true),
            ("*.yaml", "a.yml", false),
            ("a*b*c", "abc", true),
            ("a*b*c", "axxbxxc", true),
            ("a*b*c", "axxcxxb", false),
            ("a*a", "a", false),
            ("*", "anything", true),
            ("same", "same", true),
            ("same", "samer", false),
        ] {
            assert_eq!(matches(pattern, name), expected, "{pattern} {name}");
        }
    }
}
