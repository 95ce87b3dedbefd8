//! Hints for requests whose route is not made for what they ask, and for those beyond a limit of their listener.

use std::sync::atomic::Ordering;

use crate::{
    base::fields::{Known, Value},
    listener::Connection,
    refusal::Reason,
    request::IncomingRequest,
    route::Route,
    upstream::Upstream,
};

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

/// Returns which limit of the listener a request is beyond, if that is why it was refused.
pub(super) fn beyond(reason: Reason, connection: &Connection) -> Option<Box<str>> {
    let listener = &connection.listener.name;
    let limits = &connection.settings.limits;
    match reason {
        Reason::BodyTooLarge => Some(
            format!("the listener `{listener}` takes bodies of up to {} bytes: see its `limits.body-bytes`", limits.body_bytes)
                .into(),
        ),
        Reason::HeadersTooLarge | Reason::TargetTooLong => Some(
            format!(
                "the listener `{listener}` takes heads of up to {} bytes: see its `limits.header-bytes`",
                limits.header_bytes
            )
            .into(),
        ),
        _ => None,
    }
}

fn is_grpc(incoming: &IncomingRequest) -> bool {
    let kind = incoming.headers.get(Known::ContentType).map(Value::as_bytes);
    kind.is_some_and(|kind| kind.starts_with(b"application/grpc") && !kind.starts_with(b"application/grpc-web"))
}
