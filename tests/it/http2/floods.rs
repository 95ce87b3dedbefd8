//! Tests of frames that cost a client nothing: a limited number is accepted.

use entrada::unstable::{connection::EventKind, listener::serve_http2};
use tokio::io::{AsyncRead, AsyncWrite, DuplexStream, duplex};

use super::raw::{
    DATA, END_HEADERS, END_STREAM, ENHANCE_YOUR_CALM, FIRST_WINDOW, Frame, GOAWAY, HEADERS, PING, PRIORITY, RST_STREAM, Raw,
    SETTINGS, WIDE, WINDOW_UPDATE, block, frame, get, in_time,
};
use crate::{framing::support::Server, support::eventually};

async fn assert_sent_away<T: AsyncRead + AsyncWrite + Unpin>(server: &Server, mut client: Raw<T>, name: &str) {
    while client.next().await.is_some() {}
    assert_eq!(client.gone, Some(ENHANCE_YOUR_CALM), "{name}");
    drop(client);
    eventually("the connection is closed", async || server.listener.connections() == 0).await;
    eventually("its calls have ended", async || server.backend.calls() == 0).await;
    // What the library counts itself it ends itself.
    let ended = |event: &EventKind| matches!(event, EventKind::Http2Flood | EventKind::Http2Failed);
    assert!(server.backend.events().iter().any(ended), "{name}: {:?}", server.backend.events());
}

/// A client in the same process, on a clock that stands still while there is something to do: on a slow machine the allowance would
/// grow meanwhile, and a client that is late would see a reset instead of the last word.
async fn client_of(server: &Server, window: u32) -> Raw<DuplexStream> {
    let (near, far) = duplex(1 << 20);
    tokio::spawn(serve_http2(near, server.listener.clone(), server.backend.clone()));
    Raw::over(far, window).await
}

#[tokio::test(start_paused = true)]
async fn control_frames_without_end_end_the_connection() {
    for (name, flood) in [
        ("SETTINGS", frame(SETTINGS, 0, 0, &[])),
        ("acknowledged SETTINGS", frame(SETTINGS, 0, 0, &[0, 4, 0, 0, 255, 255])),
        ("PING", frame(PING, 0, 0, b"12345678")),
        ("answered PING", frame(PING, 1, 0, b"12345678")),
        ("PRIORITY", frame(PRIORITY, 0, 1, &[0, 0, 0, 0, 1])),
        ("WINDOW_UPDATE of the connection", frame(WINDOW_UPDATE, 0, 0, &[0, 0, 0, 1])),
        ("WINDOW_UPDATE of a stream", frame(WINDOW_UPDATE, 0, 1, &[0, 0, 0, 1])),
        ("an unknown frame", frame(99, 0, 0, b"?")),
        ("empty DATA", frame(DATA, 0, 1, &[])),
        ("DATA that is padding", frame(DATA, 8, 1, &[3, 0, 0, 0])),
        ("RST_STREAM of a stream that is over", frame(RST_STREAM, 0, 1, &[0, 0, 0, 8])),
    ] {
        let server = Server::start();
        let mut client = client_of(&server, FIRST_WINDOW).await;
        let post = block(&[(":method", "POST"), (":scheme", "http"), (":authority", "a"), (":path", "/read")]);
        client.send(&frame(HEADERS, END_HEADERS, 1, &post)).await;
        eventually("the call begins", async || server.backend.calls() == 1).await;

        // What is allowed is served. DATA that nobody has read the library bounds closer.
        if !name.contains("DATA") {
            client.send(&flood.repeat(1_900)).await;
            client.get(3, "/hello", &[]).await;
            client.until(|frame| frame.kind == DATA && frame.stream == 3 && frame.flags & END_STREAM != 0).await;
        }
        client.flood(&flood.repeat(4_000)).await;

        assert_sent_away(&server, client, name).await;
    }
}

#[tokio::test(start_paused = true)]
async fn streams_that_are_cancelled_without_end_end_the_connection() {
    // Before there is an answer, and in the middle of one.
    for path in ["/never", "/large"] {
        let server = Server::start();
        let mut client = client_of(&server, 1_000).await;
        for stream in 0..1_300 {
            let id = stream * 2 + 1;
            client.flood(&frame(HEADERS, END_HEADERS | END_STREAM, id, &get(path, &[]))).await;
            if path == "/large" {
                let answered = |frame: &Frame| frame.kind == GOAWAY || frame.kind == HEADERS && frame.stream == id;
                client.until(answered).await;
            } else {
                let sent_away = || !server.backend.events().is_empty();
                eventually("the call begins", async || server.backend.calls() == 1 || sent_away()).await;
            }
            if client.gone.is_some() || !server.backend.events().is_empty() {
                break;
            }
            client.flood(&frame(RST_STREAM, 0, id, &[0, 0, 0, 8])).await;
            eventually("the call ends", async || server.backend.calls() == 0).await;
        }

        assert_sent_away(&server, client, path).await;
    }
}

#[tokio::test(start_paused = true)]
async fn streams_that_are_refused_without_end_end_the_connection() {
    let server = Server::start();
    let mut client = client_of(&server, FIRST_WINDOW).await;
    let head = get("/never", &[]);

    for stream in 0..1_300_u32 {
        client.flood(&frame(HEADERS, END_HEADERS | END_STREAM, stream * 2 + 1, &head)).await;
    }

    assert_sent_away(&server, client, "more than a hundred at once").await;
}

#[tokio::test]
async fn a_thousand_streams_may_be_cancelled() {
    let server = Server::start();
    let mut client = Raw::open(server.address, FIRST_WINDOW).await;
    for stream in 0..900_u32 {
        let id = stream * 2 + 1;
        client.get(id, "/never", &[]).await;
        eventually("the call begins", async || server.backend.calls() == 1).await;
        client.send(&frame(RST_STREAM, 0, id, &[0, 0, 0, 8])).await;
        eventually("the call ends", async || server.backend.calls() == 0).await;
    }

    client.get(2_001, "/hello", &[]).await;
    client.until(|frame| frame.kind == DATA && frame.stream == 2_001).await;
    assert!(server.backend.events().is_empty());
}

#[tokio::test]
async fn a_client_that_reads_much_may_open_its_window_often() {
    let server = Server::start();
    let mut client = Raw::open(server.address, FIRST_WINDOW).await;
    for stream in [1, 3, 5] {
        client.get(stream, "/large", &[]).await;
        let mut taken = 0;
        while taken < 5 << 20 {
            let part = client.until(|part| matches!(part.kind, HEADERS | DATA | RST_STREAM | GOAWAY)).await;
            assert!(matches!(part.kind, HEADERS | DATA), "{part:?}");
            if part.kind == DATA {
                taken += part.payload.len();
                client.send(&opened(stream, part.payload.len())).await;
            }
        }
    }
    assert!(server.backend.events().is_empty());
}

/// Opens both windows for every KiB, as clients do that read in small pieces; and sends a ping, as those do that measure the
/// connection.
fn opened(stream: u32, bytes: usize) -> Vec<u8> {
    let mut frames = frame(PING, 0, 0, b"12345678");
    for at in (0..bytes).step_by(1 << 10) {
        let opened = u32::try_from((bytes - at).min(1 << 10)).unwrap().to_be_bytes();
        frames.extend(frame(WINDOW_UPDATE, 0, 0, &opened));
        frames.extend(frame(WINDOW_UPDATE, 0, stream, &opened));
    }
    frames
}

#[tokio::test(start_paused = true)]
async fn a_window_that_is_opened_byte_by_byte_ends_the_connection() {
    let server = Server::start();
    let mut client = client_of(&server, 0).await;
    client.open_window(0, WIDE - FIRST_WINDOW).await;
    client.get(1, "/large", &[]).await;
    in_time(async {
        for _ in 0..4_000 {
            client.flood(&frame(WINDOW_UPDATE, 0, 1, &[0, 0, 0, 1])).await;
        }
    })
    .await;

    assert_sent_away(&server, client, "one byte at a time").await;
}
