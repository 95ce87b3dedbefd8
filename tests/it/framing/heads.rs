//! Tests of heads: the accepted ones, and the responses to others.

use super::support::Server;

#[tokio::test]
async fn a_head_that_is_no_request_is_answered_and_closed() {
    let server = Server::start();
    for (name, bytes, code) in [
        ("bare LF", "GET /hello HTTP/1.1\nHost: a\n\n", "request-framing-invalid"),
        ("bare LF after a CRLF line", "GET /hello HTTP/1.1\r\nHost: a\n\r\n", "request-framing-invalid"),
        ("bare CR", "GET /hello HTTP/1.1\r\nHost: a\rb\r\n\r\n", "request-framing-invalid"),
        ("obs-fold", "GET /hello HTTP/1.1\r\nHost: a\r\n b\r\n\r\n", "request-framing-invalid"),
        ("space before the colon", "GET /hello HTTP/1.1\r\nHost : a\r\n\r\n", "request-header-invalid"),
        ("NUL", "GET /hello HTTP/1.1\r\nHost: a\0\r\n\r\n", "request-header-invalid"),
        ("fragment", "GET /hello#x HTTP/1.1\r\nHost: a\r\n\r\n", "request-target-invalid"),
        ("other version", "GET /hello HTTP/1.x\r\nHost: a\r\n\r\n", "request-framing-invalid"),
        ("TLS on a plain port", "\x16\x03\x01\x01\x02\x01", "request-framing-invalid"),
        (
            "both framings",
            "POST /read HTTP/1.1\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n",
            "request-framing-invalid",
        ),
        ("two lengths", "POST /read HTTP/1.1\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabc", "request-framing-invalid"),
        ("half a preface", "PRI * HTTP/2.0\r\n\r\nGET / HTTP/1.1\r\n\r\n", "http-version-not-supported"),
        ("another expectation", "POST /read HTTP/1.1\r\nExpect: x\r\nContent-Length: 3\r\n\r\nabc", "expectation-failed"),
    ] {
        // What follows must never be read as a request.
        let answer = server.answer(format!("{bytes}GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n")).await;

        let status = match code {
            "http-version-not-supported" => "505 HTTP Version Not Supported",
            "expectation-failed" => "417 Expectation Failed",
            _ => "400 Bad Request",
        };
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}\r\n")), "{name}: {answer:?}");
        assert!(answer.contains("connection: close\r\n") && answer.ends_with(&format!("\r\n\r\n{code}")), "{name}: {answer:?}");
    }
    assert!(server.backend.arrivals().iter().all(|arrival| !arrival.contains('/')), "{:?}", server.backend.arrivals());
}

#[tokio::test]
async fn a_head_may_come_in_any_pieces() {
    let server = Server::start();
    let bytes = b"POST /read HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n";
    let mut client = server.connect().await;
    client.0.set_nodelay(true).unwrap();

    for byte in bytes {
        client.send([*byte]).await;
        tokio::task::yield_now().await;
    }

    assert_eq!(client.until("3 bytes").await, "HTTP/1.1 200 OK\r\ncontent-length: 7\r\n\r\n3 bytes");
}

#[tokio::test]
async fn requests_follow_one_another() {
    let server = Server::start();
    let mut client = server.connect().await;

    for _ in 0..3 {
        client.send("GET /hello HTTP/1.1\r\nHost: a\r\n\r\n").await;

        assert_eq!(client.until("hello").await, "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello");
    }
}

#[tokio::test]
async fn requests_sent_ahead_are_answered_in_order() {
    let server = Server::start();

    let answer = server
        .answer(concat!(
            "POST /read HTTP/1.1\r\nContent-Length: 3\r\n\r\nabc",
            "GET /hello HTTP/1.1\r\n\r\n",
            "POST /read HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n0\r\n\r\n",
            "GET /empty HTTP/1.1\r\nConnection: close\r\n\r\n",
            "GET /hello HTTP/1.1\r\n\r\n",
        ))
        .await;

    assert_eq!(
        answer,
        concat!(
            "HTTP/1.1 200 OK\r\ncontent-length: 7\r\n\r\n3 bytes",
            "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello",
            "HTTP/1.1 200 OK\r\ncontent-length: 7\r\n\r\n2 bytes",
            "HTTP/1.1 204 No Content\r\nconnection: close\r\n\r\n",
        )
    );
}

#[tokio::test]
async fn answers_fit_the_request_that_they_are_for() {
    let server = Server::start();
    for (request, expected) in [
        ("HEAD /hello HTTP/1.1\r\n\r\n", "HTTP/1.1 200 OK\r\n\r\n"),
        ("HEAD /short HTTP/1.1\r\n\r\n", "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n"),
        ("GET /empty HTTP/1.1\r\n\r\n", "HTTP/1.1 204 No Content\r\n\r\n"),
        ("GET /hello HTTP/1.0\r\n\r\n", "HTTP/1.1 200 OK\r\ncontent-length: 5\r\nconnection: close\r\n\r\nhello"),
        (
            "GET /hello HTTP/1.0\r\nConnection: keep-alive\r\n\r\n",
            "HTTP/1.1 200 OK\r\ncontent-length: 5\r\nconnection: keep-alive\r\n\r\nhello",
        ),
        ("GET /parts HTTP/1.0\r\nConnection: keep-alive\r\n\r\n", "HTTP/1.1 200 OK\r\nconnection: close\r\n\r\nabc"),
        (
            "GET /switch HTTP/1.1\r\n\r\n",
            "HTTP/1.1 500 Internal Server Error\r\ncontent-length: 0\r\nconnection: close\r\n\r\n[reset]",
        ),
    ] {
        let answer = server.answer(request).await;

        assert_eq!(answer.replace("[reset]", ""), expected.replace("[reset]", ""), "{request}");
    }
}

#[tokio::test]
async fn parts_leave_as_chunks() {
    let server = Server::start();

    let answer = server.answer("GET /parts HTTP/1.1\r\n\r\n").await;

    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert_eq!(head, "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked");
    assert_eq!(body, "1\r\na\r\n2\r\nbc\r\n0\r\n\r\n");
}

#[tokio::test]
async fn fields_arrive_as_they_were_sent() {
    let server = Server::start();

    let answer = server.answer("GET /headers?a=%2F HTTP/1.1\r\nHost: a\r\nX-B:\t 1 \r\nx-b: 2\r\nX-C:\r\n\r\n").await;

    assert!(answer.ends_with("\r\n\r\nhost=a;x-b=1;x-b=2;x-c=;"), "{answer}");
    assert_eq!(server.backend.arrivals(), ["GET /headers?a=%2F"]);
    let connection = server.backend.connections().remove(0);
    assert_eq!((&*connection.listener.name, connection.local), ("public", server.address));
    assert!(connection.peer.ip().is_loopback() && connection.tls.is_none());
}
