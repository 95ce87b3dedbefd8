//! Counts within fixed periods of time, the first of which began in 1970.

use std::{future, time::Duration};

use super::{
    Ask, Counter, StoreFailure, Taken,
    table::{Count, Table},
};

/// Counts for each key what there was since the present period began.
#[derive(Debug)]
pub struct Fixed {
    period: Duration,
    table: Table<Sum>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Sum {
    /// Which period is counted.
    period: u64,
    count: u64,
}

impl Fixed {
    pub(super) fn new(period: Duration) -> Self {
        Self { period: period.max(Duration::from_secs(1)), table: Table::new() }
    }

    /// Judges one call, and counts it if it is admitted.
    pub fn judge(&self, key: &str, ask: Ask) -> Taken {
        let wait = self.ends_in(ask.now);
        self.table.with(key, ask.now, self.period, |sum| {
            let count = sum.weight(ask.now, self.period);
            let remaining = ask.limit.saturating_sub(count);
            if remaining < ask.cost.max(1) {
                return Taken { admitted: false, remaining, wait };
            }
            sum.count = sum.count.saturating_add(ask.cost);
            Taken { admitted: true, remaining: remaining - ask.cost, wait }
        })
    }

    /// Counts without judging.
    pub fn count(&self, key: &str, cost: u64, now: Duration) {
        self.table.with(key, now, self.period, |sum| {
            sum.weight(now, self.period);
            sum.count = sum.count.saturating_add(cost);
        });
    }

    /// How long the present period goes on.
    fn ends_in(&self, now: Duration) -> Duration {
        let into = now.as_millis() % self.period.as_millis();
        self.period - Duration::from_millis(u64::try_from(into).unwrap_or_default())
    }
}

impl Counter for Fixed {
    fn take(&self, key: &str, ask: Ask) -> impl Future<Output = Result<Taken, StoreFailure>> + Send {
        future::ready(Ok(self.judge(key, ask)))
    }

    fn add(&self, key: &str, cost: u64, now: Duration) -> impl Future<Output = Result<(), StoreFailure>> + Send {
        self.count(key, cost, now);
        future::ready(Ok(()))
    }
}

impl Count for Sum {
    fn weight(&mut self, now: Duration, period: Duration) -> u64 {
        let present = u64::try_from(now.as_millis() / period.as_millis().max(1)).unwrap_or(u64::MAX);
        // A thread that looked at the clock a moment earlier must not bring a past period back and forget the present one.
        if present > self.period {
            *self = Self { period: present, count: 0 };
        }
        self.count
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
        assert!(quota.judge("a", at(1, 1, 3_600)).admitted);

        assert!(!quota.judge("a", at(1, 1, 3_599)).admitted);
        assert!(!quota.judge("a", at(1, 1, 3_601)).admitted);
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
            quota.judge(&key.to_string(), at(5, 1, 1));
        }

        assert!(!quota.judge("patient", at(5, 1, 2)).admitted);
    }

    #[test]
    fn a_flood_of_keys_costs_a_stranger_little() {
        let quota = Fixed::new(HOUR);
        for key in 0..super::super::table::CAPACITY * 2 {
            quota.judge(&key.to_string(), at(100, 1, 0));
        }

        assert!(quota.judge("stranger", at(100, 1, 1)).remaining > 80);
    }
}
