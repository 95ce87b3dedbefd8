//! Calls within any stretch of time of one length.

use std::{future, time::Duration};

use super::{
    Ask, Counter, StoreFailure, Taken,
    table::{Count, Table},
};

/// How many moments a count remembers. Calls that came within an eleventh of the period are taken to have come with the last of
/// them, so a call may count for up to an eleventh of the period too long: on the safe side, and not at all for bursts.
const MOMENTS: usize = 12;

/// Counts the calls of each key within the last `period`, whenever one asks.
#[derive(Debug)]
pub struct Sliding {
    period: Duration,
    table: Table<Window>,
}

/// The calls of one key: when the last of each group of calls came, and how many there were. Oldest first.
///
/// Times are milliseconds that wrap after 49 days; only differences of less than half of that mean anything, and what seems to lie
/// in the future counts as now.
#[derive(Clone, Debug, Default)]
struct Window {
    last: [u32; MOMENTS],
    calls: [u32; MOMENTS],
    used: usize,
    /// When the newest group began.
    began: u32,
}

impl Sliding {
    /// The longest period there is.
    pub const MAX_PERIOD: Duration = Duration::from_hours(24);

    pub(super) fn new(period: Duration) -> Self {
        let period = period.clamp(Duration::from_millis(1), Self::MAX_PERIOD);
        Self { period, table: Table::new() }
    }

    /// Judges one call, and counts it if it is admitted.
    pub fn judge(&self, key: &str, ask: Ask) -> Taken {
        self.table.with(key, ask.now, self.period, |window| {
            let count = window.weight(ask.now, self.period);
            let needed = count.saturating_add(ask.cost.max(1));
            if needed > ask.limit {
                let wait = window.frees(needed - ask.limit, ask.now, self.period);
                return Taken { admitted: false, remaining: ask.limit.saturating_sub(count), wait };
            }
            window.add(ask.cost, ask.now, self.period);
            let wait = window.frees(1, ask.now, self.period);
            Taken { admitted: true, remaining: ask.limit - count - ask.cost, wait }
        })
    }

    /// Counts without judging.
    pub fn count(&self, key: &str, cost: u64, now: Duration) {
        self.table.with(key, now, self.period, |window| {
            window.weight(now, self.period);
            window.add(cost, now, self.period);
        });
    }
}

impl Counter for Sliding {
    fn take(&self, key: &str, ask: Ask) -> impl Future<Output = Result<Taken, StoreFailure>> + Send {
        future::ready(Ok(self.judge(key, ask)))
    }

    fn add(&self, key: &str, cost: u64, now: Duration) -> impl Future<Output = Result<(), StoreFailure>> + Send {
        self.count(key, cost, now);
        future::ready(Ok(()))
    }
}

/// The time in milliseconds, wrapped.
const fn wrapped(time: Duration) -> u32 {
    time.as_millis() as u32
}

impl Window {
    /// How long ago that was, in milliseconds; nothing for what another thread saw a moment later.
    const fn age(now: u32, then: u32) -> u32 {
        let age = now.wrapping_sub(then) as i32;
        if age < 0 { 0 } else { age as u32 }
    }

    fn add(&mut self, cost: u64, now: Duration, period: Duration) {
        if cost == 0 {
            return;
        }
        let cost = u32::try_from(cost).unwrap_or(u32::MAX);
        let now = wrapped(now);
        let group = wrapped(period) / (MOMENTS as u32 - 1);
        if self.used > 0 && (Self::age(now, self.began) < group || self.used == MOMENTS) {
            // Groups begin at least an eleventh of the period apart, so there is always room for one more; were there none, the
            // newest would take it, on the safe side.
            let newest = self.used - 1;
            self.calls[newest] = self.calls[newest].saturating_add(cost);
            if Self::age(now, self.last[newest]) > 0 {
                self.last[newest] = now;
            }
            return;
        }
        self.last[self.used] = now;
        self.calls[self.used] = cost;
        self.used += 1;
        self.began = now;
    }

    /// How long until so many of the counted calls are no longer counted.
    fn frees(&self, wanted: u64, now: Duration, period: Duration) -> Duration {
        let mut freed = 0;
        for index in 0..self.used {
            freed += u64::from(self.calls[index]);
            if freed >= wanted {
                let age = Duration::from_millis(Self::age(wrapped(now), self.last[index]).into());
                return period.saturating_sub(age);
            }
        }
        // More is asked for than the limit ever allows.
        period
    }
}

impl Count for Window {
    fn weight(&mut self, now: Duration, period: Duration) -> u64 {
        let (now, period) = (wrapped(now), wrapped(period));
        let gone = (0..self.used).take_while(|index| Self::age(now, self.last[*index]) >= period).count();
        if gone > 0 {
            self.last.copy_within(gone..self.used, 0);
            self.calls.copy_within(gone..self.used, 0);
            self.used -= gone;
        }
        self.calls[..self.used].iter().map(|calls| u64::from(*calls)).sum()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const PERIOD: Duration = Duration::from_secs(60);

    fn at(limit: u64, milliseconds: u64) -> Ask {
        Ask { limit, cost: 1, now: Duration::from_millis(milliseconds) }
    }

    #[test]
    fn admits_so_many_and_tells_when_the_next_one_may_come() {
        let rate = Sliding::new(PERIOD);

        assert_eq!(rate.judge("a", at(2, 0)), Taken { admitted: true, remaining: 1, wait: PERIOD });
        assert_eq!(rate.judge("a", at(2, 10_000)), Taken { admitted: true, remaining: 0, wait: Duration::from_secs(50) });
        assert_eq!(rate.judge("a", at(2, 20_000)), Taken { admitted: false, remaining: 0, wait: Duration::from_secs(40) });
        assert!(rate.judge("b", at(2, 20_000)).admitted, "another key counts by itself");
        assert!(!rate.judge("a", at(2, 59_999)).admitted);
        assert!(rate.judge("a", at(2, 60_000)).admitted);
        assert_eq!(rate.judge("a", at(2, 60_000)), Taken { admitted: false, remaining: 0, wait: Duration::from_secs(10) });
    }

    #[test]
    fn asking_counts_nothing_and_counting_asks_nothing() {
        let rate = Sliding::new(PERIOD);
        let asking = Ask { cost: 0, ..at(1, 0) };

        assert!(rate.judge("a", asking).admitted && rate.judge("a", asking).admitted);
        rate.count("a", 3, Duration::ZERO);
        assert_eq!(rate.judge("a", asking), Taken { admitted: false, remaining: 0, wait: PERIOD });
    }

    #[test]
    fn a_limit_of_none_admits_none() {
        let rate = Sliding::new(PERIOD);

        assert_eq!(rate.judge("a", at(0, 0)), Taken { admitted: false, remaining: 0, wait: PERIOD });
    }

    #[test]
    fn a_thread_that_looked_at_the_clock_too_early_frees_nothing() {
        let rate = Sliding::new(PERIOD);
        rate.judge("a", at(1, 5_000));

        assert!(!rate.judge("a", at(1, 4_999)).admitted);
    }

    #[test]
    fn times_wrap_without_a_gap() {
        let rate = Sliding::new(PERIOD);
        let wrap = u64::from(u32::MAX);
        rate.judge("a", at(1, wrap - 1_000));

        assert!(!rate.judge("a", at(1, wrap + 58_000)).admitted);
        assert!(rate.judge("a", at(1, wrap + 59_001)).admitted);
    }

    proptest! {
        /// Against a list of all calls: never one too many, none refused for a call that is long gone, and what is refused is admitted
        /// after the wait that was told.
        #[test]
        fn never_admits_more_than_the_limit_in_any_period(gaps in prop::collection::vec(0_u64..20_000, 1..200), limit in 1_u64..30) {
            let rate = Sliding::new(PERIOD);
            let mut admitted: Vec<u64> = Vec::new();
            let mut now = 0;
            for gap in gaps {
                now += gap;
                let within = |period: u64| admitted.iter().filter(|then| now - **then < period).count() as u64;
                let taken = rate.judge("a", at(limit, now));
                if taken.admitted {
                    prop_assert!(within(60_000) < limit);
                    admitted.push(now);
                } else {
                    prop_assert!(taken.wait <= PERIOD && taken.wait > Duration::ZERO);
                    prop_assert!(within(60_000 + 60_000 / 11) >= limit);
                    let later = Ask { cost: 0, ..at(limit, now + taken.wait.as_millis() as u64) };
                    prop_assert!(rate.judge("a", later).admitted || limit == 0);
                    now = later.now.as_millis() as u64;
                }
            }
        }
    }
}
