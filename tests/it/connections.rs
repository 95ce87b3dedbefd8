//! Tests of a full listener: which connections are closed, kept or refused, and exhausted system resources.

use std::{
    net::SocketAddr,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use entrada::ServerOptions;
use tokio::net::TcpStream;

use crate::support::{Gateway, RawConnection, RawUpstream, Step, Upstream, eventually};

const ROUTES: &str = "routes:
  - { name: ping, match: { exact-path: /ping }, anonymous: true, respond: { status: 200, body: pong } }
  - { name: slow, match: { path: /slow }, anonymous: true, upstream: backend }";
const PING: &[u8] = b"GET /ping HTTP/1.1\r\nHost: a\r\n\r\n";
/// A timeout far longer than anything here takes.
const LONGEST: Duration = Duration::from_secs(60);

fn listener(limits: &str, more: &str) -> String {
    format!("listeners: [ {{ name: public, address: \"127.0.0.1:0\", limits: {{ {limits} }}{more} }} ]")
}

async fn gateway(limits: &str, more: &str, workers: usize) -> Gateway {
    let config =
        format!("{}\nupstreams: {{ backend: {{ servers: [\"http://127.0.0.1:9\"] }} }}\n{ROUTES}", listener(limits, more));
    Gateway::start_with(&config, ServerOptions { workers, ..ServerOptions::default() }).await
}

/// Opens a connection that has carried a request, and is idle.
async fn resting(address: SocketAddr) -> RawConnection {
    let mut connection = RawConnection::open(address).await;
    assert!(ping(&mut connection).await, "a new connection is served");
    connection
}

/// Returns whether the connection still carries a request.
async fn ping(connection: &mut RawConnection) -> bool {
    if !connection.try_send(PING).await {
        return false;
    }
    let answer = tokio::time::timeout(LONGEST, connection.try_read_until("pong")).await.expect("an answer or an end");
    answer.is_some_and(|answer| answer.starts_with("HTTP/1.1 200 OK\r\n"))
}

/// Which connections still carry requests, once so many are left: one that another thread has told to go may carry a request more before
/// it hears of it.
async fn survivors(connections: &mut [RawConnection], left: usize) -> Vec<bool> {
    let begun = Instant::now();
    loop {
        let mut alive = Vec::new();
        for connection in &mut *connections {
            alive.push(ping(connection).await);
        }
        let count = alive.iter().filter(|alive| **alive).count();
        if count <= left {
            assert_eq!(count, left, "{alive:?}");
            return alive;
        }
        assert!(begun.elapsed() < LONGEST, "too many are left: {alive:?}");
    }
}

#[tokio::test]
async fn the_connection_that_has_rested_longest_makes_room() {
    for workers in [1, 2] {
        let gateway = gateway("connections: 4, connections-per-peer: 4", "", workers).await;
        let mut connections = Vec::new();
        for _ in 0..4 {
            connections.push(resting(gateway.address()).await);
        }
        // The first one has a request more, so that it is the second that has rested longest.
        assert!(ping(&mut connections[0]).await);

        for _ in 0..2 {
            connections.push(resting(gateway.address()).await);
        }

        let alive = survivors(&mut connections, 4).await;
        if workers == 1 {
            assert_eq!(alive, [true, false, false, true, true, true]);
        } else {
            // Which of two has rested longer two threads may see otherwise than the client.
            assert!(alive[4] && alive[5], "{alive:?}");
        }
        let status = status(&gateway).await;
        let public = &status["listeners"][0];
        assert_eq!(
            (&public["limit"], &public["closed_for_others"], &public["refused"]),
            (&4.into(), &2.into(), &0.into()),
            "{status}"
        );
    }
}

#[tokio::test]
async fn a_request_under_way_keeps_its_connection_and_the_house_is_full() {
    let upstream = RawUpstream::answering(vec![Step::Wait(std::sync::Arc::new(tokio::sync::Semaphore::new(0)))]).await;
    let limits = listener("connections: 2, connections-per-peer: 100", "");
    let gateway = Gateway::start(&format!(
        "{limits}\nupstreams: {{ backend: {{ servers: [\"http://{}\"] }} }}\n{ROUTES}",
        upstream.address()
    ))
    .await;
    let mut busy = Vec::new();
    for number in 1..=2 {
        let mut connection = RawConnection::open(gateway.address()).await;
        connection.send(b"GET /slow HTTP/1.1\r\nHost: a\r\n\r\n").await;
        busy.push(connection);
        eventually("the backend has the request", async || upstream.received().len() == number).await;
    }

    let mut third = RawConnection::open(gateway.address()).await;

    assert!(third.read_to_end().await.starts_with("HTTP/1.1 503 Service Unavailable\r\n"));
    gateway.record(|record| record["event"] == "connection-refused").await;
    assert_eq!(status(&gateway).await["listeners"][0]["closed_for_others"], 0);
}

#[tokio::test]
async fn silence_is_no_claim_to_a_place() {
    let gateway = gateway("connections: 4, connections-per-peer: 100, header-timeout: 60s", "", 1).await;
    let mut silent = Vec::new();
    for beginning in ["", "G", "GET /ping HTTP/1.1\r\nHost: a\r\n", ""] {
        let mut connection = RawConnection::open(gateway.address()).await;
        connection.send(beginning.as_bytes()).await;
        silent.push(connection);
    }

    // After a moment each of them counts as one that rests; until then whoever comes is told that it is full.
    eventually("a connection beside four silent ones", async || ping(&mut RawConnection::open(gateway.address()).await).await)
        .await;
}

#[tokio::test]
async fn one_peer_has_a_quarter_of_the_connections_unless_it_is_a_trusted_proxy() {
    for (more, admitted) in [("", 2), (", trusted-proxies: [127.0.0.0/8]", 5)] {
        let gateway = gateway("connections: 8", more, 1).await;
        let mut connections = Vec::new();
        for _ in 0..admitted {
            connections.push(resting(gateway.address()).await);
        }

        let mut next = RawConnection::open(gateway.address()).await;
        if more.is_empty() {
            assert!(next.read_to_end().await.starts_with("HTTP/1.1 503 Service Unavailable\r\n"));
            let record = gateway.record(|record| record["event"] == "peer-connection-limit").await;
            assert_eq!(
                (&record["listener"], &record["detail"]),
                (&"public".into(), &"limits.connections-per-peer is reached".into())
            );
            assert_eq!(status(&gateway).await["listeners"][0]["refused_peers"], 1);
            let metrics = admin(&gateway, "/metrics").await;
            let address = gateway.address();
            let sample = format!("entrada_connections_refused_peers_total{{listener=\"public\",address=\"{address}\"}} 1\n");
            assert!(metrics.contains(&sample), "{metrics}");
            // The peer's own resting connections are not closed for it: others need not suffer from one, nor it from itself.
            for connection in &mut connections {
                assert!(ping(connection).await);
            }
            // A place that is given back can be had again.
            drop(connections);
            eventually("places are free", async || gateway_connections(&gateway) == 0).await;
            resting(gateway.address()).await;
        } else {
            assert!(ping(&mut next).await, "a proxy speaks for many");
        }
    }
}

#[tokio::test]
async fn whom_a_proxy_introduces_is_counted_for_itself() {
    let more = ", trusted-proxies: [127.0.0.0/8], proxy-protocol: required";
    let gateway = gateway("connections: 100, connections-per-peer: 2", more, 1).await;
    let introduced = async |address: &str| {
        let mut connection = RawConnection::open(gateway.address()).await;
        connection.send(format!("PROXY TCP4 {address} 203.0.113.1 4711 443\r\n").as_bytes()).await;
        let served = ping(&mut connection).await;
        (connection, served)
    };
    let (one, two) = (introduced("192.0.2.7").await, introduced("192.0.2.7").await);
    assert!(one.1 && two.1);

    assert!(!introduced("192.0.2.7").await.1, "the third of one peer");
    assert!(introduced("192.0.2.8").await.1, "another peer by the same proxy");

    let record = gateway.record(|record| record["event"] == "peer-connection-limit").await;
    assert!(record["peer"].as_str().unwrap().starts_with("192.0.2.7"), "{record}");
}

#[tokio::test]
async fn lower_limits_and_a_drain_end_nothing_that_is_under_way() {
    let mut gateway = gateway("connections: 4, connections-per-peer: 100", "", 1).await;
    let mut connections = Vec::new();
    for _ in 0..4 {
        connections.push(resting(gateway.address()).await);
    }
    let config = format!(
        "{}\nupstreams: {{ backend: {{ servers: [\"http://127.0.0.1:9\"] }} }}\n{ROUTES}",
        listener("connections: 2, connections-per-peer: 100", "")
    );
    // A listener without a port of its own is the same one as long as its address is written alike.
    gateway.reload(&config).await;

    for connection in &mut connections {
        assert!(ping(connection).await, "what is there stays");
    }
    drop(connections.split_off(1));
    eventually("one is left", async || gateway_connections(&gateway) == 1).await;
    let _second = resting(gateway.address()).await;
    assert!(ping(&mut connections[0]).await);
}

fn gateway_connections(gateway: &Gateway) -> usize {
    gateway.server().lifecycle().connections().listeners.iter().map(|(_, listener)| listener.connections()).sum()
}

async fn admin(gateway: &Gateway, path: &str) -> String {
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    client.get(format!("http://{}{path}", gateway.admin_address())).send().await.unwrap().text().await.unwrap()
}

async fn status(gateway: &Gateway) -> serde_json::Value {
    serde_json::from_str(&admin(gateway, "/api/status").await).unwrap()
}

/// A gateway in a process of its own, ended with the test.
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Returns a port that was free a moment ago.
fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn few_descriptors_are_raised_told_of_and_never_the_end() {
    let upstream = Upstream::start().await;
    let (port, admin) = (free_port(), free_port());
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("entrada.yaml");
    let audit = folder.path().join("audit.jsonl");
    let config = format!(
        "listeners: [ {{ name: public, address: \"127.0.0.1:{port}\", limits: {{ connections-per-peer: 10000 }} }} ]
admin: {{ address: \"127.0.0.1:{admin}\" }}
audit: {{ sinks: [ {{ file: {{ path: {} }} }} ] }}
upstreams: {{ backend: {{ servers: [\"{}\"] }} }}
{ROUTES}",
        audit.display(),
        upstream.url()
    );
    std::fs::write(&file, config).unwrap();
    let run =
        format!("ulimit -Sn 64 && ulimit -Hn 400 && exec {} run --config {}", env!("CARGO_BIN_EXE_entrada"), file.display());
    let log = folder.path().join("log");
    let process =
        Command::new("sh").args(["-c", &run]).stderr(std::fs::File::create(&log).unwrap()).stdout(Stdio::null()).spawn();
    let _process = Process(process.unwrap());
    let address: SocketAddr = ([127, 0, 0, 1], port).into();
    let begun = Instant::now();
    while TcpStream::connect(address).await.is_err() {
        assert!(begun.elapsed() < LONGEST, "it never listens: {}", std::fs::read_to_string(&log).unwrap());
        tokio::task::yield_now().await;
    }

    // More connections than descriptors: each that comes is served, and so is a request that needs one to the backend.
    let mut connections = Vec::new();
    for _ in 0..600 {
        connections.push(resting(address).await);
    }
    let mut last = RawConnection::open(address).await;
    last.send(b"GET /slow HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").await;
    assert!(last.read_to_end().await.starts_with("HTTP/1.1 200 OK\r\n"));

    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let status = client.get(format!("http://127.0.0.1:{admin}/api/status")).send().await.unwrap().text().await.unwrap();
    let status: serde_json::Value = serde_json::from_str(&status).unwrap();
    assert_eq!((&status["open_files"], &status["listeners"][0]["limit"]), (&400.into(), &72.into()), "{status}");
    assert!(status["connections_warning"].as_str().unwrap().contains("20256 open files"), "{status}");
    assert!(status["listeners"][0]["closed_for_others"].as_u64().unwrap() >= 500, "{status}");
    let log = std::fs::read_to_string(&log).unwrap();
    assert!(log.contains("may need 20256 open files and the process may have 400"), "{log}");
    assert!(!std::fs::read_to_string(&audit).unwrap_or_default().contains("accept-failed"));
}
