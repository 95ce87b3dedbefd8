//! The members of a record that only a replay needs: the facts that decided, as far as they are not in the record already.
//!
//! Written if `audit.replay` asks for it, so nothing here is prepared. No token, secret or whole header is among them.

use http::{HeaderMap, HeaderName, HeaderValue, header};
use percent_encoding::percent_decode_str;
use serde_json::Value;

use crate::{
    audit::line::{LONGEST, Line, list, number, object, plain, shown, text, truth},
    certificate::ClientCertificate,
    config::FactNames,
    entra::token::{Token, TokenSeen},
    exchange::Exchange,
    request::{IncomingRequest, TokenPlace},
};

/// The most values of one field or parameter.
const VALUES: usize = 16;

/// The fields by which proxies forward what they know of a caller.
const FORWARDED: [(HeaderName, &str); 4] = [
    (header::FORWARDED, "forwarded"),
    (HeaderName::from_static("x-forwarded-for"), "x-forwarded-for"),
    (HeaderName::from_static("x-forwarded-proto"), "x-forwarded-proto"),
    (HeaderName::from_static("x-forwarded-host"), "x-forwarded-host"),
];

/// The names of the facts that policies of a config read.
#[derive(Debug, Default)]
pub(super) struct ReplayNames {
    headers: Vec<HeaderName>,
    secret_headers: Vec<HeaderName>,
    parameters: Vec<Box<str>>,
}

impl From<&FactNames> for ReplayNames {
    fn from(names: &FactNames) -> Self {
        // Another name than a header's was refused when the config was read, or is never met.
        let header = |name: &String| HeaderName::from_bytes(name.as_bytes()).ok();
        Self {
            headers: names.headers.iter().filter_map(header).collect(),
            secret_headers: names.secret_headers.iter().filter_map(header).collect(),
            parameters: names.parameters.iter().map(|name| name.as_str().into()).collect(),
        }
    }
}

/// Writes the facts of a request.
pub(super) fn write(line: &mut Line<'_>, names: &ReplayNames, exchange: &Exchange, incoming: &IncomingRequest) {
    object!(line, "forwarded", |line: &mut Line<'_>| {
        for (name, shown) in &FORWARDED {
            values(line, shown, &incoming.headers, name);
        }
    });
    object!(line, "query_facts", |line: &mut Line<'_>| {
        for name in &names.parameters {
            parameter(line, name, incoming.target.query.as_deref().unwrap_or_default());
        }
    });
    object!(line, "header_facts", |line: &mut Line<'_>| {
        for name in &names.headers {
            values(line, name.as_str(), &incoming.headers, name);
        }
        for name in names.secret_headers.iter().filter(|name| incoming.headers.contains_key(*name)) {
            line.member(name.as_str(), "true");
        }
    });
    let token = exchange.token.as_ref().or(exchange.refused_token.as_ref());
    object!(line, "token_facts", |line: &mut Line<'_>| {
        let place = exchange.token_place.as_ref().or(exchange.refused_place.as_ref());
        if let Some(place) = place {
            presented(line, place, incoming);
        }
        if let Some(token) = token {
            truth!(line, "signature_held", true);
            times(line, token);
        } else if exchange.token_seen.is_some() {
            truth!(line, "signature_held", false);
        }
    });
    object!(line, "certificate_facts", |line: &mut Line<'_>| {
        if let Some(certificate) = exchange.judged_certificate.as_ref().or(exchange.certificate.as_ref()) {
            certificate_facts(line, certificate, exchange.certificate.is_some());
        }
    });
}

/// Writes all values of a field, as far as they are UTF-8.
fn values(line: &mut Line<'_>, shown_as: &str, headers: &HeaderMap, name: &HeaderName) {
    let values: Vec<_> = headers.get_all(name).iter().take(VALUES).map(HeaderValue::as_bytes).map(shown).collect();
    if !values.is_empty() {
        line.member(shown_as, &Value::from(values).to_string());
    }
}

fn parameter(line: &mut Line<'_>, name: &str, query: &str) {
    let decoded = |text: &str| percent_decode_str(&text.replace('+', " ")).decode_utf8_lossy().into_owned();
    let pairs = query.split('&').map(|pair| pair.split_once('=').unwrap_or((pair, "")));
    let values: Vec<_> = pairs.filter(|(key, _)| decoded(key) == name).take(VALUES).map(|(_, value)| decoded(value)).collect();
    if !values.is_empty() {
        let values: Vec<_> = values.iter().map(|value| shown(value.as_bytes())).collect();
        line.member(name, &Value::from(values).to_string());
    }
}

/// Writes where the token was, and what its header says.
fn presented(line: &mut Line<'_>, place: &TokenPlace, incoming: &IncomingRequest) {
    match place {
        TokenPlace::Header(name) => text!(line, "place", &*format!("header {name}")),
        TokenPlace::Query(name) => text!(line, "place", &*format!("query {name}")),
    }
    if let Ok(Some(token)) = place.read(incoming)
        && let Some(seen) = TokenSeen::read(&token)
    {
        text!(line, "algorithm", seen.algorithm.as_deref());
        text!(line, "key_id", seen.key_id.as_deref());
    }
}

/// Writes the times of a verified token, and what it says of the sign-in.
fn times(line: &mut Line<'_>, token: &Token) {
    let claim = |name: &str| token.claims.get(name);
    number!(line, "issued_at", claim("iat").and_then(Value::as_u64));
    number!(line, "not_before", claim("nbf").and_then(Value::as_u64));
    number!(line, "expires_at", token.expires_at);
    let contexts = claim("acrs").map(|acrs| acrs.as_array().map_or_else(|| vec![acrs], |acrs| acrs.iter().collect()));
    let contexts: Vec<_> = contexts.iter().flatten().filter_map(|context| context.as_str()).take(VALUES).collect();
    list!(line, "contexts", contexts);
    truth!(line, "bound", claim("cnf").is_some());
}

fn certificate_facts(line: &mut Line<'_>, certificate: &ClientCertificate, accepted: bool) {
    let cut = |text: &str| text[..text.floor_char_boundary(LONGEST)].to_owned();
    plain!(line, "thumbprint", certificate.thumbprint_sha256());
    text!(line, "subject", &*cut(certificate.subject()));
    text!(line, "issuer", &*cut(certificate.issuer()));
    list!(line, "dns_names", certificate.dns_names().iter().take(VALUES).map(|name| &**name));
    number!(line, "not_before", certificate.not_before());
    number!(line, "not_after", certificate.not_after());
    truth!(line, "accepted", accepted);
}
