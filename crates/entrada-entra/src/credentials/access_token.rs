//! A token that was issued to the gateway, and its lifetime.

use std::{fmt, time::Duration};

use http::HeaderValue;

use super::error::Failure;
use crate::base::{b64token::is_b64token, clock::Clock};

/// The time before its end at which a token is replaced if possible.
const MARGIN: Duration = Duration::from_secs(60);
/// The time before its end at which a token is no longer used at all, since it has to arrive in time.
const LAST_MARGIN: Duration = Duration::from_secs(5);

/// The failure for an answer whose token is not a credential, and which could end up in another header or request.
const NO_TOKEN: Failure = Failure::Nonsense("holds a token that is none (RFC 6750, section 2.1)");

/// An access token of the gateway.
pub struct AccessToken {
    header: HeaderValue,
    /// The time for its renewal, and the end of its use, on the monotonic clock.
    pub(super) renew_at: Duration,
    pub(super) fresh_until: Duration,
    pub(super) dead_at: Duration,
    /// Its expiry, in seconds since 1970, for display.
    pub(super) expires_at: u64,
}

impl AccessToken {
    /// Returns `Bearer` and the token, marked as sensitive: ready for `Authorization`.
    pub fn header(&self) -> &HeaderValue {
        &self.header
    }

    /// Returns its expiry, in seconds since 1970.
    pub const fn expires_at(&self) -> u64 {
        self.expires_at
    }

    /// Returns the time until the gateway renews it.
    pub fn renew_in(&self, clock: &Clock) -> Duration {
        self.renew_at.saturating_sub(clock.monotonic())
    }

    /// Returns the token itself. Never log it.
    pub fn expose(&self) -> &str {
        self.header.to_str().ok().and_then(|text| text.strip_prefix("Bearer ")).unwrap_or_default()
    }

    /// Makes a token from the issuer's answer, with the times of its renewal and its end; `jitter` is from 0 to 1.
    pub(super) fn new(issued: &Issued, clock: &Clock, jitter: f64) -> Result<Self, Failure> {
        let lifetime = issued.lifetime;
        // A token that lives for less than some minutes gets margins that leave something of it.
        let margin = MARGIN.min(lifetime / 4);
        let last_margin = LAST_MARGIN.min(lifetime / 8);
        let half = lifetime / 2;
        let renew = match issued.renew_in {
            Some(renew_in) => renew_in.min(half),
            None => lifetime.saturating_sub(MARGIN * 10).max(half),
        };
        // Replicas that started together do not renew together.
        let renew = renew.saturating_sub((lifetime - renew).mul_f64(jitter.clamp(0.0, 1.0) / 10.0));
        let age = clock.monotonic().saturating_sub(issued.sent_at);
        if age + last_margin >= lifetime {
            return Err(Failure::Nonsense("holds a token that has expired already"));
        }
        if !is_b64token(&issued.token) {
            return Err(NO_TOKEN);
        }
        let mut header = HeaderValue::try_from(format!("Bearer {}", issued.token.as_str())).map_err(|_| NO_TOKEN)?;
        header.set_sensitive(true);
        Ok(Self {
            header,
            renew_at: issued.sent_at + renew,
            fresh_until: issued.sent_at + lifetime.saturating_sub(margin),
            dead_at: issued.sent_at + lifetime.saturating_sub(last_margin),
            expires_at: clock.unix_seconds() + (lifetime.saturating_sub(age)).as_secs(),
        })
    }
}

impl fmt::Debug for AccessToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AccessToken").field("expires_at", &self.expires_at).finish_non_exhaustive()
    }
}

/// The answer of a token endpoint.
pub(crate) struct Issued {
    /// The token.
    pub(crate) token: zeroize::Zeroizing<String>,
    /// Its lifetime, counted from `sent_at`.
    pub(crate) lifetime: Duration,
    /// The issuer's wish for its renewal, counted from `sent_at`.
    pub(crate) renew_in: Option<Duration>,
    /// The time of the request, on the monotonic clock.
    pub(crate) sent_at: Duration,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_rfc_6750_calls_a_token_is_one() {
        for token in ["t", "eyJ0.eyJh.c2ln-_", "a+b/c~d==", "0"] {
            assert!(is_b64token(token), "{token}");
        }
        for none in ["", "=", "a b", " a", "a ", "a=b", "a,b", "a\"b", "a:b", "a\r\nx: y", "a\0", "a!b", "é", "a\tb", "a;b"] {
            assert!(!is_b64token(none), "{none:?}");
        }
    }
}
