//! Tests that streams and tunnels end with the token that opened them, plus the clock skew of their policy.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use entrada::{
    Clock, ServerOptions,
    dev_tenant::{DevTenant, Options},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};

use crate::support::{Gateway, RawConnection, Upstream, config};

const NOW: u64 = 1_800_000_000;
/// The timeout of expected events.
const LONGEST_WAIT: Duration = Duration::from_secs(60);

struct Scene {
    clock: Clock,
    tenant: DevTenant,
    gateway: Gateway,
}

impl Scene {
    /// Starts a gateway whose routes accept clock skews of 0 s, 2 s, 10 m, or 10 m by one of their policies and 0 s by the other,
    /// in front of a backend that begins its responses and never ends them.
    async fn start() -> Self {
        let clock = Clock::manual(NOW);
        let tenant = DevTenant::start(Options { clock: clock.clone(), ..Options::default() }).await.unwrap();
        let upstream = Upstream::start().await;
        let token = |skew: &str, more: &str| {
            format!(
                "validate-azure-ad-token: {{ tenant: contoso, audiences: [api://orders], scopes: [Orders.Read], clock-skew: {skew}{more} }}"
            )
        };
        let routes = format!(
            "- {{ name: none, match: {{ path: /none }}, inbound: [ {} ], upstream: backend, upgrades: [websocket] }}\n\
             - {{ name: some, match: {{ path: /some }}, inbound: [ {} ], upstream: backend }}\n\
             - {{ name: two, match: {{ path: /two }}, inbound: [ {}, {} ], upstream: backend }}",
            token("0s", ""),
            token("2s", ""),
            token("10m", ""),
            token("0s", ", as: device, header-name: X-Device"),
        );
        let config = config(&tenant, &upstream, &routes, "").replace(&upstream.url(), &format!("http://{}", endless().await));
        let options = ServerOptions { workers: 1, clock: clock.clone(), ..ServerOptions::default() };
        let gateway = Gateway::start_with(&config, options).await;
        Self { clock, tenant, gateway }
    }

    fn token(&self, seconds: i64) -> String {
        self.tenant.token().user("nia").audience("api://orders").scopes(["Orders.Read"]).expires_in(seconds).sign()
    }

    /// Returns the duration of a stream that begins now.
    async fn lasts(&self, head: &str) -> Duration {
        let begun = Instant::now();
        let mut caller = RawConnection::open(self.gateway.address()).await;
        caller.send(head.as_bytes()).await;
        let answer = tokio::time::timeout(LONGEST_WAIT, caller.read_to_end()).await.expect("the stream has an end");
        assert!(answer.starts_with("HTTP/1.1 200 ") || answer.starts_with("HTTP/1.1 101 "), "{answer}");
        begun.elapsed()
    }
}

/// Starts a backend that begins a response and continues for ever.
async fn endless() -> SocketAddr {
    let socket = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = socket.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = socket.accept().await {
            tokio::spawn(async move {
                let mut buffer = [0; 16_384];
                let length = stream.read(&mut buffer).await.unwrap();
                let head = String::from_utf8_lossy(&buffer[..length]).to_ascii_lowercase();
                let answer: &[u8] = if head.contains("upgrade: websocket") {
                    b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\nhello"
                } else {
                    b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n"
                };
                stream.write_all(answer).await.unwrap();
                while stream.read(&mut buffer).await.is_ok_and(|length| length > 0) {}
            });
        }
    });
    address
}

fn head(path: &str, token: &str, more: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nhost: a\r\nauthorization: Bearer {token}\r\n{more}\r\n")
}

/// Asserts the approximate duration, with tolerance for a busy machine.
#[track_caller]
fn assert_about(lasted: Duration, seconds: u64) {
    let (least, most) = (Duration::from_secs(seconds), Duration::from_secs(seconds + 20));
    assert!(lasted + Duration::from_millis(50) >= least && lasted < most, "{lasted:?} instead of {seconds} s");
}

#[tokio::test]
async fn a_stream_ends_with_its_token_and_the_skew_of_its_own_policy() {
    let scene = Scene::start().await;

    assert_about(scene.lasts(&head("/none", &scene.token(2), "")).await, 2);
    assert_about(scene.lasts(&head("/some", &scene.token(1), "")).await, 3);
}

#[tokio::test]
async fn a_stream_that_begins_within_the_skew_does_not_get_it_again() {
    let scene = Scene::start().await;
    let token = scene.token(10);
    scene.clock.advance(Duration::from_secs(11));

    assert_about(scene.lasts(&head("/some", &token, "")).await, 1);
}

#[tokio::test]
async fn of_several_tokens_the_one_that_ends_first_ends_the_stream() {
    let scene = Scene::start().await;
    let (short, long) = (scene.token(2), scene.token(300));

    // The first policy would let its token go on for ten minutes, the second one for none.
    let device = format!("x-device: {short}\r\n");
    assert_about(scene.lasts(&head("/two", &long, &device)).await, 2);
}

#[tokio::test]
async fn a_tunnel_ends_with_its_token() {
    let scene = Scene::start().await;
    let upgrade = "connection: upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n";

    assert_about(scene.lasts(&head("/none", &scene.token(2), upgrade)).await, 2);
}

#[tokio::test]
async fn a_stream_ends_with_the_callers_api_key_and_says_so() {
    let backend = endless().await;
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, b"a key of the tests");
    let digest: String = digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    let config = format!(
        "partners: {{ fabrikam: {{ api-keys: [ {{ sha256: {digest}, expires: 2027-01-14 }} ], expires: 2030-01-01 }} }}\n\
         upstreams: {{ backend: {{ servers: [\"http://{backend}\"] }} }}\n\
         routes: [ {{ name: keyed, match: {{ path: /keyed }}, inbound: [ validate-api-key: {{}} ], upstream: backend }} ]\n"
    );
    // Two seconds before the end of the key's last day.
    let clock = Clock::manual(1_799_971_198);
    let gateway = Gateway::start_with(&config, ServerOptions { workers: 1, clock, ..ServerOptions::default() }).await;

    let mut caller = RawConnection::open(gateway.address()).await;
    caller.send(b"GET /keyed HTTP/1.1\r\nhost: a\r\nocp-apim-subscription-key: a key of the tests\r\n\r\n").await;
    let answer = tokio::time::timeout(LONGEST_WAIT, caller.read_to_end()).await.expect("the stream has an end");

    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    let record = gateway.record(|record| record["route"] == "keyed").await;
    assert_eq!(record["ended_by"], "api-key-expired", "{record}");
}
