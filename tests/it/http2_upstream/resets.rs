//! Tests of cancelled requests, and of backends that limit them.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
};

use h2::Reason;
use http::Method;

use super::{
    Http2Caller,
    backend::{Backend, Manners},
    gateway_before, read, request, soon, until,
};
use crate::support::RawConnection;

#[tokio::test]
async fn a_request_that_is_given_up_is_reset_at_the_backend() {
    let backend = Backend::start(Manners::default()).await;
    let gateway = gateway_before(backend.address).await;
    let mut caller = RawConnection::open(gateway.address()).await;
    caller.send(b"GET /hang HTTP/1.1\r\nHost: api.contoso.example\r\n\r\n").await;
    until(|| backend.begun("/hang") == 1).await;

    drop(caller);

    until(|| backend.resets() == 1).await;
    soon(gateway.get("/small").send()).await.assert_allowed();
    assert_eq!(backend.connections(), 1);
}

#[tokio::test]
async fn an_answer_that_is_given_up_is_reset_and_gives_its_window_back() {
    let backend = Backend::start(Manners::default()).await;
    let gateway = gateway_before(backend.address).await;
    let mut caller = Http2Caller::connect(gateway.address()).await;

    for number in 1..=40 {
        let answer = soon(caller.get("/big").await).await.unwrap();
        drop(answer);
        until(|| backend.resets() == number).await;
    }

    assert_eq!(soon(gateway.get("/big").send()).await.body.len(), super::backend::BIG);
    assert_eq!(backend.connections(), 1);
}

/// Tests a backend that ends a connection after 200 resets, as many do since CVE-2023-44487.
#[tokio::test]
async fn a_flood_of_requests_that_are_given_up_costs_nobody_else_the_answer() {
    let backend = Backend::start(Manners { patience: Some(200), ..Manners::default() }).await;
    let gateway = gateway_before(backend.address).await;
    let mut caller = Http2Caller::connect(gateway.address()).await;
    // One that may not be repeated, and waits all the while.
    let (waiting, _) = caller.send(request(Method::POST, "/wait"), true).await;
    until(|| backend.begun("/wait") == 1).await;
    let (over, answered) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let others = tokio::spawn({
        let (over, answered, mut caller) = (over.clone(), answered.clone(), Http2Caller::connect(gateway.address()).await);
        async move {
            while !over.load(SeqCst) {
                let (answer, _) = caller.send(request(Method::POST, "/small"), true).await;
                let answer = soon(answer).await.unwrap();
                assert_eq!(answer.status(), 200);
                assert_eq!(read(answer.into_body()).await.unwrap(), b"small");
                answered.fetch_add(1, SeqCst);
            }
        }
    });

    for _ in 0..20 {
        let mut flood = Http2Caller::connect(gateway.address()).await;
        let before = backend.begun("/hang");
        let mut streams = Vec::new();
        for _ in 0..30 {
            streams.push(flood.send(request(Method::GET, "/hang"), true).await);
        }
        until(|| backend.begun("/hang") == before + 30).await;
        streams.iter_mut().for_each(|(_, stream)| stream.send_reset(Reason::CANCEL));
        until(|| backend.resets() >= before + 30).await;
    }
    over.store(true, SeqCst);
    others.await.unwrap();
    backend.go();

    assert_eq!(soon(waiting).await.unwrap().status(), 200);
    assert!(answered.load(SeqCst) > 20);
    assert!((4..=12).contains(&backend.connections()), "{} connections", backend.connections());
}

/// Tests a backend with a lower limit: repeatable requests are repeated.
#[tokio::test]
async fn a_request_that_may_be_repeated_survives_a_connection_that_others_brought_down() {
    let backend = Backend::start(Manners { patience: Some(5), ..Manners::default() }).await;
    let gateway = gateway_before(backend.address).await;
    let mut caller = Http2Caller::connect(gateway.address()).await;
    let mut waiting = Vec::new();
    for _ in 0..8 {
        waiting.push(caller.get("/wait").await);
    }
    until(|| backend.begun("/wait") == 8).await;
    let mut flood = Http2Caller::connect(gateway.address()).await;
    let mut streams = Vec::new();
    for _ in 0..5 {
        streams.push(flood.send(request(Method::GET, "/hang"), true).await);
    }
    until(|| backend.begun("/hang") == 5).await;

    streams.iter_mut().for_each(|(_, stream)| stream.send_reset(Reason::CANCEL));
    until(|| backend.begun("/wait") == 16).await;
    backend.go();

    for answer in waiting {
        assert_eq!(soon(answer).await.unwrap().status(), 200);
    }
    assert_eq!(backend.connections(), 2, "all of them go to one new connection");
}
