//! Sends the request to another path.

use schemars::JsonSchema;
use serde::Deserialize;

use super::Scope;
use crate::{config::Place, exchange::Exchange, refusal::Refusal, request::IncomingRequest, upstream::UpstreamRequest};

/// Settings of `rewrite-uri`.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct RewriteUriConfig {
    /// The new path, with or without a query; `{name}` is a capture of the route's path, `{rest}` what follows its prefix.
    pub template: String,
    /// Keeps the caller's query parameters that the template does not name. Default: true.
    pub copy_unmatched_params: Option<bool>,
}

/// Sends the request to another path.
#[derive(Debug)]
pub struct RewriteUri {}

impl RewriteUri {
    pub(crate) fn build(config: &RewriteUriConfig, place: &Place, scope: &mut Scope<'_>) -> Option<Self> {
        let _ = (config, place, scope);
        Some(Self {})
    }

    pub(crate) fn apply(
        &self,
        exchange: &Exchange,
        incoming: &IncomingRequest,
        outgoing: &mut UpstreamRequest,
    ) -> Result<(), Refusal> {
        let _ = (exchange, incoming, outgoing);
        Ok(())
    }
}
