//! Questions about requests.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::sync::Semaphore;

use super::{ask, assert_answer};
use crate::support::{Gateway, RawConnection, RawUpstream, Step, TestBed};

async fn bed() -> TestBed {
    let routes = "- { name: orders, match: { path: /orders, methods: [GET, POST] }, anonymous: true, upstream: backend }\n\
                  - { name: shop, match: { hosts: [shop.contoso.example], path: / }, anonymous: true, upstream: backend }\n\
                  - name: limited\n  match: { path: /limited }\n  anonymous: true\n  upstream: backend\n  inbound: [ rate-limit-by-key: { calls: 1, renewal-period: 1h, counter-key: \"@(caller.address)\" } ]";
    TestBed::with(routes, "listeners: [ { name: public, address: \"127.0.0.1:0\", limits: { body-bytes: 1KiB } } ]").await
}

#[tokio::test]
async fn hosts_paths_methods_and_targets() {
    let bed = bed().await;
    let gateway = &bed.gateway;

    let answer = gateway.get("/nothing").header("host", "www.contoso.example").send().await;
    ask(gateway, "Does no route have this path?", &answer, &["no-route", "www.contoso.example", "/nothing", "path"]).await;
    let answer = gateway.get("/orders").header("host", "shop.contoso.example").send().await;
    answer.assert_allowed();
    let answer = gateway.request(http::Method::DELETE, "/orders").send().await;
    ask(gateway, "Is the method not served?", &answer, &["method-not-allowed", "DELETE", "/orders"]).await;
    let answer = gateway.get("/orders/a%2Fb").send().await;
    ask(gateway, "Which character of the target is refused?", &answer, &["request-target-invalid", "cause\":\""]).await;
}

#[tokio::test]
async fn a_host_that_no_route_has() {
    let route = "- { name: shop, match: { hosts: [shop.contoso.example], path: / }, anonymous: true, upstream: backend }";
    let bed = TestBed::with(route, "").await;

    let answer = bed.gateway.get("/").header("host", "www.contoso.example").send().await;

    ask(&bed.gateway, "Does no route have this host?", &answer, &["no-route", "www.contoso.example", "names another host"]).await;
}

#[tokio::test]
async fn limits() {
    let bed = bed().await;
    let gateway = &bed.gateway;

    let answer = gateway.request(http::Method::POST, "/orders").body(vec![b'x'; 5_000]).send().await;
    ask(gateway, "Which limit was the body beyond?", &answer, &["body-too-large", "limits.body-bytes", "1024"]).await;
    let mut request = gateway.get("/orders");
    for number in 0..20 {
        request = request.header(&format!("x-{number}"), "y".repeat(4_000));
    }
    let answer = request.send().await;
    ask(gateway, "Were the header fields too large?", &answer, &["headers-too-large", "limits.header-bytes", "65536"]).await;
    gateway.get("/limited").send().await.assert_allowed();
    let answer = gateway.get("/limited").send().await;
    ask(
        gateway,
        "Which rate was exceeded, and by what is it counted?",
        &answer,
        &[
            "rate-limit-exceeded",
            "inbound[0].rate-limit-by-key",
            "more than 1 calls in 3600 s, counted by caller.address",
            "127.0.0.1",
        ],
    )
    .await;
}

#[tokio::test]
async fn ids_and_configs() {
    let bed = bed().await;
    let gateway = &bed.gateway;
    let trace = "4bf92f3577b34da6a3ce929d0e0e4736";

    let answer = gateway
        .get("/orders")
        .header("x-request-id", "their-17")
        .header("traceparent", format!("00-{trace}-00f067aa0ba902b7-01"))
        .send()
        .await;

    let id = answer.header("x-request-id").unwrap();
    gateway.record(|record| record["request_id"] == id).await;
    assert_answer(gateway, "What became of the request with the caller's own id?", "their-17", &[id, "\"status\":200"]);
    assert_answer(gateway, "What belongs to the same trace?", trace, &[id]);
    ask(gateway, "By which config was it judged?", &answer, &["\"digest\":\"", "\"generation\":0"]).await;
}

#[tokio::test]
async fn a_caller_that_left() {
    let backend = RawUpstream::answering(vec![Step::Wait(Arc::new(Semaphore::new(0)))]).await;
    let gateway =
        Gateway::start(&backend.config("  - { name: slow, match: { path: /slow }, anonymous: true, upstream: backend }")).await;
    let mut caller = RawConnection::open(gateway.address()).await;
    caller.send(b"GET /slow HTTP/1.1\r\nhost: a\r\n\r\n").await;
    let begun = Instant::now();
    while backend.received().is_empty() {
        assert!(begun.elapsed() < Duration::from_secs(60), "the backend was never asked");
        tokio::task::yield_now().await;
    }
    caller.reset();

    let record = gateway.record(|record| record["path"] == "/slow").await;

    let id = record["request_id"].as_str().unwrap();
    let expected = ["\"status\":null", "\"complete\":false", "duration_us"];
    assert_answer(&gateway, "Did the caller leave before its response?", id, &expected);
}
