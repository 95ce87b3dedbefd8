//! Tests of the admin and health listeners' addresses, also across config changes.

use std::{
    net::{SocketAddr, TcpListener as StdListener},
    time::Instant,
};

use tokio::{io::AsyncReadExt, io::AsyncWriteExt, net::TcpStream};

use crate::support::{Gateway, LONGEST_WAIT};

const ROUTES: &str =
    "routes: [ { name: own, match: { path: /own }, anonymous: true, respond: { status: 200 } } ]\ndrain-timeout: 1s";

/// Returns an unused address.
fn free() -> SocketAddr {
    StdListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

fn config(admin: SocketAddr, health: Option<SocketAddr>) -> String {
    let health = health.map(|health| format!("health: {{ address: \"{health}\" }}\n")).unwrap_or_default();
    format!("{ROUTES}\nadmin: {{ address: \"{admin}\" }}\n{health}")
}

/// Returns the status of a GET, on a new connection; `None` if nobody listens.
async fn get(address: SocketAddr, path: &str) -> Option<u16> {
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    client.get(format!("http://{address}{path}")).send().await.ok().map(|answer| answer.status().as_u16())
}

/// Waits until nobody listens there.
async fn closed(address: SocketAddr) {
    let begun = Instant::now();
    while TcpStream::connect(address).await.is_ok() {
        assert!(begun.elapsed() < LONGEST_WAIT, "somebody listens on {address}");
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn changed_admin_and_health_addresses_follow_a_reload() {
    let [admin, health, next_admin, next_health] = [free(), free(), free(), free()];
    let mut gateway = Gateway::start(&config(admin, Some(health))).await;
    assert_eq!((get(admin, "/api/status").await, get(admin, "/healthz").await), (Some(200), Some(404)));
    assert_eq!((get(health, "/api/status").await, get(health, "/healthz").await), (Some(404), Some(200)));

    gateway.reload(&config(next_admin, Some(next_health))).await;

    assert_eq!((gateway.admin_address(), gateway.server().health_address()), (next_admin, Some(next_health)));
    assert_eq!((get(next_admin, "/api/status").await, get(next_admin, "/healthz").await), (Some(200), Some(404)));
    assert_eq!((get(next_health, "/api/status").await, get(next_health, "/healthz").await), (Some(404), Some(200)));
    closed(admin).await;
    closed(health).await;
}

#[tokio::test]
async fn health_goes_apart_comes_back_and_changes_places_with_admin() {
    let [one, other] = [free(), free()];
    let mut gateway = Gateway::start(&config(one, None)).await;
    assert_eq!((get(one, "/healthz").await, get(other, "/healthz").await), (Some(200), None));

    gateway.reload(&config(one, Some(other))).await;
    assert_eq!((get(one, "/healthz").await, get(other, "/healthz").await), (Some(404), Some(200)));
    assert_eq!((get(one, "/").await, get(other, "/").await), (Some(200), Some(404)));

    gateway.reload(&config(other, Some(one))).await;
    assert_eq!((gateway.admin_address(), gateway.server().health_address()), (other, Some(one)));
    // The listeners before may take connections until they are told.
    let begun = Instant::now();
    while (get(one, "/healthz").await, get(one, "/").await, get(other, "/").await) != (Some(200), Some(404), Some(200)) {
        assert!(begun.elapsed() < LONGEST_WAIT);
    }

    gateway.reload(&config(other, None)).await;
    assert_eq!((get(other, "/healthz").await, get(other, "/").await), (Some(200), Some(200)));
    closed(one).await;
}

#[tokio::test]
async fn an_address_in_use_refuses_the_reload_and_the_old_config_stays_whole() {
    let admin = free();
    let mut gateway = Gateway::start(&config(admin, None)).await;
    let taken = StdListener::bind("127.0.0.1:0").unwrap();
    let in_use = taken.local_addr().unwrap();

    for (wanted, role) in
        [(config(in_use, None), "admin"), (config(admin, Some(in_use)), "health"), (config(admin, Some(admin)), "health")]
    {
        let error = gateway.refused_reload(&wanted.replace("status: 200", "status: 204")).await;

        let told = [format!("the address of `{role}`"), format!("`{role}` has the address")];
        assert!(told.iter().any(|told| error.contains(told)), "{error}");
        assert_eq!((get(admin, "/healthz").await, get(admin, "/api/status").await), (Some(200), Some(200)));
        assert_eq!(gateway.get("/own").send().await.status, 200);
    }
}

#[tokio::test]
async fn what_has_no_end_of_its_own_ends_when_the_admin_listener_moves() {
    let [admin, next] = [free(), free()];
    let mut gateway = Gateway::start(&config(admin, None)).await;
    let mut following = TcpStream::connect(admin).await.unwrap();
    following.write_all(b"GET /api/decisions?follow HTTP/1.1\r\nhost: localhost\r\n\r\n").await.unwrap();
    let mut head = [0; 12];
    following.read_exact(&mut head).await.unwrap();
    assert_eq!(&head, b"HTTP/1.1 200");
    // One that began a request and never ends it.
    let mut slow = TcpStream::connect(admin).await.unwrap();
    slow.write_all(b"GET /api/status HTTP/1.1\r\nhost: ").await.unwrap();

    gateway.reload(&config(next, None)).await;

    let (mut rest, mut nothing) = (Vec::new(), Vec::new());
    let ended = async {
        // A reset is an end like any other.
        let _ = following.read_to_end(&mut rest).await;
        let _ = slow.read_to_end(&mut nothing).await;
    };
    tokio::time::timeout(LONGEST_WAIT, ended).await.expect("both end");
    assert!(rest.ends_with(b"0\r\n\r\n"), "{}", String::from_utf8_lossy(&rest));
}
