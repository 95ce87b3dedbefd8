//! Tests of limits and deadlines: a client exceeds every one of them.

use std::time::{Duration, Instant};

use entrada::unstable::{connection::EventKind, listener::Limits};
use tokio::io::AsyncReadExt;

use crate::support::eventually;

use super::support::{Server, in_time, limits};

#[tokio::test]
async fn a_head_that_begins_must_end_in_time() {
    let server = Server::with(limits(), None);
    for beginning in ["G", "GET /hello HTTP/1.1\r\nHost: a\r\n", "PRI * HTTP/2.0\r\n"] {
        let mut client = server.connect().await;
        client.send(beginning).await;

        let answer = client.rest().await;

        assert!(answer.starts_with("HTTP/1.1 408 Request Timeout\r\n"), "{beginning:?}: {answer:?}");
    }
}

#[tokio::test]
async fn a_later_head_has_the_same_time() {
    let server = Server::with(limits(), None);
    let mut client = server.connect().await;
    client.send("GET /hello HTTP/1.1\r\n\r\n").await;
    client.until("hello").await;

    client.send("GET").await;

    assert!(client.rest().await.starts_with("HTTP/1.1 408 "));
}

#[tokio::test]
async fn a_connection_that_says_nothing_is_closed_without_a_word() {
    let server = Server::with(limits(), None);
    let mut client = server.connect().await;

    assert_eq!(client.rest().await, "");
    assert!(server.backend.arrivals().is_empty());
}

#[tokio::test]
async fn a_connection_may_rest_for_so_long_only() {
    let server = Server::with(Limits { idle_timeout: Duration::from_millis(300), ..Limits::default() }, None);
    let mut client = server.connect().await;
    client.send("GET /hello HTTP/1.1\r\n\r\n").await;
    client.until("hello").await;
    let rested = Instant::now();

    assert_eq!(client.rest().await, "");
    assert!(rested.elapsed() >= Duration::from_millis(250));
}

#[tokio::test]
async fn heads_have_a_size() {
    let server = Server::with(Limits { header_bytes: 1_024, ..Limits::default() }, None);
    for (request, status) in [
        (format!("GET /hello HTTP/1.1\r\nA: {}\r\n\r\n", "a".repeat(900)), "200 OK"),
        (format!("GET /hello HTTP/1.1\r\nA: {}\r\n\r\n", "a".repeat(1_024)), "431 Request Header Fields Too Large"),
        (format!("GET /hello HTTP/1.1\r\nA: {}", "a".repeat(20_000)), "431 Request Header Fields Too Large"),
        (format!("GET /{} HTTP/1.1\r\n\r\n", "a".repeat(600)), "414 URI Too Long"),
        (format!("GET /{}", "a".repeat(20_000)), "414 URI Too Long"),
        (format!("GET /hello HTTP/1.1\r\n{}\r\n", "a:b\r\n".repeat(100)), "200 OK"),
        (format!("GET /hello HTTP/1.1\r\n{}\r\n", "a:b\r\n".repeat(101)), "431 Request Header Fields Too Large"),
    ] {
        let answer = server.answer(&request).await;

        assert!(answer.starts_with(&format!("HTTP/1.1 {status}\r\n")), "{}: {answer:?}", &request[..30]);
    }
}

#[tokio::test]
async fn a_body_must_come_in_time() {
    let server = Server::with(Limits { body_timeout: Duration::from_millis(300), ..Limits::default() }, None);
    for request in [
        "POST /read HTTP/1.1\r\nContent-Length: 9\r\n\r\nabc",
        "POST /read HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n9\r\nabc",
    ] {
        let mut client = server.connect().await;
        client.send(request).await;

        let answer = client.rest().await;

        assert!(answer.starts_with("HTTP/1.1 408 ") && answer.contains("connection: close"), "{answer:?}");
    }
}

#[tokio::test]
async fn a_client_that_takes_nothing_is_given_up() {
    let server = Server::with(Limits { write_timeout: Duration::from_millis(300), ..Limits::default() }, None);
    let mut client = server.connect().await;
    client.send("GET /large HTTP/1.1\r\n\r\n").await;

    eventually("it is given up", async || server.backend.events() == [EventKind::ClientLeft]).await;

    let mut read = Vec::new();
    assert!(in_time(client.0.read_to_end(&mut read)).await.is_err(), "{} bytes look whole", read.len());
}

#[tokio::test]
async fn connections_are_counted() {
    let server = Server::with(Limits { connections: 2, ..Limits::default() }, None);
    let (mut first, mut second) = (server.connect().await, server.connect().await);
    for client in [&mut first, &mut second] {
        client.send("GET /never HTTP/1.1\r\n\r\n").await;
    }
    eventually("both have a request under way", async || server.backend.calls() == 2).await;

    let mut third = server.connect().await;

    assert_eq!(third.rest().await, "HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
    assert_eq!(server.backend.events(), [EventKind::ConnectionRefused]);
    drop(first);
    eventually("one is open", async || server.listener.connections() == 1).await;
    assert!(server.answer("GET /hello HTTP/1.1\r\n\r\n").await.ends_with("hello"));
    drop(second);
}
