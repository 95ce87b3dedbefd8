//! Limits calls or bytes over a long time, by any key.
//!
//! ```yaml
#![doc = include_str!("../../config/policies/quota-by-key.yaml")]
//! ```
//!
//! Periods are fixed and follow each other from the first of January 1970 on, UTC; at the end of each the count begins anew. Bytes are
//! those of both bodies, counted when they have ended: the call that exceeds the quota still ends well, the next one is refused.
//! Quotas are kept in the process and begin anew when it restarts.
//!
//! Refuses with [`Reason::QuotaExceeded`] and `Retry-After`.

use std::{sync::Arc, time::Duration};

use schemars::JsonSchema;
use serde::Deserialize;

use super::{
    Scope,
    rate_limit_by_key::{Increment, StoreConfig, key, key_text, local_only},
};
use crate::{
    config::{Place, Size, Span},
    exchange::Exchange,
    expression::{Facts, Template},
    limits::{Announcement, Ask, Counted, Fixed, Pending, exceeded},
    refusal::{Reason, Refusal},
    request::IncomingRequest,
};

/// Settings of `quota-by-key`.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct QuotaByKeyConfig {
    /// How many calls there may be within the period. This, `bandwidth` or both.
    pub calls: Option<u64>,
    /// How many bytes both bodies of all calls may have within the period.
    pub bandwidth: Option<Size>,
    /// The length of the period, at least 1s.
    pub renewal_period: Span,
    /// What is counted apart from each other: an expression, as `@(token.client)`.
    pub counter_key: String,
    /// Counts a call only if this holds; a condition on `response` is judged when the answer has ended. Default: every call counts.
    pub increment_condition: Option<String>,
    /// How much a call counts. Default: 1.
    pub increment_count: Option<u32>,
    /// Where calls are counted. Default: local.
    #[serde(default)]
    pub store: StoreConfig,
}

/// Limits calls or bytes over a long time, by any key.
#[derive(Debug)]
pub struct QuotaByKey {
    key: Template,
    calls: Option<(u64, Arc<Fixed>, Announcement)>,
    bandwidth: Option<(u64, Arc<Fixed>)>,
    increment: Increment,
}

impl QuotaByKey {
    pub(crate) fn build(config: &QuotaByKeyConfig, place: &Place, scope: &mut Scope<'_>) -> Option<Self> {
        let before = scope.faults.errors();
        let key = key(&config.counter_key, &place.key("counter-key"), scope);
        let increment = Increment::build(config.increment_condition.as_deref(), config.increment_count, place, scope);
        let period = config.renewal_period.0;
        if period < Duration::from_secs(1) {
            scope.faults.error(&place.key("renewal-period"), "the period is too short for a quota", "write one of at least 1s");
        }
        if config.calls.is_none() && config.bandwidth.is_none() {
            scope.faults.error(place, "neither `calls` nor `bandwidth` is limited", "write one of them");
        }
        for (name, limit) in [("calls", config.calls), ("bandwidth", config.bandwidth.map(|size| size.0))] {
            if limit == Some(0) {
                scope.faults.error(&place.key(name), "no call at all would be let through", "write a number of at least 1");
            }
        }
        local_only(config.store, place, scope.faults);
        if scope.faults.errors() > before {
            return None;
        }
        scope.faults.warning(
            place,
            "the quota is kept in the process: a restart begins it anew, and each gateway counts by itself",
            "nothing, where that is meant",
        );
        let limits = scope.limits;
        Some(Self {
            key: key?,
            calls: config
                .calls
                .map(|calls| (calls, limits.quota(Counted::Calls, period), Announcement::new("quota", calls, period))),
            bandwidth: config.bandwidth.map(|size| (size.0, limits.quota(Counted::Bytes, period))),
            increment: increment?,
        })
    }

    pub(crate) fn check(&self, exchange: &mut Exchange, incoming: &IncomingRequest) -> Result<(), Refusal> {
        let facts = Facts::of(exchange, incoming);
        let key = key_text(&self.key, &facts)?;
        let cost = self.increment.cost_now(&facts)?;
        let now = exchange.clock().unix();
        // Asked first, for it counts nothing yet: what it refuses must not count as a call.
        if let Some((limit, counter)) = &self.bandwidth {
            let taken = counter.judge(&key, Ask { limit: *limit, cost: 0, now });
            if !taken.admitted {
                return Err(exceeded(Reason::QuotaExceeded, taken));
            }
        }
        if let Some((limit, counter, announcement)) = &self.calls {
            let taken = counter.judge(&key, Ask { limit: *limit, cost: cost.unwrap_or(0), now });
            announcement.announce(taken, exchange);
            if !taken.admitted {
                return Err(exceeded(Reason::QuotaExceeded, taken));
            }
            if cost.is_none() {
                let pending =
                    Pending::Quota(counter.clone(), key.as_str().into(), self.increment.count, self.increment.condition.clone());
                exchange.limits.pending.push(pending);
            }
        }
        if let Some((_, counter)) = &self.bandwidth
            && cost != Some(0)
        {
            let condition = self.increment.condition.clone().filter(|condition| condition.uses().response);
            exchange.limits.pending.push(Pending::Bandwidth(counter.clone(), key.into(), condition));
        }
        Ok(())
    }
}
