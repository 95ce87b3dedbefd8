//! Limits calls or bytes over a long time, by any key.
//!
//! ```yaml
#![doc = include_str!("../../config/policies/quota-by-key.yaml")]
//! ```
//!
//! Periods are fixed and follow each other from the first of January 1970 on, UTC; each begins with a count of zero. The bytes of
//! both bodies are counted when they have ended: the call that exceeds the quota still succeeds, the next one is refused. Quotas
//! are kept in the process and begin anew when it restarts. Each policy counts by itself, as for
//! [`rate_limit_by_key`](super::rate_limit_by_key), and `name` and `increment-condition` have the same meaning.
//!
//! Refuses with [`Reason::QuotaExceeded`] and `Retry-After`.

use std::{sync::Arc, time::Duration};

use schemars::JsonSchema;
use serde::Deserialize;

use super::settings::{DependsOn, PolicySettings};
use super::{
    build_context::BuildContext,
    limit_scope::Named,
    mode::ModeConfig,
    rate_limit_by_key::{Increment, StoreConfig, key, key_text, local_only, of_key},
};
use crate::{
    exchange::{Exchange, Pending},
    expression::Template,
    limits::{Announcement, Ask, Counted, Fixed, Owner, exceeded},
    refusal::{Reason, Refusal, Stop},
    request::IncomingRequest,
    settings::{ConfigDuration, Lint, Place, Size},
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
    /// The store of the counts. Default: local.
    #[serde(default)]
    pub store: StoreConfig,
    /// `report-only` records and counts refusals instead of enforcing them. Default: enforce.
    #[serde(default)]
    pub mode: ModeConfig,
}

/// Limits calls or bytes over a long time, by any key.
#[derive(Debug)]
pub struct QuotaByKey {
    key: Template,
    calls: Option<(u64, Arc<Fixed>, Announcement)>,
    bandwidth: Option<(u64, Arc<Fixed>)>,
    owner: Owner,
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
        Ok(self.check(exchange, incoming)?)
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
        local_only(config.store, place, context.faults);
        let named = Named { kind: "quota-by-key", name: config.name.as_deref(), period: Some(period) };
        let owner = context.limits.owner(config, named, place, context.faults);
        if context.faults.errors() > before {
            return None;
        }
        context.faults.warning(
            Lint::QuotaLocal,
            place,
            "the quota is kept in the process: a restart begins it anew, and each gateway counts by itself",
            "nothing, where that is meant",
        );
        let limits = context.limits.limits();
        Some(Self {
            key: key?,
            calls: config
                .calls
                .map(|calls| (calls, limits.quota(Counted::Calls, period), Announcement::new("quota", calls, period))),
            bandwidth: config.bandwidth.map(|size| (size.0, limits.quota(Counted::Bytes, period))),
            owner,
            increment: increment?,
        })
    }

    pub(crate) fn check(&self, exchange: &mut Exchange, incoming: &IncomingRequest) -> Result<(), Refusal> {
        let facts = exchange.facts(incoming);
        let key = key_text(&self.key, &facts)?;
        let cost = self.increment.cost(&facts)?;
        let owned = (self.owner, &*key);
        let now = exchange.clock.unix();
        // Asked first, for it counts nothing yet: what it refuses must not count as a call.
        if let Some((limit, counter)) = &self.bandwidth {
            let taken = counter.judge(owned, Ask { limit: *limit, cost: 0, now });
            if !taken.admitted {
                let used_up = format!("more than {limit} bytes in the period");
                return Err(of_key(&used_up, &self.key, exceeded(Reason::QuotaExceeded, taken)));
            }
        }
        if let Some((limit, counter, announcement)) = &self.calls {
            let (taken, receipt) = counter.reserve(owned, Ask { limit: *limit, cost, now });
            announcement.announce(taken, &mut exchange.response_headers);
            if !taken.admitted {
                let used_up = format!("more than {limit} calls in the period");
                return Err(of_key(&used_up, &self.key, exceeded(Reason::QuotaExceeded, taken)));
            }
            if let Some(condition) = self.increment.on_answer() {
                exchange.limits.pending.push(Pending::Quota(counter.clone(), receipt, condition.clone()));
            }
        }
        if let Some((_, counter)) = &self.bandwidth
            && cost > 0
        {
            let condition = self.increment.on_answer().cloned();
            exchange.limits.pending.push(Pending::Bandwidth(counter.clone(), (self.owner, key.into()), condition));
        }
        Ok(())
    }
}
