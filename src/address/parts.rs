//! Address sets under construction, and the pieces that finished sets consist of.

use std::{collections::BTreeMap, sync::Arc};

use super::{
    AddressEntryConfig, AddressSet, Dated, NotedAddressConfig, entry, entry::AddressRange, lint, ranges::Ranges, suggestion,
};
use crate::settings::{Date, Faults, Lint, Place};

/// The largest piece, in ranges, that is copied into the sets that name it: an additional search costs more than the copy.
const COPIED: usize = 64;

/// The maximum number of pieces that are searched one after the other; more pieces are merged into one.
const SEARCHED: usize = 16;

/// Addresses, merged and sorted; shared by the sets that hold them.
#[derive(Debug, Default)]
pub(super) struct Piece {
    /// The ranges that never expire.
    pub(super) lasting: Ranges,
    /// The ranges that expire, with the time in seconds since 1970.
    pub(super) expiring: Vec<(u64, Ranges)>,
    /// The number of addresses of each family, at most.
    pub(super) size: (u128, u128),
}

impl Piece {
    /// Returns all its ranges, whether they expire or not.
    pub(super) fn all(&self) -> impl Iterator<Item = &Ranges> {
        std::iter::once(&self.lasting).chain(self.expiring.iter().map(|(_, ranges)| ranges))
    }

    /// Returns the number of ranges.
    pub(super) fn len(&self) -> usize {
        self.all().map(Ranges::len).sum()
    }
}

/// An address set under construction.
#[derive(Debug, Default)]
pub(super) struct Parts<'a> {
    /// The time, in seconds since 1970, for warnings about expired entries.
    now: u64,
    lasting: Vec<AddressRange>,
    expiring: BTreeMap<u64, Vec<AddressRange>>,
    shared: Vec<(Option<u64>, Arc<Piece>)>,
    pub(super) change_number: Option<u64>,
    /// The entries that were written here, with their places, for the warnings.
    written: Vec<(AddressRange, lint::EntryPlace<'a>)>,
    /// The sets that were named here, with their places, for the warnings.
    included: Vec<(Arc<AddressSet>, lint::EntryPlace<'a>)>,
    dated: Vec<Dated>,
}

impl<'a> Parts<'a> {
    pub(super) fn at(now: u64) -> Self {
        Self { now, ..Self::default() }
    }

    /// Adds the entry with this index of the list at a place. `find` looks sets up by name, and reports why a known set cannot be
    /// used; `names` are the names that exist.
    pub(super) fn add<'n, N: Iterator<Item = &'n String>>(
        &mut self,
        entry: &'a AddressEntryConfig,
        (list, index): (&'a Place, usize),
        faults: &mut Faults,
        find: impl FnOnce(&str, &mut Faults) -> Option<Arc<AddressSet>>,
        names: impl FnOnce() -> N,
    ) {
        let (text, noted) = match entry {
            AddressEntryConfig::Text(text) => (text, None),
            AddressEntryConfig::Noted(noted) => (&noted.address, Some(noted)),
        };
        if let Some(noted) = noted {
            self.note(noted, &list.index(index), faults);
        }
        let until = noted.and_then(|noted| noted.expires).map(Date::end);
        let written = lint::EntryPlace::Entry { list, index, noted: noted.is_some(), text };
        if entry::is_name(text) {
            match find(text, faults) {
                Some(set) => {
                    self.include(&set, until);
                    // What else names these addresses counts for nothing only as long as the set does.
                    if until.is_none() {
                        self.included.push((set, written));
                    }
                }
                None => faults.error(&written.place(), format!("there is no address set `{text}`"), suggestion(text, names())),
            }
            return;
        }
        match text.parse() {
            Ok(span) => self.add_written(span, until, written),
            Err(fault) => faults.error(&written.place(), format!("`{text}`: {fault}"), fault.cure()),
        }
    }

    /// Keeps the details of an entry that expires.
    fn note(&mut self, noted: &NotedAddressConfig, place: &Place, faults: &mut Faults) {
        let Some(expires) = noted.expires else { return };
        let text = |text: &Option<String>| text.as_deref().map(Into::into);
        if expires.end() <= self.now {
            let owner = noted.owner.as_deref().map(|owner| format!(" (of {owner})")).unwrap_or_default();
            faults.warning(
                Lint::AddressExpired,
                &place.key("expires"),
                format!("`{}`{owner} has expired on {expires} and no longer counts", noted.address),
                "remove it, or give it a later day",
            );
        }
        let (owner, reason) = (text(&noted.owner), text(&noted.reason));
        self.dated.push(Dated { address: noted.address.as_str().into(), owner, reason, expires });
    }

    /// Warns about likely mistakes; `named`: the list is a named set.
    pub(super) fn lint(&self, named: bool, faults: &mut Faults) {
        lint::entries(&self.written, named, faults);
        lint::included(&self.written, &self.included, faults);
    }

    pub(super) fn add_written(&mut self, span: AddressRange, until: Option<u64>, written: lint::EntryPlace<'a>) {
        self.push(span, until);
        self.written.push((span, written));
    }

    pub(super) fn push(&mut self, span: AddressRange, until: Option<u64>) {
        match until {
            Some(until) => self.expiring.entry(until).or_default().push(span),
            None => self.lasting.push(span),
        }
    }

    /// Includes another set; entries that would outlast `until` end with it.
    fn include(&mut self, set: &AddressSet, until: Option<u64>) {
        for (ends, piece) in set.pieces() {
            let until = earlier(ends, until);
            if piece.len() > COPIED {
                self.share(piece, until);
            } else {
                self.copy(piece, until);
            }
        }
        self.change_number = self.change_number.max(set.change_number);
    }

    fn share(&mut self, piece: &Arc<Piece>, until: Option<u64>) {
        match self.shared.iter_mut().find(|(_, other)| Arc::ptr_eq(other, piece)) {
            // Of two that name it the later end counts.
            Some((other, _)) => *other = other.zip(until).map(|(one, other)| one.max(other)),
            None => self.shared.push((until, piece.clone())),
        }
    }

    fn copy(&mut self, piece: &Piece, until: Option<u64>) {
        for span in piece.lasting.spans() {
            self.push(span, until);
        }
        for (ends, ranges) in &piece.expiring {
            for span in ranges.spans() {
                self.push(span, earlier(Some(*ends), until));
            }
        }
    }

    pub(super) fn finish(mut self) -> AddressSet {
        if self.shared.len() > SEARCHED {
            for (until, piece) in std::mem::take(&mut self.shared) {
                self.copy(&piece, until);
            }
        }
        let lasting = Ranges::of(self.lasting);
        let expiring: Vec<_> = self.expiring.into_iter().rev().map(|(until, spans)| (until, Ranges::of(spans))).collect();
        let sizes = std::iter::once(&lasting).chain(expiring.iter().map(|(_, ranges)| ranges)).map(Ranges::size);
        let size = sizes.fold((0, 0), |(v4, v6): (u128, u128), size| (v4.saturating_add(size.0), v6.saturating_add(size.1)));
        let expires = |(until, piece): &(Option<u64>, Arc<Piece>)| until.is_some() || !piece.expiring.is_empty();
        AddressSet {
            expires: !expiring.is_empty() || self.shared.iter().any(expires),
            own: Arc::new(Piece { lasting, expiring, size }),
            shared: self.shared.into(),
            change_number: self.change_number,
            dated: self.dated.into(),
        }
    }
}

/// Returns the earlier of two expiry times, where `None` means never.
fn earlier(one: Option<u64>, other: Option<u64>) -> Option<u64> {
    one.into_iter().chain(other).min()
}
