//! Tests of a route's own limits, and of its redirect to https.

use std::time::Duration;

use entrada::Reason;
use http::{Method, StatusCode};

use crate::support::{Gateway, RawConnection, TestBed};

fn route(more: &str) -> String {
    format!(
        "- {{ name: small, match: {{ path: /small }}, anonymous: true, {more}, upstream: backend }}\n\
         - {{ name: open, match: {{ path: /open }}, anonymous: true, upstream: backend }}"
    )
}

#[tokio::test]
async fn a_route_takes_shorter_bodies_than_its_listener() {
    let bed = TestBed::with(&route("limits: { body-bytes: 1KiB }"), "").await;

    for (path, length, passes) in [("/small", 1_024, true), ("/small", 1_025, false), ("/open", 1_025, true)] {
        let answer = bed.gateway.request(Method::POST, path).body(vec![b'x'; length]).send().await;
        if passes {
            answer.assert_allowed();
            assert_eq!(bed.upstream.last().body.len(), length);
        } else {
            answer.assert_refused(Reason::BodyTooLarge);
        }
    }
    // A body that does not announce its length is held to the limit, too.
    let mut caller = RawConnection::open(bed.gateway.address()).await;
    let chunk = format!("401\r\n{}\r\n0\r\n\r\n", "x".repeat(1_025));
    caller.send(format!("POST /small HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n{chunk}").as_bytes()).await;
    assert!(caller.read_answer().await.contains("body-too-large"));
    assert_eq!(bed.upstream.requests(), 2);
}

#[tokio::test]
async fn a_route_cannot_take_more_than_its_listener() {
    let more = "listeners: [ { name: public, address: \"127.0.0.1:0\", limits: { body-bytes: 1KiB } } ]";
    let bed = TestBed::with(&route("limits: { body-bytes: 1MiB, header-bytes: 1MiB, max-stream: 9h }"), more).await;

    bed.gateway.request(Method::POST, "/small").body(vec![b'x'; 1_025]).send().await.assert_refused(Reason::BodyTooLarge);
}

#[tokio::test]
async fn a_route_takes_shorter_heads_than_its_listener() {
    let bed = TestBed::with(&route("limits: { header-bytes: 2KiB }"), "").await;
    let cookie = "x".repeat(2_048);

    bed.gateway.get("/open").header("Cookie", &cookie).send().await.assert_allowed();
    bed.gateway.get("/small").header("Cookie", &cookie).send().await.assert_refused(Reason::HeadersTooLarge);
    bed.gateway.get(&format!("/small?{cookie}")).send().await.assert_refused(Reason::HeadersTooLarge);
    bed.gateway.get("/small").header("Cookie", &cookie[..1_024]).send().await.assert_allowed();
}

#[tokio::test]
async fn a_route_waits_for_an_answer_as_long_as_it_says() {
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let config = format!(
        "upstreams: {{ backend: {{ servers: [\"http://{}\"] }} }}\nroutes:\n{}\n",
        silent.local_addr().unwrap(),
        route("limits: { response-timeout: 50ms }").lines().map(|line| format!("  {line}\n")).collect::<String>()
    );
    let gateway = Gateway::start(&config).await;

    let answer = tokio::time::timeout(Duration::from_secs(20), gateway.get("/small").send())
        .await
        .expect("sooner than the upstream's own");

    answer.assert_refused(Reason::UpstreamTimeout);
}

#[tokio::test]
async fn a_plain_request_is_redirected_to_the_same_target_over_https() {
    let more = "listeners: [ { name: public, address: \"127.0.0.1:0\", trusted-proxies: [127.0.0.1] } ]";
    let bed = TestBed::with(&route("require-tls: redirect"), more).await;
    let get = |target: &str| bed.gateway.get(target).header("Host", "API.contoso.example:8080");

    let answer = get("/small/a%20b?c=d&e=http://x").send().await;
    assert_eq!(answer.status, StatusCode::PERMANENT_REDIRECT);
    assert_eq!(answer.header("location"), Some("https://api.contoso.example/small/a%20b?c=d&e=http://x"));
    let record = bed.gateway.record(|record| record["status"] == 308).await;
    assert_eq!((&record["decision"], &record["policy"]), (&"allow".into(), &"require-tls".into()));
    // The name by which the caller reached the proxy.
    let stated =
        get("/small").header("X-Forwarded-For", "192.0.2.7").header("X-Forwarded-Host", "www.contoso.example").send().await;
    assert_eq!(stated.header("location"), Some("https://www.contoso.example/small"));
    // What a body or a credential brought has been seen already: that is no matter of another address.
    bed.gateway.request(Method::POST, "/small").body("x").send().await.assert_refused(Reason::TlsRequired);
    // Who came by TLS is served.
    get("/small").header("X-Forwarded-For", "192.0.2.7").header("X-Forwarded-Proto", "https").send().await.assert_allowed();
    assert_eq!(bed.upstream.requests(), 1);
}

#[tokio::test]
async fn no_redirect_leads_to_where_a_target_is_ambiguous_or_to_another_host() {
    let bed = TestBed::with(&route("require-tls: redirect"), "").await;

    bed.gateway.get("/small/a;b").send().await.assert_refused(Reason::RequestTargetInvalid);
    for target in ["//evil.example/small", "/small/%0d%0aX-Admin:%201", "/small/..%2f..%2fevil"] {
        let mut caller = RawConnection::open(bed.gateway.address()).await;
        caller.send(format!("GET {target} HTTP/1.1\r\nHost: api.contoso.example\r\n\r\n").as_bytes()).await;
        let answer = caller.read_answer().await.to_ascii_lowercase();
        assert!(answer.starts_with("http/1.1 4") && !answer.contains("location:"), "{answer}");
    }
    // A stranger's word is not repeated.
    let answer =
        bed.gateway.get("/small").header("Host", "api.contoso.example").header("X-Forwarded-Host", "evil.example").send().await;
    assert_eq!(answer.header("location"), Some("https://api.contoso.example/small"));
}
