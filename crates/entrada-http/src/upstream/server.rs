//! One server of an upstream.

use std::{net::SocketAddr, sync::Arc};

use http::{HeaderValue, Uri, uri::Authority, uri::Scheme};
use rustls_pki_types::ServerName;

use super::{pool::Pool, resolve::is_platform, server_health::ServerHealth, tls::Tls};

/// One server of an upstream: its address, and each thread's connections to it.
#[derive(Debug)]
pub(super) struct Server {
    /// Host and port, for records.
    pub(super) name: Arc<str>,
    /// `http` or `https`.
    pub(super) scheme: Scheme,
    /// Host and port as written: the `:authority` of HTTP/2.
    pub(super) authority: Authority,
    /// The same as a `Host`.
    pub(super) host: HeaderValue,
    /// The prefix of a request's path: empty, or with a slash before and none after.
    pub(super) base: Box<str>,
    /// The address to connect to.
    pub(super) address: Address,
    /// TLS and the name to verify; absent for `http`.
    pub(super) tls: Option<(Tls, ServerName<'static>)>,
    /// The connections, a pool for each thread.
    pub(super) pools: Box<[Arc<Pool>]>,
    /// The state of its service.
    pub(super) health: ServerHealth,
}

impl Server {
    /// Returns the connections of one worker thread.
    pub(super) fn pool(&self, worker: usize) -> &Arc<Pool> {
        &self.pools[worker % self.pools.len()]
    }

    /// Returns the number of requests in progress.
    pub(super) fn in_flight(&self) -> usize {
        self.pools.iter().map(|pool| pool.in_flight()).sum()
    }
}

/// The address to connect to.
#[derive(Debug)]
pub(super) enum Address {
    /// An address.
    Known(SocketAddr),
    /// A name to look up, and the port.
    Named(Box<str>, u16),
}

/// The parts of a server's URL.
#[derive(Debug)]
pub(super) struct Location {
    pub(super) scheme: Scheme,
    pub(super) authority: Authority,
    pub(super) base: Box<str>,
    pub(super) address: Address,
}

impl Location {
    /// Reads a server's URL: scheme, host, port and base path, and nothing else.
    pub(super) fn parse(text: &str) -> Result<Self, &'static str> {
        // `Uri` cuts a fragment off without a word.
        if text.contains('#') {
            return Err("has a fragment");
        }
        let uri: Uri = text.parse().map_err(|_| "is not a URL")?;
        let parts = uri.into_parts();
        let scheme = parts.scheme.filter(|scheme| *scheme == Scheme::HTTP || *scheme == Scheme::HTTPS);
        let (Some(scheme), Some(authority)) = (scheme, parts.authority) else {
            return Err("does not start with http:// or https://");
        };
        if authority.as_str().contains('@') {
            return Err("holds a user name, which is not sent");
        }
        if authority.host().is_empty() || authority.as_str().ends_with(':') {
            return Err("lacks a host or a port");
        }
        let path = parts.path_and_query.as_ref().map_or("", |path| path.path());
        if parts.path_and_query.as_ref().is_some_and(|path| path.query().is_some()) {
            return Err("has a query, which is not sent");
        }
        let base = path.trim_end_matches('/');
        if base.split('/').skip(1).any(|segment| matches!(segment, "" | "." | "..")) {
            return Err("has an empty or dotted segment in its path");
        }
        let port = authority.port_u16().unwrap_or(if scheme == Scheme::HTTPS { 443 } else { 80 });
        let host = authority.host().trim_start_matches('[').trim_end_matches(']');
        let address =
            host.parse().map_or_else(|_| Address::Named(host.into(), port), |ip| Address::Known(SocketAddr::new(ip, port)));
        if matches!(address, Address::Known(address) if is_platform(address.ip())) {
            return Err("is the platform's own service, which would take the gateway for the caller");
        }
        Ok(Self { scheme, base: base.into(), address, authority })
    }

    /// Host and port, for records.
    pub(super) fn name(&self) -> String {
        match &self.address {
            Address::Known(address) => address.to_string(),
            Address::Named(host, port) => format!("{host}:{port}"),
        }
    }

    /// Returns the name that the certificate must contain, unless another one is configured.
    pub(super) fn server_name(&self) -> Option<ServerName<'static>> {
        match &self.address {
            Address::Known(address) => Some(address.ip().into()),
            Address::Named(host, _) => ServerName::try_from(host.to_string()).ok(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_servers_url_is_scheme_host_port_and_base_path() {
        for (text, expected) in [
            ("http://127.0.0.1:8080", Ok(("127.0.0.1:8080", ""))),
            ("https://orders.internal", Ok(("orders.internal:443", ""))),
            ("http://orders.internal/", Ok(("orders.internal:80", ""))),
            ("https://[2001:db8::1]:8443/api/v2/", Ok(("[2001:db8::1]:8443", "/api/v2"))),
            ("orders.internal:8080", Err("does not start with http:// or https://")),
            ("ftp://orders.internal", Err("does not start with http:// or https://")),
            ("http://user@orders.internal", Err("holds a user name, which is not sent")),
            ("http://orders.internal/?a=1", Err("has a query, which is not sent")),
            ("http://orders.internal/#top", Err("has a fragment")),
            ("http://orders.internal/a/../b", Err("has an empty or dotted segment in its path")),
            ("http://orders.internal//b", Err("has an empty or dotted segment in its path")),
            ("http://169.254.169.254", Err("is the platform's own service, which would take the gateway for the caller")),
            ("http://[::ffff:a9fe:a9fe]:80/", Err("is the platform's own service, which would take the gateway for the caller")),
            ("http://168.63.129.16", Err("is the platform's own service, which would take the gateway for the caller")),
            ("http://orders.internal:", Err("lacks a host or a port")),
            ("http://", Err("is not a URL")),
        ] {
            let location = Location::parse(text);
            let read = location.as_ref().map(|location| (location.name(), &*location.base)).map_err(|error| *error);
            assert_eq!(read, expected.map(|(name, base): (&str, _)| (name.to_owned(), base)), "{text}");
        }
    }
}
