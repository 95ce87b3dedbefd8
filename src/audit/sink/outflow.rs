//! A thread that writes to something that may block: nothing else waits for it.

use std::{
    io,
    sync::{Arc, Condvar, Mutex},
    thread::JoinHandle,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use super::SinkCounts;
use crate::base::lock::lock;

/// The most bytes that wait for the thread.
const MOST: usize = 16 << 20;
/// The time in which the thread has to write what is left, at the end.
const LAST: Duration = Duration::from_secs(5);

/// Writes whole lines; returns how many of them were lost, or the failure that lost them all.
pub(super) type Writer = Box<dyn FnMut(&[u8]) -> io::Result<u64> + Send>;

/// A writer on a thread of its own, and what waits for it.
#[derive(Debug)]
pub(in crate::audit) struct Outflow {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    queue: Mutex<Queue>,
    changed: Condvar,
    counts: Arc<SinkCounts>,
}

#[derive(Debug, Default)]
struct Queue {
    lines: Vec<u8>,
    records: u64,
    /// Whether the thread is writing.
    busy: bool,
    /// Whether nothing more comes.
    ended: bool,
}

impl Outflow {
    /// Starts the thread.
    pub(super) fn spawn(name: &str, writer: Writer, counts: Arc<SinkCounts>) -> io::Result<Self> {
        let shared = Arc::new(Shared { queue: Mutex::default(), changed: Condvar::new(), counts });
        let own = shared.clone();
        let thread = std::thread::Builder::new().name(format!("audit-{name}")).spawn(move || own.run(writer))?;
        Ok(Self { shared, thread: Some(thread) })
    }

    /// Adds lines, this many; those that find no room are counted and lost.
    pub(super) fn push(&self, lines: &[u8], records: u64, now: Duration) {
        let mut queue = lock(&self.shared.queue);
        if queue.lines.len() + lines.len() > MOST {
            drop(queue);
            self.shared.counts.dropped(records);
            self.shared.counts.failed("it takes records more slowly than they come", now);
            return;
        }
        queue.lines.extend_from_slice(lines);
        queue.records += records;
        self.shared.changed.notify_all();
    }
}

impl Shared {
    fn run(&self, mut writer: Writer) {
        let mut lines = Vec::new();
        loop {
            let records = {
                let mut queue = lock(&self.queue);
                queue.busy = false;
                self.changed.notify_all();
                while queue.lines.is_empty() {
                    if queue.ended {
                        return;
                    }
                    queue = self.changed.wait(queue).unwrap_or_else(std::sync::PoisonError::into_inner);
                }
                queue.busy = true;
                std::mem::swap(&mut queue.lines, &mut lines);
                std::mem::take(&mut queue.records)
            };
            match writer(&lines) {
                Ok(lost) => {
                    self.counts.wrote(records.saturating_sub(lost));
                    self.counts.dropped(lost);
                    if lost == 0 {
                        self.counts.works();
                    }
                }
                Err(error) => {
                    self.counts.dropped(records);
                    self.counts.failed(&error.to_string(), now());
                }
            }
            lines.clear();
            lines.shrink_to(1 << 20);
        }
    }
}

impl Drop for Outflow {
    fn drop(&mut self) {
        let mut queue = lock(&self.shared.queue);
        queue.ended = true;
        self.shared.changed.notify_all();
        let waiting = |queue: &mut Queue| queue.busy || !queue.lines.is_empty();
        let waited = self.shared.changed.wait_timeout_while(queue, LAST, waiting);
        let done = waited.is_ok_and(|(_, waited)| !waited.timed_out());
        // One that is stuck ends with the process.
        if let Some(thread) = self.thread.take().filter(|_| done) {
            // A thread that panicked has said so.
            let _ = thread.join();
        }
    }
}

fn now() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::{super::count_lines, *};

    #[test]
    fn one_that_blocks_holds_up_nobody_and_what_finds_no_room_is_counted() {
        let (go, wait) = mpsc::channel::<()>();
        let (written, lines) = mpsc::channel();
        let counts = Arc::new(SinkCounts::new("stdout"));
        let writer: Writer = Box::new(move |lines| {
            let _ = wait.recv();
            written.send(lines.to_vec()).unwrap();
            Ok(0)
        });
        let outflow = Outflow::spawn("test", writer, counts.clone()).unwrap();
        let half = [vec![b'x'; MOST / 2], b"\n".to_vec()].concat();

        outflow.push(b"first\n", 1, Duration::ZERO);
        // The first may be taken or still wait: either way a second half does not fit after these.
        (0..4).for_each(|_| outflow.push(&half, 1, Duration::ZERO));
        drop(go);
        drop(outflow);

        let arrived: Vec<u8> = lines.iter().flatten().collect();
        let (wrote, dropped, failures) = counts.numbers();
        assert!(arrived.starts_with(b"first\n"));
        assert_eq!((wrote, count_lines(&arrived)), (5 - dropped, 5 - dropped));
        assert!(dropped >= 2 && failures == dropped, "{dropped} {failures}");
    }
}
