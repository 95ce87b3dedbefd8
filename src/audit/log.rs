//! The buffers of audit records, and the thread that writes them out.

use std::{
    io,
    sync::{
        Arc, Condvar, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    thread::JoinHandle,
    time::Duration,
};

use bytes::Bytes;
use tokio::runtime::Handle;

use super::{
    AuditConfig, RecentRecords, SinkStatus,
    outlet::{AuditContext, Outlet},
    own_record::{OwnKind, OwnRecord},
    sink::count_lines,
};
use crate::base::lock::lock;

/// The longest time before a record is written.
const FLUSH_INTERVAL: Duration = Duration::from_millis(100);

/// The size limit of one worker's buffer while the sinks accept nothing, in bytes.
const BUFFER_LIMIT: usize = 16 << 20;

/// The memory that a buffer keeps between flushes: as much as a busy worker fills in that time. Growing it again each time costs
/// more than the records.
const BUFFER_KEPT: usize = 2 << 20;

/// The audit records of all workers, on their way to the sinks.
///
/// Each worker writes to its own buffer; besides it, only the writer thread takes the lock, for the moment of a swap.
#[derive(Debug)]
pub struct AuditLog {
    buffers: Box<[Mutex<Buffer>]>,
    dropped: AtomicU64,
    /// Those of the dropped ones that records tell of.
    told: AtomicU64,
    recent: RecentRecords,
    writing: Mutex<Writing>,
    stop: (Mutex<bool>, Condvar),
}

/// The sinks, and the buffer that replaces a worker's while that is written out.
#[derive(Debug)]
struct Writing {
    outlet: Outlet,
    /// Empty except during a flush.
    spare: Buffer,
}

/// Lines, and their number.
#[derive(Debug, Default)]
struct Buffer {
    lines: Vec<u8>,
    records: u64,
}

impl Buffer {
    fn clear(&mut self) {
        self.lines.clear();
        self.lines.shrink_to(BUFFER_KEPT);
        self.records = 0;
    }
}

/// One worker's handle to the log. Requests hold it, so that reference counts are not shared between cores.
#[derive(Debug)]
pub(crate) struct WorkerLog {
    log: Arc<AuditLog>,
    worker: usize,
    /// The first half of the ids of this worker's records, which no other worker and no other process has.
    series: u64,
    /// The number of records, which is the second half.
    records: AtomicU64,
}

impl WorkerLog {
    pub(crate) fn new(log: Arc<AuditLog>, worker: usize) -> Self {
        let (series, _) = uuid::Uuid::new_v4().as_u64_pair();
        Self { log, worker, series, records: AtomicU64::new(0) }
    }

    /// Adds one line to the worker's buffer: `write` gets the buffer and the record's id, and must end with a line end.
    ///
    /// A record that finds the buffer full, because no sink accepts records any more, is counted and lost: stopping every request
    /// because of a full disk would be worse.
    pub(crate) fn append(&self, write: impl FnOnce(&mut Vec<u8>, u128)) {
        let record_id = u128::from(self.series) << 64 | u128::from(self.records.fetch_add(1, Ordering::Relaxed));
        let mut buffer = lock(&self.log.buffers[self.worker]);
        if buffer.lines.len() < BUFFER_LIMIT {
            write(&mut buffer.lines, record_id);
            buffer.records += 1;
        } else {
            self.log.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl AuditLog {
    /// Opens a log for this many workers, with its sinks. Those that cross a network begin with [`start`](Self::start).
    ///
    /// # Errors
    /// Fails if a sink's file or the spool cannot be opened.
    pub(crate) fn open(config: &AuditConfig, context: AuditContext<'_>, workers: usize) -> io::Result<Arc<Self>> {
        let outlet = Outlet::open(config, context)?;
        Ok(Arc::new(Self {
            buffers: (0..workers).map(|_| Mutex::default()).collect(),
            dropped: AtomicU64::new(0),
            told: AtomicU64::new(0),
            recent: RecentRecords::default(),
            writing: Mutex::new(Writing { outlet, spare: Buffer::default() }),
            stop: Default::default(),
        }))
    }

    /// Starts the delivery to sinks that cross a network.
    pub(crate) fn start(&self, background: &Handle) {
        lock(&self.writing).outlet.start(background);
    }

    /// Switches to other sinks; files are reopened, so that they can be moved away. Sinks that stay keep what they have.
    ///
    /// # Errors
    /// Fails if a sink's file or the spool cannot be opened; the old sinks then stay.
    pub(crate) fn reopen(&self, config: &AuditConfig, context: AuditContext<'_>) -> io::Result<()> {
        // What was recorded before the switch goes to the sinks of that time.
        self.flush();
        lock(&self.writing).outlet.reopen(config, context)
    }

    /// Returns the number of records that were lost because no sink accepted them.
    pub fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }

    /// Returns the number of records that were lost: those of [`dropped`](Self::dropped), and those that a sink did not get.
    pub fn lost(&self) -> u64 {
        self.dropped() + self.status().iter().map(|sink| sink.dropped).sum::<u64>()
    }

    /// Returns the state of each sink.
    pub fn status(&self) -> Vec<SinkStatus> {
        lock(&self.writing).outlet.status()
    }

    /// Returns the newest records, oldest first, each one JSON object.
    pub fn recent(&self) -> Vec<Bytes> {
        self.flush();
        self.recent.after(0).records.into_iter().map(|(_, record)| record).collect()
    }

    /// Returns the newest records with their numbers, as far as they were written out.
    pub const fn kept(&self) -> &RecentRecords {
        &self.recent
    }

    /// Starts the thread that writes the records out, until [`stop`](Self::stop).
    ///
    /// # Errors
    /// Fails if no thread can be started.
    pub fn spawn_writer(self: &Arc<Self>) -> io::Result<JoinHandle<()>> {
        let log = self.clone();
        std::thread::Builder::new().name("audit".into()).spawn(move || {
            loop {
                let stopped = log
                    .stop
                    .1
                    .wait_timeout_while(lock(&log.stop.0), FLUSH_INTERVAL, |stopped| !*stopped)
                    .map_or(true, |(stopped, _)| *stopped);
                if stopped {
                    lock(&log.writing).outlet.hurry();
                }
                log.flush();
                if stopped {
                    lock(&log.writing).outlet.close();
                    return;
                }
                lock(&log.writing).outlet.tick();
            }
        })
    }

    /// Lets the writer thread write the remaining records and end.
    pub fn stop(&self) {
        *lock(&self.stop.0) = true;
        self.stop.1.notify_all();
    }

    /// Waits, some seconds at most, until the sinks that cross a network have what was recorded; what they do not have then waits in the
    /// spool for the next process.
    pub fn finish(&self) {
        let finishing = lock(&self.writing).outlet.finish();
        if let Some(finishing) = finishing {
            finishing.wait();
        }
    }

    /// Writes out the content of the buffers.
    pub fn flush(&self) {
        let mut writing = lock(&self.writing);
        let Writing { outlet, spare } = &mut *writing;
        self.tell_of_dropped(outlet);
        for buffer in &self.buffers {
            std::mem::swap(&mut *lock(buffer), spare);
            if spare.lines.is_empty() {
                continue;
            }
            outlet.write(&spare.lines, spare.records);
            self.recent.add(&mut spare.lines, spare.records);
            spare.clear();
        }
        outlet.write_own(&mut spare.lines);
        if !spare.lines.is_empty() {
            let records = count_lines(&spare.lines);
            self.recent.add(&mut spare.lines, records);
        }
        spare.clear();
    }

    /// Records how many records found no room.
    fn tell_of_dropped(&self, outlet: &mut Outlet) {
        let dropped = self.dropped();
        let count = dropped - self.told.swap(dropped, Ordering::Relaxed);
        if count > 0 {
            tracing::error!(records = count, "audit records found no room in the buffers, and are lost");
            let detail = "the sinks took records more slowly than they came".to_owned();
            outlet.say(OwnRecord { kind: OwnKind::RecordsDropped, sink: None, count: Some(count), detail });
        }
    }
}
