//! Servers that are out of service are seen in the status and in the metrics, each with its cause.

use std::time::Instant;

use entrada::Reason;
use serde_json::Value;

use crate::support::{Gateway, LONGEST_WAIT, Upstream};

async fn fetch(gateway: &Gateway, path: &str) -> String {
    let url = format!("http://{}{path}", gateway.admin_address());
    reqwest::Client::builder().no_proxy().build().unwrap().get(url).send().await.unwrap().text().await.unwrap()
}

/// The servers as the status has them, once `wanted` holds of one of them.
async fn servers(gateway: &Gateway, wanted: impl Fn(&Value) -> bool) -> Vec<Value> {
    let begun = Instant::now();
    loop {
        let status: Value = serde_json::from_str(&fetch(gateway, "/api/status").await).unwrap();
        let servers = status["upstreams"][0]["servers"].as_array().unwrap().clone();
        if servers.iter().any(&wanted) {
            return servers;
        }
        assert!(begun.elapsed() < LONGEST_WAIT, "{servers:#?}");
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_server_that_fails_its_checks_is_down_with_its_cause() {
    let good = Upstream::start().await;
    let bad = Upstream::answering(|_| {
        let mut response = http::Response::new(http_body_util::Full::default());
        *response.status_mut() = http::StatusCode::SERVICE_UNAVAILABLE;
        response
    })
    .await;
    let gateway = Gateway::start(&format!(
        "upstreams: {{ backend: {{ servers: [\"{}\", \"{}\", \"http://127.0.0.1:1\"], health: {{ path: /healthz, interval: 100ms, unhealthy: 1 }} }} }}\n\
         routes: [ {{ name: open, match: {{ path: / }}, anonymous: true, upstream: backend }} ]\n",
        good.url(),
        bad.url()
    ))
    .await;

    let servers = {
        servers(&gateway, |server| server["state"] == "down" && server["server"] == "127.0.0.1:1").await;
        servers(&gateway, |server| server["state"] == "down" && server["server"] == bad.address.to_string()).await
    };

    for (server, state, cause) in
        [(&servers[0], "up", None), (&servers[1], "down", Some("503")), (&servers[2], "down", Some("onnection refused"))]
    {
        assert_eq!(server["state"], state, "{server}");
        assert_eq!(server["since"].is_string(), cause.is_some(), "{server}");
        match cause {
            Some(cause) => assert!(server["cause"].as_str().is_some_and(|found| found.contains(cause)), "{server}"),
            None => assert!(server["cause"].is_null(), "{server}"),
        }
    }
    let metrics = fetch(&gateway, "/metrics").await;
    let sample = |server: &str, up: u8| format!("entrada_upstream_server_up{{upstream=\"backend\",server=\"{server}\"}} {up}\n");
    assert!(metrics.contains(&sample(&good.address.to_string(), 1)), "{metrics}");
    assert!(metrics.contains(&sample("127.0.0.1:1", 0)), "{metrics}");
}

#[tokio::test]
async fn a_server_that_is_ejected_says_why() {
    let bad = Upstream::answering(|_| {
        let mut response = http::Response::new(http_body_util::Full::default());
        *response.status_mut() = http::StatusCode::BAD_GATEWAY;
        response
    })
    .await;
    let gateway = Gateway::start(&format!(
        "upstreams: {{ backend: {{ servers: [\"{}\"], ejection: {{ consecutive-failures: 2, for: 1h }} }} }}\n\
         routes: [ {{ name: open, match: {{ path: / }}, anonymous: true, upstream: backend }} ]\n",
        bad.url()
    ))
    .await;
    for _ in 0..2 {
        gateway.get("/").send().await;
    }

    let servers = servers(&gateway, |server| server["state"] == "ejected").await;

    assert!(servers[0]["cause"].as_str().is_some_and(|cause| cause.contains("502")), "{servers:#?}");
    let metrics = fetch(&gateway, "/metrics").await;
    assert!(
        metrics.contains(&format!("entrada_upstream_server_ejected{{upstream=\"backend\",server=\"{}\"}} 1\n", bad.address)),
        "{metrics}"
    );
}

#[tokio::test]
async fn without_a_healthy_server_requests_are_refused_at_once() {
    let gateway = Gateway::start(
        "upstreams: { backend: { servers: [\"http://127.0.0.1:1\"], health: { path: /healthz, interval: 100ms, unhealthy: 1 } } }\n\
         routes: [ { name: open, match: { path: / }, anonymous: true, upstream: backend } ]\n",
    )
    .await;
    servers(&gateway, |server| server["state"] == "down").await;

    let answer = gateway.get("/").send().await;

    answer.assert_refused(Reason::NoHealthyUpstream);
    let record = gateway.record(|record| record["code"] == "no-healthy-upstream").await;
    assert_eq!((&record["decision"], &record["upstream"]), (&"error".into(), &"backend".into()), "{record}");
}
