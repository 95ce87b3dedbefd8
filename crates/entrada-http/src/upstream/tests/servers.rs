//! Servers for the tests.

use std::{
    convert::Infallible,
    net::SocketAddr,
    pin::Pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll},
};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, Version};
use http_body::{Body, Frame};
use http_body_util::{BodyExt, combinators::BoxBody};
use hyper::{
    body::Incoming,
    server::conn::{http1, http2},
    service::service_fn,
};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls_pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::Notify,
};
use tokio_rustls::TlsAcceptor;

/// A server that follows a script, byte by byte.
pub(super) struct Scripted {
    address: SocketAddr,
    connections: Arc<AtomicUsize>,
    /// Every head that was read.
    pub(super) heads: Arc<Mutex<Vec<String>>>,
    /// Notified when the other side closed a connection.
    pub(super) closed: Arc<Notify>,
}

/// One step of a server's script.
#[derive(Clone, Copy)]
pub(super) enum Step {
    /// Reads one request's head.
    Head,
    /// Reads until this text has arrived.
    Until(&'static str),
    /// Writes these bytes.
    Write(&'static str),
    /// Closes the connection.
    Close,
}

impl Scripted {
    /// Plays one script per connection, in order; a connection whose script is over stays open until the other side closes it.
    pub(super) async fn start(scripts: &[&[Step]]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let server = Self {
            address: listener.local_addr().unwrap(),
            connections: Arc::default(),
            heads: Arc::default(),
            closed: Arc::default(),
        };
        let scripts: Vec<Vec<Step>> = scripts.iter().map(|script| script.to_vec()).collect();
        let (connections, heads, closed) = (server.connections.clone(), server.heads.clone(), server.closed.clone());
        tokio::spawn(async move {
            for script in scripts {
                let (stream, _) = listener.accept().await.unwrap();
                connections.fetch_add(1, Ordering::SeqCst);
                tokio::spawn(play(stream, script, heads.clone(), closed.clone()));
            }
        });
        server
    }

    pub(super) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub(super) fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }

    pub(super) fn heads(&self) -> Vec<String> {
        self.heads.lock().unwrap().clone()
    }
}

async fn play(mut stream: TcpStream, script: Vec<Step>, heads: Arc<Mutex<Vec<String>>>, closed: Arc<Notify>) {
    let mut seen = Vec::new();
    for step in script {
        let end: &[u8] = match step {
            Step::Head => b"\r\n\r\n",
            Step::Until(text) => text.as_bytes(),
            Step::Write(text) => {
                let _ = stream.write_all(text.as_bytes()).await;
                continue;
            }
            Step::Close => return,
        };
        loop {
            if let Some(at) = seen.windows(end.len()).position(|window| window == end) {
                let head: Vec<u8> = seen.drain(..at + end.len()).collect();
                heads.lock().unwrap().push(String::from_utf8(head).unwrap());
                break;
            }
            if stream.read_buf(&mut seen).await.unwrap_or(0) == 0 {
                closed.notify_one();
                return;
            }
        }
    }
    while stream.read_buf(&mut seen).await.unwrap_or(0) > 0 {}
    closed.notify_one();
}

/// A well-behaved server made with hyper. It describes the request: `/echo` sends the body back as it arrives, `/trailers` sends
/// a trailer, any other path returns method, host, path and length.
pub(super) struct Good {
    address: SocketAddr,
    tls: bool,
    connections: Arc<AtomicUsize>,
}

impl Good {
    pub(super) async fn http1() -> Self {
        Self::start(None, false).await
    }

    /// Starts a server for HTTP/2 without TLS.
    pub(super) async fn http2() -> Self {
        Self::start(None, true).await
    }

    /// Starts a TLS server; ALPN chooses among these protocols.
    pub(super) async fn tls(authority: &TestAuthority, name: &str, offers: &[&[u8]]) -> Self {
        let mut config = rustls::ServerConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![authority.issue(name).into()], authority.issued_key())
            .unwrap();
        config.alpn_protocols = offers.iter().map(|offer| offer.to_vec()).collect();
        Self::start(Some(TlsAcceptor::from(Arc::new(config))), false).await
    }

    async fn start(tls: Option<TlsAcceptor>, http2: bool) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let server = Self { address: listener.local_addr().unwrap(), tls: tls.is_some(), connections: Arc::default() };
        let connections = server.connections.clone();
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                connections.fetch_add(1, Ordering::SeqCst);
                let tls = tls.clone();
                tokio::spawn(async move {
                    match tls {
                        None => serve(stream, http2).await,
                        Some(tls) => {
                            let Ok(stream) = tls.accept(stream).await else { return };
                            let http2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
                            serve(stream, http2).await;
                        }
                    }
                });
            }
        });
        server
    }

    pub(super) fn url(&self) -> String {
        format!("{}://{}", if self.tls { "https" } else { "http" }, self.address)
    }

    pub(super) fn port(&self) -> u16 {
        self.address.port()
    }

    pub(super) fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }
}

async fn serve(stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static, http2: bool) {
    let stream = TokioIo::new(stream);
    if http2 {
        let _ = http2::Builder::new(TokioExecutor::new()).serve_connection(stream, service_fn(answer)).await;
    } else {
        let _ = http1::Builder::new().serve_connection(stream, service_fn(answer)).with_upgrades().await;
    }
}

async fn answer(mut request: Request<Incoming>) -> Result<Response<BoxBody<Bytes, hyper::Error>>, Infallible> {
    if request.uri().path() == "/echo" {
        return Ok(Response::new(request.into_body().boxed()));
    }
    if request.uri().path() == "/switch" {
        let upgrade = hyper::upgrade::on(&mut request);
        tokio::spawn(async move {
            let mut stream = TokioIo::new(upgrade.await.unwrap());
            let mut word = [0; 4];
            stream.read_exact(&mut word).await.unwrap();
            stream.write_all(&word).await.unwrap();
        });
        let mut response = Response::new(whole(String::new()));
        *response.status_mut() = http::StatusCode::SWITCHING_PROTOCOLS;
        response.headers_mut().insert("connection", HeaderValue::from_static("upgrade"));
        response.headers_mut().insert("upgrade", HeaderValue::from_static("websocket"));
        return Ok(response);
    }
    if request.uri().path() == "/trailers" {
        let mut trailers = HeaderMap::new();
        trailers.insert("grpc-status", HeaderValue::from_static("0"));
        trailers.insert("set-cookie", HeaderValue::from_static("evil=1"));
        let mut response =
            Response::new(WithTrailers(Some(Frame::data(Bytes::from("message"))), Some(Frame::trailers(trailers))).boxed());
        response.headers_mut().insert("trailer", HeaderValue::from_static("grpc-status, set-cookie"));
        return Ok(response);
    }
    let host = match request.version() {
        Version::HTTP_2 => request.uri().authority().map_or("none", |authority| authority.as_str()),
        _ => request.headers()["host"].to_str().unwrap(),
    }
    .to_owned();
    let also = request.headers().contains_key("host") && request.version() == Version::HTTP_2;
    let target = request.uri().path_and_query().unwrap().to_string();
    let length = request.headers().get("content-length").map_or("no", |length| length.to_str().unwrap()).to_owned();
    let chunked = request.headers().contains_key("transfer-encoding");
    let secret = request.headers().get(HeaderName::from_static("authorization")).is_some();
    let line = format!(
        "{} {target} host={host}{} length={length} chunked={chunked} authorization={secret} {:?}",
        request.method(),
        if also { " and a host field" } else { "" },
        request.version()
    );
    Ok(Response::new(whole(line)))
}

fn whole(text: String) -> BoxBody<Bytes, hyper::Error> {
    http_body_util::Full::new(Bytes::from(text)).map_err(|never| match never {}).boxed()
}

/// A body of one message, then trailers.
struct WithTrailers(Option<Frame<Bytes>>, Option<Frame<Bytes>>);

impl Body for WithTrailers {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let frame = self.0.take().or_else(|| self.1.take());
        Poll::Ready(frame.map(Ok))
    }
}

/// A certificate authority for the test.
pub(super) struct TestAuthority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    key: KeyPair,
}

impl TestAuthority {
    pub(super) fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        Self { issuer, key: KeyPair::generate().unwrap() }
    }

    pub(super) fn pem(&self) -> String {
        self.issuer.pem()
    }

    fn issue(&self, name: &str) -> Vec<u8> {
        let params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        params.signed_by(&self.key, &self.issuer).unwrap().der().to_vec()
    }

    fn issued_key(&self) -> PrivateKeyDer<'static> {
        PrivatePkcs8KeyDer::from(self.key.serialize_der()).into()
    }
}
