//! Questions about backends.

use std::sync::Arc;

use bytes::Bytes;
use http::{Response, StatusCode};
use http_body_util::Full;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::Semaphore,
};

use super::{ask, assert_answer};
use crate::support::{Gateway, RawUpstream, Step, Upstream};

const ROUTE: &str = "  - { name: open, match: { path: /open }, anonymous: true, upstream: backend }";

#[tokio::test]
async fn dead_slow_and_broken_ones() {
    let dead = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let config = |address, more: &str| {
        format!("upstreams: {{ backend: {{ servers: [\"http://{address}\"]{more} }} }}\nroutes:\n{ROUTE}\n")
    };

    let gateway = Gateway::start(&config(dead, "")).await;
    let answer = gateway.get("/open").send().await;
    let server = dead.to_string();
    ask(&gateway, "Could no server be reached?", &answer, &["upstream-unreachable", "backend", &server, "refused"]).await;

    let slow = RawUpstream::answering(vec![Step::Wait(Arc::new(Semaphore::new(0)))]).await;
    let gateway = Gateway::start(&config(slow.address(), ", timeouts: { response: 50ms }")).await;
    let answer = gateway.get("/open").send().await;
    let server = slow.address().to_string();
    ask(&gateway, "Was the backend too slow?", &answer, &["upstream-timeout", &server, "50ms"]).await;

    let broken = RawUpstream::answering(vec![Step::send("gibberish\r\n\r\n"), Step::Close]).await;
    let gateway = Gateway::start(&config(broken.address(), "")).await;
    let answer = gateway.get("/open").send().await;
    let server = broken.address().to_string();
    ask(&gateway, "Did the backend break the protocol?", &answer, &["upstream-protocol-error", &server, "cause\":\""]).await;
}

#[tokio::test]
async fn an_error_of_the_backend_is_its_own() {
    let upstream = Upstream::answering(|_| {
        let mut response = Response::new(Full::new(Bytes::from_static(b"oops")));
        *response.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
        response
    })
    .await;
    let gateway =
        Gateway::start(&format!("upstreams: {{ backend: {{ servers: [\"{}\"] }} }}\nroutes:\n{ROUTE}\n", upstream.url())).await;

    let answer = gateway.get("/open").send().await;
    let websocket = gateway
        .get("/open")
        .header("connection", "upgrade")
        .header("upgrade", "websocket")
        .header("sec-websocket-version", "13")
        .header("sec-websocket-key", "AAAAAAAAAAAAAAAAAAAAAA==")
        .send()
        .await;

    ask(
        &gateway,
        "Does the error come from the backend or from the gateway?",
        &answer,
        &["\"decision\":\"allow\"", "\"code\":null", "\"status\":500", &upstream.address.to_string()],
    )
    .await;
    ask(&gateway, "Why does the WebSocket not open?", &websocket, &["upgrades: [websocket]"]).await;
}

#[tokio::test]
async fn a_tunnel_that_was_cut() {
    let switched = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\nhello";
    let backend = RawUpstream::answering(vec![Step::send(switched), Step::Close]).await;
    let route = ROUTE.replace(", upstream", ", upgrades: [websocket], upstream");
    let gateway = Gateway::start(&backend.config(&route)).await;
    let mut caller = TcpStream::connect(gateway.address()).await.unwrap();

    caller.write_all(b"GET /open HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n").await.unwrap();
    let mut heard = Vec::new();
    let _ = caller.read_to_end(&mut heard).await;
    drop(caller);

    let record = gateway.record(|record| record["path"] == "/open").await;
    let id = record["request_id"].as_str().unwrap();
    let expected = ["\"status\":101", "\"ended_by\":\"upstream\"", "\"bytes_out\":5", "duration_us"];
    assert_answer(&gateway, "What ended the WebSocket, and when?", id, &expected);
}
