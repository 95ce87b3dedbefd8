//! Hints for requests whose route is not made for what they ask.

use std::sync::atomic::Ordering;

use http::header::CONTENT_TYPE;

use crate::{request::IncomingRequest, route::Route, upstream::Upstream};

/// Returns what the operator could change, where a request asks for a protocol that its route does not carry. The log has it once for
/// each route.
pub(super) fn before(route: &Route, upstream: &Upstream, incoming: &IncomingRequest) -> Option<Box<str>> {
    let hint = if !route.websocket && incoming.asks_for_websocket() {
        format!(
            "the caller asks for a WebSocket, which the route `{}` does not let through: add `upgrades: [websocket]`",
            route.name
        )
    } else if is_grpc(incoming) && upstream.speaks_http1() {
        format!("gRPC needs HTTP/2 towards the backend: write `protocol: http2` at the upstream `{}`", upstream.name())
    } else {
        return None;
    };
    if !route.hinted.swap(true, Ordering::Relaxed) {
        tracing::warn!(route = &*route.name, "{hint}");
    }
    Some(hint.into())
}

fn is_grpc(incoming: &IncomingRequest) -> bool {
    let kind = incoming.headers.get(CONTENT_TYPE).map(http::HeaderValue::as_bytes);
    kind.is_some_and(|kind| kind.starts_with(b"application/grpc") && !kind.starts_with(b"application/grpc-web"))
}
