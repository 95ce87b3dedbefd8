//! Real clients: hyper over HTTP/1 and HTTP/2, with and without TLS.

use std::{fs, sync::Arc};

use bytes::Bytes;
use entrada::unstable::{
    connection::EventKind,
    listener::{Limits, ServerTls, TlsConfig},
};
use http::{Request, StatusCode, Version};
use http_body_util::{BodyExt, Full};
use hyper::client::conn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::{ClientConfig, RootCertStore, crypto::aws_lc_rs};
use rustls_pki_types::{CertificateDer, ServerName, pem::PemObject};
use tempfile::TempDir;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
};
use tokio_rustls::{TlsConnector, client::TlsStream};

use crate::support::eventually;

use super::support::{Server, in_time, limits};

type Sent = Full<Bytes>;

fn request(method: &str, target: &str, body: impl Into<Bytes>) -> Request<Sent> {
    Request::builder().method(method).uri(target).header("host", "api.contoso.example").body(Full::new(body.into())).unwrap()
}

async fn http1(io: impl AsyncRead + AsyncWrite + Unpin + Send + 'static) -> conn::http1::SendRequest<Sent> {
    let (sender, connection) = conn::http1::handshake(TokioIo::new(io)).await.unwrap();
    tokio::spawn(connection);
    sender
}

async fn http2(io: impl AsyncRead + AsyncWrite + Unpin + Send + 'static) -> conn::http2::SendRequest<Sent> {
    let (sender, connection) = conn::http2::handshake(TokioExecutor::new(), TokioIo::new(io)).await.unwrap();
    tokio::spawn(connection);
    sender
}

/// A folder with certificates, and the means to trust them.
struct Authority {
    folder: TempDir,
    roots: RootCertStore,
}

impl Authority {
    fn new() -> Self {
        Self { folder: TempDir::new().unwrap(), roots: RootCertStore::empty() }
    }

    fn issue(&mut self, name: &str) -> TlsConfig {
        let made = rcgen::generate_simple_self_signed([name.to_owned()]).unwrap();
        let path = |extension: &str| self.folder.path().join(format!("{name}.{extension}")).display().to_string();
        let files = TlsConfig { certificate: path("pem"), private_key: path("key") };
        fs::write(&files.certificate, made.cert.pem()).unwrap();
        fs::write(&files.private_key, made.signing_key.serialize_pem()).unwrap();
        self.roots.add(CertificateDer::from_pem_slice(made.cert.pem().as_bytes()).unwrap()).unwrap();
        files
    }

    async fn connect(&self, server: &Server, name: &str, protocols: &[&str]) -> std::io::Result<TlsStream<TcpStream>> {
        let mut config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(self.roots.clone())
            .with_no_client_auth();
        config.alpn_protocols = protocols.iter().map(|protocol| protocol.as_bytes().to_vec()).collect();
        let name = ServerName::try_from(name.to_owned()).unwrap();
        TlsConnector::from(Arc::new(config)).connect(name, server.connect().await.0).await
    }
}

#[tokio::test]
async fn hyper_is_served_over_http1() {
    let server = Server::start();
    let mut sender = http1(server.connect().await.0).await;
    let large = Bytes::from(vec![b'x'; 3 << 20]);
    for (request, expected) in [
        (request("GET", "/hello", ""), Bytes::from_static(b"hello")),
        (request("POST", "/echo", large.clone()), large.clone()),
        (request("POST", "/read", large.clone()), Bytes::from_static(b"3145728 bytes")),
        (request("GET", "/parts", ""), Bytes::from_static(b"abc")),
        (request("GET", "/empty", ""), Bytes::new()),
        (request("HEAD", "/hello", ""), Bytes::new()),
        (request("GET", "/hello", ""), Bytes::from_static(b"hello")),
    ] {
        let target = request.uri().clone();
        sender.ready().await.unwrap();

        let answer = in_time(sender.send_request(request)).await.unwrap();

        assert!(answer.headers().contains_key("date"), "{target}");
        assert!(in_time(answer.into_body().collect()).await.unwrap().to_bytes() == expected, "{target}");
    }
    assert_eq!(server.listener.connections(), 1);
}

#[tokio::test]
async fn http2_is_spoken_by_prior_knowledge() {
    let server = Server::start();
    let mut sender = http2(server.connect().await.0).await;
    let large = Bytes::from(vec![b'x'; 3 << 20]);
    for (target, sent, expected) in [
        ("http://api.contoso.example/hello", Bytes::new(), Bytes::from_static(b"hello")),
        ("http://api.contoso.example/echo", large.clone(), large.clone()),
        ("http://api.contoso.example/parts", Bytes::new(), Bytes::from_static(b"abc")),
    ] {
        let mut request = request("POST", target, sent);
        request.headers_mut().remove("host");

        let answer = in_time(sender.send_request(request)).await.unwrap();

        assert_eq!((answer.version(), answer.status()), (Version::HTTP_2, StatusCode::OK), "{target}");
        assert!(in_time(answer.into_body().collect()).await.unwrap().to_bytes() == expected, "{target}");
    }
    assert_eq!(server.listener.connections(), 1);
}

#[tokio::test]
async fn http2_has_the_limits_of_http1() {
    let server = Server::with(Limits { body_bytes: 10, ..Limits::default() }, None);
    let mut sender = http2(server.connect().await.0).await;
    let target = "http://api.contoso.example/read";
    let mut many = request("GET", target, "");
    for number in 0..101 {
        many.headers_mut().append("x-many", number.into());
    }

    let answer = in_time(sender.send_request(request("POST", target, "0123456789a"))).await.unwrap();
    assert_eq!(answer.status(), StatusCode::PAYLOAD_TOO_LARGE);
    let answer = in_time(sender.send_request(many)).await.unwrap();
    assert_eq!(answer.status(), StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE);
    let answer = in_time(sender.send_request(request("POST", target, "0123456789"))).await.unwrap();
    assert_eq!(answer.status(), StatusCode::OK);
}

#[tokio::test]
async fn a_call_over_http2_is_dropped_with_its_stream() {
    let server = Server::start();
    let mut sender = http2(server.connect().await.0).await;
    let call = tokio::spawn(sender.send_request(request("GET", "http://api.contoso.example/never", "")));
    eventually("the call begins", async || server.backend.calls() == 1).await;

    call.abort();

    eventually("the call ends", async || server.backend.calls() == 0).await;
    assert_eq!(server.listener.connections(), 1);
}

#[tokio::test]
async fn an_http2_connection_that_rests_is_closed() {
    let server = Server::with(limits(), None);
    let sender = http2(server.connect().await.0).await;

    eventually("it is closed", async || sender.is_closed() && server.listener.connections() == 0).await;
}

#[tokio::test]
async fn tls_settles_protocol_and_certificate() {
    let mut authority = Authority::new();
    let files = ["first.contoso.example", "second.contoso.example"].map(|name| authority.issue(name));
    let server = Server::with(Limits::default(), Some(Arc::new(ServerTls::load(&files).unwrap())));
    let large = Bytes::from(vec![b'x'; 3 << 20]);

    let stream = authority.connect(&server, "second.contoso.example", &["h2", "http/1.1"]).await.unwrap();
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(b"h2".as_slice()));
    let request2 = request("POST", "https://second.contoso.example/echo", large.clone());
    let answer = in_time(http2(stream).await.send_request(request2)).await.unwrap();
    assert!(in_time(answer.into_body().collect()).await.unwrap().to_bytes() == large);

    for protocols in [["http/1.1"].as_slice(), &[]] {
        let stream = authority.connect(&server, "FIRST.contoso.example", protocols).await.unwrap();
        let answer = in_time(http1(stream).await.send_request(request("POST", "/echo", large.clone()))).await.unwrap();
        assert!(in_time(answer.into_body().collect()).await.unwrap().to_bytes() == large);
    }

    let names: Vec<_> =
        server.backend.connections().iter().map(|connection| connection.tls.clone().unwrap().server_name).collect();
    assert_eq!(names[0].as_deref(), Some("second.contoso.example"));
    assert_eq!(names[1].as_deref(), Some("first.contoso.example"));
}

#[tokio::test]
async fn a_handshake_must_succeed_in_time() {
    let mut authority = Authority::new();
    let tls = Arc::new(ServerTls::load(&[authority.issue("first.contoso.example")]).unwrap());
    let server = Server::with(limits(), Some(tls));

    let mut silent = server.connect().await;
    assert_eq!(silent.rest().await, "");
    assert_eq!(server.backend.events(), [EventKind::HandshakeTimeout]);

    let mut plain = server.connect().await;
    plain.send("GET /hello HTTP/1.1\r\n\r\n").await;
    plain.rest().await;
    eventually("the handshake fails", async || server.backend.events().len() == 2).await;
    assert_eq!(server.backend.events()[1], EventKind::HandshakeFailed);

    let refused = authority.connect(&server, "first.contoso.example", &["h3"]).await;
    assert!(refused.is_err(), "a protocol that is not offered was agreed on");
}

#[tokio::test]
async fn a_new_certificate_is_used_without_a_restart() {
    let mut authority = Authority::new();
    let files = authority.issue("first.contoso.example");
    let tls = Arc::new(ServerTls::load(std::slice::from_ref(&files)).unwrap());
    let server = Server::with(Limits::default(), Some(tls.clone()));
    let before = authority.connect(&server, "first.contoso.example", &["http/1.1"]).await.unwrap();

    authority.issue("first.contoso.example");
    tls.reload().unwrap();
    let after = authority.connect(&server, "first.contoso.example", &["http/1.1"]).await.unwrap();

    let leaf = |stream: &TlsStream<TcpStream>| stream.get_ref().1.peer_certificates().unwrap()[0].to_vec();
    assert!(leaf(&before) != leaf(&after));
    let answer = in_time(http1(before).await.send_request(request("GET", "/hello", ""))).await.unwrap();
    assert_eq!(answer.status(), StatusCode::OK);
}
