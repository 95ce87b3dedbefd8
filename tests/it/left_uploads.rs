//! Uploads that break off, over both protocols: whose fault that was, by the record.

use std::net::SocketAddr;

use entrada::Reason;
use serde_json::Value;
use tokio::{io::AsyncReadExt, net::TcpListener, sync::mpsc};

use crate::{
    http2::raw::{CANCEL, DATA, END_HEADERS, END_STREAM, FIRST_WINDOW, HEADERS, RST_STREAM, Raw, block, frame, in_time},
    support::{Gateway, RawConnection, eventually},
};

const HEAD: &str = "POST /open HTTP/1.1\r\nhost: a\r\ncontent-length: 100\r\n\r\n0123456789";

/// A backend that reads and never answers. Tells of each request's head.
async fn reader() -> (SocketAddr, mpsc::UnboundedReceiver<()>) {
    let socket = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = socket.local_addr().unwrap();
    let (sender, heads) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = socket.accept().await {
            let sender = sender.clone();
            tokio::spawn(async move {
                let (mut read, mut told) = (Vec::new(), false);
                while stream.read_buf(&mut read).await.is_ok_and(|count| count > 0) {
                    if !told && read.windows(10).any(|bytes| bytes == b"0123456789") {
                        told = true;
                        let _ = sender.send(());
                    }
                }
            });
        }
    });
    (address, heads)
}

async fn gateway(limits: &str) -> (Gateway, mpsc::UnboundedReceiver<()>) {
    let (address, heads) = reader().await;
    let config = format!(
        "listeners: [ {{ name: public, address: \"127.0.0.1:0\", limits: {{ {limits} }} }} ]\n\
         upstreams: {{ backend: {{ servers: [\"http://{address}\"] }} }}\n\
         routes: [ {{ name: open, match: {{ path: /open }}, anonymous: true, upstream: backend }} ]"
    );
    (Gateway::start(&config).await, heads)
}

/// A stream on which a part of an upload was sent, of which the backend has got that.
async fn upload(gateway: &Gateway, heads: &mut mpsc::UnboundedReceiver<()>) -> Raw {
    let mut client = Raw::open(gateway.address(), FIRST_WINDOW).await;
    let head = [(":method", "POST"), (":scheme", "http"), (":authority", "a"), (":path", "/open"), ("content-length", "100")];
    client.send(&frame(HEADERS, END_HEADERS, 1, &block(&head))).await;
    client.send(&frame(DATA, 0, 1, b"0123456789")).await;
    in_time(heads.recv()).await.unwrap();
    client
}

fn assert_left(record: &Value) {
    assert_eq!((&record["decision"], &record["code"]), (&"error".into(), &Reason::ClientLeft.code().into()), "{record}");
    assert!(record.get("status").is_none() && record["complete"] == false, "{record}");
    assert_eq!(record["bytes_in"], 10, "{record}");
}

#[tokio::test]
async fn a_caller_who_breaks_off_an_upload_has_left() {
    for end in ["reset", "close", "half-close", "stream reset", "connection closed"] {
        for _ in 0..5 {
            let (gateway, mut heads) = gateway("").await;
            match end {
                "stream reset" => {
                    let mut client = upload(&gateway, &mut heads).await;
                    client.send(&frame(RST_STREAM, 0, 1, &CANCEL.to_be_bytes())).await;
                    assert_left(&gateway.record(|record| record["route"] == "open").await);
                }
                "connection closed" => {
                    drop(upload(&gateway, &mut heads).await);
                    assert_left(&gateway.record(|record| record["route"] == "open").await);
                }
                _ => {
                    let mut caller = RawConnection::open(gateway.address()).await;
                    caller.send(HEAD.as_bytes()).await;
                    in_time(heads.recv()).await.unwrap();
                    match end {
                        "reset" => caller.reset(),
                        "close" => drop(caller),
                        _ => {
                            // One that still reads is told that this was no request.
                            caller.end().await;
                            let answer = in_time(caller.read_to_end()).await;
                            assert!(answer.starts_with("HTTP/1.1 400 ") && answer.contains("\"client-left\""), "{answer}");
                        }
                    }
                    assert_left(&gateway.record(|record| record["route"] == "open").await);
                }
            }
        }
    }
}

#[tokio::test]
async fn an_upload_that_breaks_http2_is_refused_for_that() {
    for (name, more) in [("too much", frame(DATA, END_STREAM, 1, &[b'x'; 200])), ("too little", frame(DATA, END_STREAM, 1, b"x"))]
    {
        let (gateway, mut heads) = gateway("").await;
        let mut client = upload(&gateway, &mut heads).await;

        client.send(&more).await;

        client.until_reset(1).await;
        let record = gateway.record(|record| record["route"] == "open").await;
        let told = (&record["decision"], &record["code"], &record["complete"]);
        assert_eq!(told, (&"deny".into(), &Reason::RequestFramingInvalid.code().into(), &false.into()), "{name}: {record}");
        assert!(record.get("status").is_none(), "{name}: {record}");
    }
}

#[tokio::test]
async fn a_body_that_rests_ends_with_body_timeout_over_both_protocols() {
    let (gateway, mut heads) = gateway("body-timeout: 1s, idle-timeout: 1h").await;
    let mut caller = RawConnection::open(gateway.address()).await;
    caller.send(HEAD.as_bytes()).await;
    in_time(heads.recv()).await.unwrap();
    let mut client = upload(&gateway, &mut heads).await;

    assert!(in_time(caller.read_to_end()).await.starts_with("HTTP/1.1 408 "));
    client.until(|frame| frame.kind == HEADERS && frame.stream == 1).await;

    let late = |record: &&serde_json::Value| record["code"] == "request-timeout" && record["status"] == 408;
    eventually("both records", async || gateway.records().iter().filter(late).count() >= 2).await;
}
