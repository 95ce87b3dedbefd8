//! The choice of traces, and the buffers of their spans.

use std::sync::{
    Mutex,
    atomic::{AtomicU64, Ordering},
};

use super::protobuf::Message;
use crate::base::lock::lock;

/// The most bytes of spans that a worker keeps for the next export. Collectors take messages of 4 MiB over gRPC, with the resource.
const MOST: usize = 4_000_000;
/// The flag of a sampled trace: W3C Trace Context, section 3.2.2.5.1.
const SAMPLED: u8 = 1;

/// The spans of all workers, on their way to a collector.
#[derive(Debug)]
pub struct Traces {
    /// Traces whose id ends with less than this are sampled.
    threshold: u64,
    buffers: Box<[Mutex<Spans>]>,
    exported: AtomicU64,
    dropped: AtomicU64,
}

/// Spans as they are written in an export, and their number.
#[derive(Debug, Default)]
pub(super) struct Spans {
    pub(super) bytes: Vec<u8>,
    pub(super) count: u64,
}

impl Traces {
    /// Makes the buffers for this many workers; `percent` of the traces that begin here are sampled.
    pub fn new(percent: u32, workers: usize) -> Self {
        let threshold = (u64::MAX / 100).saturating_mul(percent.into());
        Self {
            threshold: if percent >= 100 { u64::MAX } else { threshold },
            buffers: (0..workers).map(|_| Mutex::default()).collect(),
            exported: AtomicU64::new(0),
            dropped: AtomicU64::new(0),
        }
    }

    /// Returns the flags of a request's trace: a trusted caller's decision stands, and everybody else's is ours. By the trace's id,
    /// so that gateways in a row decide alike.
    pub fn flags(&self, trace_id: u128, flags: u8, trusted_parent: bool) -> u8 {
        if trusted_parent {
            return flags;
        }
        let sampled = trace_id as u64 <= self.threshold && self.threshold > 0;
        flags & !SAMPLED | u8::from(sampled)
    }

    /// Returns whether these are the flags of a sampled trace.
    pub const fn are_sampled(flags: u8) -> bool {
        flags & SAMPLED != 0
    }

    /// Adds spans to a worker's buffer, each written by one of the closures.
    pub(crate) fn push(&self, worker: usize, spans: &[&dyn Fn(&mut Message)]) {
        let mut message = Message::default();
        for span in spans {
            // `ScopeSpans.spans`
            message.message(2, |message| span(message));
        }
        let bytes = message.into_bytes();
        let mut buffer = lock(&self.buffers[worker % self.buffers.len()]);
        if buffer.bytes.len() + bytes.len() > MOST {
            self.drop_spans(spans.len() as u64);
        } else {
            buffer.bytes.extend_from_slice(&bytes);
            buffer.count += spans.len() as u64;
        }
    }

    /// Takes what there is.
    pub(super) fn take(&self) -> impl Iterator<Item = Spans> {
        self.buffers.iter().map(|buffer| std::mem::take(&mut *lock(buffer))).filter(|spans| spans.count > 0)
    }

    pub(super) fn drop_spans(&self, count: u64) {
        self.dropped.fetch_add(count, Ordering::Relaxed);
    }

    pub(super) fn export_spans(&self, count: u64) {
        self.exported.fetch_add(count, Ordering::Relaxed);
    }

    /// Returns the number of exported and of dropped spans.
    pub fn counts(&self) -> (u64, u64) {
        (self.exported.load(Ordering::Relaxed), self.dropped.load(Ordering::Relaxed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_of_the_traces_is_sampled_and_a_trusted_caller_decides_itself() {
        let id = |number: u64| u128::from(number.wrapping_mul(0x9E37_79B9_7F4A_7C15));
        for (percent, least, most) in [(0, 0, 0), (10, 900, 1_100), (100, 10_000, 10_000)] {
            let traces = Traces::new(percent, 1);
            let sampled = (0..10_000).filter(|number| Traces::are_sampled(traces.flags(id(*number), 3, false))).count();
            assert!((least..=most).contains(&sampled), "{percent} %: {sampled}");
            assert_eq!((traces.flags(1, 3, true), traces.flags(1, 2, true)), (3, 2));
            assert_eq!(traces.flags(1, 3, false) & 2, 2, "other flags stay");
        }
    }

    #[test]
    fn what_finds_no_room_is_counted() {
        let traces = Traces::new(100, 1);
        let large = "x".repeat(MOST / 2);
        for _ in 0..3 {
            traces.push(
                0,
                &[&|span: &mut Message| {
                    span.text(5, &large);
                }],
            );
        }

        assert_eq!(traces.take().map(|spans| spans.count).sum::<u64>(), 1);
        assert_eq!(traces.counts(), (0, 2));
        assert_eq!(traces.take().count(), 0);
    }
}
