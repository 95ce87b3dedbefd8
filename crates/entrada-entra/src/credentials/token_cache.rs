//! One token of the gateway: cached, renewed before it expires, and fetched once for all waiters.
//!
//! A [`TokenSlot`] has two entrances. [`cached`](TokenSlot::cached) never waits and takes no lock: nearly every request uses it.
//! [`token`](TokenSlot::token) waits for the one fetch in progress. Fetches run on a runtime of their own, so that a caller that
//! leaves cancels nothing.
//!
//! All deadlines count from the moment the request for the token was sent, on a clock that never goes back:
//!
//! | until | the token is |
//! | --- | --- |
//! | `renew_at` | served |
//! | `fresh_until` | served, while another is fetched behind it |
//! | `dead_at` | served only when no other can be had |

use std::{
    fmt,
    future::Future,
    pin::Pin,
    sync::{
        Arc, Mutex, OnceLock,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use arc_swap::ArcSwapOption;
use tokio::{runtime::Handle, sync::watch};

use super::{
    access_token::{AccessToken, Issued},
    error::{CredentialError, Delay, Failure, ForWhom, Refused},
    pace::{Pace, milliseconds},
};
use crate::base::{clock::Clock, error_chain::chain, lock::lock};

/// The minimum interval between discards of a token that an upstream refused.
const FORCED_EVERY: Duration = Duration::from_secs(60);
/// The result of one attempt at a token.
pub(crate) type Fetched = Result<Issued, Failure>;

/// Requests a token; with `claims`, one that contains these.
pub(crate) type Fetch = Box<dyn Fn(Option<Arc<str>>) -> Pin<Box<dyn Future<Output = Fetched> + Send>> + Send + Sync>;

type Outcome = Result<Arc<AccessToken>, CredentialError>;

/// The clock, and the runtime of fetches.
#[derive(Clone, Debug)]
pub(crate) struct Background {
    /// The clock.
    pub clock: Clock,
    /// The runtime that fetches run on; the caller's own until it is known.
    pub(crate) handle: Arc<OnceLock<Handle>>,
    /// The pause before the second attempt of a fetch that failed temporarily.
    pub(crate) second_attempt_after: Duration,
}

/// One cached token: for one client, one tenant, one scope and, on behalf of a user, that user's token.
pub struct TokenSlot {
    credential: Arc<str>,
    for_whom: ForWhom,
    fetch: Fetch,
    /// The time after which no token is available, in seconds since 1970: the end of the user's own token, if it is exchanged.
    ends_at: Option<u64>,
    background: Background,
    current: ArcSwapOption<AccessToken>,
    /// The delay of this slot alone.
    own: Pace,
    /// The delay of every slot of the client at this tenant.
    shared: Arc<Pace>,
    /// True if the current token was used: an unused one is not renewed.
    used: AtomicBool,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    in_flight: Option<InFlight>,
    forced_at: Option<Duration>,
    /// The claims that an upstream's challenge demands and no token contains yet.
    wanted: Option<Arc<str>>,
    last_failure: Option<LastFailure>,
    fetches: u64,
    failures: u64,
}

/// A fetch in progress.
struct InFlight(watch::Receiver<Option<Outcome>>);

/// The failure of the last attempt, if it failed.
#[derive(Clone, Debug)]
pub(crate) struct LastFailure {
    /// The failure.
    pub(crate) failure: Arc<Failure>,
    /// The time, in seconds since 1970.
    pub(crate) at: u64,
}

/// The status of a slot.
#[derive(Clone, Debug)]
pub(crate) struct SlotStatus {
    /// The current token's expiry, in seconds since 1970.
    pub(crate) expires_at: Option<u64>,
    /// The seconds until then.
    pub(crate) expires_in: Option<u64>,
    /// The number of token requests.
    pub(crate) fetches: u64,
    /// The number of failed attempts.
    pub(crate) failures: u64,
    /// The last failure, if any.
    pub(crate) last_failure: Option<LastFailure>,
    /// The seconds until the next attempt, if it is delayed.
    pub(crate) retry_in: Option<u64>,
}

impl TokenSlot {
    pub(crate) fn new(
        credential: Arc<str>,
        for_whom: ForWhom,
        fetch: Fetch,
        shared: Arc<Pace>,
        background: Background,
        inherited: Option<Arc<AccessToken>>,
    ) -> Arc<Self> {
        Arc::new(Self {
            credential,
            for_whom,
            fetch,
            ends_at: None,
            background,
            current: ArcSwapOption::new(inherited),
            own: Pace::default(),
            shared,
            used: AtomicBool::new(false),
            state: Mutex::default(),
        })
    }

    /// Sets an end, in seconds since 1970, after which no token is available.
    pub(crate) fn until(self: Arc<Self>, ends_at: u64) -> Arc<Self> {
        match Arc::try_unwrap(self) {
            Ok(slot) => Arc::new(Self { ends_at: Some(ends_at), ..slot }),
            Err(shared) => shared,
        }
    }

    /// Returns whether the end has passed.
    pub(crate) fn has_ended(&self) -> bool {
        self.ends_at.is_some_and(|end| end <= self.background.clock.unix_seconds())
    }

    /// Returns the credential's name.
    pub fn credential(&self) -> &Arc<str> {
        &self.credential
    }

    /// Returns the cached token without waiting. Starts to renew it in the background when that is due.
    ///
    /// `None` if there is none, or if it is so old that a new one is worth waiting for.
    pub fn cached(self: &Arc<Self>) -> Option<Arc<AccessToken>> {
        let token = self.current.load_full()?;
        let now = self.now();
        // A machine that slept finds its monotonic clock behind; the wall's is not.
        if self.background.clock.unix_seconds() >= token.expires_at {
            return None;
        }
        if now >= token.renew_at {
            if now >= token.dead_at {
                return None;
            }
            let held = self.is_held(now);
            if !held {
                if now >= token.fresh_until {
                    return None;
                }
                drop(self.join_fetch());
            }
        }
        if !self.used.load(Ordering::Relaxed) {
            self.used.store(true, Ordering::Relaxed);
        }
        Some(token)
    }

    /// Returns a token that can be sent now: the cached one, or the result of the fetch in progress, shared by all waiters.
    ///
    /// # Errors
    /// Fails if no token is available; also at once, without a request, while the last failure still causes a delay.
    pub async fn token(self: &Arc<Self>) -> Result<Arc<AccessToken>, CredentialError> {
        if let Some(token) = self.cached() {
            return Ok(token);
        }
        self.used.store(true, Ordering::Relaxed);
        match self.wait().await {
            Ok(token) => Ok(token),
            // Renewing failed, and the old one still lives: an outage is no reason to stop.
            Err(error) => self.current.load_full().filter(|token| self.lives(token)).ok_or(error),
        }
    }

    /// Notes that an upstream refused `token`, and drops that very one.
    ///
    /// Returns whether another attempt makes sense: not if a token was already dropped within the last minute, since an upstream
    /// that always refuses would otherwise cause a storm of token requests.
    pub fn refused(&self, token: &Arc<AccessToken>) -> bool {
        self.drop_refused(token, None)
    }

    /// Does the same as [`refused`](Self::refused) if the upstream also named the claims that the next token has to contain: they
    /// go into the token request, and its token replaces the plain one.
    pub fn challenged(&self, token: &Arc<AccessToken>, claims: Arc<str>) -> bool {
        self.drop_refused(token, Some(claims))
    }

    fn drop_refused(&self, token: &Arc<AccessToken>, claims: Option<Arc<str>>) -> bool {
        let now = self.now();
        let mut state = lock(&self.state);
        let current = self.current.load_full();
        // Somebody else's refusal has brought a newer one already, or is about to.
        if current.is_none_or(|current| !Arc::ptr_eq(&current, token)) {
            return true;
        }
        if state.forced_at.is_some_and(|at| now < at + FORCED_EVERY) {
            return false;
        }
        state.forced_at = Some(now);
        state.wanted = claims;
        self.current.store(None);
        true
    }

    /// Renews the token if that is due and it is used, and drops one that has expired by the wall clock.
    ///
    /// For a timer. The monotonic clock stops while a machine sleeps; the wall clock does not.
    pub(crate) fn tend(self: &Arc<Self>, always: bool) {
        let Some(token) = self.current.load_full() else {
            if always {
                self.warm();
            }
            return;
        };
        let now = self.now();
        if now >= token.dead_at || self.background.clock.unix_seconds() >= token.expires_at {
            // Unless a fetch has just put a newer one there.
            self.current.compare_and_swap(&Some(token), None);
            if always {
                self.warm();
            }
        } else if now >= token.renew_at && !self.is_held(now) && (always || self.used.load(Ordering::Relaxed)) {
            drop(self.join_fetch());
        }
    }

    /// Fetches a token if there is none, without waiting for it.
    pub(crate) fn warm(self: &Arc<Self>) {
        if self.current.load_full().is_none() && !self.is_held(self.now()) {
            drop(self.join_fetch());
        }
    }

    /// Returns whether there is a token that could be sent now.
    pub(crate) fn is_ready(&self) -> bool {
        self.current.load_full().is_some_and(|token| self.lives(&token))
    }

    fn lives(&self, token: &AccessToken) -> bool {
        self.now() < token.dead_at && self.background.clock.unix_seconds() < token.expires_at
    }

    /// Returns the current token, for the slot that replaces this one.
    pub(crate) fn handover(&self) -> Option<Arc<AccessToken>> {
        self.current.load_full()
    }

    pub(crate) fn status(&self) -> SlotStatus {
        let now = self.now();
        let token = self.current.load_full().filter(|token| now < token.dead_at);
        let retry_in = [self.own.held(now), self.shared.held(now)].into_iter().flatten().map(|(_, left)| left).max();
        let state = lock(&self.state);
        SlotStatus {
            expires_at: token.as_ref().map(|token| token.expires_at),
            expires_in: token.map(|token| token.expires_at.saturating_sub(self.background.clock.unix_seconds())),
            fetches: state.fetches,
            failures: state.failures,
            last_failure: state.last_failure.clone(),
            retry_in: retry_in.map(|left| left.as_secs() + 1),
        }
    }

    fn now(&self) -> Duration {
        self.background.clock.monotonic()
    }

    fn is_held(&self, now: Duration) -> bool {
        self.own.holds(now) || self.shared.holds(now)
    }

    fn error(&self, failure: Arc<Failure>, retry_in: Option<Duration>) -> CredentialError {
        CredentialError { credential: self.credential.clone(), failure, retry_in, for_whom: self.for_whom }
    }

    async fn wait(self: &Arc<Self>) -> Outcome {
        let mut in_flight = self.join_fetch()?;
        match in_flight.wait_for(Option::is_some).await {
            Ok(outcome) => match &*outcome {
                Some(outcome) => outcome.clone(),
                None => Err(self.error(Arc::new(Failure::Interrupted), None)),
            },
            // The fetch ended without a word: its runtime is shutting down.
            Err(_) => Err(self.error(Arc::new(Failure::Interrupted), None)),
        }
    }

    /// Joins the fetch in progress, or starts one.
    fn join_fetch(self: &Arc<Self>) -> Result<watch::Receiver<Option<Outcome>>, CredentialError> {
        let now = self.now();
        let mut state = lock(&self.state);
        if let Some(InFlight(outcome)) = &state.in_flight {
            return Ok(outcome.clone());
        }
        if let Some((failure, left)) = self.own.held(now).or_else(|| self.shared.held(now)) {
            return Err(self.error(failure, Some(left)));
        }
        let Some(handle) = self.background.handle.get().cloned().or_else(|| Handle::try_current().ok()) else {
            return Err(self.error(Arc::new(Failure::Interrupted), None));
        };
        let (sender, receiver) = watch::channel(None);
        state.in_flight = Some(InFlight(receiver.clone()));
        let slot = ClearOnDrop(self.clone());
        handle.spawn(async move {
            let outcome = loop {
                let claims = slot.0.wanted();
                let mut fetched = slot.0.fetch(claims.clone()).await;
                if fetched.as_ref().is_err_and(Failure::may_pass_at_once) && !slot.0.is_ready() {
                    // Somebody waits, and the next answer may well be another one.
                    tokio::time::sleep(slot.0.background.second_attempt_after).await;
                    fetched = slot.0.fetch(claims.clone()).await;
                }
                if let Some(outcome) = slot.0.settle(fetched, claims.as_ref()) {
                    break outcome;
                }
            };
            // The door to this in_flight closes before its passengers leave: who comes now finds the new token or starts anew.
            drop(slot);
            sender.send_replace(Some(outcome));
        });
        Ok(receiver)
    }

    fn wanted(&self) -> Option<Arc<str>> {
        lock(&self.state).wanted.clone()
    }

    fn fetch(&self, claims: Option<Arc<str>>) -> Pin<Box<dyn Future<Output = Fetched> + Send>> {
        lock(&self.state).fetches += 1;
        (self.fetch)(claims)
    }

    /// Records the result of a fetch. `None` if a challenge arrived meanwhile that demands more than this token contains.
    fn settle(&self, fetched: Fetched, claims: Option<&Arc<str>>) -> Option<Outcome> {
        let now = self.now();
        let settled = fetched.and_then(|issued| AccessToken::new(&issued, &self.background.clock, random()));
        match settled {
            Ok(token) => {
                let token = Arc::new(token);
                self.own.release();
                self.shared.release();
                // The lock is the one under which a refused token is dropped: no challenge slips in between.
                let mut state = lock(&self.state);
                if state.wanted.is_some() && state.wanted.as_ref() != claims {
                    return None;
                }
                (state.wanted, state.last_failure) = (None, None);
                self.used.store(false, Ordering::Relaxed);
                self.current.store(Some(token.clone()));
                drop(state);
                tracing::debug!(credential = &*self.credential, expires_at = token.expires_at, "token acquired");
                Some(Ok(token))
            }
            Err(failure) => {
                let failure = Arc::new(failure);
                let delay = failure.delay(self.for_whom);
                let pace = match delay {
                    Delay::Request | Delay::Long => &self.own,
                    Delay::Client | Delay::Growing | Delay::Asked(_) => &self.shared,
                };
                pace.hold(now, &failure, delay, random());
                let retry_in = pace.held(now).map(|(_, left)| left);
                {
                    let mut state = lock(&self.state);
                    state.failures += 1;
                    // What the issuer has no token for is not asked for again: the plain token may do for others.
                    if matches!(delay, Delay::Request | Delay::Long) {
                        state.wanted = None;
                    }
                    state.last_failure = Some(LastFailure { failure: failure.clone(), at: self.background.clock.unix_seconds() });
                }
                let error = self.error(failure, retry_in);
                let refused = error.failure.refused();
                tracing::warn!(
                    credential = &*self.credential,
                    error = chain(&error),
                    code = refused.and_then(Refused::name),
                    meaning = refused.and_then(Refused::meaning),
                    cure = error.cure().as_deref(),
                    correlation_id = refused.map(|refused| &*refused.correlation_id),
                    trace_id = refused.and_then(|refused| refused.trace_id.as_deref()),
                    retry_in_ms = retry_in.map(milliseconds),
                    serving = self.is_ready(),
                    "no token"
                );
                Some(Err(error))
            }
        }
    }
}

impl fmt::Debug for TokenSlot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TokenSlot")
            .field("credential", &self.credential)
            .field("current", &self.current.load_full())
            .finish_non_exhaustive()
    }
}

/// Ends the fetch when it is dropped, for whatever reason.
struct ClearOnDrop(Arc<TokenSlot>);

impl Drop for ClearOnDrop {
    fn drop(&mut self) {
        lock(&self.0.state).in_flight = None;
    }
}

/// Returns a random number from 0 to 1.
pub(crate) fn random() -> f64 {
    let mut bytes = [0; 4];
    // Without randomness there is no jitter, and nothing worse.
    if aws_lc_rs::rand::fill(&mut bytes).is_err() {
        return 0.5;
    }
    f64::from(u32::from_le_bytes(bytes)) / f64::from(u32::MAX)
}

#[cfg(test)]
mod tests;
