//! An answer counts as sent when it has left, however small it is: until then its request holds its permits and has no record.

use std::time::Duration;

use http::StatusCode;
use serde_json::Value;
use tokio::{io::AsyncReadExt, net::TcpStream};

use super::raw::{DATA, END_STREAM, FIRST_WINDOW, HEADERS, RST_STREAM, Raw, frame, in_time};
use crate::support::{Answer, RawConnection, TestBed, eventually};

const PERMIT: &str = "limit-concurrency: { max-count: 2, key: all }";
/// The body of the backend's responses.
const BODY: &[u8] = b"from the backend";
/// More than the system keeps for a client that reads nothing.
const LARGE: usize = 12 << 20;

async fn bed(limits: &str) -> TestBed {
    let routes = format!(
        "- {{ name: open, match: {{ path: /open }}, inbound: [ {PERMIT} ], anonymous: true, upstream: backend }}\n\
         - {{ name: own, match: {{ path: /own }}, inbound: [ {PERMIT} ], anonymous: true, respond: {{ status: 200, body: {} }} }}",
        "x".repeat(LARGE)
    );
    TestBed::with(&routes, &format!("listeners: [ {{ name: public, address: \"127.0.0.1:0\", limits: {{ {limits} }} }} ]")).await
}

/// The records of requests that were let through.
fn allowed(bed: &TestBed) -> Vec<Value> {
    bed.gateway.records().into_iter().filter(|record| record["decision"] == "allow").collect()
}

async fn ask(bed: &TestBed, path: &str) -> Answer {
    bed.gateway.get(path).send().await
}

/// Asks until a place is free: it is given back a moment after the client has the answer.
async fn assert_free(bed: &TestBed, path: &str) {
    eventually("a free place", async || ask(bed, path).await.status == StatusCode::OK).await;
}

#[tokio::test]
async fn small_answers_that_no_window_was_opened_for_keep_their_permits_and_are_not_complete() {
    let bed = bed("write-timeout: 1h").await;
    let mut client = Raw::open(bed.gateway.address(), 0).await;
    for stream in [1, 3] {
        client.get(stream, "/open", &[]).await;
        let head = client.until(|frame| frame.kind == HEADERS && frame.stream == stream).await;
        assert_eq!(head.payload[0], 0x88, "`:status: 200`");
    }

    assert_eq!(ask(&bed, "/open").await.status, StatusCode::TOO_MANY_REQUESTS);
    assert_eq!(allowed(&bed), [] as [Value; 0]);

    // Not all of it.
    client.open_window(1, 4).await;
    client.until(|frame| frame.kind == DATA && frame.stream == 1).await;
    assert_eq!(ask(&bed, "/open").await.status, StatusCode::TOO_MANY_REQUESTS);
    // All of it.
    client.open_window(1, 100).await;
    client.until(|frame| frame.kind == DATA && frame.flags & END_STREAM != 0).await;
    let record = bed.gateway.record(|record| record["decision"] == "allow").await;
    assert_eq!((&record["complete"], &record["bytes_out"]), (&true.into(), &BODY.len().into()), "{record}");
    assert_free(&bed, "/open").await;

    // Some of it, and no more.
    client.open_window(3, 6).await;
    client.until(|frame| frame.kind == DATA && frame.stream == 3).await;
    client.send(&frame(RST_STREAM, 0, 3, &[0, 0, 0, 8])).await;
    let record = bed.gateway.record(|record| record["complete"] == false && record["status"] == 200).await;
    assert_eq!(record["bytes_out"], 6, "{record}");
}

#[tokio::test]
async fn a_small_answer_that_is_never_taken_is_recorded_as_not_complete() {
    let bed = bed("write-timeout: 1s").await;
    let mut client = Raw::open(bed.gateway.address(), 0).await;

    client.get(1, "/open", &[]).await;
    client.until_reset(1).await;

    let record = bed.gateway.record(|record| record["route"] == "open").await;
    let told = (&record["decision"], &record["status"], &record["complete"], &record["bytes_out"]);
    assert_eq!(told, (&"allow".into(), &200.into(), &false.into(), &0.into()), "{record}");
}

#[tokio::test]
async fn answers_without_a_body_are_complete_whatever_the_window() {
    let bed = bed("").await;
    let mut client = Raw::open(bed.gateway.address(), 0).await;
    let head = [(":method", "HEAD"), (":scheme", "http"), (":authority", "a"), (":path", "/open")];
    client.send(&frame(HEADERS, 5, 1, &super::raw::block(&head))).await;
    client.until(|frame| frame.kind == HEADERS && frame.stream == 1).await;
    let mut other = RawConnection::open(bed.gateway.address()).await;
    other.send(b"HEAD /open HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n").await;
    other.read_to_end().await;

    eventually("both records", async || bed.gateway.records().len() >= 2).await;

    for record in bed.gateway.records() {
        assert_eq!((&record["complete"], &record["bytes_out"]), (&true.into(), &0.into()), "{record}");
    }
}

#[tokio::test]
async fn an_answer_that_waits_in_a_socket_keeps_its_permit_and_is_not_complete() {
    let bed = bed("write-timeout: 1h").await;
    let mut clients = Vec::new();
    for _ in 0..2 {
        let mut client = TcpStream::connect(bed.gateway.address()).await.unwrap();
        tokio::io::AsyncWriteExt::write_all(&mut client, b"GET /own HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
        client.read_u8().await.unwrap();
        clients.push(client);
    }

    assert_eq!(ask(&bed, "/own").await.status, StatusCode::TOO_MANY_REQUESTS);
    assert_eq!(allowed(&bed), [] as [Value; 0]);

    // One takes it, the other leaves.
    let (mut taken, mut buffer) = (0, vec![0; 1 << 20]);
    while taken < LARGE {
        taken += in_time(clients[0].read(&mut buffer)).await.unwrap();
    }
    let record = bed.gateway.record(|record| record["decision"] == "allow").await;
    assert_eq!((&record["complete"], &record["bytes_out"]), (&true.into(), &LARGE.into()), "{}", record["complete"]);
    assert_free(&bed, "/own").await;
    socket2::SockRef::from(&clients[1]).set_linger(Some(Duration::ZERO)).unwrap();
    drop(clients);
    let record = bed.gateway.record(|record| record["complete"] == false && record["status"] == 200).await;
    assert!(record["bytes_out"].as_u64().unwrap() < LARGE as u64, "{record}");
}

/// A client with a wide window is never held up.
#[tokio::test]
async fn one_place_serves_one_call_after_the_other() {
    let bed = bed("").await;
    let mut client = Raw::open(bed.gateway.address(), FIRST_WINDOW).await;
    for stream in (0..20).map(|stream| stream * 2 + 1) {
        client.get(stream, "/open", &[]).await;
        let head = client.until(|frame| frame.kind == HEADERS && frame.stream == stream).await;
        assert_eq!(head.payload[0], 0x88, "`:status: 200`");
        client.until(|frame| frame.kind == DATA && frame.stream == stream && frame.flags & END_STREAM != 0).await;
    }
}
