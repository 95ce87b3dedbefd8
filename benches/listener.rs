//! Benchmarks of the listener in comparison with hyper's HTTP/1 server: CPU time of a request and memory of an idle connection.
//!
//! Both answer the same requests over loopback with the same trivial service, each on its own thread, in turns. Figures are the
//! least of several rounds; compare ratios, not days. `cargo bench --bench listener`.

use std::{
    convert::Infallible,
    fs,
    future::Future,
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    sync::{Arc, mpsc},
    thread,
    time::Duration,
};

use bytes::Bytes;
use entrada::unstable::{
    base::response::Response as Answer,
    connection::ConnectionEvent,
    listener::{Arrival, Connection, Drainer, Limits, Listener, ListenerSettings, RequestBody, Service, bind, serve},
};
use http::{HeaderValue, Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};

const CONNECTIONS: usize = 64;
const ROUNDS: usize = 7;
const REQUESTS: usize = 40_000;
const IDLE: usize = 2_000;

#[derive(Clone)]
struct Trivial(Bytes);

impl Trivial {
    fn answer(self) -> Response<Full<Bytes>> {
        let mut answer = Response::new(Full::new(self.0));
        answer.headers_mut().insert("content-type", HeaderValue::from_static("application/octet-stream"));
        answer
    }
}

impl Service for Trivial {
    type Body = Full<Bytes>;

    fn call(&self, arrival: Arrival, _: &Arc<Connection>) -> impl Future<Output = Answer<Full<Bytes>>> + Send {
        let service = self.clone();
        async move {
            if let Arrival::Request(request) = arrival {
                read(Request::from(*request)).await;
            }
            service.answer().into()
        }
    }

    fn event(&self, _: ConnectionEvent) {}
}

async fn read(request: Request<RequestBody>) {
    let _ = request.into_body().collect().await;
}

/// A server on a thread of its own.
struct Server {
    address: SocketAddr,
    /// The file with the thread's CPU time.
    time: String,
}

impl Server {
    fn start<F: Future<Output = ()>>(run: impl FnOnce(std::net::TcpListener) -> F + Send + 'static) -> Self {
        let socket = bind(([127, 0, 0, 1], 0).into(), 1).expect("loopback can be bound").remove(0);
        let address = socket.local_addr().expect("it is bound");
        let (sender, receiver) = mpsc::channel();
        thread::spawn(move || {
            let task = fs::read_link("/proc/thread-self").expect("this is Linux");
            let _ = sender.send(format!("/proc/{}/schedstat", task.display()));
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime starts");
            runtime.block_on(run(socket));
        });
        Self { address, time: receiver.recv().expect("the thread says where it is") }
    }

    fn ours(service: Trivial) -> Self {
        Self::start(move |socket| async move {
            let limits = Limits { connections: 2 * IDLE, connections_per_peer: 2 * IDLE, ..Limits::default() };
            let listener = Listener::new("bench", ListenerSettings::plain(limits));
            let (_drainer, drain) = Drainer::new();
            let _ = serve(socket, listener, service, drain).await;
        })
    }

    fn hyper(service: Trivial) -> Self {
        Self::start(move |socket| async move {
            let socket = tokio::net::TcpListener::from_std(socket).expect("the socket is sound");
            while let Ok((tcp, _)) = socket.accept().await {
                let service = service.clone();
                let _ = tcp.set_nodelay(true);
                tokio::spawn(async move {
                    let answer = service_fn(move |request: Request<Incoming>| {
                        let service = service.clone();
                        async move {
                            let _ = request.into_body().collect().await;
                            Ok::<_, Infallible>(service.answer())
                        }
                    });
                    let mut builder = http1::Builder::new();
                    builder.timer(TokioTimer::new()).header_read_timeout(Duration::from_secs(10));
                    let _ = builder.serve_connection(TokioIo::new(tcp), answer).with_upgrades().await;
                });
            }
        })
    }

    fn cpu(&self) -> u64 {
        let text = fs::read_to_string(&self.time).expect("the thread lives");
        text.split(' ').next().and_then(|word| word.parse().ok()).expect("the kernel counts nanoseconds")
    }

    /// Returns the nanoseconds of the server's CPU time for a request.
    fn request(&self, request: &[u8], answer: usize) -> u64 {
        let mut clients: Vec<_> = (0..CONNECTIONS).map(|_| connect(self.address)).collect();
        let mut buffer = vec![0; 64 << 10];
        let before = self.cpu();
        for _ in 0..REQUESTS / CONNECTIONS {
            for client in &mut clients {
                client.write_all(request).expect("the server reads");
            }
            for client in &mut clients {
                let mut read = 0;
                while read < answer {
                    read += client.read(&mut buffer).expect("the server answers");
                }
            }
        }
        (self.cpu() - before) / (REQUESTS / CONNECTIONS * CONNECTIONS) as u64
    }

    /// Returns the bytes of memory for a connection that has had a request and is idle.
    fn idle(&self, request: &[u8]) -> u64 {
        let mut buffer = vec![0; 64 << 10];
        let before = resident();
        let clients: Vec<_> = (0..IDLE)
            .map(|_| {
                let mut client = connect(self.address);
                client.write_all(request).expect("the server reads");
                let _ = client.read(&mut buffer).expect("the server answers");
                client
            })
            .collect();
        let after = resident();
        drop(clients);
        after.saturating_sub(before) / IDLE as u64
    }
}

fn connect(address: SocketAddr) -> TcpStream {
    let client = TcpStream::connect(address).expect("the server listens");
    client.set_nodelay(true).expect("the socket is sound");
    client
}

/// Returns the anonymous memory of this process.
fn resident() -> u64 {
    let text = fs::read_to_string("/proc/self/status").expect("this is Linux");
    let line = text.lines().find(|line| line.starts_with("RssAnon:")).expect("the kernel counts");
    line.split_whitespace().nth(1).and_then(|word| word.parse::<u64>().ok()).expect("it is a number") * 1_024
}

/// Returns the length of a response, head and body.
fn length(address: SocketAddr, request: &[u8]) -> usize {
    let mut client = connect(address);
    client.set_read_timeout(Some(Duration::from_millis(200))).expect("the socket is sound");
    client.write_all(request).expect("the server reads");
    let (mut buffer, mut read) = (vec![0; 64 << 10], 0);
    while let Ok(count @ 1..) = client.read(&mut buffer) {
        read += count;
    }
    read
}

fn main() {
    // `cargo test --benches` wants to know that it runs, not how fast.
    if !std::env::args().any(|argument| argument == "--bench") {
        return;
    }
    let service = Trivial(Bytes::from(vec![b'x'; 1_024]));
    let fields = [
        ("Host", "api.contoso.example"),
        ("User-Agent", "bench/1.0"),
        ("Accept", "application/json"),
        ("Accept-Encoding", "gzip, deflate, br"),
        ("X-Correlation-Id", "6fd0cf2c-6c4c-4c0c-9c39-8f9a7e1b2d3c"),
    ]
    .map(|(name, value)| format!("{name}: {value}\r\n"))
    .concat();
    let token = format!("Authorization: Bearer {}\r\n", "a".repeat(640));
    let get = format!("GET /orders/42?expand=lines HTTP/1.1\r\n{fields}{token}\r\n");
    let post = format!("POST /orders HTTP/1.1\r\n{fields}{token}Content-Length: 200\r\n\r\n{}", "x".repeat(200));
    let chunked = format!(
        "POST /orders HTTP/1.1\r\n{fields}{token}Transfer-Encoding: chunked\r\n\r\nc8\r\n{}\r\n0\r\n\r\n",
        "x".repeat(200)
    );

    // Memory first, while the allocator has nothing to give again.
    let only = std::env::args().nth(1).filter(|argument| argument != "--bench");
    let ours = Server::ours(service.clone());
    let own = ours.idle(get.as_bytes());
    let hyper = Server::hyper(service);
    let other = hyper.idle(get.as_bytes());
    println!("idle connection: {own} B, hyper {other} B, ratio {:.2}", own as f64 / other as f64);

    for (name, request) in [("GET, 840 bytes", &get), ("POST, 200 bytes", &post), ("POST, one chunk", &chunked)] {
        if only.as_ref().is_some_and(|only| !name.contains(only.as_str())) {
            continue;
        }
        let request = request.as_bytes();
        let (own_length, other_length) = (length(ours.address, request), length(hyper.address, request));
        let (mut own, mut other) = (u64::MAX, u64::MAX);
        for _ in 0..ROUNDS {
            own = own.min(ours.request(request, own_length));
            other = other.min(hyper.request(request, other_length));
        }
        println!("{name}: {own} ns, hyper {other} ns, ratio {:.2}", own as f64 / other as f64);
    }
}
