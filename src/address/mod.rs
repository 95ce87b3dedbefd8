//! Sets of network addresses: their syntax, and lookups in them.
//!
//! A set is compiled into sorted ranges without overlaps, so that a lookup is one binary search, however long the list is.
//! Entries that expire are kept apart by date, so that they stop counting on that date without a rebuild.

mod built;
mod entry;
mod lint;
mod parts;
mod ranges;
mod sets;
mod status;

use std::{net::IpAddr, sync::Arc};

pub(crate) use entry::address as read_address;
pub use entry::{AddressRange, EntryFault};
use parts::{Parts, Piece};
use ranges::Ranges;
use schemars::JsonSchema;
use serde::Deserialize;
pub use sets::AddressSets;
pub(crate) use status::AddressSetStatus;

use crate::{
    base::clock::Clock,
    settings::{Date, Faults, Place},
};

/// One entry of a list of addresses: an address, a CIDR, a range `from-to`, or the name of an address set; or an object with the same and a note.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Eq)]
#[serde(untagged)]
pub enum AddressEntryConfig {
    /// `203.0.113.7`, `203.0.113.0/24`, `198.51.100.10-198.51.100.40`, `offices`.
    Text(String),
    /// The same with a note.
    Noted(NotedAddressConfig),
}

impl AddressEntryConfig {
    /// Returns the address, range or name itself.
    pub(crate) fn text(&self) -> &str {
        match self {
            Self::Text(text) => text,
            Self::Noted(noted) => &noted.address,
        }
    }
}

/// An entry of a list of addresses with an owner, a reason and an expiry date.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Eq)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct NotedAddressConfig {
    /// An address, a CIDR, a range `from-to`, or the name of an address set.
    pub address: String,
    /// The owner of the address.
    pub owner: Option<String>,
    /// The reason for the entry.
    pub reason: Option<String>,
    /// The last day on which the entry counts, UTC. Default: it always counts.
    pub expires: Option<Date>,
}

/// A named list of addresses: entries, or a file that holds them.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Eq)]
#[serde(untagged)]
pub enum AddressSetConfig {
    /// Entries.
    Entries(Vec<AddressEntryConfig>),
    /// A file.
    File(AddressFileConfig),
}

/// A file that holds addresses; read again when it changes.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq, Eq)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct AddressFileConfig {
    /// A text file: one address, CIDR or range a line; `#` begins a comment. Not with `service-tags`.
    pub file: Option<String>,
    /// Microsoft's published file of service tags. Not with `file`.
    pub service_tags: Option<String>,
    /// The tags of that file, such as `AzureFrontDoor.Backend`.
    pub tags: Vec<String>,
}

/// A set of addresses, compiled once and looked up by binary search.
///
/// Large sets that it names are not copied: their pieces are shared by all sets that name them.
#[derive(Clone, Debug, Default)]
pub struct AddressSet {
    /// The ranges of its own entries and of the small sets among them.
    own: Arc<Piece>,
    /// The pieces of large sets, each with the time until which it counts here.
    shared: Box<[(Option<u64>, Arc<Piece>)]>,
    /// True if any part of it expires.
    expires: bool,
    /// The number of the published file that the set was made from.
    change_number: Option<u64>,
    /// The entries of its own that expire.
    dated: Box<[Dated]>,
}

/// An entry that counts until a day.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dated {
    /// The entry as written.
    pub address: Box<str>,
    /// The owner of the address.
    pub owner: Option<Box<str>>,
    /// The reason for the entry.
    pub reason: Option<Box<str>>,
    /// The last day on which it counts, UTC.
    pub expires: Date,
}

impl AddressSet {
    /// Builds the set that `entries` describe, where names refer to the sets in `named`; reports faults otherwise.
    ///
    /// Lists of the same entries share one set.
    pub fn build(entries: &[AddressEntryConfig], place: &Place, named: &AddressSets, faults: &mut Faults) -> Option<Arc<Self>> {
        named.built.once(built::key_of(entries), place, faults, |faults| {
            let before = faults.errors();
            let mut parts = Parts::at(named.now);
            for (index, entry) in entries.iter().enumerate() {
                let find = |name: &str, _: &mut Faults| named.by_name.get(name).cloned();
                parts.add(entry, (place, index), faults, find, || named.by_name.keys());
            }
            parts.lint(false, faults);
            (faults.errors() == before).then(|| Arc::new(parts.finish()))
        })
    }

    /// Returns whether the address is in the set. An IPv4-mapped IPv6 address is the IPv4 one.
    ///
    /// The clock is read only where an entry that expires could decide.
    pub fn contains(&self, address: IpAddr, clock: &Clock) -> bool {
        self.lasting().any(|ranges| ranges.contains(address)) || (self.expires && self.contains_at(address, clock.unix_seconds()))
    }

    fn contains_at(&self, address: IpAddr, now: u64) -> bool {
        self.expiring().any(|(until, ranges)| now < until && ranges.contains(address))
    }

    /// Returns the pieces, each with the latest time until which it counts.
    fn pieces(&self) -> impl Iterator<Item = (Option<u64>, &Arc<Piece>)> {
        std::iter::once((None, &self.own)).chain(self.shared.iter().map(|(until, piece)| (*until, piece)))
    }

    /// Returns the ranges that never expire.
    fn lasting(&self) -> impl Iterator<Item = &Ranges> {
        self.pieces().filter(|(until, _)| until.is_none()).map(|(_, piece)| &piece.lasting)
    }

    /// Returns the ranges that expire, with the time of expiry.
    fn expiring(&self) -> impl Iterator<Item = (u64, &Ranges)> {
        self.pieces().flat_map(|(until, piece)| {
            let lasting = until.map(|until| (until, &piece.lasting));
            let own = piece.expiring.iter().map(move |(ends, ranges)| (until.map_or(*ends, |until| until.min(*ends)), ranges));
            lasting.into_iter().chain(own)
        })
    }

    /// Returns the ranges that count at this time, in seconds since 1970: for telling what a set holds.
    pub(crate) fn ranges_at(&self, now: u64) -> Vec<AddressRange> {
        let expiring = self.expiring().filter(|(until, _)| now < *until).map(|(_, ranges)| ranges);
        self.lasting().chain(expiring).flat_map(Ranges::spans).collect()
    }

    /// Returns whether no address is in the set.
    pub fn is_empty(&self) -> bool {
        self.ranges() == 0
    }

    /// Returns the number of ranges that are searched.
    pub fn ranges(&self) -> usize {
        self.pieces().map(|(_, piece)| piece.len()).sum()
    }

    /// Returns the number of Microsoft's published file, where the set was made from one.
    pub const fn change_number(&self) -> Option<u64> {
        self.change_number
    }

    /// Returns the entries with an expiry date, as written in the set itself.
    pub const fn dated(&self) -> &[Dated] {
        &self.dated
    }

    /// Returns whether one of the set's pieces permanently holds every address of the span.
    fn covers(&self, span: AddressRange) -> bool {
        self.lasting().any(|ranges| ranges.covers(span))
    }

    /// Returns whether every address of the other set is permanently in this one.
    pub(crate) fn covers_all_of(&self, other: &Self) -> bool {
        let is_ours = |piece: &Arc<Piece>| self.pieces().any(|(until, own)| until.is_none() && Arc::ptr_eq(own, piece));
        let covers = |ranges: &Ranges| ranges.spans().all(|span| self.covers(span));
        other.pieces().all(|(_, piece)| {
            (is_ours(piece) || covers(&piece.lasting)) && piece.expiring.iter().all(|(_, ranges)| covers(ranges))
        })
    }

    /// Returns whether some address is in both sets, also where it expires.
    pub(crate) fn meets(&self, other: &Self) -> bool {
        let (few, many) = if self.ranges() <= other.ranges() { (self, other) } else { (other, self) };
        let many: Vec<&Ranges> = many.pieces().flat_map(|(_, piece)| piece.all()).collect();
        let mut few = few.pieces().flat_map(|(_, piece)| piece.all()).flat_map(Ranges::spans);
        few.any(|span| many.iter().any(|ranges| ranges.meets(span)))
    }

    /// Returns the time when the next entry expires, in seconds since 1970.
    pub fn next_expiry(&self, now: u64) -> Option<u64> {
        self.expiring().map(|(until, _)| until).filter(|until| *until > now).min()
    }

    /// Returns whether the set holds every address of a family, in however many parts.
    pub(crate) fn holds_a_whole_family(&self) -> bool {
        // Merging is for sets alone that hold as many addresses as a family has.
        let sizes = self.pieces().map(|(_, piece)| piece.size);
        let size = sizes.fold((0, 0), |(v4, v6): (u128, u128), size| (v4.saturating_add(size.0), v6.saturating_add(size.1)));
        if size.0 <= u128::from(u32::MAX) && size.1 < u128::MAX {
            return false;
        }
        let all = self.pieces().flat_map(|(_, piece)| piece.all()).flat_map(Ranges::spans);
        Ranges::of(all).spans().any(AddressRange::is_everything)
    }
}

/// Returns the name that was probably meant.
fn suggestion<'n>(written: &str, names: impl Iterator<Item = &'n String>) -> String {
    let near = names.map(|name| (strsim::jaro_winkler(written, name), name)).max_by(|one, other| one.0.total_cmp(&other.0));
    match near {
        Some((likeness, name)) if likeness > 0.8 => format!("is `{name}` meant?"),
        _ => "name one of `address-sets`, or write an address, a CIDR or a range".into(),
    }
}

#[cfg(test)]
mod tests;
