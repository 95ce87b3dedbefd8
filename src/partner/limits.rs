//! The limits of a partner's calls, over all of its routes.

use std::{sync::Arc, time::Duration};

use super::{PartnerConfig, PartnerLimitConfig};

use crate::{
    base::{clock::Clock, fields::Fields},
    limits::{
        Announcement, Counted, Counter, Limiter, Limits, OnStoreFailureConfig, Sliding, Taken, exceeded,
        store::{self, SharedCounter, SharedKind, Store},
    },
    refusal::{Reason, Refusal, trace::Trace},
    settings::{Faults, Place},
};

/// The limits of a partner's calls: none, a rate, a quota or both.
#[derive(Debug, Default)]
pub(super) struct PartnerLimits {
    rate: Option<Limit>,
    quota: Option<Limit>,
}

#[derive(Debug)]
struct Limit {
    /// The key in the partner's settings.
    key: &'static str,
    reason: Reason,
    period: Duration,
    limiter: Limiter,
    announcement: Announcement,
}

/// The usage of a limit, for the console.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Used {
    /// The limit of calls.
    pub calls: u64,
    /// The period.
    pub period: Duration,
    /// The number of calls left.
    pub remaining: u64,
}

impl PartnerLimits {
    /// Builds the limits of the partner of this name at `place`; faults go to `faults`.
    pub(super) fn build(name: &str, config: &PartnerConfig, limits: &Limits, place: &Place, faults: &mut Faults) -> Self {
        let rate = config.rate_limit.filter(|limit| sound(*limit, Sliding::MAX_PERIOD, &place.key("rate-limit"), faults));
        let quota = config.quota.filter(|limit| sound(*limit, Duration::MAX, &place.key("quota"), faults));
        let rate = rate.map(|limit| {
            let counter = Counter::Rate(limits.rate(Counted::Partners, limit.renewal_period.0));
            let shared = limits.shared(limit.store(), &place.key("rate-limit"), faults);
            Limit::new(("partner-rate", name), limit, counter, shared, limits)
        });
        let quota = quota.map(|limit| {
            let place = place.key("quota");
            let counter = Counter::Quota(limits.quota(Counted::Partners, limit.renewal_period.0));
            let shared = limits.shared(limit.store(), &place, faults);
            store::lint_quota(shared.as_ref().map(|(_, on_failure)| *on_failure), &place, faults);
            Limit::new(("partner-quota", name), limit, counter, shared, limits)
        });
        Self { rate, quota }
    }

    /// Returns whether a call is counted in a store, so that it has to wait.
    pub(super) fn are_shared(&self, trace: &mut Trace) -> bool {
        self.each().any(|limit| limit.limiter.is_shared(trace))
    }

    /// Counts a call of the partner, and adds the remaining amount to the response headers. A `cost` of 0 only asks.
    ///
    /// # Errors
    /// Fails if there were too many calls.
    pub(super) fn count(&self, partner: &str, cost: u64, clock: &Clock, headers: &mut Fields) -> Result<(), Refusal> {
        self.each().try_for_each(|limit| limit.judge(partner, cost, limit.limiter.take(partner, cost, clock).0, headers))
    }

    /// Returns whether there are any.
    pub(super) const fn are_some(&self) -> bool {
        self.rate.is_some() || self.quota.is_some()
    }

    /// Does the same in the store, for the limits that are kept there.
    ///
    /// # Errors
    /// Fails if there were too many calls, or if the store fails.
    pub(super) async fn count_shared(
        &self,
        partner: &str,
        cost: u64,
        clock: &Clock,
        headers: &mut Fields,
    ) -> Result<(), Refusal> {
        for limit in self.each() {
            let (taken, _) = limit.limiter.take_shared(partner, cost, clock).await?;
            limit.judge(partner, cost, taken, headers)?;
        }
        Ok(())
    }

    /// Returns the usage of the rate.
    pub(super) fn rate(&self, partner: &str, clock: &Clock) -> Option<Used> {
        self.rate.as_ref().map(|limit| limit.used(partner, clock))
    }

    /// Returns the usage of the quota.
    pub(super) fn quota(&self, partner: &str, clock: &Clock) -> Option<Used> {
        self.quota.as_ref().map(|limit| limit.used(partner, clock))
    }

    fn each(&self) -> impl Iterator<Item = &Limit> {
        self.rate.iter().chain(&self.quota)
    }
}

impl Limit {
    fn new(
        (kind, partner): (&'static str, &str),
        config: PartnerLimitConfig,
        counter: Counter,
        shared: Option<(Arc<Store>, OnStoreFailureConfig)>,
        limits: &Limits,
    ) -> Self {
        let PartnerLimitConfig { calls, renewal_period, .. } = config;
        let (key, reason, subject) = match &counter {
            Counter::Rate(_) => ("rate-limit", Reason::RateLimitExceeded, SharedKind::Rate),
            Counter::Quota(_) => ("quota", Reason::QuotaExceeded, SharedKind::Quota),
        };
        let id = format!("{kind}\0{partner}");
        let shared = shared.map(|store| SharedCounter::new(store, subject, &id, (calls, renewal_period.0), false));
        Self {
            key,
            reason,
            period: renewal_period.0,
            limiter: Limiter::new(calls, limits.owner("partners"), counter, shared),
            announcement: Announcement::new(kind, calls, renewal_period.0),
        }
    }

    fn judge(&self, partner: &str, cost: u64, taken: Taken, headers: &mut Fields) -> Result<(), Refusal> {
        if cost > 0 {
            self.announcement.announce(taken, headers);
        }
        if taken.admitted {
            return Ok(());
        }
        let mut refusal = exceeded(self.reason, taken).with_hint(format!("see `partners.{partner}.{}`", self.key));
        let (calls, seconds) = (self.limiter.limit, self.period.as_secs());
        refusal.cause = Some(format!("more than {calls} calls in {seconds} s, counted for the partner `{partner}`").into());
        Err(refusal)
    }

    fn used(&self, partner: &str, clock: &Clock) -> Used {
        Used { calls: self.limiter.limit, period: self.period, remaining: self.limiter.remaining(partner, self.period, clock) }
    }
}

fn sound(limit: PartnerLimitConfig, longest: Duration, place: &Place, faults: &mut Faults) -> bool {
    let before = faults.errors();
    if limit.calls == 0 {
        let cure = "write a number of at least 1; to revoke the partner write `enabled: false`";
        faults.error(&place.key("calls"), "no call at all would be let through", cure);
    }
    let period = limit.renewal_period.0;
    if period < Duration::from_secs(1) || period > longest {
        let cure = "write one of at least 1s, and for a rate of at most 24h; `quota` counts over longer ones";
        faults.error(&place.key("renewal-period"), "the period is too short or too long", cure);
    }
    faults.errors() == before
}
