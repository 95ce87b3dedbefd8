//! The head that would go upstream, with its secrets masked.

use std::collections::BTreeMap;

use http::{HeaderMap, HeaderValue};
use serde::Serialize;

use super::{
    Explained,
    describe::{is_credential, printable},
};
use crate::{authorization::PLACEHOLDER, refusal::trace::SentRequest};

/// The request that the upstream would receive.
#[derive(Clone, Debug, Serialize)]
pub struct UpstreamFacts {
    /// The upstream's name.
    pub name: String,
    /// The server.
    pub server: String,
    /// The method.
    pub method: String,
    /// The URL; values of parameters that look like credentials are masked.
    pub url: String,
    /// The fields that the gateway adds or changes, with their values; secrets are masked.
    pub added: Vec<Field>,
    /// The names of the fields of the request that are not sent on.
    pub removed: Vec<String>,
    /// `none`, `the caller's`, `the gateway's own (a placeholder here)` or `made by the gateway`.
    pub authorization: &'static str,
}

/// A header field.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Field {
    /// The name.
    pub name: String,
    /// The value, or `***`.
    pub value: String,
}

impl UpstreamFacts {
    pub(super) fn of(sent: &SentRequest, explained: Explained<'_>) -> Self {
        // As it was described: what is reserved has left the head that the policies read.
        let mut incoming = explained.request.header_map();
        if let Ok(host) = HeaderValue::try_from(&explained.request.authority) {
            incoming.insert(http::header::HOST, host);
        }
        let incoming = &incoming;
        let values = |headers: &HeaderMap, name| headers.get_all(name).iter().cloned().collect::<Vec<_>>();
        let mut added = Vec::new();
        for name in sent.headers.keys() {
            let now = values(&sent.headers, name);
            if now != values(incoming, name) {
                added.extend(now.iter().map(|value| Field {
                    name: in_title_case(name.as_str()),
                    value: if is_credential(name.as_str()) { "***".to_owned() } else { shown(value) },
                }));
            }
        }
        let gone = incoming
            .keys()
            .filter(|name| values(incoming, *name).iter().any(|value| !values(&sent.headers, *name).contains(value)));
        let removed: Vec<_> = gone.filter(|name| *name != "host").map(|name| in_title_case(name.as_str())).collect();
        Self {
            name: sent.upstream.to_string(),
            server: sent.server.to_string(),
            method: sent.method.to_string(),
            url: masked_url(&sent.url),
            added,
            removed,
            authorization: authorization(&sent.headers, incoming),
        }
    }
}

fn authorization(sent: &HeaderMap, incoming: &HeaderMap) -> &'static str {
    match sent.get(http::header::AUTHORIZATION) {
        None => "none",
        Some(value) if *value == PLACEHOLDER => "the gateway's own (a placeholder here)",
        Some(value) if incoming.values().any(|other| ends_alike(other, value)) => "the caller's",
        Some(_) => "made by the gateway",
    }
}

/// Returns whether both hold the same token, with or without its scheme.
fn ends_alike(one: &HeaderValue, other: &HeaderValue) -> bool {
    let token = |value: &HeaderValue| value.as_bytes().rsplit(|byte| *byte == b' ').next().map(<[u8]>::to_vec);
    token(one).is_some_and(|token| !token.is_empty()) && token(one) == token(other)
}

/// Returns a value as it may be shown.
pub(crate) fn shown(value: &HeaderValue) -> String {
    // What looks like a token is one, whatever field it is in.
    let text = String::from_utf8_lossy(value.as_bytes());
    let token = text.split(' ').any(|word| word.starts_with("eyJ") && word.matches('.').count() >= 2);
    if value.is_sensitive() || token { "***".to_owned() } else { printable(&text) }
}

/// Returns a URL without the values of parameters that hold credentials.
pub(crate) fn masked_url(url: &str) -> String {
    let Some((path, query)) = url.split_once('?') else { return url.to_owned() };
    let pair = |pair: &str| {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let secret = is_credential(name) || matches!(name, "sig" | "code" | "key") || value.starts_with("eyJ");
        if secret { format!("{name}=***") } else { pair.to_owned() }
    };
    format!("{path}?{}", query.split('&').map(pair).collect::<Vec<_>>().join("&"))
}

/// Writes a header's name as people write it.
pub(super) fn in_title_case(name: &str) -> String {
    const OTHERWISE: [(&str, &str); 3] = [("traceparent", "traceparent"), ("tracestate", "tracestate"), ("te", "TE")];
    let usual: BTreeMap<_, _> = OTHERWISE.into();
    if let Some(name) = usual.get(name) {
        return (*name).to_owned();
    }
    let word = |word: &str| {
        let mut letters = word.chars();
        letters.next().map(|first| first.to_uppercase().chain(letters).collect::<String>()).unwrap_or_default()
    };
    name.split('-').map(word).collect::<Vec<_>>().join("-")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_be_a_secret_is_masked() {
        assert_eq!(
            masked_url("https://a.example/x?b=1&access_token=abc&sig=d"),
            "https://a.example/x?b=1&access_token=***&sig=***"
        );
        assert_eq!(shown(&HeaderValue::from_static("Bearer eyJhbGciOiJSUzI1NiJ9.eyJ9.c2ln")), "***");
        assert_eq!(shown(&HeaderValue::from_static("nia")), "nia");
        assert_eq!(in_title_case("x-remote-user"), "X-Remote-User");
    }
}
