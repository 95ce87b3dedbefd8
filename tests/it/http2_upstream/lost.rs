//! Tests of connections that end, and of backends that violate HTTP/2.

use entrada::Reason;
use http::Method;

use super::{
    Http2Caller,
    frames::{self, DATA, GOAWAY, HEAD, HEADERS, OK, RST_STREAM},
    gateway_before, read, request, soon,
};

/// Answers every request.
async fn serve(mut connection: frames::Connection) {
    while let Some(stream) = connection.request().await {
        connection.answer(stream).await;
    }
}

#[tokio::test]
async fn a_request_that_the_backend_says_it_did_not_look_at_is_sent_once_more_whatever_it_is() {
    for refuse in [false, true] {
        let (address, connections) = frames::backend(move |number, mut connection| async move {
            if number > 0 {
                return serve(connection).await;
            }
            let first = connection.request().await.unwrap();
            connection.answer(first).await;
            let second = connection.request().await.unwrap();
            if refuse {
                connection.write(RST_STREAM, 0, second, &7_u32.to_be_bytes()).await;
            } else {
                connection.go_away(first).await;
            }
            while connection.request().await.is_some() {}
        })
        .await;
        let gateway = gateway_before(address).await;

        for _ in 0..2 {
            let answer = soon(gateway.request(Method::POST, "/orders").send()).await;
            assert_eq!(answer.status, 200, "{}", String::from_utf8_lossy(&answer.body));
        }
        // A connection that refused one stream may take the next.
        assert!(*connections.lock().unwrap() == 2, "refused: {refuse}");
    }
}

#[tokio::test]
async fn what_a_backend_may_have_looked_at_is_not_sent_once_more() {
    let (address, connections) = frames::backend(|number, mut connection| async move {
        if number > 0 {
            return serve(connection).await;
        }
        let first = connection.request().await.unwrap();
        connection.answer(first).await;
        let second = connection.request().await.unwrap();
        connection.go_away(second).await;
    })
    .await;
    let gateway = gateway_before(address).await;
    soon(gateway.request(Method::POST, "/orders").send()).await.assert_allowed();

    let answer = soon(gateway.request(Method::POST, "/orders").send()).await;

    answer.assert_refused(Reason::UpstreamProtocolError);
    assert_eq!(*connections.lock().unwrap(), 1);
}

#[tokio::test]
async fn streams_under_way_end_well_on_a_connection_that_goes_away() {
    let (address, connections) = frames::backend(|number, mut connection| async move {
        if number > 0 {
            return serve(connection).await;
        }
        let first = connection.request().await.unwrap();
        connection.write(HEADERS, HEAD, first, OK).await;
        let second = connection.request().await.unwrap();
        connection.go_away(second).await;
        connection.answer(second).await;
        // The third comes on another connection; then the first one ends.
        connection.write(DATA, 0, first, b"all ").await;
        connection.write(DATA, 1, first, b"of it").await;
        while connection.read().await.is_some() {}
    })
    .await;
    let gateway = gateway_before(address).await;
    let mut caller = Http2Caller::connect(gateway.address()).await;
    let first = soon(caller.get("/first").await).await.unwrap();
    soon(gateway.get("/second").send()).await.assert_allowed();
    soon(gateway.get("/third").send()).await.assert_allowed();

    assert_eq!(read(first.into_body()).await.unwrap(), b"all of it");
    assert_eq!(*connections.lock().unwrap(), 2);
}

#[tokio::test]
async fn an_answer_that_is_reset_in_its_middle_never_looks_whole() {
    for reason in [0_u32, 2, 8] {
        let (address, _) = frames::backend(move |_, mut connection| async move {
            let stream = connection.request().await.unwrap();
            connection.write(HEADERS, HEAD, stream, OK).await;
            connection.write(DATA, 0, stream, b"half").await;
            connection.write(RST_STREAM, 0, stream, &reason.to_be_bytes()).await;
            serve(connection).await;
        })
        .await;
        let gateway = gateway_before(address).await;
        let mut caller = Http2Caller::connect(gateway.address()).await;

        // The end may be known before the head has gone on.
        let answer = soon(caller.get("/half").await).await.unwrap();
        let broken = answer.status() == 502;
        assert!(broken || answer.status() == 200);
        assert_eq!(read(answer.into_body()).await.is_ok(), broken, "half an answer is none");

        let record = gateway.record(|record| record["path"] == "/half").await;
        assert_eq!(record["complete"], broken, "{record}");
        soon(gateway.get("/next").send()).await.assert_allowed();
    }
}

#[tokio::test]
async fn a_backend_that_breaks_http2_is_502_with_a_cause() {
    type Script = &'static [(u8, u8, u32, &'static [u8])];
    let scripts: [(&str, Script); 6] = [
        // `connection: a`, `X: a`, and no status.
        ("a field of a connection", &[(HEADERS, 5, 1, b"\x88\x00\x0aconnection\x01a")]),
        ("upper case", &[(HEADERS, 5, 1, b"\x88\x00\x01X\x01a")]),
        ("no status", &[(HEADERS, 5, 1, b"\x00\x01x\x01a")]),
        ("a broken field block", &[(HEADERS, 5, 1, b"\xff\xff\xff\xff\xff\xff\xff\xff")]),
        ("data before a head", &[(DATA, 1, 1, b"data")]),
        ("an odd GOAWAY", &[(GOAWAY, 0, 5, &[0; 8])]),
    ];
    for (what, script) in scripts {
        let (address, _) = frames::backend(move |number, mut connection| async move {
            if number > 0 {
                return serve(connection).await;
            }
            connection.request().await.unwrap();
            for (kind, flags, stream, payload) in script {
                connection.write(*kind, *flags, *stream, payload).await;
            }
            serve(connection).await;
        })
        .await;
        let gateway = gateway_before(address).await;

        let answer = soon(gateway.request(Method::POST, "/orders").send()).await;

        answer.assert_refused(Reason::UpstreamProtocolError);
        let record = gateway.record(|record| record["code"] == "upstream-protocol-error").await;
        assert!(record["cause"].as_str().is_some_and(|cause| !cause.is_empty()), "{what}: {record}");
        soon(gateway.get("/next").send()).await.assert_allowed();
    }
}

#[tokio::test]
async fn a_stream_that_its_backend_breaks_breaks_no_other() {
    let (address, connections) = frames::backend(|_, mut connection| async move {
        let good = connection.request().await.unwrap();
        let bad = connection.request().await.unwrap();
        connection.write(HEADERS, HEAD, bad, b"\x88\x00\x0aconnection\x01a").await;
        connection.answer(good).await;
        while connection.read().await.is_some() {}
    })
    .await;
    let gateway = gateway_before(address).await;
    let mut caller = Http2Caller::connect(gateway.address()).await;
    let (good, _) = caller.send(request(Method::POST, "/good"), true).await;
    let (bad, _) = caller.send(request(Method::POST, "/bad"), true).await;

    assert_eq!(soon(good).await.unwrap().status(), 200);
    assert_eq!(soon(bad).await.unwrap().status(), 502);
    assert_eq!(*connections.lock().unwrap(), 1);
}
