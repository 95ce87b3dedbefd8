//! Tests that handed-over data are sent before a stream ends.

use std::{sync::Arc, time::Duration};

use entrada::unstable::{
    connection::EventKind,
    listener::{Limits, serve_http2},
};
use tokio::{io::duplex, sync::Semaphore};

use super::raw::{
    CANCEL, DATA, END_HEADERS, END_STREAM, FIRST_WINDOW, HEADERS, RST_STREAM, Raw, SETTINGS, WIDE, block, frame, in_time,
};
use crate::{
    framing::support::Server,
    support::{Gateway, RawUpstream, Step, eventually},
};

const ROUTE: &str = "  - { name: open, match: { path: /open }, anonymous: true, upstream: backend }";
const HEAD: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 3000000\r\n\r\n";
const INTERNAL_ERROR: u32 = 2;

/// Returns the bytes of a stream's response until it is reset, and the code of the reset.
async fn until_reset(client: &mut Raw, stream: u32) -> (usize, u32) {
    let mut bytes = 0;
    loop {
        let frame = client.until(|frame| frame.stream == stream && matches!(frame.kind, DATA | RST_STREAM)).await;
        if frame.kind == RST_STREAM {
            return (bytes, frame.code());
        }
        bytes += frame.payload.len();
    }
}

#[tokio::test]
async fn a_million_bytes_of_three_arrive_before_the_stream_is_reset() {
    let steps = vec![Step::Send(HEAD.to_vec()), Step::Send(vec![b'x'; 1_000_000]), Step::Close];
    let upstream = RawUpstream::answering(steps).await;
    let gateway = Gateway::start(&upstream.config(ROUTE)).await;
    let mut client = Raw::open(gateway.address(), WIDE).await;
    client.open_window(0, WIDE - FIRST_WINDOW).await;

    for stream in [1, 3, 5] {
        client.get(stream, "/open", &[]).await;

        assert_eq!(until_reset(&mut client, stream).await, (1_000_000, INTERNAL_ERROR));
    }
    let record = gateway.record(|record| record["route"] == "open").await;
    assert_eq!((&record["complete"], &record["bytes_out"]), (&false.into(), &1_000_000.into()), "{record}");
}

#[tokio::test]
async fn what_came_before_a_backend_broke_off_arrives() {
    let go_on = Arc::new(Semaphore::new(0));
    // With its head at once, and some time after it.
    for wait in [false, true] {
        let mut steps = vec![Step::Send(HEAD.to_vec())];
        steps.extend(wait.then(|| Step::Wait(go_on.clone())));
        steps.extend([Step::Send(vec![b'x'; 40_000]), Step::Close]);
        let upstream = RawUpstream::answering(steps).await;
        let gateway = Gateway::start(&upstream.config(ROUTE)).await;
        let mut client = Raw::open(gateway.address(), FIRST_WINDOW).await;
        client.open_window(0, WIDE - FIRST_WINDOW).await;
        for stream in (0..10).map(|stream| stream * 2 + 1) {
            client.get(stream, "/open", &[]).await;
            let head = client.until(|frame| frame.stream == stream).await;
            assert_eq!((head.kind, head.payload[0]), (HEADERS, 0x88), "`:status: 200`");
            go_on.add_permits(usize::from(wait));

            assert_eq!(until_reset(&mut client, stream).await, (40_000, INTERNAL_ERROR), "{stream}");
        }
    }
}

/// Runs on a paused clock.
#[tokio::test(start_paused = true)]
async fn an_answer_whose_window_was_taken_back_ends_with_write_timeout() {
    let server = Server::with(Limits { write_timeout: Duration::from_secs(5), ..Limits::default() }, None);
    let (near, far) = duplex(4 << 10);
    tokio::spawn(serve_http2(near, server.listener.clone(), server.backend.clone()));
    let mut client = Raw::over(far, FIRST_WINDOW).await;
    let post = block(&[(":method", "POST"), (":scheme", "http"), (":authority", "a"), (":path", "/echo")]);
    client.send(&frame(HEADERS, END_HEADERS, 1, &post)).await;
    client.send(&frame(DATA, 0, 1, &[b'x'; 16 << 10]).repeat(3)).await;
    client.send(&frame(DATA, END_STREAM, 1, b"end")).await;
    eventually("it is answered", async || server.backend.calls() == 0).await;
    // Tasks take turns: all of it is handed over before the test goes on.
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }

    // Nothing was read: all but the first part still waits for the socket.
    client.send(&frame(SETTINGS, 0, 0, &[0, 4, 0, 0, 0, 0])).await;

    let (mut bytes, begun) = (0, tokio::time::Instant::now());
    let reset = in_time(async {
        loop {
            let frame = client.until(|frame| matches!(frame.kind, DATA | RST_STREAM)).await;
            if frame.kind == RST_STREAM {
                return frame;
            }
            bytes += frame.payload.len();
        }
    })
    .await;
    assert_eq!((reset.code(), reset.stream), (CANCEL, 1));
    assert!(bytes < 3 * (16 << 10), "{bytes}");
    assert!(begun.elapsed() >= Duration::from_secs(5));
    assert_eq!(server.backend.events(), [EventKind::ClientLeft]);
    // The connection is good for more.
    client.get(3, "/hello", &[]).await;
    client.open_window(3, 10).await;
    client.until(|frame| frame.kind == DATA && frame.stream == 3).await;
}
