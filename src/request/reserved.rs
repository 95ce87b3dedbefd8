//! Header names that never come from the caller.
//!
//! A backend behind CGI, WSGI or FastCGI sees `X-Remote-User`, `X_Remote_User` and `X.Remote.User` as one variable. Names are
//! therefore compared as such a backend would: without case, and with everything but letters and digits as `_`. A name is
//! reserved on every route as soon as any policy derives its value from what the gateway knows of the caller. The names that
//! other front ends and gateways use for the identity, address or target of a call are always reserved.

mod known;
#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, LazyLock},
};

use http::HeaderName;

use self::known::Prefixes;
use crate::{
    base::fields::{Fields, Known, Name, Sorted},
    settings::{Faults, Place},
};

/// Reserved header names, collected while the config is built.
#[derive(Debug, Default)]
pub struct ReservedNames {
    /// Names that hold what the gateway knows of a caller, folded: reserved on every route.
    identity: BTreeSet<Box<str>>,
    /// Names that some route overrides, folded, by the route's upstream: reserved on every route of that upstream.
    overrides: BTreeMap<Option<Box<str>>, BTreeSet<Box<str>>>,
    /// Uses of a name that its reservation forbids; checked when every name is known.
    additions: Vec<Addition>,
    /// The upstreams of the route that is being built; none: whatever is noted is noted for all.
    upstreams: Vec<Box<str>>,
    /// The fields that policies of that route read from callers although their names are reserved: the policies check who wrote
    /// them.
    read: Vec<HeaderName>,
}

#[derive(Debug)]
struct Addition {
    name: HeaderName,
    action: &'static str,
    upstreams: Vec<Box<str>>,
    place: Place,
}

/// The reason why a header name is reserved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Claim {
    /// Its value names the caller: derived from token, partner, caller, certificate or credential.
    Identity,
    /// A route overrides it.
    Override,
}

impl ReservedNames {
    /// Sets the upstreams to which the requests of the next policies may go: overrides count for the routes of each. None: for all of
    /// them.
    pub fn enter<'u>(&mut self, upstreams: impl IntoIterator<Item = &'u str>) {
        self.upstreams = upstreams.into_iter().map(Into::into).collect();
    }

    /// Reserves a name.
    pub fn claim(&mut self, name: &HeaderName, claim: Claim) {
        let folded = fold(name.as_str());
        match claim {
            Claim::Identity => drop(self.identity.insert(folded)),
            Claim::Override => self.overrides_here(&[folded].into()),
        }
    }

    /// Notes names that the current route overrides.
    fn overrides_here(&mut self, names: &BTreeSet<Box<str>>) {
        let everywhere = self.upstreams.is_empty().then_some(None);
        for upstream in everywhere.into_iter().chain(self.upstreams.iter().cloned().map(Some)) {
            self.overrides.entry(upstream).or_default().extend(names.iter().cloned());
        }
    }

    /// Notes that a policy of the current route reads such a field from callers, and checks itself who wrote it.
    pub(crate) fn reads(&mut self, name: &HeaderName) {
        self.read.push(name.clone());
    }

    /// Returns the fields that policies have read since the last call.
    pub(crate) fn take_read(&mut self) -> Vec<HeaderName> {
        std::mem::take(&mut self.read)
    }

    /// Notes that a policy adds to a field or keeps its value (`append`, `skip`), which is not allowed where the name is
    /// reserved.
    pub fn adds_to(&mut self, name: &HeaderName, action: &'static str, place: &Place) {
        self.additions.push(Addition { name: name.clone(), action, upstreams: self.upstreams.clone(), place: place.clone() });
    }

    /// Repeats, for the current route, the notes of others for policies that it shares.
    pub(crate) fn take_over(&mut self, others: &Self) {
        self.identity.extend(others.identity.iter().cloned());
        // What is shared is built outside of any route, so that it is noted for all.
        if let Some(overrides) = others.overrides.get(&None) {
            self.overrides_here(overrides);
        }
        let additions = others.additions.iter().map(|addition| Addition {
            name: addition.name.clone(),
            action: addition.action,
            upstreams: self.upstreams.clone(),
            place: addition.place.clone(),
        });
        self.additions.extend(additions);
        self.read.extend(others.read.iter().cloned());
    }

    /// Checks the uses that a reservation forbids. Must be called when all policies are built.
    pub fn check(&self, faults: &mut Faults) {
        let mut reserved = BTreeMap::new();
        for addition in &self.additions {
            let upstreams = &*addition.upstreams;
            if reserved.entry(upstreams).or_insert_with(|| self.finish_for(upstreams)).contains(&addition.name) {
                faults.error(
                    &addition.place,
                    format!(
                        "`{}` with `{}`: the name is reserved, so nothing of the caller's is there to keep",
                        addition.action, addition.name
                    ),
                    "use `override`, or another header name",
                );
            }
        }
    }

    /// Returns the names that are reserved on the routes of an upstream; `None`: on routes that answer themselves.
    pub fn finish(&self, upstream: Option<&str>) -> Reserved {
        self.finish_for(upstream.as_slice())
    }

    /// Returns the names that are reserved on routes whose requests may go to any of these upstreams.
    pub(crate) fn finish_for(&self, upstreams: &[impl AsRef<str>]) -> Reserved {
        let everywhere = self.overrides.get(&None);
        let here = upstreams.iter().filter_map(|upstream| self.overrides.get(&Some(upstream.as_ref().into())));
        let overrides: BTreeSet<_> = everywhere.into_iter().chain(here).flatten().cloned().collect();
        Reserved::of(self.identity.iter().cloned(), overrides.into_iter())
    }
}

/// The header names that do not come from the caller on a route: immutable, looked up without allocating.
#[derive(Debug)]
pub struct Reserved {
    /// Open addressing, a power of two, at most half full.
    slots: Box<[Option<Slot>]>,
    beginnings: &'static Prefixes,
    /// The verdict on each name that has a number: nearly all that requests bring.
    numbered: [Option<Stops>; Known::ALL.len()],
    /// The outline of the names of each first letter: most other names of requests do not fit into it, and are not looked up at all.
    outlines: [Outline; LETTERS],
}

/// The lengths and the next letters of some names. A name that is one of them, or begins with a prefix among them, fits.
#[derive(Clone, Copy, Debug, Default)]
struct Outline {
    /// A bit for each length, the last one for all that are longer.
    lengths: u64,
    /// For each of the letters after the first: a bit for each [place](place_of).
    letters: [u64; 3],
}

impl Outline {
    /// Adds a name.
    fn add(&mut self, name: &str) {
        let name = name.as_bytes();
        self.lengths |= length_bit(name.len());
        for (index, letters) in (1..).zip(&mut self.letters) {
            *letters |= 1 << place_of(name, index);
        }
    }

    /// Adds all names with a prefix: the prefix itself, and all that is longer.
    fn add_prefix(&mut self, prefix: &str) {
        let prefix = prefix.as_bytes();
        self.lengths |= !(length_bit(prefix.len()) - 1);
        for (index, letters) in (1..).zip(&mut self.letters) {
            *letters |= if index < prefix.len() { 1 << place_of(prefix, index) } else { u64::MAX };
        }
    }

    fn fits(&self, name: &[u8]) -> bool {
        let fits = |index: usize, letters: &u64| letters >> place_of(name, index) & 1 == 1;
        self.lengths & length_bit(name.len()) != 0 && (1..).zip(&self.letters).all(|(index, letters)| fits(index, letters))
    }
}

/// Returns the bit of a length.
const fn length_bit(length: usize) -> u64 {
    1 << if length < 63 { length } else { 63 }
}

#[derive(Clone, Debug)]
struct Slot {
    folded: Box<str>,
    stops: Stops,
}

/// The reason why a field is not forwarded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stops {
    /// It belongs to the connection or the message's framing.
    Connection,
    /// The name is reserved.
    Reserved,
    /// The name is reserved, and names the caller: a config may trust it from some peers.
    Platform,
    /// A policy of the config makes it, and it names the caller.
    Identity,
}

impl Reserved {
    fn of(identity: impl Iterator<Item = Box<str>>, overrides: impl Iterator<Item = Box<str>>) -> Self {
        let beginnings = Prefixes::known();
        let identity = identity.map(|folded| Slot { folded, stops: Stops::Identity });
        let (connection, known): (Vec<Slot>, Vec<Slot>) =
            known::whole().map(|(folded, stops)| Slot { folded, stops }).partition(|slot| slot.stops == Stops::Connection);
        // What a name says does not change by being overridden.
        let overrides = overrides.filter(|folded| beginnings.find(folded.as_bytes()).is_none());
        let overrides = overrides.map(|folded| Slot { folded, stops: Stops::Reserved });
        let names: Vec<Slot> = connection.into_iter().chain(identity).chain(known).chain(overrides).collect();
        let mut slots = vec![None; (names.len() * 2).next_power_of_two()];
        let mut outlines = [Outline::default(); LETTERS];
        for prefix in beginnings.iter() {
            outlines[place_of(prefix.as_bytes(), 0)].add_prefix(prefix);
        }
        for name in names {
            outlines[place_of(name.folded.as_bytes(), 0)].add(&name.folded);
            let mut at = hash(name.folded.as_bytes()) & (slots.len() - 1);
            while slots[at].as_ref().is_some_and(|taken: &Slot| taken.folded != name.folded) {
                at = (at + 1) & (slots.len() - 1);
            }
            slots[at].get_or_insert(name);
        }
        let mut reserved = Self { slots: slots.into(), beginnings, numbered: [None; Known::ALL.len()], outlines };
        for known in &Known::ALL[1..] {
            reserved.numbered[*known as usize] = reserved.find(known.text().as_bytes());
        }
        reserved
    }

    /// Returns the reason why a field is not forwarded, if there is one.
    fn verdict(&self, name: Name<'_>) -> Option<Stops> {
        match name.known() {
            Known::Other => self.find(name.as_bytes()),
            known => self.numbered[known as usize],
        }
    }

    /// Returns whether the name is reserved.
    pub fn contains<'n>(&self, name: impl Into<Name<'n>>) -> bool {
        matches!(self.verdict(name.into()), Some(Stops::Reserved | Stops::Platform | Stops::Identity))
    }

    /// Returns the lot of a caller's field. What is reserved, or belongs to the connection, is not forwarded. What identifies the caller
    /// goes, so that no policy takes it for the gateway's or a platform's; except for the fields in `read`, whose readers check who wrote
    /// them.
    pub(crate) fn sort(&self, name: Name<'_>, read: &[HeaderName]) -> Sorted {
        match self.verdict(name) {
            None => Sorted::Passes,
            Some(Stops::Identity | Stops::Platform) if !read.iter().any(|read| name == *read) => Sorted::Goes,
            Some(_) => Sorted::Stays,
        }
    }

    /// Removes the fields that are not even for policies to read.
    pub(crate) fn remove_claimed(&self, headers: &mut Fields, read: &[HeaderName]) {
        headers.remove_if(|name| self.sort(name, read) == Sorted::Goes);
    }

    /// Returns whether [`remove_claimed`](Self::remove_claimed) would remove something.
    pub(crate) fn claims_some(&self, headers: &Fields, read: &[HeaderName]) -> bool {
        headers.names().any(|name| self.sort(name, read) == Sorted::Goes)
    }

    /// Returns whether a caller's field of this name is not forwarded: it is reserved, or belongs to the connection.
    pub fn stops<'n>(&self, name: impl Into<Name<'n>>) -> bool {
        self.verdict(name.into()).is_some()
    }

    /// Returns the names that are reserved whatever the config says.
    pub(crate) fn always() -> Arc<Self> {
        static ALWAYS_RESERVED: LazyLock<Arc<Reserved>> = LazyLock::new(Arc::default);
        ALWAYS_RESERVED.clone()
    }

    /// Returns whether only the gateway writes this name, or whether it names a request's target or source, whatever the config
    /// says.
    pub(crate) fn is_the_gateways(name: &HeaderName) -> bool {
        matches!(Self::always().find(name.as_str().as_bytes()), Some(Stops::Connection | Stops::Reserved))
    }

    fn find(&self, name: &[u8]) -> Option<Stops> {
        if !self.outlines[place_of(name, 0)].fits(name) {
            return None;
        }
        let mut at = hash(name) & (self.slots.len() - 1);
        while let Some(slot) = &self.slots[at] {
            if same_folded(&*slot.folded, name) {
                return Some(slot.stops);
            }
            at = (at + 1) & (self.slots.len() - 1);
        }
        self.beginnings.find(name)
    }
}

impl Default for Reserved {
    fn default() -> Self {
        Self::of(std::iter::empty(), std::iter::empty())
    }
}

/// Returns one letter of a name as a CGI program sees it, in lower case.
const fn fold_byte(byte: u8) -> u8 {
    FOLDED[byte as usize]
}

const FOLDED: [u8; 256] = {
    let mut table = [b'_'; 256];
    let mut byte = 0;
    while byte < 128_u8 {
        if byte.is_ascii_alphanumeric() {
            table[byte as usize] = byte.to_ascii_lowercase();
        }
        byte += 1;
    }
    table
};

/// The number of letters of folded names, and one more for no letter at all.
const LETTERS: usize = 38;

/// Returns the place of a letter of a name, folded, among the [`LETTERS`].
fn place_of(name: &[u8], index: usize) -> usize {
    const PLACES: [u8; 256] = {
        let mut places = [0; 256];
        let mut byte = 0;
        while byte < 256 {
            places[byte] = match FOLDED[byte] {
                letter @ b'a'..=b'z' => 1 + letter - b'a',
                digit @ b'0'..=b'9' => 27 + digit - b'0',
                _ => 37,
            };
            byte += 1;
        }
        places
    };
    name.get(index).map_or(0, |letter| PLACES[usize::from(*letter)].into())
}

/// Returns a name as a CGI program sees it, in lower case.
fn fold(name: &str) -> Box<str> {
    name.bytes().map(|byte| char::from(fold_byte(byte))).collect::<String>().into()
}

/// Returns whether a CGI program sees both names as one.
pub(crate) fn same_folded(one: impl AsRef<[u8]>, other: impl AsRef<[u8]>) -> bool {
    let (one, other) = (one.as_ref(), other.as_ref());
    one.len() == other.len() && one.iter().zip(other).all(|(one, other)| fold_byte(*one) == fold_byte(*other))
}

/// Removes a field in every spelling that a CGI program takes for it.
pub(crate) fn remove_folded(headers: &mut Fields, name: &HeaderName) {
    headers.remove_if(|other| same_folded(other.as_bytes(), name.as_str()));
}

fn starts_folded(name: &[u8], prefix: &str) -> bool {
    name.get(..prefix.len()).is_some_and(|start| start.iter().map(|byte| fold_byte(*byte)).eq(prefix.bytes()))
}

/// Computes FNV-1a over the folded name. The table holds only names of the config, so nobody outside can cause collisions.
fn hash(name: &[u8]) -> usize {
    let hash = name
        .iter()
        .fold(0xCBF2_9CE4_8422_2325_u64, |hash, byte| (hash ^ u64::from(fold_byte(*byte))).wrapping_mul(0x0000_0100_0000_01B3));
    // The high bits are the well mixed ones.
    (hash >> 32) as usize
}
