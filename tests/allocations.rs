//! Allocations per request, counted over the whole process: the caller and the backend of this test allocate nothing while they
//! run, so that only the gateway's allocations count.
//!
//! The limits are the numbers of the day they were set, and are lowered when the numbers fall. One more is a reason to look, two
//! more fail. They are counts: no clock decides this test.
//!
//! The remaining allocations belong to the codec and the message: the bytes of the head and their reference count, the parsed
//! head, the future of the request, its exchange with the record made from it, the body of its response on either side, and part
//! of a chunk for small texts.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::{
    alloc::System,
    io::{Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    thread,
};

use entrada::{
    Document, Server, ServerOptions,
    dev_tenant::{DevTenant, Options},
};
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

const REQUESTS: usize = 2_000;
const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\nserver: backend\r\ncontent-type: text/plain\r\ncontent-length: 4\r\n\r\nfine";
const TOKEN_POLICIES: &str = r#"
      - ip-filter: { action: allow, addresses: [127.0.0.0/8, 10.0.0.0/8, 192.168.0.0/16] }
      - validate-azure-ad-token: { tenant: contoso, audiences: [api://orders], scopes: [Orders.Read] }
      - set-header: { name: X-User, value: "@(token.claims.oid)" }"#;

#[test]
fn a_request_allocates_no_more_than_it_did() {
    let rest = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let tenant = rest.block_on(DevTenant::start(Options::default())).unwrap();
    let token = tenant.token().user("nia").audience("api://orders").scopes(["Orders.Read"]).sign();
    // Without records for the console, whose thread keeps and drops buffers while bytes are counted.
    let config = format!(
        "listeners: [ {{ name: public, address: \"127.0.0.1:0\" }} ]\nadmin: {{ address: \"127.0.0.1:0\", recent-decisions: 0 }}\n\
         audit: {{ sinks: [ {{ file: {{ path: /dev/null }} }} ] }}\n\
         tenants: {{ contoso: {{ id: {}, authority: \"{}\" }} }}\nupstreams: {{ backend: {{ servers: [\"http://{}\"] }} }}\n\
         routes:\n  - {{ name: plain, match: {{ path: /plain }}, anonymous: true, upstream: backend }}\n\
         \x20 - name: orders\n    match: {{ path: /orders }}\n    authorization: keep\n    upstream: backend\n    inbound:{TOKEN_POLICIES}\n",
        tenant.tenant_id(),
        tenant.base_url(),
        backend(),
    );
    let document = Document::from_text("test.yaml", &config).unwrap_or_else(|report| panic!("{report}"));
    let server = Server::start(&document, ServerOptions { workers: 1, ..ServerOptions::default() }).unwrap();
    let address = server.address("public").unwrap();

    // The lesser of two counts: what the process does once in between, such as fetching keys, is no request's.
    let least = |request: &str| count(address, request).min(count(address, request));
    let plain = least("GET /plain/42?x=1 HTTP/1.1\r\nhost: localhost\r\n\r\n");
    let seen = least(&format!("GET /orders/42?x=1 HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {token}\r\n\r\n"));
    eprintln!(
        "allocations a request: {plain:.2} passed on ({:+.2} from {PLAIN}), {seen:.2} with a token seen before ({:+.2} from {SEEN})",
        plain - PLAIN,
        seen - SEEN
    );
    let [short, long] = [0, 80].map(|groups| keep(&server, &tenant, groups));
    eprintln!("a kept token takes {short:.0} bytes (a short one) and {long:.0} bytes (one with 80 groups)");
    server.drain();

    assert!(plain < PLAIN + 2.0, "a request that is passed on allocates {plain:.2} times, {PLAIN} before");
    assert!(seen < SEEN + 2.0, "a request with a token seen before allocates {seen:.2} times, {SEEN} before");
}

/// The allocations of a request that is forwarded without any policy.
const PLAIN: f64 = 5.1;
/// The allocations with an address list, a cached token, a header from a claim, and the audit record.
const SEEN: f64 = 5.1;

/// Returns the allocations per request, on one connection, once everything is warm.
fn count(address: SocketAddr, request: &str) -> f64 {
    let mut connection = TcpStream::connect(address).unwrap();
    let mut buffer = [0; 4096];
    (0..200).for_each(|_| ask(&mut connection, &mut buffer, request));
    let region = Region::new(ALLOCATOR);
    (0..REQUESTS).for_each(|_| ask(&mut connection, &mut buffer, request));
    let change = region.change();
    (change.allocations + change.reallocations) as f64 / REQUESTS as f64
}

/// Sends a request, and reads its response.
fn ask(connection: &mut TcpStream, buffer: &mut [u8], request: &str) {
    connection.write_all(request.as_bytes()).unwrap();
    let mut length = 0;
    while !buffer[..length].ends_with(b"\r\n\r\nfine") {
        let read = connection.read(&mut buffer[length..]).unwrap();
        assert!(read > 0, "{}", String::from_utf8_lossy(&buffer[..length]));
        length += read;
        assert!(buffer.starts_with(b"HTTP/1.1 200 "), "{}", String::from_utf8_lossy(&buffer[..length]));
    }
}

/// Compares the reported memory of each cached token with the measured one.
fn keep(server: &Server, tenant: &DevTenant, groups: usize) -> f64 {
    const TOKENS: usize = 300;
    let groups: Vec<String> = (0..groups).map(|group| format!("aaaabbbb-0000-cccc-1111-{group:012}")).collect();
    let requests: Vec<String> = (0..TOKENS)
        .map(|number| {
            let token =
                tenant.token().user("nia").audience("api://orders").scopes(["Orders.Read"]).claim("uti", number.to_string());
            let token = token.claim("groups", groups.clone()).sign();
            format!("GET /orders/42?x=1 HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {token}\r\n\r\n")
        })
        .collect();
    let mut connection = TcpStream::connect(server.address("public").unwrap()).unwrap();
    let mut buffer = [0; 4096];
    let (before, kept) = kept(server);
    let region = Region::new(ALLOCATOR);
    for request in &requests {
        ask(&mut connection, &mut buffer, request);
    }
    let change = region.change();
    let (after, kept_after) = self::kept(server);

    assert_eq!(kept_after - kept, TOKENS as u64);
    let measured = (change.bytes_allocated - change.bytes_deallocated) as f64 / TOKENS as f64;
    let told = (after - before) as f64 / TOKENS as f64;
    // What is told counts the allocator's own words, too, and tables that have room for some more.
    assert!(told > 0.95 * measured && told < 1.5 * measured, "told {told:.0} bytes a token, measured {measured:.0}");
    measured
}

/// Returns the memory and number of cached tokens, according to the metrics.
fn kept(server: &Server) -> (u64, u64) {
    let mut connection = TcpStream::connect(server.admin_address().unwrap()).unwrap();
    connection.write_all(b"GET /metrics HTTP/1.1\r\nhost: 127.0.0.1\r\nconnection: close\r\n\r\n").unwrap();
    let mut text = String::new();
    connection.read_to_string(&mut text).unwrap();
    let value = |name: &str| text.lines().find_map(|line| line.strip_prefix(name)).unwrap().trim().parse().unwrap();
    (value("entrada_verified_tokens_bytes "), value("entrada_verified_tokens "))
}

/// Starts a backend that answers every request alike, on threads of its own.
fn backend() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            thread::spawn(move || {
                let (mut buffer, mut length) = ([0; 16_384], 0);
                loop {
                    match stream.read(&mut buffer[length..]) {
                        Ok(read) if read > 0 => length += read,
                        _ => return,
                    }
                    if buffer[..length].ends_with(b"\r\n\r\n") {
                        length = 0;
                        if stream.write_all(ANSWER).is_err() {
                            return;
                        }
                    }
                }
            });
        }
    });
    address
}
