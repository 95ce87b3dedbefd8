//! Tests that informational responses of a backend reach the caller before the final one.

use http::HeaderValue;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

use super::{
    frames::{self, HEAD, HEADERS},
    gateway_before, soon,
};
use crate::support::{Gateway, RawConnection};

const REQUEST: &[u8] = b"GET /page HTTP/1.1\r\nHost: api.contoso.example\r\nConnection: close\r\n\r\n";

/// Starts an HTTP/1.1 backend that answers one request with these bytes.
async fn http1_backend(answer: &'static [u8]) -> String {
    let socket = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", socket.local_addr().unwrap());
    tokio::spawn(async move {
        let (mut stream, _) = socket.accept().await.unwrap();
        read_head(&mut stream).await;
        stream.write_all(answer).await.unwrap();
        std::future::pending::<()>().await;
    });
    url
}

async fn read_head(stream: &mut TcpStream) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.unwrap());
    }
}

async fn answer_of(url: &str, outbound: &str, request: &[u8]) -> String {
    let config = format!(
        "upstreams: {{ backend: {{ servers: [\"{url}\"], timeouts: {{ response: 2s }} }} }}\nroutes:\n  - {{ name: open, match: {{ path: / }}, anonymous: true, upstream: backend{outbound} }}\n"
    );
    let gateway = Gateway::start(&config).await;
    let mut caller = RawConnection::open(gateway.address()).await;
    caller.send(request).await;
    soon(caller.read_to_end()).await.to_ascii_lowercase()
}

#[tokio::test]
async fn early_hints_of_an_http1_backend_reach_the_caller_without_what_concerns_a_connection() {
    let url = http1_backend(
        b"HTTP/1.1 102 Processing\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </a.css>; rel=preload\r\nConnection: x-hop\r\nX-Hop: 1\r\n\
          Keep-Alive: 5\r\nX-Internal: 1\r\nX-Request-Id: theirs\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
    )
    .await;

    let answer = answer_of(&url, ", outbound: [ { set-header: { name: x-internal, exists-action: delete } } ]", REQUEST).await;

    let mut heads = answer.split("\r\n\r\n");
    assert_eq!(heads.next(), Some("http/1.1 102 processing"), "{answer}");
    assert_eq!(heads.next(), Some("http/1.1 103 early hints\r\nlink: </a.css>; rel=preload"), "{answer}");
    assert!(heads.next().unwrap().starts_with("http/1.1 200 ok"), "{answer}");
}

#[tokio::test]
async fn early_hints_of_an_http2_backend_reach_the_caller() {
    let (address, _) = frames::backend(|_, mut connection| async move {
        let stream = connection.request().await.unwrap();
        // `:status: 103` and `link`, then the answer.
        connection.write(HEADERS, HEAD, stream, b"\x08\x03103\x00\x04link\x07</a.css").await;
        connection.write(HEADERS, HEAD, stream, b"\x08\x03103\x00\x04link\x07</b.css").await;
        connection.answer(stream).await;
        while connection.read().await.is_some() {}
    })
    .await;
    let gateway = gateway_before(address).await;
    let mut caller = RawConnection::open(gateway.address()).await;

    caller.send(REQUEST).await;
    let answer = soon(caller.read_to_end()).await;

    let expected =
        "HTTP/1.1 103 Early Hints\r\nlink: </a.css\r\n\r\nHTTP/1.1 103 Early Hints\r\nlink: </b.css\r\n\r\nHTTP/1.1 200 OK\r\n";
    assert!(answer.starts_with(expected), "{answer}");
}

#[tokio::test]
async fn a_100_that_nobody_asked_for_stays_behind() {
    let url = http1_backend(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await;

    let answer = answer_of(&url, "", REQUEST).await;

    assert!(answer.starts_with("http/1.1 200 ok"), "{answer}");
}

#[tokio::test]
async fn informational_answers_do_not_go_on_for_ever() {
    let mut many = Vec::new();
    for _ in 0..33 {
        many.extend_from_slice(b"HTTP/1.1 102 Processing\r\n\r\n");
    }
    many.extend_from_slice(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
    let url = http1_backend(many.leak()).await;
    let answer = answer_of(&url, "", REQUEST).await;
    assert!(answer.contains("http/1.1 502 bad gateway"), "{answer}");
    assert!(answer.matches("102 processing").count() <= 32, "{answer}");

    // And they are no answer.
    let url = http1_backend(b"HTTP/1.1 103 Early Hints\r\nLink: </a.css>\r\n\r\n").await;
    let answer = answer_of(&url, "", REQUEST).await;
    assert!(answer.contains("http/1.1 504 gateway timeout"), "{answer}");
}

#[tokio::test]
async fn a_change_of_protocol_over_http2_is_502() {
    let (address, _) = frames::backend(|_, mut connection| async move {
        while let Some(stream) = connection.request().await {
            connection.write(HEADERS, HEAD, stream, b"\x08\x03101").await;
        }
    })
    .await;
    let gateway = gateway_before(address).await;

    let answer = soon(gateway.get("/page").send()).await;

    assert_eq!(answer.status, 502);
    assert_eq!(answer.headers.get("upgrade"), None::<&HeaderValue>);
}
