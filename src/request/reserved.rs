//! Header names that never come from the caller.
//!
//! A backend behind CGI, WSGI or FastCGI sees `X-Remote-User`, `X_Remote_User` and `X.Remote.User` as one variable. So names are
//! compared as such a backend would: without case, and with everything but letters and digits as `_`. A name is reserved as soon
//! as any policy makes its value from what the gateway knows of the caller, and it is reserved on every route. So are, whatever the
//! config says, the names that other front ends and gateways use to say who calls, from where, or for what.

mod known;
#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, LazyLock},
};

use http::{HeaderMap, HeaderName};

use self::known::Beginnings;
use crate::settings::{Faults, Place};

/// Header names that are spoken for, gathered while the config is built.
#[derive(Debug, Default)]
pub struct ReservedNames {
    /// Names that hold what the gateway knows of a caller, folded: reserved on every route.
    identity: BTreeSet<Box<str>>,
    /// Names that some route overrides, folded, by the route's upstream: reserved on every route of that upstream.
    overrides: BTreeMap<Option<Box<str>>, BTreeSet<Box<str>>>,
    /// Uses that a reserved name forbids; judged when every name is known.
    additions: Vec<Addition>,
    /// The upstream of the route that is being built.
    upstream: Option<Box<str>>,
    /// The fields that policies of that route read from callers, though their names are reserved: they judge who wrote them.
    read: Vec<HeaderName>,
}

#[derive(Debug)]
struct Addition {
    name: HeaderName,
    action: &'static str,
    upstream: Option<Box<str>>,
    place: Place,
}

/// Why a header name is spoken for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Claim {
    /// Its value says who calls: made from token, partner, caller, certificate or credential.
    Identity,
    /// A route overrides it with something else.
    Override,
}

impl ReservedNames {
    /// Says whose policies are built next: overrides count for the routes of one upstream. `None`: for all of them.
    pub fn enter(&mut self, upstream: Option<&str>) {
        self.upstream = upstream.map(Into::into);
    }

    /// Reserves a name.
    pub fn claim(&mut self, name: &HeaderName, claim: Claim) {
        let folded = fold(name.as_str());
        match claim {
            Claim::Identity => self.identity.insert(folded),
            Claim::Override => self.overrides.entry(self.upstream.clone()).or_default().insert(folded),
        };
    }

    /// Notes that a policy of the route that is being built reads such a field from callers, and judges itself who wrote it.
    pub(crate) fn reads(&mut self, name: &HeaderName) {
        self.read.push(name.clone());
    }

    /// The fields that policies read since this was asked last.
    pub(crate) fn take_read(&mut self) -> Vec<HeaderName> {
        std::mem::take(&mut self.read)
    }

    /// Notes that a policy adds to a field or leaves what is there (`append`, `skip`), which cannot be where the name is reserved.
    pub fn adds_to(&mut self, name: &HeaderName, action: &'static str, place: &Place) {
        self.additions.push(Addition { name: name.clone(), action, upstream: self.upstream.clone(), place: place.clone() });
    }

    /// Repeats for the route that is being built what others noted for policies that it has, too.
    pub(crate) fn take_over(&mut self, others: &Self) {
        self.identity.extend(others.identity.iter().cloned());
        if let Some(overrides) = others.overrides.get(&others.upstream) {
            self.overrides.entry(self.upstream.clone()).or_default().extend(overrides.iter().cloned());
        }
        let additions = others.additions.iter().map(|addition| Addition {
            name: addition.name.clone(),
            action: addition.action,
            upstream: self.upstream.clone(),
            place: addition.place.clone(),
        });
        self.additions.extend(additions);
        self.read.extend(others.read.iter().cloned());
    }

    /// Judges the uses that a reserved name forbids. To be called when all policies are built.
    pub fn check(&self, faults: &mut Faults) {
        let mut reserved = BTreeMap::new();
        for addition in &self.additions {
            let upstream = addition.upstream.as_deref();
            if reserved.entry(upstream).or_insert_with(|| self.finish(upstream)).contains(&addition.name) {
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

    /// The names that are reserved on the routes of an upstream; `None`: on routes that answer themselves.
    pub fn finish(&self, upstream: Option<&str>) -> Reserved {
        let everywhere = self.overrides.get(&None);
        let here = upstream.and_then(|upstream| self.overrides.get(&Some(upstream.into())));
        let overrides = everywhere.into_iter().flatten().chain(here.into_iter().flatten()).cloned();
        Reserved::of(self.identity.iter().cloned(), overrides)
    }
}

/// The header names that do not come from the caller on a route: immutable, and looked up without allocating.
#[derive(Debug)]
pub struct Reserved {
    /// Open addressing, a power of two, at most half full.
    slots: Box<[Option<Slot>]>,
    beginnings: &'static Beginnings,
}

#[derive(Clone, Debug)]
struct Slot {
    folded: Box<str>,
    stops: Stops,
}

/// Why a field goes no further.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stops {
    /// It speaks of the connection or the message's framing.
    Connection,
    /// The name is spoken for.
    Reserved,
    /// The name is spoken for, and says who calls: a config may believe it of some peers.
    Platform,
    /// A policy of the config makes it, and it says who calls.
    Identity,
}

impl Reserved {
    fn of(identity: impl Iterator<Item = Box<str>>, overrides: impl Iterator<Item = Box<str>>) -> Self {
        let beginnings = Beginnings::known();
        let identity = identity.map(|folded| Slot { folded, stops: Stops::Identity });
        let (connection, known): (Vec<Slot>, Vec<Slot>) =
            known::whole().map(|(folded, stops)| Slot { folded, stops }).partition(|slot| slot.stops == Stops::Connection);
        // What a name says does not change by being overridden.
        let overrides = overrides.filter(|folded| beginnings.find(folded).is_none());
        let overrides = overrides.map(|folded| Slot { folded, stops: Stops::Reserved });
        let names: Vec<Slot> = connection.into_iter().chain(identity).chain(known).chain(overrides).collect();
        let mut slots = vec![None; (names.len() * 2).next_power_of_two()];
        for name in names {
            let mut at = hash(&name.folded) & (slots.len() - 1);
            while slots[at].as_ref().is_some_and(|taken: &Slot| taken.folded != name.folded) {
                at = (at + 1) & (slots.len() - 1);
            }
            slots[at].get_or_insert(name);
        }
        Self { slots: slots.into(), beginnings }
    }

    /// Whether the name is spoken for.
    pub fn contains(&self, name: &HeaderName) -> bool {
        matches!(self.find(name.as_str()), Some(Stops::Reserved | Stops::Platform | Stops::Identity))
    }

    /// Removes what callers wrote under names that say who calls, so that no policy takes it for what the gateway or a platform
    /// would have written; but for the fields in `read`, whose readers judge who wrote them.
    pub(crate) fn remove_claimed(&self, headers: &mut HeaderMap, read: &[HeaderName]) {
        let claimed = |name: &HeaderName| self.says_who_calls(name.as_str()) && !read.contains(name);
        if headers.keys().any(claimed) {
            let names: Vec<_> = headers.keys().filter(|name| claimed(name)).cloned().collect();
            names.into_iter().for_each(|name| drop(headers.remove(name)));
        }
    }

    fn says_who_calls(&self, name: &str) -> bool {
        matches!(self.find(name), Some(Stops::Identity | Stops::Platform))
    }

    /// Whether a caller's field of this name goes no further: it is spoken for, or it speaks of the connection.
    pub fn stops(&self, name: &HeaderName) -> bool {
        self.find(name.as_str()).is_some()
    }

    /// The names that are reserved whatever the config says.
    pub(crate) fn always() -> Arc<Self> {
        static ALWAYS_RESERVED: LazyLock<Arc<Reserved>> = LazyLock::new(Arc::default);
        ALWAYS_RESERVED.clone()
    }

    /// Whether the name is the gateway's own to write, or says where a request goes or comes from, whatever the config says.
    pub(crate) fn is_the_gateways(name: &HeaderName) -> bool {
        matches!(Self::always().find(name.as_str()), Some(Stops::Connection | Stops::Reserved))
    }

    fn find(&self, name: &str) -> Option<Stops> {
        let mut at = hash(name) & (self.slots.len() - 1);
        while let Some(slot) = &self.slots[at] {
            if same_folded(&slot.folded, name) {
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

/// One letter of a name as a CGI program sees it, but for case, which does not matter.
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

/// A name as a CGI program sees it, but for case, which does not matter.
fn fold(name: &str) -> Box<str> {
    name.bytes().map(|byte| char::from(fold_byte(byte))).collect::<String>().into()
}

/// Whether a CGI program sees both names as one.
pub(crate) fn same_folded(one: &str, other: &str) -> bool {
    one.len() == other.len() && one.bytes().zip(other.bytes()).all(|(one, other)| fold_byte(one) == fold_byte(other))
}

/// Removes a field in every spelling that a CGI program takes for it.
pub(crate) fn remove_folded(headers: &mut HeaderMap, name: &HeaderName) {
    while let Some(spelling) = headers.keys().find(|other| same_folded(other.as_str(), name.as_str())).cloned() {
        headers.remove(spelling);
    }
}

fn starts_folded(name: &str, prefix: &str) -> bool {
    name.as_bytes().get(..prefix.len()).is_some_and(|start| start.iter().map(|byte| fold_byte(*byte)).eq(prefix.bytes()))
}

/// FNV-1a over the folded name. The table holds names of the config alone, so nobody outside can crowd it.
fn hash(name: &str) -> usize {
    let hash = name
        .bytes()
        .fold(0xCBF2_9CE4_8422_2325_u64, |hash, byte| (hash ^ u64::from(fold_byte(byte))).wrapping_mul(0x0000_0100_0000_01B3));
    // The high bits are the well mixed ones.
    (hash >> 32) as usize
}
