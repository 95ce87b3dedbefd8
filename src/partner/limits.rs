//! The limits of a partner's calls, over all of its routes.

use std::{sync::Arc, time::Duration};

use super::{PartnerConfig, PartnerLimitConfig};
use http::HeaderMap;

use crate::{
    base::clock::Clock,
    limits::{Announcement, Ask, Counted, Fixed, Limits, Sliding, Taken, exceeded},
    refusal::{Reason, Refusal},
    settings::{Faults, Lint, Place},
};

/// The limits of a partner's calls: none, a rate, a quota or both.
#[derive(Debug, Default)]
pub(super) struct PartnerLimits {
    rate: Option<Limit<Sliding>>,
    quota: Option<Limit<Fixed>>,
}

#[derive(Debug)]
struct Limit<C> {
    calls: u64,
    period: Duration,
    counter: Arc<C>,
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
    /// Builds the limits of the partner at `place`; faults go to `faults`.
    pub(super) fn build(config: &PartnerConfig, limits: &Limits, place: &Place, faults: &mut Faults) -> Self {
        let rate = config.rate_limit.filter(|limit| sound(*limit, Sliding::MAX_PERIOD, &place.key("rate-limit"), faults));
        let quota = config.quota.filter(|limit| sound(*limit, Duration::MAX, &place.key("quota"), faults));
        if quota.is_some() {
            let message = "the quota is kept in the process: a restart begins it anew, and each gateway counts by itself";
            faults.warning(Lint::QuotaLocal, &place.key("quota"), message, "nothing, where that is meant");
        }
        Self {
            rate: rate.map(|limit| Limit::new("partner-rate", limit, limits.rate(Counted::Partners, limit.renewal_period.0))),
            quota: quota.map(|limit| Limit::new("partner-quota", limit, limits.quota(Counted::Partners, limit.renewal_period.0))),
        }
    }

    /// Counts a call of the partner, and adds the remaining amount to the response headers.
    ///
    /// # Errors
    /// Fails if there were too many calls.
    pub(super) fn count(&self, partner: &str, clock: &Clock, headers: &mut HeaderMap) -> Result<(), Refusal> {
        if let Some(Limit { calls, counter, announcement, .. }) = &self.rate {
            let taken = counter.judge(partner, Ask { limit: *calls, cost: 1, now: clock.monotonic() });
            announcement.announce(taken, headers);
            admitted(taken, Reason::RateLimitExceeded, || format!("see `partners.{partner}.rate-limit`"))?;
        }
        if let Some(Limit { calls, counter, announcement, .. }) = &self.quota {
            let taken = counter.judge(partner, Ask { limit: *calls, cost: 1, now: clock.unix() });
            announcement.announce(taken, headers);
            admitted(taken, Reason::QuotaExceeded, || format!("see `partners.{partner}.quota`"))?;
        }
        Ok(())
    }

    /// Checks whether a call would be admitted, without counting it.
    ///
    /// # Errors
    /// Fails if there were too many calls.
    pub(super) fn have_room(&self, partner: &str, clock: &Clock) -> Result<(), Refusal> {
        if let Some(Limit { calls, counter, .. }) = &self.rate {
            let taken = counter.judge(partner, Ask { limit: *calls, cost: 0, now: clock.monotonic() });
            admitted(taken, Reason::RateLimitExceeded, || format!("see `partners.{partner}.rate-limit`"))?;
        }
        if let Some(Limit { calls, counter, .. }) = &self.quota {
            let taken = counter.judge(partner, Ask { limit: *calls, cost: 0, now: clock.unix() });
            admitted(taken, Reason::QuotaExceeded, || format!("see `partners.{partner}.quota`"))?;
        }
        Ok(())
    }

    /// Returns the usage of the rate.
    pub(super) fn rate(&self, partner: &str, clock: &Clock) -> Option<Used> {
        let Limit { calls, period, counter, .. } = self.rate.as_ref()?;
        let taken = counter.judge(partner, Ask { limit: *calls, cost: 0, now: clock.monotonic() });
        Some(Used { calls: *calls, period: *period, remaining: taken.remaining })
    }

    /// Returns the usage of the quota.
    pub(super) fn quota(&self, partner: &str, clock: &Clock) -> Option<Used> {
        let Limit { calls, period, counter, .. } = self.quota.as_ref()?;
        let taken = counter.judge(partner, Ask { limit: *calls, cost: 0, now: clock.unix() });
        Some(Used { calls: *calls, period: *period, remaining: taken.remaining })
    }
}

impl<C> Limit<C> {
    fn new(kind: &str, config: PartnerLimitConfig, counter: Arc<C>) -> Self {
        let PartnerLimitConfig { calls, renewal_period } = config;
        let announcement = Announcement::new(kind, calls, renewal_period.0);
        Self { calls, period: renewal_period.0, counter, announcement }
    }
}

fn admitted(taken: Taken, reason: Reason, hint: impl FnOnce() -> String) -> Result<(), Refusal> {
    if taken.admitted { Ok(()) } else { Err(exceeded(reason, taken).with_hint(hint())) }
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
