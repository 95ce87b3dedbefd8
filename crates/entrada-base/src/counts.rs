//! Counts that one thread writes and others read: histograms, and lists of series that are made when they are first counted.
//!
//! A series costs nothing before its first count. There is no lock: a list only grows, and readers see what is there.

use std::{
    sync::{
        OnceLock,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

/// The upper bounds of durations, in microseconds: those that OpenTelemetry advises for HTTP, and three below them, since most of what
/// a gateway does takes less than the first.
pub const DURATIONS: [u64; 17] = [
    500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 75_000, 100_000, 250_000, 500_000, 750_000, 1_000_000, 2_500_000,
    5_000_000, 7_500_000, 10_000_000,
];

/// The upper bounds of body sizes, in bytes.
pub const SIZES: [u64; 6] = [0, 1 << 10, 16 << 10, 256 << 10, 4 << 20, 64 << 20];

/// The methods that have a label of their own. Any other could be a caller's invention.
const METHODS: [&str; 9] = ["GET", "POST", "PUT", "DELETE", "HEAD", "PATCH", "OPTIONS", "CONNECT", "TRACE"];

/// The number of other methods.
pub const OTHER_METHOD: u32 = METHODS.len() as u32;

/// Returns the number of a method, for the key of a series; below 16.
pub fn method_number(method: &str) -> u32 {
    METHODS.iter().position(|known| *known == method).map_or(OTHER_METHOD, |number| number as u32)
}

/// Returns the label of the method of this number: its name, or `_OTHER`, as OpenTelemetry has it.
pub fn method_label(number: u32) -> &'static str {
    METHODS.get(number as usize).copied().unwrap_or("_OTHER")
}

/// A histogram of durations, in microseconds.
pub type Durations = Histogram<18>;
/// A histogram of body sizes, in bytes.
pub type Sizes = Histogram<7>;

/// A histogram whose values are whole numbers. The last bucket is for those beyond every bound.
#[derive(Debug)]
pub struct Histogram<const N: usize> {
    buckets: [AtomicU64; N],
    sum: AtomicU64,
}

impl<const N: usize> Default for Histogram<N> {
    fn default() -> Self {
        Self { buckets: std::array::from_fn(|_| AtomicU64::new(0)), sum: AtomicU64::new(0) }
    }
}

impl<const N: usize> Histogram<N> {
    /// Counts one value, with the upper bounds of the buckets.
    pub fn count(&self, value: u64, bounds: &[u64]) {
        let bucket = bounds.iter().position(|bound| value <= *bound).unwrap_or(N - 1);
        self.buckets[bucket].fetch_add(1, Ordering::Relaxed);
        self.sum.fetch_add(value, Ordering::Relaxed);
    }

    /// Returns the counts of the buckets, and the sum of all values.
    pub fn read(&self) -> ([u64; N], u64) {
        (self.buckets.each_ref().map(|bucket| bucket.load(Ordering::Relaxed)), self.sum.load(Ordering::Relaxed))
    }
}

impl Durations {
    /// Counts one duration.
    pub fn count_duration(&self, duration: Duration) {
        self.count(u64::try_from(duration.as_micros()).unwrap_or(u64::MAX), &DURATIONS);
    }
}

/// Series by a key, in the order they were first counted: as a list, since nearly every count is one of the first few.
#[derive(Debug)]
pub struct SeriesList<T>(OnceLock<Box<Series<T>>>);

#[derive(Debug)]
struct Series<T> {
    key: u32,
    value: T,
    next: SeriesList<T>,
}

impl<T> Default for SeriesList<T> {
    fn default() -> Self {
        Self(OnceLock::new())
    }
}

impl<T: Default> SeriesList<T> {
    /// Returns the series of this key. Beyond `most` series, new keys share that of `other`: what a server answers with must not take
    /// any amount of memory.
    pub fn of(&self, key: u32, most: usize, other: u32) -> &T {
        let mut at = self;
        let mut length = 0;
        loop {
            let series = match at.0.get() {
                Some(series) => series,
                None if length >= most && key != other => return self.of(other, most, other),
                None => at.0.get_or_init(|| Box::new(Series { key, value: T::default(), next: Self::default() })),
            };
            // Another thread may have added one of another key in the meantime.
            if series.key == key {
                return &series.value;
            }
            at = &series.next;
            length += 1;
        }
    }

    /// Returns the series so far, with their keys.
    pub fn iter(&self) -> impl Iterator<Item = (u32, &T)> {
        std::iter::successors(self.0.get(), |series| series.next.0.get()).map(|series| (series.key, &series.value))
    }
}

impl<T> Drop for SeriesList<T> {
    fn drop(&mut self) {
        // One after the other: a long list is not to be dropped by as many nested calls.
        let mut next = self.0.take();
        while let Some(mut series) = next {
            next = series.next.0.take();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_counted_up_to_their_bound() {
        let sizes = Sizes::default();
        for value in [0, 0, 1, 1 << 10, (1 << 10) + 1, u64::MAX >> 1] {
            sizes.count(value, &SIZES);
        }

        let (buckets, sum) = sizes.read();

        assert_eq!(buckets, [2, 2, 1, 0, 0, 0, 1]);
        assert_eq!(sum, 1 + 1024 + 1025 + (u64::MAX >> 1));
        let durations = Durations::default();
        durations.count_duration(Duration::from_micros(501));
        durations.count_duration(Duration::from_secs(11));
        assert_eq!((durations.read().0[1], durations.read().0[17]), (1, 1));
    }

    #[test]
    fn series_are_made_when_they_are_counted_and_have_an_end() {
        let list = SeriesList::<AtomicU64>::default();
        assert_eq!(list.iter().count(), 0);

        for key in [7, 8, 7, 9, 10, 11, 7] {
            list.of(key, 3, 0).fetch_add(1, Ordering::Relaxed);
        }

        let counts: Vec<_> = list.iter().map(|(key, count)| (key, count.load(Ordering::Relaxed))).collect();
        assert_eq!(counts, [(7, 3), (8, 1), (9, 1), (0, 2)]);
    }

    #[test]
    fn threads_may_add_series_at_once() {
        let list = SeriesList::<AtomicU64>::default();
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    (0..1_000).for_each(|key| {
                        list.of(key % 50, 100, 0).fetch_add(1, Ordering::Relaxed);
                    })
                });
            }
        });

        assert_eq!(list.iter().count(), 50);
        assert!(list.iter().all(|(_, count)| count.load(Ordering::Relaxed) == 80));
    }
}
