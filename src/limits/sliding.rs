//! Calls within a sliding period.

use std::{hash::Hash, time::Duration};

use super::{
    Ask, Receipt, Taken, milliseconds,
    table::{Count, Table},
};

/// The number of moments that a count remembers. Calls within an eleventh of the period are counted with the last of them, so a
/// call may count for up to an eleventh of the period too long, which is the safe side; bursts are exact.
const MOMENTS: usize = 12;

/// The maximum skew between the readings of two threads, in milliseconds. A count further ahead was made before the clock was set
/// back.
const SKEW: u64 = 1_000;

/// The number of calls of each key within the last `period`.
#[derive(Debug)]
pub struct Sliding {
    period: Duration,
    table: Table<Window>,
}

/// The calls of one key: the time and number of each group of calls, oldest first.
///
/// Times are milliseconds that wrap after 49 days, except the newest one. Only differences of a day or two are compared: groups
/// older than a period are dropped by the unwrapped time of the newest.
#[derive(Clone, Debug, Default)]
struct Window {
    last: [u32; MOMENTS],
    calls: [u32; MOMENTS],
    used: usize,
    /// The start of the newest group.
    began: u32,
    /// The time of the newest call, in milliseconds that do not wrap.
    newest: u64,
    /// The time, in the same milliseconds, before which calls no longer count and cannot be given back.
    gone: u64,
}

impl Sliding {
    /// The longest period.
    pub const MAX_PERIOD: Duration = Duration::from_hours(24);

    pub(super) fn new(period: Duration) -> Self {
        let period = period.clamp(Duration::from_millis(1), Self::MAX_PERIOD);
        Self { period, table: Table::new("rate") }
    }

    /// Admits or rejects one call, and counts it if it is admitted.
    pub fn judge(&self, key: impl Hash, ask: Ask) -> Taken {
        self.reserve(key, ask).0
    }

    /// Admits or rejects one call, and counts it if it is admitted; the count can be given back.
    pub fn reserve(&self, key: impl Hash, ask: Ask) -> (Taken, Receipt) {
        let (taken, spot) = self.table.with(key, ask.now, self.period, |window| {
            let count = window.weight(ask.now, self.period);
            let needed = count.saturating_add(ask.cost.max(1));
            if needed > ask.limit {
                let wait = window.frees(needed - ask.limit, ask.now, self.period);
                return Taken { admitted: false, remaining: ask.limit.saturating_sub(count), wait };
            }
            window.add(ask.cost, ask.now, self.period);
            let wait = window.frees(1, ask.now, self.period);
            Taken { admitted: true, remaining: ask.limit - count - ask.cost, wait }
        });
        (taken, Receipt::new(spot, taken, ask))
    }

    /// Forgets all counts.
    pub(super) fn clear(&self) {
        self.table.clear();
    }

    /// Gives back the count of a call.
    pub fn give_back(&self, receipt: Receipt) {
        self.table.at(receipt.spot, |window| window.give_back(receipt.cost, milliseconds(receipt.at)));
    }

    /// Returns the number of keys that started with the count of another key.
    pub(super) fn shared(&self) -> u64 {
        self.table.shared()
    }

    /// Counts without judging.
    pub fn count(&self, key: impl Hash, cost: u64, now: Duration) {
        self.table.with(key, now, self.period, |window| {
            window.weight(now, self.period);
            window.add(cost, now, self.period);
        });
    }
}

/// Returns the time in milliseconds, wrapped.
const fn wrapped(time: Duration) -> u32 {
    time.as_millis() as u32
}

impl Window {
    /// Returns the elapsed time in milliseconds; zero for a time that another thread read a moment later.
    const fn age(now: u32, then: u32) -> u32 {
        let age = now.wrapping_sub(then) as i32;
        if age < 0 { 0 } else { age as u32 }
    }

    fn add(&mut self, cost: u64, now: Duration, period: Duration) {
        if cost == 0 {
            return;
        }
        let cost = u32::try_from(cost).unwrap_or(u32::MAX);
        let whole = milliseconds(now);
        if self.used == 0 {
            // Nothing is left of what came before, not even of a time that lies ahead because the clock was set back.
            (self.newest, self.gone) = (whole, self.gone.min(whole));
        }
        self.newest = self.newest.max(whole);
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

    /// Gives back calls that were counted then. A thread may have counted one with an earlier group, never with a later one;
    /// taken from an earlier group, the rest counts too long rather than too short.
    fn give_back(&mut self, mut cost: u64, at: u64) {
        if at < self.gone {
            return;
        }
        for index in 0..self.used {
            if self.whole(index) < at {
                continue;
            }
            let part = cost.min(u64::from(self.calls[index]));
            self.calls[index] -= u32::try_from(part).unwrap_or(u32::MAX);
            cost -= part;
        }
    }

    /// Returns the time of a group's last call, in milliseconds that do not wrap.
    fn whole(&self, index: usize) -> u64 {
        self.newest.saturating_sub(Self::age(self.newest as u32, self.last[index]).into())
    }

    /// Drops all calls after a pause as long as the period. If the clock was set back, moves them to now at the latest, keeping
    /// their distances.
    fn follow(&mut self, now: u64, period: u64) {
        if self.used > 0 && now >= self.newest.saturating_add(period) {
            (self.used, self.gone) = (0, self.newest + 1);
        }
        if self.used > 0 && self.newest > now.saturating_add(SKEW) {
            let back = (self.newest - now) as u32;
            self.last[..self.used].iter_mut().for_each(|last| *last = last.wrapping_sub(back));
            self.began = self.began.wrapping_sub(back);
            // What came before the clock was set back is told apart no more.
            (self.newest, self.gone) = (now, now + 1);
        }
    }

    /// Returns the time until this many of the counted calls expire.
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
        self.follow(milliseconds(now), milliseconds(period));
        let (now, period) = (wrapped(now), wrapped(period));
        let gone = (0..self.used).take_while(|index| Self::age(now, self.last[*index]) >= period).count();
        if gone > 0 {
            self.gone = self.whole(gone - 1) + 1;
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
    fn a_key_that_rested_for_weeks_or_months_has_its_whole_rate() {
        const DAY: u64 = 24 * 3_600 * 1_000;
        for period in [Duration::from_secs(1), PERIOD, Sliding::MAX_PERIOD] {
            for days in [2, 24, 25, 26, 31, 40, 48, 49, 50, 51, 75, 99, 100, 365] {
                for began in [0, 1, 1_000 * DAY] {
                    let rate = Sliding::new(period);
                    let calls = |then: u64| (0..9).filter(|_| rate.judge("a", at(3, began + then)).admitted).count();
                    assert_eq!(calls(0), 3);

                    assert_eq!(calls(days * DAY), 3, "{period:?}, {days} days");
                    assert_eq!(calls(days * DAY + 1), 0, "{period:?}, {days} days");
                }
            }
        }
    }

    #[test]
    fn a_clock_that_was_ahead_once_keeps_nobody_out_for_longer_than_a_period() {
        const DAY: u64 = 24 * 3_600 * 1_000;
        for ahead in [2_000, 30_000, 59_000, 61_000, DAY, 26 * DAY, 50 * DAY, 365 * DAY] {
            let rate = Sliding::new(PERIOD);
            assert!(rate.judge("a", at(2, 1_000)).admitted);
            assert!(rate.judge("a", at(2, 1_000 + ahead)).admitted);

            // Set back: what was counted is not forgotten, and is over after a period.
            let left = if ahead < 60_000 { 0 } else { 1 };
            assert_eq!((0..9).filter(|_| rate.judge("a", at(2, 1_001)).admitted).count(), left, "{ahead}");
            assert_eq!((0..9).filter(|_| rate.judge("a", at(2, 61_002)).admitted).count(), 2, "{ahead}");
        }
    }

    #[test]
    fn what_was_over_before_the_clock_was_set_back_leaves_nothing_behind() {
        let rate = Sliding::new(PERIOD);
        assert!(rate.judge("a", at(2, 1_000_000)).admitted);
        assert!(rate.judge("a", Ask { cost: 0, ..at(2, 2_000_000) }).admitted);

        let (_, receipt) = rate.reserve("a", at(2, 1_000));
        assert_eq!((0..9).filter(|_| rate.judge("a", at(2, 1_001)).admitted).count(), 1);
        rate.give_back(receipt);
        assert_eq!((0..9).filter(|_| rate.judge("a", at(2, 1_002)).admitted).count(), 1);
        assert_eq!((0..9).filter(|_| rate.judge("a", at(2, 31_000)).admitted).count(), 0);
    }

    #[test]
    fn what_is_given_back_is_there_again() {
        let rate = Sliding::new(PERIOD);
        let (taken, first) = rate.reserve("a", at(3, 0));
        let (_, second) = rate.reserve("a", at(3, 20_000));
        let (_, third) = rate.reserve("a", at(3, 40_000));
        assert!(taken.admitted && !rate.judge("a", at(3, 40_001)).admitted);

        // Each from where it was counted: the others count as long as before.
        rate.give_back(second);
        assert!(rate.judge("a", at(3, 40_002)).admitted);
        assert!(!rate.judge("a", at(3, 59_999)).admitted);
        assert!(rate.judge("a", at(3, 60_000)).admitted);
        assert!(!rate.judge("a", at(3, 60_001)).admitted);
        rate.give_back(third);
        assert!(rate.judge("a", at(3, 60_002)).admitted);
        // What is over gives nothing back.
        rate.give_back(first);
        assert!(!rate.judge("a", at(3, 60_003)).admitted);
    }

    #[test]
    fn what_was_refused_or_only_asked_gives_nothing_back() {
        let rate = Sliding::new(PERIOD);
        let (_, asked) = rate.reserve("a", Ask { cost: 0, ..at(1, 0) });
        assert!(rate.judge("a", at(1, 0)).admitted);
        let (taken, refused) = rate.reserve("a", at(1, 0));
        assert!(!taken.admitted);

        rate.give_back(asked);
        rate.give_back(refused);

        assert!(!rate.judge("a", at(1, 1)).admitted);
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
        /// Compares with a list of all calls: none too many, none refused because of an expired call, and a refused call is
        /// admitted after the announced wait.
        #[test]
        fn giving_back_never_frees_more_than_was_given(
            steps in prop::collection::vec((0_u64..20_000, any::<prop::sample::Index>(), any::<bool>()), 1..120),
            limit in 1_u64..12,
        ) {
            let rate = Sliding::new(PERIOD);
            let (mut open, mut counted, mut now) = (Vec::new(), Vec::<u64>::new(), 0);
            for (gap, chosen, gives_back) in steps {
                now += gap;
                if gives_back && !open.is_empty() {
                    let (then, receipt) = open.swap_remove(chosen.index(open.len()));
                    rate.give_back(receipt);
                    let at = counted.iter().position(|other| *other == then).unwrap();
                    counted.remove(at);
                    continue;
                }
                let (taken, receipt) = rate.reserve("a", at(limit, now));
                if taken.admitted {
                    prop_assert!((counted.iter().filter(|then| now - **then < 60_000).count() as u64) < limit);
                    counted.push(now);
                    open.push((now, receipt));
                }
            }
        }

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
