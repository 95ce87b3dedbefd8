//! A backend that answers in bytes, and records the bytes that it received.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::Semaphore,
};

/// One step of a response.
#[derive(Clone)]
pub(crate) enum Step {
    Send(Vec<u8>),
    /// Continues on demand: one permit per step.
    Wait(Arc<Semaphore>),
    Close,
    Reset,
}

impl Step {
    pub(crate) fn send(text: impl Into<Vec<u8>>) -> Self {
        Self::Send(text.into())
    }
}

/// A backend on loopback that answers every request with the same steps. Without an end the connection carries another request.
pub(crate) struct RawUpstream {
    address: SocketAddr,
    received: Arc<Mutex<Vec<String>>>,
}

impl RawUpstream {
    pub(crate) async fn answering(steps: Vec<Step>) -> Self {
        let socket = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = socket.local_addr().unwrap();
        let received = Arc::new(Mutex::new(Vec::new()));
        let all = received.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = socket.accept().await {
                tokio::spawn(serve(stream, steps.clone(), all.clone()));
            }
        });
        Self { address, received }
    }

    /// Returns a config with this backend and routes.
    pub(crate) fn config(&self, routes: &str) -> String {
        format!("upstreams: {{ backend: {{ servers: [\"http://{}\"] }} }}\nroutes:\n{routes}\n", self.address)
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Returns the requests so far, byte for byte, without the fields that the gateway makes anew for each.
    pub(crate) fn received(&self) -> Vec<String> {
        let made = ["x-request-id: ", "traceparent: ", "x-forwarded-for: ", "x-forwarded-proto: "];
        let kept = |line: &&str| !made.iter().any(|name| line.starts_with(name));
        let received = self.received.lock().unwrap();
        received.iter().map(|text| text.split_inclusive("\r\n").filter(kept).collect()).collect()
    }
}

async fn serve(mut stream: TcpStream, steps: Vec<Step>, all: Arc<Mutex<Vec<String>>>) {
    let _ = stream.set_nodelay(true);
    while let Some(request) = read(&mut stream).await {
        all.lock().unwrap().push(request);
        for step in &steps {
            match step {
                Step::Send(bytes) => {
                    if stream.write_all(bytes).await.is_err() {
                        return;
                    }
                }
                Step::Wait(signal) => signal.acquire().await.unwrap().forget(),
                Step::Close => return,
                Step::Reset => {
                    let _ = socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO));
                    return;
                }
            }
        }
    }
}

/// Reads one request with its body.
async fn read(stream: &mut TcpStream) -> Option<String> {
    let mut bytes = Vec::new();
    loop {
        let text = String::from_utf8_lossy(&bytes);
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length =
                head.lines().find_map(|line| line.strip_prefix("content-length: ")).map(|length| length.parse().unwrap());
            let whole = match length {
                Some(length) => body.len() >= length,
                None => !head.contains("transfer-encoding: chunked") || body.ends_with("0\r\n\r\n"),
            };
            if whole {
                return Some(text.into_owned());
            }
        }
        let mut part = [0; 4096];
        match stream.read(&mut part).await {
            Ok(count @ 1..) => bytes.extend_from_slice(&part[..count]),
            _ => return None,
        }
    }
}
