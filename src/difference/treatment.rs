//! Changes for requests that both configs serve, or both refuse, read off what the engines did with one of them.

use http::{HeaderMap, HeaderName};

use super::{
    report::Treatment,
    side::{Side, each_key, each_text},
};
use crate::{
    authorization::PLACEHOLDER,
    explain::{is_credential, masked_url, shown_value},
    offline::{Outcome, Verdict},
    refusal::trace::SentRequest,
};

/// Fields that differ between any two requests, or say only that the gateway has passed one on.
const OF_EACH: [&str; 5] = ["x-request-id", "traceparent", "tracestate", "date", "x-entrada-assertion"];

/// Returns what two outcomes do differently.
pub(super) fn between(route: &str, outcomes: [&Outcome; 2]) -> Vec<Treatment> {
    let [old, new] = outcomes;
    let mut found = Vec::new();
    let mut add = |what: &str, before: String, after: String| {
        if before != after {
            found.push(Treatment { route: route.to_owned(), what: what.to_owned(), before, after });
        }
    };
    add("decision", decision(old), decision(new));
    if let (Some(before), Some(after)) = (&old.upstream, &new.upstream) {
        add("upstream", server(before), server(after));
        add("method", before.method.to_string(), after.method.to_string());
        add("path", path(before), path(after));
        add("authorization", authorization(old, before), authorization(new, after));
        for name in names([&before.headers, &after.headers]) {
            add(&format!("header {name}"), field(&before.headers, &name), field(&after.headers, &name));
        }
    }
    if old.verdict == Verdict::Answer && new.verdict == Verdict::Answer {
        let (before, after) = (&old.response, &new.response);
        for name in names([before.headers(), after.headers()]) {
            add(&format!("answer's header {name}"), field(before.headers(), &name), field(after.headers(), &name));
        }
        if before.body() != after.body() {
            add("answer", format!("{} bytes", before.body().len()), format!("another text, {} bytes", after.body().len()));
        }
    }
    add("only reported", old.would_deny.join(", "), new.would_deny.join(", "));
    found
}

/// Returns the decision in words.
fn decision(outcome: &Outcome) -> String {
    match outcome.verdict {
        Verdict::Allow => "sent upstream".to_owned(),
        Verdict::Answer => format!("answered with {}", outcome.status.as_u16()),
        Verdict::Refuse | Verdict::Fault => {
            format!("refused: {} {}", outcome.status.as_u16(), outcome.code.as_deref().unwrap_or_default())
        }
    }
}

fn server(sent: &SentRequest) -> String {
    let (scheme, rest) = sent.url.split_once("://").unwrap_or(("", &sent.url));
    format!("{scheme}://{}", rest.split(['/', '?']).next().unwrap_or_default())
}

fn path(sent: &SentRequest) -> String {
    let url = masked_url(&sent.url);
    let rest = url.split_once("://").map_or(url.as_str(), |(_, rest)| rest);
    rest.find(['/', '?']).map_or(String::new(), |at| rest[at..].to_owned())
}

/// Returns where the upstream's `Authorization` comes from.
fn authorization(outcome: &Outcome, sent: &SentRequest) -> String {
    match sent.headers.get(http::header::AUTHORIZATION) {
        None => "none".to_owned(),
        Some(value) if *value == PLACEHOLDER => match &outcome.credential {
            Some(credential) => format!("a token of the gateway's own, by {credential}"),
            None => "a token of the gateway's own".to_owned(),
        },
        Some(value) if value.as_bytes().starts_with(b"Basic") => "a password of the gateway's own".to_owned(),
        Some(_) => "the caller's token".to_owned(),
    }
}

fn names(headers: [&HeaderMap; 2]) -> Vec<HeaderName> {
    let mut names: Vec<HeaderName> = headers.iter().flat_map(|headers| headers.keys().cloned()).collect();
    names.sort_unstable_by(|a, b| a.as_str().cmp(b.as_str()));
    names.dedup();
    names.retain(|name| !OF_EACH.contains(&name.as_str()) && *name != http::header::AUTHORIZATION && *name != http::header::HOST);
    names
}

fn field(headers: &HeaderMap, name: &HeaderName) -> String {
    let values: Vec<String> = headers.get_all(name).iter().map(shown_value).collect();
    match values.len() {
        0 => "not sent".to_owned(),
        _ if is_credential(name.as_str()) => "***".to_owned(),
        _ => values.join(", "),
    }
}

/// Returns the header fields that only one of the configs takes from callers: a name that some route makes from who calls is reserved on
/// every route.
pub(super) fn reserved(sides: [&Side; 2]) -> Vec<Treatment> {
    let mut names: Vec<String> = Vec::new();
    for side in sides {
        each_text(side.contents.nodes(), Some("name"), &mut |text| names.push(text.to_ascii_lowercase()));
        each_key(side.contents.nodes(), "identity-headers", &mut |key| names.push(key.to_ascii_lowercase()));
    }
    names.sort_unstable();
    names.dedup();
    let mut found = Vec::new();
    for name in names.iter().filter_map(|name| HeaderName::from_bytes(name.as_bytes()).ok()) {
        let stops = |side: &Side| side.gateway.runtime().routes.first().is_some_and(|route| route.reserved.stops(&name));
        let words = |stops: bool| if stops { "a caller's is removed" } else { "a caller's is sent on" }.to_owned();
        let (before, after) = (stops(sides[0]), stops(sides[1]));
        if before != after {
            let (before, after) = (words(before), words(after));
            found.push(Treatment { route: "every route".to_owned(), what: format!("header {name}"), before, after });
        }
    }
    found
}
