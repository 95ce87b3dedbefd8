//! Tests of servers that break off, stay silent, or send unrequested bytes.

use http_body_util::BodyExt;

use super::{
    servers::{Good, Scripted, Step},
    *,
};

const FINE: Step = Step::Write("HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nfine");

#[tokio::test]
async fn nobody_there_is_unreachable() {
    let nobody = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let upstream = upstream(config(&[format!("http://{nobody}")]));

    let error = get(&upstream, "/").await.unwrap_err();

    assert_eq!(&**error.server().unwrap(), nobody.to_string());
    assert_eq!(Refusal::from(error).reason, Reason::UpstreamUnreachable);
}

#[tokio::test]
async fn a_server_that_is_not_there_is_passed_over() {
    let nobody = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let server = Good::http1().await;
    let upstream = upstream(config(&[format!("http://{nobody}"), server.url()]));

    for _ in 0..4 {
        let (sender, body) = frames();
        sender.send(Ok(Frame::data(Bytes::from("body")))).await.unwrap();
        drop(sender);
        let response = send(&upstream, request(Method::POST, "/echo"), body).await.unwrap();
        assert_eq!(&**response.body().server(), format!("127.0.0.1:{}", server.port()));
        assert_eq!(read(response).await.unwrap().1, "body");
    }
}

#[tokio::test]
async fn a_silent_server_times_out_and_its_connection_is_closed() {
    let server = Scripted::start(&[&[Step::Head], &[Step::Head, Step::Write("HTTP/1.1 200 OK\r\ncontent-")]]).await;
    let mut config = config(&[server.url()]);
    config.timeouts.response = short(50);
    let upstream = upstream(config);

    for _ in 0..2 {
        assert_eq!(reason(get(&upstream, "/").await), Reason::UpstreamTimeout);
        server.closed.notified().await;
    }
}

#[tokio::test]
async fn a_tls_server_that_does_not_shake_hands_is_unreachable() {
    let server = Scripted::start(&[&[Step::Until("never")]]).await;
    let authority = super::servers::TestAuthority::new();
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("ca.pem"), authority.pem()).unwrap();
    let mut config = config(&[server.url().replace("http:", "https:")]);
    config.tls.ca = Some("ca.pem".to_owned());
    config.timeouts.connect = short(50);
    let upstream = upstream_beside(config, folder.path());

    assert_eq!(reason(get(&upstream, "/").await), Reason::UpstreamUnreachable);
}

#[tokio::test]
async fn answers_that_break_the_protocol_are_refused() {
    for answer in [
        "",
        "SSH-2.0-OpenSSH_9.9\r\n\r\n",
        "HTTP/1.1 200",
        "HTTP/1.1 200 OK\r\nbad name: 1\r\n\r\n",
        "HTTP/1.1 200 OK\r\nname: a\r\n folded\r\n\r\n",
        "HTTP/1.1 200 OK\r\nname: a\0b\r\n\r\n",
        "HTTP/1.1 200 OK\r\ncontent-length: 3\r\ncontent-length: 4\r\n\r\nfour",
        "HTTP/1.1 200 OK\r\ncontent-length: +3\r\n\r\nabc",
        "HTTP/1.1 200 OK\r\ncontent-length: 3\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n",
    ] {
        let server = Scripted::start(&[&[Step::Head, Step::Write(answer), Step::Close]]).await;
        let upstream = upstream(config(&[server.url()]));

        assert_eq!(reason(get(&upstream, "/").await), Reason::UpstreamProtocolError, "{answer:?}");
    }
}

#[tokio::test]
async fn a_body_that_breaks_off_is_no_clean_end() {
    for answer in [
        "HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n4\r\nhalf\r\n",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n4\r\nhalf\r\n0\r\n",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n4\r\nhalf-and-more\r\n",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n4\r\nhalf\r\nzz\r\n",
    ] {
        let server = Scripted::start(&[&[Step::Head, Step::Write(answer), Step::Close], &[Step::Head, FINE]]).await;
        let upstream = upstream(config(&[server.url()]));

        match send(&upstream, request(Method::GET, "/"), Empty::new().map_err(never)).await {
            // What is broken was there with the head.
            Err(error) => assert!(matches!(error, UpstreamError::Protocol { .. }), "{error:?}"),
            Ok(response) => {
                let mut body = response.into_body();
                assert_eq!(body.frame().await.unwrap().unwrap().into_data().unwrap(), "half", "{answer:?}");
                let error = body.frame().await.expect("an error, not an end").unwrap_err();
                assert!(matches!(error, UpstreamError::BrokenOff { .. }), "{error:?}");
            }
        }
        assert_eq!(get(&upstream, "/").await.unwrap().1, "fine", "{answer:?}");
    }
}

#[tokio::test]
async fn a_body_without_length_ends_with_its_connection() {
    let server =
        Scripted::start(&[&[Step::Head, Step::Write("HTTP/1.1 200 OK\r\n\r\nall of it"), Step::Close], &[Step::Head, FINE]])
            .await;
    let upstream = upstream(config(&[server.url()]));

    assert_eq!(get(&upstream, "/").await.unwrap().1, "all of it");
    assert_eq!(get(&upstream, "/").await.unwrap().1, "fine");
    assert_eq!(server.connections(), 2);
}

#[tokio::test]
async fn surplus_bytes_are_nobodys_answer() {
    for surplus in [
        Step::Write("HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nfineHTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nevil"),
        Step::Write("HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nfine!"),
        Step::Write(
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n4\r\nfine\r\n0\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nevil",
        ),
    ] {
        let server = Scripted::start(&[&[Step::Head, surplus], &[Step::Head, FINE]]).await;
        let upstream = upstream(config(&[server.url()]));

        assert_eq!(get(&upstream, "/one").await.unwrap().1, "fine");
        assert_eq!(get(&upstream, "/two").await.unwrap().1, "fine");

        assert_eq!(server.connections(), 2);
        server.closed.notified().await;
    }
}

#[tokio::test]
async fn bytes_that_come_while_idle_close_the_connection() {
    let server = Scripted::start(&[
        &[Step::Head, FINE, Step::Write("HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nevil")],
        &[Step::Head, FINE],
    ])
    .await;
    let upstream = upstream(config(&[server.url()]));

    assert_eq!(get(&upstream, "/one").await.unwrap().1, "fine");
    server.closed.notified().await;
    assert_eq!(get(&upstream, "/two").await.unwrap().1, "fine");

    assert_eq!(server.connections(), 2);
}

#[tokio::test]
async fn a_request_on_a_dying_connection_is_sent_once_more() {
    // The first connection is closed as the second request arrives: before any byte of an answer.
    let server = Scripted::start(&[&[Step::Head, FINE, Step::Head, Step::Close], &[Step::Head, FINE]]).await;
    let upstream = upstream(config(&[server.url()]));
    get(&upstream, "/one").await.unwrap();

    assert_eq!(get(&upstream, "/two").await.unwrap().1, "fine");

    assert_eq!(server.heads().iter().filter(|head| head.starts_with("GET /two ")).count(), 2);
}

#[tokio::test]
async fn a_request_on_a_new_connection_is_sent_once() {
    let server = Scripted::start(&[&[Step::Head, Step::Close], &[Step::Head, FINE]]).await;
    let upstream = upstream(config(&[server.url()]));

    assert_eq!(reason(get(&upstream, "/").await), Reason::UpstreamProtocolError);
    assert_eq!(server.heads().len(), 1);
}

#[tokio::test]
async fn what_may_have_been_done_is_not_done_twice() {
    let server = Scripted::start(&[&[Step::Head, FINE, Step::Head, Step::Close], &[Step::Head, FINE]]).await;
    let upstream = upstream(config(&[server.url()]));
    get(&upstream, "/").await.unwrap();

    assert_eq!(reason(post(&upstream, "/order", "one").await), Reason::UpstreamProtocolError);

    assert_eq!(server.heads().iter().filter(|head| head.starts_with("POST /order ")).count(), 1);
}

#[tokio::test]
async fn an_answer_that_is_dropped_closes_its_connection() {
    let server = Scripted::start(&[
        &[Step::Head, Step::Write("HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\nhalf")],
        &[Step::Head, FINE],
    ])
    .await;
    let upstream = upstream(config(&[server.url()]));

    let response = send(&upstream, request(Method::GET, "/"), Empty::new().map_err(never)).await.unwrap();
    drop(response);
    server.closed.notified().await;

    assert_eq!(get(&upstream, "/").await.unwrap().1, "fine");
}

#[tokio::test]
async fn a_request_that_is_abandoned_closes_its_connection() {
    let server = Scripted::start(&[&[Step::Head]]).await;
    let upstream = upstream(config(&[server.url()]));
    let mut waiting = Box::pin(get(&upstream, "/"));
    while server.heads().is_empty() {
        tokio::select! { biased; _ = &mut waiting => unreachable!("nobody answers"), () = tokio::task::yield_now() => {} }
    }

    drop(waiting);

    server.closed.notified().await;
    assert_eq!(upstream.servers().map(|(_, in_flight)| in_flight).sum::<usize>(), 0);
}

#[tokio::test]
async fn an_early_answer_ends_the_request_and_its_connection() {
    let server = Scripted::start(&[
        &[Step::Head, Step::Write("HTTP/1.1 413 Content Too Large\r\ncontent-length: 4\r\n\r\nfull")],
        &[Step::Head, FINE],
    ])
    .await;
    let upstream = upstream(config(&[server.url()]));
    let (sender, body) = frames();

    let response = send(&upstream, request(Method::POST, "/"), body).await.unwrap();
    assert_eq!(read(response).await.unwrap(), (413, "full".to_owned()));
    server.closed.notified().await;
    drop(sender);

    assert_eq!(get(&upstream, "/").await.unwrap().1, "fine");
}

#[tokio::test]
async fn a_body_that_is_refused_ends_the_request_with_its_reason() {
    for server in [Good::http1().await] {
        let upstream = upstream(config(&[server.url()]));
        let (sender, body) = frames();
        sender.send(Err(Reason::BodyTooLarge.into())).await.unwrap();

        assert_eq!(reason(send(&upstream, request(Method::POST, "/"), body).await), Reason::BodyTooLarge);
    }
}

#[tokio::test]
async fn a_body_on_its_way_keeps_the_answer_from_being_overdue() {
    let server = Scripted::start(&[&[Step::Head, Step::Until("0\r\n\r\n"), FINE]]).await;
    let mut config = config(&[server.url()]);
    config.timeouts.response = short(300);
    let upstream = upstream(config);
    let (sender, body) = frames();
    let started = std::time::Instant::now();
    let uploading = tokio::spawn(async move {
        let mut pace = tokio::time::interval(Duration::from_millis(50));
        for _ in 0..10 {
            pace.tick().await;
            sender.send(Ok(Frame::data(Bytes::from("x")))).await.unwrap();
        }
    });

    let answer = read(send(&upstream, request(Method::POST, "/"), body).await.unwrap()).await;

    assert_eq!(answer.unwrap().1, "fine");
    assert!(started.elapsed() > Duration::from_millis(400));
    uploading.await.unwrap();
}

#[tokio::test]
async fn a_caller_that_stops_sending_is_the_one_who_is_late() {
    let server = Scripted::start(&[&[Step::Head]]).await;
    let mut config = config(&[server.url()]);
    config.timeouts.response = short(50);
    let upstream = upstream(config);
    let (sender, body) = frames();

    assert_eq!(reason(send(&upstream, request(Method::POST, "/"), body).await), Reason::RequestTimeout);
    drop(sender);
}

#[tokio::test]
async fn idle_connections_are_closed_in_time() {
    let server = Scripted::start(&[&[Step::Head, FINE], &[Step::Head, FINE]]).await;
    let mut config = config(&[server.url()]);
    config.timeouts.idle = short(20);
    let upstream = upstream(config);

    for _ in 0..2 {
        assert_eq!(get(&upstream, "/").await.unwrap().1, "fine");
        server.closed.notified().await;
    }
    assert_eq!(server.connections(), 2);
}

#[tokio::test]
async fn connections_close_with_their_upstream() {
    let server = Scripted::start(&[&[Step::Head, FINE]]).await;
    let upstream = upstream(config(&[server.url()]));
    get(&upstream, "/").await.unwrap();

    drop(upstream);

    server.closed.notified().await;
}

#[tokio::test]
async fn a_closed_http2_connection_is_replaced() {
    use super::super::config::ProtocolConfig;
    // A server that says GOAWAY: its preface is a SETTINGS frame, then stream 0 ends.
    let goaway = "\0\0\0\x04\0\0\0\0\0\0\0\x08\x07\0\0\0\0\0\0\0\0\0\0\0\0";
    let server = Scripted::start(&[&[Step::Until("SM\r\n\r\n"), Step::Write(goaway), Step::Close]]).await;
    let upstream = upstream(UpstreamConfig { protocol: ProtocolConfig::Http2, ..config(&[server.url()]) });

    assert_eq!(reason(get(&upstream, "/").await), Reason::UpstreamProtocolError);
    assert_eq!(server.connections(), 1);
}

const BUSY: Step = Step::Write("HTTP/1.1 503 Service Unavailable\r\ncontent-length: 4\r\n\r\nbusy");

fn resilient(servers: &[String], more: &serde_json::Value) -> UpstreamConfig {
    let mut config = serde_json::json!({ "servers": servers, "balance": "round-robin" });
    config.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    serde_json::from_value(config).unwrap()
}

#[tokio::test]
async fn what_is_to_be_tried_again_is() {
    for (failure, when) in
        [(&[Step::Head, BUSY][..], "503"), (&[Step::Head, Step::Close], "reset-before-response"), (&[Step::Head], "timeout")]
    {
        let (bad, good) = (Scripted::start(&[failure]).await, Good::http1().await);
        let retries = serde_json::json!({ "retries": { "when": [when] }, "timeouts": { "response": "100ms" } });
        let upstream = upstream(resilient(&[bad.url(), good.url()], &retries));

        assert_eq!(get(&upstream, "/").await.unwrap().0, 200, "{when}");
        assert_eq!((bad.connections(), good.connections()), (1, 1), "{when}");
    }
}

#[tokio::test]
async fn what_is_not_to_be_tried_again_is_not() {
    let retries = serde_json::json!({ "retries": { "attempts": 2, "when": ["503"] } });
    let (bad, good) = (
        Scripted::start(&[&[Step::Head, Step::Until("body"), BUSY, Step::Close], &[Step::Head, Step::Close]]).await,
        Good::http1().await,
    );
    // A method that may change something; a failure that is not listed.
    let upstream = upstream(resilient(&[bad.url(), good.url()], &retries));
    assert_eq!(post(&upstream, "/", "body").await.unwrap().0, 503);
    assert_eq!(get(&upstream, "/").await.unwrap().0, 200);
    assert_eq!(reason(get(&upstream, "/").await), Reason::UpstreamProtocolError);

    // No more than so many times.
    let busy = Scripted::start(&[&[Step::Head, BUSY, Step::Close][..]; 4]).await;
    let upstream = super::upstream(resilient(&[busy.url()], &retries));
    assert_eq!(get(&upstream, "/").await.unwrap(), (503, "busy".to_owned()));
    assert_eq!(busy.connections(), 3);
}

#[tokio::test]
async fn an_answer_to_half_a_body_is_not_asked_for_again() {
    let retries = serde_json::json!({ "retries": { "when": ["503"] } });
    let (bad, good) = (Scripted::start(&[&[Step::Head, Step::Until("half"), BUSY]]).await, Good::http1().await);
    let upstream = upstream(resilient(&[bad.url(), good.url()], &retries));
    let (sender, body) = frames();
    sender.send(Ok(Frame::data(Bytes::from("half")))).await.unwrap();

    let answer = read(send(&upstream, request(Method::PUT, "/"), body).await.unwrap()).await.unwrap();

    assert_eq!(answer, (503, "busy".to_owned()));
    assert_eq!(good.connections(), 0);
    drop(sender);
}

#[tokio::test]
async fn a_server_that_keeps_failing_is_left_alone() {
    let script = &[Step::Head, BUSY, Step::Head, BUSY, Step::Head, BUSY][..];
    let (bad, good) = (Scripted::start(&[script]).await, Good::http1().await);
    let ejection = serde_json::json!({ "ejection": { "consecutive-failures": 2, "for": "1h" } });
    let upstream = upstream(resilient(&[bad.url(), good.url()], &ejection));

    let mut statuses = Vec::new();
    for _ in 0..8 {
        statuses.push(get(&upstream, "/").await.unwrap().0);
    }

    assert_eq!(statuses, [503, 200, 503, 200, 200, 200, 200, 200]);
    assert_eq!(upstream.states().map(|state| state.ejected).collect::<Vec<_>>(), [true, false]);
}

#[tokio::test]
async fn the_last_server_is_never_left_alone() {
    let script = &[Step::Head, BUSY, Step::Head, BUSY, Step::Head, FINE][..];
    let server = Scripted::start(&[script]).await;
    let ejection = serde_json::json!({ "ejection": { "consecutive-failures": 1, "for": "1h" } });
    let upstream = upstream(resilient(&[server.url()], &ejection));

    assert_eq!(get(&upstream, "/").await.unwrap().0, 503);
    assert_eq!(get(&upstream, "/").await.unwrap().0, 503);
    assert_eq!(get(&upstream, "/").await.unwrap().1, "fine");
}

#[tokio::test]
async fn a_server_whose_checks_fail_gets_no_requests_until_they_pass() {
    // Each check comes on a connection of its own: two fail, then two pass.
    let check = |answer: Step| [Step::Head, answer];
    let (bad, well) = (check(BUSY), check(FINE));
    let server = Scripted::start(&[&bad, &bad, &well, &well, &well]).await;
    let health = serde_json::json!({ "health": { "path": "/healthz?deep", "interval": "100ms", "healthy": 2, "unhealthy": 2 } });
    let configs = BTreeMap::from([("orders".to_owned(), resilient(&[server.url() + "/base"], &health))]);
    let upstreams = Upstreams::build(&configs, Path::new("/"), 1, None, &Place::root(), &mut Faults::default());
    upstreams.start(&tokio::runtime::Handle::current());
    upstreams.start(&tokio::runtime::Handle::current());
    let upstream = upstreams.find("orders").unwrap();
    let healthy = || upstream.states().all(|state| state.healthy);

    assert!(healthy());
    while healthy() {
        tokio::task::yield_now().await;
    }
    assert_eq!(reason(get(upstream, "/").await), Reason::NoHealthyUpstream);
    while !healthy() {
        tokio::task::yield_now().await;
    }

    assert_eq!(get(upstream, "/").await.unwrap().1, "fine");
    assert!(server.heads()[..4].iter().all(|head| head.starts_with("GET /base/healthz?deep HTTP/1.1\r\n")));
}
