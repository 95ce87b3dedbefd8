//! The counts of an upstream, for metrics.

use std::{
    collections::BTreeMap,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use http::{Method, StatusCode};

use super::{Upstream, pool::Pool, server::Server};
use crate::base::counts::{OTHER_METHOD, method_label, method_number};

/// The most combinations of method and status of a server and a thread.
const MOST: usize = 64;

/// The counts of a server, on all threads together.
#[derive(Clone, Debug)]
pub struct ServerCounts {
    /// Host and port.
    pub name: Arc<str>,
    /// The number of requests in progress.
    pub in_flight: usize,
    /// The number of connections that are idle, or that several requests share.
    pub kept: usize,
    /// The number of connections that were made.
    pub opened: u64,
    /// The number of attempts to connect that failed.
    pub connect_failures: u64,
    /// The number of times that it was ejected.
    pub ejections: u64,
    /// The durations of requests.
    pub durations: Vec<ServerDurations>,
}

/// The durations of a server's requests of one method and status.
#[derive(Clone, Debug, Default)]
pub struct ServerDurations {
    /// The method, or `_OTHER`.
    pub method: &'static str,
    /// The status; 0 if there was no answer.
    pub status: u16,
    /// The counts of the buckets.
    pub buckets: [u64; 18],
    /// The sum, in microseconds.
    pub sum: u64,
}

impl Upstream {
    /// Counts a request to the server of this name, which took so long until the head of its response; without one if it failed.
    pub fn count(&self, worker: usize, server: &str, request: (&Method, Option<StatusCode>), duration: Duration) {
        let only = || if let [only] = &*self.servers { Some(only) } else { None };
        let Some(server) = only().or_else(|| self.servers.iter().find(|known| *known.name == *server)) else { return };
        let (method, status) = request;
        let status = status.map_or(0, |status| status.as_u16());
        let key = u32::from(status) << 4 | method_number(method.as_str());
        server.pool(worker).durations.of(key, MOST, OTHER_METHOD).count_duration(duration);
    }

    /// Returns the number of retries.
    pub fn retries(&self) -> u64 {
        self.per_worker.iter().map(|worker| worker.retries.load(Ordering::Relaxed)).sum()
    }

    /// Returns the counts of the servers.
    pub fn counts(&self) -> impl Iterator<Item = ServerCounts> {
        self.servers.iter().map(|server| {
            let sum = |count: &dyn Fn(&Pool) -> u64| server.pools.iter().map(|pool| count(pool)).sum();
            ServerCounts {
                name: server.name.clone(),
                in_flight: server.in_flight(),
                kept: server.pools.iter().map(|pool| pool.kept()).sum(),
                opened: sum(&|pool| pool.opened.load(Ordering::Relaxed)),
                connect_failures: sum(&|pool| pool.connect_failures.load(Ordering::Relaxed)),
                ejections: server.health.ejections(),
                durations: durations(server),
            }
        })
    }
}

fn durations(server: &Server) -> Vec<ServerDurations> {
    let mut sums = BTreeMap::<u32, ServerDurations>::new();
    for (key, durations) in server.pools.iter().flat_map(|pool| pool.durations.iter()) {
        let (buckets, sum) = durations.read();
        let own = sums.entry(key).or_insert_with(|| ServerDurations {
            method: method_label(key & 0xF),
            status: (key >> 4) as u16,
            ..ServerDurations::default()
        });
        own.sum += sum;
        own.buckets.iter_mut().zip(buckets).for_each(|(all, own)| *all += own);
    }
    sums.into_values().collect()
}
