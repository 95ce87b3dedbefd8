//! The pauses between attempts.

use std::time::Duration;

/// The first pause, and the longest.
const FIRST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(60);
/// The longest pause that a receiver may ask for.
const LONGEST_ASKED: Duration = Duration::from_secs(600);

/// The pauses between attempts: from a second to a minute, the double each time, with jitter; or as long as the receiver asks for.
#[derive(Debug, Default)]
pub(super) struct Backoff {
    failures: u32,
}

impl Backoff {
    /// Notes a success.
    pub(super) const fn reset(&mut self) {
        self.failures = 0;
    }

    /// Returns the next pause. `random` is between 0 and 1.
    pub(super) fn next(&mut self, asked: Option<Duration>, random: f64) -> Duration {
        let own = FIRST.saturating_mul(1 << self.failures.min(6)).min(LONGEST);
        self.failures = self.failures.saturating_add(1);
        match asked {
            // Everybody whom the receiver sent away comes back a little later than it said, and not at once.
            Some(asked) => asked.min(LONGEST_ASKED) + Duration::from_secs_f64(random),
            None => own.mul_f64(0.5 + random / 2.0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_a_minute_and_a_receiver_that_names_one_gets_it() {
        let mut backoff = Backoff::default();
        let pauses: Vec<_> = (0..8).map(|_| backoff.next(None, 1.0).as_secs()).collect();
        assert_eq!(pauses, [1, 2, 4, 8, 16, 32, 60, 60]);
        assert_eq!(backoff.next(None, 0.0), Duration::from_secs(30));
        assert_eq!(backoff.next(Some(Duration::from_secs(7)), 0.5), Duration::from_millis(7_500));
        assert_eq!(backoff.next(Some(Duration::from_secs(86_400)), 0.0), Duration::from_secs(600));

        backoff.reset();

        assert_eq!(backoff.next(None, 1.0).as_secs(), 1);
    }
}
