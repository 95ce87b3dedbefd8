//! Tests of trailers, and of answers that are none.

use std::future::poll_fn;

use bytes::Bytes;
use entrada::Reason;
use http::{HeaderMap, HeaderValue, Response, StatusCode};
use tokio::net::TcpListener;

use crate::support::{Gateway, RawConnection, RawUpstream, Step};

const ROUTE: &str = "  - name: open\n    match: { path: /open }\n    anonymous: true\n    upstream: backend\n    outbound: [ set-header: { name: X-Own, value: ours } ]";
const REQUEST: &[u8] = b"GET /open HTTP/1.1\r\nhost: a\r\nte: trailers\r\nconnection: close, te\r\n\r\n";
/// Names of which an answer's end does not speak, in spellings that a reader may fold.
const WITHHELD: [&str; 12] = [
    "x-forwarded-for",
    "x_forwarded_for",
    "X.Forwarded.For",
    "forwarded",
    "x-remote-user",
    "X_Remote_User",
    "x-ms-client-principal",
    "client-cert",
    "content_length",
    "set-cookie",
    "x-request-id",
    "x_own",
];

async fn ask(gateway: &Gateway) -> String {
    let mut caller = RawConnection::open(gateway.address()).await;
    caller.send(REQUEST).await;
    caller.read_to_end().await
}

#[tokio::test]
async fn trailers_say_nothing_that_only_a_head_or_the_gateway_says() {
    let fields: String = WITHHELD.iter().map(|name| format!("{name}: forged\r\n")).collect();
    let answer = format!(
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n{fields}grpc-status: 0\r\nx-checksum: 1\r\n\r\n"
    );
    let upstream = RawUpstream::answering(vec![Step::send(answer)]).await;
    let gateway = Gateway::start(&upstream.config(ROUTE)).await;

    let answer = ask(&gateway).await;

    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    let (_, end) = answer.split_once("\r\n0\r\n").unwrap();
    let mut trailers: Vec<_> = end.lines().filter(|line| !line.is_empty()).collect();
    trailers.sort_unstable();
    assert_eq!(trailers, ["grpc-status: 0", "x-checksum: 1"], "{answer}");
    assert!(!answer.contains("forged"), "{answer}");
}

#[tokio::test]
async fn trailers_beyond_16_kib_are_a_broken_answer() {
    for (length, whole) in [(16_000, true), (20_000, false)] {
        let head = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nhi\r\n";
        let answer = format!("{head}0\r\nx-long: {}\r\n\r\n", "a".repeat(length));
        let upstream = RawUpstream::answering(vec![Step::send(answer)]).await;
        let gateway = Gateway::start(&upstream.config(ROUTE)).await;

        let answer = ask(&gateway).await;

        // What has left before is delivered, without an end.
        assert_eq!(answer.ends_with("\r\n\r\n") && answer.contains("x-long"), whole, "{length}: {} bytes", answer.len());
        let record = gateway.record(|record| record["route"] == "open").await;
        assert_eq!(record["complete"] == true && record["status"] == 200, whole, "{record}");
    }
}

/// A backend that answers every stream with this status and these trailers.
async fn http2_backend(status: u16, length: usize) -> String {
    let socket = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = socket.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = socket.accept().await {
            tokio::spawn(async move {
                let mut connection = h2::server::handshake(stream).await.unwrap();
                while let Some(Ok((_, mut respond))) = poll_fn(|cx| connection.poll_accept(cx)).await {
                    let mut head = Response::new(());
                    *head.status_mut() = StatusCode::from_u16(status).unwrap();
                    let mut send = respond.send_response(head, false).unwrap();
                    send.send_data(Bytes::from_static(b"hi"), false).unwrap();
                    let mut trailers = HeaderMap::new();
                    trailers.insert("x-long", HeaderValue::try_from("a".repeat(length)).unwrap());
                    send.send_trailers(trailers).unwrap();
                }
            });
        }
    });
    format!("upstreams: {{ backend: {{ servers: [\"http://{address}\"], protocol: http2 }} }}\nroutes:\n{ROUTE}\n")
}

#[tokio::test]
async fn answers_over_http2_end_alike() {
    for (status, length, whole) in
        [(200, 16_000, true), (200, 20_000, false), (999, 10, false), (600, 10, false), (599, 10, true)]
    {
        let gateway = Gateway::start(&http2_backend(status, length).await).await;

        let answer = ask(&gateway).await;

        assert_eq!(answer.ends_with("\r\n\r\n") && answer.contains("x-long"), whole, "{status} {length}: {} bytes", answer.len());
        let record = gateway.record(|record| record["route"] == "open").await;
        assert_eq!(record["complete"] == true && record["status"] == status, whole, "{record}");
        assert!(status < 600 || record["code"] == Reason::UpstreamProtocolError.code(), "{record}");
    }
}

#[tokio::test]
async fn a_status_of_no_class_is_a_broken_answer() {
    for status in ["999", "600", "099", "000"] {
        let upstream =
            RawUpstream::answering(vec![Step::send(format!("HTTP/1.1 {status} Odd\r\ncontent-length: 0\r\n\r\n"))]).await;
        let gateway = Gateway::start(&upstream.config(ROUTE)).await;

        let answer = ask(&gateway).await;

        assert!(
            answer.starts_with("HTTP/1.1 502 ") && answer.contains(Reason::UpstreamProtocolError.code()),
            "{status}: {answer}"
        );
    }
}
