//! Tests of the upstream side: the gateway's own token, tunnels, streams, and faulty backends.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use bytes::Bytes;
use entrada::{
    Clock, Reason,
    cli::certificate::NewCertificate,
    dev_tenant::{App, DevTenant, Options},
};
use http::{Method, Response, StatusCode};
use http_body_util::Full;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

use crate::support::{Gateway, ORDERS_TOKEN, TestBed, Upstream, config};

const OPEN: &str = "- { name: open, match: { path: /open }, anonymous: true, upstream: backend }";
const CLIENT_ID: &str = "00001111-aaaa-2222-bbbb-3333cccc4444";

/// Starts a gateway with a certificate of its own, and a route that uses it.
async fn house_with_credential(upstream: Upstream) -> (TestBed, tempfile::TempDir) {
    let tenant = DevTenant::start(Options::default()).await.unwrap();
    let certificate = NewCertificate { subject: "CN=gateway".into(), days: 30, bits: 2048 }.make(&Clock::system()).unwrap();
    tenant.register(App::new(CLIENT_ID).named("gateway").certificate_pem(certificate.certificate_pem()));
    let folder = tempfile::tempdir().unwrap();
    let pem = folder.path().join("gateway.pem");
    std::fs::write(&pem, certificate.pem().as_bytes()).unwrap();
    let route = format!(
        "- {{ name: internal, match: {{ path: /internal }}, inbound: [ {ORDERS_TOKEN} ], authorization: {{ credential: gateway, scope: api://orders/.default }}, upstream: backend }}"
    );
    let credential = format!(
        "credentials: {{ gateway: {{ tenant: contoso, client-id: {CLIENT_ID}, certificate: {{ pem: {} }}, required: true }} }}",
        pem.display()
    );
    let gateway = Gateway::start(&config(&tenant, &upstream, &route, &credential)).await;
    (TestBed { tenant, upstream, gateway }, folder)
}

#[tokio::test]
async fn the_gateways_own_token_takes_the_place_of_the_callers() {
    let (bed, _folder) = house_with_credential(Upstream::start().await).await;
    let token = bed.user_token();

    for _ in 0..3 {
        bed.gateway.get("/internal/7").bearer(&token).send().await.assert_allowed();
    }

    let received = bed.upstream.last();
    let sent = received.value("authorization").unwrap();
    assert!(sent.starts_with("Bearer ey") && !sent.contains(&token), "the caller's token must not go on");
    assert_eq!(bed.tenant.calls("/oauth2/v2.0/token"), 1, "one token serves all requests");
    let record = bed.gateway.record(|record| record["credential"] == "gateway").await;
    assert_eq!(record["decision"], "allow");
}

#[tokio::test]
async fn a_refused_own_token_is_had_afresh_once() {
    let calls = Arc::new(AtomicUsize::new(0));
    let counted = calls.clone();
    let upstream = Upstream::answering(move |_| {
        let status = if counted.fetch_add(1, Ordering::Relaxed) == 0 { StatusCode::UNAUTHORIZED } else { StatusCode::OK };
        Response::builder().status(status).header("www-authenticate", "Bearer realm=\"internal\"").body(Full::default()).unwrap()
    })
    .await;
    let (bed, _folder) = house_with_credential(upstream).await;

    bed.gateway.get("/internal").bearer(bed.user_token()).send().await.assert_allowed();

    assert_eq!(calls.load(Ordering::Relaxed), 2);
    assert_eq!(bed.tenant.calls("/oauth2/v2.0/token"), 2);
}

#[tokio::test]
async fn a_backend_that_keeps_refusing_the_gateway_is_502_and_its_challenge_stays_inside() {
    let upstream = Upstream::answering(|_| {
        Response::builder().status(401).header("www-authenticate", "Bearer realm=\"internal\"").body(Full::default()).unwrap()
    })
    .await;
    let (bed, _folder) = house_with_credential(upstream).await;

    let answer = bed.gateway.get("/internal").bearer(bed.user_token()).send().await;

    answer.assert_refused(Reason::UpstreamRefusedCredential);
    assert_eq!(answer.header("www-authenticate"), None);
}

#[tokio::test]
async fn a_kept_tokens_401_passes_through() {
    let upstream = Upstream::answering(|_| {
        Response::builder()
            .status(401)
            .header("www-authenticate", "Bearer error=\"insufficient_claims\"")
            .body(Full::default())
            .unwrap()
    })
    .await;
    let route = format!(
        "- {{ name: orders, match: {{ path: /orders }}, inbound: [ {ORDERS_TOKEN} ], authorization: keep, upstream: backend }}"
    );
    let bed = TestBed::around(upstream, &route, "").await;

    let answer = bed.gateway.get("/orders").bearer(bed.user_token()).send().await;

    assert_eq!(answer.status, StatusCode::UNAUTHORIZED);
    assert_eq!(answer.header("www-authenticate"), Some("Bearer error=\"insufficient_claims\""));
}

/// Starts a backend of one connection with a scripted behaviour.
async fn raw_backend<F: Future<Output = ()> + Send>(serve: impl FnOnce(TcpStream) -> F + Send + 'static) -> String {
    let socket = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", socket.local_addr().unwrap());
    tokio::spawn(async move {
        let (stream, _) = socket.accept().await.unwrap();
        serve(stream).await;
    });
    url
}

async fn read_head(stream: &mut TcpStream) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.unwrap());
    }
    String::from_utf8(head).unwrap()
}

async fn gateway_before(url: &str, route: &str) -> Gateway {
    Gateway::start(&format!("upstreams: {{ backend: {{ servers: [\"{url}\"] }} }}\nroutes:\n  {route}\n")).await
}

#[tokio::test]
async fn a_websocket_becomes_a_tunnel_where_the_route_lets_it() {
    let url = raw_backend(|mut stream| async move {
        let head = read_head(&mut stream).await.to_ascii_lowercase();
        assert!(head.contains("upgrade: websocket") && head.contains("connection: upgrade"), "{head}");
        stream.write_all(b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n").await.unwrap();
        let mut word = [0; 4];
        stream.read_exact(&mut word).await.unwrap();
        stream.write_all(&word).await.unwrap();
    })
    .await;
    let route = "- { name: open, match: { path: /open }, anonymous: true, upgrades: [websocket], upstream: backend }";
    let gateway = gateway_before(&url, route).await;
    let mut caller = TcpStream::connect(gateway.address()).await.unwrap();

    let request = "GET /open HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n";
    caller.write_all(request.as_bytes()).await.unwrap();
    let head = read_head(&mut caller).await;
    caller.write_all(b"ping").await.unwrap();
    let mut word = [0; 4];
    caller.read_exact(&mut word).await.unwrap();

    assert!(head.starts_with("HTTP/1.1 101"), "{head}");
    assert_eq!(&word, b"ping");
}

#[tokio::test]
async fn an_upgrade_that_the_route_does_not_name_is_an_ordinary_request() {
    let bed = TestBed::with(OPEN, "").await;

    let call = bed.gateway.get("/open").header("Connection", "Upgrade").header("Upgrade", "websocket");
    call.send().await.assert_allowed();

    assert!(!bed.upstream.last().headers.contains_key("upgrade"));
}

#[tokio::test]
async fn an_answer_that_breaks_off_never_looks_whole() {
    let url = raw_backend(|mut stream| async move {
        read_head(&mut stream).await;
        stream.write_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n").await.unwrap();
    })
    .await;
    let gateway = gateway_before(&url, OPEN).await;
    let mut caller = TcpStream::connect(gateway.address()).await.unwrap();

    caller.write_all(b"GET /open HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
    let mut answer = Vec::new();
    let _ = caller.read_to_end(&mut answer).await;

    let answer = String::from_utf8(answer).unwrap();
    assert!(!answer.ends_with("0\r\n\r\n"), "{answer}");
    let record = gateway.record(|record| record["path"] == "/open").await;
    // Where the end came with the beginning nothing had left yet.
    let whole = answer.starts_with("HTTP/1.1 502 ");
    assert_eq!((&record["complete"], record["status"] == 502), (&whole.into(), whole), "{record}");
}

#[tokio::test]
async fn a_backend_that_speaks_no_http_is_502() {
    let url = raw_backend(|mut stream| async move {
        read_head(&mut stream).await;
        stream.write_all(b"220 mail.contoso.example ready\r\n").await.unwrap();
    })
    .await;
    let gateway = gateway_before(&url, OPEN).await;

    gateway.get("/open").send().await.assert_refused(Reason::UpstreamProtocolError);
}

#[tokio::test]
async fn a_caller_that_leaves_is_recorded() {
    let (arrived, mut wait) = tokio::sync::mpsc::channel(1);
    let url = raw_backend(|mut stream| async move {
        read_head(&mut stream).await;
        arrived.send(()).await.unwrap();
        // Never answers; the gateway closes when its caller has left.
        let _ = stream.read_u8().await;
    })
    .await;
    let gateway = gateway_before(&url, OPEN).await;
    let mut caller = TcpStream::connect(gateway.address()).await.unwrap();

    caller.write_all(b"GET /open/left HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
    wait.recv().await.unwrap();
    caller.set_zero_linger().unwrap();
    drop(caller);

    let record = gateway.record(|record| record["path"] == "/open/left").await;
    assert_eq!(record["complete"], false);
    assert!(record.get("status").is_none(), "{record}");
}

#[tokio::test]
async fn bodies_go_through_both_ways_as_they_are() {
    let upstream = Upstream::answering(|received| Response::new(Full::new(received.body.clone()))).await;
    let bed = TestBed::around(upstream, OPEN, "").await;
    let body = Bytes::from((0..3_000_000_u32).map(|index| (index % 251) as u8).collect::<Vec<_>>());

    let answer = bed.gateway.request(Method::PUT, "/open").body(body.clone()).send().await;

    answer.assert_allowed();
    assert!(answer.body == body, "the body was changed on the way");
}
