//! Callers of gRPC: refusals that their libraries read, and deadlines that bound the backend's time.

use std::time::Duration;

use bytes::Bytes;
use entrada::Reason;
use http::{HeaderMap, Request, Response, StatusCode};
use tokio::net::{TcpListener, TcpStream};

use crate::support::{ORDERS_TOKEN, TestBed};

/// The end of a call: the status of HTTP, the header, and what stood behind the body.
struct Called {
    status: StatusCode,
    headers: HeaderMap,
    body: Bytes,
    trailers: Option<HeaderMap>,
}

impl Called {
    fn grpc(&self) -> (&str, &str) {
        let ends = self.trailers.as_ref().unwrap_or(&self.headers);
        let text = |name: &str| ends.get(name).map_or("", |value| value.to_str().unwrap());
        (text("grpc-status"), text("grpc-message"))
    }
}

async fn call(bed: &TestBed, path: &str, fields: &[(&str, &str)]) -> Called {
    let stream = TcpStream::connect(bed.gateway.address()).await.unwrap();
    let (client, connection) = h2::client::handshake(stream).await.unwrap();
    let driver = tokio::spawn(connection);
    let mut client = client.ready().await.unwrap();
    let mut request = Request::post(format!("http://{}{path}", bed.gateway.address())).header("te", "trailers");
    if !fields.iter().any(|(name, _)| *name == "content-type") {
        request = request.header("content-type", "application/grpc");
    }
    for (name, value) in fields {
        request = request.header(*name, *value);
    }
    let (response, mut sending) = client.send_request(request.body(()).unwrap(), false).unwrap();
    // A refusal may come before it.
    let _ = sending.send_data(Bytes::from_static(&[0, 0, 0, 0, 0]), true);
    let (parts, mut receiving) = response.await.unwrap().into_parts();
    let mut body = Vec::new();
    while let Some(data) = receiving.data().await {
        body.extend_from_slice(&data.unwrap());
    }
    let trailers = receiving.trailers().await.unwrap();
    driver.abort();
    Called { status: parts.status, headers: parts.headers, body: body.into(), trailers }
}

const LIMITED: &str = "- { name: limited, match: { path: /limited.Service }, anonymous: true, \
     inbound: [ rate-limit-by-key: { calls: 1, renewal-period: 1h, counter-key: \"@(route.name)\" } ], upstream: backend }
- { name: coded, match: { path: /coded.Service }, anonymous: true, inbound: [ authorize: { condition: \"@(1 == 2)\", code: no-way } ], upstream: backend }
- { name: broken, match: { path: /broken.Service }, anonymous: true, upstream: nowhere }";

async fn bed() -> TestBed {
    let routes = format!(
        "- {{ name: orders, match: {{ path: /orders.Service }}, inbound: [ {ORDERS_TOKEN} ], upstream: backend }}\n{LIMITED}"
    );
    // A port that nobody listens on any more.
    let gone = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let tenant = entrada::dev_tenant::DevTenant::start(entrada::dev_tenant::Options::default()).await.unwrap();
    let upstream = crate::support::Upstream::start().await;
    let config = crate::support::config(&tenant, &upstream, &routes, "")
        .replace("upstreams: { backend:", &format!("upstreams: {{ nowhere: {{ servers: [\"http://{gone}\"] }}, backend:"));
    let gateway = crate::support::Gateway::start(&config).await;
    TestBed { tenant, upstream, gateway }
}

#[tokio::test]
async fn a_refusal_is_a_status_with_the_code_as_its_message() {
    let bed = bed().await;
    call(&bed, "/limited.Service/Get", &[]).await;
    for (path, fields, reason, status) in [
        ("/orders.Service/Get", &[][..], Reason::TokenMissing, "16"),
        ("/orders.Service/Get", &[("authorization", "Bearer a.b.c")], Reason::TokenMalformed, "16"),
        ("/orders.Service/Get", &[("authorization", "Bearer a"), ("authorization", "Bearer b")], Reason::TokenAmbiguous, "3"),
        ("/nobody.Service/Get", &[], Reason::NoRoute, "12"),
        ("/limited.Service/Get", &[], Reason::RateLimitExceeded, "8"),
        ("/broken.Service/Get", &[], Reason::UpstreamUnreachable, "14"),
    ] {
        let called = call(&bed, path, fields).await;

        assert_eq!((called.status, called.grpc()), (StatusCode::OK, (status, reason.code())), "{path}");
        assert!(called.trailers.is_none() && called.body.is_empty(), "{path}: the header is all there is");
        assert_eq!(called.headers["content-type"], "application/grpc", "{path}");
        let id = called.headers["x-request-id"].to_str().unwrap().to_owned();
        let record = bed.gateway.record(|record| record["request_id"] == id.as_str()).await;
        assert_eq!(record["status"], reason.status().as_u16(), "{record}");
        assert_eq!(
            (record["grpc_status"].to_string().as_str(), record["code"].as_str()),
            (status, Some(reason.code())),
            "{record}"
        );
        assert_eq!(record["complete"], true, "{record}");
    }
}

#[tokio::test]
async fn a_code_of_the_config_is_told_and_the_challenge_stays() {
    let bed = bed().await;
    assert_eq!(call(&bed, "/coded.Service/Get", &[]).await.grpc(), ("7", "no-way"));
    let called = call(&bed, "/orders.Service/Get", &[]).await;
    assert_eq!(called.headers["www-authenticate"], "Bearer");
}

#[tokio::test]
async fn whoever_speaks_something_else_gets_the_document() {
    let bed = bed().await;
    for kind in ["application/json", "application/grpc-web", "application/grpc-web+proto"] {
        let called = call(&bed, "/orders.Service/Get", &[("content-type", kind)]).await;
        assert_eq!(called.status, StatusCode::UNAUTHORIZED, "{kind}");
        assert_eq!(called.headers["content-type"], "application/problem+json", "{kind}");
    }
    let called = call(&bed, "/orders.Service/Get", &[("content-type", "application/grpc+proto")]).await;
    assert_eq!(called.grpc(), ("16", "token-missing"));
}

/// The backend is given up when the caller has: `grpc-timeout`, not the 30 s of the upstream.
#[tokio::test]
async fn the_callers_deadline_bounds_the_backends_time() {
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = silent.local_addr().unwrap();
    let held = tokio::spawn(async move {
        let mut held = Vec::new();
        while let Ok((stream, _)) = silent.accept().await {
            held.push(stream);
        }
    });
    let config = format!(
        "upstreams: {{ backend: {{ servers: [\"http://{address}\"], timeouts: {{ response: 10m }} }} }}\nroutes:\n  - {{ name: slow, match: {{ path: /slow.Service }}, anonymous: true, upstream: backend }}\n"
    );
    let tenant = entrada::dev_tenant::DevTenant::start(entrada::dev_tenant::Options::default()).await.unwrap();
    let upstream = crate::support::Upstream::start().await;
    let bed = TestBed { tenant, upstream, gateway: crate::support::Gateway::start(&config).await };

    let called = tokio::time::timeout(Duration::from_secs(60), call(&bed, "/slow.Service/Get", &[("grpc-timeout", "100m")]))
        .await
        .unwrap();

    assert_eq!(called.grpc(), ("4", Reason::UpstreamTimeout.code()));
    held.abort();
}

/// A stream that the backend does not end is ended when the caller's time is over.
#[tokio::test]
async fn the_callers_deadline_ends_a_stream() {
    let backend = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = backend.local_addr().unwrap();
    let served = tokio::spawn(async move {
        let (stream, _) = backend.accept().await.unwrap();
        let mut connection = h2::server::handshake(stream).await.unwrap();
        let mut open = Vec::new();
        while let Some(Ok((_, mut respond))) = connection.accept().await {
            let response = Response::builder().header("content-type", "application/grpc").body(()).unwrap();
            open.push(respond.send_response(response, false).unwrap());
        }
    });
    let config = format!(
        "upstreams: {{ backend: {{ servers: [\"http://{address}\"], protocol: http2 }} }}\nroutes:\n  - {{ name: stream, match: {{ path: /stream.Service }}, anonymous: true, upstream: backend }}\n"
    );
    let gateway = crate::support::Gateway::start(&config).await;
    let stream = TcpStream::connect(gateway.address()).await.unwrap();
    let (client, connection) = h2::client::handshake(stream).await.unwrap();
    let driver = tokio::spawn(connection);
    let mut client = client.ready().await.unwrap();
    let request = Request::post(format!("http://{}/stream.Service/Watch", gateway.address()))
        .header("content-type", "application/grpc")
        .header("grpc-timeout", "300m");
    let (response, _) = client.send_request(request.body(()).unwrap(), true).unwrap();
    let mut body = response.await.unwrap().into_body();

    let ended = tokio::time::timeout(Duration::from_secs(60), body.data()).await.unwrap();

    assert!(ended.is_some_and(|data| data.is_err()), "the stream is reset");
    let record = gateway.record(|record| record["route"] == "stream").await;
    assert_eq!(record["ended_by"], "grpc-timeout", "{record}");
    driver.abort();
    served.abort();
}
