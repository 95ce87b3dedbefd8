//! Merged, sorted ranges: an address is found in them by binary search.

use std::net::IpAddr;

use super::entry::AddressRange;

/// A set of addresses of both families, without overlaps.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Ranges {
    v4: Sorted<u32>,
    v6: Sorted<u128>,
}

/// Starts and ends in separate arrays, so that the search reads only the starts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Sorted<T> {
    starts: Box<[T]>,
    ends: Box<[T]>,
}

impl Ranges {
    /// Merges ranges that overlap or touch.
    pub(super) fn of(spans: impl IntoIterator<Item = AddressRange>) -> Self {
        let (mut v4, mut v6) = (Vec::new(), Vec::new());
        for span in spans {
            match span {
                AddressRange::V4(from, to) => v4.push((from, to)),
                AddressRange::V6(from, to) => v6.push((from, to)),
            }
        }
        Self { v4: Sorted::of(v4, |end: u32| end.checked_add(1)), v6: Sorted::of(v6, |end: u128| end.checked_add(1)) }
    }

    /// Returns whether the address is in the set; an IPv4-mapped one counts as IPv4.
    pub(super) fn contains(&self, address: IpAddr) -> bool {
        match address.to_canonical() {
            IpAddr::V4(address) => self.v4.contains(address.into()),
            IpAddr::V6(address) => self.v6.contains(address.into()),
        }
    }

    /// Returns whether every address of the span is in the set.
    pub(super) fn covers(&self, span: AddressRange) -> bool {
        match span {
            AddressRange::V4(from, to) => self.v4.covers(from, to),
            AddressRange::V6(from, to) => self.v6.covers(from, to),
        }
    }

    /// Returns whether some address of the span is in the set.
    pub(super) fn meets(&self, span: AddressRange) -> bool {
        match span {
            AddressRange::V4(from, to) => self.v4.meets(from, to),
            AddressRange::V6(from, to) => self.v6.meets(from, to),
        }
    }

    pub(super) fn spans(&self) -> impl Iterator<Item = AddressRange> {
        let v4 = self.v4.starts.iter().zip(&self.v4.ends).map(|(from, to)| AddressRange::V4(*from, *to));
        v4.chain(self.v6.starts.iter().zip(&self.v6.ends).map(|(from, to)| AddressRange::V6(*from, *to)))
    }

    /// Returns the number of addresses of each family, saturating.
    pub(super) fn size(&self) -> (u128, u128) {
        let v4 = self.v4.starts.iter().zip(&self.v4.ends).map(|(from, to)| u128::from(to - from) + 1);
        let v6 = self.v6.starts.iter().zip(&self.v6.ends).map(|(from, to)| (to - from).saturating_add(1));
        (v4.sum(), v6.fold(0, u128::saturating_add))
    }

    /// Returns the number of ranges after merging.
    pub(super) const fn len(&self) -> usize {
        self.v4.starts.len() + self.v6.starts.len()
    }
}

impl<T: Copy + Ord> Sorted<T> {
    fn of(mut ranges: Vec<(T, T)>, next: impl Fn(T) -> Option<T>) -> Self {
        ranges.sort_unstable();
        let mut merged: Vec<(T, T)> = Vec::with_capacity(ranges.len());
        for (from, to) in ranges {
            match merged.last_mut() {
                // The highest address has no next one: nothing can touch it from above that does not overlap it.
                Some((_, end)) if from <= *end || next(*end) == Some(from) => *end = to.max(*end),
                _ => merged.push((from, to)),
            }
        }
        Self { starts: merged.iter().map(|range| range.0).collect(), ends: merged.iter().map(|range| range.1).collect() }
    }

    fn contains(&self, address: T) -> bool {
        self.covers(address, address)
    }

    fn meets(&self, from: T, to: T) -> bool {
        // The last range that begins at or before the end of the span is the one that reaches furthest into it.
        let above = self.starts.partition_point(|start| *start <= to);
        above.checked_sub(1).is_some_and(|at| from <= self.ends[at])
    }

    fn covers(&self, from: T, to: T) -> bool {
        let above = self.starts.partition_point(|start| *start <= from);
        above.checked_sub(1).is_some_and(|at| to <= self.ends[at])
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn merges_what_overlaps_or_touches() {
        let ranges = Ranges::of([
            AddressRange::V4(10, 20),
            AddressRange::V4(15, 30),
            AddressRange::V4(31, 40),
            AddressRange::V4(42, 42),
            AddressRange::V4(u32::MAX - 1, u32::MAX),
            AddressRange::V4(u32::MAX, u32::MAX),
            AddressRange::V6(0, 5),
            AddressRange::V6(2, 3),
        ]);

        let expected = [
            AddressRange::V4(10, 40),
            AddressRange::V4(42, 42),
            AddressRange::V4(u32::MAX - 1, u32::MAX),
            AddressRange::V6(0, 5),
        ];
        assert_eq!(ranges.spans().collect::<Vec<_>>(), expected);
    }

    proptest! {
        #[test]
        fn agrees_with_a_linear_search(
            spans in prop::collection::vec((any::<bool>(), 0_u32..64, 0_u32..8), 0..24),
            probes in prop::collection::vec((any::<bool>(), 0_u32..80), 1..32),
        ) {
            let spans: Vec<_> = spans.into_iter().map(|(v4, from, length)| {
                if v4 { AddressRange::V4(from, from + length) } else { AddressRange::V6(u128::from(from), u128::from(from + length)) }
            }).collect();
            let ranges = Ranges::of(spans.iter().copied());

            for (v4, number) in probes {
                let (address, span): (IpAddr, _) = if v4 {
                    (std::net::Ipv4Addr::from(number).into(), AddressRange::V4(number, number))
                } else {
                    (std::net::Ipv6Addr::from(u128::from(number)).into(), AddressRange::V6(number.into(), number.into()))
                };
                prop_assert_eq!(ranges.contains(address), spans.iter().any(|listed| listed.covers(span)), "{}", address);
                let wide = match span {
                    AddressRange::V4(from, _) => AddressRange::V4(from, from + 5),
                    AddressRange::V6(from, _) => AddressRange::V6(from, from + 5),
                };
                prop_assert_eq!(ranges.meets(wide), spans.iter().any(|listed| listed.meets(wide)), "{}", address);
            }
        }
    }
}
