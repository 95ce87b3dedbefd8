//! The PROXY protocol, by which a proxy that does not speak HTTP names the source of a connection before any other bytes.
//!
//! Versions 1 and 2 according to HAProxy's `proxy-protocol.txt`. Only headers of trusted proxies may be read.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// The longest header of version 1, its line end included.
const MAX_V1: usize = 107;

/// The longest header of version 2 that is read. Certificates and such (TLVs) may follow the addresses.
const MAX_V2: usize = 4 << 10;

/// The TLV about TLS between source and proxy (`PP2_TYPE_SSL`), and its bit that states TLS is used (`PP2_CLIENT_SSL`).
const TYPE_SSL: u8 = 0x20;
const CLIENT_SSL: u8 = 0x01;

/// The signature of a version 2 header.
const SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";

/// The state of a header as its bytes arrive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// The header is incomplete.
    Partial,
    /// The header is complete.
    Complete(Header),
}

/// A header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// The number of its bytes; the connection's own bytes follow.
    pub length: usize,
    /// The source of the connection; IPv4-mapped addresses become IPv4. `None`: the proxy itself, as for its health checks.
    pub source: Option<SocketAddr>,
    /// True if the header states that the source uses TLS to the proxy.
    pub tls: bool,
}

/// The reason why the beginning of a connection is not a valid header.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProxyProtocolFault {
    /// Something other than a header.
    #[error("the connection does not begin with a PROXY protocol header")]
    Absent,
    /// Longer than any accepted header.
    #[error("the PROXY protocol header is too long")]
    TooLong,
    /// A malformed header, or one about something other than TCP.
    #[error("the PROXY protocol header is malformed")]
    Malformed,
}

/// Reads the header at the beginning of a connection, from the bytes received so far.
///
/// # Errors
/// Fails if the bytes cannot become a header, whatever follows: the connection must be closed.
pub fn read(bytes: &[u8]) -> Result<Progress, ProxyProtocolFault> {
    let begins = |start: &[u8]| bytes.iter().zip(start).all(|(byte, expected)| byte == expected);
    if begins(SIGNATURE) {
        read_v2(bytes)
    } else if begins(b"PROXY ") {
        read_v1(bytes)
    } else {
        Err(ProxyProtocolFault::Absent)
    }
}

fn read_v1(bytes: &[u8]) -> Result<Progress, ProxyProtocolFault> {
    let Some(end) = memchr::memchr(b'\n', &bytes[..bytes.len().min(MAX_V1)]) else {
        return if bytes.len() < MAX_V1 { Ok(Progress::Partial) } else { Err(ProxyProtocolFault::TooLong) };
    };
    let line = bytes[..end].strip_suffix(b"\r").ok_or(ProxyProtocolFault::Malformed)?;
    let line = std::str::from_utf8(line).map_err(|_| ProxyProtocolFault::Malformed)?;
    let rest = line.strip_prefix("PROXY ").ok_or(ProxyProtocolFault::Malformed)?;
    // What follows UNKNOWN is to be ignored.
    let source = if rest == "UNKNOWN" || rest.starts_with("UNKNOWN ") { None } else { Some(source_v1(rest)?) };
    Ok(Progress::Complete(Header { length: end + 1, source, tls: false }))
}

/// Reads the source of `TCP4 192.0.2.7 203.0.113.1 4711 443`.
fn source_v1(text: &str) -> Result<SocketAddr, ProxyProtocolFault> {
    let mut fields = text.split(' ');
    let mut field = || fields.next().ok_or(ProxyProtocolFault::Malformed);
    let [family, source, destination, source_port, destination_port] = [field()?, field()?, field()?, field()?, field()?];
    if fields.next().is_some() {
        return Err(ProxyProtocolFault::Malformed);
    }
    let address = |text: &str| -> Result<IpAddr, ProxyProtocolFault> {
        match family {
            "TCP4" => text.parse::<Ipv4Addr>().map(IpAddr::V4).map_err(|_| ProxyProtocolFault::Malformed),
            "TCP6" => text.parse::<Ipv6Addr>().map(IpAddr::V6).map_err(|_| ProxyProtocolFault::Malformed),
            _ => Err(ProxyProtocolFault::Malformed),
        }
    };
    let port = |text: &str| {
        let plain = text == "0" || (!text.starts_with('0') && text.bytes().all(|byte| byte.is_ascii_digit()));
        if plain { text.parse::<u16>().map_err(|_| ProxyProtocolFault::Malformed) } else { Err(ProxyProtocolFault::Malformed) }
    };
    address(destination)?;
    port(destination_port)?;
    Ok(SocketAddr::new(address(source)?.to_canonical(), port(source_port)?))
}

fn read_v2(bytes: &[u8]) -> Result<Progress, ProxyProtocolFault> {
    let Some(&[version_command, family, high, low]) = bytes.get(12..16).and_then(|bytes| bytes.first_chunk()) else {
        return Ok(Progress::Partial);
    };
    let rest = usize::from(u16::from_be_bytes([high, low]));
    let length = 16 + rest;
    if length > MAX_V2 {
        return Err(ProxyProtocolFault::TooLong);
    }
    let is_local = match version_command {
        0x20 => true,
        0x21 => false,
        _ => return Err(ProxyProtocolFault::Malformed),
    };
    // Addresses and ports of TCP over IPv4 and IPv6; 0 is a connection that the proxy knows nothing of.
    let addresses = match family {
        0x00 => 0,
        0x11 => 12,
        0x21 => 36,
        // The proxy's own connection may be of any family.
        _ if is_local => 0,
        _ => return Err(ProxyProtocolFault::Malformed),
    };
    if !is_local && rest < addresses {
        return Err(ProxyProtocolFault::Malformed);
    }
    let Some(body) = bytes.get(16..length) else { return Ok(Progress::Partial) };
    let source = match (is_local, family) {
        (false, 0x11) => Some((IpAddr::V4(Ipv4Addr::from(array::<4>(body, 0)?)), u16::from_be_bytes(array(body, 8)?))),
        (false, 0x21) => Some((IpAddr::V6(Ipv6Addr::from(array::<16>(body, 0)?)), u16::from_be_bytes(array(body, 32)?))),
        _ => None,
    };
    let source = source.map(|(address, port)| SocketAddr::new(address.to_canonical(), port));
    let tls = source.is_some() && body.get(addresses..).is_some_and(tells_of_tls);
    Ok(Progress::Complete(Header { length, source, tls }))
}

/// Returns whether the TLVs after the addresses state that the source uses TLS to the proxy. All others are skipped; malformed or
/// contradictory ones state nothing.
fn tells_of_tls(mut rest: &[u8]) -> bool {
    let mut told = None;
    while let Some((&[kind, high, low], after)) = rest.split_first_chunk() {
        let Some((value, after)) = after.split_at_checked(usize::from(u16::from_be_bytes([high, low]))) else { return false };
        rest = after;
        if kind == TYPE_SSL {
            let says = value.first().is_some_and(|client| client & CLIENT_SSL != 0);
            told = Some(says && told.unwrap_or(true));
        }
    }
    rest.is_empty() && told == Some(true)
}

fn array<const N: usize>(bytes: &[u8], from: usize) -> Result<[u8; N], ProxyProtocolFault> {
    bytes.get(from..).and_then(|bytes| bytes.first_chunk()).copied().ok_or(ProxyProtocolFault::Malformed)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn complete(length: usize, source: Option<&str>) -> Result<Progress, ProxyProtocolFault> {
        Ok(Progress::Complete(Header { length, source: source.map(|source| source.parse().unwrap()), tls: false }))
    }

    fn v2(version_command: u8, family: u8, body: &[u8]) -> Vec<u8> {
        let length = u16::try_from(body.len()).unwrap().to_be_bytes();
        [SIGNATURE.as_slice(), &[version_command, family], &length, body].concat()
    }

    #[test]
    fn reads_version_1() {
        for (line, expected) in [
            ("PROXY TCP4 192.0.2.7 203.0.113.1 4711 443\r\n", complete(43, Some("192.0.2.7:4711"))),
            ("PROXY TCP6 2001:db8::7 2001:db8::1 65535 0\r\nGET", complete(44, Some("[2001:db8::7]:65535"))),
            ("PROXY TCP6 ::ffff:192.0.2.7 ::1 1 2\r\n", complete(37, Some("192.0.2.7:1"))),
            ("PROXY UNKNOWN\r\n", complete(15, None)),
            ("PROXY UNKNOWN ffff::1 ffff::2 1 2\r\n", complete(35, None)),
        ] {
            assert_eq!(read(line.as_bytes()), expected, "{line}");
        }
    }

    #[test]
    fn reads_version_2_and_passes_over_what_follows_the_addresses() {
        let v4 = [192, 0, 2, 7, 203, 0, 113, 1, 0x12, 0x67, 0x01, 0xBB];
        let mut v6 = [0; 36];
        v6[..16].copy_from_slice(&"2001:db8::7".parse::<Ipv6Addr>().unwrap().octets());
        v6[32..34].copy_from_slice(&4711_u16.to_be_bytes());
        let tlvs = [v4.as_slice(), &[0xEA, 0, 3, 1, 2, 3, 0x20, 0xFF, 0xFF]].concat();
        for (bytes, expected) in [
            (v2(0x21, 0x11, &v4), complete(28, Some("192.0.2.7:4711"))),
            (v2(0x21, 0x11, &tlvs), complete(37, Some("192.0.2.7:4711"))),
            (v2(0x21, 0x21, &v6), complete(52, Some("[2001:db8::7]:4711"))),
            (v2(0x20, 0x00, &[]), complete(16, None)),
            (v2(0x20, 0x11, &v4), complete(28, None)),
            (v2(0x20, 0x31, &[0; 216]), complete(232, None)),
            (v2(0x21, 0x00, &[1, 2, 3]), complete(19, None)),
        ] {
            assert_eq!(read(&bytes), expected, "{bytes:02X?}");
            assert_eq!(read(&[bytes.as_slice(), b"GET / HTTP/1.1\r\n"].concat()), expected);
        }
    }

    #[test]
    fn tells_whether_the_source_speaks_tls() {
        let v4 = [192, 0, 2, 7, 203, 0, 113, 1, 0x12, 0x67, 0x01, 0xBB];
        let ssl = |client: u8| [&[TYPE_SSL, 0, 5, client][..], &[0; 4]].concat();
        let (yes, no) = (ssl(0x01), ssl(0x06));
        for (version_command, tlvs, expected) in [
            (0x21, &[][..], false),
            (0x21, &[&yes[..]], true),
            (0x21, &[&ssl(0x07)], true),
            (0x21, &[&[0xEA, 0, 1, 1][..], &yes], true),
            (0x21, &[&no], false),
            (0x21, &[&yes, &no], false),
            (0x21, &[&[TYPE_SSL, 0, 0][..]], false),
            (0x21, &[&yes, &[0xEA, 0, 9, 1][..]], false),
            (0x21, &[&yes, &[0xEA][..]], false),
            // Within another TLV they are that one's bytes.
            (0x21, &[&[0xEA, 0, 8][..], &yes], false),
            (0x20, &[&yes], false),
        ] {
            let bytes = v2(version_command, 0x11, &[&v4[..], &tlvs.concat()].concat());
            let Ok(Progress::Complete(header)) = read(&bytes) else { panic!("{bytes:02X?}") };
            assert_eq!(header.tls, expected, "{bytes:02X?}");
        }
    }

    #[test]
    fn refuses_what_is_no_header() {
        use ProxyProtocolFault::{Absent, Malformed, TooLong};
        let long = format!("PROXY UNKNOWN {}\r\n", "a".repeat(100));
        for (bytes, fault) in [
            (b"GET / HTTP/1.1\r\n".to_vec(), Absent),
            (b"\x16\x03\x01".to_vec(), Absent),
            (b"PROXX".to_vec(), Absent),
            (b"proxy TCP4".to_vec(), Absent),
            (b"\r\n\r\n\0\r\nQUIX".to_vec(), Absent),
            (long.into_bytes(), TooLong),
            (b"PROXY TCP4 192.0.2.7 203.0.113.1 4711 443\n".to_vec(), Malformed),
            (b"PROXY TCP4 192.0.2.07 203.0.113.1 4711 443\r\n".to_vec(), Malformed),
            (b"PROXY TCP4 2001:db8::7 203.0.113.1 4711 443\r\n".to_vec(), Malformed),
            (b"PROXY TCP6 192.0.2.7 203.0.113.1 4711 443\r\n".to_vec(), Malformed),
            (b"PROXY TCP6 fe80::1%eth0 ::1 1 2\r\n".to_vec(), Malformed),
            (b"PROXY TCP4 192.0.2.7 203.0.113.1 4711\r\n".to_vec(), Malformed),
            (b"PROXY TCP4 192.0.2.7 203.0.113.1 4711 443 1\r\n".to_vec(), Malformed),
            (b"PROXY TCP4  192.0.2.7 203.0.113.1 4711 443\r\n".to_vec(), Malformed),
            (b"PROXY TCP4 192.0.2.7 203.0.113.1 +4711 443\r\n".to_vec(), Malformed),
            (b"PROXY TCP4 192.0.2.7 203.0.113.1 04711 443\r\n".to_vec(), Malformed),
            (b"PROXY TCP4 192.0.2.7 203.0.113.1 65536 443\r\n".to_vec(), Malformed),
            (b"PROXY UDP4 192.0.2.7 203.0.113.1 4711 443\r\n".to_vec(), Malformed),
            (b"PROXY UNKNOWNX\r\n".to_vec(), Malformed),
            (b"PROXY \r\n".to_vec(), Malformed),
            (b"PROXY \xFF\r\n".to_vec(), Malformed),
            (v2(0x11, 0x11, &[0; 12]), Malformed),
            (v2(0x22, 0x11, &[0; 12]), Malformed),
            (v2(0x21, 0x11, &[0; 11]), Malformed),
            (v2(0x21, 0x21, &[0; 35]), Malformed),
            (v2(0x21, 0x12, &[0; 12]), Malformed),
            (v2(0x21, 0x31, &[0; 216]), Malformed),
            (v2(0x21, 0x11, &[0; 4_096]), TooLong),
        ] {
            assert_eq!(read(&bytes), Err(fault), "{}", String::from_utf8_lossy(&bytes));
        }
    }

    #[test]
    fn a_header_may_be_as_long_as_its_bound_and_no_longer() {
        let line = |length: usize| format!("PROXY UNKNOWN {}\r\n", "a".repeat(length - 16)).into_bytes();
        let tlvs = |length: usize| v2(0x21, 0x11, &vec![1; length - 16]);
        let source = Some("1.1.1.1:257");

        assert_eq!(read(&line(MAX_V1)), complete(107, None));
        assert_eq!(read(&line(MAX_V1)[..MAX_V1 - 1]), Ok(Progress::Partial));
        assert_eq!(read(&line(MAX_V1 + 1)[..MAX_V1]), Err(ProxyProtocolFault::TooLong), "as soon as that is known");
        assert_eq!(read(&tlvs(MAX_V2)), complete(4_096, source));
        assert_eq!(read(&tlvs(MAX_V2)[..16]), Ok(Progress::Partial));
        assert_eq!(read(&tlvs(MAX_V2 + 1)[..16]), Err(ProxyProtocolFault::TooLong), "as soon as that is known");
    }

    #[test]
    fn every_beginning_of_a_header_is_partial() {
        let headers = [
            b"PROXY TCP4 192.0.2.7 203.0.113.1 4711 443\r\n".to_vec(),
            v2(0x21, 0x11, &[192, 0, 2, 7, 203, 0, 113, 1, 0x12, 0x67, 1, 0xBB, 9, 9]),
        ];
        for header in headers {
            for length in 0..header.len() {
                assert_eq!(read(&header[..length]), Ok(Progress::Partial), "{length}");
            }
        }
    }

    proptest! {
        #[test]
        fn never_reads_beyond_its_bytes(bytes in prop::collection::vec(any::<u8>(), 0..80), start in 0..3_usize) {
            let start = [&b""[..], b"PROXY ", SIGNATURE][start];
            let bytes = [start, &bytes].concat();
            if let Ok(Progress::Complete(header)) = read(&bytes) {
                prop_assert!(header.length <= bytes.len());
                prop_assert_eq!(read(&bytes[..header.length]), Ok(Progress::Complete(header)));
            }
        }
    }
}
