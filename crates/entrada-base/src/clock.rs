//! Injected time, so that expiry, refresh and rollover can be tested without waiting.

use std::{
    cell::RefCell,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

/// A source of the current time.
#[derive(Clone, Debug)]
pub struct Clock(Source);

/// One moment, read on each of the clock's scales.
#[derive(Clone, Copy, Debug)]
pub struct Reading {
    /// The time since 1970, UTC.
    pub unix: Duration,
    /// The monotonic reading, which never goes back.
    pub monotonic: Duration,
    /// The monotonic reading for tokio's timers.
    pub instant: tokio::time::Instant,
}

#[derive(Clone, Debug)]
enum Source {
    System(Instant),
    /// Milliseconds since the epoch.
    Manual(Arc<AtomicU64>),
    /// A moment of another clock, on its scales.
    Standing(Arc<Reading>),
}

impl Clock {
    /// Returns the machine's clock.
    pub fn system() -> Self {
        Self(Source::System(Instant::now()))
    }

    /// Returns a clock that stands still until it is moved with [`advance`](Self::advance). Clones move together.
    pub fn manual(unix_seconds: u64) -> Self {
        Self(Source::Manual(Arc::new(AtomicU64::new(unix_seconds * 1_000))))
    }

    /// Returns a clock that stands still at a moment of another one, whose scales it has.
    pub fn standing(at: Reading) -> Self {
        // Nearly always the last such clock of the thread is gone, and its memory can be had again.
        thread_local!(static LAST: RefCell<Option<Arc<Reading>>> = const { RefCell::new(None) });
        LAST.with_borrow_mut(|last| {
            if let Some(known) = last.as_mut().and_then(Arc::get_mut) {
                *known = at;
            } else {
                *last = None;
            }
            Self(Source::Standing(last.get_or_insert_with(|| Arc::new(at)).clone()))
        })
    }

    /// Returns seconds since 1970, UTC.
    pub fn unix_seconds(&self) -> u64 {
        self.unix().as_secs()
    }

    /// Returns the time since 1970, UTC.
    pub fn unix(&self) -> Duration {
        match &self.0 {
            // A clock before 1970 counts as 1970: every token is then not valid yet, which is the safe side.
            Source::System(_) => SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default(),
            Source::Manual(milliseconds) => Duration::from_millis(milliseconds.load(Ordering::Relaxed)),
            Source::Standing(at) => at.unix,
        }
    }

    /// Returns a reading that never goes back; only differences mean anything.
    pub fn monotonic(&self) -> Duration {
        match &self.0 {
            Source::System(start) => start.elapsed(),
            Source::Manual(_) => self.unix(),
            Source::Standing(at) => at.monotonic,
        }
    }

    /// Reads the moment once, for everything that starts with it.
    pub fn read(&self) -> Reading {
        if let Source::Standing(at) = &self.0 {
            return **at;
        }
        let instant = tokio::time::Instant::now();
        let monotonic = match &self.0 {
            Source::System(start) => instant.into_std().saturating_duration_since(*start),
            Source::Manual(_) | Source::Standing(_) => self.unix(),
        };
        Reading { unix: self.unix(), monotonic, instant }
    }

    /// Sets a manual clock, also back. Does nothing to the machine's clock.
    pub fn set(&self, unix_seconds: u64) {
        if let Source::Manual(milliseconds) = &self.0 {
            milliseconds.store(unix_seconds.saturating_mul(1_000), Ordering::Relaxed);
        }
    }

    /// Moves a manual clock on. Does nothing to the machine's clock.
    pub fn advance(&self, by: Duration) {
        if let Source::Manual(milliseconds) = &self.0 {
            milliseconds.fetch_add(u64::try_from(by.as_millis()).unwrap_or(u64::MAX), Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clones_of_a_manual_clock_move_together() {
        let clock = Clock::manual(1_000);
        let twin = clock.clone();

        twin.advance(Duration::from_secs(5));

        assert_eq!(clock.unix_seconds(), 1_005);
        assert_eq!(clock.monotonic(), Duration::from_secs(1_005));
    }

    #[test]
    fn a_standing_clock_stays_at_the_moment_of_another_one() {
        let clock = Clock::system();
        let at = clock.read();
        let standing = Clock::standing(at);
        standing.advance(Duration::from_secs(5));
        standing.set(7);

        assert_eq!((standing.unix(), standing.monotonic()), (at.unix, at.monotonic));
        assert!(clock.monotonic() >= at.monotonic);
    }
}
