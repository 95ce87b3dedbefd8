//! Tokens whose signatures were verified: seen again, they need not be verified again.
//!
//! What is kept is that a signature held, never that a token was let in: audience, time and claims are judged for each request.
//! The whole token is compared, so nothing but the very bytes that were verified is ever found.

use std::{
    collections::HashMap,
    hash::{BuildHasherDefault, Hasher},
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use super::verify::Verified;

use crate::lock::lock;

/// How many shards there are: one for each thread, on any machine of a usual size.
const SHARDS: usize = 64;
/// How many tokens a shard keeps, unless it is told otherwise.
pub(crate) const ROOM: usize = 16_384;

/// The verified tokens of one key set, in shards by the thread that asks, so that no thread waits for another.
pub(crate) struct Seen {
    shards: Box<[Mutex<Shard>]>,
    /// How many tokens each shard has room for.
    room: AtomicUsize,
}

/// The tokens of one thread, at most so many. Where there is no room, a token goes that was not asked for since the hand last
/// passed it (CLOCK).
///
/// Kept on cache lines of its own, so that the threads' locks do not share one.
#[derive(Default)]
#[repr(align(128))]
struct Shard {
    /// Where a token stands among the entries, by its tail.
    places: HashMap<u64, usize, BuildHasherDefault<Tail>>,
    entries: Vec<Entry>,
    /// The entry that is looked at next when room is needed.
    hand: usize,
    /// The tails of tokens that came while there was no room, each in the one place that it may have. Only one that comes again
    /// takes another's entry: tokens that are used once and never again push nobody out.
    met: Box<[u64]>,
}

struct Entry {
    tail: u64,
    bytes: Box<[u8]>,
    generation: u64,
    verified: Arc<Verified>,
    /// It was asked for since the hand last passed it.
    used: bool,
}

impl Entry {
    fn serves(&self, generation: u64, now: u64) -> bool {
        self.generation == generation && self.verified.token.expires_at > now
    }
}

/// The hash of a token is its own tail, see [`tail`].
#[derive(Default)]
struct Tail(u64);

impl Hasher for Tail {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(*byte);
        }
    }

    fn write_u64(&mut self, value: u64) {
        self.0 = spread(value);
    }
}

/// Spreads the bits of a tail over all of the number: tables take their places from some of them.
const fn spread(tail: u64) -> u64 {
    tail.wrapping_mul(0x9E37_79B9_7F4A_7C15)
}

/// Where a token stands in the table: its last bytes, which are the signature's. Only tokens with a good signature are kept, and
/// nobody but the issuer chooses what a good signature looks like, so nobody can pile tokens up in one place. Two tokens with one
/// tail take turns; a lookup compares every byte.
fn tail(token: &[u8]) -> Option<u64> {
    let last: &[u8; 16] = token.last_chunk()?;
    // Sixteen letters of base64url hold 96 bits, six in each byte.
    Some(last.iter().fold(0_u64, |hash, byte| hash.rotate_left(7) ^ u64::from(*byte)))
}

impl Seen {
    /// What was found of this token, if it was verified under this generation of the keys and has not expired.
    pub(crate) fn get(&self, token: &[u8], worker: usize, generation: u64, now: u64) -> Option<Arc<Verified>> {
        let mut shard = self.shard(worker);
        let at = *shard.places.get(&tail(token)?)?;
        let entry = &mut shard.entries[at];
        if *entry.bytes != *token {
            return None;
        }
        if !entry.serves(generation, now) {
            shard.remove(at);
            return None;
        }
        entry.used = true;
        Some(entry.verified.clone())
    }

    /// Keeps a token that was verified under this generation of the keys.
    pub(crate) fn keep(&self, token: &[u8], worker: usize, generation: u64, now: u64, verified: &Arc<Verified>) {
        let Some(tail) = tail(token) else { return };
        if verified.token.expires_at <= now {
            return;
        }
        let room = self.room.load(Ordering::Relaxed);
        let mut shard = self.shard(worker);
        shard.shrink(room);
        let place = match shard.places.get(&tail).copied() {
            Some(place) => place,
            None if shard.entries.len() < room => shard.entries.len(),
            None if room > 0 && shard.meets(tail, room) => shard.make_room(generation, now),
            None => return,
        };
        let entry = Entry { tail, bytes: token.into(), generation, verified: verified.clone(), used: false };
        shard.places.insert(tail, place);
        match shard.entries.get_mut(place) {
            Some(taken) => *taken = entry,
            None => shard.entries.push(entry),
        }
    }

    /// Gives each thread room for so many tokens from now on.
    pub(crate) fn set_room(&self, tokens: usize) {
        self.room.store(tokens, Ordering::Relaxed);
        for worker in 0..SHARDS {
            self.shard(worker).shrink(tokens);
        }
    }

    fn shard(&self, worker: usize) -> std::sync::MutexGuard<'_, Shard> {
        lock(&self.shards[worker % SHARDS])
    }
}

impl Shard {
    fn remove(&mut self, at: usize) {
        let gone = self.entries.swap_remove(at);
        self.places.remove(&gone.tail);
        if let Some(moved) = self.entries.get(at) {
            self.places.insert(moved.tail, at);
        }
    }

    /// Lets go of what there is no room for any more.
    fn shrink(&mut self, room: usize) {
        if self.entries.len() > room {
            for gone in self.entries.drain(room..) {
                self.places.remove(&gone.tail);
            }
            self.met = Box::default();
        }
    }

    /// Whether a token of this tail came lately, and could not be kept then.
    fn meets(&mut self, tail: u64, room: usize) -> bool {
        if self.met.is_empty() {
            self.met = vec![0; room].into();
        }
        let place = usize::try_from(spread(tail) >> 32).unwrap_or_default() % self.met.len();
        std::mem::replace(&mut self.met[place], tail) == tail
    }

    /// Frees an entry: the next one that serves no more, or was not used since the hand last passed it.
    fn make_room(&mut self, generation: u64, now: u64) -> usize {
        loop {
            let at = self.hand % self.entries.len();
            self.hand = at + 1;
            let entry = &mut self.entries[at];
            if std::mem::take(&mut entry.used) && entry.serves(generation, now) {
                continue;
            }
            self.places.remove(&entry.tail);
            return at;
        }
    }
}

impl Default for Seen {
    fn default() -> Self {
        Self { shards: (0..SHARDS).map(|_| Mutex::default()).collect(), room: ROOM.into() }
    }
}

impl std::fmt::Debug for Seen {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Seen").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entra::{testing::NOW, verify::tests::verified};

    const ROOM: usize = 100;

    fn seen() -> Seen {
        Seen { room: ROOM.into(), ..Seen::default() }
    }

    /// A token that differs from others where signatures do.
    fn token(number: usize) -> Vec<u8> {
        format!("head.claims.signature-{number:016}").into_bytes()
    }

    impl Seen {
        /// A request with each of these tokens: how many had to be verified.
        fn verifications(&self, numbers: impl Iterator<Item = usize>) -> usize {
            let verified = verified(NOW + 3_600);
            numbers
                .filter(|number| {
                    let new = self.get(&token(*number), 0, 1, NOW).is_none();
                    if new {
                        self.keep(&token(*number), 0, 1, NOW, &verified);
                    }
                    new
                })
                .count()
        }
    }

    #[test]
    fn a_token_is_found_by_its_bytes_its_keys_and_its_time() {
        let seen = seen();
        let kept = verified(NOW + 10);
        seen.keep(&token(1), 0, 7, NOW, &kept);
        seen.keep(&token(2), 0, 7, NOW + 10, &kept);

        assert!(Arc::ptr_eq(&seen.get(&token(1), 0, 7, NOW + 9).unwrap(), &kept));
        // The same tail, other bytes before it.
        assert!(seen.get(&[b"x", &*token(1)].concat(), 0, 7, NOW).is_none());
        assert!(seen.get(&token(1), 1, 7, NOW).is_none());
        assert!(seen.get(&token(2), 0, 7, NOW).is_none());
        assert!(seen.get(&token(1), 0, 8, NOW).is_none());
        assert!(seen.get(&token(1), 0, 7, NOW).is_none(), "what no longer serves is gone");
    }

    #[test]
    fn as_many_tokens_as_there_is_room_for_are_verified_once() {
        let seen = seen();

        assert_eq!(seen.verifications((0..ROOM).cycle().take(10 * ROOM)), ROOM);
    }

    #[test]
    fn tokens_that_come_once_push_out_none_that_are_used() {
        let seen = seen();
        seen.verifications(0..ROOM);

        let strangers = seen.verifications(ROOM..20 * ROOM);
        let regulars = seen.verifications(0..ROOM);

        assert_eq!((strangers, regulars), (19 * ROOM, 0));
    }

    #[test]
    fn a_token_that_comes_again_takes_the_place_of_one_that_does_not() {
        let seen = seen();
        seen.verifications(0..ROOM);
        // The first half is used again; then strangers come, one at a time and twice each.
        seen.verifications(0..ROOM / 2);
        for number in ROOM..ROOM + ROOM / 2 {
            assert_eq!(seen.verifications([number; 3].into_iter()), 2);
        }

        assert_eq!(seen.verifications(0..ROOM / 2), 0);
        let shard = seen.shard(0);
        assert_eq!((shard.entries.len(), shard.places.len()), (ROOM, ROOM));
        assert!(shard.places.iter().all(|(tail, at)| shard.entries[*at].tail == *tail));
    }

    #[test]
    fn less_room_holds_fewer_tokens_and_none_holds_none() {
        let seen = seen();
        seen.verifications(0..ROOM);

        seen.set_room(ROOM / 4);
        assert_eq!(seen.verifications([0, ROOM].into_iter()), 1);
        assert_eq!(seen.shard(0).entries.len(), ROOM / 4);
        assert_eq!(seen.verifications(0..ROOM / 4), 0);
        seen.set_room(0);
        assert_eq!(seen.verifications([ROOM; 4].into_iter()), 4);
        assert!(seen.shard(0).entries.is_empty());
    }

    #[test]
    fn what_no_longer_serves_goes_first() {
        let seen = seen();
        seen.verifications(0..ROOM);
        seen.verifications(0..ROOM);

        // Newer keys: every entry is of no use, used or not.
        let kept = verified(NOW + 3_600);
        for _ in 0..2 {
            seen.keep(&token(ROOM), 0, 2, NOW, &kept);
        }

        assert!(seen.get(&token(ROOM), 0, 2, NOW).is_some());
        assert_eq!(seen.shard(0).hand, 1);
    }
}
