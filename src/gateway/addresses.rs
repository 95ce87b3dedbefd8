//! The gateway's own addresses: which of them cannot be listened on side by side, and upstreams that lead back to one.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use crate::{
    config::{Config, DEFAULT_ADMIN, address_cure},
    settings::{Faults, Lint, OneOrMany, Place},
};

/// An address that the config listens on.
#[derive(Debug)]
struct OwnAddress {
    address: SocketAddr,
    /// Where it is written; absent for a default.
    place: Option<Place>,
    /// The name of the listener, for messages.
    what: String,
    /// The listeners of one list entry share their name.
    is_listener: bool,
}

/// Checks the addresses of listeners, `admin` and `health` against each other and against the upstreams.
pub(super) fn check(config: &Config, faults: &mut Faults) {
    let own = own(config, faults);
    for (index, one) in own.iter().enumerate() {
        let Some(other) = own[..index].iter().find(|other| collide(one.address, other.address)) else { continue };
        let (told, other) = if one.place.is_some() { (one, other) } else { (other, one) };
        let default = Place::root().key("listeners");
        let message = format!("{} has the address {}, and {} has {}", told.what, told.address, other.what, other.address);
        let cure = match other.place.is_none() {
            true => format!(
                "choose another port, or move `admin`: `admin: {{ address: \"127.0.0.1:{}\" }}`",
                next_port(told.address.port())
            ),
            false => format!("choose another port for one of the two, as {}", next_port(told.address.port())),
        };
        faults.error(told.place.as_ref().unwrap_or(&default), message, cure);
    }
    upstreams(config, &own, faults);
}

/// Gathers the addresses; those of listeners that cannot be read have faults of their own.
fn own(config: &Config, faults: &mut Faults) -> Vec<OwnAddress> {
    let mut own = Vec::new();
    for (index, listener) in config.listeners.iter().enumerate() {
        let place = Place::root().key("listeners").index(index).key("address");
        for (at, text) in listener.address.as_slice().iter().enumerate() {
            let place = if matches!(listener.address, OneOrMany::One(_)) { place.clone() } else { place.index(at) };
            let what = format!("the listener `{}`", listener.name);
            own.extend(text.parse().ok().map(|address| OwnAddress { address, place: Some(place), what, is_listener: true }));
        }
    }
    let admin = config.admin.as_ref().map(|admin| &*admin.address);
    let health = config.health.as_ref().map(|health| &*health.address);
    for (key, written, default) in [("admin", admin, Some(DEFAULT_ADMIN)), ("health", health, None)] {
        let Some(text) = written.or(default) else { continue };
        let place = written.map(|_| Place::root().key(key).key("address"));
        // The one name that stands for the same everywhere.
        let numeric = text.strip_prefix("localhost:").map_or_else(|| text.to_owned(), |port| format!("127.0.0.1:{port}"));
        let what = format!("`{key}`{}", if written.is_none() { ", which nothing is written for," } else { "" });
        match (numeric.parse(), &place) {
            (Ok(address), _) => own.push(OwnAddress { address, place, what, is_listener: false }),
            (Err(_), Some(place)) => faults.error(place, format!("`{text}` is no address to listen on"), address_cure(text)),
            (Err(_), None) => {}
        }
    }
    own
}

/// Returns whether the system refuses to listen on both.
fn collide(one: SocketAddr, other: SocketAddr) -> bool {
    // Sockets on `::` take IPv4, too.
    let covers = |wide: IpAddr, ip: IpAddr| match wide {
        IpAddr::V4(wide) => wide.is_unspecified() && ip.is_ipv4(),
        IpAddr::V6(wide) => wide.is_unspecified(),
    };
    let (a, b) = (one.ip(), other.ip());
    one.port() == other.port() && one.port() != 0 && (a.to_canonical() == b.to_canonical() || covers(a, b) || covers(b, a))
}

const fn next_port(port: u16) -> u16 {
    if port < u16::MAX { port + 1 } else { port - 1 }
}

/// Refuses upstreams that lead to the admin or health listener, which no route may reach, and warns of those that lead back to a listener.
fn upstreams(config: &Config, own: &[OwnAddress], faults: &mut Faults) {
    for (name, upstream) in &config.upstreams {
        for (index, server) in upstream.servers.iter().enumerate() {
            let Some((host, port)) = host_and_port(server) else { continue };
            let place = Place::root().key("upstreams").key(name).key("servers").index(index);
            let leads_there = |own: &&OwnAddress| leads_to(host, port, own.address);
            if own.iter().filter(|own| !own.is_listener).any(|own| leads_there(&own)) {
                let message = format!("`{server}` is the gateway's own admin or health listener, which no route may lead to");
                faults.error(&place, message, "name the backend, or move `admin` to another port");
            } else if let Some(own) = own.iter().find(leads_there) {
                let message = format!("`{server}` is {} itself, so that its requests come back to it", own.what);
                faults.warning(Lint::UpstreamIsGateway, &place, message, "write the address of the backend");
            }
        }
    }
}

fn leads_to(host: IpAddr, port: u16, own: SocketAddr) -> bool {
    // The system takes connections to the unspecified address to itself; the two addresses of `localhost` count as one.
    let (own_ip, to_itself) = (own.ip().to_canonical(), host.is_loopback() || host.is_unspecified());
    let is_localhost = |ip: IpAddr| ip == Ipv4Addr::LOCALHOST || ip == Ipv6Addr::LOCALHOST;
    let same_host = own_ip == host
        || own_ip.is_unspecified() && to_itself
        || own_ip.is_loopback() && host.is_unspecified()
        || is_localhost(own_ip) && is_localhost(host);
    own.port() == port && port != 0 && same_host
}

/// Reads where a server is. A name other than `localhost` is not looked up: what it stands for can change at any time.
fn host_and_port(server: &str) -> Option<(IpAddr, u16)> {
    let url = url::Url::parse(server).ok()?;
    let host = match url.host()? {
        url::Host::Ipv4(address) => IpAddr::from(address),
        url::Host::Ipv6(address) => IpAddr::from(address).to_canonical(),
        url::Host::Domain("localhost") => IpAddr::from(Ipv4Addr::LOCALHOST),
        url::Host::Domain(_) => return None,
    };
    Some((host, url.port_or_known_default()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_that_cannot_stand_side_by_side_are_known() {
        for (one, other, expected) in [
            ("127.0.0.1:80", "127.0.0.1:80", true),
            ("127.0.0.1:80", "127.0.0.1:81", false),
            ("127.0.0.1:0", "127.0.0.1:0", false),
            ("0.0.0.0:80", "127.0.0.1:80", true),
            ("127.0.0.1:80", "127.0.0.2:80", false),
            ("[::]:80", "127.0.0.1:80", true),
            ("[::]:80", "0.0.0.0:80", true),
            ("[::1]:80", "0.0.0.0:80", false),
            ("[::1]:80", "[::]:80", true),
            ("[::ffff:127.0.0.1]:80", "127.0.0.1:80", true),
        ] {
            let read = |text: &str| text.parse().expect("an address");
            assert_eq!(collide(read(one), read(other)), expected, "{one} {other}");
            assert_eq!(collide(read(other), read(one)), expected, "{other} {one}");
        }
    }

    #[test]
    fn servers_that_are_the_gateway_itself_are_known() {
        for (server, own, expected) in [
            ("http://127.0.0.1:80", "127.0.0.1:80", true),
            ("http://localhost:80", "[::1]:80", true),
            ("http://[::1]:80", "127.0.0.1:80", true),
            ("http://127.0.0.2:80", "127.0.0.1:80", false),
            ("http://127.0.0.2:80", "0.0.0.0:80", true),
            ("http://0.0.0.0:80", "127.0.0.1:80", true),
            ("http://127.0.0.1:80", "192.0.2.1:80", false),
            ("http://127.0.0.1:81", "127.0.0.1:80", false),
        ] {
            let (host, port) = host_and_port(server).expect("an address");
            assert_eq!(leads_to(host, port, own.parse().expect("an address")), expected, "{server} {own}");
        }
    }
}
