//! Benchmarks of counting a call, by the number of keys and of concurrent cores.
//!
//! With one key two cores need the same count, and one of them waits; with many they rarely meet. A million keys exceed a table,
//! so that most calls inherit another key's slot. `cargo bench --bench limits`.

use std::{cell::Cell, hint::black_box, sync::Arc, time::Duration};

use divan::{AllocProfiler, Bencher};
use entrada::unstable::limits::{Ask, Concurrency, Counted, Limits};

#[global_allocator]
static ALLOC: AllocProfiler = AllocProfiler::system();

const KEYS: [usize; 3] = [1, 1_000, 1_000_000];
const CORES: [usize; 2] = [1, 2];

fn main() {
    divan::main();
}

/// Makes realistic keys: the ids of applications.
fn keys(count: usize) -> Vec<String> {
    (0..count).map(|number| format!("22223333-cccc-4444-dddd-{number:012x}")).collect()
}

thread_local! {
    static STATE: Cell<u64> = const { Cell::new(1) };
}

/// Returns a random key; each core has its own generator, or they would contend for it.
fn any(keys: &[String]) -> &str {
    let number = STATE.with(|state| {
        let next = state.get().wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        state.set(next);
        next >> 32
    });
    &keys[number as usize % keys.len()]
}

/// Makes a call within a limit that is never reached.
const fn ask(now: Duration) -> Ask {
    Ask { limit: u64::MAX, cost: 1, now }
}

#[divan::bench(args = KEYS, threads = CORES)]
fn rate(bencher: Bencher<'_, '_>, count: usize) {
    let (keys, rate) = (keys(count), Limits::default().rate(Counted::Calls, Duration::from_secs(60)));
    bencher.bench(|| rate.judge(any(&keys), black_box(ask(Duration::from_secs(1)))));
}

#[divan::bench(args = KEYS, threads = CORES)]
fn quota(bencher: Bencher<'_, '_>, count: usize) {
    let (keys, quota) = (keys(count), Limits::default().quota(Counted::Calls, Duration::from_hours(24)));
    bencher.bench(|| quota.judge(any(&keys), black_box(ask(Duration::from_hours(24 * 365 * 50)))));
}

/// Measures beginning and ending a call.
#[divan::bench(args = KEYS, threads = CORES)]
fn concurrency(bencher: Bencher<'_, '_>, count: usize) {
    let (keys, calls) = (keys(count), Arc::new(Concurrency::default()));
    bencher.bench(|| drop(calls.begin(any(&keys), u32::MAX)));
}

/// Measures the memory of a rate with this many keys: see the columns of the allocator.
#[divan::bench(args = KEYS, sample_count = 1, sample_size = 1)]
fn memory_of_a_rate(bencher: Bencher<'_, '_>, count: usize) {
    let keys = keys(count);
    bencher.bench(|| {
        let rate = Limits::default().rate(Counted::Calls, Duration::from_secs(60));
        for key in &keys {
            rate.judge(key, ask(Duration::from_secs(1)));
        }
        rate
    });
}
