//! Replaces the body of a refusal; for `on-error`.
//!
//! ```yaml
#![doc = include_str!("../../config/policies/set-body.yaml")]
//! ```
//!
//! Bodies of upstreams and callers pass through unchanged, and are never read.

use bytes::Bytes;
use http::HeaderValue;
use schemars::JsonSchema;
use serde::Deserialize;

use super::build_context::BuildContext;
use super::settings::PolicySettings;
use crate::{
    base::{fields::Known, response::Response},
    expression::{EvaluationError, Facts, Template, field_value},
    refusal::{Reason, Refusal},
    settings::Place,
};

/// Settings of `set-body`.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct SetBodyConfig {
    /// The body: a text, or an expression `@(…)`.
    pub value: String,
    /// The `Content-Type`. Default: text/plain; charset=utf-8.
    pub content_type: Option<String>,
}

/// Replaces the body of a refusal.
#[derive(Debug)]
pub struct SetBody {
    value: Template,
    content_type: HeaderValue,
}

impl PolicySettings for SetBodyConfig {}

impl SetBody {
    pub(crate) fn build(config: &SetBodyConfig, place: &Place, context: &mut BuildContext<'_>) -> Option<Self> {
        if !context.is_on_error() {
            let message = "bodies of answers pass through unchanged; only that of a refusal can be set";
            context.faults.error(place, message, "use it in `on-error`, or replace the whole answer with `return-response`");
            return None;
        }
        let value = context.template_on_answer(&config.value, &place.key("value"));
        let content_type = match config.content_type.as_deref() {
            None => Some(HeaderValue::from_static("text/plain; charset=utf-8")),
            Some(written) => {
                let value = field_value(written).ok().filter(|value| !value.is_empty());
                if value.is_none() {
                    let cure = "write a media type, as application/json";
                    context.faults.error(&place.key("content-type"), format!("`{written}` is not a media type"), cure);
                }
                value
            }
        };
        Some(Self { value: value?, content_type: content_type? })
    }

    /// Makes the body and its type.
    pub(crate) fn make(&self, facts: &Facts<'_>) -> Result<(Bytes, HeaderValue), Unavailable> {
        let body = match &self.value {
            Template::Literal(text) => Bytes::copy_from_slice(text.as_bytes()),
            Template::Expression(expression) => Bytes::from(expression.text(facts)?.into_owned()),
        };
        Ok((body, self.content_type.clone()))
    }

    /// Puts a body into a response.
    pub(crate) fn put<B: From<Bytes>>((body, content_type): (Bytes, HeaderValue), response: &mut Response<B>) {
        let headers = response.headers_mut();
        headers.remove(Known::ContentLength);
        headers.insert(Known::ContentType, &content_type);
        *response.body_mut() = B::from(body);
    }
}

/// An error: the body is unavailable.
#[derive(Debug, thiserror::Error)]
#[error("the body is unavailable")]
pub struct Unavailable(#[from] EvaluationError);

impl From<Unavailable> for Refusal {
    fn from(error: Unavailable) -> Self {
        Self::new(Reason::HeaderValueUnavailable, error)
    }
}
