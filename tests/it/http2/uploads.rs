//! Tests of uploads without an end, and of the fairness between streams.

use super::raw::{ACK, DATA, END_HEADERS, END_STREAM, FIRST_WINDOW, Frame, HEADERS, PING, RST_STREAM, Raw, block, frame, get};
use crate::{framing::support::Server, support::eventually};

fn post(path: &str) -> Vec<u8> {
    block(&[(":method", "POST"), (":scheme", "http"), (":authority", "a"), (":path", path)])
}

async fn assert_served(client: &mut Raw, stream: u32) {
    let ends = |frame: &Frame| frame.stream == stream && (frame.kind == DATA || frame.kind == RST_STREAM);
    assert_eq!(client.until(ends).await.kind, DATA);
}

#[tokio::test]
async fn a_burst_of_cancelled_streams_leaves_the_connection_serving() {
    let server = Server::start();
    let mut client = Raw::open(server.address, FIRST_WINDOW).await;
    let burst: Vec<u8> = (0..30_u32)
        .flat_map(|stream| {
            let id = stream * 2 + 1;
            let head = frame(HEADERS, END_HEADERS | END_STREAM, id, &get("/never", &[]));
            [head, frame(RST_STREAM, 0, id, &[0, 0, 0, 8])].concat()
        })
        .collect();

    client.send(&burst).await;

    client.get(101, "/hello", &[]).await;
    assert_served(&mut client, 101).await;
    eventually("the calls have ended", async || server.backend.calls() == 0).await;
    assert!(server.backend.events().is_empty());
}

#[tokio::test]
async fn an_upload_may_hold_empty_data_frames() {
    let server = Server::start();
    let mut client = Raw::open(server.address, FIRST_WINDOW).await;
    client.send(&frame(HEADERS, END_HEADERS, 1, &post("/read"))).await;

    client.send(&frame(DATA, 0, 1, &[]).repeat(500)).await;
    client.send(&frame(DATA, 0, 1, b"data")).await;
    client.send(&frame(DATA, 0, 1, &[]).repeat(500)).await;
    client.send(&frame(DATA, END_STREAM, 1, b"")).await;

    assert_served(&mut client, 1).await;
    client.get(3, "/hello", &[]).await;
    assert_served(&mut client, 3).await;
}

#[tokio::test]
async fn uploads_that_nobody_reads_take_no_room_of_others() {
    let server = Server::start();
    let mut client = Raw::open(server.address, FIRST_WINDOW).await;
    // The window of the connection is opened behind the settings.
    client.send(&frame(PING, 0, 0, b"12345678")).await;
    client.until(|frame| frame.kind == PING && frame.flags & ACK != 0).await;
    for stream in 0..20 {
        let id = stream * 2 + 1;
        client.send(&frame(HEADERS, END_HEADERS, id, &post("/never"))).await;
        client.send(&frame(DATA, 0, id, &[b'x'; 16 << 10]).repeat(8)).await;
    }

    client.send(&frame(HEADERS, END_HEADERS, 101, &post("/read"))).await;
    client.send(&frame(DATA, 0, 101, &[b'x'; 16 << 10]).repeat(6)).await;
    client.send(&frame(DATA, END_STREAM, 101, b"end")).await;

    assert_served(&mut client, 101).await;
    assert_eq!(server.backend.calls(), 20);
}
