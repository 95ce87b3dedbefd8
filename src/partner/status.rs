//! Partners on the console and in the metrics.

use serde::Serialize;

use super::{ApiKey, ApiKeys, Partner, PartnerState, Partners, Used};
use crate::{base::clock::Clock, telemetry::MetricsText};

/// A partner, for the console.
#[derive(Debug, Serialize)]
pub(crate) struct PartnerStatus {
    name: String,
    state: PartnerState,
    #[serde(skip_serializing_if = "Option::is_none")]
    owner: Option<String>,
    /// The last day of its access.
    #[serde(skip_serializing_if = "Option::is_none")]
    expires: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    days_left: Option<u64>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    api_keys: Vec<ApiKeyStatus>,
    #[serde(skip_serializing_if = "Option::is_none")]
    rate_limit: Option<LimitStatus>,
    #[serde(skip_serializing_if = "Option::is_none")]
    quota: Option<LimitStatus>,
}

/// An API key, for the console: nothing of the key itself.
#[derive(Debug, Serialize)]
struct ApiKeyStatus {
    name: String,
    state: PartnerState,
    #[serde(skip_serializing_if = "Option::is_none")]
    owner: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    expires: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    days_left: Option<u64>,
}

impl ApiKeyStatus {
    fn of(key: &ApiKey, now: u64) -> Self {
        Self {
            name: key.name.to_string(),
            state: PartnerState::until(key.until, now),
            owner: key.owner.as_deref().map(str::to_owned),
            expires: key.expires.map(|day| day.to_string()),
            days_left: key.until.map(|until| until.saturating_sub(now).div_ceil(86_400)),
        }
    }
}

#[derive(Debug, Serialize)]
struct LimitStatus {
    calls: u64,
    renewal_period_seconds: u64,
    remaining: u64,
}

impl From<Used> for LimitStatus {
    fn from(Used { calls, period, remaining }: Used) -> Self {
        Self { calls, renewal_period_seconds: period.as_secs(), remaining }
    }
}

impl Partner {
    fn status(&self, keys: &ApiKeys, clock: &Clock) -> PartnerStatus {
        let now = clock.unix_seconds();
        PartnerStatus {
            name: self.name.to_string(),
            state: self.state(now),
            owner: self.owner.as_deref().map(str::to_owned),
            expires: self.expires.map(|day| day.to_string()),
            days_left: self.until.map(|until| until.saturating_sub(now).div_ceil(86_400)),
            api_keys: keys.of(self).map(|key| ApiKeyStatus::of(key, now)).collect(),
            rate_limit: self.rate(clock).map(LimitStatus::from),
            quota: self.quota(clock).map(LimitStatus::from),
        }
    }
}

impl Partners {
    /// Returns all partners, for the console.
    pub(crate) fn status(&self, clock: &Clock) -> Vec<PartnerStatus> {
        self.iter().map(|partner| partner.status(&self.keys, clock)).collect()
    }

    /// Writes the partners' metrics other than those of their calls.
    pub(crate) fn write_metrics(&self, clock: &Clock, text: &mut MetricsText) {
        text.family("entrada_partner_enabled", "gauge", "Whether the partner is switched on.");
        for partner in self.iter() {
            text.sample("entrada_partner_enabled", &[("partner", &partner.name)], u8::from(partner.enabled));
        }
        text.family("entrada_partner_expires_timestamp_seconds", "gauge", "When the partner's access ends.");
        for (partner, until) in self.iter().filter_map(|partner| partner.until.map(|until| (partner, until))) {
            text.sample("entrada_partner_expires_timestamp_seconds", &[("partner", &partner.name)], until);
        }
        let name = "entrada_partner_limit_remaining";
        text.family(name, "gauge", "Calls that the partner has left in the period.");
        for partner in self.iter() {
            for (limit, used) in [("rate-limit", partner.rate(clock)), ("quota", partner.quota(clock))] {
                if let Some(used) = used {
                    text.sample(name, &[("partner", &partner.name), ("limit", limit)], used.remaining);
                }
            }
        }
    }
}
