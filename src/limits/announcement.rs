//! What callers are told of limits: how much is left, and when to come back.

use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue};

use super::Taken;
use crate::refusal::{Reason, Refusal};

/// What answers tell of a limit.
///
/// `RateLimit` and `RateLimit-Policy` are those of the IETF's draft on rate limit header fields: lists, so that several limits add up.
#[derive(Debug)]
pub(crate) struct Announcement {
    name: Box<str>,
    policy: HeaderValue,
    limit: u64,
    /// A further header that tells how much is left.
    pub(crate) remaining: Option<HeaderName>,
    /// A further header that tells how much there may be.
    pub(crate) total: Option<HeaderName>,
}

const RATE_LIMIT: HeaderName = HeaderName::from_static("ratelimit");
const RATE_LIMIT_POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");

impl Announcement {
    /// For a limit of this kind.
    pub(crate) fn new(kind: &str, limit: u64, period: Duration) -> Self {
        let seconds = whole_seconds(period);
        let name = format!("{kind}-{seconds}s");
        let policy = HeaderValue::try_from(format!("\"{name}\";q={limit};w={seconds}"));
        Self {
            name: name.into(),
            policy: policy.expect("a word and numbers are a header value"),
            limit,
            remaining: None,
            total: None,
        }
    }

    /// Adds what was found to the header fields of whatever leaves.
    pub(crate) fn announce(&self, taken: Taken, headers: &mut HeaderMap) {
        let state = format!("\"{}\";r={};t={}", self.name, taken.remaining, whole_seconds(taken.wait));
        headers.append(RATE_LIMIT_POLICY, self.policy.clone());
        headers.append(RATE_LIMIT, HeaderValue::try_from(state).expect("a word and numbers are a header value"));
        if let Some(name) = &self.remaining {
            headers.insert(name.clone(), taken.remaining.into());
        }
        if let Some(name) = &self.total {
            headers.insert(name.clone(), self.limit.into());
        }
    }
}

/// Seconds, rounded up: who waits that long has waited long enough.
fn whole_seconds(time: Duration) -> u64 {
    time.as_secs() + u64::from(time.subsec_nanos() > 0)
}

/// The refusal of what is too much, with the time after which there is room again.
pub(crate) fn exceeded(reason: Reason, taken: Taken) -> Refusal {
    let mut refusal = Refusal::from(reason);
    refusal.retry_after = Some(u32::try_from(whole_seconds(taken.wait).max(1)).unwrap_or(u32::MAX));
    refusal
}
