//! The spool: a folder in which records wait until every sink that crosses a network has them.
//!
//! Records are appended to files, which are bounded, and reach the disk with each flush of the writer thread. Each sink has a place
//! in the row of all records; what lies before the places of all sinks is deleted. After a crash the last file is cut behind its
//! last whole record. When the spool is full the oldest file goes, whoever still needs it, and what was lost is counted for each.

mod cursors;
mod segment;

use std::{
    collections::VecDeque,
    fs::{self, File, OpenOptions},
    io::{self, Write as _},
    path::{Path, PathBuf},
    sync::Mutex,
};

use tokio::sync::watch;

pub(super) use self::segment::Cursor;
use self::{cursors::Cursors, segment::Segment};
use super::sink::{Found, Marker, count_lines};
use crate::base::lock::lock;

/// The size of a spool that does not say one.
pub(super) const DEFAULT_SIZE: u64 = 1 << 30;
/// The smallest spool.
pub(super) const SMALLEST: u64 = 1 << 20;
/// The most bytes that wait in memory while the disk takes nothing.
const BACKLOG: usize = 16 << 20;

/// The spool.
#[derive(Debug)]
pub(super) struct Spool {
    folder: PathBuf,
    state: Mutex<State>,
    /// Changes with each append.
    grown: watch::Sender<u64>,
}

#[derive(Debug)]
struct State {
    size: u64,
    /// The files, the oldest first. The last one is written to.
    segments: VecDeque<Segment>,
    file: Option<File>,
    cursors: Cursors,
    /// Records as they stand in a file, that no file has taken yet, and their number.
    backlog: Vec<Vec<u8>>,
    backlog_bytes: usize,
    marker: Option<Marker>,
}

/// The state in which a spool was found.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct SpoolFound {
    /// A process has ended without notice.
    pub(super) unclean: bool,
    /// The bytes at the end that are no whole record.
    pub(super) cut: u64,
}

/// Records that were lost: for which sink, and how many.
pub(super) type Lost = Vec<(String, u64)>;

/// Records that were read.
#[derive(Debug, Default)]
pub(super) struct Batch {
    /// Each with the place after it.
    pub(super) records: Vec<(Vec<u8>, Cursor)>,
    /// The number of records that could not be read, and were passed over.
    pub(super) damaged: u64,
}

impl Spool {
    /// Opens the spool in a folder, which is made if it is not there.
    pub(super) fn open(folder: &Path, size: u64) -> io::Result<(Self, SpoolFound)> {
        let named = |error: io::Error| io::Error::new(error.kind(), format!("{}: {error}", folder.display()));
        make_folder(folder).map_err(named)?;
        let (marker, found) = Marker::set(folder.join("open"));
        if found == Found::Held {
            return Err(named(io::Error::other("another process uses this spool; give each gateway its own")));
        }
        let (segments, cut) = read_segments(folder).map_err(named)?;
        let cursors = Cursors::read(folder).map_err(named)?;
        let state = State { size, segments, file: None, cursors, backlog: Vec::new(), backlog_bytes: 0, marker };
        let spool = Self { folder: folder.to_owned(), state: Mutex::new(state), grown: watch::channel(0).0 };
        // Whether it can be written to is found out now, and not with the first record.
        lock(&spool.state).prepare(&spool.folder).map_err(named)?;
        Ok((spool, SpoolFound { unclean: found == Found::Left, cut }))
    }

    /// Notes that this process is done with it, so that another one may open it.
    pub(super) fn release(&self) {
        lock(&self.state).marker = None;
    }

    /// Returns the folder.
    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Sets the size.
    pub(super) fn set_size(&self, size: u64) {
        lock(&self.state).size = size;
    }

    /// Sets which sinks there are: new ones begin with the next record, and those that are gone lose what they had not got.
    pub(super) fn set_sinks(&self, sinks: &[String]) -> io::Result<Lost> {
        let mut state = lock(&self.state);
        let end = state.end();
        let gone = state.cursors.keep(sinks);
        for sink in sinks {
            match state.cursors.get(sink) {
                None => state.cursors.set(sink, end)?,
                // Of a spool that was emptied by hand.
                Some(at) if at > end => state.cursors.set(sink, end)?,
                Some(_) => {}
            }
        }
        state.forget();
        Ok(gone
            .into_iter()
            .map(|(sink, at)| (sink, end.record.saturating_sub(at.record)))
            .filter(|(_, lost)| *lost > 0)
            .collect())
    }

    /// Appends lines. What the disk does not take waits in memory, within limits.
    ///
    /// Returns the records that were lost for that, and the failure of the disk, if there is one.
    pub(super) fn append(&self, lines: &[u8]) -> (Lost, Option<io::Error>) {
        let mut state = lock(&self.state);
        let mut lost = Lost::new();
        if !lines.is_empty() {
            if state.backlog_bytes + lines.len() > BACKLOG {
                let count = count_lines(lines);
                lost.extend(state.cursors.iter().map(|(sink, _)| (sink.clone(), count)));
            } else {
                let records = lines.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
                let records: Vec<_> = records.map(<[u8]>::to_vec).collect();
                state.backlog_bytes += lines.len();
                state.backlog.extend(records);
            }
        }
        if state.backlog.is_empty() {
            return (lost, None);
        }
        let error = state.write_backlog(&self.folder, &mut lost).err();
        drop(state);
        self.grown.send_modify(|count| *count += 1);
        (lost, error)
    }

    /// Returns a receiver that learns of each append.
    pub(super) fn watch(&self) -> watch::Receiver<u64> {
        self.grown.subscribe()
    }

    /// Reads the next records of a sink, about as many bytes as asked for.
    pub(super) fn read(&self, sink: &str, most: usize) -> io::Result<Batch> {
        let (segment, from, next) = {
            let state = lock(&self.state);
            let Some(from) = state.cursors.get(sink) else { return Ok(Batch::default()) };
            let of = |segment: &&Segment| segment.end > from;
            let Some(segment) = state.segments.iter().find(of).cloned() else { return Ok(Batch::default()) };
            (segment.clone(), from.max(segment.start), segment.end)
        };
        let passed_over = |from: Cursor| Batch { records: Vec::new(), damaged: next.record - from.record };
        let (records, damaged) = match segment::read(&segment, from, most) {
            Ok(read) => read,
            // It has just gone, since the spool was full: that was counted.
            Err(error) if error.kind() == io::ErrorKind::NotFound && lock(&self.state).is_gone(&segment) => {
                return Ok(Batch::default());
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => (Vec::new(), true),
            Err(error) => return Err(error),
        };
        if records.is_empty() && damaged {
            let batch = passed_over(from);
            self.commit(sink, next)?;
            return Ok(batch);
        }
        Ok(Batch { records, damaged: 0 })
    }

    /// Notes that a sink has got everything up to a place; what nobody needs any more is deleted.
    pub(super) fn commit(&self, sink: &str, to: Cursor) -> io::Result<()> {
        let mut state = lock(&self.state);
        let result = state.cursors.advance(sink, to);
        state.forget();
        result
    }

    /// Returns the bytes that a sink has not got.
    pub(super) fn waiting(&self, sink: &str) -> u64 {
        let state = lock(&self.state);
        let at = state.cursors.get(sink);
        at.map_or(0, |at| state.end().position.saturating_sub(at.position)) + state.backlog_bytes as u64
    }
}

impl State {
    /// Returns the place behind the last record.
    fn end(&self) -> Cursor {
        self.segments.back().map_or(Cursor::default(), |segment| segment.end)
    }

    fn is_gone(&self, segment: &Segment) -> bool {
        self.segments.front().is_none_or(|first| first.start > segment.start)
    }

    /// Opens the file that is written to.
    fn prepare(&mut self, folder: &Path) -> io::Result<()> {
        let most = (self.size / 8).min(16 << 20);
        let end = self.end();
        let full = self.segments.back().is_none_or(|segment| segment.bytes() >= most);
        if self.file.is_some() && !full {
            return Ok(());
        }
        let segment = if full { Segment::new(folder, end) } else { Segment::clone(&self.segments[self.segments.len() - 1]) };
        let mut options = OpenOptions::new();
        options.append(true).create(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        self.file = Some(options.open(&segment.path)?);
        if full {
            self.segments.push_back(segment);
        }
        Ok(())
    }

    /// Writes the backlog, a file at a time.
    fn write_backlog(&mut self, folder: &Path, lost: &mut Lost) -> io::Result<()> {
        while !self.backlog.is_empty() {
            self.prepare(folder)?;
            let (Some(file), Some(segment)) = (&mut self.file, self.segments.back_mut()) else { return Ok(()) };
            let most = usize::try_from((self.size / 8).min(16 << 20).saturating_sub(segment.bytes())).unwrap_or(usize::MAX);
            let (mut bytes, mut end, mut taken) = (Vec::new(), segment.end, 0);
            for record in &self.backlog {
                if taken > 0 && bytes.len() + record.len() > most {
                    break;
                }
                segment::frame(record, &mut bytes);
                end = end.after(record.len());
                taken += 1;
            }
            let written = file.write_all(&bytes).and_then(|()| file.sync_data());
            if let Err(error) = written {
                // A part of it may stand there: the next attempt begins where this one did.
                if let Err(error) = file.set_len(segment.bytes()) {
                    tracing::debug!(%error, "the end of the spool cannot be cut");
                    // In a new file, then; what follows the last whole record of this one is passed over.
                    self.file = None;
                    let next =
                        Segment::new(folder, Cursor { position: segment.end.position + bytes.len() as u64, ..segment.end });
                    self.segments.push_back(next);
                }
                self.make_room(0, lost);
                return Err(error);
            }
            segment.end = end;
            let records: Vec<_> = self.backlog.drain(..taken).collect();
            // The line ends were counted, too.
            let lines: usize = records.iter().map(|record| record.len() + 1).sum();
            self.backlog_bytes = self.backlog_bytes.saturating_sub(lines);
            self.make_room(0, lost);
        }
        Ok(())
    }

    /// Deletes the oldest files until the spool is within its size.
    fn make_room(&mut self, more: u64, lost: &mut Lost) {
        while self.segments.len() > 1 && self.segments.iter().map(Segment::bytes).sum::<u64>() + more > self.size {
            let Some(oldest) = self.segments.pop_front() else { return };
            let behind: Vec<_> =
                self.cursors.iter().filter(|(_, at)| *at < oldest.end).map(|(sink, at)| (sink.clone(), at)).collect();
            for (sink, at) in behind {
                let count = oldest.end.record - at.record.max(oldest.start.record);
                // Written or not: a place in a file that is gone leads to the next one.
                let _ = self.cursors.advance(&sink, oldest.end);
                match lost.iter_mut().find(|(known, _)| *known == sink) {
                    Some((_, known)) => *known += count,
                    None => lost.push((sink, count)),
                }
            }
            remove(&oldest);
        }
    }

    /// Deletes the files that every sink has got.
    fn forget(&mut self) {
        let least = self.cursors.least().unwrap_or_else(|| self.end());
        while self.segments.len() > 1 && self.segments[0].end <= least {
            if let Some(segment) = self.segments.pop_front() {
                remove(&segment);
            }
        }
    }
}

fn remove(segment: &Segment) {
    if let Err(error) = fs::remove_file(&segment.path)
        && error.kind() != io::ErrorKind::NotFound
    {
        tracing::warn!(path = %segment.path.display(), %error, "a file of the spool cannot be deleted");
    }
}

/// Makes the folder, for its owner alone: records contain personal data.
fn make_folder(folder: &Path) -> io::Result<()> {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(folder)
}

/// Reads what files there are, and cuts the last one behind its last whole record.
fn read_segments(folder: &Path) -> io::Result<(VecDeque<Segment>, u64)> {
    let mut segments = Vec::new();
    for entry in fs::read_dir(folder)? {
        let name = entry?.file_name();
        segments.extend(name.to_str().and_then(|name| Segment::named(folder, name)));
    }
    segments.sort_by_key(|segment| segment.start);
    let starts: Vec<_> = segments.iter().map(|segment| segment.start).skip(1).collect();
    for (segment, next) in segments.iter_mut().zip(starts) {
        segment.end = next;
    }
    let mut cut = 0;
    if let Some(last) = segments.last_mut() {
        let (end, length) = segment::scan(last)?;
        last.end = end;
        if length > last.bytes() {
            cut = length - last.bytes();
            OpenOptions::new().write(true).open(&last.path)?.set_len(last.bytes())?;
        }
    }
    Ok((segments.into(), cut))
}

#[cfg(test)]
mod tests;
