//! Tests of exports over gRPC: what a strict collector receives, and what becomes of each of its statuses.

mod collector;
#[cfg(unix)]
mod tls;

use base64::{Engine as _, engine::general_purpose::STANDARD_NO_PAD};
use futures_util::future::join_all;

use self::collector::{Answer, Collector, METRICS, TRACES};
use crate::support::{Fields, Gateway, Upstream, Written, eventually};

fn config(upstream: &Upstream, collector: &Collector, more: &str) -> String {
    format!(
        "upstreams: {{ backend: {{ servers: [\"{}\"] }} }}\n\
         routes: [ {{ name: orders, match: {{ path: /orders }}, anonymous: true, upstream: backend }} ]\n\
         telemetry: {{ otlp: {{ endpoint: \"{}\", protocol: grpc, headers: {{ api-key: of-the-tests }}, {more} }} }}\n",
        upstream.url(),
        collector.url(),
    )
}

/// Returns the scopes of an export, each with its spans or metrics, after a look at whose they are.
fn scopes(export: &Fields) -> Vec<Fields> {
    let resources = export.messages(1);
    for resource in &resources {
        assert_eq!(resource.message(1).unwrap().attribute(1, "service.name").as_deref(), Some("entrada"));
    }
    resources.iter().flat_map(|resource| resource.messages(2)).collect()
}

#[tokio::test]
async fn a_collector_gets_spans_and_metrics_in_calls_as_the_protocol_has_them() {
    let (upstream, collector) = (Upstream::start().await, Collector::start().await);
    let gateway = Gateway::start(&config(&upstream, &collector, "traces: {}, metrics: { every: 1h }")).await;
    gateway.get("/orders/7").send().await.assert_allowed();
    gateway.record(|record| record["path"] == "/orders/7").await;

    drop(gateway);

    let traces = collector.exports(TRACES, 1).await;
    assert_eq!(traces[0].headers["api-key"], "of-the-tests");
    let spans: Vec<_> = scopes(&traces[0].message).iter().flat_map(|scope| scope.messages(2)).collect();
    let mut names: Vec<_> = spans.iter().map(|span| span.text(5)).collect();
    names.sort();
    assert_eq!(names, ["GET", "GET orders"]);
    let metrics = collector.exports(METRICS, 1).await;
    let metrics: Vec<_> = scopes(&metrics[0].message).iter().flat_map(|scope| scope.messages(2)).collect();
    assert!(metrics.iter().any(|metric| metric.text(1) == "http.server.request.duration"));
    assert_eq!(collector.connections(), 1, "both go over one connection");
}

/// Returns the fields of a status, with a pause of no time at all if it has one.
fn status(code: u32, with_pause: bool) -> Vec<(&'static str, String)> {
    let mut fields = vec![("grpc-status", code.to_string()), ("grpc-message", "come%20back".to_owned())];
    if with_pause {
        let info = Written::default().message(1, Written::default());
        let any = Written::default().bytes(1, "type.googleapis.com/google.rpc.RetryInfo").message(2, info);
        let details = Written::default().number(1, code.into()).bytes(2, "come back").message(3, any);
        fields.push(("grpc-status-details-bin", STANDARD_NO_PAD.encode(details.0)));
    }
    fields
}

/// A transient failure is tried again, any other is dropped and counted.
#[tokio::test]
async fn a_status_is_tried_again_if_it_may_pass_and_given_up_if_it_will_not() {
    let rows = [
        ("unavailable, in the trailers", Answer::Status(status(14, false)), true),
        ("unavailable, in the head", Answer::HeadAlone(status(14, false)), true),
        ("exhausted, and it says when it will not be", Answer::HeadAlone(status(8, true)), true),
        ("a balancer before the collector", Answer::Http(503), true),
        ("exhausted", Answer::HeadAlone(status(8, false)), false),
        ("an argument that is wrong", Answer::Status(status(3, false)), false),
        ("no credential", Answer::HeadAlone(status(16, true)), false),
        ("no gRPC at all", Answer::Http(404), false),
    ];
    let upstream = Upstream::start().await;

    join_all(rows.map(async |(row, first, is_taken)| {
        let answers = move |turn| if turn == 0 { first.clone() } else { Answer::Taken(Vec::new()) };
        let collector = Collector::answering(answers).await;
        let gateway = Gateway::start(&config(&upstream, &collector, "traces: {}")).await;
        gateway.get("/orders/1").send().await.assert_allowed();

        let expected = if is_taken { "entrada_otlp_spans_exported_total 2\n" } else { "entrada_otlp_spans_dropped_total 2\n" };
        eventually(&format!("{row}: {expected}"), async || gateway.metrics().await.contains(expected)).await;

        assert_eq!(collector.calls(), if is_taken { 2 } else { 1 }, "{row}");
        let exports = collector.exports(TRACES, 1).await;
        assert!(exports.iter().all(|export| scopes(&export.message)[0].messages(2).len() == 2), "{row}");
        assert_eq!(collector.connections(), 1, "{row}: a status ends no connection");
    }))
    .await;
}

#[tokio::test]
async fn what_a_collector_rejects_of_an_export_is_counted_as_lost() {
    let partial = Written::default().number(1, 1).bytes(2, "a span without a name");
    let answer = Written::default().message(1, partial).0;
    let collector = Collector::answering(move |_| Answer::Taken(answer.clone())).await;
    let upstream = Upstream::start().await;
    let gateway = Gateway::start(&config(&upstream, &collector, "traces: {}")).await;

    gateway.get("/orders/1").send().await.assert_allowed();

    let counts = ["entrada_otlp_spans_exported_total 1\n", "entrada_otlp_spans_dropped_total 1\n"];
    eventually("one span is taken, and one is not", async || {
        let metrics = gateway.metrics().await;
        counts.iter().all(|count| metrics.contains(count))
    })
    .await;
    assert_eq!(collector.calls(), 1, "what was taken is not sent again");
}

#[tokio::test]
async fn a_collector_that_went_away_gets_exports_again_when_it_is_back() {
    let (upstream, collector) = (Upstream::start().await, Collector::start().await);
    let address = collector.address;
    let _gateway = Gateway::start(&config(&upstream, &collector, "metrics: { every: 1s }")).await;
    assert_eq!(collector.exports(METRICS, 2).await[1].connection, 1, "a connection is used again");

    collector.stop();
    drop(collector);
    let mut back = None;
    eventually("the port is free again", async || {
        if tokio::net::TcpStream::connect(address).await.is_ok() {
            return false;
        }
        back = Some(Collector::at(address, None, |_| Answer::Taken(Vec::new())).await);
        true
    })
    .await;

    back.unwrap().exports(METRICS, 2).await;
}
