//! Name resolution of servers. The platform's own services are excluded.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, SocketAddr},
};

use tokio::net::lookup_host;

/// The addresses that answer on every machine of a cloud, and hand out the machine's identity, certificates and settings: the
/// instance metadata service, and Azure's wire server.
const PLATFORM: [Ipv4Addr; 2] = [Ipv4Addr::new(169, 254, 169, 254), Ipv4Addr::new(168, 63, 129, 16)];

/// Returns whether a platform's own service answers at the address. A request forwarded to it would act as this machine.
pub(super) fn is_platform(address: IpAddr) -> bool {
    matches!(address.to_canonical(), IpAddr::V4(address) if PLATFORM.contains(&address))
}

/// Resolves a server. The target of a name can change after the config was read, so this is checked each time.
///
/// # Errors
/// Fails if the name cannot be resolved, or leads only to a platform's own service.
pub(super) async fn resolve(host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
    let (own, addresses): (Vec<_>, Vec<_>) = lookup_host((host, port)).await?.partition(|found| is_platform(found.ip()));
    if addresses.is_empty() && !own.is_empty() {
        let message = "the name leads to the platform's own service, which would take the gateway for the caller";
        return Err(io::Error::new(io::ErrorKind::PermissionDenied, message));
    }
    Ok(addresses)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_platforms_own_services_are_known_in_every_spelling() {
        for (address, expected) in [
            ("169.254.169.254", true),
            ("::ffff:169.254.169.254", true),
            ("168.63.129.16", true),
            ("169.254.169.253", false),
            ("169.254.129.1", false),
            ("127.0.0.1", false),
            ("fe80::a9fe:a9fe", false),
        ] {
            assert_eq!(is_platform(address.parse().unwrap()), expected, "{address}");
        }
    }

    /// Uses names in the form of numbers, which the system's resolver takes for addresses, so that no DNS server is needed.
    #[tokio::test]
    async fn a_name_that_leads_there_is_not_followed() {
        for name in ["2852039166", "0xa9fea9fe", "0251.0376.0251.0376"] {
            let error = resolve(name, 80).await.unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::PermissionDenied, "{name}: {error}");
        }
        assert_eq!(resolve("2130706433", 8080).await.unwrap(), ["127.0.0.1:8080".parse().unwrap()]);
    }
}
