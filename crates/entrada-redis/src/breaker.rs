//! A circuit breaker: after several failures in a row calls are refused at once, until a probe succeeds.

use std::{
    sync::Mutex,
    time::{Duration, Instant},
};

use entrada_base::lock::lock;

/// The number of failures in a row that open the breaker.
const FAILURES: u32 = 5;
/// The time for which it is open first.
const FIRST: Duration = Duration::from_millis(500);
/// The longest time for which it is open: a probe costs the store nothing, and a store that is back is to be used soon.
const LONGEST: Duration = Duration::from_secs(4);

/// A circuit breaker. Without it, a slow store would make every request wait for its deadline.
#[derive(Debug, Default)]
pub struct Breaker(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    /// The failures since the last success.
    failures: u32,
    /// The time until which calls are refused; `None` while it is closed.
    until: Option<Instant>,
    /// The time for which it was opened last.
    open_for: Duration,
    /// True while a probe is under way.
    probing: bool,
}

/// The state of a breaker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BreakerState {
    /// Calls pass.
    Closed,
    /// Calls are refused.
    Open,
    /// The next call, or one that is under way, decides.
    HalfOpen,
}

impl BreakerState {
    /// Returns the state as a word.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::Open => "open",
            Self::HalfOpen => "half-open",
        }
    }
}

/// A call that the breaker lets through, which must say how it ended. One that does not, because its request was given up, says
/// nothing about the store.
#[derive(Debug)]
pub struct Attempt<'a> {
    breaker: &'a Breaker,
    is_probe: bool,
    told: bool,
}

impl Breaker {
    /// Admits a call, or returns the time for which there is none.
    ///
    /// # Errors
    /// Returns the time after which it is worth trying again.
    pub fn attempt(&self, now: Instant) -> Result<Attempt<'_>, Duration> {
        let mut state = lock(&self.0);
        let is_probe = match state.until {
            None => false,
            Some(until) if now < until => return Err(until - now),
            Some(_) if state.probing => return Err(state.open_for.min(FIRST)),
            Some(_) => {
                state.probing = true;
                true
            }
        };
        Ok(Attempt { breaker: self, is_probe, told: false })
    }

    /// Returns the state.
    pub fn state(&self, now: Instant) -> BreakerState {
        match lock(&self.0).until {
            None => BreakerState::Closed,
            Some(until) if now < until => BreakerState::Open,
            Some(_) => BreakerState::HalfOpen,
        }
    }
}

impl Attempt<'_> {
    /// Notes a success. Returns whether the breaker was open until now.
    pub fn succeeded(mut self) -> bool {
        self.told = true;
        let mut state = lock(&self.breaker.0);
        // A call that was sent long ago says nothing about now, unless it is the probe.
        if state.until.is_some() && !self.is_probe {
            return false;
        }
        let was_open = state.until.is_some();
        *state = State::default();
        was_open
    }

    /// Notes a failure. Returns whether the breaker was closed until now, and is open now. `jitter` is from 0 to 1: gateways that
    /// failed together do not ask together.
    pub fn failed(mut self, now: Instant, jitter: f64) -> bool {
        self.told = true;
        let mut state = lock(&self.breaker.0);
        if state.until.is_some() && !self.is_probe {
            return false;
        }
        state.failures = state.failures.saturating_add(1);
        if !self.is_probe && state.failures < FAILURES {
            return false;
        }
        state.open_for = if self.is_probe { (state.open_for * 2).min(LONGEST) } else { FIRST };
        state.until = Some(now + state.open_for.mul_f64(1.0 - jitter.clamp(0.0, 1.0) / 4.0));
        state.probing = false;
        !self.is_probe
    }
}

impl Drop for Attempt<'_> {
    fn drop(&mut self) {
        if self.is_probe && !self.told {
            lock(&self.breaker.0).probing = false;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fail(breaker: &Breaker, now: Instant) -> bool {
        breaker.attempt(now).expect("a call passes").failed(now, 0.0)
    }

    #[test]
    fn opens_after_failures_in_a_row_alone() {
        let (breaker, now) = (Breaker::default(), Instant::now());
        for _ in 0..10 {
            assert!(!fail(&breaker, now) && !fail(&breaker, now) && !fail(&breaker, now) && !fail(&breaker, now));
            assert!(!breaker.attempt(now).unwrap().succeeded());
        }
        assert_eq!([(); 5].map(|()| fail(&breaker, now)), [false, false, false, false, true]);

        assert_eq!(breaker.state(now), BreakerState::Open);
        assert_eq!(breaker.attempt(now).unwrap_err(), FIRST);
    }

    #[test]
    fn one_probe_at_a_time_decides() {
        let (breaker, start) = (Breaker::default(), Instant::now());
        (0..FAILURES).for_each(|_| _ = fail(&breaker, start));
        let now = start + FIRST;
        assert_eq!(breaker.state(now), BreakerState::HalfOpen);

        let probe = breaker.attempt(now).expect("the probe");
        assert!(breaker.attempt(now).is_err(), "another one");
        assert!(!probe.failed(now, 0.0));
        assert_eq!(breaker.attempt(now + FIRST).unwrap_err(), FIRST, "twice as long");

        let now = now + FIRST * 2;
        assert!(breaker.attempt(now).expect("the next probe").succeeded());
        assert_eq!(breaker.state(now), BreakerState::Closed);
    }

    #[test]
    fn a_probe_that_is_given_up_keeps_nobody_out() {
        let (breaker, start) = (Breaker::default(), Instant::now());
        (0..FAILURES).for_each(|_| _ = fail(&breaker, start));

        drop(breaker.attempt(start + FIRST).expect("the probe"));

        assert!(breaker.attempt(start + FIRST).expect("the next one").succeeded());
    }

    #[test]
    fn calls_from_before_say_nothing_about_now() {
        let (breaker, start) = (Breaker::default(), Instant::now());
        let (early, late) = (breaker.attempt(start).unwrap(), breaker.attempt(start).unwrap());
        (0..FAILURES).for_each(|_| _ = fail(&breaker, start));

        assert!(!early.succeeded() && !late.failed(start + Duration::from_secs(9), 0.0));
        assert_eq!(breaker.state(start), BreakerState::Open);
        assert_eq!(breaker.attempt(start).unwrap_err(), FIRST);
    }

    #[test]
    fn is_open_for_seconds_at_most() {
        let (breaker, mut now) = (Breaker::default(), Instant::now());
        (0..FAILURES).for_each(|_| _ = fail(&breaker, now));
        for _ in 0..20 {
            let wait = breaker.attempt(now).unwrap_err();
            assert!(wait <= LONGEST);
            now += wait;
            fail(&breaker, now);
        }
        assert_eq!(breaker.attempt(now).unwrap_err(), LONGEST);
    }
}
