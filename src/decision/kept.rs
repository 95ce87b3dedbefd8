//! Promises that a decision cannot keep: rules that need the request's body, its end, or its response, which only the proxy sees.

use super::{DecidesConfig, rules::leads_to_a_backend};
use crate::{
    authorization::AuthorizationConfig,
    inbound::{InboundPolicy, PolicyEntry},
    request::TokenPlace,
    route::{RequireTls, Route, RouteConfig},
    settings::{Faults, Lint, Place},
};

/// Reports what of a route a decision cannot keep.
pub(super) fn check(config: &DecidesConfig, written: &RouteConfig, route: &Route, place: &Place, faults: &mut Faults) {
    if !leads_to_a_backend(route) {
        let message = format!("the route `{}` answers by itself, and a decision only admits or refuses", route.name);
        faults.error(&place.key("name"), message, "take it out of the list of the listener's `decides`");
        return;
    }
    route.inbound.each(&mut |entry| policy(entry, faults));
    if !written.outbound.is_empty() {
        let message = "policies on the response cannot run: the proxy that asks has the response";
        faults.error(&place.key("outbound"), message, "change the response in the proxy that asks");
    }
    if let Some(limits) = &written.limits {
        for (key, written) in [("max-stream", limits.max_stream.is_some()), ("body-bytes", limits.body_bytes.is_some())] {
            if written {
                let message = format!("`{key}` cannot be kept: a decision sees neither the body of a request nor its end");
                faults.error(&place.key("limits").key(key), message, "set the limit in the proxy that asks");
            }
        }
    }
    if route.require_tls == RequireTls::Redirect {
        let message = "a decision does not redirect";
        faults.error(&place.key("require-tls"), message, "write `true`, and let the proxy that asks redirect");
    }
    if written.server_timing {
        let message = "the time that an upstream took is not known to a decision";
        faults.error(&place.key("server-timing"), message, "leave it out");
    }
    places(route, place, faults);
    tokens(config, written, place, faults);
    if route.websocket {
        let message = "whether a WebSocket may open is decided once: it is not closed when the caller's token expires";
        faults.warning(
            Lint::DecisionTunnel,
            &place.key("upgrades"),
            message,
            "limit the duration of connections in the proxy that asks",
        );
    }
}

/// Reports a policy that a decision cannot keep.
fn policy(entry: &PolicyEntry, faults: &mut Faults) {
    let (message, cure) = match &entry.policy {
        InboundPolicy::LimitConcurrency(_) => {
            ("a decision does not see when a request ends", "limit concurrent requests in the proxy")
        }
        InboundPolicy::QuotaByKey(quota) if quota.counts_bytes() => ("a decision does not see the bodies", "write `calls` alone"),
        InboundPolicy::QuotaByKey(quota) if quota.reads_response() => READS_RESPONSE,
        InboundPolicy::RateLimitByKey(limit) if limit.reads_response() => READS_RESPONSE,
        InboundPolicy::Cors(_) => {
            ("a decision neither answers preflights nor changes responses", "use the means of the proxy for CORS")
        }
        InboundPolicy::ReturnResponse(_) => ("a decision only admits or refuses", "refuse with `authorize` and its `code`"),
        InboundPolicy::RewriteUri(_) | InboundPolicy::SetQueryParameter(_) => TARGET,
        InboundPolicy::SetMethod(_) | InboundPolicy::SetBackendService(_) => TARGET,
        _ => return,
    };
    let message = format!("`{}` cannot be kept on a route that is decided for another proxy: {message}", entry.at);
    faults.error(&entry.place, message, cure);
}

const READS_RESPONSE: (&str, &str) = ("the response is not known to a decision", "take `response` out of the condition");
const TARGET: (&str, &str) =
    ("the proxy forwards the target and the method that it asked about", "change them in the proxy, after the decision");

/// Reports places of tokens and keys that would have to be cleared in the query, which a proxy forwards as it is.
fn places(route: &Route, place: &Place, faults: &mut Faults) {
    let in_query = |places: &[TokenPlace]| places.iter().any(|place| matches!(place, TokenPlace::Query(_)));
    if in_query(&route.key_places) || in_query(route.authorization.places()) {
        let message = "a token or key in the query cannot be removed: the proxy forwards the target that it asked about";
        faults.error(&place.key("inbound"), message, "take tokens from header fields alone");
    }
}

/// Reports tokens and passwords of the gateway's own that the proxy would be handed without anybody having said so.
fn tokens(config: &DecidesConfig, written: &RouteConfig, place: &Place, faults: &mut Faults) {
    let what = match &written.authorization {
        AuthorizationConfig::Credential(_) => "credential",
        AuthorizationConfig::OnBehalfOf(_) => "on-behalf-of",
        AuthorizationConfig::Basic(_) => "basic",
        AuthorizationConfig::Word(_) | AuthorizationConfig::FromHeader(_) | AuthorizationConfig::Absent => return,
    };
    if !config.carry_tokens {
        let message = format!("`{what}` would hand a token or password of the gateway to the proxy that asks");
        let cure = "write `carry-tokens: true` in the listener's `decides` if that proxy may have it";
        faults.error(&place.key("authorization"), message, cure);
    }
}
