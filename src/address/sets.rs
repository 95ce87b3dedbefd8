//! The named sets: lists, files, Microsoft's service tags, and sets of sets.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::File,
    io::Read,
    path::{Path, PathBuf},
    sync::Arc,
};

use serde::Deserialize;

use super::{
    AddressEntryConfig, AddressFileConfig, AddressSet, AddressSetConfig, Parts,
    built::{self, BuiltSets},
    entry, lint, suggestion,
};
use crate::settings::{Faults, Lint, Place};

/// The largest file that is read, in bytes. Microsoft's has 4 MiB, a line of text has 10 to 40 bytes.
const MAX_FILE: u64 = 64 << 20;

/// The number of faults of one file that are reported one by one.
const TOLD: usize = 20;

/// The named sets of a config.
#[derive(Clone, Debug, Default)]
pub struct AddressSets {
    /// The sets by name.
    pub by_name: BTreeMap<String, Arc<AddressSet>>,
    /// The files that sets were read from: when one changes, the config is read again.
    pub files: BTreeSet<PathBuf>,
    /// The time when they were read, in seconds since 1970, for warnings about expired entries.
    pub now: u64,
    /// The sets that hold the shared addresses of Azure Front Door, from which all its customers call.
    pub(super) front_doors: BTreeSet<String>,
    /// The sets that lists and files describe, while a config is compiled.
    pub(super) built: Arc<BuiltSets>,
}

impl AddressSets {
    /// Builds the sets of a config; sets that cannot be built become empty ones, and their faults are reported. Relative paths
    /// start from the folder `base`; `now` is the time in seconds since 1970.
    pub fn build(config: &BTreeMap<String, AddressSetConfig>, base: &Path, place: &Place, now: u64, faults: &mut Faults) -> Self {
        let sets = Self { now, front_doors: front_doors(config), ..Self::default() };
        let mut builder = Builder { config, base, place, sets, open: Vec::new(), published: BTreeMap::new() };
        for name in config.keys() {
            builder.set(name, faults);
        }
        builder.sets
    }

    /// Drops the data that only the build needs. Must be called when all lists of the config are built.
    pub(crate) fn finish(&self) {
        self.built.clear();
    }

    /// Returns the first of these entries that stands for addresses which all customers of Azure Front Door share.
    pub(crate) fn front_door<'e>(&self, entries: &'e [AddressEntryConfig]) -> Option<&'e str> {
        entries.iter().map(AddressEntryConfig::text).find(|name| self.front_doors.contains(*name))
    }

    /// Returns the time when the next entry of any set expires, in seconds since 1970.
    pub fn next_expiry(&self, now: u64) -> Option<u64> {
        self.by_name.values().filter_map(|set| set.next_expiry(now)).min()
    }
}

/// Returns the sets made from Front Door's service tag, and those that hold one of them.
fn front_doors(config: &BTreeMap<String, AddressSetConfig>) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    loop {
        let before = found.len();
        for (name, set) in config {
            let shared = match set {
                AddressSetConfig::Entries(entries) => entries.iter().any(|entry| found.contains(entry.text())),
                AddressSetConfig::File(file) => file.tags.iter().any(|tag| tag.eq_ignore_ascii_case("AzureFrontDoor.Backend")),
            };
            if shared {
                found.insert(name.clone());
            }
        }
        if found.len() == before {
            return found;
        }
    }
}

struct Builder<'a> {
    config: &'a BTreeMap<String, AddressSetConfig>,
    base: &'a Path,
    place: &'a Place,
    sets: AddressSets,
    /// The sets under construction, the outermost first.
    open: Vec<&'a str>,
    /// Microsoft's files, each read once however many sets use their tags.
    published: BTreeMap<&'a str, Arc<Published>>,
}

impl<'a> Builder<'a> {
    /// Returns the set of this name, building it if necessary: the order in the file does not matter.
    fn set(&mut self, name: &str, faults: &mut Faults) -> Option<Arc<AddressSet>> {
        if let Some(set) = self.sets.by_name.get(name) {
            return Some(set.clone());
        }
        let (name, config) = self.config.get_key_value(name)?;
        let place = self.place.key(name);
        if !entry::is_name(name) {
            faults.error(
                &place,
                format!("`{name}` cannot name a set"),
                "begin with a letter; then letters, digits, `-`, `_`, `.`",
            );
        }
        self.open.push(name);
        let set = match config {
            AddressSetConfig::Entries(entries) => {
                let mut parts = Parts::at(self.sets.now);
                for (index, entry) in entries.iter().enumerate() {
                    let at = place.index(index);
                    let names = self.config;
                    parts.add(entry, (&place, index), faults, |name, faults| self.referenced(name, &at, faults), || names.keys());
                }
                if entries.is_empty() {
                    faults.warning(Lint::AddressSetEmpty, &place, "the set is empty", "list an address, or remove the set");
                }
                parts.lint(true, faults);
                Arc::new(parts.finish())
            }
            AddressSetConfig::File(file) => self.file(file, &place, faults).unwrap_or_default(),
        };
        self.open.pop();
        self.sets.by_name.insert(name.clone(), set.clone());
        Some(set)
    }

    /// Returns a set that another one names.
    fn referenced(&mut self, name: &str, place: &Place, faults: &mut Faults) -> Option<Arc<AddressSet>> {
        if let Some(at) = self.open.iter().position(|open| *open == name) {
            let circle = [&self.open[at..], &[name]].concat().join("` → `");
            faults.error(place, format!("the set holds itself: `{circle}`"), "break the circle");
            return Some(Arc::default());
        }
        self.set(name, faults)
    }

    /// Reads the set from a file; `None` if the entry names no file or two.
    fn file(&mut self, config: &'a AddressFileConfig, place: &Place, faults: &mut Faults) -> Option<Arc<AddressSet>> {
        let built = self.sets.built.clone();
        match (&config.file, &config.service_tags) {
            (Some(file), None) => {
                if !config.tags.is_empty() {
                    faults.error(
                        &place.key("file"),
                        "`tags` belong to `service-tags`",
                        "leave `tags` out, or write `service-tags` for `file`",
                    );
                }
                built.once(built::key_of_file("file", file, &[]), place, faults, |faults| {
                    let place = place.key("file");
                    let text = self.read(file, &place, faults)?;
                    let mut parts = Parts::at(self.sets.now);
                    lines(&text, &place, &mut parts, faults);
                    parts.lint(true, faults);
                    Some(Arc::new(parts.finish()))
                })
            }
            (None, Some(file)) => {
                if config.tags.is_empty() {
                    faults.error(place, "no tag is named", "list them, as in `tags: [AzureFrontDoor.Backend]`");
                }
                built.once(built::key_of_file("service-tags", file, &config.tags), place, faults, |faults| {
                    let published = self.published(file, &place.key("service-tags"), faults)?;
                    Some(Arc::new(service_tags(&published, &config.tags, &place.key("tags"), faults)))
                })
            }
            _ => {
                let cure = "write a list, or `file`, or `service-tags` and `tags`";
                faults.error(place, "the set is neither a list nor one file", cure);
                None
            }
        }
    }

    /// Returns Microsoft's file of this name, parsed once.
    fn published(&mut self, file: &'a str, place: &Place, faults: &mut Faults) -> Option<Arc<Published>> {
        if let Some(known) = self.published.get(file) {
            return Some(known.clone());
        }
        let text = self.read(file, place, faults)?;
        match serde_json::from_str(text.trim_start_matches('\u{feff}')) {
            Ok(published) => Some(self.published.entry(file).or_insert(Arc::new(published)).clone()),
            Err(error) => {
                let message = format!("the file is not Microsoft's list of service tags: {error}");
                faults.error(place, message, "download the JSON file again");
                None
            }
        }
    }

    fn read(&mut self, path: &str, place: &Place, faults: &mut Faults) -> Option<String> {
        let path = self.base.join(path);
        // Watched even if it cannot be read now: it may be about to be put there.
        self.sets.files.insert(path.clone());
        let mut bytes = Vec::new();
        let result = File::open(&path).and_then(|file| file.take(MAX_FILE + 1).read_to_end(&mut bytes));
        if let Err(error) = result {
            faults.error(
                place,
                format!("`{}` cannot be read: {error}", path.display()),
                "name a file that is there and may be read",
            );
            return None;
        }
        if bytes.len() as u64 > MAX_FILE {
            faults.error(place, format!("`{}` is larger than 64 MiB", path.display()), "split the file");
            return None;
        }
        match String::from_utf8(bytes) {
            Ok(text) => Some(text),
            Err(_) => {
                faults.error(place, format!("`{}` is not UTF-8 text", path.display()), "save it as UTF-8");
                None
            }
        }
    }
}

/// Reads one address, CIDR or range per line; `#` begins a comment.
fn lines<'a>(text: &'a str, place: &'a Place, parts: &mut Parts<'a>, faults: &mut Faults) {
    let mut bad = 0;
    let mut empty = true;
    // Editors of some systems begin a file with a byte order mark.
    for (index, line) in text.trim_start_matches('\u{feff}').lines().enumerate() {
        let line = line.split('#').next().unwrap_or_default().trim();
        if line.is_empty() {
            continue;
        }
        empty = false;
        match line.parse() {
            Ok(span) => parts.add_written(span, None, lint::EntryPlace::Line { file: place, line: index + 1, text: line }),
            Err(fault) => {
                bad += 1;
                if bad <= TOLD {
                    let fault: super::EntryFault = fault;
                    faults.error(place, format!("line {}: `{line}`: {fault}", index + 1), fault.cure());
                }
            }
        }
    }
    if bad > TOLD {
        faults.error(place, format!("{} more lines of the file cannot be read", bad - TOLD), "mend those first");
    }
    if empty {
        faults.warning(Lint::AddressSetEmpty, place, "the file holds no address", "list an address, or remove the set");
    }
}

/// Microsoft's published file, reduced to the needed fields.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Published {
    change_number: u64,
    values: Vec<Tag>,
}

#[derive(Debug, Deserialize)]
struct Tag {
    name: String,
    properties: Properties,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Properties {
    address_prefixes: Vec<String>,
}

/// Builds the set of these tags, which are listed at the place.
fn service_tags(published: &Published, tags: &[String], place: &Place, faults: &mut Faults) -> AddressSet {
    let mut parts = Parts::default();
    parts.change_number = Some(published.change_number);
    let mut bad = 0;
    for (index, name) in tags.iter().enumerate() {
        let place = place.index(index);
        let Some(tag) = published.values.iter().find(|tag| tag.name == *name) else {
            faults.error(
                &place,
                format!("the file has no tag `{name}`"),
                suggestion(name, published.values.iter().map(|tag| &tag.name)),
            );
            continue;
        };
        for prefix in &tag.properties.address_prefixes {
            match prefix.parse::<super::AddressRange>() {
                // Not linted: overlaps are as published.
                Ok(span) => parts.push(span, None),
                Err(fault) => {
                    bad += 1;
                    if bad <= TOLD {
                        faults.error(&place, format!("`{name}` holds `{prefix}`: {fault}"), "download the JSON file again");
                    }
                }
            }
        }
    }
    parts.finish()
}
