//! Tests of the limits of the admin and health listeners, which are those of a public listener.

use std::net::{SocketAddr, TcpListener as StdListener};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

use crate::support::{Gateway, LONGEST_WAIT, eventually};

/// The maximum number of connections of either listener.
const CONNECTIONS: usize = 256;

/// Starts a gateway with a separate health listener; returns the addresses of both.
async fn started() -> (Gateway, [SocketAddr; 2]) {
    let health = StdListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let routes = "routes: [ { name: own, match: { path: /own }, anonymous: true, respond: { status: 200 } } ]\ndrain-timeout: 1s";
    let gateway = Gateway::start(&format!("{routes}\nhealth: {{ address: \"{health}\" }}\n")).await;
    let addresses = [gateway.admin_address(), health];
    (gateway, addresses)
}

async fn open(address: SocketAddr, begins_with: &str) -> TcpStream {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(begins_with.as_bytes()).await.unwrap();
    stream
}

/// Reads until the other side ends; a reset is an end like any other.
async fn to_end(mut stream: TcpStream) -> String {
    let mut bytes = Vec::new();
    let _ = timeout(LONGEST_WAIT, stream.read_to_end(&mut bytes)).await.expect("the connection ends");
    String::from_utf8_lossy(&bytes).into_owned()
}

#[tokio::test]
async fn a_slow_or_silent_head_is_ended_on_the_admin_and_health_listeners() {
    let (_gateway, addresses) = started().await;
    let ended = addresses.map(async |address| {
        let slow = open(address, "GET /healthz HTTP/1.1\r\nhost: loc").await;
        let silent = open(address, "").await;
        tokio::join!(to_end(slow), to_end(silent))
    });

    for (slow, silent) in futures_util::future::join_all(ended).await {
        assert!(slow.starts_with("HTTP/1.1 408 ") && slow.contains("request-timeout"), "{slow}");
        assert_eq!(silent, "", "a connection that said nothing is told nothing");
    }
}

#[tokio::test]
async fn silent_connections_keep_nobody_from_the_health_listener() {
    let (_gateway, [_, health]) = started().await;
    let mut silent = Vec::new();
    for _ in 0..2 * CONNECTIONS {
        silent.push(TcpStream::connect(health).await.unwrap());
    }

    // New connections have a second to say something before they count as resting ones.
    let begun = std::time::Instant::now();
    let answer = loop {
        let probe = open(health, "GET /healthz HTTP/1.1\r\nhost: 127.0.0.1\r\nconnection: close\r\n\r\n").await;
        let answer = to_end(probe).await;
        if answer.starts_with("HTTP/1.1 200 ") {
            break answer;
        }
        assert!(begun.elapsed() < LONGEST_WAIT, "{answer}");
    };

    assert!(answer.ends_with("alive\n"), "{answer}");
    // The one that made room may be seen to be closed a moment later than the answer.
    eventually("there are no more silent connections than places", async || {
        let is_open =
            |stream: &&TcpStream| stream.try_read(&mut [0]).is_err_and(|error| error.kind() == std::io::ErrorKind::WouldBlock);
        silent.iter().filter(is_open).count() <= CONNECTIONS
    })
    .await;
}

#[tokio::test]
async fn heads_that_can_be_read_in_two_ways_are_refused_on_the_admin_listener() {
    let (_gateway, addresses) = started().await;
    for (bytes, code) in [
        ("GET /healthz HTTP/1.1\nhost: localhost\n\n", "HTTP/1.1 400 "),
        (
            "POST /healthz HTTP/1.1\r\nhost: localhost\r\ncontent-length: 1\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
            "HTTP/1.1 400 ",
        ),
        ("GET /healthz HTTP/3.7\r\nhost: localhost\r\n\r\n", "HTTP/1.1 "),
    ] {
        for address in addresses {
            let answer = to_end(open(address, bytes).await).await;

            assert!(answer.starts_with(code) && !answer.contains("alive"), "{bytes:?}: {answer}");
        }
    }
}

#[tokio::test]
async fn a_connection_that_rests_is_closed_when_the_gateway_drains() {
    let (mut gateway, [_, health]) = started().await;
    let mut resting = open(health, "GET /healthz HTTP/1.1\r\nhost: localhost\r\n\r\n").await;
    let mut head = [0; 12];
    resting.read_exact(&mut head).await.unwrap();
    assert_eq!(&head, b"HTTP/1.1 200");

    // The health listener goes; the gateway stays.
    let routes =
        "routes: [ { name: own, match: { path: /own }, anonymous: true, respond: { status: 200 } } ]\ndrain-timeout: 60s";
    gateway.reload(routes).await;

    assert!(to_end(resting).await.ends_with("alive\n"));
}
