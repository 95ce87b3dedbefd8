//! One token of the gateway's own: kept while it lives, renewed before it dies, fetched once however many wait.
//!
//! A [`TokenSlot`] is asked in two ways. [`cached`](TokenSlot::cached) never waits and takes no lock: it is the way of nearly
//! every request. [`token`](TokenSlot::token) waits for the one fetch that is under way. Fetches run on a runtime of their own,
//! so that a caller who leaves takes nothing down.
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
        Arc, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use arc_swap::ArcSwapOption;
use http::HeaderValue;
use tokio::{runtime::Handle, sync::watch};

use super::error::{CredentialError, Delay, Failure, ForWhom, Refused};
use crate::clock::Clock;

/// How long before its end a token is no longer served if another can be had.
const MARGIN: Duration = Duration::from_secs(60);
/// How long before its end a token is no longer served at all: it has to arrive, too.
const LAST_MARGIN: Duration = Duration::from_secs(5);
/// How often a token may be thrown away because an upstream refused it.
const FORCED_EVERY: Duration = Duration::from_secs(60);
/// How long a final answer is remembered.
const FINAL_DELAY: Duration = Duration::from_secs(10);
/// How long an answer is remembered that only a user can change.
const LONG_DELAY: Duration = Duration::from_secs(600);
/// The longest pause between attempts that failed for a passing reason.
const LONGEST_DELAY: Duration = Duration::from_secs(30);

/// An access token of the gateway's own.
pub struct AccessToken {
    header: HeaderValue,
    /// When it is to be renewed, and until when it serves: on the monotonic clock.
    renew_at: Duration,
    fresh_until: Duration,
    dead_at: Duration,
    /// When it ends, in seconds since 1970, for people.
    expires_at: u64,
}

impl AccessToken {
    /// `Bearer` and the token, marked as sensitive: ready for `Authorization`.
    pub fn header(&self) -> &HeaderValue {
        &self.header
    }

    /// When the token ends, in seconds since 1970.
    pub const fn expires_at(&self) -> u64 {
        self.expires_at
    }

    /// How long until the gateway renews it.
    pub fn renew_in(&self, clock: &Clock) -> Duration {
        self.renew_at.saturating_sub(clock.monotonic())
    }

    /// The token itself. Never for a log.
    pub fn expose(&self) -> &str {
        self.header.to_str().ok().and_then(|text| text.strip_prefix("Bearer ")).unwrap_or_default()
    }

    fn new(issued: &Issued, clock: &Clock, jitter: f64) -> Result<Self, Failure> {
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
        let mut header = HeaderValue::try_from(format!("Bearer {}", issued.token.as_str()))
            .map_err(|_| Failure::Nonsense("holds a token that is none"))?;
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

/// What a token endpoint gave.
pub(crate) struct Issued {
    /// The token.
    pub(crate) token: zeroize::Zeroizing<String>,
    /// How long it lives, from `sent_at` on.
    pub(crate) lifetime: Duration,
    /// When the issuer wants it renewed, from `sent_at` on.
    pub(crate) renew_in: Option<Duration>,
    /// When the request was sent, on the monotonic clock.
    pub(crate) sent_at: Duration,
}

/// How one attempt at a token ended.
pub(crate) type Fetched = Result<Issued, Failure>;

/// Asks for a token; with `claims`, for one that brings these.
pub(crate) type Fetch = Box<dyn Fn(Option<Arc<str>>) -> Pin<Box<dyn Future<Output = Fetched> + Send>> + Send + Sync>;

type Outcome = Result<Arc<AccessToken>, CredentialError>;

/// Where time comes from, and where fetches run.
#[derive(Clone, Debug)]
pub(crate) struct Background {
    /// Where time comes from.
    pub(crate) clock: Clock,
    /// The runtime that fetches run on; until it is known, the caller's own.
    pub(crate) handle: Arc<OnceLock<Handle>>,
    /// How long a fetch that failed for a passing reason waits before it tries once more.
    pub(crate) second_attempt_after: Duration,
}

/// When a client may ask a token endpoint again: what one request learnt, all of that client's heed.
#[derive(Debug)]
pub(crate) struct Pace<F = Failure> {
    /// No request before this, in milliseconds of the monotonic clock.
    not_before: AtomicU64,
    state: Mutex<Held<F>>,
}

#[derive(Debug)]
struct Held<F> {
    failure: Option<Arc<F>>,
    failures: u32,
}

impl<F> Default for Pace<F> {
    fn default() -> Self {
        Self { not_before: AtomicU64::new(0), state: Mutex::default() }
    }
}

impl<F> Default for Held<F> {
    fn default() -> Self {
        Self { failure: None, failures: 0 }
    }
}

impl<F> Pace<F> {
    fn holds(&self, now: Duration) -> bool {
        milliseconds(now) < self.not_before.load(Ordering::Relaxed)
    }

    pub(crate) fn hold(&self, now: Duration, failure: &Arc<F>, delay: Delay, jitter: f64) {
        let mut state = lock(&self.state);
        let pause = match delay {
            Delay::Long => LONG_DELAY,
            Delay::Asked(pause) => pause,
            Delay::Growing => {
                let full = Duration::from_secs(1 << state.failures.min(5)).min(LONGEST_DELAY);
                full.mul_f64(jitter.clamp(0.0, 1.0)).max(Duration::from_millis(100))
            }
            Delay::Client | Delay::Request => FINAL_DELAY,
        };
        state.failures = state.failures.saturating_add(1);
        state.failure = Some(failure.clone());
        self.not_before.store(milliseconds(now + pause), Ordering::Relaxed);
    }

    pub(crate) fn release(&self) {
        *lock(&self.state) = Held::default();
        self.not_before.store(0, Ordering::Relaxed);
    }

    /// The failure that holds, and for how long yet.
    pub(crate) fn held(&self, now: Duration) -> Option<(Arc<F>, Duration)> {
        let until = Duration::from_millis(self.not_before.load(Ordering::Relaxed));
        let left = until.checked_sub(now).filter(|left| !left.is_zero())?;
        lock(&self.state).failure.clone().map(|failure| (failure, left))
    }
}

/// One token that the gateway keeps: for one client, one tenant, one scope and, on behalf of a user, that user's token.
pub struct TokenSlot {
    credential: Arc<str>,
    for_whom: ForWhom,
    fetch: Fetch,
    /// When no token can be had any more, in seconds since 1970: with the user's own, where it is exchanged for one.
    ends_at: Option<u64>,
    background: Background,
    current: ArcSwapOption<AccessToken>,
    /// What holds this slot alone.
    own: Pace,
    /// What holds every slot of the client at this tenant.
    shared: Arc<Pace>,
    /// Whether somebody used the current token: one that nobody uses is not renewed.
    used: AtomicBool,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    flight: Option<Flight>,
    forced_at: Option<Duration>,
    /// What an upstream's challenge asked for and no token brought yet.
    wanted: Option<Arc<str>>,
    last_failure: Option<LastFailure>,
    fetches: u64,
    failures: u64,
}

/// A fetch under way.
struct Flight(watch::Receiver<Option<Outcome>>);

/// The failure of the last attempt, where that failed.
#[derive(Clone, Debug)]
pub(crate) struct LastFailure {
    /// What happened.
    pub(crate) failure: Arc<Failure>,
    /// When, in seconds since 1970.
    pub(crate) at: u64,
}

/// What a slot tells of itself.
#[derive(Clone, Debug)]
pub(crate) struct SlotStatus {
    /// When the current token ends, in seconds since 1970.
    pub(crate) expires_at: Option<u64>,
    /// The seconds until then.
    pub(crate) expires_in: Option<u64>,
    /// How many tokens were asked for.
    pub(crate) fetches: u64,
    /// How many attempts failed.
    pub(crate) failures: u64,
    /// How the last attempt failed, if it did.
    pub(crate) last_failure: Option<LastFailure>,
    /// The seconds until the next attempt, where one is put off.
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

    /// The same with an end, in seconds since 1970, after which there is nothing to ask for.
    pub(crate) fn until(self: Arc<Self>, ends_at: u64) -> Arc<Self> {
        match Arc::try_unwrap(self) {
            Ok(slot) => Arc::new(Self { ends_at: Some(ends_at), ..slot }),
            Err(shared) => shared,
        }
    }

    /// Whether there is nothing to ask for any more.
    pub(crate) fn has_ended(&self) -> bool {
        self.ends_at.is_some_and(|end| end <= self.background.clock.unix_seconds())
    }

    /// The credential's name.
    pub fn credential(&self) -> &Arc<str> {
        &self.credential
    }

    /// The token that is there, without waiting. Starts to renew it in the background when that is due.
    ///
    /// `None` when there is none, or when it is so old that a new one is worth waiting for.
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
                drop(self.board());
            }
        }
        if !self.used.load(Ordering::Relaxed) {
            self.used.store(true, Ordering::Relaxed);
        }
        Some(token)
    }

    /// A token that can be sent now: the cached one, or the one that is being fetched, for all who wait.
    ///
    /// # Errors
    /// When none can be had; also at once, without a request, while the last failure still holds.
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
    /// Tells whether another attempt makes sense: not when a token was already thrown away within the last minute, since an
    /// upstream that always refuses would otherwise cause a storm of token requests.
    pub fn refused(&self, token: &Arc<AccessToken>) -> bool {
        self.drop_refused(token, None)
    }

    /// As [`refused`](Self::refused), where the upstream also said which claims the next token has to bring: the token request is
    /// made with these, and what it brings takes the place of the plain token.
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

    /// Renews the token if that is due and somebody uses it, and lets go of one that has died by the clock on the wall.
    ///
    /// For a timer. A machine that slept finds its monotonic clock behind; the wall's is not.
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
            drop(self.board());
        }
    }

    /// Fetches a token if there is none, without waiting for it.
    pub(crate) fn warm(self: &Arc<Self>) {
        if self.current.load_full().is_none() && !self.is_held(self.now()) {
            drop(self.board());
        }
    }

    /// Whether a token is there that could be sent now.
    pub(crate) fn is_ready(&self) -> bool {
        self.current.load_full().is_some_and(|token| self.lives(&token))
    }

    fn lives(&self, token: &AccessToken) -> bool {
        self.now() < token.dead_at && self.background.clock.unix_seconds() < token.expires_at
    }

    /// The current token, for the slot that takes this one's place.
    pub(crate) fn bequest(&self) -> Option<Arc<AccessToken>> {
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
        let mut flight = self.board()?;
        match flight.wait_for(Option::is_some).await {
            Ok(outcome) => match &*outcome {
                Some(outcome) => outcome.clone(),
                None => Err(self.error(Arc::new(Failure::Interrupted), None)),
            },
            // The fetch ended without a word: its runtime is shutting down.
            Err(_) => Err(self.error(Arc::new(Failure::Interrupted), None)),
        }
    }

    /// Joins the fetch that is under way, or starts one.
    fn board(self: &Arc<Self>) -> Result<watch::Receiver<Option<Outcome>>, CredentialError> {
        let now = self.now();
        let mut state = lock(&self.state);
        if let Some(Flight(outcome)) = &state.flight {
            return Ok(outcome.clone());
        }
        if let Some((failure, left)) = self.own.held(now).or_else(|| self.shared.held(now)) {
            return Err(self.error(failure, Some(left)));
        }
        let Some(handle) = self.background.handle.get().cloned().or_else(|| Handle::try_current().ok()) else {
            return Err(self.error(Arc::new(Failure::Interrupted), None));
        };
        let (sender, receiver) = watch::channel(None);
        state.flight = Some(Flight(receiver.clone()));
        let slot = Landing(self.clone());
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
            // The door to this flight closes before its passengers leave: who comes now finds the new token or starts anew.
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

    /// Notes how a fetch ended. `None` where a challenge came meanwhile that asks for more than this token brings.
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

/// Ends the flight when it is dropped, however that comes about.
struct Landing(Arc<TokenSlot>);

impl Drop for Landing {
    fn drop(&mut self) {
        lock(&self.0.state).flight = None;
    }
}

/// An error and what led to it, in one line.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(error) = next {
        text.push_str(": ");
        text.push_str(&error.to_string());
        next = error.source();
    }
    text
}

/// A lock whose holder cannot panic, so that a poisoned one means nothing.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn milliseconds(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// A number from 0 to 1, by chance.
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
