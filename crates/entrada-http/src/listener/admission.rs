//! Admission of connections: the limit of concurrent connections, the limit per peer, and the choice of connections to close when
//! the listener is full.
//!
//! Requests touch nothing here, except one word of each connection with the time since which it is idle. When the listener is
//! full, the accepting thread searches all workers' connections for those that have been idle longest, and remembers some of
//! them, so that the search stays cheap even during a flood of connections.

use std::{
    collections::{BinaryHeap, HashMap, VecDeque, hash_map::RandomState},
    hash::BuildHasher,
    net::IpAddr,
    sync::{
        Arc, Mutex, Weak,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::time::Instant;

use super::{
    drain::{ConnectionSet, ShutdownSignal},
    settings::Listener,
};
use crate::base::lock::lock;

/// The number of longest-idle connections that are remembered.
const REMEMBERED: usize = 64;
/// The pause before the next search, per connection that was examined in vain.
const LOOK_EVERY: Duration = Duration::from_micros(1);
/// The time for which a new connection may be silent before it counts as idle.
const FIRST_WORD: Duration = Duration::from_secs(1);
/// The minimum number of connections that may be accepted in place of those that were told to close but have not closed yet. The
/// latter are idle, hold no connection to a backend, and close as soon as their worker runs.
const LEAST_OVERLAP: usize = 64;
const SHARDS: usize = 16;

/// The identity of a peer: its IPv4 address, or the /64 of its IPv6 address, all of which one machine may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Peer {
    V4(u32),
    V6(u64),
}

impl From<IpAddr> for Peer {
    fn from(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V4(address) => Self::V4(address.to_bits()),
            IpAddr::V6(address) => Self::V6(u64::try_from(address.to_bits() >> 64).unwrap_or_default()),
        }
    }
}

/// The connections of a listener, on all workers together.
#[derive(Debug)]
pub(super) struct Admission {
    /// The origin of times.
    base: Instant,
    open: AtomicUsize,
    peers: [Mutex<HashMap<Peer, usize>>; SHARDS],
    hasher: RandomState,
    workers: Mutex<Vec<Weak<ConnectionSet>>>,
    resting: Mutex<Resting>,
    counts: Counts,
}

#[derive(Debug, Default)]
struct Resting {
    /// The connections that have been idle longest, longest first, each with its idle word.
    longest: VecDeque<(u64, Weak<ShutdownSignal>)>,
    /// The time of the next search.
    look_again: Option<Instant>,
}

/// The fate of connections that found the listener full.
#[derive(Debug, Default)]
struct Counts {
    closed_for_others: AtomicU64,
    refused: AtomicU64,
    refused_peers: AtomicU64,
    untrusted: AtomicU64,
    failed: AtomicU64,
    handshakes: AtomicU64,
    failed_handshakes: AtomicU64,
}

/// The counts of a listener's connections.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ConnectionCounts {
    /// The number of open connections.
    pub open: usize,
    /// The number of idle connections closed in favour of others.
    pub closed_for_others: u64,
    /// The number refused because of `limits.connections`.
    pub refused: u64,
    /// The number refused because of `limits.connections-per-peer`.
    pub refused_peers: u64,
    /// The number closed because of `only-trusted-proxies`.
    pub untrusted: u64,
    /// The number of failures to accept.
    pub failed: u64,
    /// The number of TLS handshakes that succeeded.
    pub handshakes: u64,
    /// The number of TLS handshakes that failed, or did not end in time.
    pub failed_handshakes: u64,
}

/// The reason why a connection is not admitted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NotAdmitted {
    /// There are too many, and none of them is idle.
    Listener,
    /// There are too many from this peer.
    Peer,
}

impl Admission {
    pub(super) fn new() -> Self {
        Self {
            base: Instant::now(),
            open: AtomicUsize::new(0),
            peers: std::array::from_fn(|_| Mutex::default()),
            hasher: RandomState::new(),
            workers: Mutex::default(),
            resting: Mutex::default(),
            counts: Counts::default(),
        }
    }

    /// Registers a worker's connections of this listener.
    pub(super) fn joined_by(&self, connections: &Arc<ConnectionSet>) {
        let mut workers = lock(&self.workers);
        workers.retain(|worker| worker.strong_count() > 0);
        workers.push(Arc::downgrade(connections));
    }

    pub(super) fn open(&self) -> usize {
        self.open.load(Ordering::Relaxed)
    }

    pub(super) fn failed(&self) {
        self.counts.failed.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts a connection of a peer that is no trusted proxy.
    pub(super) fn untrusted(&self) {
        self.counts.untrusted.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts a TLS handshake.
    pub(super) fn shook_hands(&self, succeeded: bool) {
        let counter = if succeeded { &self.counts.handshakes } else { &self.counts.failed_handshakes };
        counter.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn counts(&self) -> ConnectionCounts {
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        ConnectionCounts {
            open: self.open(),
            closed_for_others: count(&self.counts.closed_for_others),
            refused: count(&self.counts.refused),
            refused_peers: count(&self.counts.refused_peers),
            untrusted: count(&self.counts.untrusted),
            failed: count(&self.counts.failed),
            handshakes: count(&self.counts.handshakes),
            failed_handshakes: count(&self.counts.failed_handshakes),
        }
    }

    /// Returns the word for a connection that is idle since then.
    pub(super) fn since(&self, instant: Instant) -> u64 {
        u64::try_from(instant.saturating_duration_since(self.base).as_nanos()).unwrap_or(u64::MAX).max(1)
    }

    /// Returns the word for a connection that was just accepted: it is idle until it sends something, but gets a grace time.
    pub(super) fn newly(&self, accepted: Instant) -> u64 {
        self.since(accepted + FIRST_WORD)
    }

    /// Closes the connection that has been idle longest, on any worker. Returns whether there was one.
    pub(super) fn make_room(&self) -> bool {
        let mut resting = lock(&self.resting);
        loop {
            while let Some((since, signal)) = resting.longest.pop_front() {
                if signal.upgrade().is_some_and(|signal| signal.release(since)) {
                    self.counts.closed_for_others.fetch_add(1, Ordering::Relaxed);
                    return true;
                }
            }
            let now = Instant::now();
            if resting.look_again.is_some_and(|at| at > now) {
                return false;
            }
            let mut seen = 0;
            resting.longest = self.longest(now, &mut seen);
            resting.look_again = Some(now + LOOK_EVERY * u32::try_from(seen).unwrap_or(u32::MAX));
            if resting.longest.is_empty() {
                return false;
            }
        }
    }

    /// Returns the connections that have been idle longest.
    fn longest(&self, now: Instant, seen: &mut usize) -> VecDeque<(u64, Weak<ShutdownSignal>)> {
        let now = self.since(now);
        let mut longest = BinaryHeap::with_capacity(REMEMBERED + 1);
        let workers: Vec<_> = lock(&self.workers).iter().filter_map(Weak::upgrade).collect();
        for worker in workers {
            worker.each(|signal| {
                *seen += 1;
                let Some(since) = signal.idle_since().filter(|since| *since <= now) else { return };
                if longest.len() < REMEMBERED || longest.peek().is_some_and(|Candidate(latest, _)| since < *latest) {
                    longest.push(Candidate(since, Arc::downgrade(signal)));
                    if longest.len() > REMEMBERED {
                        longest.pop();
                    }
                }
            });
        }
        longest.into_sorted_vec().into_iter().map(|Candidate(since, signal)| (since, signal)).collect()
    }

    fn shard(&self, peer: Peer) -> &Mutex<HashMap<Peer, usize>> {
        let hash = self.hasher.hash_one(peer);
        &self.peers[usize::try_from(hash % SHARDS as u64).unwrap_or_default()]
    }

    fn enter(&self, peer: Peer, most: usize) -> bool {
        let mut shard = lock(self.shard(peer));
        let count = shard.entry(peer).or_default();
        let enters = *count < most;
        if enters {
            *count += 1;
        } else {
            self.counts.refused_peers.fetch_add(1, Ordering::Relaxed);
        }
        enters
    }

    fn leave(&self, peer: Peer) {
        let mut shard = lock(self.shard(peer));
        if let Some(count) = shard.get_mut(&peer) {
            *count -= 1;
            if *count == 0 {
                shard.remove(&peer);
            }
        }
    }
}

/// An idle connection, ordered by its idle time.
struct Candidate(u64, Weak<ShutdownSignal>);

impl PartialEq for Candidate {
    fn eq(&self, other: &Self) -> bool {
        self.0 == other.0
    }
}

impl Eq for Candidate {}

impl PartialOrd for Candidate {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Candidate {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.0.cmp(&other.0)
    }
}

impl Listener {
    /// Admits one more connection, from this peer unless it is exempt.
    ///
    /// If the listener is full, the connection that has been idle longest is told to close; the new one need not wait for that.
    pub(super) fn admit(self: &Arc<Self>, peer: Option<IpAddr>) -> Result<ConnectionPermit, NotAdmitted> {
        let limits = self.limits();
        let mut seat = ConnectionPermit { listener: self.clone(), peer: None };
        let before = self.admission.open.fetch_add(1, Ordering::Relaxed);
        if let Some(peer) = peer
            && !seat.counts_for(peer)
        {
            return Err(NotAdmitted::Peer);
        }
        let most = limits.connections;
        if before < most || self.admission.make_room() && before < most + (most / 4).max(LEAST_OVERLAP) {
            return Ok(seat);
        }
        self.admission.counts.refused.fetch_add(1, Ordering::Relaxed);
        Err(NotAdmitted::Listener)
    }
}

/// A permit for one connection of its listener and of its peer; released on drop.
#[derive(Debug)]
pub(crate) struct ConnectionPermit {
    listener: Arc<Listener>,
    peer: Option<Peer>,
}

impl ConnectionPermit {
    /// Counts the connection as this peer's. Returns whether there was room.
    pub(super) fn counts_for(&mut self, peer: IpAddr) -> bool {
        let limits = self.listener.limits();
        if limits.connections_per_peer >= limits.connections {
            // A peer that may have all of them is no other than a full bed, where whoever has rested longest makes room.
            return true;
        }
        let peer = Peer::from(peer);
        let enters = self.listener.admission.enter(peer, limits.connections_per_peer);
        if enters && let Some(before) = self.peer.replace(peer) {
            self.listener.admission.leave(before);
        }
        enters
    }
}

impl Drop for ConnectionPermit {
    fn drop(&mut self) {
        if let Some(peer) = self.peer {
            self.listener.admission.leave(peer);
        }
        self.listener.admission.open.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::listener::{Limits, ListenerSettings};

    fn listener(connections: usize, connections_per_peer: usize) -> Arc<Listener> {
        let limits = Limits { connections, connections_per_peer, ..Limits::default() };
        Listener::new("public", ListenerSettings::plain(limits))
    }

    fn address(text: &str) -> Option<IpAddr> {
        Some(text.parse().unwrap())
    }

    #[test]
    fn one_peer_has_a_share_whatever_its_addresses() {
        let listener = listener(100, 2);
        let of = |text: &str| listener.admit(address(text));

        let (first, second) = (of("2001:db8::1").unwrap(), of("2001:db8::2:1").unwrap());
        assert_eq!(of("2001:db8::3").unwrap_err(), NotAdmitted::Peer, "one /64 is one peer");
        let neighbour = of("2001:db8:0:1::1").unwrap();
        let mapped = [of("::ffff:192.0.2.7").unwrap(), of("192.0.2.7").unwrap()];
        assert_eq!(of("192.0.2.7").unwrap_err(), NotAdmitted::Peer, "an IPv4-mapped address is the IPv4 one");
        let other = of("192.0.2.8").unwrap();
        let exempt: Vec<_> = (0..10).map(|_| listener.admit(None).unwrap()).collect();
        drop(first);
        let again = of("2001:db8::3").unwrap();

        assert_eq!(listener.counts(), ConnectionCounts { open: 16, refused_peers: 2, ..ConnectionCounts::default() });
        drop((second, neighbour, mapped, other, exempt, again));
        assert_eq!(listener.counts().open, 0);
        assert!(listener.admission.peers.iter().all(|shard| lock(shard).is_empty()), "nobody is remembered who has gone");
    }

    #[tokio::test(start_paused = true)]
    async fn the_one_that_has_rested_longest_goes_whatever_worker_it_is_on() {
        let listener = listener(3, 100);
        let workers = [Arc::<ConnectionSet>::default(), Arc::default()];
        workers.iter().for_each(|worker| listener.admission.joined_by(worker));
        let busy = u64::MAX;
        let members: Vec<_> = [(0, 30), (1, 10), (0, busy)]
            .map(|(worker, since)| {
                let membership = workers[worker].join(listener.admit(None).unwrap(), busy);
                if since == busy {
                    membership.signal().set_busy();
                } else {
                    membership.signal().set_idle(listener.admission.since(listener.admission.base + Duration::from_secs(since)));
                }
                membership
            })
            .into();
        tokio::time::advance(Duration::from_secs(60)).await;

        let told = |index: usize| members[index].signal().is_draining();
        let _one = listener.admit(None).unwrap();
        assert_eq!([told(0), told(1), told(2)], [false, true, false]);
        let _two = listener.admit(None).unwrap();
        assert_eq!([told(0), told(1), told(2)], [true, true, false]);
        assert_eq!(listener.admit(None).unwrap_err(), NotAdmitted::Listener, "what works is never told to go");
        assert_eq!(listener.counts(), ConnectionCounts { open: 5, closed_for_others: 2, refused: 1, ..Default::default() });
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_that_says_nothing_rests_after_a_moment() {
        let listener = listener(1, 100);
        let worker = Arc::<ConnectionSet>::default();
        listener.admission.joined_by(&worker);
        let silent = worker.join(listener.admit(None).unwrap(), listener.admission.newly(Instant::now()));

        assert_eq!(listener.admit(None).unwrap_err(), NotAdmitted::Listener);
        tokio::time::advance(FIRST_WORD + Duration::from_millis(1)).await;
        let _new = listener.admit(None).unwrap();

        assert!(silent.signal().is_aborted(), "there is nothing of it that could be finished");
    }
}
