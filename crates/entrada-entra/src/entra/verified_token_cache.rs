//! A cache of tokens that were verified and accepted by a policy, so that their signatures need not be verified again.
//!
//! The cache holds the fact that a signature was valid, never that a token was admitted: audience, time and claims are checked
//! for each request. The whole token is compared, so that only the very bytes that were verified are found. A token that no
//! policy accepts is not kept: Entra signs the tokens of all tenants with the same keys, so a stranger's token verifies as well.
//!
//! There is one table for the whole process, for all tenants, issuers and policies and across reloads, and it is bounded in
//! bytes.

use std::{
    collections::HashMap,
    hash::{BuildHasherDefault, Hasher},
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicUsize, Ordering},
    },
};

use super::{footprint::block, verify::Verified};
use crate::base::lock::lock;

/// The number of shards: one per thread on machines of usual size.
const SHARDS: usize = 64;
/// The default memory limit of the table, in bytes.
pub(crate) const MEMORY: u64 = 64 << 20;
/// The default length limit of a cached token, in bytes.
pub(crate) const LARGEST: u64 = 8 << 10;
/// The largest part of a thread's memory that one token may take; a larger token would evict all others.
const PART: usize = 4;
/// The memory, in bytes, per remembered tail of a token that found no room.
const BYTES_PER_PROBATION_SLOT: usize = 4 << 10;
const MOST_PROBATION_SLOTS: usize = 1 << 16;

/// The verified tokens of the process, in shards by thread, so that no thread waits for another.
pub struct VerifiedTokenCache {
    shards: Box<[Mutex<Shard>]>,
    /// The memory limit of each shard, in bytes.
    room: AtomicUsize,
    /// The length limit of a cached token, in bytes.
    largest: AtomicUsize,
}

/// The content of the table, and its hits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct VerifiedTokenCacheStatus {
    /// The number of cached tokens.
    pub tokens: u64,
    /// The memory that they take, with all their data.
    pub bytes: u64,
    /// The number of hits: tokens whose signature was not verified again.
    pub found: u64,
    /// The number of signature verifications.
    pub verified: u64,
}

/// The tokens of one thread. Where there is no room, a token is evicted that was not used since the clock hand last passed it
/// (CLOCK).
///
/// Aligned to its own cache lines, so that the threads' locks do not share one.
#[derive(Default)]
#[repr(align(128))]
struct Shard {
    /// The index of each token among the entries, by its [`place`].
    places: HashMap<u64, usize, BuildHasherDefault<IdentityHasher>>,
    entries: Vec<Entry>,
    /// The memory that the entries point to.
    held: usize,
    /// The next entry to be examined when room is needed.
    clock_hand: usize,
    /// The places of tokens that came while there was no room, one slot for each. Only a token that comes again may evict others:
    /// tokens that are used just once evict nothing.
    probation: Box<[u64]>,
    found: u64,
    verified: u64,
}

struct Entry {
    place: u64,
    bytes: Box<[u8]>,
    verified: Arc<Verified>,
    /// The memory of the entry.
    held: usize,
    /// True if it was used since the hand last passed it.
    touched: bool,
}

/// A hasher that returns the place itself, see [`place`].
#[derive(Default)]
struct IdentityHasher(u64);

impl Hasher for IdentityHasher {
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

/// Spreads the bits of a number, since tables use only some of them.
const fn spread(number: u64) -> u64 {
    number.wrapping_mul(0x9E37_79B9_7F4A_7C15)
}

/// Returns the place of a token in the table: its last bytes, which belong to the signature, combined with the key set. Only
/// tokens with a valid signature are kept, and only the issuer determines valid signatures, so nobody can accumulate tokens in
/// one place. Two tokens of the same place replace each other; a lookup compares every byte.
fn place(token: &[u8], set: u64) -> Option<u64> {
    let last: &[u8; 16] = token.last_chunk()?;
    // Sixteen letters of base64url hold 96 bits, six in each byte.
    Some(last.iter().fold(spread(set), |hash, byte| hash.rotate_left(7) ^ u64::from(*byte)))
}

impl VerifiedTokenCache {
    /// Returns the cached result for this token, if this key set verified it in this generation and it has not expired.
    pub(crate) fn get(&self, token: &[u8], worker: usize, set: u64, generation: u64, now: u64) -> Option<Arc<Verified>> {
        let mut shard = self.shard(worker);
        let at = *shard.places.get(&place(token, set)?)?;
        let entry = &mut shard.entries[at];
        if *entry.bytes != *token || entry.verified.set != set {
            return None;
        }
        if entry.verified.generation != generation || entry.verified.token.expires_at <= now {
            shard.remove(at);
            return None;
        }
        entry.touched = true;
        let verified = entry.verified.clone();
        shard.found += 1;
        Some(verified)
    }

    /// Keeps a token that a policy has accepted.
    pub fn keep(&self, token: &[u8], worker: usize, now: u64, verified: &Arc<Verified>) {
        let Some(place) = place(token, verified.set) else { return };
        if verified.token.expires_at <= now || token.len() > self.largest.load(Ordering::Relaxed) {
            return;
        }
        let room = self.room.load(Ordering::Relaxed);
        let mut shard = self.shard(worker);
        let known = shard.places.get(&place).copied();
        if known.is_some_and(|at| Arc::ptr_eq(&shard.entries[at].verified, verified)) {
            return;
        }
        let held = block(token.len()) + verified.memory();
        if held > room / PART {
            return;
        }
        if let Some(at) = known {
            shard.remove(at);
        } else if !shard.has_room(held, room) && !shard.was_on_probation(place, room) {
            return;
        }
        if shard.make_room(held, room, now) {
            let at = shard.entries.len();
            shard.places.insert(place, at);
            shard.held += held;
            shard.entries.push(Entry { place, bytes: token.into(), verified: verified.clone(), held, touched: false });
        }
    }

    /// Counts a signature verification.
    pub(crate) fn count_verification(&self, worker: usize) {
        self.shard(worker).verified += 1;
    }

    /// Sets the memory of the table, divided among this many threads, and the length limit of cached tokens.
    pub(crate) fn set_room(&self, memory: u64, workers: usize, largest: u64) {
        let room = usize::try_from(memory).unwrap_or(usize::MAX) / workers.clamp(1, SHARDS);
        self.room.store(room, Ordering::Relaxed);
        self.largest.store(usize::try_from(largest).unwrap_or(usize::MAX), Ordering::Relaxed);
        for worker in 0..SHARDS {
            // A thread's part may have changed: shards of threads that there are no more hold nothing.
            let room = if worker < workers { room } else { 0 };
            self.shard(worker).shrink(room);
        }
    }

    /// Drops the tokens of all other key sets.
    pub(crate) fn retain(&self, sets: &[u64]) {
        for worker in 0..SHARDS {
            let mut shard = self.shard(worker);
            let mut at = 0;
            while let Some(entry) = shard.entries.get(at) {
                if sets.contains(&entry.verified.set) {
                    at += 1;
                } else {
                    shard.remove(at);
                }
            }
        }
    }

    /// Returns the content of the table, and its hits.
    pub(crate) fn status(&self) -> VerifiedTokenCacheStatus {
        (0..SHARDS).fold(VerifiedTokenCacheStatus::default(), |sum, worker| {
            let shard = self.shard(worker);
            VerifiedTokenCacheStatus {
                tokens: sum.tokens + shard.entries.len() as u64,
                bytes: sum.bytes + shard.memory() as u64,
                found: sum.found + shard.found,
                verified: sum.verified + shard.verified,
            }
        })
    }

    fn shard(&self, worker: usize) -> MutexGuard<'_, Shard> {
        lock(&self.shards[worker % SHARDS])
    }
}

impl Shard {
    /// Returns the total memory of the shard.
    fn memory(&self) -> usize {
        self.held + tables(self.entries.capacity(), self.places.capacity()) + size_of_val(&*self.probation)
    }

    /// Returns whether one more entry with this memory fits, even if the tables have to grow for it.
    fn has_room(&self, held: usize, room: usize) -> bool {
        let grown = |capacity: usize, length: usize| if length < capacity { capacity } else { (capacity * 2).max(4) };
        let entries = grown(self.entries.capacity(), self.entries.len());
        let places = grown(self.places.capacity(), self.places.len());
        self.held + held + tables(entries, places) + probation_slots(room) * size_of::<u64>() <= room
    }

    fn remove(&mut self, at: usize) {
        let gone = self.entries.swap_remove(at);
        self.held -= gone.held;
        self.places.remove(&gone.place);
        if let Some(moved) = self.entries.get(at) {
            self.places.insert(moved.place, at);
        }
    }

    /// Drops the entries that no longer fit.
    fn shrink(&mut self, room: usize) {
        if self.probation.len() != probation_slots(room) {
            self.probation = Box::default();
        }
        while self.memory() > room && !self.entries.is_empty() {
            // Several at once, for the tables are made anew each time.
            for _ in 0..self.entries.len().div_ceil(8) {
                self.remove(self.entries.len() - 1);
            }
            self.entries.shrink_to_fit();
            self.places.shrink_to_fit();
        }
        if self.entries.is_empty() {
            self.entries = Vec::new();
            self.places = HashMap::default();
        }
    }

    /// Returns whether a token of this place came lately, and could not be kept then.
    fn was_on_probation(&mut self, place: u64, room: usize) -> bool {
        if self.probation.len() != probation_slots(room) {
            self.probation = vec![0; probation_slots(room)].into();
        }
        let slots = self.probation.len();
        // Without a slot to remember it in, a token is as good as remembered.
        let Some(slot) =
            usize::try_from(spread(place) >> 32).ok().and_then(|number| self.probation.get_mut(number % slots.max(1)))
        else {
            return true;
        };
        std::mem::replace(slot, place) == place
    }

    /// Removes entries until another one fits: those that have expired, or were not used since the hand last passed them.
    fn make_room(&mut self, held: usize, room: usize, now: u64) -> bool {
        while !self.has_room(held, room) {
            if self.entries.is_empty() {
                // What is left are tables that were once larger.
                self.shrink(0);
                return self.has_room(held, room);
            }
            self.clock_hand %= self.entries.len();
            let entry = &mut self.entries[self.clock_hand];
            if std::mem::take(&mut entry.touched) && entry.verified.token.expires_at > now {
                self.clock_hand += 1;
            } else {
                // The last entry moves here, and is looked at next.
                self.remove(self.clock_hand);
            }
        }
        true
    }
}

/// Returns the memory of the tables themselves, for this many entries and places (of eight buckets seven are used).
const fn tables(entries: usize, places: usize) -> usize {
    let buckets = places.div_ceil(7) * 8;
    block(entries * size_of::<Entry>()) + block(buckets * (size_of::<(u64, usize)>() + 1))
}

const fn probation_slots(room: usize) -> usize {
    let slots = room / BYTES_PER_PROBATION_SLOT;
    if slots > MOST_PROBATION_SLOTS { MOST_PROBATION_SLOTS } else { slots }
}

impl Default for VerifiedTokenCache {
    fn default() -> Self {
        Self {
            shards: (0..SHARDS).map(|_| Mutex::default()).collect(),
            room: (MEMORY as usize / SHARDS).into(),
            largest: (LARGEST as usize).into(),
        }
    }
}

impl std::fmt::Debug for VerifiedTokenCache {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("VerifiedTokenCache").field("status", &self.status()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
