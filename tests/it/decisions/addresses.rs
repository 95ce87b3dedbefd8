//! The asking proxy and the caller: two addresses, of which only the first is a connection.

use super::{Asks, Bed, DIALECTS};
use crate::support::{Authority, Gateway, Identity, client_of};

const FILTERED: &str = "- { name: filtered, match: { path: /filtered }, anonymous: true, \
     inbound: [ ip-filter: { action: allow, addresses: [203.0.113.0/24] } ], decide-only: true }";

#[tokio::test]
async fn a_proxy_that_is_not_listed_is_told_nothing() {
    let mut listeners = "listeners:\n  - { name: public, address: \"127.0.0.1:0\" }\n".to_owned();
    for dialect in DIALECTS {
        listeners.push_str(&format!(
            "  - {{ name: {dialect}, address: \"127.0.0.1:0\", decides: {{ dialect: {dialect}, peers: [192.0.2.0/24] }} }}\n"
        ));
    }
    let bed = Bed::with_keys(FILTERED, &listeners).await;
    for dialect in DIALECTS {
        if dialect == "envoy-grpc" {
            let address = bed.gateway.server().address(dialect).unwrap();
            let question = super::asks::framed(&Asks::get("/filtered").check_request().0);
            let called = super::asks::call(address, super::asks::CHECK, &question, &[]).await;
            assert_eq!((called.status, &*called.text), (7, "decision-peer-not-allowed"));
        } else {
            bed.ask(dialect, &Asks::get("/filtered")).await.assert_refused(403, "decision-peer-not-allowed");
        }
        let record = bed.gateway.record(|record| record["listener"] == dialect).await;
        assert_eq!((record["code"].as_str(), record["dialect"].as_str()), (Some("decision-peer-not-allowed"), None), "{record}");
        // Nothing of the question is believed, and so nothing recorded.
        assert!(record["path"].is_null() && record["source"].is_null(), "{record}");
    }
    let metrics = bed.gateway.metrics().await;
    assert!(metrics.lines().any(|line| line.contains("code=\"decision-peer-not-allowed\"") && line.contains(" 5")), "{metrics}");
}

#[tokio::test]
async fn the_caller_is_who_connected_to_the_proxy_and_never_the_proxy() {
    let bed = Bed::with(FILTERED, "carry-tokens: false", "").await;
    for dialect in DIALECTS {
        bed.ask(dialect, &Asks::get("/filtered")).await.assert_admitted();
        // What the client wrote in front of it is not believed.
        for from in ["198.51.100.9", "203.0.113.7, 198.51.100.9", "127.0.0.1"] {
            let asks = Asks { from: from.to_owned(), ..Asks::get("/filtered") };
            bed.ask(dialect, &asks).await.assert_refused(403, "caller-address-not-allowed");
        }
    }
}

/// A balancer in front of the proxy that asks speaks for its callers where the listener trusts it.
#[tokio::test]
async fn trusted_proxies_are_those_in_front_of_the_proxy_that_asks() {
    let bed = Bed::with(FILTERED, "carry-tokens: false", "trusted-proxies: [10.0.0.0/8]").await;
    for dialect in DIALECTS {
        for (from, admitted) in [
            ("203.0.113.7, 10.0.0.1", true),
            ("203.0.113.7, 198.51.100.9, 10.0.0.1", false),
            ("198.51.100.9, 203.0.113.7, 10.1.0.1, 10.0.0.1", true),
        ] {
            let decided = bed.ask(dialect, &Asks { from: from.to_owned(), ..Asks::get("/filtered") }).await;
            assert_eq!(decided.admitted, admitted, "{dialect} {from}: {decided:?}");
        }
        let odd = Asks { from: "unknown, 10.0.0.1".to_owned(), ..Asks::get("/filtered") };
        let status = if dialect == "nginx" { 403 } else { 400 };
        bed.ask(dialect, &odd).await.assert_refused(status, "caller-address-unparsable");
    }
}

#[tokio::test]
async fn the_id_of_a_request_is_kept_from_a_proxy_that_is_trusted() {
    for (trusted, kept) in [("", false), ("trusted-proxies: [127.0.0.1]", true)] {
        let bed = Bed::with(FILTERED, "carry-tokens: false", trusted).await;
        for dialect in DIALECTS {
            let decided = bed.ask(dialect, &Asks::get("/filtered").field("x-request-id", "of-the-proxy-1")).await;
            decided.assert_admitted();
            // What passes unchanged is not told in the dialects that name changes.
            let id = decided.set.get("x-request-id").map(String::as_str);
            assert_eq!(matches!(id, None | Some("of-the-proxy-1")), kept, "{dialect}: {decided:?}");
        }
    }
}

/// Proxies may be known by their certificates instead of their addresses: those of callers are another matter.
#[tokio::test]
async fn a_proxy_with_a_certificate_may_ask_from_anywhere() {
    let (servers, proxies) = (Authority::new("Contoso Servers"), Authority::new("Contoso Proxies"));
    let folder = tempfile::TempDir::new().unwrap();
    let tls = servers.server("localhost").write(folder.path(), "server");
    std::fs::write(folder.path().join("ca.pem"), proxies.pem()).unwrap();
    let ca = folder.path().join("ca.pem");
    let gateway = Gateway::start(&format!(
        "listeners:
  - {{ name: public, address: \"127.0.0.1:0\" }}
  - name: mesh
    address: \"127.0.0.1:0\"
    tls: {tls}
    decides: {{ dialect: traefik, client-certificates: {{ mode: required, ca: {} }} }}
routes:
  {FILTERED}
",
        ca.display()
    ))
    .await;
    let port = gateway.server().address("mesh").unwrap().port();
    let ask = async |identity: Option<&Identity>| {
        let client = client_of(&servers, identity, false);
        let request = client.get(format!("https://localhost:{port}/decide"));
        let fields = [("Method", "GET"), ("Proto", "https"), ("Host", "a.example"), ("Uri", "/filtered"), ("For", "203.0.113.7")];
        fields.iter().fold(request, |request, (name, value)| request.header(format!("X-Forwarded-{name}"), *value)).send().await
    };

    assert_eq!(ask(Some(&proxies.client("traefik"))).await.unwrap().status(), 200);
    assert!(ask(None).await.is_err(), "without a certificate there is no connection");
    assert!(ask(Some(&Authority::new("Somebody Else").client("traefik"))).await.is_err());
}
