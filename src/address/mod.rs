//! Sets of network addresses: how they are written, and how one is looked up.
//!
//! A set is compiled into sorted ranges without overlaps, where a lookup is one binary search however long the list was. Entries
//! that expire are kept apart by their day, so that they stop counting on that day without anything being built again.

mod entry;
mod lint;
mod ranges;
mod sets;
mod status;

use std::{collections::BTreeMap, net::IpAddr, sync::Arc};

pub(crate) use entry::address as read_address;
pub use entry::{EntryFault, Span};
use ranges::Ranges;
use schemars::JsonSchema;
use serde::Deserialize;
pub use sets::AddressSets;
pub(crate) use status::AddressSetStatus;

use crate::{
    clock::Clock,
    config::{Day, Faults, Place},
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

/// An entry of a list of addresses that says whose it is, and until when it counts.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Eq)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct NotedAddressConfig {
    /// An address, a CIDR, a range `from-to`, or the name of an address set.
    pub address: String,
    /// Whose it is.
    pub owner: Option<String>,
    /// Why it is listed.
    pub reason: Option<String>,
    /// The last day on which the entry counts, UTC. Default: it always counts.
    pub expires: Option<Day>,
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

/// A set of addresses, made once and looked up by binary search.
#[derive(Clone, Debug, Default)]
pub struct AddressSet {
    /// What always counts.
    lasting: Ranges,
    /// What counts until a moment, in seconds since 1970; the latest first.
    expiring: Vec<(u64, Ranges)>,
    /// The number of the published file that the set was made from.
    change_number: Option<u64>,
    /// The entries of its own that do not count for ever.
    dated: Box<[Dated]>,
}

/// An entry that counts until a day.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dated {
    /// The entry as written.
    pub address: Box<str>,
    /// Whose it is.
    pub owner: Option<Box<str>>,
    /// Why it is listed.
    pub reason: Option<Box<str>>,
    /// The last day on which it counts, UTC.
    pub expires: Day,
}

impl AddressSet {
    /// Builds the set that `entries` describe, where names stand for the sets in `named`; or says why not.
    pub fn build(entries: &[AddressEntryConfig], place: &Place, named: &AddressSets, faults: &mut Faults) -> Option<Arc<Self>> {
        let before = faults.errors();
        let mut parts = Parts::at(named.now);
        for (index, entry) in entries.iter().enumerate() {
            let find = |name: &str, _: &mut Faults| named.by_name.get(name).cloned();
            parts.add(entry, &place.index(index), faults, find, || named.by_name.keys());
        }
        parts.lint(false, faults);
        (faults.errors() == before).then(|| Arc::new(parts.finish()))
    }

    /// Whether the address is in the set. An IPv4-mapped IPv6 address is the IPv4 one.
    ///
    /// The clock is read only where an entry that expires could decide.
    pub fn contains(&self, address: IpAddr, clock: &Clock) -> bool {
        self.lasting.contains(address) || (!self.expiring.is_empty() && self.contains_at(address, clock.unix_seconds()))
    }

    fn contains_at(&self, address: IpAddr, now: u64) -> bool {
        self.expiring.iter().take_while(|(until, _)| now < *until).any(|(_, ranges)| ranges.contains(address))
    }

    /// Whether no address is in the set.
    pub fn is_empty(&self) -> bool {
        self.lasting.is_empty() && self.expiring.iter().all(|(_, ranges)| ranges.is_empty())
    }

    /// How many ranges the set holds after merging.
    pub fn ranges(&self) -> usize {
        self.lasting.len() + self.expiring.iter().map(|(_, ranges)| ranges.len()).sum::<usize>()
    }

    /// The number of Microsoft's published file, where the set was made from one.
    pub const fn change_number(&self) -> Option<u64> {
        self.change_number
    }

    /// The entries that do not count for ever, as written in the set itself.
    pub const fn dated(&self) -> &[Dated] {
        &self.dated
    }

    /// Whether every address of the span is in the set for good.
    fn covers(&self, span: Span) -> bool {
        self.lasting.covers(span)
    }

    /// Whether every address of the other set is in this one for good.
    fn covers_all_of(&self, other: &Self) -> bool {
        let expiring = other.expiring.iter().flat_map(|(_, ranges)| ranges.spans());
        other.lasting.spans().chain(expiring).all(|span| self.covers(span))
    }

    /// When the next entry expires, in seconds since 1970.
    pub fn next_expiry(&self, now: u64) -> Option<u64> {
        self.expiring.iter().map(|(until, _)| *until).filter(|until| *until > now).min()
    }

    /// Whether the set holds every address of a family, however it is put together.
    pub(crate) fn holds_a_whole_family(&self) -> bool {
        let all = Ranges::of(self.lasting.spans().chain(self.expiring.iter().flat_map(|(_, ranges)| ranges.spans())));
        all.spans().any(Span::is_everything)
    }
}

/// A set in the making.
#[derive(Debug, Default)]
struct Parts {
    /// The time, in seconds since 1970: for telling of entries that have expired.
    now: u64,
    lasting: Vec<Span>,
    expiring: BTreeMap<u64, Vec<Span>>,
    change_number: Option<u64>,
    /// The entries that were written here, with their places, for the lints.
    written: Vec<(Span, lint::Written)>,
    /// The sets that were named here, with their places, for the lints.
    included: Vec<(Arc<AddressSet>, lint::Written)>,
    dated: Vec<Dated>,
}

impl Parts {
    fn at(now: u64) -> Self {
        Self { now, ..Self::default() }
    }

    /// Adds an entry. `find` knows the sets by name, and says itself why one that it knows cannot be used; `names` are those there are.
    fn add<'n, N: Iterator<Item = &'n String>>(
        &mut self,
        entry: &AddressEntryConfig,
        place: &Place,
        faults: &mut Faults,
        find: impl FnOnce(&str, &mut Faults) -> Option<Arc<AddressSet>>,
        names: impl FnOnce() -> N,
    ) {
        let (text, expires, place) = match entry {
            AddressEntryConfig::Text(text) => (text, None, place.clone()),
            AddressEntryConfig::Noted(noted) => {
                self.note(noted, place, faults);
                (&noted.address, noted.expires, place.key("address"))
            }
        };
        let until = expires.map(Day::end);
        if entry::is_name(text) {
            match find(text, faults) {
                Some(set) => {
                    self.include(&set, until);
                    // What else names these addresses counts for nothing only as long as the set does.
                    if until.is_none() {
                        self.included.push((set, lint::Written::Entry(place, text.clone())));
                    }
                }
                None => faults.error(&place, format!("there is no address set `{text}`"), suggestion(text, names())),
            }
            return;
        }
        match text.parse() {
            Ok(span) => self.add_written(span, until, lint::Written::Entry(place, text.clone())),
            Err(fault) => faults.error(&place, format!("`{text}`: {fault}"), fault.cure()),
        }
    }

    /// Keeps what is said of an entry that does not count for ever.
    fn note(&mut self, noted: &NotedAddressConfig, place: &Place, faults: &mut Faults) {
        let Some(expires) = noted.expires else { return };
        let text = |text: &Option<String>| text.as_deref().map(Into::into);
        if expires.end() <= self.now {
            let owner = noted.owner.as_deref().map(|owner| format!(" (of {owner})")).unwrap_or_default();
            faults.warning(
                &place.key("expires"),
                format!("`{}`{owner} has expired on {expires} and no longer counts", noted.address),
                "remove it, or give it a later day",
            );
        }
        let (owner, reason) = (text(&noted.owner), text(&noted.reason));
        self.dated.push(Dated { address: noted.address.as_str().into(), owner, reason, expires });
    }

    /// Notes what is likely not meant; `named`: the list is a named set.
    fn lint(&self, named: bool, faults: &mut Faults) {
        lint::entries(&self.written, named, faults);
        lint::included(&self.written, &self.included, faults);
    }

    fn add_written(&mut self, span: Span, until: Option<u64>, written: lint::Written) {
        self.push(span, until);
        self.written.push((span, written));
    }

    fn push(&mut self, span: Span, until: Option<u64>) {
        match until {
            Some(until) => self.expiring.entry(until).or_default().push(span),
            None => self.lasting.push(span),
        }
    }

    /// Takes over another set; what was to last longer than `until` ends with it.
    fn include(&mut self, set: &AddressSet, until: Option<u64>) {
        for span in set.lasting.spans() {
            self.push(span, until);
        }
        for (ends, ranges) in &set.expiring {
            for span in ranges.spans() {
                self.push(span, Some(until.map_or(*ends, |until| until.min(*ends))));
            }
        }
        self.change_number = self.change_number.max(set.change_number);
    }

    fn finish(self) -> AddressSet {
        AddressSet {
            lasting: Ranges::of(self.lasting),
            expiring: self.expiring.into_iter().rev().map(|(until, spans)| (until, Ranges::of(spans))).collect(),
            change_number: self.change_number,
            dated: self.dated.into(),
        }
    }
}

/// What may have been meant by a name.
fn suggestion<'n>(written: &str, names: impl Iterator<Item = &'n String>) -> String {
    let near = names.map(|name| (strsim::jaro_winkler(written, name), name)).max_by(|one, other| one.0.total_cmp(&other.0));
    match near {
        Some((likeness, name)) if likeness > 0.8 => format!("is `{name}` meant?"),
        _ => "name one of `address-sets`, or write an address, a CIDR or a range".into(),
    }
}

#[cfg(test)]
mod tests;
