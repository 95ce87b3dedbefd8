//! The sinks of this machine: standard output, files, the system's syslog. The writer thread hands lines to them.

mod compression;
mod file;
mod marker;
mod outflow;
mod rotation;
mod stdout;
mod syslog;
mod syslog_message;

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use serde::Serialize;

pub(super) use self::{
    file::{FileSettings, FileSink, OpenedAfter, mode},
    marker::{Found, Marker},
    syslog_message::SyslogFormat,
};
use super::config::{RecordedDecision, SinkConfig, SyslogConfig};
use crate::base::lock::lock;

/// The time between two events about the same failure of a sink.
const TELL_EVERY: Duration = Duration::from_secs(60);

/// The counts of a sink, which live as long as the process.
#[derive(Debug)]
pub(crate) struct SinkCounts {
    pub(crate) name: Arc<str>,
    written: AtomicU64,
    dropped: AtomicU64,
    /// Those of the dropped ones that records tell of.
    told: AtomicU64,
    failures: AtomicU64,
    failing: Mutex<Failing>,
}

/// The last failure of a sink.
#[derive(Debug, Default)]
struct Failing {
    error: Option<String>,
    told_at: Option<Duration>,
}

impl SinkCounts {
    pub(crate) fn new(name: &str) -> Self {
        Self {
            name: name.into(),
            written: AtomicU64::new(0),
            dropped: AtomicU64::new(0),
            told: AtomicU64::new(0),
            failures: AtomicU64::new(0),
            failing: Mutex::default(),
        }
    }

    /// Notes records that arrived.
    pub(crate) fn wrote(&self, records: u64) {
        self.written.fetch_add(records, Ordering::Relaxed);
    }

    /// Notes that the sink works.
    pub(crate) fn works(&self) {
        let mut failing = lock(&self.failing);
        if failing.error.take().is_some() {
            failing.told_at = None;
            tracing::info!(sink = &*self.name, "the sink of audit records works again");
        }
    }

    /// Notes records that are lost.
    pub(crate) fn dropped(&self, records: u64) {
        self.dropped.fetch_add(records, Ordering::Relaxed);
    }

    /// Returns the number of records that were lost since the last call.
    pub(crate) fn take_untold(&self) -> u64 {
        let dropped = self.dropped.load(Ordering::Relaxed);
        dropped - self.told.swap(dropped, Ordering::Relaxed)
    }

    /// Notes a failure, and tells it to the log: once, and again after a while.
    pub(crate) fn failed(&self, error: &str, now: Duration) {
        self.failures.fetch_add(1, Ordering::Relaxed);
        let mut failing = lock(&self.failing);
        let due = failing.told_at.is_none_or(|told_at| now >= told_at + TELL_EVERY);
        if due || failing.error.as_deref() != Some(error) {
            failing.told_at = Some(now);
            tracing::warn!(sink = &*self.name, error, "the sink of audit records fails");
        }
        failing.error = Some(error.to_owned());
    }

    /// Returns the numbers of records written and dropped, and of failures.
    pub(crate) fn numbers(&self) -> (u64, u64, u64) {
        let number = |count: &AtomicU64| count.load(Ordering::Relaxed);
        (number(&self.written), number(&self.dropped), number(&self.failures))
    }

    /// Returns the last failure, if the sink fails now.
    pub(crate) fn error(&self) -> Option<String> {
        lock(&self.failing).error.clone()
    }
}

/// The choice of records that a sink gets.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Only(Vec<&'static [u8]>);

impl Only {
    /// Makes the choice of these decisions; all records if there are none.
    pub(crate) fn new(decisions: &[RecordedDecision]) -> Self {
        let written = |decision: &RecordedDecision| -> &'static [u8] {
            match decision {
                RecordedDecision::Allow => b"allow",
                RecordedDecision::Deny => b"deny",
                RecordedDecision::Error => b"error",
            }
        };
        Self(decisions.iter().map(written).collect())
    }

    /// Returns whether a record is among them. One without a decision always is.
    pub(crate) fn admits(&self, line: &[u8]) -> bool {
        // Within a text the quotes would be escaped, and no object stands before this member.
        const MEMBER: &[u8] = b",\"decision\":\"";
        if self.0.is_empty() {
            return true;
        }
        let Some(at) = memchr::memmem::find(line, MEMBER) else { return true };
        let value = &line[at + MEMBER.len()..];
        self.0.iter().any(|decision| value.starts_with(decision) && value.get(decision.len()) == Some(&b'"'))
    }

    /// Returns those of these lines that are among them.
    fn of<'a>(&self, lines: &'a [u8]) -> std::borrow::Cow<'a, [u8]> {
        if self.0.is_empty() {
            return lines.into();
        }
        let chosen = lines.split_inclusive(|byte| *byte == b'\n').filter(|line| self.admits(line));
        chosen.flatten().copied().collect::<Vec<u8>>().into()
    }
}

/// Returns the number of lines.
pub(crate) fn count_lines(lines: &[u8]) -> u64 {
    memchr::memchr_iter(b'\n', lines).count() as u64
}

/// A sink of this machine.
#[derive(Debug)]
pub(super) struct LocalSink {
    pub(super) counts: Arc<SinkCounts>,
    pub(super) only: Only,
    pub(super) kind: LocalKind,
}

/// The kind of a sink of this machine.
#[derive(Debug)]
pub(super) enum LocalKind {
    /// Something that may block, with a thread of its own, and how it was opened.
    Outflow(outflow::Outflow, SinkConfig),
    /// A file.
    File(Box<FileSink>),
}

impl LocalSink {
    /// Opens standard output or the system's syslog; `None` for other sinks.
    pub(super) fn open_outflow(config: &SinkConfig, counts: Arc<SinkCounts>) -> std::io::Result<Option<Self>> {
        let outflow = match config {
            SinkConfig::Stdout(stdout) => outflow::Outflow::spawn("stdout", stdout::writer(stdout.format), counts.clone())?,
            SinkConfig::Syslog(SyslogConfig { address, facility, .. }) => {
                let Some(path) = address.strip_prefix("unix:") else { return Ok(None) };
                outflow::Outflow::spawn("syslog", syslog::writer(path, SyslogFormat::new(*facility)), counts.clone())?
            }
            _ => return Ok(None),
        };
        let only = Only::new(config.only());
        Ok(Some(Self { counts, only, kind: LocalKind::Outflow(outflow, config.clone()) }))
    }

    /// Takes lines, this many. What cannot be taken is counted, and told to the log.
    pub(super) fn write(&mut self, lines: &[u8], records: u64, now: Duration) {
        let chosen = &*self.only.of(lines);
        if chosen.is_empty() {
            return;
        }
        let records = if chosen.len() == lines.len() { records } else { count_lines(chosen) };
        match &mut self.kind {
            LocalKind::Outflow(outflow, _) => outflow.push(chosen, records, now),
            LocalKind::File(file) => {
                let result = file.write(chosen, now);
                self.told(result, records, now);
            }
        }
    }

    /// Does what is due without records: rotation, seals, what a full disk did not take.
    pub(super) fn tick(&mut self, now: Duration) {
        if let LocalKind::File(file) = &mut self.kind {
            let result = file.tick(now);
            self.told(result, 0, now);
        }
    }

    /// Writes what waits, and the last seal.
    pub(super) fn close(&mut self, now: Duration) {
        if let LocalKind::File(file) = &mut self.kind
            && let Err(fault) = file.close(now)
        {
            // They were counted when they were taken.
            self.counts.dropped(fault.dropped);
            self.counts.failed(&fault.error.to_string(), now);
        }
    }

    fn told(&self, result: Result<(), file::WriteFault>, records: u64, now: Duration) {
        let dropped = match &result {
            Ok(()) => 0,
            Err(fault) => fault.dropped,
        };
        self.counts.wrote(records - dropped);
        match result {
            Ok(()) if records > 0 => self.counts.works(),
            Ok(()) => {}
            Err(fault) => {
                self.counts.dropped(dropped);
                self.counts.failed(&fault.error.to_string(), now);
            }
        }
    }
}

/// The state of a sink, for the status page.
#[derive(Clone, Debug, Serialize)]
pub struct SinkStatus {
    /// The sink's name.
    pub name: String,
    /// The number of records that arrived there.
    pub written: u64,
    /// The number of records that were lost on the way.
    pub dropped: u64,
    /// The number of failures.
    pub failures: u64,
    /// The failure, if it fails now.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// The bytes that wait in the spool, for a sink that crosses a network.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub spooled_bytes: Option<u64>,
    /// The age of the oldest record that waits, in seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub oldest_seconds: Option<u64>,
    /// The chain, for a file that has one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub chain: Option<super::chain::ChainStatus>,
}

impl SinkStatus {
    /// Returns the status of a sink with these counts.
    pub(super) fn of(counts: &SinkCounts) -> Self {
        let (written, dropped, failures) = counts.numbers();
        Self {
            name: counts.name.to_string(),
            written,
            dropped,
            failures,
            error: counts.error(),
            spooled_bytes: None,
            oldest_seconds: None,
            chain: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sink_gets_the_decisions_that_it_asks_for_and_all_records_without_one() {
        let lines = concat!(
            "{\"time\":\"t\",\"path\":\"/x\\\",\\\"decision\\\":\\\"deny\\\"\",\"decision\":\"allow\",\"n\":1}\n",
            "{\"time\":\"t\",\"decision\":\"deny\",\"claims\":{\"a\":1,\"decision\":\"allow\"}}\n",
            "{\"time\":\"t\",\"decision\":\"error\"}\n",
            "{\"time\":\"t\",\"event\":\"handshake-failed\"}\n",
        );
        for (only, expected) in [
            (&[][..], "0123"),
            (&[RecordedDecision::Deny], "13"),
            (&[RecordedDecision::Deny, RecordedDecision::Error], "123"),
            (&[RecordedDecision::Allow], "03"),
        ] {
            let kept = Only::new(only).of(lines.as_bytes()).into_owned();
            let expected: String =
                expected.bytes().map(|digit| lines.split_inclusive('\n').nth((digit - b'0').into()).unwrap()).collect();
            assert_eq!(String::from_utf8(kept).unwrap(), expected, "{only:?}");
        }
    }
}
