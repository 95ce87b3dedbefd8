//! The sinks of a log, as the writer thread sees them.

use std::{
    collections::BTreeMap,
    fs::File,
    io,
    path::Path,
    sync::{Arc, mpsc},
    time::Duration,
};

use tokio::runtime::Handle;

use super::{
    AuditConfig, RemoteContext, SinkConfig, SinkStatus,
    chain::ChainSettings,
    check,
    own_record::{OwnKind, OwnRecord, RecordIds},
    remote::{Delivery, Remotes},
    sink::{FileSettings, FileSink, LocalKind, LocalSink, Only, OpenedAfter, SinkCounts, count_lines},
    spool::{self, Lost, Spool},
};
use crate::{base::clock::Clock, settings::Faults};

/// The time for which the end of a process waits for sinks that cross a network.
const LAST: Duration = Duration::from_secs(6);
/// The time between two records about what is being lost.
const SAY_EVERY: Duration = Duration::from_secs(10);

/// The context in which sinks are opened.
#[derive(Clone, Copy, Debug)]
pub(crate) struct AuditContext<'a> {
    /// The folder that names of files are relative to.
    pub(crate) base: &'a Path,
    pub(crate) clock: &'a Clock,
    /// The needs of sinks that cross a network; without them there are none.
    pub(crate) remote: Option<RemoteContext<'a>>,
}

/// The sinks, and the spool.
#[derive(Debug)]
pub(super) struct Outlet {
    clock: Clock,
    /// The counts of all sinks that there ever were.
    counts: BTreeMap<String, Arc<SinkCounts>>,
    locals: Vec<LocalSink>,
    chain: Option<ChainSettings>,
    spool: Option<Arc<Spool>>,
    /// Tells of the spool itself: its disk.
    spool_counts: Arc<SinkCounts>,
    deliveries: Vec<Arc<Delivery>>,
    background: Option<Handle>,
    ids: RecordIds,
    /// Records of the log itself that are not written yet.
    own: Vec<OwnRecord>,
    /// Seals that are not written to the other sinks yet, each with the sink that has it.
    seals: Vec<(usize, Vec<u8>)>,
    /// The losses of the spool since they were last reported, and the disk's failure that was their reason, if it was one.
    lost: Lost,
    lost_for: Option<String>,
    /// The time when losses were last reported.
    said_at: Duration,
}

/// A sink of this machine that is opened: a new one, or one that goes on with a file that was opened anew.
enum Opened {
    New(LocalSink),
    Kept { index: usize, only: Only, file: Option<(File, FileSettings)> },
}

impl Outlet {
    /// Opens the sinks.
    pub(super) fn open(config: &AuditConfig, context: AuditContext<'_>) -> io::Result<Self> {
        let mut outlet = Self {
            clock: context.clock.clone(),
            counts: BTreeMap::new(),
            locals: Vec::new(),
            chain: None,
            spool: None,
            spool_counts: Arc::new(SinkCounts::new("spool")),
            deliveries: Vec::new(),
            background: None,
            ids: RecordIds::default(),
            own: Vec::new(),
            seals: Vec::new(),
            lost: Lost::new(),
            lost_for: None,
            said_at: Duration::ZERO,
        };
        outlet.reopen(config, context)?;
        Ok(outlet)
    }

    /// Starts what needs a runtime.
    pub(super) fn start(&mut self, background: &Handle) {
        self.background = Some(background.clone());
        if let Some(chain) = &self.chain {
            chain.signer.start(background);
        }
        self.deliveries.iter().for_each(|delivery| _ = background.spawn(delivery.clone().run()));
    }

    /// Switches to these sinks, entirely or not at all.
    pub(super) fn reopen(&mut self, config: &AuditConfig, context: AuditContext<'_>) -> io::Result<()> {
        let now = self.clock.unix();
        // Faults were told when the config was built.
        let mut faults = Faults::default();
        let credentials = context.remote.map(|remote| remote.credentials);
        let chain = config.chain.as_ref().and_then(|chain| check::chain_settings(chain, context.base, credentials, &mut faults));
        if let (Some(chain), Some(background)) = (&chain, &self.background) {
            chain.signer.start(background);
        }
        let mut found = OpenedAfter::default();
        let opened = self.open_locals(config, context, chain.as_ref(), &mut found)?;
        let remotes = Remotes::build(config, context.base, context.remote, &mut faults);
        let spool = self.open_spool(config, context, &mut found)?;
        // From here on nothing fails.
        self.chain = chain;
        self.take(opened, now);
        self.deliver(remotes, spool);
        if found.unclean {
            let detail = "the process before ended without notice; records of its last 100 ms may be missing".to_owned();
            tracing::warn!("{detail}");
            self.say(OwnRecord { kind: OwnKind::UncleanEnd, sink: None, count: None, detail });
        }
        Ok(())
    }

    fn counts(&mut self, name: &str) -> Arc<SinkCounts> {
        let counts = self.counts.entry(name.to_owned()).or_insert_with(|| Arc::new(SinkCounts::new(name)));
        counts.clone()
    }

    /// Opens the sinks of this machine, or finds them among those that are open.
    fn open_locals(
        &mut self,
        config: &AuditConfig,
        context: AuditContext<'_>,
        chain: Option<&ChainSettings>,
        found: &mut OpenedAfter,
    ) -> io::Result<Vec<Opened>> {
        let mut opened = Vec::new();
        for sink in config.sinks.iter().filter(|sink| !sink.is_remote()) {
            let only = Only::new(sink.only());
            let file = match sink {
                SinkConfig::File(file) => Some((context.base.join(&file.path), FileSettings::new(file))),
                _ => None,
            };
            let is_this = |local: &LocalSink| match (&local.kind, &file) {
                (LocalKind::File(open), Some((path, _))) => open.path() == path,
                (LocalKind::Outflow(_, config), None) => config == sink,
                _ => false,
            };
            if let Some(index) = self.locals.iter().position(is_this) {
                let anew = |(_, settings): (_, FileSettings)| match &self.locals[index].kind {
                    LocalKind::File(open) => open.opened_anew(settings.mode()).map(|file| Some((file, settings))),
                    LocalKind::Outflow(..) => Ok(None),
                };
                let file = file.map_or(Ok(None), anew)?;
                opened.push(Opened::Kept { index, only, file });
                continue;
            }
            let counts = self.counts(&sink.name());
            if let Some((path, settings)) = file {
                let (file, after) = FileSink::open(path.clone(), settings, chain, self.clock.unix())?;
                found.unclean |= after.unclean;
                if let Some(bytes) = after.torn {
                    tracing::warn!(path = %path.display(), bytes, "the last line of the file is not whole; it stays as it is");
                }
                opened.push(Opened::New(LocalSink { counts, only, kind: LocalKind::File(Box::new(file)) }));
            } else if let Some(local) = LocalSink::open_outflow(sink, counts)? {
                opened.push(Opened::New(local));
            }
        }
        Ok(opened)
    }

    /// Opens the spool, or finds that it is open.
    fn open_spool(
        &self,
        config: &AuditConfig,
        context: AuditContext<'_>,
        found: &mut OpenedAfter,
    ) -> io::Result<Option<Arc<Spool>>> {
        let Some(settings) = config.spool.as_ref().filter(|_| context.remote.is_some()) else { return Ok(None) };
        let folder = context.base.join(&settings.directory);
        let size = settings.size.map_or(spool::DEFAULT_SIZE, |size| size.0);
        if let Some(open) = self.spool.as_ref().filter(|spool| spool.folder() == folder) {
            open.set_size(size);
            return Ok(Some(open.clone()));
        }
        let (spool, after) = Spool::open(&folder, size)?;
        found.unclean |= after.unclean;
        if after.cut > 0 {
            tracing::warn!(folder = %folder.display(), bytes = after.cut, "the end of the spool was no whole record, and was cut");
        }
        Ok(Some(Arc::new(spool)))
    }

    /// Puts the sinks of this machine in place.
    fn take(&mut self, opened: Vec<Opened>, now: Duration) {
        let mut before: Vec<_> = std::mem::take(&mut self.locals).into_iter().map(Some).collect();
        for opened in opened {
            let local = match opened {
                Opened::New(local) => Some(local),
                Opened::Kept { index, only, file } => before[index].take().map(|mut local| {
                    local.only = only;
                    if let (LocalKind::File(sink), Some((file, settings))) = (&mut local.kind, file)
                        && let Err(error) = sink.reopen(file, settings, self.chain.as_ref(), now)
                    {
                        local.counts.failed(&error.to_string(), now);
                    }
                    local
                }),
            };
            self.locals.extend(local);
        }
        before.into_iter().flatten().for_each(|mut gone| gone.close(now));
        self.collect_seals();
    }

    /// Puts the sinks that cross a network in place.
    fn deliver(&mut self, remotes: Remotes, spool: Option<Arc<Spool>>) {
        let names: Vec<_> = remotes.0.iter().map(|remote| remote.name.clone()).collect();
        let same_spool = match (&self.spool, &spool) {
            (Some(one), Some(other)) => Arc::ptr_eq(one, other),
            _ => false,
        };
        self.deliveries.retain(|delivery| {
            let stays = same_spool && names.contains(&delivery.name);
            if !stays {
                delivery.end();
            }
            stays
        });
        self.spool = spool;
        let Some(spool) = self.spool.clone() else { return };
        match spool.set_sinks(&names) {
            Ok(lost) => {
                for (sink, count) in lost {
                    tracing::warn!(sink, records = count, "the sink is gone, and records that it had not got are dropped");
                    self.counts(&sink).dropped(count);
                }
            }
            Err(error) => self.spool_counts.failed(&error.to_string(), self.clock.unix()),
        }
        for remote in remotes.0 {
            match self.deliveries.iter().find(|delivery| delivery.name == remote.name) {
                Some(delivery) => delivery.set(remote),
                None => {
                    let counts = self.counts(&remote.name);
                    let delivery = Delivery::new(remote, counts, spool.clone(), self.clock.clone());
                    if let Some(background) = &self.background {
                        background.spawn(delivery.clone().run());
                    }
                    self.deliveries.push(delivery);
                }
            }
        }
    }

    /// Adds a record of the log itself.
    pub(super) fn say(&mut self, record: OwnRecord) {
        self.own.push(record);
    }

    /// Hands lines, this many, to all sinks.
    pub(super) fn write(&mut self, lines: &[u8], records: u64) {
        let now = self.clock.unix();
        self.locals.iter_mut().for_each(|local| local.write(lines, records, now));
        self.write_to_spool(lines, now);
        self.collect_seals();
    }

    fn write_to_spool(&mut self, lines: &[u8], now: Duration) {
        let Some(spool) = &self.spool else { return };
        if lines.is_empty() && self.deliveries.is_empty() {
            return;
        }
        let (lost, error) = spool.append(lines);
        if let (false, Some(error)) = (lost.is_empty(), &error) {
            self.lost_for = Some(error.to_string());
        }
        match error {
            Some(error) => self.spool_counts.failed(&error.to_string(), now),
            None if !lines.is_empty() => self.spool_counts.works(),
            None => {}
        }
        for (sink, count) in lost {
            if let Some(counts) = self.counts.get(&sink) {
                counts.dropped(count);
            }
            match self.lost.iter_mut().find(|(known, _)| *known == sink) {
                Some((_, known)) => *known += count,
                None => self.lost.push((sink, count)),
            }
        }
    }

    /// Writes the records of the log itself, and the seals, to all sinks, and returns them in `lines`, which was empty.
    pub(super) fn write_own(&mut self, lines: &mut Vec<u8>) {
        let now = self.clock.unix();
        if now >= self.said_at + SAY_EVERY {
            self.say_what_is_lost(now);
        }
        self.own.extend(self.deliveries.iter().flat_map(|delivery| delivery.take_own()));
        for record in std::mem::take(&mut self.own) {
            record.write(lines, now, self.ids.next());
        }
        if !lines.is_empty() {
            self.write(lines, count_lines(lines));
        }
        for (owner, seal) in std::mem::take(&mut self.seals) {
            lines.extend_from_slice(&seal);
            let others = self.locals.iter_mut().enumerate().filter(|(index, _)| *index != owner);
            others.for_each(|(_, local)| local.write(&seal, count_lines(&seal), now));
            self.write_to_spool(&seal, now);
        }
    }

    /// Adds records of what was lost since they were last added.
    fn say_what_is_lost(&mut self, now: Duration) {
        let before = self.own.len();
        let reason = self.lost_for.take();
        for (sink, count) in std::mem::take(&mut self.lost) {
            let detail = match &reason {
                Some(error) => format!("the disk of the spool took nothing, and what waited in memory had no room: {error}"),
                None => "the spool was full, and the oldest records went".to_owned(),
            };
            tracing::error!(sink, records = count, "audit records are lost: {detail}");
            self.own.push(OwnRecord { kind: OwnKind::SpoolFull, sink: Some(sink), count: Some(count), detail });
        }
        for local in &self.locals {
            let (sink, count) = (local.counts.name.to_string(), local.counts.take_untold());
            if count > 0 {
                let detail = local.counts.error().unwrap_or_else(|| "it took records more slowly than they came".to_owned());
                tracing::error!(sink, records = count, "audit records are lost: {detail}");
                self.own.push(OwnRecord { kind: OwnKind::RecordsDropped, sink: Some(sink), count: Some(count), detail });
            }
        }
        if self.own.len() > before {
            self.said_at = now;
        }
    }

    /// Lets what is lost be said with the next records, however short ago that was last done: there may be no later ones.
    pub(super) const fn hurry(&mut self) {
        self.said_at = Duration::ZERO;
    }

    /// Takes the seals that files have got.
    fn collect_seals(&mut self) {
        for (index, local) in self.locals.iter_mut().enumerate() {
            if let LocalKind::File(file) = &mut local.kind {
                self.seals.extend(file.take_seals().into_iter().map(|seal| (index, seal)));
            }
        }
    }

    /// Does what is due without records.
    pub(super) fn tick(&mut self) {
        let now = self.clock.unix();
        self.locals.iter_mut().for_each(|local| local.tick(now));
        self.collect_seals();
        self.write_to_spool(&[], now);
    }

    /// Closes the sinks of this machine: what waits is written, and the last seals.
    pub(super) fn close(&mut self) {
        let now = self.clock.unix();
        for closed in 0..self.locals.len() {
            self.locals[closed].close(now);
            self.collect_seals();
            for (owner, seal) in std::mem::take(&mut self.seals) {
                // A file that was closed before has its last seal already.
                let is_open = |index: usize, local: &LocalSink| index > closed || !matches!(local.kind, LocalKind::File(_));
                let others = self.locals.iter_mut().enumerate();
                let others = others.filter(|(index, local)| *index != owner && is_open(*index, local));
                others.for_each(|(_, local)| local.write(&seal, count_lines(&seal), now));
                self.write_to_spool(&seal, now);
            }
        }
        self.locals.clear();
    }

    /// Lets the deliveries send what is left, and returns what waits for them.
    pub(super) fn finish(&mut self) -> Option<Finishing> {
        let background = self.background.clone()?;
        let deliveries = std::mem::take(&mut self.deliveries);
        let spool = self.spool.take()?;
        deliveries.iter().for_each(|delivery| delivery.finish());
        let (receipt, done) = mpsc::channel::<()>();
        background.spawn(async move {
            for delivery in deliveries {
                delivery.finished().await;
            }
            drop(receipt);
        });
        Some(Finishing { done, spool })
    }

    /// Returns the state of each sink.
    pub(super) fn status(&self) -> Vec<SinkStatus> {
        let now = self.clock.unix_seconds();
        let local = |local: &LocalSink| {
            let chain = match &local.kind {
                LocalKind::File(file) => file.chain_status(),
                LocalKind::Outflow(..) => None,
            };
            SinkStatus { chain, ..SinkStatus::of(&local.counts) }
        };
        let remotes = self.deliveries.iter().map(|delivery| delivery.status(now));
        let spool = self.spool.iter().map(|_| SinkStatus::of(&self.spool_counts));
        self.locals.iter().map(local).chain(remotes).chain(spool).collect()
    }
}

/// The end of deliveries.
#[derive(Debug)]
pub(super) struct Finishing {
    done: mpsc::Receiver<()>,
    spool: Arc<Spool>,
}

impl Finishing {
    /// Waits for it, some seconds at most.
    pub(super) fn wait(&self) {
        // The end, in time or not.
        let _ = self.done.recv_timeout(LAST);
        self.spool.release();
    }
}
