//! Limits the number of concurrent calls, by any key.
//!
//! ```yaml
#![doc = include_str!("../../config/policies/limit-concurrency.yaml")]
//! ```
//!
//! A call lasts until its response body has ended, or the caller has left. Calls never wait: excess ones are refused at once with
//! [`Reason::ConcurrencyLimitExceeded`]. Permits belong to the policy, or to all policies with its `name`.

use std::sync::Arc;

use schemars::JsonSchema;
use serde::Deserialize;

use super::settings::{DependsOn, PolicySettings};
use super::{
    build_context::BuildContext,
    limit_scope::Named,
    mode::ModeConfig,
    rate_limit_by_key::{key, key_text, of_key},
};
use crate::{
    exchange::Exchange,
    expression::Template,
    limits::{Concurrency, Owner},
    refusal::{Reason, Refusal, Stop},
    request::IncomingRequest,
    settings::Place,
    upstream::UpstreamRequest,
};

/// Settings of `limit-concurrency`.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct LimitConcurrencyConfig {
    /// The maximum number of concurrent calls.
    pub max_count: u32,
    /// The key by which calls are counted separately: an expression, such as `@(token.client)`.
    pub key: String,
    /// A name for the counts: all policies of this kind with the same name count together. Default: each counts by itself.
    pub name: Option<String>,
    /// `report-only` records and counts refusals instead of enforcing them. Default: enforce.
    #[serde(default)]
    pub mode: ModeConfig,
}

/// Limits the number of concurrent calls, by any key.
#[derive(Debug)]
pub struct LimitConcurrency {
    key: Template,
    most: u32,
    calls: Arc<Concurrency>,
    owner: Owner,
}

impl PolicySettings for LimitConcurrencyConfig {
    fn depends_on(&self) -> DependsOn {
        DependsOn::Captures
    }

    fn judges(&self) -> bool {
        true
    }

    fn mode(&self) -> ModeConfig {
        self.mode
    }
}

impl LimitConcurrency {
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
        Ok(self.check(exchange, incoming)?)
    }

    pub(crate) fn build(config: &LimitConcurrencyConfig, place: &Place, context: &mut BuildContext<'_>) -> Option<Self> {
        let key = key(&config.key, &place.key("key"), context);
        if config.max_count == 0 {
            context.faults.error(&place.key("max-count"), "no call at all would be let through", "write a number of at least 1");
            return None;
        }
        let named = Named { kind: "limit-concurrency", name: config.name.as_deref(), period: None };
        let owner = context.limits.owner(config, named, place, context.faults);
        Some(Self { key: key?, most: config.max_count, calls: context.limits.limits().concurrency(), owner })
    }

    pub(crate) fn check(&self, exchange: &mut Exchange, incoming: &IncomingRequest) -> Result<(), Refusal> {
        let key = key_text(&self.key, &exchange.facts(incoming))?;
        let Some(permit) = self.calls.begin((self.owner, &*key), self.most) else {
            let reached = format!("{} calls are under way already", self.most);
            return Err(of_key(&reached, &self.key, Reason::ConcurrencyLimitExceeded.into()));
        };
        exchange.limits.permits.push(permit);
        Ok(())
    }
}
