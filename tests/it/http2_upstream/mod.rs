//! Backends that are spoken to in HTTP/2: what one caller does costs no other one its answer.

mod backend;
mod cookies;
mod frames;
mod informational;
mod lost;
mod resets;
mod room;
mod sequences;

use std::{future::Future, net::SocketAddr, time::Duration};

use bytes::Bytes;
use h2::{
    RecvStream, SendStream,
    client::{self, ResponseFuture, SendRequest},
};
use http::{Method, Request};
use tokio::net::TcpStream;

use crate::support::Gateway;

/// How long what has to come may take: far longer than it does on any machine.
const LONGEST: Duration = Duration::from_secs(60);

/// What comes in time.
async fn soon<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(LONGEST, what).await.expect("it comes in time")
}

/// Waits until something holds.
async fn until(what: impl Fn() -> bool) {
    soon(async {
        while !what() {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

/// A gateway before a backend that is spoken to in HTTP/2 without TLS.
async fn gateway_before(address: SocketAddr) -> Gateway {
    gateway_with(address, "").await
}

/// The same with more settings of the upstream.
async fn gateway_with(address: SocketAddr, more: &str) -> Gateway {
    Gateway::start(&format!(
        "upstreams: {{ backend: {{ servers: [\"http://{address}\"], protocol: http2{more} }} }}\nroutes:\n  - {{ name: open, match: {{ path: / }}, anonymous: true, upstream: backend }}\n"
    ))
    .await
}

/// A caller that speaks HTTP/2 and reads answers only when the test does.
struct Http2Caller(SendRequest<Bytes>);

impl Http2Caller {
    async fn connect(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).await.unwrap();
        let (sender, connection) =
            client::Builder::new().initial_connection_window_size(1 << 30).handshake(stream).await.unwrap();
        tokio::spawn(connection);
        Self(sender)
    }

    /// Sends the head of a request.
    async fn send(&mut self, request: Request<()>, last: bool) -> (ResponseFuture, SendStream<Bytes>) {
        self.0 = soon(self.0.clone().ready()).await.unwrap();
        self.0.send_request(request, last).unwrap()
    }

    async fn get(&mut self, path: &str) -> ResponseFuture {
        self.send(request(Method::GET, path), true).await.0
    }
}

fn request(method: Method, path: &str) -> Request<()> {
    Request::builder().method(method).uri(format!("http://api.contoso.example{path}")).body(()).unwrap()
}

/// The whole of an answer's body.
async fn read(mut body: RecvStream) -> Result<Vec<u8>, h2::Error> {
    let mut all = Vec::new();
    while let Some(data) = soon(body.data()).await {
        let data = data?;
        body.flow_control().release_capacity(data.len())?;
        all.extend_from_slice(&data);
    }
    Ok(all)
}
