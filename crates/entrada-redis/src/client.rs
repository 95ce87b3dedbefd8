//! The client: calls to whichever server has the key.

use std::{
    collections::HashMap,
    fmt, io,
    sync::{Arc, Mutex, Weak},
    time::Duration,
};

use arc_swap::ArcSwap;
use bytes::{Bytes, BytesMut};
use entrada_base::lock::lock;
use tokio::{
    runtime::{Builder, Handle},
    sync::{Notify, oneshot},
    time::timeout,
};

use crate::{
    Failure, Mode, Script, Settings,
    endpoint::Endpoint,
    link::Link,
    resp::{Reply, command, encode},
    slots::{Owners, Redirect, slot_of},
};

/// The maximum number of times that a call is sent: to other nodes, or with the text of its script.
const MOST_TRIES: usize = 5;
/// The interval of reading a cluster's slots when nothing suggests that they have changed.
const SLOTS_EVERY: Duration = Duration::from_secs(60);
/// The shortest interval.
const SLOTS_PAUSE: Duration = Duration::from_millis(250);
/// The maximum number of nodes that connections are kept to.
const MOST_NODES: usize = 1_000;

/// A client, with a thread of its own for its connections, so that nothing else delays them.
#[derive(Clone)]
pub struct Client(Arc<Inner>);

struct Inner {
    settings: Arc<Settings>,
    handle: Handle,
    /// The links by server. For a single server, or sentinels, there is one.
    links: Mutex<HashMap<Endpoint, Arc<Link>>>,
    /// The link to begin with.
    first: Arc<Link>,
    owners: ArcSwap<Owners>,
    refresh: Arc<Notify>,
    /// Dropped with the client, which ends the thread.
    _stop: oneshot::Sender<()>,
}

/// The state of a client's connections.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ClientStatus {
    /// The number of servers.
    pub servers: usize,
    /// The number of servers with a connection.
    pub connected: usize,
    /// The number of connections made so far.
    pub connections: u64,
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("settings", &self.0.settings).finish_non_exhaustive()
    }
}

impl Client {
    /// Starts a client, which begins to connect.
    ///
    /// # Errors
    /// Fails if no thread can be started, or if there is no address.
    pub fn start(settings: Settings) -> io::Result<Self> {
        let Some(seed) = settings.seeds.first().cloned() else {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "no address"));
        };
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let handle = runtime.handle().clone();
        let (stop, stopped) = oneshot::channel::<()>();
        std::thread::Builder::new().name("limit-store".to_owned()).spawn(move || {
            // Ends when the sender is dropped, and all tasks with the runtime.
            let _ = runtime.block_on(stopped);
        })?;
        let settings = Arc::new(settings);
        let first = Link::open(seed.clone(), settings.clone(), &handle);
        let inner = Arc::new(Inner {
            links: Mutex::new(HashMap::from([(seed, first.clone())])),
            first,
            owners: ArcSwap::default(),
            refresh: Arc::default(),
            settings,
            handle,
            _stop: stop,
        });
        if inner.settings.mode == Mode::Cluster {
            inner.handle.spawn(keep_slots(Arc::downgrade(&inner), inner.refresh.clone()));
        }
        Ok(Self(inner))
    }

    /// Runs a script on a key. The server usually knows its text already; otherwise it is sent.
    ///
    /// # Errors
    /// Fails with the reason, after the client's timeout at the latest. The script may have run.
    pub async fn run(&self, script: &Script, key: &[u8], arguments: &[&[u8]]) -> Result<Reply, Failure> {
        let with = |name: &[u8], text: &[u8]| {
            let mut out =
                BytesMut::with_capacity(text.len() + key.len() + 64 + arguments.iter().map(|it| it.len() + 8).sum::<usize>());
            let head: [&[u8]; 4] = [name, text, b"1", key];
            let parts: Vec<&[u8]> = head.into_iter().chain(arguments.iter().copied()).collect();
            encode(parts.into_iter(), &mut out);
            out.freeze()
        };
        let known = with(b"EVALSHA", script.digest().as_bytes());
        let whole = || with(b"EVAL", script.text().as_bytes());
        timeout(self.0.settings.timeout, self.0.ask(key, known, Some(&whole))).await.unwrap_or(Err(Failure::Timeout))
    }

    /// Sends a command about a key.
    ///
    /// # Errors
    /// Fails with the reason, after the client's timeout at the latest. The command may have been executed.
    pub async fn command(&self, key: &[u8], parts: &[&[u8]]) -> Result<Reply, Failure> {
        timeout(self.0.settings.timeout, self.0.ask(key, command(parts), None)).await.unwrap_or(Err(Failure::Timeout))
    }

    /// Runs a task on the client's thread; it must not block. It is dropped with the client.
    pub fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.0.handle.spawn(task);
    }

    /// Returns the state of the connections.
    pub fn status(&self) -> ClientStatus {
        let links = lock(&self.0.links);
        ClientStatus {
            servers: links.len(),
            connected: links.values().filter(|link| link.is_up()).count(),
            connections: links.values().map(|link| link.connections()).sum(),
        }
    }

    /// Returns the server that has the key, as far as it is known.
    pub fn server_of(&self, key: &[u8]) -> Endpoint {
        self.0.link_of(slot_of(key)).endpoint()
    }
}

impl Inner {
    /// Sends a command to the server of the key: again where a cluster says so, and with the text of its script if the server does
    /// not know it. Neither happens after a reply, so that nothing is done twice.
    async fn ask(&self, key: &[u8], command: Bytes, whole: Option<&(dyn Fn() -> Bytes + Sync)>) -> Result<Reply, Failure> {
        let slot = slot_of(key);
        let (mut link, mut command, mut whole, mut asking) = (self.link_of(slot), command, whole, false);
        let mut last = Failure::Unexpected;
        for _ in 0..MOST_TRIES {
            let error = match link.ask(command.clone(), asking).await {
                Ok(Reply::Error(error)) => error,
                Ok(reply) => return Ok(reply),
                Err(failure) => {
                    // The node may have been replaced by another.
                    self.refresh.notify_one();
                    return Err(failure);
                }
            };
            let redirect = Redirect::read(error.text(), &link.endpoint()).filter(|_| self.settings.mode == Mode::Cluster);
            match (error.prefix(), redirect) {
                ("NOSCRIPT", _) if whole.is_some() => {
                    command = whole.take().map(|text| text()).unwrap_or_default();
                }
                (_, Some(Redirect::Moved(slot, node))) => {
                    (link, asking) = (self.link_to(&node)?, false);
                    self.moved(slot, &node);
                }
                (_, Some(Redirect::Ask(node))) => (link, asking) = (self.link_to(&node)?, true),
                (prefix, None) => {
                    if matches!(prefix, "READONLY" | "MASTERDOWN" | "NOAUTH" | "WRONGPASS") {
                        link.reset();
                    }
                    self.refresh.notify_one();
                    return Err(error.into());
                }
            }
            last = error.into();
        }
        Err(last)
    }

    /// Notes that a slot has moved, and looks for what else has.
    fn moved(&self, slot: u16, node: &Endpoint) {
        self.owners.rcu(|owners| {
            let mut owners = Owners::clone(owners);
            owners.moved(slot, node.clone());
            owners
        });
        self.refresh.notify_one();
    }

    fn link_of(&self, slot: u16) -> Arc<Link> {
        if self.settings.mode != Mode::Cluster {
            return self.first.clone();
        }
        let owners = self.owners.load_full();
        owners.of(slot).and_then(|node| self.link_to(node).ok()).unwrap_or_else(|| self.first.clone())
    }

    fn link_to(&self, node: &Endpoint) -> Result<Arc<Link>, Failure> {
        let mut links = lock(&self.links);
        if let Some(link) = links.get(node) {
            return Ok(link.clone());
        }
        if links.len() >= MOST_NODES {
            return Err(Failure::Overload);
        }
        let link = Link::open(node.clone(), self.settings.clone(), &self.handle);
        links.insert(node.clone(), link.clone());
        Ok(link)
    }

    /// Reads the slots from the first node that knows them.
    async fn read_slots(&self) -> Option<Owners> {
        let seeds = self.settings.seeds.iter().cloned();
        let known = self.owners.load_full();
        for node in known.nodes().cloned().chain(seeds) {
            let Ok(link) = self.link_to(&node) else { continue };
            let asked = link.ask(command(&[b"CLUSTER", b"SLOTS"]), false);
            if let Ok(Ok(reply)) = timeout(Duration::from_secs(1), asked).await
                && let Some(owners) = Owners::read(&reply, &node)
            {
                return Some(owners);
            }
        }
        None
    }

    /// Uses these slots, and forgets nodes that have none.
    fn use_slots(&self, owners: Owners) {
        let seed = &self.settings.seeds[0];
        lock(&self.links).retain(|node, _| node == seed || owners.nodes().any(|owner| owner == node));
        // Connections exist before the first request needs them.
        for node in owners.nodes() {
            let _ = self.link_to(node);
        }
        self.owners.store(Arc::new(owners));
    }
}

/// Keeps the slots of a cluster up to date, as long as the client lives.
async fn keep_slots(client: Weak<Inner>, refresh: Arc<Notify>) {
    loop {
        let Some(client) = client.upgrade() else { return };
        let wait = match client.read_slots().await {
            Some(owners) => {
                client.use_slots(owners);
                SLOTS_EVERY
            }
            None => Duration::from_secs(1),
        };
        drop(client);
        tokio::time::sleep(SLOTS_PAUSE).await;
        let _ = timeout(wait, refresh.notified()).await;
    }
}
