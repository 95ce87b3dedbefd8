use super::*;
use crate::entra::{testing::NOW, verify::tests::verified};

const SET: u64 = 1;
const GENERATION: u64 = 0;

/// Makes a token that differs from others in its signature.
fn token(number: usize) -> Vec<u8> {
    format!("head.claims.signature-{number:016}").into_bytes()
}

/// Makes a table in which a thread has room for about fifty such tokens.
fn cache() -> VerifiedTokenCache {
    let cache = VerifiedTokenCache::default();
    cache.set_room(120 << 10, 1, LARGEST);
    cache
}

impl VerifiedTokenCache {
    fn has(&self, number: usize) -> bool {
        self.get(&token(number), 0, SET, GENERATION, NOW).is_some()
    }

    /// Presents each of these tokens; returns the number of verifications.
    fn verifications(&self, numbers: impl Iterator<Item = usize>) -> usize {
        let verified = verified(NOW + 3_600);
        numbers
            .filter(|number| {
                let new = !self.has(*number);
                if new {
                    self.keep(&token(*number), 0, NOW, &verified);
                }
                new
            })
            .count()
    }

    /// Fills a thread's part; returns the number of tokens in it.
    fn fill(&self) -> usize {
        let mut number = 0;
        while self.verifications([number].into_iter()) == 1 && self.has(number) {
            number += 1;
        }
        self.assert_sound();
        number
    }

    fn assert_sound(&self) {
        for worker in 0..SHARDS {
            let shard = self.shard(worker);
            assert!(shard.memory() <= self.room.load(Ordering::Relaxed), "{}", shard.memory());
            assert_eq!(shard.entries.len(), shard.places.len());
            assert!(shard.places.iter().all(|(place, at)| shard.entries[*at].place == *place));
            assert_eq!(shard.held, shard.entries.iter().map(|entry| entry.held).sum::<usize>());
        }
    }
}

#[test]
fn a_token_is_found_by_its_bytes_its_keys_and_its_time() {
    let cache = cache();
    let kept = verified(NOW + 10);
    cache.keep(&token(1), 0, NOW, &kept);
    cache.keep(&token(2), 0, NOW + 10, &kept);

    assert!(Arc::ptr_eq(&cache.get(&token(1), 0, SET, GENERATION, NOW + 9).unwrap(), &kept));
    // The same tail, other bytes before it.
    assert!(cache.get(&[b"x", &*token(1)].concat(), 0, SET, GENERATION, NOW).is_none());
    assert!(cache.get(&token(1), 1, SET, GENERATION, NOW).is_none(), "of another thread");
    assert!(cache.get(&token(1), 0, SET + 1, GENERATION, NOW).is_none(), "by other keys");
    assert!(cache.get(&token(2), 0, SET, GENERATION, NOW).is_none(), "over when it came");
    assert!(cache.get(&token(1), 0, SET, GENERATION + 1, NOW).is_none(), "by newer keys");
    assert!(!cache.has(1), "what no longer serves is gone");
}

#[test]
fn as_many_tokens_as_there_is_room_for_are_verified_once() {
    let cache = cache();
    let room = cache.fill();
    assert!(room > 30, "{room}");

    assert_eq!(cache.verifications((0..room).cycle().take(10 * room)), 0);
}

#[test]
fn tokens_that_come_once_push_out_none_that_are_used() {
    let cache = cache();
    let room = cache.fill();

    let strangers = cache.verifications(10_000..10_000 + 20 * room);
    let regulars = cache.verifications(0..room);

    assert_eq!((strangers, regulars), (20 * room, 0));
    cache.assert_sound();
}

#[test]
fn a_token_that_comes_again_takes_the_place_of_one_that_does_not() {
    let cache = cache();
    let room = cache.fill();
    // Something has to go first, so that the hand has passed all others.
    cache.verifications([10_000, 10_000].into_iter());
    // The first half is used again; then strangers come, one at a time and twice each.
    for _ in 0..3 {
        cache.verifications(0..room / 2);
    }
    for number in 20_000..20_000 + room / 4 {
        assert_eq!(cache.verifications([number; 3].into_iter()), 2);
    }

    assert_eq!(cache.verifications(0..room / 2), 0);
    cache.assert_sound();
}

#[test]
fn less_room_holds_fewer_tokens_and_none_holds_none() {
    let cache = cache();
    let room = cache.fill();

    cache.set_room(25 << 10, 1, LARGEST);
    cache.assert_sound();
    let left = cache.status().tokens as usize;
    assert!(left > 5 && left < room / 2, "{left} of {room}");
    cache.set_room(0, 1, LARGEST);
    assert_eq!(cache.verifications([room; 4].into_iter()), 4);
    assert_eq!(cache.status(), VerifiedTokenCacheStatus { bytes: 0, tokens: 0, ..cache.status() });
}

#[test]
fn the_bound_is_that_of_all_threads_together_and_holds_at_every_moment() {
    const MEMORY: u64 = 1 << 20;
    let cache = VerifiedTokenCache::default();
    cache.set_room(MEMORY, 8, LARGEST);
    let verified = verified(NOW + 3_600);
    for number in 0..40_000_usize {
        // Of all lengths, so that one takes the place of several and several that of one.
        let mut token = vec![b'a'; number * 977 % 5_000];
        token.extend_from_slice(&super::tests::token(number / 2));
        cache.keep(&token, number / 2 % 8, NOW, &verified);
        if number % 1_000 == 0 {
            cache.assert_sound();
            assert!(cache.status().bytes <= MEMORY);
        }
    }

    let status = cache.status();
    assert!(status.bytes > MEMORY / 2 && status.bytes <= MEMORY, "{status:?}");
    // Fewer threads: what the others held is gone.
    cache.set_room(MEMORY, 2, LARGEST);
    cache.assert_sound();
    assert!((2..SHARDS).all(|worker| cache.shard(worker).entries.is_empty()));
}

#[test]
fn a_token_that_is_longer_than_told_or_too_much_for_its_thread_is_not_kept() {
    let cache = VerifiedTokenCache::default();
    let kept = verified(NOW + 3_600);
    for (row, memory, length, expected) in [
        ("short", MEMORY, 100, 1),
        ("as long as told", MEMORY, 8 << 10, 1),
        ("longer", MEMORY, (8 << 10) + 1, 0),
        ("too much", 30 << 10, 8 << 10, 0),
    ] {
        cache.set_room(0, 1, LARGEST);
        cache.set_room(memory, 1, LARGEST);
        cache.keep(&vec![b'a'; length], 0, NOW, &kept);

        assert_eq!(cache.status().tokens, expected, "{row}");
    }
}

#[test]
fn what_has_expired_goes_first() {
    let cache = cache();
    let room = cache.fill();
    cache.verifications(0..room);

    // All were used, and all are over by then.
    let later = verified(NOW + 10_000);
    for _ in 0..2 {
        cache.keep(&token(10_000), 0, NOW + 3_600, &later);
    }

    assert!(cache.get(&token(10_000), 0, SET, GENERATION, NOW + 3_600).is_some());
    cache.assert_sound();
}

#[test]
fn tokens_of_keys_that_are_gone_are_let_go() {
    let cache = cache();
    let room = cache.fill();
    let mut other = (*verified(NOW + 3_600)).clone();
    other.set = SET + 1;
    cache.keep(&token(3), 1, NOW, &Arc::new(other));

    cache.retain(&[SET + 1]);

    assert_eq!(cache.status().tokens, 1);
    assert!(!(0..room).any(|number| cache.has(number)));
    cache.assert_sound();
}
