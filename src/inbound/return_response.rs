//! Answers the request itself; nothing is sent upstream.
//!
//! ```yaml
#![doc = include_str!("../../config/policies/return-response.yaml")]
//! ```
//!
//! Values of headers and the body may be expressions; one that has no value refuses with [`Reason::HeaderValueUnavailable`]. In
//! `outbound` it replaces the response, and the policies after it do not run, as in API Management.

use std::collections::BTreeMap;

use bytes::Bytes;
use http::{HeaderName, HeaderValue, StatusCode};
use schemars::JsonSchema;
use serde::Deserialize;

use super::settings::{DependsOn, PolicySettings, Subject};
use super::{build_context::BuildContext, set_status::status};
use crate::outgoing::field;
use crate::{
    base::{fields::Fields, response::Response},
    exchange::Exchange,
    expression::{Expression, Facts, HeaderTextError, Template, Uses, field_value, header_value},
    refusal::{Reason, Refusal, Stop},
    request::IncomingRequest,
    settings::{OneOrMany, Place},
    upstream::UpstreamRequest,
};

/// Settings of `return-response`.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct ReturnResponseConfig {
    /// The status, from 200 to 599. Default: 200.
    pub status: Option<u16>,
    /// Header fields of the response: texts, or expressions `@(…)`; a list makes a line for each value.
    #[serde(default)]
    pub headers: BTreeMap<String, OneOrMany<String>>,
    /// The body: a text, or an expression. Default: none.
    pub body: Option<String>,
}

/// Answers the request itself.
#[derive(Debug)]
pub struct ReturnResponse {
    /// `None`: that of the refusal which it replaces.
    status: Option<StatusCode>,
    headers: Vec<(HeaderName, FieldValue)>,
    /// A body that is the same for every request.
    ready: Bytes,
    /// One that is made for each.
    body: Option<Template>,
}

#[derive(Debug)]
enum FieldValue {
    Ready(HeaderValue),
    Made(Box<Expression>),
}

impl PolicySettings for ReturnResponseConfig {
    fn ends_request(&self) -> bool {
        true
    }

    fn depends_on(&self) -> DependsOn {
        DependsOn::Captures
    }

    fn subject(&self) -> Subject {
        Subject::new("nothing: it answers", [])
    }
}

impl ReturnResponse {
    /// Runs the policy on a request.
    ///
    /// # Errors
    /// Returns the refusal, or the gateway's own response, that ends the request.
    pub(crate) async fn run(
        &self,
        exchange: &mut Exchange,
        incoming: &IncomingRequest,
        _outgoing: &mut UpstreamRequest,
    ) -> Result<(), Stop> {
        Err(Stop::Respond(Box::new(self.response(&exchange.facts(incoming))?)))
    }

    /// Builds the answer of a route's `respond`.
    pub(crate) fn respond(config: &ReturnResponseConfig, place: &Place, context: &mut BuildContext<'_>) -> Option<Self> {
        let built = Self::build(config, place, context)?;
        // There is no answer yet that it could read.
        context.is_before_answer(built.uses(), place).then_some(built)
    }

    /// Returns what its expressions read.
    fn uses(&self) -> Uses {
        let headers = self.headers.iter().filter_map(|(_, value)| match value {
            FieldValue::Made(expression) => Some(expression.uses()),
            FieldValue::Ready(_) => None,
        });
        let response = headers.chain(self.body.as_ref().map(Template::uses)).any(|uses| uses.response);
        Uses { response, ..Uses::default() }
    }

    pub(crate) fn build(config: &ReturnResponseConfig, place: &Place, context: &mut BuildContext<'_>) -> Option<Self> {
        let before = context.faults.errors();
        let status = match config.status {
            // A refusal does not become a success because nothing is said of it.
            None if context.is_on_error() => None,
            None => Some(StatusCode::OK),
            Some(code) => status(code, &place.key("status"), context),
        };
        let mut headers = Vec::new();
        let values = config.headers.iter().flat_map(|(written, values)| {
            let many = matches!(values, OneOrMany::Many(_));
            values.as_slice().iter().enumerate().map(move |(index, text)| (written, text, many.then_some(index)))
        });
        for (written, text, index) in values {
            let place = place.key("headers").key(written);
            let place = index.map_or_else(|| place.clone(), |index| place.index(index));
            let name = field::name(written, &place, context.faults);
            let value = match context.template_on_answer(text, &place) {
                Some(Template::Expression(expression)) => Some(FieldValue::Made(expression)),
                Some(Template::Literal(text)) => match field_value(&text) {
                    Ok(value) => Some(FieldValue::Ready(value)),
                    Err(error) => {
                        context.faults.error(&place, error.to_string(), "write the value on one line, without blanks around it");
                        None
                    }
                },
                None => None,
            };
            headers.extend(name.zip(value));
        }
        let body = config.body.as_ref().and_then(|body| context.template_on_answer(body, &place.key("body")));
        if context.faults.errors() > before {
            return None;
        }
        let (ready, body) = match body {
            Some(Template::Literal(text)) => (Bytes::from(text.into_string()), None),
            body => (Bytes::new(), body),
        };
        Some(Self { status, headers, ready, body })
    }

    /// Makes the response to one request. Of `facts`, the status and header are those of the response that it replaces, if there is one.
    pub(crate) fn response(&self, facts: &Facts<'_>) -> Result<Response<Bytes>, Refusal> {
        let (headers, body) = self.parts(facts)?;
        let mut response = Response::new(body);
        *response.status_mut() = self.status.or(facts.status).unwrap_or(StatusCode::OK);
        *response.headers_mut() = headers;
        Ok(response)
    }

    fn parts(&self, facts: &Facts<'_>) -> Result<(Fields, Bytes), Unavailable> {
        let mut headers = Fields::with_capacity(self.headers.len());
        for (name, value) in &self.headers {
            let value = match value {
                FieldValue::Ready(value) => value.clone(),
                FieldValue::Made(expression) => header_value(expression, facts)?,
            };
            headers.append(name, &value);
        }
        let body = match &self.body {
            None => self.ready.clone(),
            Some(Template::Literal(text)) => Bytes::copy_from_slice(text.as_bytes()),
            Some(Template::Expression(expression)) => {
                let text = expression.text(facts).map_err(HeaderTextError::from)?;
                Bytes::from(text.into_owned())
            }
        };
        Ok((headers, body))
    }
}

/// An error: the response cannot be made.
#[derive(Debug, thiserror::Error)]
#[error("a value of the answer is unavailable")]
struct Unavailable(#[from] HeaderTextError);

impl From<Unavailable> for Refusal {
    fn from(error: Unavailable) -> Self {
        Self::new(Reason::HeaderValueUnavailable, error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{expression::tests::World, inbound::testing::Building};

    fn one(text: &str) -> OneOrMany<String> {
        OneOrMany::One(text.to_owned())
    }

    fn built(config: &ReturnResponseConfig) -> Result<ReturnResponse, Vec<String>> {
        Building { token: true, ..Building::default() }.build(|place, context| ReturnResponse::build(config, place, context))
    }

    #[test]
    fn makes_headers_and_body_from_the_request() {
        let headers = [("X-User".to_owned(), one("@(token.claims.oid)")), ("Content-Type".to_owned(), one("text/plain"))];
        let config =
            ReturnResponseConfig { status: Some(404), headers: headers.into(), body: Some("@('no ' + request.path)".to_owned()) };

        let policy = built(&config).expect("valid");
        let (headers, body) = policy.parts(&World::new().facts()).expect("values can be had");

        let mut lines = headers.lines();
        lines.sort();
        assert_eq!(lines, ["content-type: text/plain", "x-user: 0f0f"]);
        assert_eq!((policy.status, &body[..]), (Some(StatusCode::NOT_FOUND), &b"no /people/ada%20l/mail"[..]));
    }

    #[test]
    fn a_value_that_cannot_be_had_refuses() {
        let config = ReturnResponseConfig { body: Some("@(token.claims.missing)".to_owned()), ..ReturnResponseConfig::default() };

        let refusal = built(&config).expect("valid").parts(&World::new().facts()).expect_err("absent");

        assert_eq!(Refusal::from(refusal).reason, Reason::HeaderValueUnavailable);
    }

    #[test]
    fn mistakes_are_found_at_load() {
        let headers = [("Content-Length".to_owned(), one("5")), ("X-A".to_owned(), one("a\nb"))];
        let config = ReturnResponseConfig { status: Some(199), headers: headers.into(), body: Some("@(".to_owned()) };

        assert_eq!(built(&config).expect_err("four faults").len(), 4);
    }
}
