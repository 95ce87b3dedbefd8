//! The data that expressions read: one request and the facts known of it.

use std::{borrow::Cow, fmt::Write as _, net::IpAddr};

use http::StatusCode;
use percent_encoding::percent_decode_str;

use super::{
    known::KnownFacts,
    node::{Field, Path},
    value::{EvaluationError, List, Map, Value},
    variables::Variables,
};
use crate::{
    base::{
        clock::Clock,
        fields::{self, Fields},
    },
    certificate::ClientCertificate,
    connection::Scheme,
    entra::token::Token,
    request::{Captures, IncomingRequest, NamedToken},
};

/// The facts known of a request when an expression is evaluated.
#[derive(Clone, Copy, Debug)]
pub struct Facts<'a> {
    /// The request as it came.
    pub request: &'a IncomingRequest,
    /// The caller's address.
    pub caller: IpAddr,
    /// The caller's certificate, once it was accepted.
    pub certificate: Option<&'a ClientCertificate>,
    /// The validated token.
    pub token: Option<&'a Token>,
    /// The name of the partner that calls.
    pub partner: Option<&'a str>,
    /// Further tokens, by the names that the config gave them.
    pub named_tokens: &'a [NamedToken],
    /// The captures of the route's path.
    pub captures: &'a Captures,
    /// The route's name.
    pub route: Option<&'a str>,
    /// The status of the answer, once there is one.
    pub status: Option<StatusCode>,
    /// The header of the answer, while policies on it run.
    pub response_headers: Option<&'a Fields>,
    /// The refusal, while `on-error` runs.
    pub error: Option<ErrorFacts<'a>>,
    /// The scheme that the caller uses.
    pub scheme: Scheme,
    /// The request's id.
    pub id: &'a str,
    /// The variables of the request.
    pub variables: &'a Variables,
    /// The clock.
    pub clock: &'a Clock,
    /// The facts that are known of a request that is judged by its record.
    pub known: Option<&'a KnownFacts>,
}

/// The refusal that `on-error` answers.
#[derive(Clone, Copy, Debug)]
pub struct ErrorFacts<'a> {
    /// Its code.
    pub code: &'a str,
    /// Its status.
    pub status: StatusCode,
    /// The entry that refused, if a policy did.
    pub policy: Option<&'a str>,
}

impl<'a> Facts<'a> {
    /// Looks a path up.
    pub(super) fn look_up(&self, path: &Path) -> Result<Value<'a>, EvaluationError> {
        let text = |text: &'a str| Some(Value::Text(Cow::Borrowed(text)));
        let token = match &path.token {
            None => self.token,
            Some(name) => self.named_tokens.iter().find(|named| *named.name == **name).map(|named| &*named.token),
        };
        let found = match &path.field {
            Field::Method => text(self.request.method.as_str()),
            Field::RequestPath => text(&self.request.target.path),
            Field::Host => text(&self.request.authority.host).filter(|_| !self.request.authority.is_absent()),
            Field::Scheme => text(self.scheme.as_str()),
            Field::Url => self.url().map(|url| Value::Text(Cow::Owned(url))),
            Field::QueryString => self.request.target.query.as_deref().and_then(text),
            Field::RequestId => text(self.id),
            Field::Header(name) => joined(self.request.headers.get_all(name))?,
            Field::Headers => Some(Value::Map(Map::Headers(&self.request.headers))),
            Field::Parameter(name) => parameter(self.query(), name)?,
            Field::Query => Some(Value::Map(Map::Query(self.query()))),
            Field::CallerAddress => Some(Value::Text(Cow::Owned(self.caller.to_string()))),
            Field::Certificate => self.certificate.map(|certificate| Value::Map(Map::Certificate(certificate))),
            Field::CertificateField(field) => self.certificate.and_then(|certificate| field.of(certificate)),
            Field::Claim(name) => token.and_then(|token| token.claims.get(name)).and_then(Value::of_json),
            Field::Claims => token.map(|token| Value::Map(Map::Claims(&token.claims.0))),
            Field::TokenKind => token.and_then(|token| text(token.kind.as_str())),
            Field::Tenant => token.filter(|token| !token.tenant.is_empty()).and_then(|token| text(&token.tenant)),
            Field::Client => token.and_then(|token| token.client.as_deref()).and_then(text),
            Field::Subject => token.and_then(|token| token.subject.as_deref()).and_then(text),
            Field::Scopes => token.map(|token| Value::List(List::Texts(&token.scopes))),
            Field::Roles => token.map(|token| Value::List(List::Texts(&token.roles))),
            Field::Capture(name) => capture(self.captures, name)?,
            Field::PartnerName => self.partner.and_then(text),
            Field::RouteName => self.route.and_then(text),
            Field::Status => self.status.map(|status| Value::Int(status.as_u16().into())),
            Field::ResponseHeader(name) => match self.response_headers {
                Some(headers) => joined(headers.get_all(name))?,
                None => None,
            },
            Field::ResponseHeaders => self.response_headers.map(|headers| Value::Map(Map::Headers(headers))),
            Field::Variable(name) => self.variables.get(name).and_then(Value::of_json),
            Field::ErrorCode => self.error.and_then(|error| text(error.code)),
            Field::ErrorStatus => self.error.map(|error| Value::Int(error.status.as_u16().into())),
            Field::ErrorPolicy => self.error.and_then(|error| error.policy).and_then(text),
            Field::Captures => Some(Value::Map(Map::Captures(self.captures))),
        };
        if let Some(known) = self.known {
            known.look_at(&path.field, found.is_some());
        }
        found.ok_or_else(|| EvaluationError::Absent(path.told.clone()))
    }

    /// Returns the URL as the caller wrote it, in its canonical form; `None` if the request names no host.
    fn url(&self) -> Option<String> {
        let authority = &self.request.authority;
        if authority.is_absent() {
            return None;
        }
        let target = &self.request.target;
        let mut url = String::with_capacity(16 + authority.host.len() + target.path.len() + self.query().len());
        // Writing to a string cannot fail.
        let _ = write!(url, "{}://{authority}{}", self.scheme.as_str(), &*target.path);
        if let Some(query) = &target.query {
            url.push('?');
            url.push_str(query);
        }
        Some(url)
    }

    fn query(&self) -> &'a str {
        self.request.target.query.as_deref().unwrap_or_default()
    }
}

/// Returns the header field of this name, if it was sent; joined by comma where it was sent several times (RFC 9110, section
/// 5.3).
pub(super) fn header<'a>(headers: &'a Fields, name: &str) -> Result<Option<Value<'a>>, EvaluationError> {
    joined(headers.get_all(name))
}

fn joined<'a>(mut values: impl Iterator<Item = fields::Value<'a>>) -> Result<Option<Value<'a>>, EvaluationError> {
    let Some(first) = values.next() else { return Ok(None) };
    let mut text = Cow::Borrowed(header_text(first)?);
    for value in values {
        let text = text.to_mut();
        text.push(',');
        text.push_str(header_text(value)?);
    }
    Ok(Some(Value::Text(text)))
}

fn header_text(value: fields::Value<'_>) -> Result<&str, EvaluationError> {
    str::from_utf8(value.as_bytes()).map_err(|_| EvaluationError::Unfit("a header field is not UTF-8"))
}

/// Returns the query parameter of this name, decoded; joined by comma where it is repeated, so that no reader of the first or of
/// the last one alone is fooled.
pub(super) fn parameter<'a>(query: &'a str, name: &str) -> Result<Option<Value<'a>>, EvaluationError> {
    let mut found: Option<Cow<'a, str>> = None;
    for (key, value) in pairs(query) {
        if decoded(key)? != name {
            continue;
        }
        let value = decoded(value)?;
        match &mut found {
            None => found = Some(value),
            Some(text) => {
                let text = text.to_mut();
                text.push(',');
                text.push_str(&value);
            }
        }
    }
    Ok(found.map(Value::Text))
}

/// Returns the names of the query's parameters, each once.
pub(super) fn parameter_names(query: &str) -> Result<Vec<Cow<'_, str>>, EvaluationError> {
    let mut names = pairs(query).map(|(key, _)| decoded(key)).collect::<Result<Vec<_>, _>>()?;
    names.sort_unstable();
    names.dedup();
    Ok(names)
}

fn pairs(query: &str) -> impl Iterator<Item = (&str, &str)> {
    query.split('&').filter(|pair| !pair.is_empty()).map(|pair| pair.split_once('=').unwrap_or((pair, "")))
}

/// Decodes the name or value of a form field. A broken escape is refused, since readers differ on it.
fn decoded(text: &str) -> Result<Cow<'_, str>, EvaluationError> {
    if !text.bytes().any(|byte| matches!(byte, b'%' | b'+')) {
        return Ok(Cow::Borrowed(text));
    }
    unescaped(&text.replace('+', " "), "a query parameter is not well encoded").map(Cow::Owned)
}

/// Returns the captured segment of this name, decoded.
pub(super) fn capture<'a>(captures: &'a Captures, name: &str) -> Result<Option<Value<'a>>, EvaluationError> {
    let Some((_, raw)) = captures.segments.iter().find(|(key, _)| &**key == name) else { return Ok(None) };
    let text = if raw.contains('%') {
        Cow::Owned(unescaped(raw, "a captured segment is not well encoded")?)
    } else {
        Cow::Borrowed(&**raw)
    };
    Ok(Some(Value::Text(text)))
}

fn unescaped(text: &str, complaint: &'static str) -> Result<String, EvaluationError> {
    let mut rest = text;
    while let Some(at) = rest.find('%') {
        let digits = rest.as_bytes().get(at + 1..at + 3).filter(|digits| digits.iter().all(u8::is_ascii_hexdigit));
        if digits.is_none() {
            return Err(EvaluationError::Unfit(complaint));
        }
        rest = &rest[at + 3..];
    }
    match percent_decode_str(text).decode_utf8() {
        Ok(decoded) => Ok(decoded.into_owned()),
        Err(_) => Err(EvaluationError::Unfit(complaint)),
    }
}
