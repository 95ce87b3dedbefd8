//! Limits how many calls are under way at once, by any key.
//!
//! ```yaml
#![doc = include_str!("../../config/policies/limit-concurrency.yaml")]
//! ```
//!
//! A call is under way until its answer's body has ended, or the caller has left. Nobody waits: what is too much is refused at once with
//! [`Reason::ConcurrencyLimitExceeded`].

use std::sync::Arc;

use schemars::JsonSchema;
use serde::Deserialize;

use super::{
    Scope,
    rate_limit_by_key::{key, key_text},
};
use crate::{
    config::Place,
    exchange::Exchange,
    expression::{Facts, Template},
    limits::Concurrency,
    refusal::{Reason, Refusal},
    request::IncomingRequest,
};

/// Settings of `limit-concurrency`.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct LimitConcurrencyConfig {
    /// How many calls there may be at once.
    pub max_count: u32,
    /// What is counted apart from each other: an expression, as `@(token.client)`.
    pub key: String,
}

/// Limits how many calls are under way at once, by any key.
#[derive(Debug)]
pub struct LimitConcurrency {
    key: Template,
    most: u32,
    calls: Arc<Concurrency>,
}

impl LimitConcurrency {
    pub(crate) fn build(config: &LimitConcurrencyConfig, place: &Place, scope: &mut Scope<'_>) -> Option<Self> {
        let key = key(&config.key, &place.key("key"), scope);
        if config.max_count == 0 {
            scope.faults.error(&place.key("max-count"), "no call at all would be let through", "write a number of at least 1");
            return None;
        }
        Some(Self { key: key?, most: config.max_count, calls: scope.limits.concurrency() })
    }

    pub(crate) fn check(&self, exchange: &mut Exchange, incoming: &IncomingRequest) -> Result<(), Refusal> {
        let key = key_text(&self.key, &Facts::of(exchange, incoming))?;
        let permit = self.calls.begin(&key, self.most).ok_or(Reason::ConcurrencyLimitExceeded)?;
        exchange.limits.permits.push(permit);
        Ok(())
    }
}
