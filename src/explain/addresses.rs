//! Address lists in words: what is listed, which entry holds an address, and which range is nearest.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::{
    address::{AddressEntryConfig, AddressRange, AddressSets},
    gateway::runtime::Runtime,
};

/// The ranges of one entry of a list.
struct Listed<'c> {
    /// The entry as written: a range, or the name of a set.
    text: &'c str,
    ranges: Vec<AddressRange>,
    is_set: bool,
}

/// A list of addresses, with the ranges that it stands for now.
pub(crate) struct AddressList<'c>(Vec<Listed<'c>>);

impl<'c> AddressList<'c> {
    /// Reads a list; entries and sets that have expired do not count.
    pub(crate) fn of(entries: &'c [AddressEntryConfig], runtime: &Runtime) -> Self {
        let now = runtime.clock.unix_seconds();
        Self(entries.iter().filter_map(|entry| listed(entry, &runtime.address_sets, now)).collect())
    }

    /// Returns the entry that holds the address, as written, with its range where it is a set.
    pub(crate) fn holder(&self, address: IpAddr) -> Option<String> {
        self.0.iter().find_map(|listed| {
            let range = listed.ranges.iter().find(|range| holds(**range, address))?;
            Some(if listed.is_set { format!("{} of {}", in_words(*range), listed.text) } else { in_words(*range) })
        })
    }

    /// Returns the named sets and entries, at most `most`.
    pub(crate) fn in_words(&self, most: usize) -> Vec<String> {
        let mut words: Vec<String> = Vec::new();
        for listed in &self.0 {
            match listed.is_set {
                true if listed.ranges.len() > most => words.push(format!("{}: {} ranges", listed.text, listed.ranges.len())),
                true => words.extend(listed.ranges.iter().map(|range| format!("{} ({})", in_words(*range), listed.text))),
                false => words.extend(listed.ranges.iter().map(|range| in_words(*range))),
            }
        }
        let more = words.len().saturating_sub(most);
        if more > 0 {
            words.truncate(most);
            words.push(format!("and {more} more"));
        }
        words
    }

    /// Returns the ranges of all entries.
    pub(crate) fn ranges(&self) -> impl Iterator<Item = AddressRange> {
        self.0.iter().flat_map(|listed| listed.ranges.iter().copied())
    }

    /// Returns the number of ranges.
    pub(crate) fn len(&self) -> usize {
        self.0.iter().map(|listed| listed.ranges.len()).sum()
    }

    /// Returns the names of the sets in the list.
    pub(crate) fn sets(&self) -> impl Iterator<Item = &'c str> {
        self.0.iter().filter(|listed| listed.is_set).map(|listed| listed.text)
    }

    /// Returns the listed address of the same family that is nearest to this one, and the end of its range in words; of the other
    /// family if there is none.
    pub(crate) fn nearest(&self, address: IpAddr) -> Option<(IpAddr, String)> {
        let all = || self.0.iter().flat_map(|listed| listed.ranges.iter().copied());
        let near = all().filter_map(|range| nearest_in(range, address)).min_by_key(|(_, distance, _)| *distance);
        near.map(|(address, _, words)| (address, words)).or_else(|| all().next().map(|range| (first(range), in_words(range))))
    }

    /// Returns the nearest address of the same family that is not listed.
    pub(crate) fn nearest_outside(&self, address: IpAddr) -> Option<IpAddr> {
        let (mut above, mut below) = (Some(address), Some(address));
        // Each step leaves one range; adjacent ranges take another step.
        for _ in 0..=self.len() {
            above = above.map(|at| (at, self.range_of(at))).and_then(|(at, range)| range.map_or(Some(at), after));
            below = below.map(|at| (at, self.range_of(at))).and_then(|(at, range)| range.map_or(Some(at), before));
        }
        [above, below].into_iter().flatten().find(|at| self.range_of(*at).is_none())
    }

    fn range_of(&self, address: IpAddr) -> Option<AddressRange> {
        self.0.iter().flat_map(|listed| &listed.ranges).copied().find(|range| holds(*range, address))
    }
}

fn listed<'c>(entry: &'c AddressEntryConfig, sets: &AddressSets, now: u64) -> Option<Listed<'c>> {
    let text = entry.text();
    if let AddressEntryConfig::Noted(noted) = entry
        && noted.expires.is_some_and(|day| day.end() <= now)
    {
        return None;
    }
    match sets.by_name.get(text) {
        Some(set) => Some(Listed { text, ranges: set.ranges_at(now), is_set: true }),
        None => text.parse().ok().map(|range| Listed { text, ranges: vec![range], is_set: false }),
    }
}

const fn holds(range: AddressRange, address: IpAddr) -> bool {
    match (range, address) {
        (AddressRange::V4(from, to), IpAddr::V4(address)) => from <= address.to_bits() && address.to_bits() <= to,
        (AddressRange::V6(from, to), IpAddr::V6(address)) => from <= address.to_bits() && address.to_bits() <= to,
        _ => false,
    }
}

fn first(range: AddressRange) -> IpAddr {
    match range {
        AddressRange::V4(from, _) => Ipv4Addr::from_bits(from).into(),
        AddressRange::V6(from, _) => Ipv6Addr::from_bits(from).into(),
    }
}

fn after(range: AddressRange) -> Option<IpAddr> {
    match range {
        AddressRange::V4(_, to) => to.checked_add(1).map(|next| Ipv4Addr::from_bits(next).into()),
        AddressRange::V6(_, to) => to.checked_add(1).map(|next| Ipv6Addr::from_bits(next).into()),
    }
}

fn before(range: AddressRange) -> Option<IpAddr> {
    match range {
        AddressRange::V4(from, _) => from.checked_sub(1).map(|last| Ipv4Addr::from_bits(last).into()),
        AddressRange::V6(from, _) => from.checked_sub(1).map(|last| Ipv6Addr::from_bits(last).into()),
    }
}

/// Returns the end of a range that is nearest to an address of the same family, its distance, and both in words.
fn nearest_in(range: AddressRange, address: IpAddr) -> Option<(IpAddr, u128, String)> {
    let near = |from: u128, to: u128, at: u128| match at < from {
        true => (from, from - at, "begins"),
        false => (to, at.saturating_sub(to), "ends"),
    };
    let (address, distance, word) = match (range, address) {
        (AddressRange::V4(from, to), IpAddr::V4(at)) => {
            let (end, distance, word) = near(from.into(), to.into(), at.to_bits().into());
            (IpAddr::V4(Ipv4Addr::from_bits(u32::try_from(end).ok()?)), distance, word)
        }
        (AddressRange::V6(from, to), IpAddr::V6(at)) => {
            let (end, distance, word) = near(from, to, at.to_bits());
            (IpAddr::V6(Ipv6Addr::from_bits(end)), distance, word)
        }
        _ => return None,
    };
    Some((address, distance, format!("the nearest range {word} at {address}")))
}

/// Writes a range as it would be written in a config.
pub(crate) fn in_words(range: AddressRange) -> String {
    let (from, to, size, bits): (IpAddr, IpAddr, u128, u32) = match range {
        AddressRange::V4(from, to) => {
            (Ipv4Addr::from_bits(from).into(), Ipv4Addr::from_bits(to).into(), u128::from(to - from), 32)
        }
        AddressRange::V6(from, to) => (Ipv6Addr::from_bits(from).into(), Ipv6Addr::from_bits(to).into(), to - from, 128),
    };
    let start = match from {
        IpAddr::V4(from) => u128::from(from.to_bits()),
        IpAddr::V6(from) => from.to_bits(),
    };
    if size == 0 {
        return from.to_string();
    }
    // A network has as many addresses as a power of two, and begins at a multiple of it.
    if size & size.wrapping_add(1) == 0 && start & size == 0 {
        return format!("{from}/{}", bits - size.count_ones());
    }
    format!("{from}-{to}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_read_as_they_are_written() {
        for text in ["192.0.2.7", "203.0.113.0/24", "198.51.100.10-198.51.100.40", "2001:db8::/32", "2001:db8::1", "0.0.0.0/1"] {
            assert_eq!(in_words(text.parse().unwrap()), text);
        }
    }

    #[test]
    fn the_nearest_address_is_that_of_the_nearest_range() {
        let list = AddressList(
            ["198.51.100.10-198.51.100.40", "203.0.113.0/24", "2001:db8::/32"]
                .map(|text| Listed { text, ranges: vec![text.parse().unwrap()], is_set: false })
                .into(),
        );
        for (address, nearest, outside) in [
            ("198.51.100.200", "198.51.100.40", "198.51.100.200"),
            ("198.51.100.1", "198.51.100.10", "198.51.100.1"),
            ("203.0.113.9", "203.0.113.255", "203.0.114.0"),
            ("2001:db9::1", "2001:db8:ffff:ffff:ffff:ffff:ffff:ffff", "2001:db9::1"),
        ] {
            let address: IpAddr = address.parse().unwrap();
            assert_eq!(list.nearest(address).unwrap().0.to_string(), nearest, "{address}");
            assert_eq!(list.nearest_outside(address).unwrap().to_string(), outside, "{address}");
        }
    }
}
