//! Limits calls or bytes over a long time, by any key.
//!
//! ```yaml
#![doc = include_str!("../../config/policies/quota-by-key.yaml")]
//! ```
//!
//! Periods are fixed and follow each other from the first of January 1970 on, UTC; each begins with a count of zero. The bytes of
//! both bodies are counted when they have ended: the call that exceeds the quota still succeeds, the next one is refused. Quotas
//! are kept in the process and begin anew when it restarts, or, with `store: redis`, in a store that several gateways share; the clock is
//! then that of the store, and what it holds outlives a restart of the gateways. Each policy counts by itself, as for
//! [`rate_limit_by_key`](super::rate_limit_by_key), and `name` and `increment-condition` have the same meaning.
//!
//! Refuses with [`Reason::QuotaExceeded`] and `Retry-After`; while the store fails, with [`Reason::LimitStoreUnavailable`], unless
//! `on-store-failure: local` lets each gateway count by itself.

use std::{sync::Arc, time::Duration};

use schemars::JsonSchema;
use serde::Deserialize;

use super::settings::{DependsOn, PolicySettings};
use super::{
    build_context::BuildContext,
    limit_scope::Named,
    mode::ModeConfig,
    rate_limit_by_key::{Increment, KeyUnavailable, key, key_text, of_key},
};
use crate::{
    exchange::{Exchange, Pending},
    expression::Template,
    limits::{
        Announcement, CountReceipt, Counted, Counter, Limiter, OnStoreFailureConfig, StoreChoice, StoreConfig, Taken, exceeded,
        store::{self, SharedCounter, SharedKind},
    },
    refusal::{Reason, Refusal, Stop, trace::StandIn},
    request::IncomingRequest,
    settings::{ConfigDuration, Place, Size},
    upstream::UpstreamRequest,
};

/// Settings of `quota-by-key`.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct QuotaByKeyConfig {
    /// The number of calls within the period. This, `bandwidth` or both.
    pub calls: Option<u64>,
    /// The number of bytes of both bodies of all calls within the period.
    pub bandwidth: Option<Size>,
    /// The length of the period, at least 1s.
    pub renewal_period: ConfigDuration,
    /// The key by which calls are counted separately: an expression, such as `@(token.client)`.
    pub counter_key: String,
    /// A name for the counts: all policies of this kind with the same name count together. Default: each counts by itself.
    pub name: Option<String>,
    /// Counts a call only if this is true. A condition on `response` is evaluated when the response has ended: until then the
    /// call counts. Default: every call counts.
    pub increment_condition: Option<String>,
    /// The weight of a call. Default: 1.
    pub increment_count: Option<u32>,
    /// The store of the counts. Default: local; redis, where `redis.default-store` is true.
    pub store: Option<StoreConfig>,
    /// The treatment of calls while the store fails. Default: refuse.
    pub on_store_failure: Option<OnStoreFailureConfig>,
    /// `report-only` records and counts refusals instead of enforcing them. Default: enforce.
    #[serde(default)]
    pub mode: ModeConfig,
}

/// Limits calls or bytes over a long time, by any key.
#[derive(Debug)]
pub struct QuotaByKey {
    key: Template,
    calls: Option<(Arc<Limiter>, Announcement)>,
    bandwidth: Option<Arc<Limiter>>,
    increment: Increment,
}

impl PolicySettings for QuotaByKeyConfig {
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

impl QuotaByKey {
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
        let limiter = self.bandwidth.as_ref().or(self.calls.as_ref().map(|(limiter, _)| limiter));
        if limiter.is_some_and(|limiter| limiter.is_shared(&mut exchange.trace)) {
            // Boxed, so that only these requests have the room for it.
            return Box::pin(self.check_shared(key, cost, exchange)).await;
        }
        // Asked first, for it counts nothing yet: what it refuses must not count as a call.
        if let Some(bandwidth) = &self.bandwidth {
            let (taken, _) = bandwidth.take(&key, 0, &exchange.clock);
            self.judge_bandwidth(bandwidth, taken)?;
        }
        if let Some((calls, _)) = &self.calls {
            let counted = calls.take(&key, cost, &exchange.clock);
            self.judge_calls(counted, exchange)?;
        }
        self.count_later(key, cost, exchange);
        Ok(())
    }

    async fn check_shared(&self, key: String, cost: u64, exchange: &mut Exchange) -> Result<(), Stop> {
        if let Some(bandwidth) = &self.bandwidth {
            let (taken, _) = bandwidth.take_shared(&key, 0, &exchange.clock).await.map_err(Refusal::from)?;
            self.judge_bandwidth(bandwidth, taken)?;
        }
        if let Some((calls, _)) = &self.calls {
            let counted = calls.take_shared(&key, cost, &exchange.clock).await.map_err(Refusal::from)?;
            self.judge_calls(counted, exchange)?;
        }
        self.count_later(key, cost, exchange);
        Ok(())
    }

    pub(crate) fn build(config: &QuotaByKeyConfig, place: &Place, context: &mut BuildContext<'_>) -> Option<Self> {
        let before = context.faults.errors();
        let key = key(&config.counter_key, &place.key("counter-key"), context);
        let increment = Increment::build(config.increment_condition.as_deref(), config.increment_count, place, context);
        let period = config.renewal_period.0;
        if period < Duration::from_secs(1) {
            context.faults.error(&place.key("renewal-period"), "the period is too short for a quota", "write one of at least 1s");
        }
        if config.calls.is_none() && config.bandwidth.is_none() {
            context.faults.error(place, "neither `calls` nor `bandwidth` is limited", "write one of them");
        }
        for (name, limit) in [("calls", config.calls), ("bandwidth", config.bandwidth.map(|size| size.0))] {
            if limit == Some(0) {
                context.faults.error(&place.key(name), "no call at all would be let through", "write a number of at least 1");
            }
        }
        let choice = StoreChoice { store: config.store, on_failure: config.on_store_failure };
        let shared = context.limits.limits().shared(choice, place, context.faults);
        let named = Named { kind: "quota-by-key", name: config.name.as_deref(), period: Some(period) };
        let (owner, id) = context.limits.owner(config, named, place, context.faults);
        if context.faults.errors() > before {
            return None;
        }
        store::lint_quota(shared.as_ref().map(|(_, on_failure)| *on_failure), place, context.faults);
        let increment = increment?;
        let (limits, gives_back) = (context.limits.limits(), increment.on_answer().is_some());
        let limiter = |limit: u64, counted: Counted, kind: SharedKind| {
            let shared = shared.clone().map(|store| SharedCounter::new(store, kind, &id, (limit, period), gives_back));
            Arc::new(Limiter::new(limit, owner, Counter::Quota(limits.quota(counted, period)), shared))
        };
        let calls = config
            .calls
            .map(|calls| (limiter(calls, Counted::Calls, SharedKind::Quota), Announcement::new("quota", calls, period)));
        let bandwidth = config.bandwidth.map(|size| limiter(size.0, Counted::Bytes, SharedKind::Bytes));
        Some(Self { key: key?, calls, bandwidth, increment })
    }

    /// Returns whether the bytes of bodies are limited.
    pub(crate) const fn counts_bytes(&self) -> bool {
        self.bandwidth.is_some()
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

    fn judge_bandwidth(&self, bandwidth: &Limiter, taken: Taken) -> Result<(), Refusal> {
        if taken.admitted {
            return Ok(());
        }
        let used_up = format!("more than {} bytes in the period", bandwidth.limit);
        Err(of_key(&used_up, &self.key, exceeded(Reason::QuotaExceeded, taken)))
    }

    fn judge_calls(&self, (taken, receipt): (Taken, CountReceipt), exchange: &mut Exchange) -> Result<(), Refusal> {
        let Some((limiter, announcement)) = &self.calls else { return Ok(()) };
        announcement.announce(taken, &mut exchange.response_headers);
        if !taken.admitted {
            let used_up = format!("more than {} calls in the period", limiter.limit);
            return Err(of_key(&used_up, &self.key, exceeded(Reason::QuotaExceeded, taken)));
        }
        if let Some(condition) = self.increment.on_answer() {
            exchange.limits.pending.push(Pending::Call(limiter.clone(), receipt, condition.clone()));
        }
        Ok(())
    }

    fn count_later(&self, key: String, cost: u64, exchange: &mut Exchange) {
        if let Some(limiter) = &self.bandwidth
            && cost > 0
        {
            let condition = self.increment.on_answer().cloned();
            exchange.limits.pending.push(Pending::Bandwidth(limiter.clone(), key.into(), condition));
        }
    }
}
