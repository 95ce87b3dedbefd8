//! Letters and bytes that some decoder takes for others: none of them leads around a route.

use crate::support::{RawConnection, TestBed};

const ROUTES: &str = "- { name: files, match: { path: /files }, accept: [non-ascii], anonymous: true, upstream: backend }
- { name: admin, match: { path: /admin }, inbound: [ ip-filter: { action: allow, addresses: [192.0.2.1] } ], anonymous: true, upstream: backend }
- { name: iis, match: { path: /iis }, accept: [non-ascii], anonymous: true, upstream: iis }";

async fn bed() -> TestBed {
    let upstream = crate::support::Upstream::start().await;
    let routes = ROUTES.to_owned();
    let url = upstream.url();
    let tenant = entrada::dev_tenant::DevTenant::start(entrada::dev_tenant::Options::default()).await.unwrap();
    let config = crate::support::config(&tenant, &upstream, &routes, "").replace(
        "upstreams: { backend:",
        &format!("upstreams: {{ iis: {{ servers: [\"{url}\"], case-insensitive-paths: true }}, backend:"),
    );
    let gateway = crate::support::Gateway::start(&config).await;
    TestBed { tenant, upstream, gateway }
}

/// The status line of the answer to this target.
async fn status(bed: &TestBed, target: &str) -> String {
    let mut caller = RawConnection::open(bed.gateway.address()).await;
    caller.send(format!("GET {target} HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n").as_bytes()).await;
    caller.read_to_end().await.lines().next().unwrap_or_default().to_owned()
}

#[tokio::test]
async fn no_careless_decoder_finds_ascii_in_what_is_forwarded() {
    let bed = bed().await;
    for target in [
        // Overlong, and what masks whatever comes behind the first byte.
        "/files/%C0%AE%C0%AE/x",
        "/files/%C0%EE%C0%EE/x",
        "/files/%C0n%C0n%C0o",
        "/files/%E0%80%AE/x",
        "/files/%E0%C0%EE/x",
        "/files/%F0%80%80%AF",
        "/files/%F8%80%80%80%AF",
        "/files/%FC%80%80%80%80%AE",
        "/files/%25C0%25AE",
        "/files/%C1%81dmin",
        // Full stops of other scripts, and other dots.
        "/files/%E3%80%82%E3%80%82/x",
        "/files/%E3%80%82/x",
        "/files/%EF%BD%A1%EF%BD%A1/x",
        "/files/%EF%BC%8E%EF%BC%8E/x",
        "/files/%EF%B9%92./x",
        "/files/%EF%B8%92%EF%B8%92/x",
        "/files/%E2%80%A5/x",
        "/files/\u{3002}\u{3002}/x",
    ] {
        assert_eq!(status(&bed, target).await, "HTTP/1.1 400 Bad Request", "{target}");
    }
    assert_eq!(bed.upstream.requests(), 0);
    for target in ["/files/caf%E9", "/files/%E2%98%83", "/files/%E6%97%A5%E6%9C%AC", "/files/caf%C3%A9"] {
        assert_eq!(status(&bed, target).await, "HTTP/1.1 200 OK", "{target}");
    }
}

#[tokio::test]
async fn no_letter_that_is_anothers_without_case_goes_to_a_backend_that_knows_none() {
    let bed = bed().await;
    for target in [
        "/iis/adm%C4%B0n",
        "/iis/adm%C4%B1n",
        "/iis/%E2%84%AAeys",
        "/iis/u%C5%BFers",
        "/iis/%EF%BD%81dmin",
        "/iis/%EF%BC%A1dmin",
        "/iis/%F0%9D%90%9Admin",
        "/iis/%EF%AC%81les",
        "/iis/x%E3%80%82",
        "/iis/x%EF%BD%A1txt",
        "/iis/caf%E9",
    ] {
        assert_eq!(status(&bed, target).await, "HTTP/1.1 400 Bad Request", "{target}");
    }
    assert_eq!(bed.upstream.requests(), 0);
    for target in ["/iis/caf%C3%A9", "/iis/stra%C3%9Fe", "/IIS/%E6%97%A5%E6%9C%AC"] {
        assert_eq!(status(&bed, target).await, "HTTP/1.1 200 OK", "{target}");
    }
}
