//! A listener with a small service, and clients that speak bytes.

use std::{
    convert::Infallible,
    error::Error,
    future::{Future, pending},
    io,
    net::SocketAddr,
    pin::Pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use entrada::unstable::{
    base::response::Response as Answer,
    connection::{ConnectionEvent, EventKind},
    listener::{
        Arrival, Connection, Drainer, Limits, Listener, ListenerSettings, RequestBody, ServerTls, Service, Upgrade, bind, serve,
    },
};
use http::{HeaderValue, Request, Response, StatusCode};
use http_body::Body;
use http_body_util::{BodyExt, Full, combinators::UnsyncBoxBody};
use hyper::body::Frame;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, copy, split},
    net::TcpStream,
    sync::mpsc,
    task::JoinHandle,
    time::timeout,
};

pub(crate) type AnyBody = UnsyncBoxBody<Bytes, Box<dyn Error + Send + Sync>>;

/// A service that answers by path, and records requests.
#[derive(Clone, Debug, Default)]
pub(crate) struct Backend(Arc<Seen>);

#[derive(Debug, Default)]
struct Seen {
    /// Method and target of each request, or the code of a broken head.
    arrivals: Mutex<Vec<String>>,
    events: Mutex<Vec<EventKind>>,
    connections: Mutex<Vec<Arc<Connection>>>,
    /// The number of calls in progress.
    calls: AtomicUsize,
}

struct Call(Arc<Seen>);

impl Drop for Call {
    fn drop(&mut self) {
        self.0.calls.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Backend {
    pub(crate) fn arrivals(&self) -> Vec<String> {
        self.0.arrivals.lock().unwrap().clone()
    }

    pub(crate) fn events(&self) -> Vec<EventKind> {
        self.0.events.lock().unwrap().clone()
    }

    pub(crate) fn connections(&self) -> Vec<Arc<Connection>> {
        self.0.connections.lock().unwrap().clone()
    }

    pub(crate) fn calls(&self) -> usize {
        self.0.calls.load(Ordering::SeqCst)
    }

    async fn answer(request: Request<RequestBody>) -> Response<AnyBody> {
        let (mut parts, mut body) = request.into_parts();
        match parts.uri.path() {
            "/hello" => text("hello"),
            "/headers" => {
                let fields = parts.headers.iter().map(|(name, value)| format!("{name}={};", value.to_str().unwrap_or("?")));
                text(fields.collect::<String>())
            }
            // What was read, or the code of why not.
            "/read" => {
                let counter = body.count();
                match body.collect().await {
                    Ok(read) => {
                        assert_eq!(counter.get(), read.to_bytes().len() as u64);
                        text(format!("{} bytes", counter.get()))
                    }
                    Err(error) => {
                        let Some(reason) = error.reason() else { return status(StatusCode::BAD_REQUEST) };
                        let mut answer = text(reason.code());
                        *answer.status_mut() = reason.status();
                        answer
                    }
                }
            }
            // Part by part, as it comes.
            "/echo" => Response::new(body.map_err(Into::into).boxed_unsync()),
            "/hints" => {
                if let Some(informational) = body.take_informational() {
                    let mut headers = http::HeaderMap::new();
                    informational.send(StatusCode::PROCESSING, headers.clone());
                    headers.insert("link", HeaderValue::from_static("</a.css>"));
                    headers.insert("connection", HeaderValue::from_static("close"));
                    headers.insert("content-length", HeaderValue::from_static("7"));
                    informational.send(StatusCode::EARLY_HINTS, headers.clone());
                    tokio::task::yield_now().await;
                    informational.send(StatusCode::EARLY_HINTS, headers);
                    // Nobody asked for these.
                    informational.send(StatusCode::CONTINUE, http::HeaderMap::new());
                    informational.send(StatusCode::SWITCHING_PROTOCOLS, http::HeaderMap::new());
                    informational.send(StatusCode::OK, http::HeaderMap::new());
                }
                text("hello")
            }
            "/many-hints" => {
                let informational = body.take_informational().unwrap();
                for _ in 0..2_000 {
                    informational.send(StatusCode::EARLY_HINTS, http::HeaderMap::new());
                }
                text("done")
            }
            "/refuse" => status(StatusCode::UNAUTHORIZED),
            "/never" => pending().await,
            "/parts" => streamed([Ok("a"), Ok("bc"), Ok("")]),
            "/torn" => streamed([Ok("a"), Err("torn"), Ok("c")]),
            "/short" => {
                let mut answer = streamed([Ok("abc")]);
                answer.headers_mut().insert("content-length", HeaderValue::from_static("5"));
                answer
            }
            "/large" => Response::new(Full::new(Bytes::from(vec![b'x'; 5 << 20])).map_err(never).boxed_unsync()),
            "/empty" => status(StatusCode::NO_CONTENT),
            "/upgrade" => {
                let Some(upgrade) = parts.extensions.remove::<Upgrade>() else { return status(StatusCode::FORBIDDEN) };
                tokio::spawn(async move {
                    let (mut read, mut write) = split(upgrade.await.unwrap());
                    let _ = copy(&mut read, &mut write).await;
                });
                let mut answer = status(StatusCode::SWITCHING_PROTOCOLS);
                answer.headers_mut().insert("upgrade", HeaderValue::from_static("echo"));
                answer
            }
            "/switch" => status(StatusCode::SWITCHING_PROTOCOLS),
            _ => status(StatusCode::NOT_FOUND),
        }
    }
}

impl Service for Backend {
    type Body = AnyBody;

    fn call(&self, arrival: Arrival, connection: &Arc<Connection>) -> impl Future<Output = Answer<AnyBody>> + Send {
        self.0.calls.fetch_add(1, Ordering::SeqCst);
        let call = Call(self.0.clone());
        self.0.connections.lock().unwrap().push(connection.clone());
        let arrived = match &arrival {
            Arrival::Request(request) => format!("{} {}", request.method, request.uri),
            Arrival::Broken(broken) => broken.reason.code().to_owned(),
        };
        self.0.arrivals.lock().unwrap().push(arrived);
        async move {
            let _call = call;
            match arrival {
                Arrival::Request(request) => Self::answer(Request::from(*request)).await.into(),
                Arrival::Broken(broken) => {
                    let mut answer = text(broken.reason.code());
                    *answer.status_mut() = broken.reason.status();
                    answer.into()
                }
            }
        }
    }

    fn event(&self, event: ConnectionEvent) {
        self.0.events.lock().unwrap().push(event.kind);
    }
}

fn never(error: Infallible) -> Box<dyn Error + Send + Sync> {
    match error {}
}

fn text(text: impl Into<Bytes>) -> Response<AnyBody> {
    Response::new(Full::new(text.into()).map_err(never).boxed_unsync())
}

fn status(status: StatusCode) -> Response<AnyBody> {
    let mut answer = text("");
    *answer.status_mut() = status;
    answer
}

/// Makes parts that arrive one at a time, each a little later.
fn streamed<const N: usize>(parts: [Result<&'static str, &'static str>; N]) -> Response<AnyBody> {
    let (sender, receiver) = mpsc::channel(1);
    tokio::spawn(async move {
        for part in parts {
            tokio::task::yield_now().await;
            let _ = sender.send(part.map(|text| Frame::data(Bytes::from_static(text.as_bytes()))).map_err(Into::into)).await;
        }
    });
    Response::new(Parts(receiver).boxed_unsync())
}

type Part = Result<Frame<Bytes>, Box<dyn Error + Send + Sync>>;

/// A body of unknown length.
struct Parts(mpsc::Receiver<Part>);

impl Body for Parts {
    type Data = Bytes;
    type Error = Box<dyn Error + Send + Sync>;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Part>> {
        self.0.poll_recv(cx)
    }
}

/// A listener on its own port.
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    pub(crate) backend: Backend,
    pub(crate) listener: Arc<Listener>,
    pub(crate) drainer: Drainer,
    pub(crate) task: JoinHandle<io::Result<()>>,
}

/// Returns limits that are short enough for tests that exceed them.
pub(crate) fn limits() -> Limits {
    Limits { header_timeout: Duration::from_millis(300), ..Limits::default() }
}

impl Server {
    pub(crate) fn start() -> Self {
        Self::with(Limits::default(), None)
    }

    pub(crate) fn with(limits: Limits, tls: Option<Arc<ServerTls>>) -> Self {
        let socket = bind(([127, 0, 0, 1], 0).into(), 1).unwrap().remove(0);
        let address = socket.local_addr().unwrap();
        let listener = Listener::new("public", ListenerSettings { tls, ..ListenerSettings::plain(limits) });
        let (drainer, drain) = Drainer::new();
        let backend = Backend::default();
        let task = tokio::spawn(serve(socket, listener.clone(), backend.clone(), drain));
        Self { address, backend, listener, drainer, task }
    }

    pub(crate) async fn connect(&self) -> Client {
        Client(TcpStream::connect(self.address).await.unwrap())
    }

    /// Sends the bytes, ends the client's side, and returns the whole response.
    pub(crate) async fn answer(&self, bytes: impl AsRef<[u8]>) -> String {
        let mut client = self.connect().await;
        client.send(bytes).await;
        client.0.shutdown().await.unwrap();
        client.rest().await
    }
}

/// A client that sends bytes.
pub(crate) struct Client(pub(crate) TcpStream);

impl Client {
    pub(crate) async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.0.write_all(bytes.as_ref()).await.unwrap();
    }

    /// Returns everything that still arrives, without dates. A reset counts as a last line.
    pub(crate) async fn rest(&mut self) -> String {
        let mut read = Vec::new();
        let end = in_time(self.0.read_to_end(&mut read)).await;
        let mut text = undated(&read);
        if end.is_err() {
            text.push_str("[reset]");
        }
        text
    }

    /// Reads until the text ends with `end`.
    pub(crate) async fn until(&mut self, end: &str) -> String {
        let mut read = Vec::new();
        while !undated(&read).ends_with(end) {
            let mut bytes = [0; 4_096];
            let count = in_time(self.0.read(&mut bytes)).await.unwrap();
            assert_ne!(count, 0, "ended after {:?}", undated(&read));
            read.extend_from_slice(&bytes[..count]);
        }
        undated(&read)
    }
}

/// Returns the text without the lines that differ from run to run.
fn undated(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    text.split_inclusive("\r\n").filter(|line| !line.starts_with("date: ")).collect()
}

/// Fails after a timeout: nothing in these tests takes long.
pub(crate) async fn in_time<T>(future: impl Future<Output = T>) -> T {
    timeout(Duration::from_secs(20), future).await.expect("the test hangs")
}
