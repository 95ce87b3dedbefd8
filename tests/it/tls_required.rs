//! Tests of `require-tls` behind proxies that terminate TLS: only their statement counts.

use entrada::{
    Reason,
    dev_tenant::{DevTenant, Options},
};

use crate::support::{Gateway, RawConnection, TestBed, Upstream, config};

const ROUTE: &str = "- { name: secure, match: { path: / }, anonymous: true, require-tls: true, upstream: backend }";

async fn bed(listener: &str) -> TestBed {
    let (tenant, upstream) = (DevTenant::start(Options::default()).await.unwrap(), Upstream::start().await);
    let listeners = format!("listeners: [ {{ name: public, address: \"127.0.0.1:0\", {listener} }} ]");
    let gateway = Gateway::start(&config(&tenant, &upstream, ROUTE, &listeners)).await;
    TestBed { tenant, upstream, gateway }
}

/// Asserts the outcome of requests with these fields, and that the backend is told the scheme of admitted ones.
async fn assert_passes(bed: &TestBed, rows: &[(&[(&str, &str)], bool)]) {
    for (fields, passes) in rows {
        let seen = bed.upstream.requests();
        let call = fields.iter().fold(bed.gateway.get("/"), |call, (name, value)| call.header(name, *value));
        let answer = call.send().await;
        if *passes {
            answer.assert_allowed();
            assert_eq!(bed.upstream.last().value("x-forwarded-proto"), Some("https"), "{fields:?}");
        } else {
            assert_eq!(answer.json()["code"], Reason::TlsRequired.code(), "{fields:?}");
        }
        assert_eq!(bed.upstream.requests(), seen + usize::from(*passes), "{fields:?}");
    }
}

#[tokio::test]
async fn a_trusted_proxys_word_satisfies_require_tls() {
    let bed = bed("trusted-proxies: [127.0.0.1, 10.1.0.0/24]").await;
    let chain = ("X-Forwarded-For", "192.0.2.7, 10.1.0.1");
    assert_passes(
        &bed,
        &[
            (&[("X-Forwarded-Proto", "https")], true),
            (&[("X-Forwarded-For", "192.0.2.7"), ("X-Forwarded-Proto", "HTTPS")], true),
            (&[], false),
            (&[("X-Forwarded-Proto", "http")], false),
            (&[("X-Forwarded-Proto", "https, http")], false),
            (&[("X-Forwarded-For", "192.0.2.7"), ("X-Forwarded-Proto", "https, http")], false),
            (&[("X-Forwarded-For", "192.0.2.7"), ("X-Forwarded-Proto", "https"), ("X-Forwarded-Proto", "http")], false),
            (&[("Forwarded", "for=192.0.2.7;proto=https")], false),
            (&[("X_Forwarded_Proto", "https")], false),
            // Two hops: the outer one is whom the caller connected to.
            (&[chain, ("X-Forwarded-Proto", "https, http")], true),
            (&[chain, ("X-Forwarded-Proto", "http, https")], false),
            (&[chain, ("X-Forwarded-Proto", "https, http, https")], false),
            (&[chain, ("X-Forwarded-Proto", "http, https, http")], true),
            (&[chain, ("X-Forwarded-Proto", "https")], true),
            // Three hops and two words: whose they are nobody knows.
            (&[("X-Forwarded-For", "192.0.2.7, 10.1.0.1, 10.1.0.2"), ("X-Forwarded-Proto", "https, http")], false),
            (&[("X-Forwarded-For", "192.0.2.7, 10.1.0.1, 10.1.0.2"), ("X-Forwarded-Proto", "https, https")], true),
        ],
    )
    .await;
}

#[tokio::test]
async fn a_stranger_cannot_claim_to_have_come_by_tls() {
    let bed = bed("trusted-proxies: [10.1.0.1, { addresses: [127.0.0.1], require-header: { X-Azure-FDID: [ours] } }]").await;
    assert_passes(
        &bed,
        &[
            (&[("X-Forwarded-Proto", "https")], false),
            (&[("X-Forwarded-Proto", "https"), ("X-Forwarded-For", "10.1.0.1")], false),
            (&[("X-Forwarded-Proto", "https"), ("X-Azure-FDID", "theirs")], false),
            (&[("X-Forwarded-Proto", "https"), ("X-Azure-FDID", "ours")], true),
        ],
    )
    .await;
}

#[tokio::test]
async fn forwarded_counts_where_the_listener_reads_it() {
    let bed = bed("trusted-proxies: [127.0.0.1, 10.1.0.0/24], forwarded-header: forwarded").await;
    assert_passes(
        &bed,
        &[
            (&[("Forwarded", "for=192.0.2.7;proto=https")], true),
            (&[("Forwarded", "for=192.0.2.7;proto=https, for=10.1.0.1;proto=http")], true),
            (&[("Forwarded", "for=192.0.2.7;proto=http, for=10.1.0.1;proto=https")], false),
            (&[("Forwarded", "for=198.51.100.1;proto=https, for=192.0.2.7;proto=http")], false),
            (&[("X-Forwarded-Proto", "https")], false),
        ],
    )
    .await;
}

/// Returns a version 2 PROXY header whose `PP2_TYPE_SSL` has this client value; without one for `None`.
fn introduction(source: [u8; 4], client: Option<u8>) -> Vec<u8> {
    let tlv = client.map_or_else(Vec::new, |client| vec![0x20, 0, 5, client, 0, 0, 0, 0]);
    let body = [&source[..], &[203, 0, 113, 1, 0x12, 0x67, 0x01, 0xBB], &tlv].concat();
    [&b"\r\n\r\n\0\r\nQUIT\n"[..], &[0x21, 0x11, 0, u8::try_from(body.len()).unwrap()], &body].concat()
}

#[tokio::test]
async fn a_proxy_header_that_tells_of_tls_satisfies_it() {
    let bed = bed("proxy-protocol: required, trusted-proxies: [127.0.0.1, 10.1.0.1]").await;
    let (caller, proxy) = ([192, 0, 2, 7], [10, 1, 0, 1]);
    for (source, client, more, passes) in [
        (caller, Some(0x01), "", true),
        (caller, Some(0x00), "", false),
        (caller, Some(0x06), "", false),
        (caller, None, "", false),
        (caller, None, "X-Forwarded-Proto: https\r\n", false),
        // What the header says is of the connection to the balancer, and here a proxy made that.
        (proxy, Some(0x01), "X-Forwarded-For: 192.0.2.7\r\n", false),
        (proxy, Some(0x01), "X-Forwarded-For: 192.0.2.7\r\nX-Forwarded-Proto: http\r\n", false),
        (proxy, None, "X-Forwarded-For: 192.0.2.7\r\nX-Forwarded-Proto: https\r\n", true),
    ] {
        let mut connection = RawConnection::open(bed.gateway.address()).await;
        let request = format!("GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n{more}\r\n");
        connection.send(&[&introduction(source, client), request.as_bytes()].concat()).await;

        let answer = connection.read_to_end().await;

        assert!(answer.starts_with(if passes { "HTTP/1.1 200" } else { "HTTP/1.1 403" }), "{client:?} {more}: {answer}");
        if passes {
            assert_eq!(bed.upstream.last().value("x-forwarded-proto"), Some("https"));
        }
    }
}
