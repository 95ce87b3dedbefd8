//! Tests of HTTP/2 backends: no caller can affect another one's responses.

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

/// A timeout far longer than anything takes on any machine.
const LONGEST: Duration = Duration::from_secs(60);

/// Awaits a future, with a timeout.
async fn soon<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(LONGEST, what).await.expect("it comes in time")
}

/// Waits until a condition is true.
async fn until(what: impl Fn() -> bool) {
    soon(async {
        while !what() {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

/// Starts a gateway in front of an HTTP/2 backend without TLS.
async fn gateway_before(address: SocketAddr) -> Gateway {
    gateway_with(address, "").await
}

/// Does the same with further settings of the upstream.
async fn gateway_with(address: SocketAddr, more: &str) -> Gateway {
    Gateway::start(&format!(
        "upstreams: {{ backend: {{ servers: [\"http://{address}\"], protocol: http2{more} }} }}\nroutes:\n  - {{ name: open, match: {{ path: / }}, anonymous: true, upstream: backend }}\n"
    ))
    .await
}

/// A caller that speaks HTTP/2 and reads responses only on demand.
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

/// Reads a whole response body.
async fn read(mut body: RecvStream) -> Result<Vec<u8>, h2::Error> {
    let mut all = Vec::new();
    while let Some(data) = soon(body.data()).await {
        let data = data?;
        body.flow_control().release_capacity(data.len())?;
        all.extend_from_slice(&data);
    }
    Ok(all)
}
