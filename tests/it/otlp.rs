//! Tests of the export to an OpenTelemetry collector: what it receives, and that a broken one harms nobody.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use bytes::Bytes;
use http::{Response, StatusCode};
use http_body_util::Full;

use crate::support::{Fields, Gateway, Received, Upstream};

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const PARENT: &str = "00f067aa0ba902b7";

/// A collector that first answers with these statuses.
async fn collector(statuses: &'static [u16]) -> Upstream {
    let turn = AtomicUsize::new(0);
    Upstream::answering(move |_| {
        let status = statuses.get(turn.fetch_add(1, Ordering::Relaxed)).copied().unwrap_or(200);
        let mut response = Response::new(Full::new(Bytes::new()));
        *response.status_mut() = StatusCode::from_u16(status).unwrap();
        response
    })
    .await
}

fn config(upstream: &Upstream, collector: &Upstream, more: &str) -> String {
    format!(
        "upstreams: {{ backend: {{ servers: [\"{}\"] }} }}\n\
         routes:\n  - {{ name: orders, match: {{ path: /orders }}, anonymous: true, upstream: backend }}\n  - {{ name: shut, match: {{ path: /shut }}, inbound: [ check-header: {{ name: X-Door }} ], anonymous: true, upstream: backend }}\n\
         telemetry: {{ otlp: {{ endpoint: \"{}\", headers: {{ api-key: of-the-tests }}, {more} }} }}\n",
        upstream.url(),
        collector.url(),
    )
}

/// Returns the exports to this path, once there are so many.
async fn exports(collector: &Upstream, path: &str, count: usize) -> Vec<Received> {
    let begun = Instant::now();
    loop {
        let received: Vec<_> = collector.all().into_iter().filter(|request| request.uri == path).collect();
        if received.len() >= count {
            return received;
        }
        assert!(begun.elapsed() < Duration::from_secs(60), "no export to {path}: {received:?}");
        tokio::task::yield_now().await;
    }
}

/// Returns the spans of an export of traces.
fn spans(export: &Received) -> Vec<Fields> {
    let resource = Fields::read(&export.body);
    let resource = Fields::read(resource.all(1).next().unwrap());
    let about = Fields::read(resource.all(1).next().unwrap());
    assert_eq!(about.attribute(1, "service.name").as_deref(), Some("entrada"));
    let scope = Fields::read(resource.all(2).next().unwrap());
    assert_eq!(Fields::read(scope.all(1).next().unwrap()).text(1), "entrada");
    scope.all(2).map(Fields::read).collect()
}

#[tokio::test]
async fn a_request_has_a_span_of_its_own_and_one_of_the_server_that_it_asked() {
    let (upstream, collector) = (Upstream::start().await, collector(&[]).await);
    let gateway = Gateway::start(&config(&upstream, &collector, "traces: {}")).await;
    let parent = format!("00-{TRACE}-{PARENT}-00");
    gateway.get("/orders/7?secret=s").header("traceparent", &parent).header("user-agent", "a test").send().await.assert_allowed();
    gateway.get("/shut").send().await;
    gateway.record(|record| record["path"] == "/shut").await;
    let forwarded = upstream.last().value("traceparent").unwrap().to_owned();

    drop(gateway);

    let exports = exports(&collector, "/v1/traces", 1).await;
    assert_eq!(exports[0].value("content-type"), Some("application/x-protobuf"));
    assert_eq!(exports[0].value("api-key"), Some("of-the-tests"));
    let spans = spans(&exports[0]);
    let find = |kind, path: &str| {
        spans
            .iter()
            .find(|span| span.number(6) == kind && (path.is_empty() || span.attribute(9, "url.path").as_deref() == Some(path)))
    };
    assert_eq!(spans.len(), 3, "{spans:?}");
    let (own, asked) = (find(2, "/orders/7").unwrap(), find(3, "").unwrap());
    // Sampled here, whatever a stranger says, and the server is told so.
    assert_eq!(forwarded, format!("00-{TRACE}-{}-01", asked.hex(2)));
    assert_eq!((own.hex(1), own.hex(4), own.text(5)), (TRACE.to_owned(), PARENT.to_owned(), "GET orders".to_owned()));
    assert_eq!((asked.hex(1), asked.hex(4), asked.text(5)), (TRACE.to_owned(), own.hex(2), "GET".to_owned()));
    assert!(own.number(7) <= asked.number(7) && asked.number(8) <= own.number(8) && own.number(7) > 1 << 60);
    for (key, expected) in [
        ("http.request.method", "GET"),
        ("http.response.status_code", "200"),
        ("http.route", "orders"),
        ("url.scheme", "http"),
        ("client.address", "127.0.0.1"),
        ("network.protocol.version", "1.1"),
        ("user_agent.original", "a test"),
        ("entrada.decision", "allow"),
    ] {
        assert_eq!(own.attribute(9, key).as_deref(), Some(expected), "{key}");
    }
    assert_eq!(asked.attribute(9, "server.port"), Some(upstream.address.port().to_string()));
    let refused = find(2, "/shut").unwrap();
    assert_eq!(refused.attribute(9, "entrada.code").as_deref(), Some("header-check-failed"));
    assert_eq!(refused.all(15).count(), 0, "what the caller has done is no error of the server");
    assert!(!String::from_utf8_lossy(&exports[0].body).contains("secret"), "a query goes nowhere");
}

#[tokio::test]
async fn a_share_of_nothing_exports_nothing_but_what_a_trusted_proxy_has_sampled() {
    let (upstream, collector) = (Upstream::start().await, collector(&[]).await);
    let listener = "listeners: [ { name: public, address: \"127.0.0.1:0\", trusted-proxies: [127.0.0.1] } ]\n";
    let parent = format!("00-{TRACE}-{PARENT}-01");
    for (listener, expected) in [("", "-00"), (listener, "-01")] {
        let gateway = Gateway::start(&format!("{listener}{}", config(&upstream, &collector, "traces: { sample: 0% }"))).await;
        gateway.get("/orders/1").header("traceparent", &parent).send().await;
        gateway.record(|record| record["path"] == "/orders/1").await;
        let forwarded = upstream.last().value("traceparent").unwrap().to_owned();
        assert!(forwarded.ends_with(expected), "{forwarded}");
        drop(gateway);
    }

    let exports = exports(&collector, "/v1/traces", 1).await;
    assert_eq!(exports.iter().map(|export| spans(export).len()).sum::<usize>(), 2);
}

#[tokio::test]
async fn metrics_are_exported_with_the_names_of_opentelemetry() {
    let (upstream, collector) = (Upstream::start().await, collector(&[]).await);
    let gateway = Gateway::start(&config(&upstream, &collector, "metrics: { every: 1h }")).await;
    gateway.get("/orders/1").send().await;
    gateway.record(|record| record["path"] == "/orders/1").await;

    drop(gateway);

    let exports = exports(&collector, "/v1/metrics", 1).await;
    let resource = Fields::read(Fields::read(&exports[0].body).all(1).next().unwrap());
    let scope = Fields::read(resource.all(2).next().unwrap());
    let metrics: Vec<_> = scope.all(2).map(Fields::read).collect();
    let named =
        |name: &str| metrics.iter().find(|metric| metric.text(1) == name).unwrap_or_else(|| panic!("no metric is {name}"));
    let durations = named("http.server.request.duration");
    assert_eq!(durations.text(3), "s");
    let points: Vec<_> = Fields::read(durations.all(9).next().unwrap()).all(1).map(Fields::read).collect();
    let point = points.iter().find(|point| point.attribute(9, "http.route").as_deref() == Some("orders")).unwrap();
    assert_eq!((point.number(4), point.attribute(9, "http.response.status_code").as_deref()), (1, Some("200")));
    let sum = Fields::read(named("entrada_decisions_total").all(7).next().unwrap());
    assert_eq!((sum.number(2), sum.number(3)), (2, 1), "cumulative and monotonic");
    assert_eq!(collector.all().iter().filter(|request| request.uri == "/v1/traces").count(), 0);
}

/// A transient failure is tried again, any other is dropped and counted.
#[tokio::test]
async fn a_collector_that_fails_is_asked_again_or_given_up() {
    for (statuses, requests, exported) in [(&[503][..], 2, true), (&[400], 1, false)] {
        let (upstream, collector) = (Upstream::start().await, collector(statuses).await);
        let gateway = Arc::new(Gateway::start(&config(&upstream, &collector, "traces: {}")).await);
        gateway.get("/orders/1").send().await.assert_allowed();

        exports(&collector, "/v1/traces", requests).await;

        let begun = Instant::now();
        let expected = if exported { "entrada_otlp_spans_exported_total 2\n" } else { "entrada_otlp_spans_dropped_total 2\n" };
        while !gateway.metrics().await.contains(expected) {
            assert!(begun.elapsed() < Duration::from_secs(60), "never {expected}");
            tokio::task::yield_now().await;
        }
    }
}

#[tokio::test]
async fn a_route_may_tell_its_callers_where_the_time_went() {
    let upstream = Upstream::start().await;
    let route = |more: &str| {
        format!(
            "upstreams: {{ backend: {{ servers: [\"{}\"] }} }}\nroutes: [ {{ name: a, match: {{ path: /a }}, anonymous: true, upstream: backend{more} }} ]\n",
            upstream.url()
        )
    };
    let told = Gateway::start(&route(", server-timing: true")).await.get("/a").send().await;
    let untold = Gateway::start(&route("")).await.get("/a").send().await;

    let timing = told.header("server-timing").unwrap();
    let parts: Vec<_> = timing.split(", ").filter_map(|part| part.split_once(";dur=")).collect();
    assert_eq!(parts.iter().map(|(name, _)| *name).collect::<Vec<_>>(), ["policies", "credential", "upstream"], "{timing}");
    assert!(parts.iter().all(|(_, time)| time.parse::<f64>().is_ok_and(|time| time >= 0.0)), "{timing}");
    assert_eq!(untold.header("server-timing"), None);
}

#[test]
fn an_export_that_cannot_be_is_a_fault_of_the_config() {
    let report = Gateway::refusal(
        "routes: [ { name: a, match: { path: /a }, anonymous: true, respond: { status: 204 } } ]\ntelemetry: { otlp: { protocol: grpc, endpoint: \"http://127.0.0.1:4317/v1/traces\", traces: {} } }\n",
    );
    assert!(report.contains("gRPC has paths of its own") && report.contains("as http://127.0.0.1:4317"), "{report}");
}
