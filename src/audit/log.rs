//! The buffers of audit records, and the thread that writes them out.

use std::{
    fs::{File, OpenOptions},
    io::{self, Write},
    path::{Path, PathBuf},
    sync::{
        Arc, Condvar, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    thread::JoinHandle,
    time::Duration,
};

use bytes::Bytes;

use super::{AuditConfig, RecentRecords, SinkConfig};

use crate::base::lock::lock;

/// The longest time before a record is written.
const FLUSH_INTERVAL: Duration = Duration::from_millis(100);

/// The size limit of one worker's buffer while the sinks accept nothing, in bytes.
const BUFFER_LIMIT: usize = 16 << 20;

/// The widest mode of a file of records.
#[cfg(unix)]
const FILE_MODE: u32 = 0o640;

/// The memory that a buffer keeps between flushes: as much as a busy worker fills in that time. Growing it again each time costs
/// more than the records.
const BUFFER_KEPT: usize = 2 << 20;

/// The audit records of all workers, on their way to the sinks.
///
/// Each worker writes to its own buffer; besides it, only the writer thread takes the lock, for the moment of a swap.
#[derive(Debug)]
pub struct AuditLog {
    buffers: Box<[Mutex<Vec<u8>>]>,
    dropped: AtomicU64,
    written: AtomicU64,
    recent: RecentRecords,
    outlet: Mutex<SinkWriter>,
    stop: (Mutex<bool>, Condvar),
}

/// The sinks, and the buffer that replaces a worker's while that is written out.
#[derive(Debug)]
struct SinkWriter {
    sinks: Vec<Sink>,
    /// Empty except during a flush.
    spare: Vec<u8>,
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
        if buffer.len() < BUFFER_LIMIT {
            write(&mut buffer, record_id);
        } else {
            self.log.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }
}

#[derive(Debug)]
enum Sink {
    Stdout,
    File(PathBuf, File),
}

impl AuditLog {
    /// Opens a log for this many workers, with its sinks.
    ///
    /// # Errors
    /// Fails if a sink's file cannot be opened.
    pub fn open(config: &AuditConfig, base: &Path, workers: usize) -> io::Result<Arc<Self>> {
        Ok(Arc::new(Self {
            buffers: (0..workers).map(|_| Mutex::default()).collect(),
            dropped: AtomicU64::new(0),
            written: AtomicU64::new(0),
            recent: RecentRecords::default(),
            outlet: Mutex::new(SinkWriter { sinks: open_sinks(config, base)?, spare: Vec::new() }),
            stop: Default::default(),
        }))
    }

    /// Switches to other sinks; files are reopened, so that they can be moved away.
    ///
    /// # Errors
    /// Fails if a sink's file cannot be opened; the old sinks then stay.
    pub fn reopen(&self, config: &AuditConfig, base: &Path) -> io::Result<()> {
        let sinks = open_sinks(config, base)?;
        self.flush();
        lock(&self.outlet).sinks = sinks;
        Ok(())
    }

    /// Returns the number of records that were lost because no sink accepted them.
    pub fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }

    /// Returns the number of records that were handed to the sinks.
    pub fn written(&self) -> u64 {
        self.written.load(Ordering::Relaxed)
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
                log.flush();
                if stopped {
                    return;
                }
            }
        })
    }

    /// Lets the writer thread write the remaining records and end.
    pub fn stop(&self) {
        *lock(&self.stop.0) = true;
        self.stop.1.notify_all();
    }

    /// Writes out the content of the buffers.
    pub fn flush(&self) {
        let mut outlet = lock(&self.outlet);
        let SinkWriter { sinks, spare: lines } = &mut *outlet;
        for buffer in &self.buffers {
            std::mem::swap(&mut *lock(buffer), lines);
            if lines.is_empty() {
                continue;
            }
            let records = memchr::memchr_iter(b'\n', lines).count() as u64;
            self.written.fetch_add(records, Ordering::Relaxed);
            for sink in sinks.iter_mut() {
                if let Err(error) = sink.write(lines) {
                    // Standard error, not the log: the log may go to the very place that failed.
                    eprintln!("audit records could not be written: {error}");
                    self.dropped.fetch_add(records, Ordering::Relaxed);
                }
            }
            self.recent.add(lines, records as usize);
            lines.clear();
            lines.shrink_to(BUFFER_KEPT);
        }
    }
}

impl Sink {
    fn write(&mut self, lines: &[u8]) -> io::Result<()> {
        match self {
            Self::Stdout => {
                let mut stdout = io::stdout().lock();
                stdout.write_all(lines)?;
                stdout.flush()
            }
            Self::File(path, file) => {
                file.write_all(lines).map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", path.display())))
            }
        }
    }
}

fn open_sinks(config: &AuditConfig, base: &Path) -> io::Result<Vec<Sink>> {
    config
        .sinks
        .iter()
        .map(|sink| match sink {
            SinkConfig::Stdout(_) => Ok(Sink::Stdout),
            SinkConfig::File(file) => {
                let path = base.join(&file.path);
                let file =
                    open_file(&path).map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", path.display())))?;
                Ok(Sink::File(path, file))
            }
        })
        .collect()
}

/// Opens a file of records. They contain personal data, so only its owner and its group may read it, whatever the umask and
/// whoever created it.
fn open_file(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.append(true).create(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, FILE_MODE);
    let file = options.open(path)?;
    #[cfg(unix)]
    narrow(&file, path)?;
    Ok(file)
}

/// Removes permissions beyond [`FILE_MODE`] from an existing file. Devices and pipes stay as they are.
#[cfg(unix)]
fn narrow(file: &File, path: &Path) -> io::Result<()> {
    use std::os::unix::fs::PermissionsExt as _;

    let metadata = file.metadata()?;
    let mode = metadata.permissions().mode() & 0o7777;
    if !metadata.is_file() || mode & !FILE_MODE == 0 {
        return Ok(());
    }
    let mut permissions = metadata.permissions();
    permissions.set_mode(mode & FILE_MODE);
    let (path, before, now) = (path.display(), format!("{mode:04o}"), format!("{:04o}", mode & FILE_MODE));
    // Another user's file cannot be changed; the records are worth more than its mode.
    match file.set_permissions(permissions) {
        Ok(()) => tracing::warn!(%path, before, now, "the file of audit records could be read by others; its mode was narrowed"),
        Err(error) => {
            tracing::warn!(%path, mode = before, %error, "the file of audit records can be read by others, and its mode cannot be changed");
        }
    }
    Ok(())
}
