//! Knowledge of a gateway that takes no question to the store: calls that it has taken ahead, and callers that have reached their limit.
//!
//! Calls that are taken ahead count, in the store, as if they came when the time to use them is over. So a limit is never exceeded,
//! wherever and whenever in that time they are used; it may be reached early by what another gateway holds and does not use. What is
//! left at the end is given back with the next question.

use std::{
    collections::HashMap,
    sync::Mutex,
    time::{Duration, Instant},
};

use super::Name;
use crate::{base::lock::lock, limits::Taken};

/// The number of locks.
const SHARDS: usize = 16;
/// The maximum number of callers of a shard. Whoever is forgotten is asked for again, and loses what was taken ahead.
const MOST: usize = 4_096;
/// The time after which a caller may be forgotten.
const REST: Duration = Duration::from_secs(10);
/// The longest time for which a reached limit is believed: it may be free earlier after all, as when a store was emptied.
const BELIEVED: Duration = Duration::from_secs(1);

/// Knowledge of the callers of a policy.
#[derive(Debug)]
pub(super) struct Ahead {
    shards: Box<[Mutex<HashMap<Name, Known>>]>,
    /// The number of calls to take ahead; 0: none.
    calls: u64,
    /// The time for which they may be used.
    hold: Duration,
    /// True if a reached limit cannot be free earlier than it was said.
    remembers: bool,
}

#[derive(Debug)]
struct Known {
    /// The time of the last call.
    seen: Instant,
    lease: Option<Lease>,
    /// The time until which a question for more is under way.
    asking: Option<Instant>,
    /// The time until which the limit is reached, and what was said about it.
    reached: Option<(Instant, Reached)>,
}

#[derive(Clone, Copy, Debug)]
struct Reached {
    remaining: u64,
    /// The time when there is room.
    frees: Instant,
}

/// Calls that were taken ahead.
#[derive(Clone, Copy, Debug)]
struct Lease {
    left: u64,
    /// The remaining amount beyond it.
    beyond: u64,
    until: Instant,
    /// The time that they were counted at, by the store's clock.
    at: i64,
}

/// The next step for a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// It is admitted or refused without a question; admitted ones were counted at this time.
    Known(Taken, i64),
    /// The store is asked: for this many more calls, and with what is given back.
    Ask { ahead: u64, back: (i64, u64) },
}

impl Ahead {
    pub(super) fn new(calls: u64, hold: Duration, remembers: bool) -> Self {
        Self { shards: (0..SHARDS).map(|_| Mutex::default()).collect(), calls, hold, remembers }
    }

    /// Returns the time for which calls that are taken ahead may be used.
    pub(super) const fn hold(&self) -> Duration {
        self.hold
    }

    /// Decides on a call, or on the question to the store.
    pub(super) fn before(&self, name: &Name, cost: u64, now: Instant) -> Next {
        let mut shard = lock(&self.shards[usize::from(name[0]) % SHARDS]);
        make_room(&mut shard, now);
        let known = shard.entry(*name).or_insert(Known { seen: now, lease: None, asking: None, reached: None });
        // A caller that comes rarely needs nothing ahead.
        let is_busy = now > known.seen && now - known.seen < self.hold;
        known.seen = now;
        if let Some((until, reached)) = known.reached {
            if now < until {
                let wait = reached.frees.saturating_duration_since(now);
                return Next::Known(Taken { admitted: false, remaining: reached.remaining, wait }, 0);
            }
            known.reached = None;
        }
        let mut back = (0, 0);
        if let Some(lease) = &mut known.lease {
            if now < lease.until && cost > 0 && lease.left >= cost {
                lease.left -= cost;
                let wait = lease.until - now;
                return Next::Known(Taken { admitted: true, remaining: lease.left + lease.beyond, wait }, lease.at);
            }
            if now >= lease.until {
                back = (lease.at, lease.left);
                known.lease = None;
            }
        }
        let wants =
            self.calls > 0 && cost > 0 && is_busy && known.lease.is_none() && known.asking.is_none_or(|until| now >= until);
        if wants {
            known.asking = Some(now + BELIEVED);
        }
        Next::Ask { ahead: if wants { self.calls } else { 0 }, back }
    }

    /// Notes the store's answer to a question that was asked at `then`.
    pub(super) fn after(&self, name: &Name, taken: Taken, (ahead, at): (u64, i64), then: Instant) {
        let mut shard = lock(&self.shards[usize::from(name[0]) % SHARDS]);
        let Some(known) = shard.get_mut(name) else { return };
        known.asking = None;
        if ahead > 0 {
            // Counted from the question: the store's time begins later.
            known.lease = Some(Lease { left: ahead, beyond: taken.remaining, until: then + self.hold.min(taken.wait), at });
        }
        if !taken.admitted && self.remembers {
            let reached = Reached { remaining: taken.remaining, frees: then + taken.wait };
            known.reached = Some((then + taken.wait.min(BELIEVED), reached));
        }
    }
}

/// Forgets callers that have not called for a while; all of them if there are too many otherwise.
fn make_room(shard: &mut HashMap<Name, Known>, now: Instant) {
    if shard.len() >= MOST {
        shard.retain(|_, known| now.saturating_duration_since(known.seen) < REST);
        if shard.len() >= MOST {
            shard.clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOLD: Duration = Duration::from_secs(2);
    const NAME: Name = [7; 16];

    fn admitted(remaining: u64) -> Taken {
        Taken { admitted: true, remaining, wait: Duration::from_mins(1) }
    }

    #[test]
    fn busy_callers_take_ahead_and_give_back_what_is_left() {
        let (ahead, start) = (Ahead::new(10, HOLD, true), Instant::now());
        assert_eq!(ahead.before(&NAME, 1, start), Next::Ask { ahead: 0, back: (0, 0) }, "the first call");
        ahead.after(&NAME, admitted(99), (0, 5), start);
        let second = start + Duration::from_millis(1);
        assert_eq!(ahead.before(&NAME, 1, second), Next::Ask { ahead: 10, back: (0, 0) });
        assert_eq!(ahead.before(&NAME, 1, second), Next::Ask { ahead: 0, back: (0, 0) }, "while the other one asks");
        ahead.after(&NAME, admitted(88), (10, 1_000), second);

        for left in (6..10).rev() {
            let Next::Known(taken, 1_000) = ahead.before(&NAME, 1, second) else { panic!("it was taken ahead") };
            assert!(taken.admitted && taken.remaining == 88 + left);
        }
        assert_eq!(ahead.before(&NAME, 7, second), Next::Ask { ahead: 0, back: (0, 0) }, "more than is left");
        assert_eq!(ahead.before(&NAME, 0, second), Next::Ask { ahead: 0, back: (0, 0) }, "one that only asks");
        assert_eq!(ahead.before(&NAME, 1, second + HOLD), Next::Ask { ahead: 0, back: (1_000, 6) }, "after the time to use them");
        assert_eq!(ahead.before(&NAME, 1, second + HOLD * 2), Next::Ask { ahead: 0, back: (0, 0) }, "given back once");
    }

    #[test]
    fn what_is_left_of_a_period_bounds_the_time_to_use_calls() {
        let (ahead, start) = (Ahead::new(10, HOLD, true), Instant::now());
        ahead.before(&NAME, 1, start);
        let second = start + Duration::from_millis(1);
        assert!(matches!(ahead.before(&NAME, 1, second), Next::Ask { ahead: 10, .. }));
        let wait = Duration::from_millis(100);
        ahead.after(&NAME, Taken { wait, ..admitted(0) }, (10, 3), second);

        assert!(matches!(ahead.before(&NAME, 1, second + wait - Duration::from_millis(1)), Next::Known(..)));
        assert!(matches!(ahead.before(&NAME, 1, second + wait), Next::Ask { back: (3, 9), .. }));
    }

    #[test]
    fn a_reached_limit_is_believed_for_a_second_at_most() {
        let now = Instant::now();
        let refused = Taken { admitted: false, remaining: 0, wait: Duration::from_secs(50) };
        for (remembers, believed) in [(true, true), (false, false)] {
            let ahead = Ahead::new(0, HOLD, remembers);
            ahead.before(&NAME, 1, now);
            ahead.after(&NAME, refused, (0, 0), now);

            let next = ahead.before(&NAME, 1, now + Duration::from_millis(999));
            let wait = Duration::from_millis(49_001);
            let known = Next::Known(Taken { wait, ..refused }, 0);
            assert_eq!(next, if believed { known } else { Next::Ask { ahead: 0, back: (0, 0) } });
            assert!(matches!(ahead.before(&NAME, 1, now + BELIEVED), Next::Ask { .. }));
        }
    }

    #[test]
    fn memory_is_bounded() {
        let (ahead, now) = (Ahead::new(10, HOLD, true), Instant::now());
        for number in 0_u32..200_000 {
            let mut name = NAME;
            name[..4].copy_from_slice(&number.to_le_bytes());
            ahead.before(&name, 1, now);
        }

        assert!(ahead.shards.iter().all(|shard| lock(shard).len() <= MOST));
    }
}
