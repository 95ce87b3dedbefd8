//! Sets of addresses, as exact ranges: united, cut and counted.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::address::AddressRange;

/// Addresses that are taken for a sample where they are in a set: of documentation, so that nobody has them.
const SAMPLES: [IpAddr; 3] = [
    IpAddr::V4(Ipv4Addr::new(203, 0, 113, 1)),
    IpAddr::V4(Ipv4Addr::new(198, 51, 100, 1)),
    IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1)),
];

/// The addresses `::ffff:0:0/96`, which are those of IPv4.
const MAPPED: (u128, u128) = (0xffff_0000_0000, 0xffff_ffff_ffff);

/// A set of addresses: sorted ranges that neither meet nor touch.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct AddressSpace {
    v4: Vec<(u128, u128)>,
    v6: Vec<(u128, u128)>,
}

impl AddressSpace {
    /// Returns the set of all addresses.
    pub(crate) fn all() -> Self {
        Self { v4: vec![(0, u32::MAX.into())], v6: vec![(0, MAPPED.0 - 1), (MAPPED.1 + 1, u128::MAX)] }
    }

    /// Returns the set of these ranges.
    pub(crate) fn of(ranges: impl IntoIterator<Item = AddressRange>) -> Self {
        let mut space = Self::default();
        for range in ranges {
            match range {
                AddressRange::V4(from, to) => space.v4.push((from.into(), to.into())),
                AddressRange::V6(from, to) => space.v6.push((from, to)),
            }
        }
        Self { v4: joined(space.v4), v6: joined(space.v6) }
    }

    /// Returns the set of one address.
    pub(crate) fn one(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V4(address) => Self::of([AddressRange::V4(address.to_bits(), address.to_bits())]),
            IpAddr::V6(address) => Self::of([AddressRange::V6(address.to_bits(), address.to_bits())]),
        }
    }

    /// Returns the addresses that are in both sets.
    pub(crate) fn and(&self, other: &Self) -> Self {
        Self { v4: common(&self.v4, &other.v4), v6: common(&self.v6, &other.v6) }
    }

    /// Returns the addresses that are not in the other set.
    pub(crate) fn without(&self, other: &Self) -> Self {
        Self { v4: rest(&self.v4, &other.v4), v6: rest(&self.v6, &other.v6) }
    }

    /// Returns the addresses that are in either set.
    pub(crate) fn or(&self, other: &Self) -> Self {
        let united = |own: &[(u128, u128)], other: &[(u128, u128)]| joined([own, other].concat());
        Self { v4: united(&self.v4, &other.v4), v6: united(&self.v6, &other.v6) }
    }

    pub(crate) const fn is_empty(&self) -> bool {
        self.v4.is_empty() && self.v6.is_empty()
    }

    pub(crate) fn contains(&self, address: IpAddr) -> bool {
        let (list, at) = match address.to_canonical() {
            IpAddr::V4(address) => (&self.v4, address.to_bits().into()),
            IpAddr::V6(address) => (&self.v6, address.to_bits()),
        };
        let index = list.partition_point(|(_, to)| *to < at);
        list.get(index).is_some_and(|(from, _)| *from <= at)
    }

    /// Returns one address of the set: one of documentation if there is one, or else the least.
    pub(crate) fn sample(&self) -> Option<IpAddr> {
        let known = SAMPLES.into_iter().find(|sample| self.contains(*sample));
        known.or_else(|| self.ends().next())
    }

    /// Returns the first and the last address of each range.
    pub(crate) fn ends(&self) -> impl Iterator<Item = IpAddr> {
        let v4 = self.v4.iter().flat_map(|(from, to)| [v4(*from), v4(*to)]);
        v4.chain(self.v6.iter().flat_map(|(from, to)| [v6(*from), v6(*to)]))
    }

    /// Returns the number of addresses, or the greatest number there is.
    pub(crate) fn count(&self) -> u128 {
        let sizes = self.v4.iter().chain(&self.v6).map(|(from, to)| (to - from).saturating_add(1));
        sizes.fold(0, u128::saturating_add)
    }

    /// Returns the ranges in words, at most `most`; one word for all addresses.
    pub(crate) fn in_words(&self, most: usize) -> Vec<String> {
        if *self == Self::all() {
            return vec!["any address".to_owned()];
        }
        let all = Self::all();
        if self.count() > all.count() / 2 {
            let other = all.without(self);
            if other.v4.len() + other.v6.len() < self.v4.len() + self.v6.len() || other.v6.is_empty() {
                let words = other.in_words(most).join(", ");
                return vec![format!("any address but {words}")];
            }
        }
        let v4 = self.v4.iter().map(|(from, to)| AddressRange::V4(narrow(*from), narrow(*to)));
        let ranges = v4.chain(self.v6.iter().map(|(from, to)| AddressRange::V6(*from, *to)));
        let mut words: Vec<String> = ranges.map(crate::explain::range_in_words).collect();
        if words.len() > most {
            let more = words.len() - most;
            words.truncate(most);
            words.push(format!("and {more} more"));
        }
        words
    }
}

fn narrow(bits: u128) -> u32 {
    u32::try_from(bits).unwrap_or(u32::MAX)
}

fn v4(bits: u128) -> IpAddr {
    Ipv4Addr::from_bits(narrow(bits)).into()
}

fn v6(bits: u128) -> IpAddr {
    Ipv6Addr::from_bits(bits).into()
}

/// Sorts ranges, and makes one of those that meet or touch.
fn joined(mut ranges: Vec<(u128, u128)>) -> Vec<(u128, u128)> {
    ranges.sort_unstable();
    let mut joined: Vec<(u128, u128)> = Vec::with_capacity(ranges.len());
    for (from, to) in ranges {
        match joined.last_mut() {
            Some((_, end)) if from <= end.saturating_add(1) => *end = (*end).max(to),
            _ => joined.push((from, to)),
        }
    }
    joined
}

fn common(own: &[(u128, u128)], other: &[(u128, u128)]) -> Vec<(u128, u128)> {
    let (mut at, mut with, mut found) = (0, 0, Vec::new());
    while let (Some((from, to)), Some((other_from, other_to))) = (own.get(at), other.get(with)) {
        let (start, end) = (*from.max(other_from), *to.min(other_to));
        if start <= end {
            found.push((start, end));
        }
        if to < other_to { at += 1 } else { with += 1 }
    }
    found
}

fn rest(own: &[(u128, u128)], other: &[(u128, u128)]) -> Vec<(u128, u128)> {
    let mut found = Vec::new();
    for (from, to) in own {
        let mut start = Some(*from);
        let first = other.partition_point(|(_, end)| end < from);
        for (cut, end) in other[first..].iter().take_while(|(cut, _)| cut <= to) {
            if let Some(from) = start
                && from < *cut
            {
                found.push((from, cut - 1));
            }
            start = end.checked_add(1);
        }
        if let Some(start) = start.filter(|start| start <= to) {
            found.push((start, *to));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn space(texts: &[&str]) -> AddressSpace {
        AddressSpace::of(texts.iter().map(|text| text.parse().expect("a range")))
    }

    #[test]
    fn sets_are_cut_and_united_exactly() {
        let (a, b) = (space(&["203.0.113.0/24", "2001:db8::/32"]), space(&["203.0.113.64-203.0.113.127", "2001:db8:1::/48"]));
        assert_eq!(a.without(&b).or(&b), a);
        assert_eq!(a.and(&b), b);
        assert!(b.without(&a).is_empty());
        assert_eq!(a.without(&space(&["203.0.113.0/24"])), space(&["2001:db8::/32"]));
        assert_eq!(space(&["203.0.113.0/25", "203.0.113.128/25"]), space(&["203.0.113.0/24"]));
        for address in ["203.0.113.63", "203.0.113.128", "2001:db8:2::1"] {
            assert!(a.without(&b).contains(address.parse().expect("an address")), "{address}");
        }
    }

    #[test]
    fn all_addresses_are_two_families_and_a_mapped_one_is_of_ipv4() {
        let all = AddressSpace::all();
        assert!(all.contains("::ffff:192.0.2.1".parse().expect("an address")));
        assert!(AddressSpace::one("::ffff:192.0.2.1".parse().expect("an address")).contains([192, 0, 2, 1].into()));
        assert!(all.without(&all).is_empty());
        assert_eq!(all.without(&space(&["192.0.2.0/24"])).in_words(4), ["any address but 192.0.2.0/24"]);
        assert_eq!(space(&["198.51.100.41-198.51.100.255"]).count(), 215);
    }
}
