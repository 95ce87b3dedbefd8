//! Tests of the drain: requests are finished, idle connections closed, endless requests aborted.

use std::time::Duration;

use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt, Empty};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::{io::AsyncReadExt, net::TcpStream};

use crate::support::eventually;

use super::support::{Server, in_time};

const LONG: Duration = Duration::from_secs(15);

#[tokio::test]
async fn a_request_under_way_is_finished() {
    let server = Server::start();
    let mut client = server.connect().await;
    client.send("POST /read HTTP/1.1\r\nContent-Length: 3\r\n\r\na").await;
    let mut resting = server.connect().await;
    resting.send("GET /hello HTTP/1.1\r\n\r\n").await;
    resting.until("hello").await;
    eventually("the call begins", async || server.backend.calls() == 1).await;

    server.drainer.drain(LONG);

    assert_eq!(resting.rest().await, "");
    client.send("bc").await;
    assert_eq!(client.rest().await, "HTTP/1.1 200 OK\r\ncontent-length: 7\r\nconnection: close\r\n\r\n3 bytes");
    in_time(server.task).await.unwrap().unwrap();
    assert!(TcpStream::connect(server.address).await.is_err());
}

#[tokio::test]
async fn a_connection_that_waits_to_be_accepted_is_served() {
    let server = Server::start();
    let waiting = std::net::TcpStream::connect(server.address).unwrap();
    server.drainer.drain(LONG);

    waiting.set_nonblocking(true).unwrap();
    let mut client = super::support::Client(TcpStream::from_std(waiting).unwrap());
    client.send("GET /hello HTTP/1.1\r\n\r\n").await;

    assert!(client.rest().await.ends_with("connection: close\r\n\r\nhello"));
    in_time(server.task).await.unwrap().unwrap();
}

#[tokio::test]
async fn what_does_not_end_is_ended() {
    let server = Server::start();
    let mut client = server.connect().await;
    client.send("GET /never HTTP/1.1\r\n\r\n").await;
    let mut tunnel = server.connect().await;
    tunnel.send("GET /upgrade HTTP/1.1\r\nConnection: upgrade\r\nUpgrade: echo\r\n\r\n").await;
    tunnel.until("connection: upgrade\r\n\r\n").await;
    eventually("the call is under way", async || server.backend.calls() == 1).await;

    server.drainer.drain(Duration::from_millis(200));

    in_time(server.task).await.unwrap().unwrap();
    assert_eq!(server.backend.calls(), 0);
    let mut read = Vec::new();
    let _ = in_time(client.0.read_to_end(&mut read)).await;
    assert!(read.is_empty());
    let _ = in_time(tunnel.0.read_to_end(&mut read)).await;
}

#[tokio::test]
async fn an_http2_connection_is_told_and_finished() {
    let server = Server::start();
    let io = TokioIo::new(server.connect().await.0);
    let (mut sender, connection) = hyper::client::conn::http2::handshake(TokioExecutor::new(), io).await.unwrap();
    let connection = tokio::spawn(connection);
    let request = |path| Request::get(format!("http://api.contoso.example{path}")).body(Empty::<Bytes>::new()).unwrap();
    let answer = in_time(sender.send_request(request("/parts"))).await.unwrap();

    server.drainer.drain(LONG);

    assert_eq!(in_time(answer.into_body().collect()).await.unwrap().to_bytes(), "abc");
    in_time(connection).await.unwrap().unwrap();
    in_time(server.task).await.unwrap().unwrap();
    assert!(sender.send_request(request("/hello")).await.is_err());
}
