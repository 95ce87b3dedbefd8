use http::Request;

use super::*;

fn head(method: &str, uri: &str, version: Version, headers: &[(&str, &str)]) -> Result<IncomingRequest, Refusal> {
    let mut request = Request::builder().method(method).uri(uri).version(version);
    for (name, value) in headers {
        request = request.header(*name, HeaderValue::from_bytes(value.as_bytes()).unwrap());
    }
    IncomingRequest::read(request.body(()).unwrap().into_parts().0, None)
}

fn get(uri: &str, headers: &[(&str, &str)]) -> Result<IncomingRequest, Refusal> {
    head("GET", uri, Version::HTTP_11, headers)
}

#[test]
fn reads_one_host_from_wherever_it_stands() {
    for (uri, version, headers) in [
        ("/a", Version::HTTP_11, &[("host", "API.contoso.example")][..]),
        ("/a", Version::HTTP_10, &[("host", "api.contoso.example.")]),
        ("http://api.contoso.example/a", Version::HTTP_11, &[("host", "api.contoso.example")]),
        ("http://api.contoso.example/a", Version::HTTP_11, &[("host", "api.contoso.example:80")]),
        ("http://api.contoso.example/a", Version::HTTP_2, &[]),
        ("http://api.contoso.example/a", Version::HTTP_2, &[("host", "api.contoso.example")]),
        ("/a", Version::HTTP_2, &[("host", "api.contoso.example")]),
    ] {
        let request = head("GET", uri, version, headers).unwrap_or_else(|refusal| panic!("{uri} {headers:?}: {refusal:?}"));

        assert_eq!(&*request.authority.host, "api.contoso.example", "{uri} {headers:?}");
        assert_eq!(&*request.target.path, "/a", "{uri} {headers:?}");
    }
}

#[test]
fn refuses_heads_that_can_be_read_in_two_ways() {
    use Reason::{MethodNotAllowed, RequestFramingInvalid, RequestHeaderInvalid, RequestTargetInvalid, TargetTooLong};
    let host = ("host", "a.example");
    let long = format!("/{}", "a".repeat(target::MAX_TARGET));
    let h1 = Version::HTTP_11;
    let h2 = Version::HTTP_2;
    for (method, uri, version, headers, reason) in [
        ("CONNECT", "a.example:443", h1, &[host][..], MethodNotAllowed),
        ("GET", "/", h1, &[], RequestHeaderInvalid),
        ("GET", "http://a.example/", h1, &[], RequestHeaderInvalid),
        ("GET", "/", h2, &[], RequestHeaderInvalid),
        ("GET", "/", h1, &[host, host], RequestHeaderInvalid),
        ("GET", "/", h1, &[("host", "")], RequestHeaderInvalid),
        ("GET", "/", h1, &[("host", "user@a.example")], RequestHeaderInvalid),
        ("GET", "/", h1, &[("host", "a.example, b.example")], RequestHeaderInvalid),
        ("GET", "/", h1, &[("host", "a.example:0")], RequestHeaderInvalid),
        ("GET", "http://b.example/", h1, &[host], RequestHeaderInvalid),
        ("GET", "http://a.example:8080/", h1, &[host], RequestHeaderInvalid),
        ("GET", "http://user@a.example/", h1, &[host], RequestHeaderInvalid),
        ("GET", "http://b.example/", h2, &[host], RequestHeaderInvalid),
        ("GET", "http://a.example/", h2, &[host, host], RequestHeaderInvalid),
        ("GET", "ftp://a.example/", h1, &[host], RequestTargetInvalid),
        ("OPTIONS", "*", h1, &[], RequestHeaderInvalid),
        ("OPTIONS", "/*/../a", h1, &[host], RequestTargetInvalid),
        ("GET", "*", h1, &[host], RequestTargetInvalid),
        ("GET", "a.example:80", h1, &[host], RequestTargetInvalid),
        ("GET", "/a/../b", h1, &[host], RequestTargetInvalid),
        ("GET", &long, h1, &[host], TargetTooLong),
        ("POST", "/", h1, &[host, ("transfer-encoding", "gzip, chunked")], RequestFramingInvalid),
        ("POST", "/", h1, &[host, ("transfer-encoding", "chunked"), ("transfer-encoding", "chunked")], RequestFramingInvalid),
        ("POST", "/", h1, &[host, ("transfer-encoding", "xchunked")], RequestFramingInvalid),
        ("POST", "/", h1, &[host, ("transfer-encoding", "")], RequestFramingInvalid),
        ("POST", "/", h1, &[host, ("transfer-encoding", "chunked"), ("content-length", "5")], RequestFramingInvalid),
        ("POST", "/", Version::HTTP_10, &[host, ("transfer-encoding", "chunked")], RequestFramingInvalid),
        ("POST", "/", h2, &[host, ("transfer-encoding", "chunked")], RequestFramingInvalid),
        ("POST", "/", h1, &[host, ("content-length", "5"), ("content-length", "5")], RequestFramingInvalid),
        ("POST", "/", h1, &[host, ("content-length", "5, 5")], RequestFramingInvalid),
        ("POST", "/", h1, &[host, ("content-length", "+5")], RequestFramingInvalid),
        ("POST", "/", h1, &[host, ("content-length", "")], RequestFramingInvalid),
        ("POST", "/", h1, &[host, ("content-length", "99999999999999999999")], RequestFramingInvalid),
        ("GET", "/", h1, &[host, ("connection", "close, a b")], RequestHeaderInvalid),
        ("GET", "/", h1, &[host, ("connection", "x\u{e9}")], RequestHeaderInvalid),
        ("GET", "/", h2, &[host, ("connection", "close")], RequestHeaderInvalid),
        ("GET", "/", h2, &[host, ("upgrade", "websocket")], RequestHeaderInvalid),
        ("GET", "/", h2, &[host, ("keep-alive", "1")], RequestHeaderInvalid),
        ("GET", "/", h2, &[host, ("proxy-connection", "close")], RequestHeaderInvalid),
        ("GET", "/", h2, &[host, ("te", "trailers, gzip")], RequestHeaderInvalid),
        ("GET", "/", h2, &[host, ("x-a", " a")], RequestHeaderInvalid),
        ("GET", "/", h2, &[host, ("x-a", "a\t")], RequestHeaderInvalid),
    ] {
        let refusal = head(method, uri, version, headers).expect_err(&format!("{method} {uri} {headers:?}"));
        assert_eq!(refusal.reason, reason, "{method} {uri} {headers:?}");
    }
}

#[test]
fn http_1_0_need_not_name_a_host() {
    for (uri, headers, host) in
        [("/", &[][..], ""), ("/", &[("host", "a.example:")], "a.example"), ("http://a.example/", &[], "a.example")]
    {
        let request = head("GET", uri, Version::HTTP_10, headers).unwrap();

        assert_eq!((&*request.authority.host, request.authority.is_absent()), (host, host.is_empty()), "{uri} {headers:?}");
    }
}

#[test]
fn an_asterisk_asks_about_the_server() {
    for (method, uri, expected) in [("OPTIONS", "*", true), ("OPTIONS", "/*", false), ("OPTIONS", "/", false)] {
        assert_eq!(head(method, uri, Version::HTTP_11, &[("host", "a")]).unwrap().asks_about_the_server(), expected, "{uri}");
    }
}

#[test]
fn parses_connection_once() {
    let request = get("/", &[("host", "a"), ("connection", "Keep-Alive, X-One,,"), ("connection", "Upgrade, x-two")]).unwrap();

    assert_eq!(request.connection.nominated, ["x-one", "x-two"]);
    assert!(request.connection.upgrade);
}

#[test]
fn tells_a_websocket_by_all_of_its_marks() {
    let host = ("host", "a");
    let connection = ("connection", "keep-alive, Upgrade");
    for (method, headers, expected) in [
        ("GET", &[host, connection, ("upgrade", "WebSocket")][..], true),
        ("POST", &[host, connection, ("upgrade", "websocket")], false),
        ("GET", &[host, ("upgrade", "websocket")], false),
        ("GET", &[host, connection], false),
        ("GET", &[host, connection, ("upgrade", "h2c")], false),
        ("GET", &[host, connection, ("upgrade", "websocket, h2c")], false),
        ("GET", &[host, connection, ("upgrade", "websocket"), ("upgrade", "h2c")], false),
    ] {
        let request = head(method, "/", Version::HTTP_11, headers).unwrap();
        assert_eq!(request.asks_for_websocket(), expected, "{method} {headers:?}");
    }
}

#[test]
fn tells_credentials_that_authenticate_a_connection() {
    for (value, expected) in [
        ("NTLM TlRMTVNTUAAB", true),
        ("negotiate YIIJvwYG", true),
        ("Negotiate", true),
        ("Bearer ntlm", false),
        ("NTLMX a", false),
        ("", false),
    ] {
        let request = get("/", &[("host", "a"), ("authorization", value)]).unwrap();
        assert_eq!(request.authenticates_its_connection(), expected, "{value}");
    }
}
