//! Tests of windows, and of streams per connection.

use bytes::Bytes;
use http::Method;

use super::{
    Http2Caller,
    backend::{BIG, Backend, Manners},
    gateway_before, read, request, soon, until,
};
use crate::support::RawConnection;

#[tokio::test]
async fn answers_that_nobody_reads_hold_nobody_else_up() {
    let backend = Backend::start(Manners::default()).await;
    let gateway = gateway_before(backend.address).await;
    let mut slow = Vec::new();
    for _ in 0..2 {
        let mut caller = Http2Caller::connect(gateway.address()).await;
        for _ in 0..50 {
            let answer = caller.get("/big").await;
            slow.push(soon(answer).await.unwrap());
        }
    }

    for _ in 0..8 {
        let answer = soon(gateway.get("/big").send()).await;
        assert_eq!((answer.status.as_u16(), answer.body.len()), (200, BIG));
    }

    assert!(backend.most_streams() <= 32, "{} streams share a connection", backend.most_streams());
    assert!((4..=8).contains(&backend.connections()), "{} connections", backend.connections());
    // And what was not read is still there.
    assert_eq!(read(slow.pop().unwrap().into_body()).await.unwrap().len(), BIG);
}

#[tokio::test]
async fn slow_http1_readers_hold_nobody_else_up() {
    let backend = Backend::start(Manners::default()).await;
    let gateway = gateway_before(backend.address).await;
    let mut slow = Vec::new();
    for _ in 0..100 {
        let mut connection = RawConnection::open(gateway.address()).await;
        connection.send(b"GET /big HTTP/1.1\r\nHost: api.contoso.example\r\n\r\n").await;
        slow.push(connection);
    }
    until(|| backend.begun("/big") == 100).await;

    let answer = soon(gateway.get("/big").send()).await;

    assert_eq!((answer.status.as_u16(), answer.body.len()), (200, BIG));
    drop(slow);
}

#[tokio::test]
async fn many_small_parts_that_nobody_reads_cost_nobody_else_the_connection() {
    let backend = Backend::start(Manners::default()).await;
    let gateway = gateway_before(backend.address).await;
    let mut slow = Http2Caller::connect(gateway.address()).await;
    let mut answers = Vec::new();
    for _ in 0..6 {
        answers.push(soon(slow.get("/events").await).await.unwrap());
    }
    let mut caller = Http2Caller::connect(gateway.address()).await;
    let mut waiting = Box::pin(caller.get("/wait").await);
    until(|| backend.begun("/wait") == 1).await;

    // Meanwhile as much comes of them as fits into their windows.
    for _ in 0..10 {
        let answer = soon(gateway.get("/big").send()).await;
        assert_eq!(answer.body.len(), BIG);
    }

    backend.go();
    let answer = soon(&mut waiting).await.expect("its connection is still there");
    assert_eq!(read(answer.into_body()).await.unwrap(), b"waited");
    assert_eq!(backend.connections(), 1);
}

#[tokio::test]
async fn a_server_decides_how_many_streams_there_are() {
    let backend = Backend::start(Manners { streams: Some(2), ..Manners::default() }).await;
    let gateway = gateway_before(backend.address).await;
    let mut caller = Http2Caller::connect(gateway.address()).await;
    let mut answers = Vec::new();
    for _ in 0..6 {
        answers.push(caller.get("/wait").await);
    }
    until(|| backend.begun("/wait") == 6).await;

    assert_eq!((backend.most_streams(), backend.connections()), (2, 3));
    backend.go();
    for answer in answers {
        assert_eq!(soon(answer).await.unwrap().status(), 200);
    }
}

#[tokio::test]
async fn uploads_that_nobody_reads_hold_no_other_upload_up() {
    let backend = Backend::start(Manners::default()).await;
    let gateway = gateway_before(backend.address).await;
    // One that has only begun, on the connection that the others will come on.
    let mut caller = Http2Caller::connect(gateway.address()).await;
    let (answer, mut body) = caller.send(request(Method::POST, "/take"), false).await;
    body.send_data(Bytes::from_static(&[1; 1_000]), false).unwrap();
    until(|| backend.begun("/take") == 1).await;
    let mut stalled = Vec::new();
    for number in 1..=40 {
        let mut connection = RawConnection::open(gateway.address()).await;
        connection.send(b"POST /stall HTTP/1.1\r\nHost: api.contoso.example\r\nContent-Length: 1000000\r\n\r\n").await;
        connection.send(&[2; 100_000]).await;
        stalled.push(connection);
        until(|| backend.begun("/stall") == number).await;
    }

    // A new one.
    let taken = soon(gateway.request(Method::POST, "/take").body(vec![3; 300_000]).send()).await;
    assert_eq!(&taken.body[..], b"300000");
    // And the one that had begun.
    body.send_data(Bytes::from(vec![1; 50_000]), true).unwrap();
    let answer = soon(answer).await.unwrap();
    assert_eq!(read(answer.into_body()).await.unwrap(), b"51000");
    assert!(backend.connections() <= 42, "{} connections", backend.connections());
}

#[tokio::test]
async fn a_connection_that_nobody_needs_is_closed() {
    let backend = Backend::start(Manners::default()).await;
    let gateway = super::gateway_with(backend.address, ", timeouts: { idle: 100ms }").await;

    soon(gateway.get("/small").send()).await.assert_allowed();

    until(|| backend.open_connections() == 0).await;
}
