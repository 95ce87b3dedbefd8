//! Where audit records wait, and the thread that writes them out.

use std::{
    collections::VecDeque,
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
use tokio::sync::broadcast;

use super::{AuditConfig, SinkConfig};

use crate::base::lock::lock;

/// How many records the admin listener shows.
pub const RECENT_RECORDS: usize = 256;

/// How long a record waits at the most until it is written.
const FLUSH_INTERVAL: Duration = Duration::from_millis(100);

/// The bytes that one worker's buffer holds at the most while the sinks do not take them.
const BUFFER_LIMIT: usize = 16 << 20;

/// The most that a file of records lets anybody do.
#[cfg(unix)]
const FILE_MODE: u32 = 0o640;

/// What a buffer keeps of its memory from one flush to the next: what a busy worker fills in that time. To grow it anew each
/// time costs more than the records.
const BUFFER_KEPT: usize = 2 << 20;

/// The audit records of all workers, on their way to the sinks.
///
/// Each worker writes to a buffer of its own, whose lock nobody holds but the writer thread for the moment of a swap.
#[derive(Debug)]
pub struct AuditLog {
    buffers: Box<[Mutex<Vec<u8>>]>,
    dropped: AtomicU64,
    recent: Mutex<VecDeque<Bytes>>,
    followers: broadcast::Sender<Bytes>,
    outlet: Mutex<Outlet>,
    stop: (Mutex<bool>, Condvar),
}

/// Where records go, and the buffer that a worker gets for its own while that is written out.
#[derive(Debug)]
struct Outlet {
    sinks: Vec<Sink>,
    /// Empty but for the time of a flush.
    spare: Vec<u8>,
}

/// One worker's way to the log. Requests hold it, so that no two cores count the same holders.
#[derive(Debug)]
pub(crate) struct WorkerLog {
    log: Arc<AuditLog>,
    worker: usize,
}

impl WorkerLog {
    pub(crate) const fn new(log: Arc<AuditLog>, worker: usize) -> Self {
        Self { log, worker }
    }

    /// Adds one line to the worker's buffer: `write` is given the buffer and must end with a line end.
    ///
    /// A record that finds the buffer full, because no sink takes records any more, is counted and lost: to hold up every
    /// request for a full disk would be worse.
    pub(crate) fn append(&self, write: impl FnOnce(&mut Vec<u8>)) {
        let mut buffer = lock(&self.log.buffers[self.worker]);
        if buffer.len() < BUFFER_LIMIT {
            write(&mut buffer);
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
    /// A log for so many workers, with its sinks open.
    ///
    /// # Errors
    /// When a sink's file cannot be opened.
    pub fn open(config: &AuditConfig, base: &Path, workers: usize) -> io::Result<Arc<Self>> {
        Ok(Arc::new(Self {
            buffers: (0..workers).map(|_| Mutex::default()).collect(),
            dropped: AtomicU64::new(0),
            recent: Mutex::default(),
            followers: broadcast::channel(RECENT_RECORDS).0,
            outlet: Mutex::new(Outlet { sinks: open_sinks(config, base)?, spare: Vec::new() }),
            stop: Default::default(),
        }))
    }

    /// Goes over to other sinks; files are opened again, so that they can be moved away.
    ///
    /// # Errors
    /// When a sink's file cannot be opened; the old sinks then stay.
    pub fn reopen(&self, config: &AuditConfig, base: &Path) -> io::Result<()> {
        let sinks = open_sinks(config, base)?;
        self.flush();
        lock(&self.outlet).sinks = sinks;
        Ok(())
    }

    /// Records that were lost because no sink took them.
    pub fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }

    /// The newest records, oldest first, each one JSON object.
    pub fn recent(&self) -> Vec<Bytes> {
        self.flush();
        lock(&self.recent).iter().cloned().collect()
    }

    /// The records from now on.
    pub fn follow(&self) -> broadcast::Receiver<Bytes> {
        self.followers.subscribe()
    }

    /// Starts the thread that writes the records out, until [`stop`](Self::stop).
    ///
    /// # Errors
    /// When no thread can be had.
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

    /// Lets the writer thread write what is there, and end.
    pub fn stop(&self) {
        *lock(&self.stop.0) = true;
        self.stop.1.notify_all();
    }

    /// Writes out what the buffers hold.
    pub fn flush(&self) {
        let mut outlet = lock(&self.outlet);
        let Outlet { sinks, spare: lines } = &mut *outlet;
        for buffer in &self.buffers {
            std::mem::swap(&mut *lock(buffer), lines);
            if lines.is_empty() {
                continue;
            }
            for sink in sinks.iter_mut() {
                if let Err(error) = sink.write(lines) {
                    // Standard error, not the log: the log may go to the very place that failed.
                    eprintln!("audit records could not be written: {error}");
                    self.dropped.fetch_add(memchr::memchr_iter(b'\n', lines).count() as u64, Ordering::Relaxed);
                }
            }
            self.remember(lines);
            lines.clear();
            lines.shrink_to(BUFFER_KEPT);
        }
    }

    fn remember(&self, lines: &[u8]) {
        // Unless somebody follows, only the newest are ever read.
        let newest = match self.followers.receiver_count() {
            0 => memchr::memrchr_iter(b'\n', lines).nth(RECENT_RECORDS).map_or(0, |end| end + 1),
            _ => 0,
        };
        let mut recent = lock(&self.recent);
        for line in lines[newest..].split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
            if recent.len() == RECENT_RECORDS {
                recent.pop_front();
            }
            let line = Bytes::copy_from_slice(line);
            recent.push_back(line.clone());
            // An error only says that nobody follows.
            let _ = self.followers.send(line);
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

/// Opens a file of records, which name people: nobody but its owner and its group reads it, whatever the umask is and whoever made it.
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

/// Takes from a file that was there before what goes beyond [`FILE_MODE`]. Devices and pipes stay as they are.
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
