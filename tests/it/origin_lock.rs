//! `only-trusted-proxies`: an origin that nobody reaches but the proxies in front.

use entrada::Reason;

use crate::support::{Gateway, RawConnection};

fn config(listener: &str) -> String {
    format!(
        "listeners: [ {{ name: public, address: \"127.0.0.1:0\", {listener}, only-trusted-proxies: true }} ]\nroutes:\n  - {{ name: ping, match: {{ path: /ping }}, anonymous: true, respond: {{ status: 204 }} }}\n"
    )
}

#[tokio::test]
async fn a_connection_of_anybody_else_is_closed_unread_and_counted() {
    let gateway = Gateway::start(&config("trusted-proxies: [192.0.2.7]")).await;
    for _ in 0..3 {
        let mut connection = RawConnection::open(gateway.address()).await;
        connection.try_send(b"GET /ping HTTP/1.1\r\nHost: a.example\r\n\r\n").await;
        assert_eq!(connection.read_to_end().await, "", "nothing is told");
    }
    let event = gateway.record(|record| record["event"] == "peer-not-trusted").await;
    assert_eq!(event["listener"], "public", "{event}");
    assert!(event["detail"].as_str().unwrap().contains("only-trusted-proxies"), "{event}");
    let metrics = gateway.metrics().await;
    let counted = metrics.lines().find(|line| line.starts_with("entrada_connections_untrusted_total{")).unwrap();
    assert!(counted.ends_with(" 3"), "{counted}");
    assert!(gateway.records().iter().all(|record| record["path"].is_null()), "no request was read");
}

#[tokio::test]
async fn a_trusted_proxy_gets_in_with_its_callers() {
    let gateway = Gateway::start(&config("trusted-proxies: [127.0.0.1]")).await;
    let answer = gateway.get("/ping").header("X-Forwarded-For", "203.0.113.7").send().await;
    assert_eq!(answer.status, 204);
    let record = gateway.record(|record| record["route"] == "ping").await;
    assert_eq!(record["caller"], "203.0.113.7");
}

/// All customers of a platform share its addresses: the connection is let in, and each request has to show whose it is.
#[tokio::test]
async fn an_address_that_others_share_is_not_enough() {
    let trusted = "trusted-proxies: [ { addresses: [127.0.0.1], require-header: { X-Azure-FDID: [5f5f0000-1111-4222-8333-abcdefabcdef] } } ]";
    let gateway = Gateway::start(&config(trusted)).await;
    let own = "5f5f0000-1111-4222-8333-abcdefabcdef";
    assert_eq!(gateway.get("/ping").header("X-Azure-FDID", own).send().await.status, 204);
    gateway.get("/ping").send().await.assert_refused(Reason::CallerAddressNotAllowed);
    let other = gateway.get("/ping").header("X-Azure-FDID", "99990000-1111-4222-8333-abcdefabcdef").send().await;
    other.assert_refused(Reason::CallerAddressNotAllowed);
    let twice = gateway.get("/ping").header("X-Azure-FDID", own).header("X-Azure-FDID", own).send().await;
    twice.assert_refused(Reason::CallerAddressNotAllowed);
}

#[test]
fn a_lock_without_a_key_is_an_error() {
    let report = Gateway::refusal(&config("trusted-proxies: []"));
    assert!(report.contains("no proxy is trusted, so every connection would be closed"), "{report}");
}
