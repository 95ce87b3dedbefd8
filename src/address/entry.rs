//! The syntax of one entry in a list of addresses.
//!
//! There is one spelling of each address: no octal or hexadecimal parts, no short forms, no zones. A program that reads
//! `010.0.0.1` as `8.0.0.1` would otherwise see another network than the author.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    str::FromStr,
};

/// A range of addresses in one family, both ends included. IPv4-mapped addresses count as IPv4.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum AddressRange {
    /// IPv4.
    V4(u32, u32),
    /// IPv6.
    V6(u128, u128),
}

impl AddressRange {
    /// Returns whether the range holds every address of the family.
    pub(super) const fn is_everything(self) -> bool {
        matches!(self, Self::V4(0, u32::MAX) | Self::V6(0, u128::MAX))
    }

    /// Returns whether the range is wider than any organization's network: more than a /8, or more than a /16 of IPv6.
    pub(super) const fn is_vast(self) -> bool {
        match self {
            Self::V4(from, to) => to - from > (1 << 24) - 1,
            Self::V6(from, to) => to - from > (1 << 112) - 1,
        }
    }

    /// Returns whether every address of `other` is in this range.
    pub(super) const fn covers(self, other: Self) -> bool {
        match (self, other) {
            (Self::V4(from, to), Self::V4(other_from, other_to)) => from <= other_from && other_to <= to,
            (Self::V6(from, to), Self::V6(other_from, other_to)) => from <= other_from && other_to <= to,
            _ => false,
        }
    }

    /// Returns whether the ranges overlap.
    pub(super) const fn meets(self, other: Self) -> bool {
        match (self, other) {
            (Self::V4(from, to), Self::V4(other_from, other_to)) => from <= other_to && other_from <= to,
            (Self::V6(from, to), Self::V6(other_from, other_to)) => from <= other_to && other_from <= to,
            _ => false,
        }
    }

    fn between(from: IpAddr, to: IpAddr) -> Result<Self, EntryFault> {
        match (from, to) {
            (IpAddr::V4(from), IpAddr::V4(to)) if from <= to => Ok(Self::V4(from.into(), to.into())),
            (IpAddr::V6(from), IpAddr::V6(to)) if from <= to => Ok(Self::V6(from.into(), to.into())),
            (IpAddr::V4(_), IpAddr::V4(_)) | (IpAddr::V6(_), IpAddr::V6(_)) => Err(EntryFault::Swapped),
            _ => Err(EntryFault::MixedFamilies),
        }
    }
}

impl FromStr for AddressRange {
    type Err = EntryFault;

    fn from_str(text: &str) -> Result<Self, EntryFault> {
        if let Some((address, length)) = text.split_once('/') {
            return cidr(address, length);
        }
        if let Some((from, to)) = text.split_once('-') {
            return Self::between(address(from.trim_end())?, address(to.trim_start())?);
        }
        let address = address(text)?;
        Self::between(address, address)
    }
}

/// The reason why an entry cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EntryFault {
    /// Not an address in its canonical spelling.
    #[error("`{0}` is not an IP address")]
    Address(String),
    /// Not a number from 0 to 32, or to 128.
    #[error("`/{0}` is not a prefix length")]
    PrefixLength(String),
    /// Host bits are set beyond the prefix.
    #[error("the address has host bits set beyond the prefix")]
    HostBits {
        /// The network that the address is in.
        network: String,
    },
    /// A range that begins after its end.
    #[error("the range begins after its end")]
    Swapped,
    /// A range from IPv4 to IPv6.
    #[error("the ends of the range are of different families")]
    MixedFamilies,
}

impl EntryFault {
    /// Returns the correct form.
    pub(super) fn cure(&self) -> String {
        match self {
            Self::Address(text) if text == "*" || text == "any" || text == "all" => {
                "list the addresses that are meant; every address there is would be `0.0.0.0/0` and `::/0`".into()
            }
            Self::Address(_) => {
                "write an address as 192.0.2.7 or 2001:db8::7, a network as 192.0.2.0/24, a range as 192.0.2.1-192.0.2.9".into()
            }
            Self::PrefixLength(_) => "use 0 to 32 with IPv4 and 0 to 128 with IPv6".into(),
            Self::HostBits { network } => format!("write `{network}` for the network, or the address alone"),
            Self::Swapped => "write the lower address first".into(),
            Self::MixedFamilies => "make it two ranges".into(),
        }
    }
}

/// Reads an address in its canonical spelling; IPv4-mapped ones become IPv4.
pub(crate) fn address(text: &str) -> Result<IpAddr, EntryFault> {
    // The standard parser takes neither zeros in front, nor short forms, nor zones.
    text.parse::<IpAddr>().map(|address| address.to_canonical()).map_err(|_| EntryFault::Address(text.into()))
}

fn cidr(text: &str, length: &str) -> Result<AddressRange, EntryFault> {
    let written: IpAddr = text.parse().map_err(|_| EntryFault::Address(text.into()))?;
    let bad_length = || EntryFault::PrefixLength(length.into());
    let plain = length == "0" || (!length.starts_with('0') && length.bytes().all(|byte| byte.is_ascii_digit()));
    let bits: u32 = if plain { length.parse().map_err(|_| bad_length())? } else { return Err(bad_length()) };
    match written {
        IpAddr::V4(address) => cidr_v4(address, bits).ok_or_else(bad_length)?,
        IpAddr::V6(address) => match address.to_ipv4_mapped() {
            // `::ffff:10.0.0.0/104` is `10.0.0.0/8`.
            Some(mapped) if bits >= 96 => cidr_v4(mapped, bits - 96).ok_or_else(bad_length)?,
            _ => cidr_v6(address, bits).ok_or_else(bad_length)?,
        },
    }
}

fn cidr_v4(address: Ipv4Addr, bits: u32) -> Option<Result<AddressRange, EntryFault>> {
    let host = u32::MAX.checked_shr(bits).unwrap_or(0);
    let from = u32::from(address);
    (bits <= 32).then(|| match from & host {
        0 => Ok(AddressRange::V4(from, from | host)),
        _ => Err(EntryFault::HostBits { network: format!("{}/{bits}", Ipv4Addr::from(from & !host)) }),
    })
}

fn cidr_v6(address: Ipv6Addr, bits: u32) -> Option<Result<AddressRange, EntryFault>> {
    let host = u128::MAX.checked_shr(bits).unwrap_or(0);
    let from = u128::from(address);
    (bits <= 128).then(|| match from & host {
        0 => Ok(AddressRange::V6(from, from | host)),
        _ => Err(EntryFault::HostBits { network: format!("{}/{bits}", Ipv6Addr::from(from & !host)) }),
    })
}

/// Returns whether the text can only be the name of a set: an address begins with a digit or contains a colon.
pub(super) fn is_name(text: &str) -> bool {
    text.starts_with(|letter: char| letter.is_ascii_alphabetic())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn v4(text: &str) -> u32 {
        text.parse::<Ipv4Addr>().unwrap().into()
    }

    fn v6(text: &str) -> u128 {
        text.parse::<Ipv6Addr>().unwrap().into()
    }

    #[test]
    fn reads_addresses_networks_and_ranges() {
        for (text, expected) in [
            ("192.0.2.7", AddressRange::V4(v4("192.0.2.7"), v4("192.0.2.7"))),
            ("203.0.113.0/24", AddressRange::V4(v4("203.0.113.0"), v4("203.0.113.255"))),
            ("192.0.2.7/32", AddressRange::V4(v4("192.0.2.7"), v4("192.0.2.7"))),
            ("0.0.0.0/0", AddressRange::V4(0, u32::MAX)),
            ("198.51.100.10-198.51.100.40", AddressRange::V4(v4("198.51.100.10"), v4("198.51.100.40"))),
            ("198.51.100.10 - 198.51.100.10", AddressRange::V4(v4("198.51.100.10"), v4("198.51.100.10"))),
            ("2001:db8::/32", AddressRange::V6(v6("2001:db8::"), v6("2001:db8:ffff:ffff:ffff:ffff:ffff:ffff"))),
            ("2001:DB8::7", AddressRange::V6(v6("2001:db8::7"), v6("2001:db8::7"))),
            ("::/0", AddressRange::V6(0, u128::MAX)),
            ("::1/128", AddressRange::V6(1, 1)),
            ("2001:db8::1-2001:db8::9", AddressRange::V6(v6("2001:db8::1"), v6("2001:db8::9"))),
            ("::ffff:192.0.2.7", AddressRange::V4(v4("192.0.2.7"), v4("192.0.2.7"))),
            ("::ffff:c000:207", AddressRange::V4(v4("192.0.2.7"), v4("192.0.2.7"))),
            ("::ffff:10.0.0.0/104", AddressRange::V4(v4("10.0.0.0"), v4("10.255.255.255"))),
            ("::ffff:0:0/96", AddressRange::V4(0, u32::MAX)),
            ("::ffff:192.0.2.1-::ffff:192.0.2.9", AddressRange::V4(v4("192.0.2.1"), v4("192.0.2.9"))),
            ("::ffff:192.0.2.1-192.0.2.9", AddressRange::V4(v4("192.0.2.1"), v4("192.0.2.9"))),
        ] {
            assert_eq!(text.parse(), Ok(expected), "{text}");
        }
    }

    #[test]
    fn refuses_every_other_spelling() {
        for text in [
            "",
            " ",
            "192.0.2",
            "192.0.2.",
            "192.0.2.7.",
            "192.0.2.07",
            "0300.0.2.7",
            "0xC0.0.2.7",
            "3221226247",
            "192.0.2.256",
            "192.0.2.-1",
            " 192.0.2.7",
            "192.0.2.7 ",
            "192.0.2.7:80",
            "[::1]",
            "::1%lo",
            "fe80::1%25eth0",
            ":::",
            "1::2::3",
            "::ffff:192.0.2.07",
            "::ffff:192.0.2",
            "2001:db8",
            "2001:db8:::1",
            "12345::",
            "１92.0.2.7",
            "192.0.2.7/",
            "192.0.2.0/33",
            "192.0.2.0/-1",
            "192.0.2.0/+24",
            "192.0.2.0/024",
            "192.0.2.0/ 24",
            "192.0.2.0/255.255.255.0",
            "192.0.2.0/24/24",
            "::/129",
            "::/00",
            "192.0.2.1-",
            "-192.0.2.1",
            "192.0.2.1-9",
            "192.0.2.1--192.0.2.9",
            "192.0.2.1-192.0.2.3-192.0.2.9",
            "192.0.2.0/24-192.0.3.0/24",
            "192.0.2.1,192.0.2.2",
            "192.0.2.1 192.0.2.2",
            "192.0.2.*",
        ] {
            assert!(text.parse::<AddressRange>().is_err(), "{text}");
        }
    }

    #[test]
    fn says_what_would_be_right() {
        for (text, fault) in [
            ("10.1.2.3/8", EntryFault::HostBits { network: "10.0.0.0/8".into() }),
            ("192.0.2.1/0", EntryFault::HostBits { network: "0.0.0.0/0".into() }),
            ("2001:db8::1/32", EntryFault::HostBits { network: "2001:db8::/32".into() }),
            ("192.0.2.9-192.0.2.1", EntryFault::Swapped),
            ("2001:db8::9-2001:db8::1", EntryFault::Swapped),
            ("192.0.2.1-2001:db8::1", EntryFault::MixedFamilies),
            ("::ffff:192.0.2.1-2001:db8::1", EntryFault::MixedFamilies),
        ] {
            assert_eq!(text.parse::<AddressRange>(), Err(fault.clone()), "{text}");
            assert!(!fault.cure().is_empty());
        }
    }

    #[test]
    fn every_prefix_length_covers_its_power_of_two() {
        for bits in 0..=32_u32 {
            let Ok(AddressRange::V4(from, to)) = format!("0.0.0.0/{bits}").parse() else { panic!("{bits}") };
            assert_eq!(u64::from(to - from) + 1, 1 << (32 - bits), "{bits}");
        }
        for bits in 1..=128_u32 {
            let Ok(AddressRange::V6(from, to)) = format!("::/{bits}").parse() else { panic!("{bits}") };
            assert_eq!(to - from + 1, 1 << (128 - bits), "{bits}");
        }
    }

    #[test]
    fn names_are_told_from_addresses() {
        for (text, expected) in [
            ("offices", true),
            ("front-doors", true),
            ("fe80", true),
            ("beef.a_1", true),
            ("10-offices", false),
            ("fe80::1", false),
            ("192.0.2.1", false),
            ("", false),
            ("a b", false),
        ] {
            assert_eq!(is_name(text), expected, "{text}");
        }
    }
}
