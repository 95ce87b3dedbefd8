//! Tests of requests and responses without failures.

use http_body_util::BodyExt;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::{
    super::config::{BalanceConfig, ProtocolConfig},
    servers::{Good, Scripted, Step},
    *,
};

#[tokio::test]
async fn target_and_host_are_made_from_server_and_request() {
    let server = Good::http1().await;
    let port = server.port();
    for (base, host, expected) in [
        ("", None, format!("GET /a%20b/c?x=1 host=127.0.0.1:{port}")),
        ("/api/v2/", None, format!("GET /api/v2/a%20b/c?x=1 host=127.0.0.1:{port}")),
        ("", Some("preserve"), "GET /a%20b/c?x=1 host=api.contoso.example".to_owned()),
        ("", Some("orders.internal"), "GET /a%20b/c?x=1 host=orders.internal".to_owned()),
    ] {
        let upstream = upstream(UpstreamConfig { host: host.map(str::to_owned), ..config(&[server.url() + base]) });
        let request = UpstreamRequest { query: Some("x=1".into()), ..request(Method::GET, "/a%20b/c") };

        let (_, line) = read(send(&upstream, request, Empty::new().map_err(never)).await.unwrap()).await.unwrap();

        assert!(line.starts_with(&format!("{expected} ")), "{line}");
    }
}

#[tokio::test]
async fn http2_authority_is_the_host_and_there_is_no_other() {
    let server = Good::http2().await;
    for (host, expected) in [(None, format!("127.0.0.1:{}", server.port())), (Some("preserve"), "api.contoso.example".into())] {
        let host = host.map(str::to_owned);
        let upstream = upstream(UpstreamConfig { host, protocol: ProtocolConfig::Http2, ..config(&[server.url()]) });

        let (_, line) = get(&upstream, "/x").await.unwrap();

        assert_eq!(line, format!("GET /x host={expected} length=no chunked=false authorization=false HTTP/2.0"));
    }
}

#[tokio::test]
async fn framing_follows_the_body() {
    let server = Good::http1().await;
    let upstream = upstream(config(&[server.url()]));

    let (_, line) = get(&upstream, "/").await.unwrap();
    assert!(line.contains("length=no chunked=false"), "{line}");

    let (_, line) = post(&upstream, "/", "").await.unwrap();
    assert!(line.contains("length=0 chunked=false"), "{line}");

    let (_, line) = post(&upstream, "/", "four").await.unwrap();
    assert!(line.contains("length=4 chunked=false"), "{line}");

    for method in [Method::POST, Method::GET] {
        let (sender, body) = frames();
        sender.send(Ok(Frame::data(Bytes::from("some")))).await.unwrap();
        drop(sender);
        let (_, line) = read(send(&upstream, request(method, "/"), body).await.unwrap()).await.unwrap();
        assert!(line.contains("length=no chunked=true"), "{line}");
    }
}

#[tokio::test]
async fn framing_fields_among_the_headers_are_not_believed() {
    let server = Good::http1().await;
    let upstream = upstream(config(&[server.url()]));
    let mut request = request(Method::POST, "/");
    request.headers = Fields::of(&[("content-length", "400"), ("transfer-encoding", "gzip")]);

    let (_, line) = read(send(&upstream, request, Full::from("four").map_err(never)).await.unwrap()).await.unwrap();

    assert!(line.contains("length=4 chunked=false"), "{line}");
}

#[tokio::test]
async fn requests_one_after_the_other_share_a_connection() {
    for (server, protocol) in [(Good::http1().await, ProtocolConfig::Auto), (Good::http2().await, ProtocolConfig::Http2)] {
        let upstream = upstream(UpstreamConfig { protocol, ..config(&[server.url()]) });

        for _ in 0..20 {
            assert_eq!(get(&upstream, "/").await.unwrap().0, 200);
            assert_eq!(post(&upstream, "/echo", "body").await.unwrap().1, "body");
        }

        assert_eq!(server.connections(), 1);
        assert_eq!(upstream.servers().map(|(_, in_flight)| in_flight).sum::<usize>(), 0);
    }
}

#[tokio::test]
async fn requests_at_once_share_http2_connections() {
    let server = Good::http2().await;
    let upstream = upstream(UpstreamConfig { protocol: ProtocolConfig::Http2, ..config(&[server.url()]) });

    let tasks: Vec<_> = (0..50)
        .map(|number| {
            let upstream = upstream.clone();
            tokio::spawn(async move { get(&upstream, &format!("/{number}")).await.unwrap().1 })
        })
        .collect();

    for (number, task) in tasks.into_iter().enumerate() {
        assert!(task.await.unwrap().starts_with(&format!("GET /{number} ")));
    }
    assert_eq!(server.connections(), 2, "32 streams share a connection");
}

#[tokio::test]
async fn answers_never_cross() {
    for (server, protocol) in [(Good::http1().await, ProtocolConfig::Auto), (Good::http2().await, ProtocolConfig::Http2)] {
        let upstream = upstream(UpstreamConfig { protocol, ..config(&[server.url()]) });

        let tasks: Vec<_> = (0..16)
            .map(|caller| {
                let upstream = upstream.clone();
                tokio::spawn(async move {
                    for number in 0..25 {
                        let path = format!("/{caller}/{number}");
                        // Every third request is abandoned at some point of its way.
                        if number % 3 == 0 {
                            let mut request = Box::pin(get(&upstream, &path));
                            for _ in 0..(caller + number) % 7 {
                                tokio::select! { biased; _ = &mut request => break, () = tokio::task::yield_now() => {} }
                            }
                            continue;
                        }
                        let (_, line) = get(&upstream, &path).await.unwrap();
                        assert!(line.starts_with(&format!("GET {path} ")), "{line}");
                    }
                })
            })
            .collect();

        for task in tasks {
            task.await.unwrap();
        }
        assert_eq!(upstream.servers().map(|(_, in_flight)| in_flight).sum::<usize>(), 0);
    }
}

#[tokio::test]
async fn bodies_stream_both_ways_at_once() {
    for (server, protocol) in [(Good::http1().await, ProtocolConfig::Auto), (Good::http2().await, ProtocolConfig::Http2)] {
        let upstream = upstream(UpstreamConfig { protocol, ..config(&[server.url()]) });
        let (sender, body) = frames();

        let mut response = send(&upstream, request(Method::POST, "/echo"), body).await.unwrap();
        for word in ["one", "two"] {
            sender.send(Ok(Frame::data(Bytes::from(word)))).await.unwrap();
            let frame = response.body_mut().frame().await.unwrap().unwrap();
            assert_eq!(frame.into_data().unwrap(), word);
        }
        drop(sender);

        assert_eq!(read(response).await.unwrap().1, "");
    }
}

#[tokio::test]
async fn a_body_that_nobody_reads_holds_the_server_back() {
    let server = Good::http1().await;
    let upstream = upstream(config(&[server.url()]));
    let (sender, body) = frames();
    let response = send(&upstream, request(Method::POST, "/echo"), body).await.unwrap();

    let mut taken = 0;
    let chunk = Bytes::from(vec![7; 64 * 1024]);
    while tokio::time::timeout(Duration::from_millis(200), sender.send(Ok(Frame::data(chunk.clone())))).await.is_ok() {
        taken += chunk.len();
        assert!(taken < 64 << 20, "nothing holds the body back");
    }
    drop(sender);

    let body = response.into_body().collect().await.unwrap().to_bytes();
    assert!(body.len() >= taken, "{} of {taken} bytes arrived", body.len());
}

#[tokio::test]
async fn trailers_of_an_answer_pass_and_those_of_a_request_do_not() {
    let server = Good::http2().await;
    let upstream = upstream(UpstreamConfig { protocol: ProtocolConfig::Http2, ..config(&[server.url()]) });

    let body = send(&upstream, request(Method::GET, "/trailers"), Empty::new().map_err(never)).await.unwrap().into_body();
    let trailers = body.collect().await.unwrap().trailers().cloned().unwrap();
    assert_eq!(trailers["grpc-status"], "0");
    assert!(!trailers.contains_key("set-cookie"));

    let (sender, body) = frames();
    let response = send(&upstream, request(Method::POST, "/echo"), body).await.unwrap();
    sender.send(Ok(Frame::data(Bytes::from("message")))).await.unwrap();
    let mut trailers = HeaderMap::new();
    trailers.insert("x-remote-user", HeaderValue::from_static("evil"));
    sender.send(Ok(Frame::trailers(trailers))).await.unwrap();
    let echoed = response.into_body().collect().await.unwrap();
    assert!(echoed.trailers().is_none());
    assert_eq!(echoed.to_bytes(), "message");
}

#[tokio::test]
async fn interim_answers_are_passed_over_and_redirects_are_not_followed() {
    let server = Scripted::start(&[&[
        Step::Head,
        Step::Write(
            "HTTP/1.1 103 Early Hints\r\nlink: </a.css>\r\n\r\nHTTP/1.1 302 Found\r\nlocation: /b\r\ncontent-length: 0\r\n\r\n",
        ),
    ]])
    .await;
    let upstream = upstream(config(&[server.url()]));

    let response = send(&upstream, request(Method::GET, "/a"), Empty::new().map_err(never)).await.unwrap();

    assert_eq!(response.status(), 302);
    assert_eq!(response.headers().get("location").unwrap(), "/b");
    assert!(!response.headers().contains_key("link"));
    assert_eq!(server.heads().len(), 1);
}

#[tokio::test]
async fn a_head_answer_has_the_length_and_no_body() {
    let answer = "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n";
    let server = Scripted::start(&[&[Step::Head, Step::Write(answer), Step::Head, Step::Write(answer)]]).await;
    let upstream = upstream(config(&[server.url()]));

    for _ in 0..2 {
        let response = send(&upstream, request(Method::HEAD, "/"), Empty::new().map_err(never)).await.unwrap();
        assert_eq!(response.headers().get("content-length").unwrap(), "5");
        assert_eq!(read(response).await.unwrap().1, "");
    }
    assert_eq!(server.connections(), 1);
}

#[tokio::test]
async fn a_connection_switches_protocols_when_asked() {
    let server = Good::http1().await;
    let upstream = upstream(config(&[server.url()]));
    let mut response = send_upgrade(&upstream, "/switch").await.unwrap();
    assert_eq!(response.status(), 101);
    assert_eq!(response.headers().get("upgrade").unwrap(), "websocket");

    let mut stream = response.body_mut().take_upgrade().unwrap();
    drop(response);
    stream.write_all(b"ping").await.unwrap();
    let mut word = [0; 4];
    stream.read_exact(&mut word).await.unwrap();

    assert_eq!(&word, b"ping");
    assert_eq!(upstream.servers().map(|(_, in_flight)| in_flight).sum::<usize>(), 1);
    drop(stream);
    assert_eq!(upstream.servers().map(|(_, in_flight)| in_flight).sum::<usize>(), 0);
    assert_eq!(get(&upstream, "/").await.unwrap().0, 200);
    assert_eq!(server.connections(), 2);
}

#[tokio::test]
async fn a_refused_upgrade_is_an_answer_like_any_other() {
    let server = Good::http1().await;
    let upstream = upstream(config(&[server.url()]));

    let mut response = send_upgrade(&upstream, "/").await.unwrap();

    assert_eq!(response.status(), 200);
    assert!(response.body_mut().take_upgrade().is_none());
}

#[tokio::test]
async fn round_robin_takes_turns_and_least_requests_avoids_the_busy() {
    let answer = Step::Write("HTTP/1.1 204 No Content\r\n\r\n");
    let script = &[Step::Head, answer, Step::Head, answer, Step::Head, answer][..];
    let (one, two) = (Scripted::start(&[script]).await, Scripted::start(&[script]).await);
    let balance = BalanceConfig::RoundRobin;
    let upstream = upstream(UpstreamConfig { balance, ..config(&[one.url(), two.url()]) });
    for _ in 0..6 {
        get(&upstream, "/").await.unwrap();
    }
    assert_eq!((one.heads().len(), two.heads().len()), (3, 3));

    let (slow, quick) = (Scripted::start(&[&[Step::Head]]).await, Good::http1().await);
    let upstream = super::upstream(config(&[slow.url(), quick.url()]));
    let waiting = tokio::spawn({
        let upstream = upstream.clone();
        async move { get(&upstream, "/").await }
    });
    while slow.heads().is_empty() {
        tokio::task::yield_now().await;
    }
    for _ in 0..5 {
        assert_eq!(get(&upstream, "/").await.unwrap().0, 200);
    }
    assert_eq!(slow.heads().len(), 1);
    waiting.abort();
}
