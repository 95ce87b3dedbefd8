//! Warnings about likely mistakes in a list of addresses.

use std::{fmt, sync::Arc};

use super::{AddressSet, entry::AddressRange};
use crate::settings::{Faults, Lint, Place};

/// The number of findings of one kind that are reported one by one; a file may hold thousands.
const TOLD: usize = 5;

/// The place where an entry was written.
#[derive(Clone, Copy, Debug)]
pub(super) enum EntryPlace<'a> {
    /// In the config: an entry of the list at this place.
    Entry { list: &'a Place, index: usize, noted: bool, text: &'a str },
    /// In a file that the config names at this place, on this line.
    Line { file: &'a Place, line: usize, text: &'a str },
}

impl EntryPlace<'_> {
    pub(super) fn place(&self) -> Place {
        match self {
            Self::Entry { list, index, noted: false, .. } => list.index(*index),
            Self::Entry { list, index, noted: true, .. } => list.index(*index).key("address"),
            Self::Line { file, .. } => (*file).clone(),
        }
    }
}

impl fmt::Display for EntryPlace<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Entry { text, .. } => write!(f, "`{text}`"),
            Self::Line { line, text, .. } => write!(f, "line {line}: `{text}`"),
        }
    }
}

/// Warns about entries that have no effect, overlap, or are absurdly wide.
///
/// `named`: the list is a named set. For a policy's own list, the policy judges an entry that holds every address.
pub(super) fn entries(written: &[(AddressRange, EntryPlace<'_>)], named: bool, faults: &mut Faults) {
    for (span, entry) in written {
        if span.is_everything() && !named {
            continue;
        }
        if span.is_everything() {
            faults.warning(
                Lint::AddressSetEverything,
                &entry.place(),
                format!("{entry} is every address there is"),
                "leave it out, or list the networks that are meant",
            );
        } else if span.is_vast() {
            faults.warning(
                Lint::AddressRangeVast,
                &entry.place(),
                format!("{entry} is wider than any one network"),
                "list the networks that are meant",
            );
        }
    }
    let mut sorted: Vec<_> = written.iter().collect();
    // By start, the widest first: whatever is covered comes behind what covers it. Equal spans stay as written.
    sorted.sort_by_key(|(span, _)| key(*span));
    let mut told = 0;
    let mut widest: Option<&(AddressRange, EntryPlace<'_>)> = None;
    for current in sorted {
        let Some(before) = widest.filter(|before| before.0.meets(current.0)) else {
            widest = Some(current);
            continue;
        };
        told += 1;
        if told > TOLD {
            continue;
        }
        let (first, second) = (&before.1, &current.1);
        if before.0.covers(current.0) {
            faults.warning(Lint::AddressListedTwice, &second.place(), format!("{second} is already in {first}"), "leave it out");
        } else {
            faults.warning(
                Lint::AddressesOverlap,
                &second.place(),
                format!("{second} overlaps {first}"),
                "make the two meet, or one of them",
            );
            widest = Some(current);
        }
    }
    if let (true, Some((_, entry))) = (told > TOLD, written.first()) {
        let place = entry.place();
        faults.warning(
            Lint::AddressListedTwice,
            &place,
            format!("{} more entries of the list overlap others", told - TOLD),
            "leave out what is covered",
        );
    }
}

/// Warns about entries that a set named in the same list already holds, and about sets that another one contains.
pub(super) fn included(
    written: &[(AddressRange, EntryPlace<'_>)],
    sets: &[(Arc<AddressSet>, EntryPlace<'_>)],
    faults: &mut Faults,
) {
    let mut told = 0;
    let mut tell = |entry: &EntryPlace<'_>, whole: &EntryPlace<'_>| {
        told += 1;
        if told <= TOLD {
            faults.warning(Lint::AddressListedTwice, &entry.place(), format!("{entry} is already in {whole}"), "leave it out");
        }
    };
    for (index, (set, whole)) in sets.iter().enumerate() {
        for (_, entry) in written.iter().filter(|(span, _)| set.covers(*span)) {
            tell(entry, whole);
        }
        for (other, (part, entry)) in sets.iter().enumerate() {
            // Of two that hold the same the first is left.
            let covered = other != index && !part.is_empty() && set.covers_all_of(part);
            if covered && !(other < index && part.covers_all_of(set)) {
                tell(entry, whole);
            }
        }
    }
    if let (true, Some((_, set))) = (told > TOLD, sets.first()) {
        let message = format!("{} more entries of the list are in sets that it names", told - TOLD);
        faults.warning(Lint::AddressListedTwice, &set.place(), message, "leave out what is covered");
    }
}

/// Returns the sort key: family, then start, then the widest first.
const fn key(span: AddressRange) -> (bool, u128, u128) {
    match span {
        AddressRange::V4(from, to) => (false, from as u128, u128::MAX - to as u128),
        AddressRange::V6(from, to) => (true, from, u128::MAX - to),
    }
}
