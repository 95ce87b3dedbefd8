//! The end of a record: whether the whole answer went out, what ended it otherwise, and where the time went.

use bytes::Bytes;
use http::{Method, Response, StatusCode};
use http_body_util::Full;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

use crate::support::{Gateway, LONGEST_WAIT, Upstream};

/// A backend whose answers have the status that their path names, and a body where one may be.
async fn backend() -> Upstream {
    Upstream::answering(|received| {
        let status: u16 = received.uri.path().trim_start_matches('/').parse().unwrap_or(200);
        let body = if matches!(status, 204 | 304 | 500) { Bytes::new() } else { Bytes::from_static(b"a body") };
        let mut response = Response::new(Full::new(body));
        *response.status_mut() = StatusCode::from_u16(status).unwrap();
        response
    })
    .await
}

fn routes(url: &str, more: &str) -> String {
    format!(
        "upstreams: {{ backend: {{ servers: [\"{url}\"] }} }}\nroutes: [ {{ name: open, match: {{ path: / }}, anonymous: true, upstream: backend{more} }} ]\n"
    )
}

#[tokio::test]
async fn an_answer_without_a_body_is_complete_once_its_head_is_sent() {
    let upstream = backend().await;
    let gateway = Gateway::start(&routes(&upstream.url(), "")).await;
    let http2 = reqwest::Client::builder().no_proxy().http2_prior_knowledge().build().unwrap();

    for (method, path) in [
        (Method::GET, "/200"),
        (Method::HEAD, "/201"),
        (Method::GET, "/204"),
        (Method::GET, "/304"),
        (Method::GET, "/500"),
        (Method::HEAD, "/503"),
    ] {
        gateway.request(method.clone(), path).send().await;
        let record = gateway.record(|record| record["path"] == path && record["method"] == method.as_str()).await;
        assert_eq!((&record["complete"], &record["ended_by"]), (&true.into(), &serde_json::Value::Null), "{record}");

        let again = format!("{path}?h2");
        let answer = http2.request(method.clone(), format!("http://{}{again}", gateway.address())).send().await.unwrap();
        assert_eq!(answer.version(), http::Version::HTTP_2);
        drop(answer.bytes().await);
        let count = || gateway.records().iter().filter(|record| record["path"] == path && record["complete"] == true).count();
        let begun = std::time::Instant::now();
        while count() < 2 {
            assert!(begun.elapsed() < LONGEST_WAIT, "{:#?}", gateway.records());
            assert!(gateway.records().iter().all(|record| record["complete"] == true), "{:#?}", gateway.records());
            tokio::task::yield_now().await;
        }
    }
}

/// A tunnel's record comes when it ends, with its bytes and what ended it.
#[tokio::test]
async fn a_tunnel_is_recorded_at_its_end() {
    for (caller_ends, expected) in [(true, "caller"), (false, "upstream")] {
        let socket = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", socket.local_addr().unwrap());
        tokio::spawn(async move {
            let (mut stream, _) = socket.accept().await.unwrap();
            read_head(&mut stream).await;
            stream
                .write_all(b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
                .await
                .unwrap();
            let mut word = [0; 4];
            stream.read_exact(&mut word).await.unwrap();
            stream.write_all(b"pong, pong").await.unwrap();
            if caller_ends {
                let _ = stream.read_to_end(&mut Vec::new()).await;
            }
        });
        let gateway = Gateway::start(&routes(&url, ", upgrades: [websocket]")).await;
        let mut caller = TcpStream::connect(gateway.address()).await.unwrap();

        caller.write_all(b"GET /live HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n").await.unwrap();
        let head = read_head(&mut caller).await;
        assert!(head.starts_with("HTTP/1.1 101"), "{head}");
        caller.write_all(b"ping").await.unwrap();
        let mut answer = [0; 10];
        caller.read_exact(&mut answer).await.unwrap();
        if caller_ends {
            assert!(gateway.records().is_empty(), "the tunnel goes on");
            drop(caller);
        } else {
            let _ = caller.read_to_end(&mut Vec::new()).await;
            drop(caller);
        }

        let record = gateway.record(|record| record["path"] == "/live").await;
        assert_eq!(record["ended_by"], expected, "{record}");
        assert_eq!(
            (&record["status"], &record["bytes_in"], &record["bytes_out"]),
            (&101.into(), &4.into(), &10.into()),
            "{record}"
        );
        assert_eq!(gateway.records().len(), 1);
    }
}

async fn read_head(stream: &mut TcpStream) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.unwrap());
    }
    String::from_utf8(head).unwrap()
}

#[tokio::test]
async fn a_caller_that_leaves_in_the_middle_is_named_as_the_end() {
    let socket = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", socket.local_addr().unwrap());
    tokio::spawn(async move {
        let (mut stream, _) = socket.accept().await.unwrap();
        read_head(&mut stream).await;
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nbeginning").await.unwrap();
        let _ = stream.read_to_end(&mut Vec::new()).await;
    });
    let gateway = Gateway::start(&routes(&url, "")).await;
    let mut caller = TcpStream::connect(gateway.address()).await.unwrap();

    caller.write_all(b"GET /long HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
    read_head(&mut caller).await;
    drop(caller);

    let record = gateway.record(|record| record["path"] == "/long").await;
    assert_eq!((&record["complete"], &record["ended_by"]), (&false.into(), &"caller".into()), "{record}");
}

#[tokio::test]
async fn refusals_say_how_long_their_policies_took() {
    let gateway = Gateway::start(
        "tenants: { c: { id: aaaabbbb-0000-cccc-1111-dddd2222eeee, required: false } }\n\
         routes:\n  - { name: shut, match: { path: /shut }, inbound: [ { validate-azure-ad-token: { tenant: c, audiences: [a], roles: [r] } } ], respond: { status: 200 } }\n",
    )
    .await;

    gateway.get("/shut").send().await;

    let record = gateway.record(|record| record["path"] == "/shut").await;
    assert_eq!(record["decision"], "deny", "{record}");
    assert!(record["policies_us"].as_u64().is_some_and(|time| time > 0), "{record}");
    assert!(record["policies_us"].as_u64() <= record["duration_us"].as_u64(), "{record}");
}

#[tokio::test]
async fn requests_for_protocols_that_a_route_does_not_carry_have_a_hint() {
    let upstream = backend().await;
    let gateway = Gateway::start(&routes(&upstream.url(), "")).await;

    let websocket = gateway
        .get("/ws")
        .header("connection", "upgrade")
        .header("upgrade", "websocket")
        .header("sec-websocket-version", "13")
        .header("sec-websocket-key", "AAAAAAAAAAAAAAAAAAAAAA==");
    websocket.send().await;
    gateway.request(Method::POST, "/grpc").header("content-type", "application/grpc+proto").send().await;
    gateway.get("/plain").send().await;

    for (path, expected) in [("/ws", Some("upgrades: [websocket]")), ("/grpc", Some("protocol: http2")), ("/plain", None)] {
        let record = gateway.record(|record| record["path"] == path).await;
        assert_eq!(record["decision"], "allow", "{record}");
        match expected {
            Some(expected) => assert!(record["hint"].as_str().is_some_and(|hint| hint.contains(expected)), "{record}"),
            None => assert!(record["hint"].is_null(), "{record}"),
        }
    }
}
