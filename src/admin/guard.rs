//! The admission to the admin listener: requests that name it by an address or as `localhost`, and that do not come from a
//! foreign page.

use std::sync::Arc;

use axum::{
    body::Body,
    extract::{Request, State},
    http::{HeaderMap, Method, StatusCode, header, uri::Authority},
    middleware::Next,
    response::{IntoResponse, Response},
};

use super::{Admin, assets};
use crate::listener::Connection;

/// A mark on the requests of callers who have proven who they are.
#[derive(Clone, Copy, Debug)]
pub(super) struct Known;

/// Paths that are open to everyone: probes, and public keys.
const OPEN: [&str; 3] = ["/healthz", "/readyz", "/.well-known/jwks.json"];

/// Admits read-only requests with an acceptable host, not from a foreign page, and of callers who are who they have to be.
pub(super) async fn check(State(admin): State<Admin>, mut request: Request, next: Next) -> Response {
    let runtime = admin.runtime.load_full();
    let connection = request.extensions().get::<Arc<Connection>>().cloned();
    let hosts = runtime.admin.as_ref().map_or_else(Default::default, |rules| &*rules.hosts);
    let secure = connection.as_ref().is_some_and(|connection| connection.tls.is_some());
    if !host_is_acceptable(request.headers(), hosts) || !origin_is_acceptable(request.headers(), secure) {
        return (StatusCode::FORBIDDEN, "Host or Origin is not acceptable here\n").into_response();
    }
    let path = request.uri().path();
    if let Some(rules) = runtime.admin.as_ref().filter(|rules| rules.asks())
        && !OPEN.contains(&path)
        && !assets::is_file(path)
    {
        let Some(connection) = connection else { return StatusCode::FORBIDDEN.into_response() };
        let (parts, body) = request.into_parts();
        if let Err(refused) = rules.judge(parts.clone(), &connection, &runtime.clock).await {
            return closed(refused.map(Body::from));
        }
        request = Request::from_parts(parts, body);
        request.extensions_mut().insert(Known);
    }
    read_only(request, next).await
}

/// Admits read-only requests.
pub(super) async fn read_only(request: Request, next: Next) -> Response {
    let asks = *request.method() == Method::POST && request.uri().path() == super::explain::PATH;
    if !matches!(*request.method(), Method::GET | Method::HEAD) && !asks {
        return (StatusCode::METHOD_NOT_ALLOWED, [(header::ALLOW, "GET, HEAD")], "read-only\n").into_response();
    }
    closed(next.run(request).await)
}

/// Adds the fields that keep browsers from storing a response, and from doing more with it than it says.
fn closed(mut response: Response) -> Response {
    let headers = response.headers_mut();
    headers.insert(header::CACHE_CONTROL, header::HeaderValue::from_static("no-store"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, header::HeaderValue::from_static("nosniff"));
    headers.insert(
        header::CONTENT_SECURITY_POLICY,
        header::HeaderValue::from_static("default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; img-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"),
    );
    response
}

/// Returns whether `Host` is a single address, `localhost` or one of the names of the config: another name that an attacker points to
/// this machine is none of these.
fn host_is_acceptable(headers: &HeaderMap, hosts: &[Box<str>]) -> bool {
    let mut fields = headers.get_all(header::HOST).iter();
    let (Some(host), None) = (fields.next(), fields.next()) else { return false };
    host.to_str().ok().and_then(|host| host.parse::<Authority>().ok()).is_some_and(|authority| {
        let host = authority.host();
        names_this_machine(host) || hosts.iter().any(|own| own.eq_ignore_ascii_case(host))
    })
}

/// Returns whether `Origin` is absent, or is the listener itself.
fn origin_is_acceptable(headers: &HeaderMap, secure: bool) -> bool {
    let Some(origin) = headers.get(header::ORIGIN) else { return true };
    let scheme = if secure { "https://" } else { "http://" };
    let authority = origin.to_str().ok().and_then(|origin| origin.strip_prefix(scheme));
    authority.is_some() && authority == headers.get(header::HOST).and_then(|host| host.to_str().ok())
}

fn names_this_machine(host: &str) -> bool {
    let address = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    host.eq_ignore_ascii_case("localhost") || address.parse::<std::net::IpAddr>().is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(fields: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.append(*name, header::HeaderValue::from_static(value));
        }
        headers
    }

    #[test]
    fn only_addresses_and_localhost_are_acceptable_hosts() {
        for (fields, expected) in [
            (&[("host", "127.0.0.1:9901")][..], true),
            (&[("host", "[::1]:9901")], true),
            (&[("host", "localhost")], true),
            (&[("host", "LOCALHOST:9901")], true),
            (&[("host", "Console.contoso.example:9901")], true),
            (&[("host", "sub.console.contoso.example")], false),
            (&[("host", "attacker.example")], false),
            (&[("host", "localhost.attacker.example:9901")], false),
            (&[("host", "127.0.0.1"), ("host", "attacker.example")], false),
            (&[], false),
        ] {
            assert_eq!(host_is_acceptable(&headers(fields), &["console.contoso.example".into()]), expected, "{fields:?}");
        }
    }

    #[test]
    fn a_foreign_origin_is_not_acceptable() {
        for (fields, expected) in [
            (&[("host", "127.0.0.1:9901")][..], true),
            (&[("host", "127.0.0.1:9901"), ("origin", "http://127.0.0.1:9901")], true),
            (&[("host", "127.0.0.1:9901"), ("origin", "http://127.0.0.1:1")], false),
            (&[("host", "127.0.0.1:9901"), ("origin", "https://attacker.example")], false),
            (&[("host", "127.0.0.1:9901"), ("origin", "null")], false),
        ] {
            assert_eq!(origin_is_acceptable(&headers(fields), false), expected, "{fields:?}");
        }
        let secure = [("host", "127.0.0.1:9901"), ("origin", "https://127.0.0.1:9901")];
        assert!(origin_is_acceptable(&headers(&secure), true) && !origin_is_acceptable(&headers(&secure), false));
    }
}
