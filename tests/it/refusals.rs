//! Tests of refusals and policies that no other file covers.

use std::sync::Arc;

use entrada::Reason;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
    sync::Notify,
};

use crate::support::{Gateway, RawConnection, TestBed, Upstream};

#[tokio::test]
async fn a_route_that_wants_tls_gets_no_plain_request() {
    let route = "- { name: open, match: { path: /open }, anonymous: true, require-tls: true, upstream: backend }";
    let bed = TestBed::with(route, "").await;

    let answer = bed.gateway.get("/open").header("X-Forwarded-Proto", "https").send().await;

    answer.assert_refused(Reason::TlsRequired);
    assert_eq!(bed.upstream.requests(), 0);
}

#[tokio::test]
async fn more_calls_at_once_than_the_limit_are_refused_until_one_has_ended() {
    let backend = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = backend.local_addr().unwrap();
    let (arrived, release) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let (at_backend, go_on) = (arrived.clone(), release.clone());
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = backend.accept().await {
            let mut head = [0; 2_048];
            assert!(stream.read(&mut head).await.unwrap() > 0);
            at_backend.notify_one();
            go_on.notified().await;
            stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n").await.unwrap();
        }
    });
    let config = format!(
        "upstreams: {{ backend: {{ servers: [\"http://{address}\"] }} }}
routes:
  - name: open
    match: {{ path: /open }}
    anonymous: true
    inbound: [ limit-concurrency: {{ max-count: 1, key: \"@(caller.address)\" }} ]
    upstream: backend
"
    );
    let gateway = Gateway::start(&config).await;
    let first = tokio::spawn(gateway.get("/open").send());
    arrived.notified().await;

    let second = gateway.get("/open").send().await;
    release.notify_one();
    first.await.unwrap().assert_allowed();
    let third = tokio::spawn(gateway.get("/open").send());
    arrived.notified().await;
    release.notify_one();

    second.assert_refused(Reason::ConcurrencyLimitExceeded);
    third.await.unwrap().assert_allowed();
}

#[tokio::test]
async fn a_header_that_must_be_there_is_there_once_and_whole() {
    let route = "- name: open
  match: { path: /open }
  anonymous: true
  inbound: [ check-header: { name: X-Azure-FDID, values: [5f5f0000-1111-4222-8333-abcdefabcdef] } ]
  upstream: backend";
    let bed = TestBed::with(route, "").await;
    let id = "5f5f0000-1111-4222-8333-abcdefabcdef";

    bed.gateway.get("/open").header("x-azure-fdid", id).send().await.assert_allowed();
    let refused = [
        bed.gateway.get("/open"),
        bed.gateway.get("/open").header("x-azure-fdid", "another"),
        bed.gateway.get("/open").header("x-azure-fdid", id.to_uppercase()),
        bed.gateway.get("/open").header("x-azure-fdid", format!("{id}, {id}")),
        bed.gateway.get("/open").header("x-azure-fdid", id).header("x-azure-fdid", id),
        bed.gateway.get("/open").header("x_azure_fdid", id),
    ];
    for request in refused {
        request.send().await.assert_refused(Reason::HeaderCheckFailed);
    }

    assert_eq!(bed.upstream.requests(), 1);
}

#[tokio::test]
async fn path_and_query_go_to_the_backend_as_the_policies_made_them() {
    let route = "- name: mail
  match: { path: \"/people/{person}/mail\" }
  anonymous: true
  inbound:
    - rewrite-uri: { template: \"/users/{person}/messages{rest}\" }
    - set-query-parameter: { name: api-version, value: \"2026-01-01\" }
    - set-query-parameter: { name: debug, exists-action: delete }
  upstream: backend";
    let bed = TestBed::with(route, "").await;

    bed.gateway.get("/people/nia%20o/mail/7?debug=1&api-version=old&top=5&de%62ug=2").send().await.assert_allowed();

    let received = bed.upstream.last();
    assert_eq!(received.uri.path(), "/users/nia%20o/messages/7");
    let mut query: Vec<_> = received.uri.query().unwrap().split('&').collect();
    query.sort_unstable();
    assert_eq!(query, ["api-version=2026-01-01", "top=5"]);
}

#[tokio::test]
async fn a_request_on_a_listener_that_a_reload_took_away_goes_by_the_rules_that_it_had() {
    let upstream = Upstream::start().await;
    let config = |listeners: &str| {
        format!(
            "listeners: [ {{ name: public, address: \"127.0.0.1:0\" }}{listeners} ]
drain-timeout: 5s
upstreams: {{ backend: {{ servers: [\"{}\"] }} }}
routes: [ {{ name: open, match: {{ path: /open }}, anonymous: true, upstream: backend }} ]
",
            upstream.url()
        )
    };
    let mut gateway = Gateway::start(&config(", { name: inner, address: \"127.0.0.1:0\" }")).await;
    let mut caller = RawConnection::open(gateway.server().address("inner").unwrap()).await;
    caller.send(b"GET /open HTTP/1.1\r\nHost: a.example\r\n").await;

    gateway.reload(&config("")).await;
    caller.send(b"\r\n").await;
    let answer = caller.read_to_end().await;

    // Whoever had begun is served to the end, by the rules of its own listener.
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    assert_eq!(upstream.requests(), 1);
}
