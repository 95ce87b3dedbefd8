//! Redirects and cookies of a response that name inner hosts, rewritten for the caller.
//!
//! A redirect to a server of the upstream becomes one to the path by which the caller reaches the same resource. It names no host at
//! all (RFC 9110, section 10.2.2): the caller's client resolves it against its own request, so that no `Host` or `X-Forwarded-Host`
//! that somebody sent is ever repeated. Redirects to other hosts, such as a sign-in page, stay as they are.

use http::{
    HeaderValue,
    uri::{Authority, Scheme},
};

use super::send::{Host, Upstream};
use crate::{
    base::fields::{Fields, Known},
    connection,
};

/// Fields with a reference to another resource.
const REFERENCES: [Known; 2] = [Known::Location, Known::ContentLocation];

/// The way by which the caller reached the upstream.
#[derive(Clone, Debug)]
pub struct Reached<'a> {
    /// The host that the caller asked for.
    pub host: &'a connection::Authority,
    /// The beginning of the caller's path in place of which the upstream received `inner`.
    pub outer: String,
    /// The beginning of the upstream's path, without the server's base path.
    pub inner: String,
}

impl<'a> Reached<'a> {
    /// Compares the caller's path with the one that is sent upstream; `rest` is what both may end with.
    pub fn new(host: &'a connection::Authority, outer: &str, inner: &str, rest: &str) -> Self {
        let (outer, inner) = match (outer.strip_suffix(rest), inner.strip_suffix(rest)) {
            (Some(outer), Some(inner)) => (outer, inner),
            _ => (outer, inner),
        };
        Self { host, outer: outer.trim_end_matches('/').to_owned(), inner: inner.trim_end_matches('/').to_owned() }
    }
}

impl Upstream {
    /// Returns whether redirects and cookies that name inner hosts are rewritten.
    pub const fn rewrites_redirects(&self) -> bool {
        self.config.rewrite_redirects
    }

    /// Rewrites the header of a response of this server.
    pub fn rewrite_redirects(&self, server: &str, headers: &mut Fields, reached: &Reached<'_>) {
        let base = self.servers.iter().find(|known| *known.name == *server).map_or("", |server| &*server.base);
        for name in &REFERENCES {
            // It is made of parts of a value, and of a path.
            let made = |text: String| HeaderValue::try_from(text).ok();
            headers.replace(*name, |value| self.reference(value.to_str().ok()?, base, reached).and_then(made));
        }
        headers.replace(Known::SetCookie, |cookie| HeaderValue::try_from(self.cookie(cookie.to_str().ok()?, reached)?).ok());
    }

    /// Returns the reference as the caller has to see it; `None` if it stays as it is.
    fn reference(&self, text: &str, base: &str, reached: &Reached<'_>) -> Option<String> {
        // Browsers drop tabs from a URL before they read it, so that what follows one could become the beginning of a host.
        if text.bytes().any(|byte| byte.is_ascii_control()) {
            return None;
        }
        let (authority, path) = parts(text)?;
        let is_named = authority.is_some();
        if let Some(authority) = authority
            && !self.is_inner(authority, reached)
        {
            return None;
        }
        let path = below(path, base).unwrap_or(path);
        let (prefix, rest) = match below(path, &reached.inner) {
            Some(rest) => (&*reached.outer, rest),
            None => ("", path),
        };
        let slash = if prefix.is_empty() && !rest.starts_with('/') { "/" } else { "" };
        // A path that begins with two slashes would name a host (RFC 3986, section 4.2); clients take `\` for a slash.
        let mut rewritten = format!("{prefix}{slash}{rest}");
        if rewritten.starts_with('/') && rewritten[1..].starts_with(['/', '\\']) {
            rewritten.insert_str(0, "/.");
        }
        (is_named || rewritten != text).then_some(rewritten)
    }

    /// Returns whether this host and port are those of a server, or the `Host` that servers receive.
    fn is_inner(&self, authority: &str, reached: &Reached<'_>) -> bool {
        let Some((host, port)) = host_and_port(authority) else { return false };
        self.inner_hosts(reached).any(|(inner, own)| inner.eq_ignore_ascii_case(&host) && matches_port(port, own))
    }

    /// Returns the hosts by which servers may name themselves, with their ports.
    fn inner_hosts<'s>(&'s self, reached: &'s Reached<'_>) -> impl Iterator<Item = (&'s str, Option<u16>)> {
        let servers = self.servers.iter().map(|server| {
            let default = if server.scheme == Scheme::HTTPS { 443 } else { 80 };
            (server.authority.host(), Some(server.authority.port_u16().unwrap_or(default)))
        });
        let named = match &self.host {
            Host::Server => None,
            Host::Named(authority, _) => Some((authority.host(), authority.port_u16())),
            Host::Caller => Some((&*reached.host.host, reached.host.port)).filter(|(host, _)| !host.is_empty()),
        };
        servers.chain(named)
    }

    /// Returns the cookie without a domain of inner hosts, which the caller's client would refuse; it is then one of the host that
    /// the caller asked for. `None` if it stays as it is.
    fn cookie(&self, text: &str, reached: &Reached<'_>) -> Option<String> {
        let outer = reached.host.host.as_bytes();
        let is_inner = |attribute: &str| {
            let Some((name, domain)) = attribute.split_once('=') else { return false };
            let domain = domain.trim();
            let domain = domain.strip_prefix('.').unwrap_or(domain).as_bytes();
            name.trim().eq_ignore_ascii_case("domain")
                && !domain.is_empty()
                && !is_within(outer, domain)
                && self.inner_hosts(reached).any(|(inner, _)| is_within(inner.as_bytes(), domain))
        };
        // The first part is the cookie's name and value.
        let mut attributes = text.split(';');
        let pair = attributes.next()?;
        let kept: Vec<_> = attributes.clone().filter(|attribute| !is_inner(attribute)).collect();
        (kept.len() < attributes.count()).then(|| std::iter::once(pair).chain(kept).collect::<Vec<_>>().join(";"))
    }
}

/// Takes a reference apart into host and port, if it names them, and the path with all behind it. `None` for one that is neither of a web
/// page nor begins with a slash.
fn parts(text: &str) -> Option<(Option<&str>, &str)> {
    let behind_scheme = match text.split_once("://") {
        Some((scheme, rest)) if scheme.eq_ignore_ascii_case("http") || scheme.eq_ignore_ascii_case("https") => Some(rest),
        _ => text.strip_prefix("//"),
    };
    match behind_scheme {
        Some(rest) => {
            let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
            Some((Some(&rest[..end]), &rest[end..]))
        }
        None => text.starts_with('/').then_some((None, text)),
    }
}

/// Returns what follows a beginning of the path, if the path lies there: whole segments count.
fn below<'a>(path: &'a str, beginning: &str) -> Option<&'a str> {
    path.strip_prefix(beginning).filter(|rest| rest.is_empty() || rest.starts_with(['/', '?', '#']))
}

/// Reads host and port. What a client could read differently (a user name, a `\`) is none.
fn host_and_port(authority: &str) -> Option<(String, Option<u16>)> {
    if authority.contains(['@', '\\']) {
        return None;
    }
    let authority: Authority = authority.parse().ok()?;
    let host = authority.host();
    // A dot at the end names the same host.
    Some((host.strip_suffix('.').unwrap_or(host).to_owned(), authority.port_u16()))
}

/// Returns whether a port may be that of a server: servers behind a load balancer know the usual ones.
fn matches_port(written: Option<u16>, own: Option<u16>) -> bool {
    written.is_none_or(|port| Some(port) == own || matches!(port, 80 | 443))
}

/// Returns whether a host is the domain, or lies in it.
fn is_within(host: &[u8], domain: &[u8]) -> bool {
    let Some(at) = host.len().checked_sub(domain.len()) else { return false };
    host[at..].eq_ignore_ascii_case(domain) && (at == 0 || host[at - 1] == b'.')
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeMap, path::Path};

    use super::*;
    use crate::{
        settings::{Faults, Place},
        upstream::{UpstreamConfig, Upstreams},
    };

    fn upstream(yaml: &str) -> std::sync::Arc<Upstream> {
        let config: UpstreamConfig = crate::settings::testing::part(yaml);
        let mut faults = Faults::default();
        let configs = BTreeMap::from([("orders".to_owned(), config)]);
        let built = Upstreams::build(&configs, Path::new(""), 1, None, &Place::root(), &mut faults);
        built.find("orders").unwrap_or_else(|| panic!("{faults:?}")).clone()
    }

    fn host(text: &str) -> connection::Authority {
        connection::Authority { host: text.into(), port: None }
    }

    #[test]
    fn a_redirect_to_an_inner_host_leads_to_the_callers_path() {
        let plain = upstream("{ servers: ['http://orders.internal:8080/base', 'https://10.0.0.6'], rewrite-redirects: true }");
        let named = upstream("{ servers: ['http://10.0.0.5:8080'], host: app.internal, rewrite-redirects: true }");
        let preserved = upstream("{ servers: ['http://10.0.0.5:8080'], host: preserve, rewrite-redirects: true }");
        let api = host("api.contoso.example");
        let reached = Reached::new(&api, "/orders/1/lines", "/v1/1/lines", "/1/lines");
        for (upstream, location, expected) in [
            (&plain, "http://orders.internal:8080/base/v1/2?a=b#c", Some("/orders/2?a=b#c")),
            (&plain, "HTTP://ORDERS.internal:8080/base/v1", Some("/orders")),
            (&plain, "https://orders.internal/base/v1/2", Some("/orders/2")),
            (&plain, "//orders.internal/base/v1/2", Some("/orders/2")),
            (&plain, "https://10.0.0.6/v1?x", Some("/orders?x")),
            (&plain, "http://orders.internal:8080", Some("/")),
            (&plain, "http://orders.internal:8080?a", Some("/?a")),
            (&plain, "http://orders.internal:8080/login", Some("/login")),
            (&plain, "http://orders.internal:8080/base/v10/2", Some("/v10/2")),
            (&plain, "http://orders.internal.:8080/login", Some("/login")),
            (&plain, "/base/v1/2", Some("/orders/2")),
            (&plain, "/v1/2", Some("/orders/2")),
            (&plain, "/other", None),
            (&plain, "lines/2", None),
            (&plain, "?page=2", None),
            (&plain, "mailto:orders.internal", None),
            (&plain, "https://login.fabrikam.example/orders.internal", None),
            (&plain, "http://orders.internal:9090/v1", None),
            (&plain, "http://orders.internal.fabrikam.example/v1", None),
            (&plain, "http://notorders.internal/v1", None),
            // Hosts that look like ours to some.
            (&plain, "http://orders.internal:8080@fabrikam.example/v1", None),
            (&plain, "http://fabrikam.example\\@orders.internal/v1", None),
            // A path must not become a host.
            (&plain, "http://orders.internal//fabrikam.example/v1", Some("/.//fabrikam.example/v1")),
            (&plain, "http://orders.internal/\\fabrikam.example/v1", Some("/./\\fabrikam.example/v1")),
            (&plain, "http://orders.internal/base//fabrikam.example", Some("/.//fabrikam.example")),
            (&plain, "http://orders.internal/v1//fabrikam.example", Some("/orders//fabrikam.example")),
            // Browsers drop a tab.
            (&plain, "http://orders.internal/\t/fabrikam.example/v1", None),
            (&plain, "http://orders.internal/v1/\t/fabrikam.example", None),
            (&named, "https://app.internal/v1/2", Some("/orders/2")),
            (&named, "http://api.contoso.example/v1/2", None),
            (&preserved, "http://api.contoso.example/v1/2", Some("/orders/2")),
            (&preserved, "http://API.contoso.example:80/x", Some("/x")),
        ] {
            let server = upstream.servers[0].name.clone();
            let mut headers = Fields::of(&[("location", location)]);

            upstream.rewrite_redirects(&server, &mut headers, &reached);

            assert_eq!(headers.get(Known::Location).unwrap(), expected.unwrap_or(location), "{location}");
        }
    }

    #[test]
    fn a_path_without_a_beginning_of_its_own_is_put_below_the_callers() {
        let upstream = upstream("{ servers: ['http://10.0.0.5:8080'], rewrite-redirects: true }");
        let api = host("api.contoso.example");
        for (outer, inner, rest, location, expected) in [
            ("/api/x", "/x", "/x", "http://10.0.0.5:8080/login", "/api/login"),
            ("/api", "/", "", "/login", "/api/login"),
            ("/x", "/x", "/x", "http://10.0.0.5:8080/login", "/login"),
            ("/x", "/x", "/x", "http://10.0.0.5:8080//login", "/.//login"),
            ("/orders/1", "/get", "", "http://10.0.0.5:8080/get", "/orders/1"),
        ] {
            let mut headers = Fields::of(&[("location", location)]);

            let server = upstream.servers[0].name.clone();
            upstream.rewrite_redirects(&server, &mut headers, &Reached::new(&api, outer, inner, rest));

            assert_eq!(headers.get(Known::Location).unwrap(), expected, "{outer} {inner} {location}");
        }
    }

    #[test]
    fn a_cookie_of_an_inner_host_becomes_one_of_the_callers() {
        let upstream = upstream("{ servers: ['http://orders.internal.contoso.example:8080'], rewrite-redirects: true }");
        let api = host("api.contoso.example");
        for (cookie, expected) in [
            ("a=b; Domain=orders.internal.contoso.example; Path=/", "a=b; Path=/"),
            ("a=b; domain = .Internal.contoso.example; HttpOnly", "a=b; HttpOnly"),
            // One that the caller's client accepts.
            ("a=b; Domain=contoso.example", "a=b; Domain=contoso.example"),
            ("a=b; Domain=fabrikam.example", "a=b; Domain=fabrikam.example"),
            ("a=b; Path=/", "a=b; Path=/"),
            ("domain=orders.internal.contoso.example; Secure", "domain=orders.internal.contoso.example; Secure"),
            ("a=b; Domain=", "a=b; Domain="),
        ] {
            let mut headers = Fields::of(&[("set-cookie", "first=1"), ("set-cookie", cookie)]);

            let server = upstream.servers[0].name.clone();
            upstream.rewrite_redirects(&server, &mut headers, &Reached::new(&api, "/", "/", ""));

            let cookies: Vec<_> = headers.get_all(Known::SetCookie).collect();
            assert_eq!(cookies, ["first=1", expected]);
        }
    }
}
