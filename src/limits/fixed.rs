//! Counters over fixed periods, the first of which began in 1970.

use std::{hash::Hash, time::Duration};

use super::{
    Ask, Receipt, Taken,
    table::{Count, Table},
};

/// The calls of each key since the start of the current period.
#[derive(Debug)]
pub struct Fixed {
    period: Duration,
    table: Table<PeriodCounts>,
}

/// The counts of the current period and of the one counted before it, which becomes current again if the clock is set back.
#[derive(Clone, Copy, Debug, Default)]
struct PeriodCounts {
    present: Part,
    other: Part,
}

#[derive(Clone, Copy, Debug, Default)]
struct Part {
    /// The number of the counted period.
    period: u64,
    count: u64,
}

impl Fixed {
    pub(super) fn new(period: Duration) -> Self {
        Self { period: period.max(Duration::from_secs(1)), table: Table::new("quota") }
    }

    /// Admits or rejects one call, and counts it if it is admitted.
    pub fn judge(&self, key: impl Hash, ask: Ask) -> Taken {
        self.reserve(key, ask).0
    }

    /// Admits or rejects one call, and counts it if it is admitted; the count can be given back.
    pub fn reserve(&self, key: impl Hash, ask: Ask) -> (Taken, Receipt) {
        let wait = self.ends_in(ask.now);
        let (taken, spot) = self.table.with(key, ask.now, self.period, |sum| {
            let count = sum.weight(ask.now, self.period);
            let remaining = ask.limit.saturating_sub(count);
            if remaining < ask.cost.max(1) {
                return Taken { admitted: false, remaining, wait };
            }
            sum.present.count = count.saturating_add(ask.cost);
            Taken { admitted: true, remaining: remaining - ask.cost, wait }
        });
        (taken, Receipt::new(spot, taken, ask))
    }

    /// Forgets all counts.
    pub(super) fn clear(&self) {
        self.table.clear();
    }

    /// Gives back the count of a call.
    pub fn give_back(&self, receipt: Receipt) {
        let period = number(receipt.at, self.period);
        self.table.at(receipt.spot, |sum| {
            // What was taken from a period that is over counts no more.
            if let Some(part) = [&mut sum.present, &mut sum.other].into_iter().find(|part| part.period == period) {
                part.count = part.count.saturating_sub(receipt.cost);
            }
        });
    }

    /// Counts without judging.
    pub fn count(&self, key: impl Hash, cost: u64, now: Duration) {
        self.table.with(key, now, self.period, |sum| {
            sum.present.count = sum.weight(now, self.period).saturating_add(cost);
        });
    }

    /// Returns the number of keys that started with the count of another key.
    pub(super) fn shared(&self) -> u64 {
        self.table.shared()
    }

    /// Returns the time left in the current period.
    fn ends_in(&self, now: Duration) -> Duration {
        let into = now.as_millis() % self.period.as_millis();
        self.period - Duration::from_millis(u64::try_from(into).unwrap_or_default())
    }
}

/// Returns the number of a period, counted from 1970.
fn number(now: Duration, period: Duration) -> u64 {
    u64::try_from(now.as_millis() / period.as_millis().max(1)).unwrap_or(u64::MAX)
}

impl Count for PeriodCounts {
    fn weight(&mut self, now: Duration, period: Duration) -> u64 {
        let now = number(now, period);
        if now != self.present.period {
            // A clock that was ahead and is right again, or a thread that looked at it a moment earlier, finds what it had counted.
            std::mem::swap(&mut self.present, &mut self.other);
            if now != self.present.period {
                self.present = Part { period: now, count: 0 };
            }
        }
        self.present.count
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_hours(1);

    fn at(limit: u64, cost: u64, seconds: u64) -> Ask {
        Ask { limit, cost, now: Duration::from_secs(1_000_000 * 3_600 + seconds) }
    }

    #[test]
    fn counts_until_the_period_ends() {
        let quota = Fixed::new(HOUR);

        assert_eq!(quota.judge("a", at(3, 2, 600)), Taken { admitted: true, remaining: 1, wait: Duration::from_mins(50) });
        assert_eq!(quota.judge("a", at(3, 2, 600)), Taken { admitted: false, remaining: 1, wait: Duration::from_mins(50) });
        assert!(quota.judge("a", at(3, 1, 3_599)).admitted);
        assert!(!quota.judge("a", at(3, 1, 3_599)).admitted);
        assert_eq!(quota.judge("a", at(3, 1, 3_600)), Taken { admitted: true, remaining: 2, wait: HOUR });
    }

    #[test]
    fn a_clock_that_steps_back_gives_nothing_anew() {
        let quota = Fixed::new(HOUR);
        for (seconds, admitted) in [(3_599, true), (3_600, true), (3_599, false), (3_601, false), (3_598, false), (3_602, false)]
        {
            assert_eq!(quota.judge("a", at(1, 1, seconds)).admitted, admitted, "{seconds}");
        }
    }

    #[test]
    fn a_clock_that_was_ahead_once_is_nothing_that_lasts() {
        const DAY: u64 = 24 * 3_600;
        for ahead in [1, 3_600, DAY, 30 * DAY, 31 * DAY, 365 * DAY, 100 * 365 * DAY] {
            let quota = Fixed::new(Duration::from_hours(24 * 30));
            let now = |seconds: u64| Ask { limit: 3, cost: 1, now: Duration::from_secs(1_800_000_000 + seconds) };
            assert!(quota.judge("a", now(0)).admitted);
            // Ahead, all is used up.
            let there = (0..9).filter(|_| quota.judge("a", now(ahead)).admitted).count();
            assert_eq!(there, if now(ahead).now.as_secs() / (30 * DAY) == now(0).now.as_secs() / (30 * DAY) { 2 } else { 3 });

            // Right again, what had been used is, and no more; then the next period begins anew.
            let back = (0..9).filter(|_| quota.judge("a", now(1)).admitted).count();
            assert_eq!(back, if there == 2 { 0 } else { 2 }, "{ahead}");
            let later = (0..9).filter(|_| quota.judge("a", now(61 * DAY)).admitted).count();
            assert_eq!(later, 3, "{ahead}");
        }
    }

    #[test]
    fn what_is_given_back_is_there_again_in_its_period_alone() {
        let quota = Fixed::new(HOUR);
        let (taken, receipt) = quota.reserve("a", at(2, 2, 0));
        assert!(taken.admitted && !quota.judge("a", at(2, 1, 1)).admitted);

        quota.give_back(receipt);
        assert_eq!(quota.judge("a", at(2, 1, 2)).remaining, 1);
        // The next period has begun when it is given back.
        let (_, receipt) = quota.reserve("a", at(2, 1, 3_599));
        assert_eq!(quota.judge("a", at(2, 1, 3_600)).remaining, 1);
        quota.give_back(receipt);
        assert_eq!(quota.judge("a", at(2, 1, 3_601)).remaining, 0);
        assert_eq!(quota.judge("a", at(2, 0, 3_599)).remaining, 1);
    }

    #[test]
    fn after_months_of_rest_a_quota_is_whole() {
        for days in [25_u64, 26, 31, 40, 48, 50, 100, 400] {
            let quota = Fixed::new(Duration::from_hours(24));
            let now = |seconds: u64| Ask { limit: 3, cost: 1, now: Duration::from_secs(1_800_000_000 + seconds) };
            assert_eq!((0..9).filter(|_| quota.judge("a", now(0)).admitted).count(), 3);

            assert_eq!((0..9).filter(|_| quota.judge("a", now(days * 86_400)).admitted).count(), 3, "{days}");
        }
    }

    #[test]
    fn what_is_counted_afterwards_is_counted() {
        let quota = Fixed::new(HOUR);
        quota.count("a", 1_000, at(0, 0, 0).now);

        assert!(!quota.judge("a", at(1_000, 0, 1)).admitted);
        assert!(quota.judge("a", at(1_001, 0, 1)).admitted);
    }

    #[test]
    fn a_flood_of_keys_never_makes_a_count_too_low() {
        let quota = Fixed::new(HOUR);
        for _ in 0..5 {
            assert!(quota.judge("patient", at(5, 1, 0)).admitted);
        }
        for key in 0..super::super::table::CAPACITY * 2 {
            quota.judge(key, at(5, 1, 1));
        }

        assert!(!quota.judge("patient", at(5, 1, 2)).admitted);
    }

    #[test]
    fn a_flood_of_keys_costs_a_stranger_little() {
        let quota = Fixed::new(HOUR);
        for key in 0..super::super::table::CAPACITY * 2 {
            quota.judge(key, at(100, 1, 0));
        }

        assert!(quota.judge("stranger", at(100, 1, 1)).remaining > 80);
    }
}
