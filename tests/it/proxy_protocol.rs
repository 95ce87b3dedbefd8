//! Tests of proxies that do not speak HTTP: the source of the connection precedes everything else.

use entrada::dev_tenant::{DevTenant, Options};

use crate::support::{Gateway, RawConnection, TestBed, Upstream, config};

const ROUTES: &str = "- { name: open, match: { path: /open }, anonymous: true, upstream: backend }\n\
     - { name: office, match: { path: /office }, inbound: [ { ip-filter: { action: allow, addresses: [192.0.2.7] } } ], anonymous: true, upstream: backend }\n\
     - { name: sso, match: { path: /sso }, anonymous: true, trusted-headers: { names: [X-Sso-User], from: [127.0.0.1, 192.0.2.7] }, upstream: backend }";

/// Starts a gateway that requires introduced connections.
async fn bed(trusted: &str) -> TestBed {
    let (tenant, upstream) = (DevTenant::start(Options::default()).await.unwrap(), Upstream::start().await);
    let listener = format!("listeners: [ {{ name: public, address: \"127.0.0.1:0\", proxy-protocol: required, {trusted} }} ]");
    let gateway = Gateway::start(&config(&tenant, &upstream, ROUTES, &listener)).await;
    TestBed { tenant, upstream, gateway }
}

const BALANCER: &str = "trusted-proxies: [127.0.0.1]";

fn get(path: &str, more: &str) -> Vec<u8> {
    format!("GET {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n{more}\r\n").into_bytes()
}

fn v1(source: &str) -> Vec<u8> {
    let family = if source.contains(':') { ("TCP6", "2001:db8::1") } else { ("TCP4", "203.0.113.1") };
    format!("PROXY {} {source} {} 4711 443\r\n", family.0, family.1).into_bytes()
}

/// Returns a version 2 header, with an authority and a checksum after the addresses.
fn v2(command: u8, source: [u8; 4]) -> Vec<u8> {
    let tlvs = [&[0x02, 0, 9][..], b"a.example", &[0x03, 0, 4, 1, 2, 3, 4]].concat();
    let body = [&source[..], &[203, 0, 113, 1, 0x12, 0x67, 0x01, 0xBB], &tlvs].concat();
    [&b"\r\n\r\n\0\r\nQUIT\n"[..], &[command, 0x11, 0, u8::try_from(body.len()).unwrap()], &body].concat()
}

async fn answer(bed: &TestBed, parts: &[&[u8]]) -> String {
    let mut connection = RawConnection::open(bed.gateway.address()).await;
    // In one go: a connection that is closed at once takes no second part.
    connection.send(&parts.concat()).await;
    connection.read_to_end().await
}

#[tokio::test]
async fn the_source_is_the_caller_in_policies_upstream_and_record() {
    let bed = bed(BALANCER).await;

    for header in [v1("192.0.2.7"), v1("::ffff:192.0.2.7"), v2(0x21, [192, 0, 2, 7])] {
        let seen = bed.upstream.requests();
        let answer = answer(&bed, &[&header, &get("/office", "X-Forwarded-For: 198.51.100.1\r\n")]).await;
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        assert_eq!(bed.upstream.requests(), seen + 1);
        assert_eq!(bed.upstream.last().value("x-forwarded-for"), Some("192.0.2.7"));
    }
    let refused = answer(&bed, &[&v1("192.0.2.8"), &get("/office", "X-Forwarded-For: 192.0.2.7\r\n")]).await;
    assert!(refused.starts_with("HTTP/1.1 403") && refused.contains("caller-address-not-allowed"), "{refused}");
    let record = bed.gateway.record(|record| record["decision"] == "deny").await;
    assert_eq!(record["caller"], "192.0.2.8");
    assert_eq!(record["peer"], "192.0.2.8:4711");
    assert_eq!(record["address_source"], "proxy-protocol");
    assert!(record["proxy"].as_str().unwrap().starts_with("127.0.0.1:"), "{record}");
}

#[tokio::test]
async fn a_header_is_believed_of_the_source_and_never_of_the_proxy() {
    let bed = bed(BALANCER).await;
    let unknown = b"PROXY UNKNOWN\r\n".to_vec();

    for (header, believed) in
        [(v1("192.0.2.7"), true), (v1("192.0.2.8"), false), (unknown, false), (v2(0x20, [192, 0, 2, 7]), false)]
    {
        let answer = answer(&bed, &[&header, &get("/sso", "X-Sso-User: nia\r\nX-Forwarded-For: 192.0.2.7\r\n")]).await;

        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        assert_eq!(bed.upstream.last().value("x-sso-user"), believed.then_some("nia"), "{}", String::from_utf8_lossy(&header));
    }
}

#[tokio::test]
async fn every_request_of_the_connection_has_the_same_caller() {
    let bed = bed(BALANCER).await;
    let first = b"GET /office?1 HTTP/1.1\r\nHost: a\r\n\r\n";

    let answer = answer(&bed, &[&v2(0x21, [192, 0, 2, 7]), first, &get("/office?2", "")]).await;

    assert_eq!(answer.matches("HTTP/1.1 200").count(), 2, "{answer}");
    assert_eq!(bed.upstream.last().value("x-forwarded-for"), Some("192.0.2.7"));
}

#[tokio::test]
async fn a_trusted_gateway_behind_the_balancer_speaks_for_its_callers() {
    let bed = bed("trust-path: [ { from: 10.1.0.0/28 }, { from: 127.0.0.1 } ]").await;
    let chain = "X-Forwarded-For: 198.51.100.1, 192.0.2.7\r\n";

    let believed = answer(&bed, &[&v1("10.1.0.1"), &get("/office", chain)]).await;
    let forged = answer(&bed, &[&v1("203.0.113.9"), &get("/office", chain)]).await;

    assert!(believed.starts_with("HTTP/1.1 200"), "{believed}");
    assert_eq!(bed.gateway.record(|record| record["status"] == 200).await["address_source"], "x-forwarded-for");
    assert!(forged.starts_with("HTTP/1.1 403"), "{forged}");
}

#[tokio::test]
async fn a_connection_of_nobody_knows_whom_is_the_proxys_and_speaks_for_nobody() {
    let bed = bed(BALANCER).await;
    let unspecified = [&b"\r\n\r\n\0\r\nQUIT\n"[..], &[0x21, 0x00, 0, 0]].concat();

    for header in [b"PROXY UNKNOWN\r\n".to_vec(), v2(0x20, [192, 0, 2, 7]), unspecified] {
        let forged = "X-Forwarded-For: 192.0.2.7\r\nForwarded: for=192.0.2.7\r\n";
        let refused = answer(&bed, &[&header, &get("/office", forged)]).await;
        assert!(refused.starts_with("HTTP/1.1 403"), "{refused}");
    }

    let record = bed.gateway.record(|record| record["decision"] == "deny").await;
    assert_eq!((&record["caller"], &record["address_source"]), (&"127.0.0.1".into(), &"peer".into()));
    assert_eq!(bed.upstream.requests(), 0);
}

#[tokio::test]
async fn what_is_not_introduced_is_closed_with_an_event() {
    let balanced = bed(BALANCER).await;
    for begins in [&get("/open", "")[..], b"\x16\x03\x01\x02", b"PROXY TCP4 192.0.2.7\r\n", &v2(0x22, [192, 0, 2, 7])] {
        assert_eq!(answer(&balanced, &[begins]).await, "");
    }
    balanced.gateway.record(|record| record["event"] == "proxy-header-invalid").await;

    // Whoever is not trusted may say what it likes.
    let elsewhere = bed("trusted-proxies: [10.1.0.1]").await;
    assert_eq!(answer(&elsewhere, &[&v1("10.1.0.1"), &get("/open", "")]).await, "");
    let event = elsewhere.gateway.record(|record| record["event"] == "peer-not-trusted").await;
    assert!(event["peer"].as_str().unwrap().starts_with("127.0.0.1:"), "{event}");

    assert_eq!(balanced.upstream.requests() + elsewhere.upstream.requests(), 0);
}

#[test]
fn a_listener_that_nobody_could_connect_to_is_a_fault() {
    for trusted in ["", "trusted-proxies: [ { addresses: [10.1.0.1], require-header: { X-A: [b] } } ]"] {
        let listener =
            format!("listeners: [ {{ name: public, address: \"127.0.0.1:0\", proxy-protocol: required, {trusted} }} ]");
        let report = Gateway::refusal(&format!(
            "routes: [ {{ name: a, match: {{ path: / }}, anonymous: true, respond: {{ status: 204 }} }} ]\n{listener}"
        ));
        assert!(report.contains("no proxy may introduce connections"), "{report}");
    }
}
