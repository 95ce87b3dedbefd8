//! Host and port, in canonical form.

use std::{cell::RefCell, fmt, net::Ipv4Addr, net::Ipv6Addr};

use bytestring::ByteString;

use crate::base::memo::Memo;

/// `http` or `https`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scheme {
    /// Without TLS.
    Http,
    /// With TLS.
    Https,
}

impl Scheme {
    /// Returns the scheme's name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
        }
    }

    /// Returns the port that applies if none is written.
    pub const fn default_port(self) -> u16 {
        match self {
            Self::Http => 80,
            Self::Https => 443,
        }
    }
}

impl fmt::Display for Scheme {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The longest host name. RFC 1035, section 2.3.4.
const MAX_HOST: usize = 253;

/// Host and port, from `Host` or `:authority`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Authority {
    /// The host: lower case, without a trailing dot; IPv6 in brackets, in its shortest form.
    pub host: ByteString,
    /// The port, if one was written.
    pub port: Option<u16>,
}

impl Authority {
    /// No host at all.
    pub const ABSENT: Self = Self { host: ByteString::new(), port: None };

    /// Returns whether no host was named.
    pub fn is_absent(&self) -> bool {
        self.host.is_empty()
    }

    /// Reads an authority. RFC 9110, section 7.2; RFC 3986, section 3.2.
    ///
    /// # Errors
    /// Fails on anything that two programs could read differently: user information, escapes, unusual spellings of addresses, an
    /// invalid port.
    pub fn read(text: &[u8]) -> Result<Self, AuthorityFault> {
        // The hosts that a gateway serves are few, and each request names one.
        thread_local!(static HOSTS: RefCell<Memo<Authority, 16>> = const { RefCell::new(Memo::new()) });
        HOSTS.with_borrow_mut(|hosts| hosts.get(text, Self::parse))
    }

    fn parse(text: &[u8]) -> Result<Self, AuthorityFault> {
        let text = std::str::from_utf8(text).map_err(|_| AuthorityFault::Host)?;
        // Byte by byte: the text is short, and a search for a letter is made ready for long ones.
        if text.bytes().any(|byte| byte == b'@') {
            return Err(AuthorityFault::UserInfo);
        }
        if let Some(rest) = text.strip_prefix('[') {
            let (address, rest) = rest.split_once(']').ok_or(AuthorityFault::Host)?;
            // The standard parser takes no zone, and no form but RFC 4291's.
            let address: Ipv6Addr = address.parse().map_err(|_| AuthorityFault::Host)?;
            return Ok(Self { host: format!("[{address}]").into(), port: after_host(rest)? });
        }
        let (host, rest) = text.split_at(text.bytes().position(|byte| byte == b':').unwrap_or(text.len()));
        Ok(Self { host: host_name(host)?, port: after_host(rest)? })
    }

    /// Returns the port, or the scheme's default.
    pub fn port_or_default(&self, scheme: Scheme) -> u16 {
        self.port.unwrap_or(scheme.default_port())
    }

    /// Returns whether both name the same host and port over `scheme`.
    pub fn agrees_with(&self, other: &Self, scheme: Scheme) -> bool {
        self.host == other.host && self.port_or_default(scheme) == other.port_or_default(scheme)
    }
}

/// `api.contoso.example:8443`.
impl fmt::Display for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.host)?;
        self.port.map_or(Ok(()), |port| write!(f, ":{port}"))
    }
}

/// The reason why an authority is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AuthorityFault {
    /// `user@host`. RFC 9110, section 4.2.4.
    #[error("the host holds user information")]
    UserInfo,
    /// Neither a host name nor an address.
    #[error("the host is neither a name nor an address in canonical form")]
    Host,
    /// Not a number from 1 to 65535.
    #[error("the port is not a number from 1 to 65535")]
    Port,
}

/// Returns the host name in lower case, without the trailing dot of a full name.
fn host_name(written: &str) -> Result<ByteString, AuthorityFault> {
    let name = written.strip_suffix('.').unwrap_or(written);
    if name.is_empty() || name.len() > MAX_HOST {
        return Err(AuthorityFault::Host);
    }
    let label = |label: &str| {
        !label.is_empty()
            && label.len() <= 63
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
    };
    if !name.split('.').all(label) {
        return Err(AuthorityFault::Host);
    }
    // `0x7f.1`, `127.1`, `0177.0.0.1`: what ends in a number is an address to some resolvers (URL standard, "ends in a number").
    let last = name.rsplit('.').next().unwrap_or_default();
    let numeric = last.bytes().all(|byte| byte.is_ascii_digit())
        || last
            .strip_prefix("0x")
            .or(last.strip_prefix("0X"))
            .is_some_and(|hex| hex.bytes().all(|byte| byte.is_ascii_hexdigit()));
    if numeric && name.parse::<Ipv4Addr>().is_err() {
        return Err(AuthorityFault::Host);
    }
    if name.bytes().any(|byte| byte.is_ascii_uppercase()) {
        return Ok(name.to_ascii_lowercase().into());
    }
    Ok(name.into())
}

/// Reads `:8443`, or nothing; also a bare `:`, which means the scheme's default port (RFC 3986, section 3.2.3).
fn after_host(rest: &str) -> Result<Option<u16>, AuthorityFault> {
    if rest.is_empty() {
        return Ok(None);
    }
    let digits = rest.strip_prefix(':').ok_or(AuthorityFault::Host)?;
    if digits.is_empty() {
        return Ok(None);
    }
    if digits.starts_with('0') || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(AuthorityFault::Port);
    }
    digits.parse().map(Some).map_err(|_| AuthorityFault::Port)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_hosts_into_one_form() {
        for (raw, host, port) in [
            ("api.contoso.example", "api.contoso.example", None),
            ("API.Contoso.Example.:8443", "api.contoso.example", Some(8443)),
            ("localhost:1", "localhost", Some(1)),
            ("my_service:65535", "my_service", Some(65535)),
            ("192.0.2.1:80", "192.0.2.1", Some(80)),
            ("[2001:DB8:0::1]:443", "[2001:db8::1]", Some(443)),
            ("[::1]", "[::1]", None),
            ("a:", "a", None),
            ("[::1]:", "[::1]", None),
            ("xn--bcher-kva.example", "xn--bcher-kva.example", None),
            ("1password.example", "1password.example", None),
        ] {
            let authority = Authority::read(raw.as_bytes()).unwrap_or_else(|fault| panic!("{raw}: {fault}"));
            assert_eq!((&*authority.host, authority.port), (host, port), "{raw}");
            assert_eq!(Authority::read(authority.to_string().as_bytes()), Ok(authority), "{raw}");
        }
    }

    #[test]
    fn refuses_hosts_that_can_be_read_in_two_ways() {
        use AuthorityFault::{Host, Port, UserInfo};
        for (raw, fault) in [
            (&b""[..], Host),
            (b".", Host),
            (b"..", Host),
            (b"a..b", Host),
            (b".a", Host),
            (b"a b", Host),
            (b" a", Host),
            (b"a,b", Host),
            (b"a/b", Host),
            (b"a%2eb", Host),
            (b"b\xC3\xBCcher.example", Host),
            (b"\xFF", Host),
            (b"a\0", Host),
            (b"user@api.contoso.example", UserInfo),
            (b"@a", UserInfo),
            (b"a:b@c", UserInfo),
            (b"127.1", Host),
            (b"0x7f.1", Host),
            (b"0x7f000001", Host),
            (b"0177.0.0.1", Host),
            (b"2130706433", Host),
            (b"192.0.2.256", Host),
            (b"a.0x", Host),
            (b"[::1", Host),
            (b"::1", Host),
            (b"[fe80::1%25eth0]", Host),
            (b"[::1]x", Host),
            (b"[192.0.2.1]", Host),
            (b":", Host),
            (b":80", Host),
            (b"a::", Port),
            (b"a:0", Port),
            (b"a:080", Port),
            (b"a:+80", Port),
            (b"a:65536", Port),
            (b"a:80:80", Port),
            (b"a:8x", Port),
        ] {
            let shown = String::from_utf8_lossy(raw);
            assert_eq!(Authority::read(raw), Err(fault), "{shown}");
        }
    }

    #[test]
    fn the_schemes_own_port_is_the_same_as_none() {
        let bare = Authority::read(b"a.example").unwrap();
        let port = Authority::read(b"a.example:443").unwrap();

        assert!(bare.agrees_with(&port, Scheme::Https));
        assert!(!bare.agrees_with(&port, Scheme::Http));
    }
}
