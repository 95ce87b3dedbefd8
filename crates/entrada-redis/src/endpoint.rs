//! Addresses of servers.

use std::fmt;

/// The address of a server: a host and a port.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Endpoint {
    /// The host: a name or an address, without brackets.
    pub host: Box<str>,
    /// The port.
    pub port: u16,
}

impl Endpoint {
    /// Reads `host:port`, `[::1]:port`, or `::1:port` as clusters write it; `None` if it is none of these.
    pub fn parse(text: &str) -> Option<Self> {
        let (host, port) = text.rsplit_once(':')?;
        let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        let fits = |letter: char| letter.is_ascii_alphanumeric() || matches!(letter, '.' | '-' | '_' | ':' | '%');
        if host.is_empty() || !host.chars().all(fits) {
            return None;
        }
        Some(Self { host: host.into(), port: port.parse().ok().filter(|port| *port != 0)? })
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { host, port } = self;
        if host.contains(':') { write!(f, "[{host}]:{port}") } else { write!(f, "{host}:{port}") }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_names_and_addresses() {
        for (text, host, port) in [
            ("limits.contoso.example:6380", "limits.contoso.example", 6_380),
            ("192.0.2.7:1", "192.0.2.7", 1),
            ("[2001:db8::7]:6379", "2001:db8::7", 6_379),
            ("2001:db8::7:6379", "2001:db8::7", 6_379),
        ] {
            assert_eq!(Endpoint::parse(text), Some(Endpoint { host: host.into(), port }), "{text}");
        }
        for none in ["", "limits", ":6379", "limits:", "limits:0", "limits:65536", "a b:1", "a@b:1", "http://a:1", "[]:1"] {
            assert_eq!(Endpoint::parse(none), None, "{none}");
        }
        assert_eq!(Endpoint::parse("[2001:db8::7]:6379").unwrap().to_string(), "[2001:db8::7]:6379");
    }
}
