//! A backend that records the requests that it received.

use std::{
    convert::Infallible,
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response, Uri};
use http_body_util::{BodyExt, Full};
use hyper::{body::Incoming, service::service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpListener;

/// A request as the backend received it.
#[derive(Clone, Debug)]
pub(crate) struct Received {
    pub(crate) method: Method,
    pub(crate) uri: Uri,
    pub(crate) headers: HeaderMap,
    pub(crate) trailers: HeaderMap,
    pub(crate) body: Bytes,
    /// The number of its connection, from 1.
    pub(crate) connection: usize,
}

impl Received {
    /// Returns the values of a header field, in order.
    pub(crate) fn values(&self, name: &str) -> Vec<&str> {
        self.headers.get_all(name).iter().map(|value| value.to_str().unwrap()).collect()
    }

    /// Returns the single value of a header field.
    pub(crate) fn value(&self, name: &str) -> Option<&str> {
        let values = self.values(name);
        assert!(values.len() <= 1, "{name} came {} times", values.len());
        values.first().copied()
    }
}

type Answers = dyn Fn(&Received) -> Response<Full<Bytes>> + Send + Sync;

/// A backend on loopback, HTTP/1.1 and HTTP/2 without TLS.
pub(crate) struct Upstream {
    pub(crate) address: SocketAddr,
    received: Arc<Mutex<Vec<Received>>>,
    connections: Arc<Connections>,
}

#[derive(Default)]
struct Connections {
    made: AtomicUsize,
    ended: AtomicUsize,
}

impl Upstream {
    /// Starts a backend that answers 200 with a short body.
    pub(crate) async fn start() -> Self {
        Self::answering(|_| Response::new(Full::new(Bytes::from_static(b"from the backend")))).await
    }

    /// Starts a backend that answers with `answer`.
    pub(crate) async fn answering(answer: impl Fn(&Received) -> Response<Full<Bytes>> + Send + Sync + 'static) -> Self {
        let socket = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = socket.local_addr().unwrap();
        let received = Arc::new(Mutex::new(Vec::new()));
        let connections = Arc::<Connections>::default();
        let answer: Arc<Answers> = Arc::new(answer);
        tokio::spawn(accept(socket, received.clone(), connections.clone(), answer));
        Self { address, received, connections }
    }

    /// Returns the URL for a config.
    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Returns the number of requests.
    pub(crate) fn requests(&self) -> usize {
        self.received.lock().unwrap().len()
    }

    /// Returns the number of connections made.
    pub(crate) fn connections(&self) -> usize {
        self.connections.made.load(Ordering::Relaxed)
    }

    /// Returns the number of open connections.
    pub(crate) fn open_connections(&self) -> usize {
        self.connections() - self.connections.ended.load(Ordering::Relaxed)
    }

    /// Waits until this many connections are open.
    pub(crate) async fn until_open(&self, count: usize) {
        let begun = std::time::Instant::now();
        while self.open_connections() != count {
            let open = self.open_connections();
            assert!(begun.elapsed() < std::time::Duration::from_secs(60), "{open} connections are open, and not {count}");
            tokio::task::yield_now().await;
        }
    }

    /// Returns all requests so far.
    pub(crate) fn all(&self) -> Vec<Received> {
        self.received.lock().unwrap().clone()
    }

    /// Returns the last request.
    pub(crate) fn last(&self) -> Received {
        self.received.lock().unwrap().last().expect("the upstream received nothing").clone()
    }
}

async fn accept(socket: TcpListener, received: Arc<Mutex<Vec<Received>>>, connections: Arc<Connections>, answer: Arc<Answers>) {
    loop {
        let Ok((stream, _)) = socket.accept().await else { return };
        let connection = connections.made.fetch_add(1, Ordering::Relaxed) + 1;
        let (received, answer, connections) = (received.clone(), answer.clone(), connections.clone());
        tokio::spawn(async move {
            let service = service_fn(move |request: Request<Incoming>| {
                let (received, answer) = (received.clone(), answer.clone());
                async move {
                    let (parts, body) = request.into_parts();
                    // A body that breaks off is what some stories are about; the request then never counts as received.
                    let Ok(body) = body.collect().await else { std::future::pending().await };
                    let trailers = body.trailers().cloned().unwrap_or_default();
                    let request = Received {
                        method: parts.method,
                        uri: parts.uri,
                        headers: parts.headers,
                        trailers,
                        body: body.to_bytes(),
                        connection,
                    };
                    let response = answer(&request);
                    received.lock().unwrap().push(request);
                    Ok::<_, Infallible>(response)
                }
            });
            let server = hyper_util::server::conn::auto::Builder::new(TokioExecutor::new());
            // A connection that ends badly ends some story's point.
            let _ = server.serve_connection(TokioIo::new(stream), service).await;
            connections.ended.fetch_add(1, Ordering::Relaxed);
        });
    }
}
