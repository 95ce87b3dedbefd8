//! Tests of broken responses: 502 while nothing was sent, and otherwise the part received, with a visible end.

use std::{io::ErrorKind, sync::Arc, time::Duration};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpSocket, TcpStream},
    sync::Semaphore,
    time::timeout,
};

use crate::support::{Gateway, RawConnection, RawUpstream, Step};

const ROUTE: &str = "  - { name: open, match: { path: /open }, anonymous: true, upstream: backend }";
const REQUEST: &[u8] = b"GET /open HTTP/1.1\r\nHost: a\r\n\r\n";

async fn bed(steps: Vec<Step>) -> (RawUpstream, Gateway) {
    let upstream = RawUpstream::answering(steps).await;
    let gateway = Gateway::start(&upstream.config(ROUTE)).await;
    (upstream, gateway)
}

/// Reads until the connection ends; returns the bytes, and whether it was reset.
async fn read_to_end(stream: &mut TcpStream, at_once: usize) -> (Vec<u8>, bool) {
    let (mut all, mut part) = (Vec::new(), vec![0; at_once]);
    loop {
        // A slow reader: the gateway and the backend go on between two reads.
        for _ in 0..4 {
            tokio::task::yield_now().await;
        }
        match timeout(Duration::from_secs(30), stream.read(&mut part)).await.expect("the gateway closes") {
            Ok(0) => return (all, false),
            Ok(count) => all.extend_from_slice(&part[..count]),
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::ConnectionReset, "{error}");
                return (all, true);
            }
        }
    }
}

#[tokio::test]
async fn a_broken_answer_is_502_while_nothing_has_left() {
    let chunked = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n";
    for (name, answer, end) in [
        ("padded chunk size", format!("{chunked}5   \r\nhello\r\n0\r\n\r\n"), None),
        ("no chunk size", format!("{chunked}hello\r\n"), None),
        ("chunk size of LF", format!("{chunked}5\nhello\r\n0\r\n\r\n"), None),
        ("second chunk broken", format!("{chunked}5\r\nhello\r\nx\r\n"), None),
        ("chunk longer than its size", format!("{chunked}3\r\nhello\r\n0\r\n\r\n"), None),
        ("broken trailers", format!("{chunked}3\r\nabc\r\n0\r\na b: c\r\n\r\n"), None),
        ("both framings", "HTTP/1.1 200 OK\r\ncontent-length: 3\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n".to_owned(), None),
        ("several lengths", "HTTP/1.1 200 OK\r\ncontent-length: 3\r\ncontent-length: 4\r\n\r\nabcd".to_owned(), None),
        ("bare CR", "HTTP/1.1 200 OK\r\nx: a\rb\r\ncontent-length: 0\r\n\r\n".to_owned(), None),
        ("no HTTP", "SSH-2.0-OpenSSH_9.6\r\n".to_owned(), None),
        ("half a head, then the end", "HTTP/1.1 200 OK\r\ncontent-le".to_owned(), Some(Step::Close)),
        ("half a head, then a reset", "HTTP/1.1 200 OK\r\ncontent-le".to_owned(), Some(Step::Reset)),
        ("nothing", String::new(), Some(Step::Close)),
        ("nothing, and a reset", String::new(), Some(Step::Reset)),
    ] {
        let (_upstream, gateway) = bed([Step::send(answer)].into_iter().chain(end).collect()).await;

        let answer = gateway.get("/open").send().await;

        answer.assert_refused(entrada::Reason::UpstreamProtocolError);
        let record = gateway.record(|record| record["route"] == "open").await;
        assert_eq!((&record["status"], &record["code"]), (&502.into(), &"upstream-protocol-error".into()), "{name}: {record}");
        assert!(!record["cause"].as_str().unwrap().is_empty(), "{name}");
    }
}

#[tokio::test]
async fn a_million_bytes_of_three_arrive_before_the_connection_ends() {
    for (at_once, receive_buffer) in [(1 << 20, None), (2_048, Some(8 << 10))] {
        let head = b"HTTP/1.1 200 OK\r\ncontent-length: 3000000\r\n\r\n".to_vec();
        let (_upstream, gateway) = bed(vec![Step::Send(head), Step::Send(vec![b'x'; 1_000_000]), Step::Close]).await;
        let socket = TcpSocket::new_v4().unwrap();
        if let Some(size) = receive_buffer {
            socket.set_recv_buffer_size(size).unwrap();
        }
        let mut client = socket.connect(gateway.address()).await.unwrap();
        client.write_all(REQUEST).await.unwrap();

        let (answer, reset) = read_to_end(&mut client, at_once).await;

        let head = answer.windows(4).position(|window| window == b"\r\n\r\n").unwrap() + 4;
        assert!(answer.starts_with(b"HTTP/1.1 200 OK\r\n") && !reset, "reads of {at_once}, reset: {reset}");
        assert!(String::from_utf8_lossy(&answer[..head]).contains("content-length: 3000000\r\n"));
        assert_eq!(answer.len() - head, 1_000_000, "reads of {at_once}");
        let record = gateway.record(|record| record["route"] == "open").await;
        assert_eq!((&record["status"], &record["complete"]), (&200.into(), &false.into()), "{record}");
        assert_eq!(record["bytes_out"], 1_000_000, "{record}");
        assert!(record["cause"].as_str().unwrap().contains("middle of the answer"), "{record}");
    }
}

#[tokio::test]
async fn a_slow_upload_does_not_cost_the_client_the_answer_that_broke() {
    let head = b"HTTP/1.1 200 OK\r\ncontent-length: 3000000\r\n\r\n".to_vec();
    let upstream = RawUpstream::answering(vec![Step::Send(head), Step::Send(vec![b'x'; 1_000_000]), Step::Close]).await;
    let gateway = Gateway::start(&upstream.config(ROUTE)).await;
    let mut client = TcpStream::connect(gateway.address()).await.unwrap();
    // What the client sends unasked stays unread, and would make the kernel reset the connection when it is closed.
    client.write_all(REQUEST).await.unwrap();
    client.write_all(b"GET /open HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();

    let (answer, reset) = read_to_end(&mut client, 4_096).await;

    let head = answer.windows(4).position(|window| window == b"\r\n\r\n").unwrap() + 4;
    assert_eq!((answer.len() - head, reset), (1_000_000, false));
}

#[tokio::test]
async fn chunks_that_came_are_delivered_and_the_last_one_is_missing() {
    for (end, cause) in [(Step::send("zz\r\nmore\r\n"), "chunk size"), (Step::Close, "middle of the answer")] {
        let go_on = Arc::new(Semaphore::new(0));
        let head = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n";
        let (_upstream, gateway) = bed(vec![Step::send(head), Step::Wait(go_on.clone()), end]).await;
        let mut client = TcpStream::connect(gateway.address()).await.unwrap();
        client.write_all(REQUEST).await.unwrap();
        let mut first = Vec::new();
        while !first.ends_with(b"5\r\nhello\r\n") {
            assert_ne!(timeout(Duration::from_secs(30), client.read_buf(&mut first)).await.unwrap().unwrap(), 0);
        }

        go_on.add_permits(1);

        assert_eq!(read_to_end(&mut client, 4_096).await, (Vec::new(), false), "{cause}");
        let record = gateway.record(|record| record["route"] == "open").await;
        assert_eq!((&record["status"], &record["complete"], &record["bytes_out"]), (&200.into(), &false.into(), &5.into()));
        assert!(record["cause"].as_str().unwrap().contains(cause), "{record}");
    }
}

#[tokio::test]
async fn a_client_that_could_not_see_the_end_sees_a_reset_behind_all_that_came() {
    let go_on = Arc::new(Semaphore::new(0));
    let head = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n";
    let (_upstream, gateway) = bed(vec![Step::send(head), Step::Wait(go_on.clone()), Step::Close]).await;
    let mut client = TcpStream::connect(gateway.address()).await.unwrap();
    client.write_all(b"GET /open HTTP/1.0\r\nHost: a\r\n\r\n").await.unwrap();
    go_on.add_permits(1);

    let (answer, reset) = read_to_end(&mut client, 4_096).await;

    assert!(answer.ends_with(b"\r\n\r\nhello") || answer.starts_with(b"HTTP/1.1 502"), "{:?}", String::from_utf8_lossy(&answer));
    assert_eq!(reset, answer.ends_with(b"\r\n\r\nhello"), "HTTP/1.0 ends a body with the connection");
}

#[tokio::test]
async fn an_answer_that_comes_bit_by_bit_is_not_held_back() {
    let go_on = Arc::new(Semaphore::new(0));
    let steps = vec![
        Step::send("HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\n"),
        Step::Wait(go_on.clone()),
        Step::send("hello"),
        Step::Wait(go_on.clone()),
        Step::send("world"),
    ];
    let (_upstream, gateway) = bed(steps).await;
    let mut client = RawConnection::open(gateway.address()).await;
    client.send(REQUEST).await;

    for expected in ["\r\n\r\n", "hello", "world"] {
        let part = timeout(Duration::from_secs(30), client.read_until(expected)).await.expect(expected);
        assert!(part.ends_with(expected));
        go_on.add_permits(1);
    }
}
