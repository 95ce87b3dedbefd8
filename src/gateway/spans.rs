//! The spans of a request, made when it ends: one of the gateway's own, and one of what it asked a server.

use std::time::Duration;

use http::Version;

use super::record::Recorder;
use crate::{
    audit::line::shown,
    connection::Scheme,
    exchange::Exchange,
    refusal::Reason,
    request::TraceContext,
    telemetry::{Message, Traces, decision},
};

/// Numbers of OTLP: kinds of spans, and the status of an error.
const SERVER: u64 = 2;
const CLIENT: u64 = 3;
const ERROR: u64 = 2;

/// Adds the spans of a request to those of its worker.
pub(super) fn push(traces: &Traces, recorder: &Recorder, duration: Duration) {
    let exchange = &recorder.exchange;
    let Some(trace) = exchange.trace_context.filter(|trace| Traces::are_sampled(trace.flags)) else { return };
    // The span that a server was told of is the one in which it was asked; without a server the gateway's own has that id.
    let asked = exchange.outcome.server.is_some();
    let own = if asked { beside(trace.span_id) } else { trace.span_id };
    let server = |span: &mut Message| server_span(span, recorder, (&trace, own), duration);
    let client = |span: &mut Message| client_span(span, recorder, (&trace, own));
    if asked {
        traces.push(exchange.worker, &[&server, &client]);
    } else {
        traces.push(exchange.worker, &[&server]);
    }
}

/// Returns another id than this one, which nobody else has.
const fn beside(span_id: u64) -> u64 {
    let id = span_id.rotate_left(32) ^ 0x9E37_79B9_7F4A_7C15;
    if id == 0 || id == span_id { span_id ^ 1 } else { id }
}

/// Writes what all spans have: the trace, the id, the parent, the name, the kind and the times.
fn begin(span: &mut Message, trace: &TraceContext, ids: (u64, Option<u64>), name: &str, kind: u64, times: (Duration, Duration)) {
    let nanoseconds = |time: Duration| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
    span.bytes(1, &trace.trace_id.to_be_bytes()).bytes(2, &ids.0.to_be_bytes());
    if let Some(parent) = ids.1 {
        span.bytes(4, &parent.to_be_bytes());
    }
    span.text(5, name).number(6, kind).fixed64(7, nanoseconds(times.0)).fixed64(8, nanoseconds(times.1));
    span.fixed32(16, u32::from(trace.flags));
}

fn server_span(span: &mut Message, recorder: &Recorder, (trace, own): (&TraceContext, u64), duration: Duration) {
    let exchange = &recorder.exchange;
    let outcome = &exchange.outcome;
    let route = recorder.route().map(|route| &*route.name);
    let method = recorder.incoming.as_ref().map_or("HTTP", |incoming| known(incoming.method.as_str()));
    let name = route.map_or_else(|| method.to_owned(), |route| format!("{method} {route}"));
    let times = (exchange.began.unix, exchange.began.unix + duration);
    begin(span, trace, (own, trace.parent_id), &name, SERVER, times);
    head(span, recorder, exchange);
    if let Some(route) = route {
        span.attribute(9, "http.route", route);
    }
    let reason = outcome.decision.reason();
    let code = outcome.code.as_deref().or(reason.map(Reason::code));
    let status = outcome.status.map(|status| status.as_u16());
    if let Some(status) = status {
        span.attribute_number(9, "http.response.status_code", status.into());
    }
    span.attribute(9, "entrada.request_id", exchange.id.as_str()).attribute(9, "entrada.decision", decision(reason));
    if let Some(code) = code {
        span.attribute(9, "entrada.code", code);
    }
    // RFC 9110: what is the caller's fault is no error of the server.
    if decision(reason) == "error" || status.is_none_or(|status| status >= 500) {
        let kind =
            code.map_or_else(|| status.map_or_else(|| "incomplete".to_owned(), |status| status.to_string()), str::to_owned);
        span.attribute(9, "error.type", &kind).message(15, |status| {
            status.number(3, ERROR);
        });
    }
}

/// Writes what the request and its connection say.
fn head(span: &mut Message, recorder: &Recorder, exchange: &Exchange) {
    let peer = exchange.connection.peer;
    span.attribute(9, "network.peer.address", &peer.ip().to_string());
    span.attribute_number(9, "network.peer.port", peer.port().into());
    span.attribute(9, "client.address", &exchange.caller_address().to_string());
    let Some(incoming) = &recorder.incoming else { return };
    let version = match incoming.version {
        Version::HTTP_2 => "2",
        Version::HTTP_10 => "1.0",
        _ => "1.1",
    };
    let scheme = if incoming.scheme == Scheme::Https { "https" } else { "http" };
    span.attribute(9, "http.request.method", known(incoming.method.as_str()))
        .attribute(9, "url.path", &incoming.target.path)
        .attribute(9, "url.scheme", scheme)
        .attribute(9, "network.protocol.version", version)
        .attribute(9, "server.address", &incoming.authority.host);
    if let Some(agent) = incoming.headers.get(http::header::USER_AGENT) {
        span.attribute(9, "user_agent.original", &shown(agent.as_bytes()));
    }
}

fn client_span(span: &mut Message, recorder: &Recorder, (trace, own): (&TraceContext, u64)) {
    let Exchange { outcome, timings, began, .. } = &recorder.exchange;
    let asked = began.unix + timings.policies + timings.credential;
    let method = recorder.incoming.as_ref().map_or("HTTP", |incoming| known(incoming.method.as_str()));
    begin(span, trace, (trace.span_id, Some(own)), method, CLIENT, (asked, asked + timings.upstream));
    span.attribute(9, "http.request.method", method);
    let server = outcome.server.as_deref().unwrap_or_default();
    let (address, port) = server.rsplit_once(':').unwrap_or((server, ""));
    span.attribute(9, "server.address", address.trim_start_matches('[').trim_end_matches(']'));
    if let Ok(port) = port.parse() {
        span.attribute_number(9, "server.port", port);
    }
    let reason = outcome.decision.reason();
    match (reason, outcome.status) {
        (None, Some(status)) => {
            span.attribute_number(9, "http.response.status_code", status.as_u16().into());
            if status.is_client_error() || status.is_server_error() {
                span.attribute(9, "error.type", status.as_str()).message(15, |status| {
                    status.number(3, ERROR);
                });
            }
        }
        (reason, _) => {
            let kind = reason.map_or("incomplete", Reason::code);
            span.attribute(9, "error.type", kind).message(15, |status| {
                status.number(3, ERROR);
            });
        }
    }
}

/// Returns a method's name, or `_OTHER` for one that a caller has invented.
fn known(method: &str) -> &str {
    crate::base::counts::method_label(crate::base::counts::method_number(method))
}
