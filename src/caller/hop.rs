//! The address syntax of one hop in a chain of proxies.

use std::net::{IpAddr, Ipv6Addr};

use crate::address::read_address;

/// The reason why a hop's address is unknown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HopFault {
    /// Not an address in its plain form.
    #[error("a hop is not an address in canonical form")]
    Unreadable,
    /// `unknown`, or a name that hides the address. RFC 7239, sections 6.2 and 6.3.
    #[error("a hop hides its address")]
    Hidden,
    /// `Forwarded` without `for`.
    #[error("a hop names no client")]
    Silent,
    /// The header as a whole is malformed.
    #[error("the header is malformed")]
    Malformed,
}

/// Reads a hop of `X-Forwarded-For`: an address, with or without brackets, with or without a port.
pub(super) fn of_x_forwarded_for(text: &[u8]) -> Result<IpAddr, HopFault> {
    let text = std::str::from_utf8(text).map_err(|_| HopFault::Unreadable)?.trim_matches([' ', '\t']);
    if text.eq_ignore_ascii_case("unknown") || text.starts_with('_') {
        return Err(HopFault::Hidden);
    }
    // IPv6 without brackets cannot bear a port: what looks like one is part of the address.
    if let Ok(address) = read_address(text) {
        return Ok(address);
    }
    with_port(text, is_port)
}

/// Reads a node of `Forwarded`, unquoted. RFC 7239, section 6.
pub(super) fn of_forwarded(node: &str) -> Result<IpAddr, HopFault> {
    if node.eq_ignore_ascii_case("unknown") || node.starts_with('_') || node.to_ascii_lowercase().starts_with("unknown:") {
        return Err(HopFault::Hidden);
    }
    if !node.contains([':', '[']) {
        return read_address(node).map_err(|_| HopFault::Unreadable);
    }
    with_port(node, |port| is_port(port) || is_hidden_port(port))
}

/// `192.0.2.7:4711`, `[2001:db8::7]`, `[2001:db8::7]:4711`.
fn with_port(text: &str, is_port: impl Fn(&str) -> bool) -> Result<IpAddr, HopFault> {
    let (address, port) = match text.strip_prefix('[') {
        Some(rest) => {
            let (address, rest) = rest.split_once(']').ok_or(HopFault::Unreadable)?;
            let address: Ipv6Addr = address.parse().map_err(|_| HopFault::Unreadable)?;
            let port = match rest {
                "" => None,
                rest => Some(rest.strip_prefix(':').ok_or(HopFault::Unreadable)?),
            };
            (IpAddr::V6(address).to_canonical(), port)
        }
        None => {
            let (address, port) = text.split_once(':').ok_or(HopFault::Unreadable)?;
            (IpAddr::V4(address.parse().map_err(|_| HopFault::Unreadable)?), Some(port))
        }
    };
    if port.is_none_or(is_port) { Ok(address) } else { Err(HopFault::Unreadable) }
}

fn is_port(text: &str) -> bool {
    text.len() <= 5 && text.bytes().all(|byte| byte.is_ascii_digit()) && text.parse::<u16>().is_ok()
}

/// RFC 7239, section 6.3.
fn is_hidden_port(text: &str) -> bool {
    text.strip_prefix('_').is_some_and(|name| {
        !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-'))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_every_form_of_a_hop() {
        for (text, expected) in [
            ("192.0.2.7", "192.0.2.7"),
            (" \t192.0.2.7 ", "192.0.2.7"),
            ("192.0.2.7:4711", "192.0.2.7"),
            ("192.0.2.7:0", "192.0.2.7"),
            ("2001:db8::7", "2001:db8::7"),
            ("2001:DB8:0:0::7", "2001:db8::7"),
            ("[2001:db8::7]", "2001:db8::7"),
            ("[2001:db8::7]:65535", "2001:db8::7"),
            ("::ffff:192.0.2.7", "192.0.2.7"),
            ("[::ffff:192.0.2.7]:80", "192.0.2.7"),
            ("[::ffff:c000:207]", "192.0.2.7"),
        ] {
            assert_eq!(of_x_forwarded_for(text.as_bytes()), Ok(expected.parse().unwrap()), "{text}");
        }
    }

    #[test]
    fn refuses_every_other_form() {
        for text in [
            "",
            " ",
            "192.0.2",
            "192.0.2.07",
            "0xc0.0.2.7",
            "3221226247",
            "192.0.2.256",
            "192.0.2.7:",
            "192.0.2.7:65536",
            "192.0.2.7:000080",
            "192.0.2.7:+1",
            "192.0.2.7:80:80",
            "192.0.2.7 80",
            "192.0.2.7/32",
            "[192.0.2.7]",
            "[192.0.2.7]:80",
            "[2001:db8::7",
            "2001:db8::7]",
            "[2001:db8::7]80",
            "[2001:db8::7]:",
            "[fe80::1%eth0]",
            "fe80::1%1",
            "localhost",
            "example.com",
            "\"192.0.2.7\"",
            "for=192.0.2.7",
            "192.0.2.7\0",
            "192.0.2.7;",
            "192.0.2.7 # a",
            "192.0.2.7:_a",
        ] {
            assert_eq!(of_x_forwarded_for(text.as_bytes()), Err(HopFault::Unreadable), "{text}");
        }
        for text in ["unknown", "UNKNOWN", "_hidden", "_"] {
            assert_eq!(of_x_forwarded_for(text.as_bytes()), Err(HopFault::Hidden), "{text}");
        }
        assert_eq!(of_x_forwarded_for(b"\xFF"), Err(HopFault::Unreadable));
    }

    #[test]
    fn nodes_of_forwarded_have_brackets_around_ipv6() {
        for (node, expected) in [
            ("192.0.2.7", Ok("192.0.2.7")),
            ("192.0.2.7:4711", Ok("192.0.2.7")),
            ("192.0.2.7:_port", Ok("192.0.2.7")),
            ("[2001:db8::7]", Ok("2001:db8::7")),
            ("[2001:db8::7]:4711", Ok("2001:db8::7")),
            ("[::ffff:192.0.2.7]", Ok("192.0.2.7")),
            ("2001:db8::7", Err(HopFault::Unreadable)),
            ("192.0.2.7:_", Err(HopFault::Unreadable)),
            ("192.0.2.7:_a b", Err(HopFault::Unreadable)),
            ("", Err(HopFault::Unreadable)),
            ("unknown", Err(HopFault::Hidden)),
            ("Unknown:80", Err(HopFault::Hidden)),
            ("_gazonk", Err(HopFault::Hidden)),
        ] {
            assert_eq!(of_forwarded(node), expected.map(|address| address.parse().unwrap()), "{node}");
        }
    }
}
