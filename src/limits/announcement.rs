//! Response headers about limits: the remaining amount, and the time to wait.

use std::time::Duration;

use http::{HeaderName, HeaderValue};

use super::Taken;
use crate::{
    base::fields::Fields,
    refusal::{Reason, Refusal},
};

/// The response headers for a limit.
///
/// `RateLimit` and `RateLimit-Policy` follow the IETF's draft on rate limit header fields: they are lists, so that several limits
/// add up.
#[derive(Debug)]
pub(crate) struct Announcement {
    name: Box<str>,
    policy: HeaderValue,
    limit: u64,
    /// A further header with the remaining amount.
    pub(crate) remaining: Option<HeaderName>,
    /// A further header with the limit.
    pub(crate) total: Option<HeaderName>,
}

const RATE_LIMIT: HeaderName = HeaderName::from_static("ratelimit");
const RATE_LIMIT_POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");

impl Announcement {
    /// Makes the announcement of a limit of this kind.
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

    /// Adds the state of the limit to the header fields of a response.
    pub(crate) fn announce(&self, taken: Taken, headers: &mut Fields) {
        let state = format!("\"{}\";r={};t={}", self.name, taken.remaining, whole_seconds(taken.wait));
        headers.append(&RATE_LIMIT_POLICY, &self.policy);
        headers.append(&RATE_LIMIT, &HeaderValue::try_from(state).expect("a word and numbers are a header value"));
        if let Some(name) = &self.remaining {
            headers.insert(name, &HeaderValue::from(taken.remaining));
        }
        if let Some(name) = &self.total {
            headers.insert(name, &HeaderValue::from(self.limit));
        }
    }
}

/// Returns whole seconds, rounded up, so that a client that waits that long has waited long enough.
fn whole_seconds(time: Duration) -> u64 {
    time.as_secs() + u64::from(time.subsec_nanos() > 0)
}

/// Returns the refusal for an exceeded limit, with the time after which there is room again.
pub(crate) fn exceeded(reason: Reason, taken: Taken) -> Refusal {
    let mut refusal = Refusal::from(reason);
    refusal.retry_after = Some(u32::try_from(whole_seconds(taken.wait).max(1)).unwrap_or(u32::MAX));
    refusal
}
