//! The members of a record that only a replay needs: the facts that decided, as far as they are not in the record already.
//!
//! Written if `audit.replay` asks for it, so nothing here is prepared. No token, secret or whole header is among them.

use http::{HeaderName, header};
use percent_encoding::percent_decode_str;
use serde_json::Value;

use crate::{
    audit::line::{Line, Prepared, cut, list, number, object, objects, plain, shown, text, truth},
    base::fields::{self, Fields},
    certificate::ClientCertificate,
    config::{Document, FactMarks},
    entra::token::{Token, TokenSeen},
    exchange::{Exchange, KeyEvidence, TokenEvidence},
    graph::{GraphAnswer, GraphTold},
    request::{IncomingRequest, PlaceError, TokenPlace, place_in},
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
    places: Vec<(Box<str>, TokenPlace)>,
    claims: Vec<Box<str>>,
    marks: FactMarks,
    /// The members that tell these names: what a record would have, and does not, was absent.
    told: Prepared,
}

impl ReplayNames {
    pub(super) fn of(document: &Document) -> Self {
        let names = &document.fact_names;
        // Another name than a header's was refused when the config was read, or is never met.
        let header = |name: &String| HeaderName::from_bytes(name.as_bytes()).ok();
        let place = |written: &String| {
            let place = match written.split_once(' ')? {
                ("header", name) => TokenPlace::Header(HeaderName::from_bytes(name.as_bytes()).ok()?),
                (_, name) => TokenPlace::Query(name.into()),
            };
            Some((written.as_str().into(), place))
        };
        let claims: Vec<Box<str>> = document.config.audit.claims.iter().map(|name| name.as_str().into()).collect();
        let told = Prepared::new(|line| {
            list!(line, "headers", names.headers.iter().map(String::as_str));
            list!(line, "secret_headers", names.secret_headers.iter().map(String::as_str));
            list!(line, "parameters", names.parameters.iter().map(String::as_str));
            list!(line, "claims", claims.iter().map(|name| &**name));
            list!(line, "places", names.places.iter().map(String::as_str));
        });
        Self {
            headers: names.headers.iter().filter_map(header).collect(),
            secret_headers: names.secret_headers.iter().filter_map(header).collect(),
            parameters: names.parameters.iter().map(|name| name.as_str().into()).collect(),
            places: names.places.iter().filter_map(place).collect(),
            claims,
            marks: FactMarks::of(document),
            told,
        }
    }
}

/// Writes the facts of a request.
pub(super) fn write(line: &mut Line<'_>, names: &ReplayNames, exchange: &Exchange, incoming: &IncomingRequest) {
    let evidence = exchange.evidence.as_deref();
    // As they came: policies of the route may have seen fewer, and those of another config would see others.
    let headers = evidence.and_then(|evidence| evidence.headers.as_ref()).unwrap_or(&incoming.headers);
    object!(line, "replay", |line: &mut Line<'_>| {
        truth!(line, "tls", exchange.connection.tls.is_some());
        line.prepared(&names.told);
    });
    object!(line, "forwarded", |line: &mut Line<'_>| {
        for (name, shown) in &FORWARDED {
            values(line, shown, headers, name);
        }
    });
    object!(line, "query_facts", |line: &mut Line<'_>| {
        for name in &names.parameters {
            parameter(line, name, incoming.target.query.as_deref().unwrap_or_default());
        }
    });
    object!(line, "header_facts", |line: &mut Line<'_>| {
        for name in &names.headers {
            values(line, name.as_str(), headers, name);
        }
        for name in names.secret_headers.iter().filter(|name| headers.contains_key(*name)) {
            line.member(name.as_str(), "true");
        }
    });
    object!(line, "header_marks", |line: &mut Line<'_>| {
        for name in &names.secret_headers {
            let mut lines = headers.get_all(name);
            if let (Some(value), None) = (lines.next(), lines.next())
                && let Some(mark) = names.marks.mark(name, value.as_bytes())
            {
                line.member(name.as_str(), &Value::from(mark).to_string());
            }
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
        forms(line, names, headers, incoming);
        if let Some(evidence) = evidence {
            objects!(line, "verifications", &evidence.tokens, |line: &mut Line<'_>, token: &TokenEvidence| {
                verification(line, token, &names.claims);
            });
        }
    });
    if let Some(evidence) = evidence {
        objects!(line, "key_facts", &evidence.keys, |line: &mut Line<'_>, key: &KeyEvidence| {
            text!(line, "place", &*place_name(&key.place));
            plain!(line, "among", &*key.among.to_string());
            plain!(line, "key", key.mark.map(|mark| mark.to_string()).as_deref());
        });
        object!(line, "outside", |line: &mut Line<'_>| {
            objects!(line, "graph", &evidence.graph, |line: &mut Line<'_>, answer: &GraphAnswer| {
                graph(line, answer, &names.claims);
            });
        });
    }
    object!(line, "certificate_facts", |line: &mut Line<'_>| {
        if let Some(certificate) = exchange.judged_certificate.as_ref().or(exchange.certificate.as_ref()) {
            certificate_facts(line, certificate, exchange.certificate.is_some());
        }
    });
}

/// Writes which of the places of tokens and keys held something, and in what form.
fn forms(line: &mut Line<'_>, names: &ReplayNames, headers: &Fields, incoming: &IncomingRequest) {
    object!(line, "presented", |line: &mut Line<'_>| {
        for (name, place) in &names.places {
            let read = match place {
                TokenPlace::Header(field) => place_in(field, headers),
                TokenPlace::Query(_) => place.read(incoming).map(|found| found.is_some()),
            };
            let form = match read {
                Ok(false) => continue,
                Ok(true) => "\"token\"",
                Err(PlaceError::Ambiguous) => "\"ambiguous\"",
                Err(PlaceError::NoToken) => "\"empty\"",
            };
            line.member(name, form);
        }
    });
}

fn place_name(place: &TokenPlace) -> String {
    match place {
        TokenPlace::Header(name) => format!("header {name}"),
        TokenPlace::Query(name) => format!("query {name}"),
    }
}

/// Writes the verification of a token: what a later judge relies on, and of its claims those by which every token is judged, and those
/// that are to be recorded.
fn verification(line: &mut Line<'_>, token: &TokenEvidence, claims: &[Box<str>]) {
    text!(line, "place", &*place_name(&token.place));
    plain!(line, "by", &*token.verifier);
    match &token.result {
        Err(reason) => plain!(line, "code", reason.code()),
        Ok((verified, form)) => {
            plain!(line, "form", form.as_str());
            plain!(line, "issuer_verdict", verified.issuer.as_str());
            truth!(line, "own_tenant", verified.own_tenant);
            plain!(line, "algorithm", verified.algorithm().as_str());
            if let Some(claims) = verified.judged_claims(claims) {
                line.member("claims", &Value::Object(claims).to_string());
            }
        }
    }
}

/// Writes an answer of Microsoft Graph. Attributes become claims, of which only those are recorded that are to be.
fn graph(line: &mut Line<'_>, answer: &GraphAnswer, recorded: &[Box<str>]) {
    text!(line, "about", &*answer.about);
    number!(line, "at", answer.at);
    match &answer.told {
        GraphTold::Groups(asked, member) => {
            list!(line, "groups_asked", asked.iter().map(|group| &**group));
            list!(line, "groups", member.iter().map(|group| &**group));
        }
        GraphTold::Claims(asked, found) => {
            list!(line, "claims_asked", asked.iter().filter(|name| recorded.contains(name)).map(|name| &**name));
            object!(line, "claims", |line: &mut Line<'_>| {
                for (name, value) in found.iter().filter(|(name, _)| recorded.contains(name)) {
                    line.member(name, &value.to_string());
                }
            });
        }
    }
}

/// Writes all values of a field, as far as they are UTF-8.
fn values(line: &mut Line<'_>, shown_as: &str, headers: &Fields, name: &HeaderName) {
    let values: Vec<_> = headers.get_all(name).take(VALUES).map(fields::Value::as_bytes).map(shown).collect();
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
    text!(line, "place", &*place_name(place));
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
    plain!(line, "thumbprint", certificate.thumbprint_sha256());
    text!(line, "subject", cut(certificate.subject()));
    text!(line, "issuer", cut(certificate.issuer()));
    list!(line, "dns_names", certificate.dns_names().iter().take(VALUES).map(|name| &**name));
    number!(line, "not_before", certificate.not_before());
    number!(line, "not_after", certificate.not_after());
    truth!(line, "accepted", accepted);
}
