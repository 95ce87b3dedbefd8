//! Tests of informational responses, and of bodies that a client sends on demand.

use std::future::poll_fn;

use bytes::Bytes;
use http::{Request, StatusCode};
use tokio::net::TcpStream;

use super::raw::{FIRST_WINDOW, HEADERS, Raw, block, frame, in_time};
use crate::framing::support::{Client, Server};

#[tokio::test]
async fn informational_answers_come_before_the_final_one() {
    let server = Server::start();

    let text = server.answer("GET /hints HTTP/1.1\r\nHost: a\r\n\r\n").await;
    let hints = "HTTP/1.1 103 Early Hints\r\nlink: </a.css>\r\n\r\n";
    assert!(text.starts_with(&format!("HTTP/1.1 102 Processing\r\n\r\n{hints}{hints}HTTP/1.1 200 OK\r\n")), "{text}");
    let old = server.answer("GET /hints HTTP/1.0\r\n\r\n").await;
    assert!(old.starts_with("HTTP/1.1 200 OK\r\n"), "{old}");

    let (mut client, connection) = h2::client::handshake(server.connect().await.0).await.unwrap();
    tokio::spawn(connection);
    let (mut answer, _) = client.send_request(Request::get("http://a/hints").body(()).unwrap(), true).unwrap();
    let mut seen = Vec::new();
    while let Some(interim) = in_time(poll_fn(|cx| answer.poll_informational(cx))).await {
        let interim = interim.unwrap();
        assert!(!interim.headers().contains_key("connection") && !interim.headers().contains_key("content-length"));
        seen.push((interim.status().as_u16(), interim.headers().contains_key("link")));
    }
    assert_eq!(seen, [(102, false), (103, true), (103, true)]);
    assert_eq!(in_time(answer).await.unwrap().status(), StatusCode::OK);
}

#[tokio::test]
async fn a_body_is_asked_for_when_somebody_reads_it() {
    for (path, continues) in [("/read", true), ("/refuse", false)] {
        let server = Server::start();
        let (mut client, connection) = h2::client::handshake(server.connect().await.0).await.unwrap();
        tokio::spawn(connection);
        let request = Request::post(format!("http://a{path}")).header("expect", "100-continue").body(()).unwrap();
        let (mut answer, mut body) = client.send_request(request, false).unwrap();

        let interim = in_time(poll_fn(|cx| answer.poll_informational(cx))).await;

        assert_eq!(interim.map(|interim| interim.unwrap().status().as_u16()), continues.then_some(100), "{path}");
        if continues {
            body.send_data(Bytes::from_static(b"abc"), true).unwrap();
        }
        let expected = if continues { StatusCode::OK } else { StatusCode::UNAUTHORIZED };
        assert_eq!(in_time(answer).await.unwrap().status(), expected, "{path}");
    }
}

#[tokio::test]
async fn a_body_that_comes_unasked_is_not_asked_for() {
    let server = Server::start();
    let mut client = Raw::open(server.address, FIRST_WINDOW).await;
    let post =
        block(&[(":method", "POST"), (":scheme", "http"), (":authority", "a"), (":path", "/read"), ("expect", "100-continue")]);
    client.send(&[frame(HEADERS, 4, 1, &post), frame(0, 1, 1, b"abc")].concat()).await;

    let head = client.until(|frame| frame.kind == HEADERS).await;

    assert_eq!(head.payload[0], 0x88, "`:status: 200`");
}

#[tokio::test]
async fn a_client_that_takes_no_informational_answers_does_not_grow() {
    let server = Server::start();
    let socket = TcpStream::connect(server.address).await.unwrap();
    let mut client = Client(socket);

    client.send("GET /many-hints HTTP/1.1\r\nHost: a\r\n\r\n").await;
    let text = client.until("done").await;

    let hints = text.matches("HTTP/1.1 103").count();
    assert!((1..2_000).contains(&hints), "{hints} were kept");
}
