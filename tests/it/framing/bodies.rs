//! Tests of bodies in both directions: their ends, and the treatment of those without an end.

use std::time::Duration;

use entrada::unstable::{connection::EventKind, listener::Limits};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::support::eventually;

use super::support::{Server, in_time};

#[tokio::test]
async fn bodies_are_read_to_their_end() {
    let server = Server::start();
    for (name, head, body, expected) in [
        ("length", "Content-Length: 3", "abc", "3 bytes"),
        ("no body", "Content-Length: 0", "", "0 bytes"),
        ("chunks", "Transfer-Encoding: chunked", "1\r\na\r\n2\r\nbc\r\n0\r\n\r\n", "3 bytes"),
        ("upper case", "transfer-encoding: CHUNKED", "A\r\n0123456789\r\n0\r\n\r\n", "10 bytes"),
        ("trailers", "Transfer-Encoding: chunked", "1\r\na\r\n0\r\nx-remote-user: evil\r\n\r\n", "1 bytes"),
        ("chunk extension", "Transfer-Encoding: chunked", "1;a=b\r\na\r\n0\r\n\r\n", "1 bytes"),
        ("chunk extension of LF", "Transfer-Encoding: chunked", "1;a\na\r\n0\r\n\r\n", "request-framing-invalid"),
        ("chunk size of LF", "Transfer-Encoding: chunked", "1\na\r\n0\r\n\r\n", "request-framing-invalid"),
        ("chunk too long", "Transfer-Encoding: chunked", "1\r\nab\r\n0\r\n\r\n", "request-framing-invalid"),
        ("chunk without its CRLF", "Transfer-Encoding: chunked", "1\r\na0\r\n\r\n", "request-framing-invalid"),
        ("malformed trailer", "Transfer-Encoding: chunked", "0\r\nx y: z\r\n\r\n", "request-framing-invalid"),
    ] {
        let answer = server.answer(format!("POST /read HTTP/1.1\r\n{head}\r\n\r\n{body}GET /hello HTTP/1.1\r\n\r\n")).await;

        let refused = expected.starts_with("request");
        assert!(answer.contains(&format!("\r\n\r\n{expected}")), "{name}: {answer:?}");
        // Behind a body whose end is in doubt nothing is a request.
        assert_eq!(answer.ends_with("\r\n\r\nhello"), !refused, "{name}: {answer:?}");
    }
}

#[tokio::test]
async fn a_body_that_is_cut_off_is_not_whole() {
    let server = Server::start();
    for (head, body) in [
        ("Content-Length: 10", "abc"),
        ("Transfer-Encoding: chunked", "5\r\nabc"),
        ("Transfer-Encoding: chunked", "3\r\nabc\r\n"),
        ("Transfer-Encoding: chunked", "3\r\nabc\r\n0\r\n"),
    ] {
        let answer = server.answer(format!("POST /read HTTP/1.1\r\n{head}\r\n\r\n{body}")).await;

        assert!(answer.starts_with("HTTP/1.1 400 "), "{body:?}: {answer:?}");
    }
}

#[tokio::test]
async fn the_same_limit_holds_for_every_framing() {
    let server = Server::with(Limits { body_bytes: 10, ..Limits::default() }, None);
    for (head, body, expected) in [
        ("Content-Length: 10", "0123456789", "10 bytes"),
        ("Content-Length: 11", "0123456789a", "body-too-large"),
        ("Transfer-Encoding: chunked", "A\r\n0123456789\r\n0\r\n\r\n", "10 bytes"),
        ("Transfer-Encoding: chunked", "B\r\n0123456789a\r\n0\r\n\r\n", "body-too-large"),
        ("Transfer-Encoding: chunked", "9\r\n012345678\r\n2\r\n9a\r\n0\r\n\r\n", "body-too-large"),
    ] {
        let answer = server.answer(format!("POST /read HTTP/1.1\r\n{head}\r\n\r\n{body}")).await;

        assert!(answer.ends_with(expected), "{body}: {answer:?}");
    }
}

#[tokio::test]
async fn a_client_that_waits_is_told_to_continue() {
    let server = Server::start();
    let mut client = server.connect().await;
    client.send("POST /read HTTP/1.1\r\nContent-Length: 3\r\nExpect: 100-Continue\r\n\r\n").await;

    assert_eq!(client.until("\r\n\r\n").await, "HTTP/1.1 100 Continue\r\n\r\n");
    client.send("abcGET /hello HTTP/1.1\r\n\r\n").await;
    assert!(client.until("hello").await.contains("3 bytes"));
}

#[tokio::test]
async fn a_client_that_waits_may_be_refused() {
    let server = Server::start();
    let mut client = server.connect().await;
    client.send("POST /refuse HTTP/1.1\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\n").await;

    // Whether the body comes after all cannot be known, so nothing may follow.
    assert_eq!(client.rest().await, "HTTP/1.1 401 Unauthorized\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
}

#[tokio::test]
async fn a_body_that_comes_unasked_needs_no_continue() {
    let server = Server::start();

    let answer = server.answer("POST /read HTTP/1.1\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\nabc").await;

    assert_eq!(answer, "HTTP/1.1 200 OK\r\ncontent-length: 7\r\n\r\n3 bytes");
}

#[tokio::test]
async fn an_early_answer_is_seen_by_a_client_that_still_sends() {
    let server = Server::start();
    let body = vec![b'x'; 5 << 20];
    for _ in 0..20 {
        let mut client = server.connect().await;
        client.send(format!("POST /refuse HTTP/1.1\r\nContent-Length: {}\r\n\r\n", body.len())).await;

        in_time(client.0.write_all(&body)).await.unwrap();

        assert!(client.rest().await.starts_with("HTTP/1.1 401 Unauthorized\r\n"));
    }
}

#[tokio::test]
async fn a_small_body_that_nobody_read_does_not_cost_the_connection() {
    let server = Server::start();
    for body in ["Content-Length: 3\r\n\r\nabc", "Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"] {
        let answer = server.answer(format!("POST /refuse HTTP/1.1\r\n{body}GET /hello HTTP/1.1\r\n\r\n")).await;

        assert!(answer.starts_with("HTTP/1.1 401 ") && answer.ends_with("hello"), "{answer:?}");
    }
}

#[tokio::test]
async fn a_torn_answer_is_delivered_as_far_as_it_goes_and_never_looks_whole() {
    let server = Server::start();
    for (target, version, end) in [
        ("/torn", "1.1", "transfer-encoding: chunked\r\n\r\n1\r\na\r\n"),
        ("/short", "1.1", "content-length: 5\r\n\r\nabc"),
        ("/short", "1.0", "content-length: 5\r\nconnection: close\r\n\r\nabc"),
        // Where the connection's end is the body's, a reset alone tells.
        ("/torn", "1.0", "connection: close\r\n\r\na[reset]"),
    ] {
        let mut client = server.connect().await;
        client.send(format!("GET {target} HTTP/{version}\r\n\r\n")).await;

        let answer = client.rest().await;

        assert!(answer.ends_with(end), "{target} {version}: {answer:?}");
    }
    assert_eq!(server.backend.events(), [EventKind::AnswerAborted; 4]);
}

#[tokio::test]
async fn both_directions_flow_at_once() {
    let server = Server::start();
    let client = server.connect().await;
    let (mut read, mut write) = client.0.into_split();
    let sent: Vec<u8> = (0..3_000_000_u32).map(|number| (number % 251) as u8).collect();
    let expected = sent.clone();

    let writer = tokio::spawn(async move {
        write
            .write_all(format!("POST /echo HTTP/1.1\r\nConnection: close\r\nContent-Length: {}\r\n\r\n", sent.len()).as_bytes())
            .await
            .unwrap();
        write.write_all(&sent).await.unwrap();
        write
    });
    let mut answer = Vec::new();
    in_time(read.read_to_end(&mut answer)).await.unwrap();

    writer.await.unwrap();
    assert!(answer.ends_with(&expected));
}

#[tokio::test]
async fn a_call_is_dropped_when_its_client_leaves() {
    let server = Server::start();
    for request in ["GET /never HTTP/1.1\r\n\r\n", "POST /never HTTP/1.1\r\nContent-Length: 0\r\n\r\n"] {
        let mut client = server.connect().await;
        client.send(request).await;
        eventually("the call begins", async || server.backend.calls() == 1).await;

        socket2::SockRef::from(&client.0).set_linger(Some(Duration::ZERO)).unwrap();
        drop(client);

        eventually("the call ends", async || server.backend.calls() == 0).await;
    }
    eventually("two events", async || server.backend.events() == [EventKind::ClientLeft; 2]).await;
}

#[tokio::test]
async fn a_connection_switches_protocols_after_101() {
    let server = Server::start();
    let mut client = server.connect().await;
    client.send("GET /upgrade HTTP/1.1\r\nConnection: upgrade\r\nUpgrade: echo\r\n\r\nearly").await;

    assert_eq!(
        client.until("early").await,
        "HTTP/1.1 101 Switching Protocols\r\nupgrade: echo\r\nconnection: upgrade\r\n\r\nearly"
    );
    client.send("GET / HTTP/1.1\r\n\r\n").await;
    assert_eq!(client.until("\r\n\r\n").await, "GET / HTTP/1.1\r\n\r\n");
    assert_eq!(server.listener.connections(), 1);
    drop(client);
    eventually("the connection is counted off", async || server.listener.connections() == 0).await;
}

#[tokio::test]
async fn an_upgrade_needs_to_be_asked_for() {
    let server = Server::start();
    for (name, request) in [
        ("no connection option", "GET /upgrade HTTP/1.1\r\nUpgrade: echo\r\n\r\n"),
        ("no protocol", "GET /upgrade HTTP/1.1\r\nConnection: upgrade\r\n\r\n"),
        ("1.0", "GET /upgrade HTTP/1.0\r\nConnection: upgrade\r\nUpgrade: echo\r\n\r\n"),
        ("a body", "POST /upgrade HTTP/1.1\r\nConnection: upgrade\r\nUpgrade: echo\r\nContent-Length: 1\r\n\r\na"),
    ] {
        assert!(server.answer(request).await.starts_with("HTTP/1.1 403 "), "{name}");
    }
}
