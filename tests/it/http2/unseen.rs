//! Requests that the library refuses before anybody sees them leave a record all the same.

use std::sync::Arc;

use entrada::Reason;
use tokio::sync::Semaphore;

use super::raw::{DATA, END_HEADERS, END_STREAM, FIRST_WINDOW, HEADERS, RST_STREAM, Raw, block, frame, get};
use crate::support::{Gateway, RawUpstream, Step, eventually};

const ROUTE: &str = "  - { name: open, match: { path: /open }, anonymous: true, upstream: backend }";
const PROTOCOL_ERROR: u32 = 1;
const REFUSED_STREAM: u32 = 7;
const PSEUDO: [(&str, &str); 3] = [(":method", "GET"), (":scheme", "http"), (":authority", "a")];

async fn gateway(steps: Vec<Step>) -> (Gateway, RawUpstream) {
    let upstream = RawUpstream::answering(steps).await;
    (Gateway::start(&upstream.config(ROUTE)).await, upstream)
}

#[tokio::test]
async fn a_request_that_is_malformed_in_http2_is_reset_and_recorded() {
    let (gateway, upstream) = gateway(vec![Step::send("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhi")]).await;
    let mut client = Raw::open(gateway.address(), FIRST_WINDOW).await;
    let with = |more: &[(&str, &str)]| get("/open", more);
    let pseudo = |fields: &[(&str, &str)]| block(&[&PSEUDO[..], fields].concat());
    let cases = [
        ("connection", with(&[("connection", "close")])),
        ("keep-alive", with(&[("keep-alive", "timeout=5")])),
        ("transfer-encoding", with(&[("transfer-encoding", "chunked")])),
        ("upgrade", with(&[("upgrade", "websocket")])),
        ("te: gzip", with(&[("te", "gzip")])),
        ("content-length", with(&[("content-length", "x")])),
        ("no :path", pseudo(&[])),
        ("empty :path", pseudo(&[(":path", "")])),
        (":path with a space", pseudo(&[(":path", "/a b")])),
        (":path twice", pseudo(&[(":path", "/open"), (":path", "/open")])),
        (":status", pseudo(&[(":path", "/open"), (":status", "200")])),
        ("CONNECT with a path", block(&[(":method", "CONNECT"), (":authority", "a:443"), (":scheme", "http"), (":path", "/")])),
        (
            "CONNECT with a protocol",
            block(&[
                (":method", "CONNECT"),
                (":authority", "a"),
                (":scheme", "http"),
                (":path", "/"),
                (":protocol", "websocket"),
            ]),
        ),
    ];
    for (index, (name, block)) in cases.iter().enumerate() {
        let stream = u32::try_from(index).unwrap() * 2 + 1;
        client.send(&frame(HEADERS, END_HEADERS | END_STREAM, stream, block)).await;

        let answer = client.until(|frame| frame.stream == stream && matches!(frame.kind, HEADERS | RST_STREAM)).await;

        assert_eq!((answer.kind, answer.code()), (RST_STREAM, PROTOCOL_ERROR), "{name}");
        eventually(name, async || gateway.records().len() > index).await;
        let record = gateway.record(|_| true).await;
        assert_eq!(
            (&record["decision"], &record["code"]),
            (&"deny".into(), &Reason::RequestHeaderInvalid.code().into()),
            "{name}: {record}"
        );
        assert!(record.get("status").is_none(), "{name}: {record}");
        assert_eq!((&record["complete"], &record["bytes_out"]), (&false.into(), &0.into()), "{name}: {record}");
        assert!(
            record["cause"].as_str().unwrap().contains("its stream was reset") && record["peer"].is_string(),
            "{name}: {record}"
        );
    }
    assert_eq!(gateway.records().len(), cases.len());
    assert_eq!(upstream.received().len(), 0);
    let metrics = reqwest::get(format!("http://{}/metrics", gateway.admin_address())).await.unwrap().text().await.unwrap();
    let counted = format!("decision=\"deny\",code=\"request-header-invalid\"}} {}", cases.len());
    assert!(metrics.contains(&counted), "{metrics}");
    // The connection is good for more.
    client.get(101, "/open", &[]).await;
    client.until(|frame| frame.kind == DATA && frame.stream == 101).await;
}

#[tokio::test]
async fn a_stream_that_is_one_too_many_is_refused_and_recorded() {
    let go = Arc::new(Semaphore::new(0));
    let (gateway, upstream) = gateway(vec![Step::Wait(go.clone()), Step::send("HTTP/1.1 204 No Content\r\n\r\n")]).await;
    let mut client = Raw::open(gateway.address(), FIRST_WINDOW).await;
    for stream in 0..100 {
        client.get(stream * 2 + 1, "/open", &[]).await;
    }
    eventually("all requests", async || upstream.received().len() >= 100).await;

    client.get(201, "/open", &[]).await;

    assert_eq!(client.until_reset(201).await, REFUSED_STREAM);
    let record = gateway.record(|record| record["code"] == Reason::Overloaded.code()).await;
    assert!(record["decision"] == "error" && record.get("status").is_none() && record["complete"] == false, "{record}");
    go.add_permits(100);
}
