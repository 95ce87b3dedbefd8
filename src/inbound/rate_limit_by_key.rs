//! Limits the rate of calls, by any key.
//!
//! ```yaml
#![doc = include_str!("../../config/policies/rate-limit-by-key.yaml")]
//! ```
//!
//! At most `calls` are admitted within any period of the length of `renewal-period`, wherever it begins. A call is counted at the
//! policy's place in the list, so only calls that the earlier policies admit count; refused ones do not. Each policy counts by
//! itself: one of the global list over all routes, one of a fragment over all that include it. Policies of one `name` count
//! together. With an `increment-condition` that reads `response` a call counts from its start, and the count is given back when
//! its response has ended and the condition is false. Without a response, as when the caller left, the call stays counted.
//!
//! With `store: redis` the gateways that share a store count together ([`redis`](crate::limits::RedisConfig)), and never admit more than
//! `calls` in any period together. While the store fails, calls are refused with [`Reason::LimitStoreUnavailable`], or, with
//! `on-store-failure: local`, each gateway counts by itself, up to `calls`.
//!
//! Responses carry `RateLimit` and `RateLimit-Policy`; excess calls are refused with [`Reason::RateLimitExceeded`] and
//! `Retry-After`.

use std::{sync::Arc, time::Duration};

use http::HeaderName;
use schemars::JsonSchema;
use serde::Deserialize;

use super::settings::{DependsOn, PolicySettings};
use super::{build_context::BuildContext, limit_scope::Named, mode::ModeConfig};
use crate::outgoing::field;
use crate::{
    exchange::{Exchange, Pending},
    expression::{EvaluationError, Expression, Facts, Template},
    limits::{
        Announcement, CountReceipt, Counted, Counter, Limiter, OnStoreFailureConfig, Sliding, StoreChoice, StoreConfig, Taken,
        exceeded,
        store::{SharedCounter, SharedKind},
    },
    refusal::{Reason, Refusal, Stop, trace::StandIn},
    request::IncomingRequest,
    settings::{ConfigDuration, Faults, Place},
    upstream::UpstreamRequest,
};

/// Settings of `rate-limit-by-key`.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct RateLimitByKeyConfig {
    /// The number of calls within the period.
    pub calls: u64,
    /// The length of the period, from 1s to 24h.
    pub renewal_period: ConfigDuration,
    /// The key by which calls are counted separately: an expression, such as `@(caller.address)`.
    pub counter_key: String,
    /// A name for the counts: all policies of this kind with the same name count together. Default: each counts by itself.
    pub name: Option<String>,
    /// Counts a call only if this is true. A condition on `response` is evaluated when the response has ended: until then the
    /// call counts. Default: every call counts.
    pub increment_condition: Option<String>,
    /// The weight of a call. Default: 1.
    pub increment_count: Option<u32>,
    /// A response header with the number of remaining calls. Default: none.
    pub remaining_calls_header_name: Option<String>,
    /// A response header with the limit of calls. Default: none.
    pub total_calls_header_name: Option<String>,
    /// The store of the counts. Default: local; redis, where `redis.default-store` is true.
    pub store: Option<StoreConfig>,
    /// The treatment of calls while the store fails. Default: refuse.
    pub on_store_failure: Option<OnStoreFailureConfig>,
    /// `report-only` records and counts refusals instead of enforcing them. Default: enforce.
    #[serde(default)]
    pub mode: ModeConfig,
}

/// Limits the rate of calls, by any key.
#[derive(Debug)]
pub struct RateLimitByKey {
    key: Template,
    period: Duration,
    limiter: Arc<Limiter>,
    increment: Increment,
    announcement: Announcement,
}

impl PolicySettings for RateLimitByKeyConfig {
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

impl RateLimitByKey {
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
        let (key, cost) = self.asked(exchange, incoming)?;
        if exchange.trace.decision_alone().map(StandIn::passes_limits).is_some() {
            return Ok(());
        }
        let (taken, receipt) = if self.limiter.is_shared(&mut exchange.trace) {
            // Boxed, so that only these requests have the room for it.
            Box::pin(self.limiter.take_shared(&key, cost, &exchange.clock)).await.map_err(Refusal::from)?
        } else {
            self.limiter.take(&key, cost, &exchange.clock)
        };
        Ok(self.judge(taken, receipt, exchange)?)
    }

    pub(crate) fn build(config: &RateLimitByKeyConfig, place: &Place, context: &mut BuildContext<'_>) -> Option<Self> {
        let before = context.faults.errors();
        let key = key(&config.counter_key, &place.key("counter-key"), context);
        let increment = Increment::build(config.increment_condition.as_deref(), config.increment_count, place, context);
        let period = config.renewal_period.0;
        if period < Duration::from_secs(1) || period > Sliding::MAX_PERIOD {
            let cure = "write one from 1s to 24h; quota-by-key counts over longer ones";
            context.faults.error(&place.key("renewal-period"), "the period is too short or too long for a rate", cure);
        }
        if config.calls == 0 {
            context.faults.error(&place.key("calls"), "no call at all would be let through", "write a number of at least 1");
        }
        let choice = StoreChoice { store: config.store, on_failure: config.on_store_failure };
        let shared = context.limits.limits().shared(choice, place, context.faults);
        let mut announcement = Announcement::new("rate", config.calls, period);
        announcement.remaining =
            extra(config.remaining_calls_header_name.as_deref(), "remaining-calls-header-name", place, context.faults);
        announcement.total = extra(config.total_calls_header_name.as_deref(), "total-calls-header-name", place, context.faults);
        let named = Named { kind: "rate-limit-by-key", name: config.name.as_deref(), period: Some(period) };
        let (owner, id) = context.limits.owner(config, named, place, context.faults);
        if context.faults.errors() > before {
            return None;
        }
        let increment = increment?;
        let gives_back = increment.on_answer().is_some();
        let shared = shared.map(|store| SharedCounter::new(store, SharedKind::Rate, &id, (config.calls, period), gives_back));
        let counter = Counter::Rate(context.limits.limits().rate(Counted::Calls, period));
        let limiter = Arc::new(Limiter::new(config.calls, owner, counter, shared));
        Some(Self { key: key?, period, limiter, increment, announcement })
    }

    /// Returns whether a call's count depends on its response.
    pub(crate) fn reads_response(&self) -> bool {
        self.increment.on_answer().is_some()
    }

    /// Returns the key and the weight of a call.
    fn asked(&self, exchange: &Exchange, incoming: &IncomingRequest) -> Result<(String, u64), KeyUnavailable> {
        let facts = exchange.facts(incoming);
        Ok((key_text(&self.key, &facts)?, self.increment.cost(&facts)?))
    }

    fn judge(&self, taken: Taken, receipt: CountReceipt, exchange: &mut Exchange) -> Result<(), Refusal> {
        if let Some(condition) = self.increment.on_answer().filter(|_| taken.admitted) {
            exchange.limits.pending.push(Pending::Call(self.limiter.clone(), receipt, condition.clone()));
        }
        self.announcement.announce(taken, &mut exchange.response_headers);
        if taken.admitted {
            return Ok(());
        }
        let used_up = format!("more than {} calls in {} s", self.limiter.limit, self.period.as_secs());
        Err(of_key(&used_up, &self.key, exceeded(Reason::RateLimitExceeded, taken)))
    }
}

/// Adds to the refusal which limit was reached, and by what it is counted: by name, since a value may be a secret.
pub(super) fn of_key(reached: &str, key: &Template, mut refusal: Refusal) -> Refusal {
    let sources = key.sources();
    let counted = if sources.is_empty() { "for all callers together".to_owned() } else { format!("counted by {sources}") };
    refusal.cause = Some(format!("{reached}, {counted}").into());
    refusal
}

/// The condition and weight of a count.
#[derive(Debug)]
pub(super) struct Increment {
    pub(super) condition: Option<Arc<Expression>>,
    pub(super) count: u64,
}

impl Increment {
    pub(super) fn build(
        condition: Option<&str>,
        count: Option<u32>,
        place: &Place,
        context: &mut BuildContext<'_>,
    ) -> Option<Self> {
        if count == Some(0) {
            let message = "a call that counts nothing is never limited";
            context.faults.error(
                &place.key("increment-count"),
                message,
                "write a number of at least 1, or an increment-condition",
            );
        }
        let condition = match condition {
            Some(text) => Some(Arc::new(context.condition_after_answer(text, &place.key("increment-condition"))?)),
            None => None,
        };
        Some(Self { condition, count: u64::from(count.unwrap_or(1)) })
    }

    /// Returns the weight of the call from its start on.
    pub(super) fn cost(&self, facts: &Facts<'_>) -> Result<u64, KeyUnavailable> {
        match &self.condition {
            Some(condition) if !condition.uses().response && !condition.holds(facts)? => Ok(0),
            _ => Ok(self.count),
        }
    }

    /// Returns the condition, if only the response tells whether the call stays counted.
    pub(super) fn on_answer(&self) -> Option<&Arc<Expression>> {
        self.condition.as_ref().filter(|condition| condition.uses().response)
    }
}

/// Reads a key. One that is the same for every request is allowed: then all count together.
pub(super) fn key(text: &str, place: &Place, context: &mut BuildContext<'_>) -> Option<Template> {
    if text.is_empty() {
        context.faults.error(place, "the key is empty", "write what is counted apart, as \"@(caller.address)\"");
        return None;
    }
    context.template(text, place)
}

pub(super) fn key_text(key: &Template, facts: &Facts<'_>) -> Result<String, KeyUnavailable> {
    match key {
        Template::Literal(text) => Ok(text.to_string()),
        Template::Expression(expression) => Ok(expression.text(facts)?.into_owned()),
    }
}

fn extra(written: Option<&str>, key: &str, place: &Place, faults: &mut Faults) -> Option<HeaderName> {
    written.and_then(|written| field::name(written, &place.key(key), faults))
}

/// An error: the key, or the condition of the count, is unavailable. Such a request is refused: it would escape the limit.
#[derive(Debug, thiserror::Error)]
#[error("the limit's key or condition has no value")]
pub(super) struct KeyUnavailable(#[from] EvaluationError);

impl From<KeyUnavailable> for Refusal {
    fn from(error: KeyUnavailable) -> Self {
        Self::new(Reason::NotAuthorized, error)
    }
}
