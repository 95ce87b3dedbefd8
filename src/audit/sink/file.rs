//! A file of records: appended to, rotated, reopened.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write as _},
    path::{Path, PathBuf},
    time::Duration,
};

use super::{
    compression::{Housekeeping, Keeping},
    count_lines,
    marker::{Found, Marker},
    rotation::{Rotation, rotated_name},
};
use crate::audit::{
    chain::{Chain, ChainSettings, ChainStatus, SealReason, Tail},
    config::FileConfig,
};

/// The most bytes that wait while the file takes nothing.
const PENDING: usize = 16 << 20;
/// The bytes that a chain adds to a line, at most.
const LINK: usize = 96;
/// The pause after a rotation that failed.
const RETRY_ROTATION: Duration = Duration::from_secs(60);
/// The widest mode of a file of records.
#[cfg(unix)]
const WIDEST_MODE: u32 = 0o640;

/// The settings of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::audit) struct FileSettings {
    rotation: Rotation,
    keeping: Keeping,
    mode: u32,
}

impl FileSettings {
    /// Reads the settings, which were checked.
    pub(in crate::audit) fn new(config: &FileConfig) -> Self {
        let rotation = Rotation { size: config.rotate.size.map(|size| size.0), every: config.rotate.every.map(|every| every.0) };
        let keeping = Keeping { compress: config.compress.is_some(), keep: config.keep.map(|keep| keep.0) };
        Self { rotation, keeping, mode: config.mode.as_deref().and_then(mode).unwrap_or(0o640) }
    }
}

/// Reads a mode in octal: 0640 at most, and writable by its owner.
pub(in crate::audit) fn mode(text: &str) -> Option<u32> {
    let mode = u32::from_str_radix(text, 8).ok().filter(|_| text.bytes().all(|byte| byte.is_ascii_digit()))?;
    (mode & !0o640 == 0 && mode & 0o600 == 0o600).then_some(mode)
}

/// The lines that were lost, and why.
#[derive(Debug)]
pub(super) struct WriteFault {
    pub(super) dropped: u64,
    pub(super) error: io::Error,
}

/// The state in which a file was found.
#[derive(Clone, Copy, Debug, Default)]
pub(in crate::audit) struct OpenedAfter {
    /// A process has ended without notice.
    pub(in crate::audit) unclean: bool,
    /// The number of bytes of a line that is not whole.
    pub(in crate::audit) torn: Option<u64>,
}

/// A file of records.
#[derive(Debug)]
pub(in crate::audit) struct FileSink {
    path: PathBuf,
    settings: FileSettings,
    file: File,
    /// Whether it is a file, and neither a device nor a pipe.
    regular: bool,
    size: u64,
    /// The period in which the file was begun.
    period: u64,
    /// Lines that the file has not taken.
    pending: Vec<u8>,
    chain: Option<Chain>,
    _marker: Option<Marker>,
    housekeeping: Housekeeping,
    /// The time until which no rotation is tried again.
    not_before: Duration,
}

impl FileSink {
    /// Opens the file, and goes on with its chain.
    pub(in crate::audit) fn open(
        path: PathBuf,
        settings: FileSettings,
        chain: Option<&ChainSettings>,
        now: Duration,
    ) -> io::Result<(Self, OpenedAfter)> {
        let file = open_file(&path, settings.mode).map_err(|error| named(&path, &error))?;
        let metadata = file.metadata()?;
        let (regular, size) = (metadata.is_file(), metadata.len());
        let begun = metadata.modified().ok().and_then(|modified| modified.duration_since(std::time::UNIX_EPOCH).ok());
        let period = settings.rotation.period(begun.filter(|_| size > 0).unwrap_or(now));
        let (marker, found) = Marker::beside(&path).filter(|_| regular).map_or((None, Found::Nothing), Marker::set);
        let tail = if regular { Tail::read(&path)? } else { Tail::default() };
        let mut sink = Self {
            path,
            settings,
            file,
            regular,
            size,
            period,
            pending: Vec::new(),
            chain: None,
            _marker: marker,
            housekeeping: Housekeeping::default(),
            not_before: Duration::ZERO,
        };
        let torn = tail.torn.as_ref().map(|torn| torn.bytes);
        sink.go_on(tail, chain, now)?;
        sink.housekeeping.start(&sink.path, sink.settings.keeping);
        Ok((sink, OpenedAfter { unclean: found == Found::Left, torn }))
    }

    /// Goes on after what the file holds: ends a line that is not whole, and takes up its chain or begins one.
    fn go_on(&mut self, tail: Tail, chain: Option<&ChainSettings>, now: Duration) -> io::Result<()> {
        if tail.torn.is_some() {
            self.pending.push(b'\n');
        }
        match chain.filter(|_| self.regular) {
            Some(settings) => self.begin_chain(tail, settings, now),
            None => {
                if let Some(torn) = &tail.torn {
                    torn.write(now, &mut self.pending);
                }
                Ok(())
            }
        }
    }

    fn begin_chain(&mut self, tail: Tail, settings: &ChainSettings, now: Duration) -> io::Result<()> {
        let name = self.name();
        if self.size > 0 && tail.link.is_none() {
            // What was written without a chain gets a file of its own: the chain of a file begins with its first line.
            if let Some(torn) = &tail.torn {
                torn.write(now, &mut self.pending);
            }
            self.rotate_away(now)?;
            self.chain = Some(Chain::begin(settings, &name, now, &mut self.pending));
            return Ok(());
        }
        self.chain = Some(match tail.link {
            Some(link) => Chain::take_up(settings, link, tail.torn.as_ref(), &name, now, &mut self.pending),
            None => Chain::begin(settings, &name, now, &mut self.pending),
        });
        Ok(())
    }

    fn name(&self) -> String {
        self.path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
    }

    /// Returns the path.
    pub(in crate::audit) fn path(&self) -> &Path {
        &self.path
    }

    /// Returns the state of its chain.
    pub(in crate::audit) fn chain_status(&self) -> Option<ChainStatus> {
        self.chain.as_ref().map(Chain::status)
    }

    /// Returns the seals that were made since the last call, as records for other sinks.
    pub(in crate::audit) fn take_seals(&mut self) -> Vec<Vec<u8>> {
        self.chain.as_mut().map(Chain::take_seals).unwrap_or_default()
    }

    /// Takes lines. What the file does not take waits, within limits.
    pub(super) fn write(&mut self, lines: &[u8], now: Duration) -> Result<(), WriteFault> {
        if self.pending.len() >= PENDING {
            let result = self.drain();
            if let Err(error) = result
                && self.pending.len() >= PENDING
            {
                return Err(WriteFault { dropped: count_lines(lines), error });
            }
        }
        let result = self.compose(lines, now).and_then(|()| self.drain());
        result.map_err(|error| WriteFault { dropped: 0, error })
    }

    /// Adds lines to those that wait, and rotates where the file is full.
    fn compose(&mut self, lines: &[u8], now: Duration) -> io::Result<()> {
        let mut result = self.rotate_if_due(now);
        let size = self.size + self.pending.len() as u64;
        if self.chain.is_none() && self.settings.rotation.has_room(size, lines.len()) {
            if self.pending.is_empty() {
                // From where they are; what the file does not take waits.
                let (written, taken) = write(&mut self.file, lines);
                self.size += written as u64;
                self.pending.extend_from_slice(&lines[written..]);
                return result.and(taken.map_err(|error| named(&self.path, &error)));
            }
            self.pending.extend_from_slice(lines);
            return result;
        }
        for line in lines.split_inclusive(|byte| *byte == b'\n') {
            let more = line.len() + self.chain.as_ref().map_or(0, |_| LINK);
            if !self.settings.rotation.has_room(self.size + self.pending.len() as u64, more) && now >= self.not_before {
                result = result.and(self.rotate(now));
            }
            match &mut self.chain {
                Some(chain) => chain.link(line, &mut self.pending),
                None => self.pending.extend_from_slice(line),
            }
        }
        result
    }

    /// Does what is due without records.
    pub(super) fn tick(&mut self, now: Duration) -> Result<(), WriteFault> {
        let rotated = self.rotate_if_due(now);
        if let Some(chain) = &mut self.chain {
            chain.seal_if_due(now, &mut self.pending);
        }
        rotated.and_then(|()| self.drain()).map_err(|error| WriteFault { dropped: 0, error })
    }

    /// Writes the last seal and what waits.
    pub(super) fn close(&mut self, now: Duration) -> Result<(), WriteFault> {
        if let Some(chain) = &mut self.chain {
            chain.seal(now, SealReason::Stop, &mut self.pending);
        }
        self.drain().map_err(|error| WriteFault { dropped: count_lines(&self.pending), error })
    }

    /// Writes what waits. After a failure, the rest of a line that was written in part goes on where it ended.
    fn drain(&mut self) -> io::Result<()> {
        if self.pending.is_empty() {
            return Ok(());
        }
        let (written, result) = write(&mut self.file, &self.pending);
        self.size += written as u64;
        self.pending.drain(..written);
        self.pending.shrink_to(2 << 20);
        result.map_err(|error| named(&self.path, &error))
    }

    fn rotate_if_due(&mut self, now: Duration) -> io::Result<()> {
        let period = self.settings.rotation.period(now);
        if !self.regular || period == self.period || now < self.not_before {
            return Ok(());
        }
        if self.size == 0 && self.pending.is_empty() {
            self.period = period;
            return Ok(());
        }
        self.rotate(now)
    }

    /// Renames the file and begins a new one. If that fails the records go on into the old one, and it is tried again later.
    fn rotate(&mut self, now: Duration) -> io::Result<()> {
        if !self.regular {
            return Ok(());
        }
        if let Some(chain) = &mut self.chain {
            chain.seal(now, SealReason::Rotation, &mut self.pending);
        }
        self.rotate_away(now)?;
        let name = self.name();
        if let Some(chain) = &mut self.chain {
            chain.begin_file(&name, now, &mut self.pending);
        }
        self.housekeeping.start(&self.path, self.settings.keeping);
        Ok(())
    }

    fn rotate_away(&mut self, now: Duration) -> io::Result<()> {
        let renamed = rotated_name(&self.path, now);
        let result = self.drain().and_then(|()| {
            fs::rename(&self.path, &renamed)?;
            open_file(&self.path, self.settings.mode)
        });
        match result {
            Ok(file) => {
                self.file = file;
                self.size = 0;
                self.period = self.settings.rotation.period(now);
                if let Some(chain) = &mut self.chain {
                    chain.file_was(&renamed);
                }
                Ok(())
            }
            Err(error) => {
                self.not_before = now + RETRY_ROTATION;
                Err(named(&self.path, &error))
            }
        }
    }

    /// Opens the file anew, so that one that was renamed is left alone from now on. Does nothing until [`reopen`](Self::reopen).
    pub(in crate::audit) fn opened_anew(&self, mode: u32) -> io::Result<File> {
        open_file(&self.path, mode).map_err(|error| named(&self.path, &error))
    }

    /// Goes on in a file that was opened anew, with these settings.
    pub(in crate::audit) fn reopen(
        &mut self,
        file: File,
        settings: FileSettings,
        chain: Option<&ChainSettings>,
        now: Duration,
    ) -> io::Result<()> {
        self.settings = settings;
        if !self.is_this(&file) {
            if let Some(own) = &mut self.chain {
                own.seal(now, SealReason::Rotation, &mut self.pending);
            }
            // What the old file does not take goes to the new one.
            let drained = self.drain();
            self.size = file.metadata()?.len();
            self.file = file;
            self.period = self.settings.rotation.period(now);
            let name = self.name();
            if let Some(own) = &mut self.chain {
                own.begin_file(&name, now, &mut self.pending);
            }
            drained?;
        }
        match (&mut self.chain, chain.filter(|_| self.regular)) {
            (Some(own), Some(settings)) => own.set(settings),
            (Some(own), None) => {
                own.seal(now, SealReason::Stop, &mut self.pending);
                self.chain = None;
            }
            (None, Some(settings)) => self.begin_chain(Tail::default(), settings, now)?,
            (None, None) => {}
        }
        self.housekeeping.start(&self.path, self.settings.keeping);
        self.drain()
    }

    /// Returns whether another handle leads to the same file.
    #[cfg(unix)]
    fn is_this(&self, other: &File) -> bool {
        use std::os::unix::fs::MetadataExt as _;

        let id = |file: &File| file.metadata().map(|metadata| (metadata.dev(), metadata.ino())).ok();
        id(&self.file) == id(other)
    }

    #[cfg(not(unix))]
    fn is_this(&self, _: &File) -> bool {
        // A file that is open cannot be renamed there.
        true
    }
}

/// Writes bytes as far as the file takes them; returns how many it took, too.
fn write(file: &mut File, bytes: &[u8]) -> (usize, io::Result<()>) {
    let mut written = 0;
    loop {
        let rest = &bytes[written..];
        if rest.is_empty() {
            return (written, Ok(()));
        }
        match file.write(rest) {
            Ok(0) => return (written, Err(io::ErrorKind::WriteZero.into())),
            Ok(count) => written += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return (written, Err(error)),
        }
    }
}

fn named(path: &Path, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}

impl FileSettings {
    /// Returns the mode.
    pub(in crate::audit) const fn mode(&self) -> u32 {
        self.mode
    }
}

/// Opens a file of records. They contain personal data, so only its owner and its group may read it, whatever the umask and
/// whoever created it.
fn open_file(path: &Path, mode: u32) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.append(true).create(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, mode);
    let file = options.open(path)?;
    narrow(&file, path, mode)?;
    Ok(file)
}

/// Changes nothing: who may read a file is what its folder hands down.
#[cfg(not(unix))]
fn narrow(_: &File, _: &Path, _: u32) -> io::Result<()> {
    Ok(())
}

/// Removes permissions beyond the setting from an existing file. Devices and pipes stay as they are.
#[cfg(unix)]
fn narrow(file: &File, path: &Path, wanted: u32) -> io::Result<()> {
    use std::os::unix::fs::PermissionsExt as _;

    let wanted = wanted & WIDEST_MODE;
    let metadata = file.metadata()?;
    let mode = metadata.permissions().mode() & 0o7777;
    if !metadata.is_file() || mode & !wanted == 0 {
        return Ok(());
    }
    let mut permissions = metadata.permissions();
    permissions.set_mode(mode & wanted);
    let (path, before, now) = (path.display(), format!("{mode:04o}"), format!("{:04o}", mode & wanted));
    // Another user's file cannot be changed; the records are worth more than its mode.
    match file.set_permissions(permissions) {
        Ok(()) => tracing::warn!(%path, before, now, "the file of audit records could be read by others; its mode was narrowed"),
        Err(error) => {
            tracing::warn!(%path, mode = before, %error, "the file of audit records can be read by others, and its mode cannot be changed");
        }
    }
    Ok(())
}
