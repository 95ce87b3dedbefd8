//! Records of the log itself: what was dropped, and how the process before ended.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use super::line::{Line, number, plain, text};

/// The kind of a record of the log itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum OwnKind {
    /// A buffer was full, or a sink took nothing.
    RecordsDropped,
    /// The spool was full, and its oldest records went.
    SpoolFull,
    /// Part of the spool could not be read.
    SpoolDamaged,
    /// A receiver refused records for good.
    RecordsRejected,
    /// The process before ended without notice.
    UncleanEnd,
    /// A file ended in the middle of a line.
    Torn,
}

impl OwnKind {
    /// Returns the name, as the record has it.
    pub(crate) const fn code(self) -> &'static str {
        match self {
            Self::RecordsDropped => "records-dropped",
            Self::SpoolFull => "spool-full",
            Self::SpoolDamaged => "spool-damaged",
            Self::RecordsRejected => "records-rejected",
            Self::UncleanEnd => "unclean-end",
            Self::Torn => "torn",
        }
    }
}

/// A record of the log itself.
#[derive(Clone, Debug)]
pub(crate) struct OwnRecord {
    pub(crate) kind: OwnKind,
    /// The sink that it is about.
    pub(crate) sink: Option<String>,
    /// The number of records that it is about.
    pub(crate) count: Option<u64>,
    pub(crate) detail: String,
}

/// The ids of such records.
#[derive(Debug)]
pub(crate) struct RecordIds {
    series: u64,
    count: AtomicU64,
}

impl Default for RecordIds {
    fn default() -> Self {
        let (series, _) = uuid::Uuid::new_v4().as_u64_pair();
        Self { series, count: AtomicU64::new(0) }
    }
}

impl RecordIds {
    /// Returns an id that no other record has.
    pub(crate) fn next(&self) -> u128 {
        u128::from(self.series) << 64 | u128::from(self.count.fetch_add(1, Ordering::Relaxed))
    }
}

impl OwnRecord {
    /// Writes the record, with its line end.
    pub(crate) fn write(&self, buffer: &mut Vec<u8>, now: Duration, record_id: u128) {
        let mut line = Line::begin(buffer, now, record_id);
        plain!(line, "event", self.kind.code());
        text!(line, "sink", self.sink.as_deref());
        number!(line, "count", self.count);
        text!(line, "detail", &*self.detail);
        line.end();
    }
}
