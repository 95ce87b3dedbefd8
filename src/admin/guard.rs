//! The admission to the admin listener: requests that name it by an address or as `localhost`, and that do not come from a
//! foreign page.

use axum::{
    extract::Request,
    http::{HeaderMap, Method, StatusCode, header, uri::Authority},
    middleware::Next,
    response::{IntoResponse, Response},
};

/// Admits read-only requests with an acceptable host, and not from a foreign page.
pub(super) async fn check(request: Request, next: Next) -> Response {
    if !host_is_acceptable(request.headers()) || !origin_is_acceptable(request.headers()) {
        return (StatusCode::FORBIDDEN, "Host or Origin is not acceptable here\n").into_response();
    }
    read_only(request, next).await
}

/// Admits read-only requests.
pub(super) async fn read_only(request: Request, next: Next) -> Response {
    let asks = *request.method() == Method::POST && request.uri().path() == super::explain::PATH;
    if !matches!(*request.method(), Method::GET | Method::HEAD) && !asks {
        return (StatusCode::METHOD_NOT_ALLOWED, [(header::ALLOW, "GET, HEAD")], "read-only\n").into_response();
    }
    let mut response = next.run(request).await;
    let headers = response.headers_mut();
    headers.insert(header::CACHE_CONTROL, header::HeaderValue::from_static("no-store"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, header::HeaderValue::from_static("nosniff"));
    headers.insert(
        header::CONTENT_SECURITY_POLICY,
        header::HeaderValue::from_static("default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; img-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"),
    );
    response
}

/// Returns whether `Host` is a single address or `localhost`: a name that an attacker points to this machine is neither.
fn host_is_acceptable(headers: &HeaderMap) -> bool {
    let mut hosts = headers.get_all(header::HOST).iter();
    let (Some(host), None) = (hosts.next(), hosts.next()) else { return false };
    host.to_str()
        .ok()
        .and_then(|host| host.parse::<Authority>().ok())
        .is_some_and(|authority| names_this_machine(authority.host()))
}

/// Returns whether `Origin` is absent, or is the listener itself.
fn origin_is_acceptable(headers: &HeaderMap) -> bool {
    let Some(origin) = headers.get(header::ORIGIN) else { return true };
    let authority = origin.to_str().ok().and_then(|origin| origin.strip_prefix("http://"));
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
            (&[("host", "attacker.example")], false),
            (&[("host", "localhost.attacker.example:9901")], false),
            (&[("host", "127.0.0.1"), ("host", "attacker.example")], false),
            (&[], false),
        ] {
            assert_eq!(host_is_acceptable(&headers(fields)), expected, "{fields:?}");
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
            assert_eq!(origin_is_acceptable(&headers(fields)), expected, "{fields:?}");
        }
    }
}
