//! The task of one sink: reads, sends, and tries again.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use arc_swap::ArcSwap;
use bytes::Bytes;
use tokio::{sync::watch, time::Instant};
use tokio_util::sync::CancellationToken;

use super::{Remote, Verdict, backoff::Backoff, rejected};
use crate::{
    audit::{
        own_record::{OwnKind, OwnRecord},
        sink::{SinkCounts, SinkStatus},
        spool::{Cursor, Spool},
    },
    base::{clock::Clock, lock::lock},
};

/// The longest time that a record waits for others.
const GATHER: Duration = Duration::from_secs(1);
/// The bytes that are read from the spool in one step.
const READ: usize = 1 << 20;
/// The time that the last records have to arrive when the gateway ends.
const LAST: Duration = Duration::from_secs(5);
/// The refused parts of a batch, one after the other, from which on the rest of the batch is not tried any more.
const STRIKES: u32 = 4;

/// A row, and the place after its record.
struct Row {
    bytes: Bytes,
    record: Bytes,
    after: Cursor,
}

/// The delivery to one sink.
#[derive(Debug)]
pub(in crate::audit) struct Delivery {
    pub(in crate::audit) name: String,
    pub(in crate::audit) counts: Arc<SinkCounts>,
    remote: ArcSwap<Remote>,
    spool: Arc<Spool>,
    clock: Clock,
    /// The time of the oldest record that waits, in seconds since 1970; 0 if none waits.
    oldest: AtomicU64,
    /// Records of the log about the delivery itself.
    own: Mutex<Vec<OwnRecord>>,
    ended: CancellationToken,
    /// Whether the gateway ends: what is left is sent once more, and then left to the next process.
    last: watch::Sender<bool>,
}

impl Delivery {
    /// Makes the delivery to a sink; it begins with [`run`](Self::run).
    pub(in crate::audit) fn new(remote: Remote, counts: Arc<SinkCounts>, spool: Arc<Spool>, clock: Clock) -> Arc<Self> {
        Arc::new(Self {
            name: remote.name.clone(),
            counts,
            remote: ArcSwap::from_pointee(remote),
            spool,
            clock,
            oldest: AtomicU64::new(0),
            own: Mutex::default(),
            ended: CancellationToken::new(),
            last: watch::channel(false).0,
        })
    }

    /// Sends to this from now on, as after a reload.
    pub(in crate::audit) fn set(&self, remote: Remote) {
        self.remote.store(Arc::new(remote));
    }

    /// Ends the delivery at once: the sink is no longer in the config.
    pub(in crate::audit) fn end(&self) {
        self.ended.cancel();
    }

    /// Lets what is left be sent once more, and then ends.
    pub(in crate::audit) fn finish(&self) {
        self.last.send_replace(true);
    }

    /// Waits until the delivery has ended.
    pub(in crate::audit) async fn finished(&self) {
        self.ended.cancelled().await;
    }

    /// Returns what the log has to say.
    pub(in crate::audit) fn take_own(&self) -> Vec<OwnRecord> {
        std::mem::take(&mut *lock(&self.own))
    }

    /// Returns the status.
    pub(in crate::audit) fn status(&self, now: u64) -> SinkStatus {
        let bytes = self.spool.waiting(&self.name);
        let oldest = self.oldest.load(Ordering::Relaxed);
        let age = if bytes == 0 || oldest == 0 { 0 } else { now.saturating_sub(oldest) };
        SinkStatus { spooled_bytes: Some(bytes), oldest_seconds: Some(age), ..SinkStatus::of(&self.counts) }
    }

    /// Delivers until it is told to end.
    pub(in crate::audit) async fn run(self: Arc<Self>) {
        let ended = self.ended.clone();
        let _done = ended.clone().drop_guard();
        tokio::select! {
            () = self.deliver() => {}
            () = ended.cancelled() => {}
        }
    }

    async fn deliver(&self) {
        let (mut grown, mut last) = (self.spool.watch(), self.last.subscribe());
        let mut backoff = Backoff::default();
        let mut gathering: Option<Instant> = None;
        let mut deadline: Option<Instant> = None;
        loop {
            grown.borrow_and_update();
            if *last.borrow_and_update() && deadline.is_none() {
                deadline = Some(Instant::now() + LAST);
            }
            let rows = self.read().await;
            let Some(first) = rows.first() else {
                self.oldest.store(0, Ordering::Relaxed);
                gathering = None;
                if deadline.is_some() {
                    return;
                }
                tokio::select! {
                    _ = grown.changed() => {}
                    _ = last.changed() => {}
                }
                continue;
            };
            self.oldest.store(time_of(&first.record).unwrap_or_else(|| self.clock.unix_seconds()), Ordering::Relaxed);
            let full =
                rows.iter().map(|row| row.bytes.len()).sum::<usize>() >= self.remote.load_full().target.limits().bytes / 10 * 9;
            let since = *gathering.get_or_insert_with(Instant::now);
            if !full && deadline.is_none() && since.elapsed() < GATHER {
                // Others may come along; nobody waits for these.
                tokio::select! {
                    () = tokio::time::sleep_until(since + GATHER) => {}
                    _ = last.changed() => {}
                }
                continue;
            }
            gathering = None;
            let delivered = Box::pin(self.send_all(&rows, &mut backoff, &mut last, deadline)).await;
            if !delivered && deadline.is_some_and(|deadline| Instant::now() >= deadline) {
                return;
            }
        }
    }

    /// Reads records and writes them as rows, as many as one call may carry.
    async fn read(&self) -> Vec<Row> {
        let remote = self.remote.load_full();
        let limits = remote.target.limits();
        let batch = match self.spool.read(&self.name, READ.min(limits.bytes)) {
            Ok(batch) => batch,
            Err(error) => {
                self.counts.failed(&error.to_string(), self.clock.unix());
                tokio::time::sleep(GATHER).await;
                return Vec::new();
            }
        };
        if batch.damaged > 0 {
            self.counts.dropped(batch.damaged);
            tracing::error!(sink = self.name, records = batch.damaged, "part of the spool is damaged, and its records are lost");
            let detail = "a file of the spool is damaged".to_owned();
            self.say(OwnKind::SpoolDamaged, batch.damaged, detail);
        }
        let (mut rows, mut bytes, mut passed) = (Vec::new(), 0, None);
        for (record, after) in batch.records {
            if !remote.only.admits(&record) {
                passed = Some(after);
                continue;
            }
            let row = remote.target.row(&record);
            if !rows.is_empty() && bytes + row.len() + limits.between > limits.bytes {
                break;
            }
            bytes += row.len() + limits.between;
            rows.push(Row { bytes: row.into(), record: record.into(), after });
        }
        // Those that nobody asked for have arrived, so to speak.
        if let (true, Some(passed)) = (rows.is_empty(), passed) {
            self.commit(passed);
        }
        rows
    }

    /// Sends rows until each has arrived or was set aside; returns whether that is so, which a deadline may prevent.
    async fn send_all(
        &self,
        rows: &[Row],
        backoff: &mut Backoff,
        last: &mut watch::Receiver<bool>,
        mut deadline: Option<Instant>,
    ) -> bool {
        let mut parts = vec![rows];
        let mut strikes = 0;
        while let Some(part) = parts.pop() {
            let bytes: Vec<_> = part.iter().map(|row| row.bytes.clone()).collect();
            let remote = self.remote.load_full();
            let verdict = remote.target.send(&bytes).await;
            let halves = part.split_at(part.len() / 2);
            match verdict {
                Verdict::Delivered => {
                    backoff.reset();
                    strikes = 0;
                    self.counts.wrote(part.len() as u64);
                    self.counts.works();
                    self.arrived(part);
                }
                Verdict::TooLarge if part.len() > 1 => parts.extend([halves.1, halves.0]),
                Verdict::Refused(_) if part.len() > 1 && strikes < STRIKES => parts.extend([halves.1, halves.0]),
                Verdict::TooLarge => self.set_aside(part, "a single record is too large for the receiver"),
                Verdict::Refused(reason) => {
                    strikes += 1;
                    self.set_aside(part, &reason);
                }
                Verdict::Later(reason, asked) => {
                    self.counts.failed(&reason, self.clock.unix());
                    parts.push(part);
                    let until = Instant::now() + backoff.next(asked, random());
                    let end = deadline.map_or(until, |deadline| deadline.min(until));
                    tokio::select! {
                        () = tokio::time::sleep_until(end) => {}
                        changed = last.changed(), if deadline.is_none() => {
                            if changed.is_err() {
                                return false;
                            }
                            // One more attempt now, whatever the pause: it may be the last.
                            deadline = Some(Instant::now() + LAST);
                        }
                    }
                    if deadline.is_some_and(|deadline| Instant::now() >= deadline) {
                        return false;
                    }
                }
            }
        }
        true
    }

    fn arrived(&self, part: &[Row]) {
        if let Some(row) = part.last() {
            self.commit(row.after);
        }
    }

    fn commit(&self, to: Cursor) {
        if let Err(error) = self.spool.commit(&self.name, to) {
            // Records would be sent twice after a restart: known to the receiver by their ids.
            self.counts.failed(&error.to_string(), self.clock.unix());
        }
    }

    /// Puts rows that the receiver will never take into a file, so that they hold up no others.
    fn set_aside(&self, part: &[Row], reason: &str) {
        let count = part.len() as u64;
        self.counts.dropped(count);
        self.counts.failed(reason, self.clock.unix());
        let records: Vec<_> = part.iter().map(|row| &*row.record).collect();
        let kept = match rejected::keep(self.spool.folder(), &self.name, reason, &records, self.clock.unix()) {
            Ok(path) => format!("they are in {}", path.display()),
            Err(error) => format!("they could not be kept: {error}"),
        };
        tracing::error!(sink = self.name, records = count, reason, "the receiver refused audit records for good; {kept}");
        self.say(OwnKind::RecordsRejected, count, format!("{reason}; {kept}"));
        self.arrived(part);
    }

    fn say(&self, kind: OwnKind, count: u64, detail: String) {
        lock(&self.own).push(OwnRecord { kind, sink: Some(self.name.clone()), count: Some(count), detail });
    }
}

/// Returns the time of a record, in seconds since 1970.
fn time_of(record: &[u8]) -> Option<u64> {
    let text = record.strip_prefix(b"{\"time\":\"")?.get(..20)?;
    let time: jiff::Timestamp = format!("{}Z", str::from_utf8(&text[..19]).ok()?).parse().ok()?;
    u64::try_from(time.as_second()).ok()
}

/// Returns a number between 0 and 1.
fn random() -> f64 {
    f64::from(u16::from_le_bytes([uuid::Uuid::new_v4().as_bytes()[0], uuid::Uuid::new_v4().as_bytes()[1]])) / f64::from(u16::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_of_a_record_is_that_of_its_first_member() {
        assert_eq!(time_of(br#"{"time":"2026-11-30T12:00:00.004711Z","record_id":"0"}"#), Some(1_796_040_000));
        for other in ["", "{}", r#"{"time":"yesterday, and so on and on"}"#, r#"{"id":"2026-11-30T12:00:00Z"}"#] {
            assert_eq!(time_of(other.as_bytes()), None, "{other}");
        }
    }
}
