//! Sets, adds or removes a header field.

use http::HeaderMap;
use schemars::JsonSchema;
use serde::Deserialize;

use super::Scope;
use crate::{
    config::Place,
    exchange::Exchange,
    refusal::{Reason, Refusal},
    request::IncomingRequest,
};

/// Settings of `set-header`.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct SetHeaderConfig {
    /// The field's name.
    pub name: String,
    /// What happens where the field is there already. Default: override.
    #[serde(default)]
    pub exists_action: ExistsAction,
    /// The value: a text, or an expression `@(…)`. Not with `values`.
    pub value: Option<String>,
    /// Several values.
    #[serde(default)]
    pub values: Vec<String>,
    /// What happens where a value cannot be had. Default: refuse.
    #[serde(default)]
    pub when_absent: WhenAbsent,
}

/// What happens where the field is there already.
#[derive(Clone, Copy, Debug, Default, Deserialize, JsonSchema, PartialEq, Eq)]
#[serde(rename_all = "kebab-case")]
pub enum ExistsAction {
    /// Replaces all values.
    #[default]
    Override,
    /// Adds to the values.
    Append,
    /// Leaves the values as they are.
    Skip,
    /// Removes the field.
    Delete,
}

/// What happens where a value cannot be had.
#[derive(Clone, Copy, Debug, Default, Deserialize, JsonSchema, PartialEq, Eq)]
#[serde(rename_all = "kebab-case")]
pub enum WhenAbsent {
    /// The request is refused.
    #[default]
    Refuse,
    /// The field is left out; a caller's own value is removed all the same.
    Skip,
}

/// Sets, adds or removes a header field.
#[derive(Debug)]
pub struct SetHeader {}

impl SetHeader {
    pub(crate) fn build(config: &SetHeaderConfig, place: &Place, scope: &mut Scope<'_>) -> Option<Self> {
        let _ = (config, place, scope);
        Some(Self {})
    }

    pub(crate) fn apply(
        &self,
        exchange: &Exchange,
        incoming: &IncomingRequest,
        headers: &mut HeaderMap,
    ) -> Result<(), Unavailable> {
        let _ = (exchange, incoming, headers);
        Ok(())
    }
}

/// A value cannot be had.
#[derive(Debug, thiserror::Error)]
#[error("the value of {0} cannot be had")]
pub struct Unavailable(String);

impl From<Unavailable> for Refusal {
    fn from(error: Unavailable) -> Self {
        Self::new(Reason::HeaderValueUnavailable, error)
    }
}
