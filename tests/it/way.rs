//! Tests of the path of a request: address, route, target, response, record.

use entrada::Reason;
use http::{Method, Response, StatusCode};

use crate::support::{RawConnection, TestBed, Upstream};

const OPEN: &str = "- { name: open, match: { path: /open }, anonymous: true, upstream: backend }";

#[tokio::test]
async fn no_route_is_404_and_another_method_is_405() {
    let route = "- { name: open, match: { path: /open, methods: [GET] }, anonymous: true, upstream: backend }";
    let bed = TestBed::with(route, "").await;

    bed.gateway.get("/other").send().await.assert_refused(Reason::NoRoute);
    bed.gateway.get("/opened").send().await.assert_refused(Reason::NoRoute);
    let post = bed.gateway.request(Method::POST, "/open").send().await;
    post.assert_refused(Reason::MethodNotAllowed);

    assert_eq!(post.header("allow"), Some("GET, HEAD"));
    assert_eq!(bed.upstream.requests(), 0);
}

#[tokio::test]
async fn a_caller_outside_the_list_is_refused_whatever_it_says_of_itself() {
    let route = "- { name: open, match: { path: /open }, anonymous: true, inbound: [ ip-filter: { action: allow, addresses: [offices] } ], upstream: backend }";
    let bed = TestBed::with(route, "address-sets: { offices: [203.0.113.0/24] }").await;

    let answer =
        bed.gateway.get("/open").header("X-Forwarded-For", "203.0.113.7").header("X-Real-IP", "203.0.113.7").send().await;

    answer.assert_refused(Reason::CallerAddressNotAllowed);
    let record = bed.gateway.record(|record| record["code"] == "caller-address-not-allowed").await;
    assert_eq!(record["caller"], "127.0.0.1");
    assert_eq!(record["policy"], "inbound[0].ip-filter");
    assert_eq!(record["decision"], "deny");
}

#[tokio::test]
async fn a_trusted_proxy_is_believed() {
    let route = "- { name: open, match: { path: /open }, anonymous: true, inbound: [ ip-filter: { action: allow, addresses: [203.0.113.0/24] } ], upstream: backend }";
    let listener = "listeners: [ { name: public, address: \"127.0.0.1:0\", trusted-proxies: [127.0.0.0/8] } ]";
    let bed = TestBed::with(route, listener).await;

    bed.gateway.get("/open").header("X-Forwarded-For", "198.51.100.9, 203.0.113.7").send().await.assert_allowed();
    let outside = bed.gateway.get("/open").header("X-Forwarded-For", "203.0.113.7, 198.51.100.9").send().await;
    let nonsense = bed.gateway.get("/open").header("X-Forwarded-For", "203.0.113.7, 010.0.0.1").send().await;

    outside.assert_refused(Reason::CallerAddressNotAllowed);
    nonsense.assert_refused(Reason::CallerAddressUnparsable);
    assert_eq!(bed.upstream.requests(), 1);
    assert_eq!(bed.upstream.last().value("x-forwarded-for"), Some("203.0.113.7"));
}

#[tokio::test]
async fn hostile_targets_and_heads_are_refused_and_never_forwarded() {
    let bed = TestBed::with(OPEN, "").await;
    let cases = [
        ("GET /open/%2e%2e/secret HTTP/1.1\r\nHost: a\r\n\r\n", "request-target-invalid"),
        ("GET /open/../secret HTTP/1.1\r\nHost: a\r\n\r\n", "request-target-invalid"),
        ("GET /open/%2fsecret HTTP/1.1\r\nHost: a\r\n\r\n", "request-target-invalid"),
        ("GET /open\\secret HTTP/1.1\r\nHost: a\r\n\r\n", "request-target-invalid"),
        ("GET /open//secret HTTP/1.1\r\nHost: a\r\n\r\n", "request-target-invalid"),
        ("GET /open;x=1 HTTP/1.1\r\nHost: a\r\n\r\n", "request-target-invalid"),
        ("GET /open/%00 HTTP/1.1\r\nHost: a\r\n\r\n", "request-target-invalid"),
        ("GET /open#part HTTP/1.1\r\nHost: a\r\n\r\n", "request-target-invalid"),
        ("GET http://b/open HTTP/1.1\r\nHost: a\r\n\r\n", "request-header-invalid"),
        ("GET /open HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", "request-header-invalid"),
        ("GET /open HTTP/1.1\r\n\r\n", "request-header-invalid"),
        (
            "POST /open HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            "request-framing-invalid",
        ),
        ("POST /open HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello", "request-framing-invalid"),
        ("POST /open HTTP/1.1\r\nHost: a\r\nContent-Length: +5\r\n\r\nhello", "request-framing-invalid"),
        ("POST /open HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", "request-framing-invalid"),
        ("POST /open HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", "request-framing-invalid"),
        ("TRACE /open HTTP/1.1\r\nHost: a\r\n\r\n", "method-not-allowed"),
        ("CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\n\r\n", "method-not-allowed"),
    ];

    for (bytes, code) in cases {
        let mut connection = RawConnection::open(bed.gateway.address()).await;
        connection.send(bytes.as_bytes()).await;
        connection.end().await;
        let answer = connection.read_to_end().await;
        assert!(answer.contains(&format!("\"code\":\"{code}\"")), "{bytes:?} was answered with {answer:?}");
    }

    assert_eq!(bed.upstream.requests(), 0);
}

#[tokio::test]
async fn a_target_that_is_too_long_is_refused_with_its_own_status_and_recorded() {
    let bed = TestBed::with(OPEN, "").await;

    let answer = bed.gateway.get(&format!("/open?{}", "a".repeat(40_000))).send().await;

    answer.assert_refused(Reason::TargetTooLong);
    let record = bed.gateway.record(|record| record["code"] == "target-too-long").await;
    assert_eq!((&record["decision"], &record["status"]), (&"deny".into(), &414.into()), "{record}");
    assert_eq!(bed.upstream.requests(), 0);
}

#[tokio::test]
async fn broken_framing_is_refused_and_never_forwarded() {
    let bed = TestBed::with(OPEN, "").await;
    let cases = [
        "GET /open HTTP/1.1\nHost: a\n\n",
        "GET /open HTTP/1.1\r\nHost: a\nX: y\r\n\r\n",
        "GET /open HTTP/1.1\r\nHost: a\r\nX: y\r\n folded\r\n\r\n",
        "GET /open HTTP/1.1\r\nHost: a\r\nX : y\r\n\r\n",
        "GET /open HTTP/1.1\r\nHost: a\r\nX: a\0b\r\n\r\n",
        "GET  /open HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET /open HTTP/2.0\r\nHost: a\r\n\r\n",
    ];

    for bytes in cases {
        let mut connection = RawConnection::open(bed.gateway.address()).await;
        connection.send(bytes.as_bytes()).await;
        connection.end().await;
        let answer = connection.read_to_end().await;
        assert!(
            answer.is_empty() || answer.starts_with("HTTP/1.1 4") || answer.starts_with("HTTP/1.1 505"),
            "{bytes:?}: {answer:?}"
        );
    }

    assert_eq!(bed.upstream.requests(), 0);
}

#[tokio::test]
async fn a_second_request_hidden_in_a_body_is_a_body() {
    let bed = TestBed::with(OPEN, "").await;
    let mut connection = RawConnection::open(bed.gateway.address()).await;
    let hidden = "GET /open/hidden HTTP/1.1\r\nHost: a\r\n\r\n";

    connection
        .send(
            format!("POST /open HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{hidden}", hidden.len())
                .as_bytes(),
        )
        .await;
    connection.read_to_end().await;

    assert_eq!(bed.upstream.requests(), 1);
    let received = bed.upstream.last();
    assert_eq!((received.method, &*received.body), (Method::POST, hidden.as_bytes()));
}

#[tokio::test]
async fn hop_by_hop_fields_and_trailers_go_no_further() {
    let bed = TestBed::with(OPEN, "").await;
    let mut connection = RawConnection::open(bed.gateway.address()).await;

    connection
        .send(
            b"POST /open HTTP/1.1\r\nHost: a\r\nConnection: close, X-Drop, X-Request-Id\r\nX-Drop: 1\r\nKeep-Alive: 5\r\nUpgrade: h2c\r\nProxy-Authorization: Basic eDp5\r\nX-Keep: 1\r\nTransfer-Encoding: chunked\r\nTrailer: X-Remote-User\r\n\r\n3\r\nabc\r\n0\r\nX-Remote-User: evil\r\n\r\n",
        )
        .await;
    let answer = connection.read_to_end().await;

    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    let received = bed.upstream.last();
    assert_eq!(received.body, "abc");
    assert!(received.trailers.is_empty());
    for name in ["x-drop", "keep-alive", "upgrade", "proxy-authorization", "trailer"] {
        assert!(!received.headers.contains_key(name), "{name} got through");
    }
    assert_eq!(received.value("x-keep"), Some("1"));
    assert!(received.value("x-request-id").is_some(), "a Connection option must not erase what the gateway sets");
}

#[tokio::test]
async fn connections_to_the_upstream_are_used_again() {
    let bed = TestBed::with(OPEN, "").await;

    for _ in 0..5 {
        bed.gateway.get("/open").send().await.assert_allowed();
    }

    assert_eq!(bed.upstream.requests(), 5);
    assert_eq!(bed.upstream.connections(), 1);
}

#[tokio::test]
async fn an_answer_of_the_gateways_own_needs_no_upstream() {
    let route = "- { name: ping, match: { exact-path: /ping }, anonymous: true, respond: { status: 204 } }";
    let bed = TestBed::with(route, "").await;

    let answer = bed.gateway.get("/ping").send().await;

    assert_eq!(answer.status, StatusCode::NO_CONTENT);
    assert!(answer.header("x-request-id").is_some());
}

#[tokio::test]
async fn an_unreachable_upstream_is_502() {
    // The port of a listener that is gone: nobody answers there.
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let config = format!(
        "upstreams: {{ gone: {{ servers: [\"http://127.0.0.1:{port}\"] }} }}\nroutes:\n  - {{ name: gone, match: {{ path: /gone }}, anonymous: true, upstream: gone }}\n"
    );
    let gateway = crate::support::Gateway::start(&config).await;

    gateway.get("/gone").send().await.assert_refused(Reason::UpstreamUnreachable);

    let record = gateway.record(|record| record["code"] == "upstream-unreachable").await;
    assert_eq!(record["decision"], "error");
}

#[tokio::test]
async fn a_body_beyond_the_limit_is_413_in_every_framing() {
    let listener = "listeners: [ { name: public, address: \"127.0.0.1:0\", limits: { body-bytes: 1KiB } } ]";
    let bed = TestBed::with(OPEN, listener).await;

    let sized = bed.gateway.request(Method::POST, "/open").body(vec![b'x'; 2048]).send().await;
    sized.assert_refused(Reason::BodyTooLarge);
    let mut connection = RawConnection::open(bed.gateway.address()).await;
    connection.send(b"POST /open HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n800\r\n").await;
    connection.send(&[b'x'; 2048]).await;
    connection.send(b"\r\n0\r\n\r\n").await;
    connection.end().await;
    let chunked = connection.read_to_end().await;

    assert!(chunked.contains("body-too-large"), "{chunked}");
    assert_eq!(bed.upstream.requests(), 0);
}

#[tokio::test]
async fn every_request_leaves_one_record_without_its_query() {
    let upstream = Upstream::answering(|_| Response::builder().status(201).body("made".into()).unwrap()).await;
    let bed = TestBed::around(upstream, OPEN, "").await;

    let answer = bed.gateway.request(Method::POST, "/open/1?secret=1").body("hello").send().await;

    assert_eq!(answer.status, StatusCode::CREATED);
    let record = bed.gateway.record(|record| record["path"] == "/open/1").await;
    assert_eq!(record["request_id"].as_str(), answer.header("x-request-id"));
    assert_eq!(record["decision"], "allow");
    assert_eq!(record["route"], "open");
    assert_eq!(record["status"], 201);
    assert_eq!(record["bytes_in"], 5);
    assert_eq!(record["bytes_out"], 4);
    assert_eq!(record["complete"], true);
    assert_eq!(record["upstream"], "backend");
    assert!(!record.to_string().contains("secret"), "{record}");
}
