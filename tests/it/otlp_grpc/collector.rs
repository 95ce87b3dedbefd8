//! A collector that takes gRPC alone, and strictly: what a call must not look like is a fault that the tests find.

use std::{
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use bytes::Bytes;
use h2::{RecvStream, server::SendResponse};
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpListener,
    task::{AbortHandle, JoinSet},
};
use tokio_rustls::TlsAcceptor;

use crate::support::{Fields, eventually};

pub(super) const TRACES: &str = "/opentelemetry.proto.collector.trace.v1.TraceService/Export";
pub(super) const METRICS: &str = "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export";

/// An export as it was received.
#[derive(Clone, Debug)]
pub(super) struct Export {
    pub(super) method: String,
    pub(super) headers: HeaderMap,
    /// The message, of which nothing is left over.
    pub(super) message: Fields,
    /// The number of its connection, from 1.
    pub(super) connection: usize,
}

/// An answer to a call.
#[derive(Clone, Debug)]
pub(super) enum Answer {
    /// A message, and the status behind it.
    Taken(Vec<u8>),
    /// A head, and the status behind it.
    Status(Vec<(&'static str, String)>),
    /// A status in the head, which is all there is.
    HeadAlone(Vec<(&'static str, String)>),
    /// An answer of something that knows no gRPC.
    Http(u16),
}

type Answers = dyn Fn(usize) -> Answer + Send + Sync;

#[derive(Default)]
struct Shared {
    exports: Mutex<Vec<Export>>,
    faults: Mutex<Vec<String>>,
    calls: AtomicUsize,
    connections: AtomicUsize,
}

/// The collector, on loopback.
pub(super) struct Collector {
    pub(super) address: SocketAddr,
    shared: Arc<Shared>,
    accepting: AbortHandle,
}

impl Drop for Collector {
    fn drop(&mut self) {
        self.stop();
    }
}

impl Collector {
    /// Starts a collector that takes everything.
    pub(super) async fn start() -> Self {
        Self::answering(|_| Answer::Taken(Vec::new())).await
    }

    /// Starts a collector with its answers to the first call, the second, and so on.
    pub(super) async fn answering(answer: impl Fn(usize) -> Answer + Send + Sync + 'static) -> Self {
        Self::at("127.0.0.1:0".parse().unwrap(), None, answer).await
    }

    /// Starts a collector at this address.
    pub(super) async fn at(
        address: SocketAddr,
        tls: Option<TlsAcceptor>,
        answer: impl Fn(usize) -> Answer + Send + Sync + 'static,
    ) -> Self {
        let socket = TcpListener::bind(address).await.unwrap();
        let address = socket.local_addr().unwrap();
        let shared = Arc::<Shared>::default();
        let accepting = tokio::spawn(accept(socket, tls, shared.clone(), Arc::new(answer))).abort_handle();
        Self { address, shared, accepting }
    }

    /// Ends all connections, and accepts no more.
    pub(super) fn stop(&self) {
        self.accepting.abort();
    }

    /// Returns the URL for a config.
    pub(super) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub(super) fn calls(&self) -> usize {
        self.shared.calls.load(Ordering::Relaxed)
    }

    pub(super) fn connections(&self) -> usize {
        self.shared.connections.load(Ordering::Relaxed)
    }

    /// Returns the calls of a method, once there are so many.
    pub(super) async fn exports(&self, method: &str, count: usize) -> Vec<Export> {
        let mut found = Vec::new();
        eventually(&format!("{count} calls of {method}"), async || {
            self.assert_no_faults();
            found = self.shared.exports.lock().unwrap().iter().filter(|export| export.method == method).cloned().collect();
            found.len() >= count
        })
        .await;
        found
    }

    pub(super) fn assert_no_faults(&self) {
        let faults = self.shared.faults.lock().unwrap();
        assert!(faults.is_empty(), "{faults:?}");
    }
}

async fn accept(socket: TcpListener, tls: Option<TlsAcceptor>, shared: Arc<Shared>, answer: Arc<Answers>) {
    // They end with this task.
    let mut connections = JoinSet::new();
    while let Ok((stream, _)) = socket.accept().await {
        let (tls, shared, answer) = (tls.clone(), shared.clone(), answer.clone());
        connections.spawn(async move {
            let Some(tls) = tls else { return serve(stream, "http", &shared, &*answer).await };
            // A client that trusts another authority leaves.
            let Ok(stream) = tls.accept(stream).await else { return };
            if stream.get_ref().1.alpn_protocol() != Some(b"h2") {
                shared.faults.lock().unwrap().push("h2 was not agreed on".to_owned());
            }
            serve(stream, "https", &shared, &*answer).await;
        });
    }
}

async fn serve(stream: impl AsyncRead + AsyncWrite + Unpin, scheme: &str, shared: &Shared, answer: &Answers) {
    let mut connection = match h2::server::handshake(stream).await {
        Ok(connection) => connection,
        Err(error) => return shared.faults.lock().unwrap().push(format!("no HTTP/2: {error}")),
    };
    let number = shared.connections.fetch_add(1, Ordering::Relaxed) + 1;
    // One call at a time: a call is answered while the connection is driven.
    while let Some(Ok((request, respond))) = connection.accept().await {
        let call = async {
            let turn = shared.calls.fetch_add(1, Ordering::Relaxed);
            match received(request, scheme, number).await {
                Ok(export) => shared.exports.lock().unwrap().push(export),
                Err(fault) => shared.faults.lock().unwrap().push(fault),
            }
            reply(respond, answer(turn));
        };
        tokio::select! {
            biased;
            () = call => {}
            _ = std::future::poll_fn(|context| connection.poll_closed(context)) => return,
        }
    }
}

/// Reads a call; whatever is not as the protocol has it is an error.
async fn received(request: Request<RecvStream>, scheme: &str, connection: usize) -> Result<Export, String> {
    let (head, mut stream) = request.into_parts();
    let mut body = Vec::new();
    while let Some(data) = stream.data().await {
        let data = data.map_err(|error| error.to_string())?;
        stream.flow_control().release_capacity(data.len()).map_err(|error| error.to_string())?;
        body.extend_from_slice(&data);
    }
    let one = |name: &str| {
        let values: Vec<_> = head.headers.get_all(name).iter().map(HeaderValue::as_bytes).collect();
        if let [value] = values[..] { String::from_utf8_lossy(value).into_owned() } else { format!("{} fields", values.len()) }
    };
    let timeout = one("grpc-timeout");
    let is_time = timeout.strip_suffix('m').is_some_and(|digits| digits.len() <= 8 && digits.parse::<u32>().is_ok());
    for (is_right, what) in [
        (head.method == "POST", "the method"),
        (head.uri.scheme_str() == Some(scheme), "the scheme"),
        (head.uri.authority().is_some() && head.uri.query().is_none(), "the address"),
        (one("content-type") == "application/grpc", "the type"),
        (one("te") == "trailers", "te"),
        (is_time, "the deadline"),
        (!head.headers.contains_key("grpc-encoding"), "the encoding"),
        (stream.trailers().await.is_ok_and(|trailers| trailers.is_none()), "the trailers of a call"),
    ] {
        if !is_right {
            return Err(format!("{what}: {head:?}"));
        }
    }
    let (prefix, message) = body.split_at_checked(5).ok_or("no frame")?;
    let length = u32::from_be_bytes(prefix[1..].try_into().unwrap()) as usize;
    if prefix[0] != 0 || length != message.len() {
        return Err(format!("a frame of {prefix:?} before {} bytes", message.len()));
    }
    Ok(Export { method: head.uri.path().to_owned(), headers: head.headers, message: Fields::read(message), connection })
}

fn reply(mut respond: SendResponse<Bytes>, answer: Answer) {
    let fields = |status: &[(&'static str, String)]| -> HeaderMap {
        status.iter().map(|(name, value)| (HeaderName::from_static(name), value.parse().unwrap())).collect()
    };
    let mut response = Response::new(());
    response.headers_mut().insert("content-type", HeaderValue::from_static("application/grpc"));
    // A client that has left gets nothing.
    let _: Result<(), h2::Error> = (|| match answer {
        Answer::Taken(message) => {
            let mut stream = respond.send_response(response, false)?;
            let length = u32::try_from(message.len()).unwrap().to_be_bytes();
            stream.send_data([&[0][..], &length, &message].concat().into(), false)?;
            stream.send_trailers(fields(&[("grpc-status", "0".to_owned())]))
        }
        Answer::Status(status) => respond.send_response(response, false)?.send_trailers(fields(&status)),
        Answer::HeadAlone(status) => {
            response.headers_mut().extend(fields(&status));
            respond.send_response(response, true).map(drop)
        }
        Answer::Http(status) => {
            let mut response = Response::new(());
            *response.status_mut() = status.try_into().unwrap();
            respond.send_response(response, true).map(drop)
        }
    })();
}
