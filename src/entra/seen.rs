//! Tokens whose signatures were verified: seen again, they need not be verified again.
//!
//! What is kept is that a signature held, never that a token was let in: audience, time and claims are judged for each request.
//! The whole token is compared, so nothing but the very bytes that were verified is ever found.

use std::{
    collections::HashMap,
    hash::{BuildHasherDefault, Hasher},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
};

use super::verify::Verified;

/// How many shards there are: one for each thread, on any machine of a usual size.
const SHARDS: usize = 64;
/// How many tokens a shard keeps, unless the config says otherwise.
const TOKENS_PER_SHARD: usize = 2_048;

/// The verified tokens of one key set, in shards by the thread that asks, so that no thread waits for another.
pub(crate) struct Seen {
    shards: Box<[Mutex<Shard>]>,
    /// How many tokens a shard keeps.
    most: AtomicUsize,
}

/// Kept on cache lines of its own, so that the threads' locks do not share one.
#[derive(Default)]
#[repr(align(128))]
struct Shard {
    tokens: HashMap<u64, Entry, BuildHasherDefault<Tail>>,
}

struct Entry {
    bytes: Box<[u8]>,
    generation: u64,
    verified: Arc<Verified>,
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
        // The table takes its buckets from the low bits and its tags from the high ones; spread the tail's bits over both.
        self.0 = value.wrapping_mul(0x9E37_79B9_7F4A_7C15);
    }
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
        let place = tail(token)?;
        let entry = shard.tokens.get(&place)?;
        if *entry.bytes != *token {
            return None;
        }
        if entry.generation != generation || entry.verified.token.expires_at <= now {
            shard.tokens.remove(&place);
            return None;
        }
        Some(entry.verified.clone())
    }

    /// Keeps a token that was verified under this generation of the keys.
    pub(crate) fn keep(&self, token: &[u8], worker: usize, generation: u64, now: u64, verified: Arc<Verified>) {
        let Some(place) = tail(token) else { return };
        let most = self.most.load(Ordering::Relaxed);
        if verified.token.expires_at <= now || most == 0 {
            return;
        }
        let mut shard = self.shard(worker);
        if shard.tokens.len() >= most && !shard.tokens.contains_key(&place) {
            shard.tokens.retain(|_, entry| entry.generation == generation && entry.verified.token.expires_at > now);
            if shard.tokens.len() >= most {
                // Full of live ones: start anew. Each of them costs one verification to come back.
                shard.tokens.clear();
            }
        }
        shard.tokens.insert(place, Entry { bytes: token.into(), generation, verified });
    }

    /// Sets how many tokens a shard keeps; without a word about it the usual number. Shards that hold more begin anew.
    pub(crate) fn keep_at_most(&self, tokens: Option<usize>) {
        let most = tokens.unwrap_or(TOKENS_PER_SHARD);
        if self.most.swap(most, Ordering::Relaxed) > most {
            for worker in 0..SHARDS {
                self.shard(worker).tokens.clear();
            }
        }
    }

    fn shard(&self, worker: usize) -> std::sync::MutexGuard<'_, Shard> {
        self.shards[worker % SHARDS].lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Default for Seen {
    fn default() -> Self {
        Self { shards: (0..SHARDS).map(|_| Mutex::default()).collect(), most: AtomicUsize::new(TOKENS_PER_SHARD) }
    }
}

impl std::fmt::Debug for Seen {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Seen").finish_non_exhaustive()
    }
}
