//! Tests of WebSockets over HTTP/2 (RFC 8441): a stream reaches a backend's WebSocket of HTTP/1.1.

use std::{
    future::poll_fn,
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use aws_lc_rs::digest;
use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use entrada::Reason;
use h2::{RecvStream, SendStream, client::SendRequest, ext::Protocol};
use http::{Method, Request, Response, StatusCode};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};

use super::raw::{CANCEL, DATA, END_HEADERS, END_STREAM, HEADERS, RST_STREAM, Raw, SETTINGS, block, frame, in_time};
use crate::support::Gateway;

const PROTOCOL_ERROR: u32 = 1;
/// SETTINGS_ENABLE_CONNECT_PROTOCOL with the value 1.
const ANNOUNCED: [u8; 6] = [0, 8, 0, 0, 0, 1];
const LIVE: &str = "- { name: live, match: { path: /live }, anonymous: true, upgrades: [websocket], upstream: backend }";

/// A backend of HTTP/1.1, whose WebSockets send back what they receive; and the heads that it has received.
#[derive(Clone)]
struct Backend {
    address: SocketAddr,
    heads: Arc<Mutex<Vec<String>>>,
}

impl Backend {
    async fn start() -> Self {
        let socket = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let backend = Self { address: socket.local_addr().unwrap(), heads: Arc::default() };
        let all = backend.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = socket.accept().await {
                tokio::spawn(all.clone().serve(stream));
            }
        });
        backend
    }

    async fn serve(self, mut stream: TcpStream) {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let Ok(byte) = stream.read_u8().await else { return };
            head.push(byte);
        }
        let head = String::from_utf8(head).unwrap();
        let key = head.lines().find_map(|line| line.strip_prefix("sec-websocket-key: ")).unwrap_or_default().to_owned();
        let path = head.split(' ').nth(1).unwrap_or_default().to_owned();
        self.heads.lock().unwrap().push(head);
        let accept = STANDARD.encode(digest::digest(
            &digest::SHA1_FOR_LEGACY_USE_ONLY,
            format!("{key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11").as_bytes(),
        ));
        let accept = if path.ends_with("/wrong") { "d3Jvbmc=" } else { &accept };
        let switch = format!(
            "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\
             sec-websocket-accept: {accept}\r\nsec-websocket-protocol: chat\r\n\r\n"
        );
        let answer = match &*path {
            "/live/page" => "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhi",
            "/live/no" => "HTTP/1.1 403 Forbidden\r\ncontent-length: 2\r\n\r\nno",
            _ => &switch,
        };
        let _ = stream.write_all(answer.as_bytes()).await;
        let mut bytes = vec![0; 16 << 10];
        while let Ok(count @ 1..) = stream.read(&mut bytes).await {
            if stream.write_all(&bytes[..count]).await.is_err() || path == "/live/once" {
                return;
            }
        }
    }

    fn config(&self, routes: &str, more: &str) -> String {
        format!("upstreams: {{ backend: {{ servers: [\"http://{}\"] }} }}\nroutes:\n{routes}\n{more}\n", self.address)
    }

    fn heads(&self) -> Vec<String> {
        self.heads.lock().unwrap().clone()
    }
}

async fn scene(routes: &str, more: &str) -> (Gateway, Backend) {
    let backend = Backend::start().await;
    (Gateway::start(&backend.config(routes, more)).await, backend)
}

/// A connection of a client.
async fn connect(gateway: &Gateway) -> SendRequest<Bytes> {
    let socket = TcpStream::connect(gateway.address()).await.unwrap();
    let (client, connection) = h2::client::handshake(socket).await.unwrap();
    tokio::spawn(connection);
    client
}

fn request(path: &str, protocol: &'static str, fields: &[(&str, &str)]) -> Request<()> {
    let request = Request::builder().method(Method::CONNECT).uri(format!("http://api.contoso.example{path}"));
    let request = request.extension(Protocol::from_static(protocol)).header("sec-websocket-version", "13");
    fields.iter().fold(request, |request, (name, value)| request.header(*name, *value)).body(()).unwrap()
}

/// Asks for a WebSocket on a stream of its own.
async fn open(client: &mut SendRequest<Bytes>, request: Request<()>) -> (Response<RecvStream>, SendStream<Bytes>) {
    *client = in_time(client.clone().ready()).await.unwrap();
    // The settings of the gateway say whether it may be asked.
    let (answer, stream) = loop {
        match client.is_extended_connect_protocol_enabled() {
            true => break client.send_request(request, false).unwrap(),
            false => tokio::task::yield_now().await,
        }
    };
    (in_time(answer).await.unwrap(), stream)
}

/// Reads this many bytes, or to the end.
async fn read(body: &mut RecvStream, bytes: usize) -> Vec<u8> {
    let mut read = Vec::new();
    while read.len() < bytes {
        let Some(data) = in_time(poll_fn(|cx| body.poll_data(cx))).await else { break };
        let data = data.unwrap();
        body.flow_control().release_capacity(data.len()).unwrap();
        read.extend_from_slice(&data);
    }
    read
}

/// Sends bytes as the gateway opens its window.
async fn write(stream: &mut SendStream<Bytes>, mut bytes: Bytes) {
    while !bytes.is_empty() {
        stream.reserve_capacity(bytes.len());
        let room = in_time(poll_fn(|cx| stream.poll_capacity(cx))).await.unwrap().unwrap();
        stream.send_data(bytes.split_to(room.min(bytes.len())), false).unwrap();
    }
}

async fn assert_refused(client: &mut SendRequest<Bytes>, request: Request<()>, reason: Reason) {
    let what = format!("{request:?}");
    let (answer, _stream) = open(client, request).await;
    assert_eq!(answer.status(), reason.status(), "{what}");
    let body = read(&mut answer.into_body(), usize::MAX).await;
    let problem: serde_json::Value = serde_json::from_slice(&body).unwrap();
    assert_eq!(problem["code"], reason.code(), "{what}");
}

#[tokio::test]
async fn a_stream_becomes_a_websocket_of_the_backend() {
    let (gateway, backend) = scene(LIVE, "").await;
    let mut client = connect(&gateway).await;

    let smuggled =
        [("sec-websocket-key", "c211Z2dsZWQ="), ("sec-websocket-protocol", "chat"), ("origin", "https://contoso.example")];
    let (answer, mut stream) = open(&mut client, request("/live/echo?x=1", "websocket", &smuggled)).await;

    assert_eq!(answer.status(), StatusCode::OK);
    assert_eq!(answer.headers()["sec-websocket-protocol"], "chat");
    for name in ["sec-websocket-accept", "upgrade", "connection", "content-length", "transfer-encoding"] {
        assert!(!answer.headers().contains_key(name), "{name}");
    }
    let head = backend.heads()[0].to_ascii_lowercase();
    assert!(head.starts_with("get /live/echo?x=1 http/1.1\r\n"), "{head}");
    for line in ["connection: upgrade", "upgrade: websocket", "sec-websocket-version: 13", "origin: https://contoso.example"] {
        assert_eq!(head.lines().filter(|other| *other == line).count(), 1, "{line}: {head}");
    }
    assert_eq!(head.matches("sec-websocket-key").count(), 1, "{head}");
    assert!(!backend.heads()[0].contains("c211Z2dsZWQ=") && !head.contains("protocol: websocket\r\n:"), "{head}");

    // More than all windows hold, both ways at once.
    let sent = Bytes::from((0..3_000_000_u32).map(|number| number as u8).collect::<Vec<_>>());
    let mut body = answer.into_body();
    let (received, ()) = tokio::join!(read(&mut body, sent.len()), write(&mut stream, sent.clone()));
    assert!(received == sent, "{} of {} bytes", received.len(), sent.len());
    assert!(gateway.records().is_empty(), "the tunnel goes on");
    // Meanwhile the connection serves other requests, and other WebSockets.
    let (other, mut more) = open(&mut client, request("/live/echo", "websocket", &[])).await;
    write(&mut more, Bytes::from_static(b"ping")).await;
    let mut other = other.into_body();
    assert_eq!(read(&mut other, 4).await, b"ping");

    stream.send_data(Bytes::new(), true).unwrap();
    assert!(read(&mut body, 1).await.is_empty(), "the backend ends as well");
    let record = gateway.record(|record| record["bytes_in"] == 3_000_000).await;
    assert_eq!(
        (&record["status"], &record["bytes_out"], &record["ended_by"], &record["complete"], &record["method"]),
        (&101.into(), &3_000_000.into(), &"caller".into(), &true.into(), &"GET".into()),
        "{record}"
    );
    assert_eq!(gateway.records().len(), 1);
}

#[tokio::test]
async fn either_side_ends_it_and_the_record_says_which() {
    let (gateway, _backend) = scene(LIVE, "").await;
    let mut client = connect(&gateway).await;

    let (answer, mut stream) = open(&mut client, request("/live/once", "websocket", &[])).await;
    write(&mut stream, Bytes::from_static(b"ping")).await;
    let mut body = answer.into_body();
    assert_eq!(read(&mut body, usize::MAX).await, b"ping");
    stream.send_data(Bytes::new(), true).unwrap();
    let record = gateway.record(|record| record["path"] == "/live/once").await;
    assert_eq!((&record["ended_by"], &record["bytes_in"]), (&"upstream".into(), &4.into()), "{record}");

    let (answer, mut stream) = open(&mut client, request("/live/echo", "websocket", &[])).await;
    assert_eq!(answer.status(), StatusCode::OK);
    stream.send_reset(h2::Reason::CANCEL);
    let record = gateway.record(|record| record["path"] == "/live/echo").await;
    assert_eq!((&record["ended_by"], &record["complete"]), (&"caller".into(), &false.into()), "{record}");
}

#[tokio::test]
async fn where_none_may_open_the_answer_is_an_ordinary_one() {
    let origin = "check-header: { name: origin, values: [\"https://contoso.example\"] }";
    let said = "return-response: { status: 200, body: fine }";
    let to_backend = "anonymous: true, upgrades: [websocket], upstream: backend";
    let routes = format!(
        "{LIVE}\n\
         - {{ name: plain, match: {{ path: /plain }}, anonymous: true, upstream: backend }}\n\
         - {{ name: own, match: {{ path: /own }}, anonymous: true, respond: {{ status: 200 }} }}\n\
         - {{ name: shut, match: {{ path: /shut }}, {to_backend}, inbound: [ {origin} ] }}\n\
         - {{ name: said, match: {{ path: /said }}, {to_backend}, inbound: [ {said} ] }}"
    );
    let (gateway, backend) = scene(&routes, "").await;
    let mut client = connect(&gateway).await;

    for (path, reason) in [
        ("/plain", Reason::ProtocolNotSupported),
        ("/own", Reason::ProtocolNotSupported),
        ("/said", Reason::ProtocolNotSupported),
        ("/shut", Reason::HeaderCheckFailed),
        ("/elsewhere", Reason::NoRoute),
        ("/live/../plain", Reason::RequestTargetInvalid),
    ] {
        assert_refused(&mut client, request(path, "websocket", &[("origin", "https://fabrikam.example")]), reason).await;
    }
    // A status of gRPC would stand in a success.
    assert_refused(
        &mut client,
        request("/plain", "websocket", &[("content-type", "application/grpc")]),
        Reason::ProtocolNotSupported,
    )
    .await;
    for protocol in ["connect-udp", "webtransport", "websocket2"] {
        assert_refused(&mut client, request("/live", protocol, &[]), Reason::ProtocolNotSupported).await;
    }
    assert_refused(&mut client, request("/live", "websocket", &[("content-length", "4")]), Reason::RequestFramingInvalid).await;
    assert_refused(&mut client, request("/live", "websocket", &[("host", "other.example")]), Reason::RequestHeaderInvalid).await;
    assert!(backend.heads().is_empty(), "{:?}", backend.heads());

    // The backend's own refusal passes; what only looks like a tunnel does not.
    let (answer, _stream) = open(&mut client, request("/live/no", "websocket", &[])).await;
    assert_eq!((answer.status(), read(&mut answer.into_body(), 9).await), (StatusCode::FORBIDDEN, b"no".to_vec()));
    for path in ["/live/page", "/live/wrong"] {
        assert_refused(&mut client, request(path, "websocket", &[]), Reason::UpstreamProtocolError).await;
    }
    let (answer, _stream) = open(&mut client, request("/shut", "websocket", &[("origin", "https://contoso.example")])).await;
    assert_eq!(answer.status(), StatusCode::OK);
    let record = gateway.record(|record| record["path"] == "/plain").await;
    assert_eq!((&record["code"], &record["status"]), (&"protocol-not-supported".into(), &501.into()), "{record}");
}

#[tokio::test]
async fn what_ends_a_tunnel_resets_its_stream() {
    let route = LIVE.replace("anonymous: true", "anonymous: true, limits: { max-stream: 1s }");
    let (gateway, _backend) = scene(&route, "").await;
    let mut client = connect(&gateway).await;

    let (answer, _stream) = open(&mut client, request("/live/echo", "websocket", &[])).await;
    let mut body = answer.into_body();
    let error = in_time(poll_fn(|cx| body.poll_data(cx))).await.unwrap().unwrap_err();

    assert_eq!(error.reason(), Some(h2::Reason::CANCEL));
    let record = gateway.record(|record| record["path"] == "/live/echo").await;
    assert_eq!((&record["ended_by"], &record["complete"]), (&"max-stream".into(), &false.into()), "{record}");
}

/// A field that takes the place of those of its name, or their absence.
type Change<'a> = (&'a str, Option<&'a str>);

/// Returns the head of an extended CONNECT with these changes.
fn extended(changes: &[Change<'_>]) -> Vec<u8> {
    let mut fields = vec![
        (":method", "CONNECT"),
        (":protocol", "websocket"),
        (":scheme", "http"),
        (":authority", "api.contoso.example"),
        (":path", "/live/echo"),
    ];
    for (name, value) in changes {
        fields.retain(|(other, _)| other != name);
        fields.extend(value.map(|value| (*name, value)));
    }
    block(&fields)
}

#[tokio::test]
async fn streams_that_are_no_extended_connect_are_reset() {
    let (gateway, backend) = scene(LIVE, "").await;
    let mut client = Raw::open(gateway.address(), 65_535).await;

    let cases: [(&str, &[Change<'_>]); 9] = [
        ("another method", &[(":method", Some("GET"))]),
        ("POST", &[(":method", Some("POST"))]),
        ("no scheme", &[(":scheme", None)]),
        ("no path", &[(":path", None)]),
        ("no protocol, and a path", &[(":protocol", None)]),
        ("upgrade", &[("upgrade", Some("websocket"))]),
        ("connection", &[("connection", Some("upgrade"))]),
        ("transfer-encoding", &[("transfer-encoding", Some("chunked"))]),
        ("an empty path", &[(":path", Some(""))]),
    ];
    let mut stream = 1;
    for (name, changes) in cases {
        client.send(&frame(HEADERS, END_HEADERS, stream, &extended(changes))).await;
        let answer = client.until(|frame| frame.stream == stream && matches!(frame.kind, HEADERS | RST_STREAM)).await;
        assert_eq!((answer.kind, answer.code()), (RST_STREAM, PROTOCOL_ERROR), "{name}");
        stream += 2;
    }
    // A plain CONNECT, a stream that has ended before it began, and bytes without a head: all answered, none forwarded.
    let plain = block(&[(":method", "CONNECT"), (":authority", "api.contoso.example:443")]);
    for block in [plain, extended(&[]), extended(&[(":scheme", Some("ftp"))]), extended(&[(":path", Some("/live#x"))])] {
        client.send(&frame(HEADERS, END_HEADERS | END_STREAM, stream, &block)).await;
        client.until(|frame| frame.stream == stream && frame.kind == HEADERS).await;
        stream += 2;
    }
    assert!(backend.heads().is_empty(), "{:?}", backend.heads());
    let codes: Vec<_> = gateway.records().iter().filter_map(|record| record["status"].as_u64()).collect();
    assert!(codes.iter().all(|status| (400..502).contains(status)), "{codes:?}");

    // What is sent before the answer belongs to the tunnel, in order; trailers end it.
    client.send(&frame(HEADERS, END_HEADERS, stream, &extended(&[]))).await;
    client.send(&frame(DATA, 0, stream, b"early")).await;
    let answer = client.until(|frame| frame.stream == stream && frame.kind == DATA).await;
    assert_eq!(answer.payload, b"early");
    client.send(&frame(HEADERS, END_HEADERS | END_STREAM, stream, &block(&[("x-remote-user", "evil")]))).await;
    client.until(|frame| frame.stream == stream && frame.kind == DATA && frame.flags & END_STREAM != 0).await;
    let record = gateway.record(|record| record["status"] == 101).await;
    assert_eq!((&record["bytes_in"], &record["complete"]), (&5.into(), &true.into()), "{record}");
}

#[tokio::test]
async fn a_client_that_opens_no_window_does_not_hold_the_tunnel() {
    let (gateway, _backend) =
        scene(LIVE, "listeners: [ { name: public, address: \"127.0.0.1:0\", limits: { write-timeout: 1s } } ]").await;
    let mut client = Raw::open(gateway.address(), 0).await;

    client.send(&frame(HEADERS, END_HEADERS, 1, &extended(&[]))).await;
    client.until(|frame| frame.stream == 1 && frame.kind == HEADERS).await;
    client.send(&frame(DATA, 0, 1, b"what nobody reads")).await;

    assert_eq!(client.until_reset(1).await, CANCEL);
    let record = gateway.record(|record| record["path"] == "/live/echo").await;
    assert_eq!((&record["ended_by"], &record["complete"]), (&"caller".into(), &false.into()), "{record}");
}

#[tokio::test]
async fn it_is_announced_where_a_route_lets_websockets_open() {
    for (route, announced) in [(LIVE.to_owned(), true), (LIVE.replace("upgrades: [websocket], ", ""), false)] {
        let (gateway, _backend) = scene(&route, "").await;
        let mut socket = TcpStream::connect(gateway.address()).await.unwrap();
        socket.write_all(&[b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".as_slice(), &frame(SETTINGS, 0, 0, &[])].concat()).await.unwrap();

        let mut head = [0; 9];
        in_time(socket.read_exact(&mut head)).await.unwrap();
        assert_eq!(head[3], SETTINGS);
        let mut settings = vec![0; usize::from(head[2])];
        in_time(socket.read_exact(&mut settings)).await.unwrap();

        assert_eq!(settings.chunks(6).any(|setting| setting == ANNOUNCED), announced, "{settings:?}");
    }
}
