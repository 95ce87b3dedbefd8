//! Tests that every stream ends in time, whether or not its client reads.

use std::time::{Duration, Instant};

use bytes::Bytes;
use entrada::{
    dev_tenant::{DevTenant, Options},
    unstable::{connection::EventKind, listener::Limits},
};
use http::Response;
use http_body_util::Full;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::raw::{CANCEL, DATA, END_STREAM, FIRST_WINDOW, GOAWAY, HEADERS, RST_STREAM, Raw, WIDE, in_time};
use crate::{
    framing::support::Server,
    support::{Gateway, TestBed, Upstream, config, eventually},
};

const FABRIKAM: &str = "22223333-cccc-4444-dddd-5555eeee6666";

/// Starts a backend whose response exceeds the buffer of any socket.
async fn large() -> Upstream {
    let large = Bytes::from(vec![b'x'; 64 << 20]);
    Upstream::answering(move |_| Response::new(Full::new(large.clone()))).await
}

/// Starts a gateway with an open route and a guarded one, whose listener has these limits.
async fn bed(limits: &str) -> TestBed {
    let routes = "- { name: open, match: { path: /open }, inbound: [ limit-concurrency: { max-count: 2, key: all } ], anonymous: true, upstream: backend }\n\
                  - { name: orders, match: { path: /orders }, inbound: [ validate-azure-ad-token: { tenant: contoso, audiences: [api://orders], scopes: [Orders.Read] } ], upstream: backend }";
    TestBed::around(large().await, routes, &listener(limits)).await
}

fn listener(limits: &str) -> String {
    format!("listeners: [ {{ name: public, address: \"127.0.0.1:0\", limits: {{ {limits} }} }} ]")
}

#[tokio::test]
async fn a_stream_whose_client_opens_no_window_ends_with_write_timeout() {
    let bed = bed("write-timeout: 1s").await;
    // Of the stream; of the connection; and one that was opened and not any more.
    for (window, taken) in [(0, 0), (WIDE, FIRST_WINDOW), (10_000, 10_000)] {
        let mut client = Raw::open(bed.gateway.address(), window).await;
        let begun = Instant::now();
        for stream in [1, 3] {
            client.get(stream, "/open", &[]).await;
        }
        let mut data = 0;
        let codes = loop {
            let frame = client.next().await.expect("the connection stays");
            match frame.kind {
                DATA => data += frame.payload.len(),
                RST_STREAM => {
                    break (frame.code(), client.until(|it| it.kind == RST_STREAM).await.code());
                }
                _ => {}
            }
        };

        assert_eq!(codes, (CANCEL, CANCEL));
        assert!(data >= taken as usize && data <= 2 * FIRST_WINDOW as usize, "{data} bytes came");
        assert!(begun.elapsed() >= Duration::from_millis(900), "they had a second");
        in_time(bed.upstream.until_open(0)).await;
        let torn = || bed.gateway.records().iter().filter(|it| it["complete"] == false).count();
        eventually("both records", async || torn() >= 2).await;
        // Both places are free again, and the connection is good for more.
        client.get(5, "/open", &[]).await;
        let answer = client.until(|frame| frame.kind == HEADERS && frame.stream == 5).await;
        assert_eq!(answer.payload[0], 0x88, "`:status: 200`");
    }
}

#[tokio::test]
async fn a_stream_whose_client_opens_no_window_ends_with_max_stream() {
    let bed = bed("max-stream: 1s").await;
    let mut client = Raw::open(bed.gateway.address(), 0).await;

    client.get(1, "/open", &[]).await;

    assert_eq!(client.until_reset(1).await, CANCEL);
    in_time(bed.upstream.until_open(0)).await;
    let record = bed.gateway.record(|record| record["complete"] == false).await;
    assert_eq!(record["cause"], "the stream has reached its maximum duration");
}

#[tokio::test]
async fn a_stream_whose_client_opens_no_window_ends_with_its_token() {
    let bed = bed("max-stream: 1h").await;
    let token = bed.tenant.token().user("nia").audience("api://orders").scopes(["Orders.Read"]);
    // With the skew of five minutes that every policy has, two seconds are left.
    let token = token.issued_in(-600).expires_in(-298).sign();
    let mut client = Raw::open(bed.gateway.address(), 0).await;

    client.get(1, "/orders", &[("authorization", &format!("Bearer {token}"))]).await;

    assert_eq!(client.until_reset(1).await, CANCEL);
    in_time(bed.upstream.until_open(0)).await;
    let record = bed.gateway.record(|record| record["complete"] == false).await;
    assert_eq!(record["cause"], "the stream has reached its maximum duration");
}

#[tokio::test]
async fn a_client_that_takes_nothing_loses_its_stream_with_its_partners_access() {
    let (tenant, upstream) = (DevTenant::start(Options::default()).await.unwrap(), large().await);
    let route = "- name: orders\n  match: { path: /orders }\n  inbound:\n    - validate-azure-ad-token: { tenant: contoso, audiences: [api://orders] }\n    - check-partner: {}\n  upstream: backend";
    let with = |more: &str| {
        let partner = format!(
            "partners: {{ fabrikam: {{ client-application-ids: [{FABRIKAM}], tenants: [contoso], addresses: [127.0.0.1], {more} }} }}"
        );
        config(&tenant, &upstream, route, &format!("{partner}\n{}", listener("max-stream: 1h")))
    };
    let mut gateway = Gateway::start(&with("enabled: true")).await;
    let token = tenant.token().app(FABRIKAM).audience("api://orders").sign();
    let mut client = Raw::open(gateway.address(), 0).await;
    client.get(1, "/orders", &[("authorization", &format!("Bearer {token}"))]).await;
    client.until(|frame| frame.kind == HEADERS).await;
    let mut other = tokio::net::TcpStream::connect(gateway.address()).await.unwrap();
    other
        .write_all(format!("GET /orders HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {token}\r\n\r\n").as_bytes())
        .await
        .unwrap();
    other.read_u8().await.unwrap();

    gateway.reload(&with("enabled: false")).await;

    assert_eq!(client.until_reset(1).await, CANCEL);
    // Also over HTTP/1.1, where nothing was read.
    in_time(upstream.until_open(0)).await;
    let torn = |record: &&serde_json::Value| record["cause"] == "the partner's access was revoked";
    eventually("both records", async || gateway.records().iter().filter(torn).count() >= 2).await;
}

#[tokio::test]
async fn streams_that_nobody_reads_do_not_hold_the_others() {
    let server = Server::start();
    let mut client = Raw::open(server.address, 0).await;
    for stream in 0..99 {
        client.get(stream * 2 + 1, "/large", &[]).await;
    }

    client.get(199, "/hello", &[]).await;
    client.open_window(199, 100).await;

    let body = client.until(|frame| frame.kind == DATA && frame.stream == 199).await;
    assert_eq!((body.payload.as_slice(), body.flags & END_STREAM), (b"hello".as_slice(), END_STREAM));
}

#[tokio::test]
async fn a_connection_whose_socket_takes_nothing_is_closed() {
    let limits =
        Limits { write_timeout: Duration::from_millis(300), idle_timeout: Duration::from_secs(3_600), ..Limits::default() };
    let server = Server::with(limits, None);
    let mut client = Raw::open(server.address, WIDE).await;
    client.open_window(0, WIDE - FIRST_WINDOW).await;

    for stream in 0..20 {
        client.get(stream * 2 + 1, "/large", &[]).await;
    }

    eventually("it is closed", async || server.listener.connections() == 0).await;
    eventually("the calls have ended", async || server.backend.calls() == 0).await;
    assert!(server.backend.events().contains(&EventKind::ClientLeft));
}

#[tokio::test]
async fn an_answer_that_is_taken_in_pieces_comes_whole() {
    let server = Server::start();
    let mut client = Raw::open(server.address, 0).await;
    client.open_window(0, WIDE - FIRST_WINDOW).await;
    client.get(1, "/large", &[]).await;

    let mut taken = 0;
    while taken < 5 << 20 {
        client.open_window(1, 10_000).await;
        let frame = client.until(|frame| matches!(frame.kind, DATA | RST_STREAM | GOAWAY)).await;
        assert_eq!(frame.kind, DATA);
        taken += frame.payload.len();
    }
    assert_eq!(taken, 5 << 20);
}
