//! The way to one server: a connection that is made again when it is lost.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use entrada_base::lock::lock;
use tokio::{
    runtime::Handle,
    sync::{Notify, mpsc, oneshot},
    time::{Instant, sleep_until},
};

use crate::{
    Failure, Mode, Settings,
    endpoint::Endpoint,
    resp::Reply,
    session::{Connection, Job},
};

/// The maximum number of calls that wait to be sent.
const QUEUE: usize = 4_096;
/// The pause after the first attempt to connect that failed.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
/// The longest pause.
const LONGEST_PAUSE: Duration = Duration::from_secs(1);
/// The shortest interval of giving up a server because it is no longer the primary.
const RESET_EVERY: Duration = Duration::from_secs(1);

/// The way to one server.
#[derive(Debug)]
pub(crate) struct Link {
    jobs: mpsc::Sender<Job>,
    state: Arc<State>,
}

#[derive(Debug)]
struct State {
    /// The server at the other end, or the last one that was tried.
    at: Mutex<Endpoint>,
    is_up: AtomicBool,
    connections: AtomicU64,
    reset: Notify,
    reset_at: Mutex<Option<Instant>>,
}

impl Link {
    /// Begins to connect to this server, or to the primary that sentinels name, on this runtime.
    pub(crate) fn open(at: Endpoint, settings: Arc<Settings>, on: &Handle) -> Arc<Self> {
        let (jobs, waiting) = mpsc::channel(QUEUE);
        let state = Arc::new(State {
            at: Mutex::new(at),
            is_up: AtomicBool::new(false),
            connections: AtomicU64::new(0),
            reset: Notify::new(),
            reset_at: Mutex::new(None),
        });
        on.spawn(keep(state.clone(), waiting, settings));
        Arc::new(Self { jobs, state })
    }

    /// Sends a command and waits for the reply. `asking`: the node of a cluster has the key, but not yet its slot.
    pub(crate) async fn ask(&self, command: Bytes, asking: bool) -> Result<Reply, Failure> {
        let (answer, reply) = oneshot::channel();
        self.jobs.try_send(Job { command, asking, answer }).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => Failure::Overload,
            mpsc::error::TrySendError::Closed(_) => Failure::NotRunning,
        })?;
        reply.await.unwrap_or(Err(Failure::NotRunning))
    }

    /// Returns the server at the other end.
    pub(crate) fn endpoint(&self) -> Endpoint {
        lock(&self.state.at).clone()
    }

    /// Returns whether there is a connection.
    pub(crate) fn is_up(&self) -> bool {
        self.state.is_up.load(Ordering::Relaxed)
    }

    /// Returns the number of connections that were made.
    pub(crate) fn connections(&self) -> u64 {
        self.state.connections.load(Ordering::Relaxed)
    }

    /// Gives the server up, and finds it anew: it is not the primary any more, or does not know who is calling.
    pub(crate) fn reset(&self) {
        let (mut last, now) = (lock(&self.state.reset_at), Instant::now());
        if last.is_none_or(|last| now - last >= RESET_EVERY) {
            *last = Some(now);
            self.state.reset.notify_one();
        }
    }
}

/// Keeps a connection until nobody has calls any more.
async fn keep(state: Arc<State>, mut jobs: mpsc::Receiver<Job>, settings: Arc<Settings>) {
    let mut pause = FIRST_PAUSE;
    let mut failing = false;
    loop {
        match connect(&state, &settings).await {
            Ok((connection, at)) => {
                tracing::info!(store = %at, "connected to the limit store");
                state.is_up.store(true, Ordering::Relaxed);
                state.connections.fetch_add(1, Ordering::Relaxed);
                (pause, failing) = (FIRST_PAUSE, false);
                let reason = connection.carry(&mut jobs, &settings, &state.reset).await;
                state.is_up.store(false, Ordering::Relaxed);
                if jobs.is_closed() {
                    return;
                }
                tracing::warn!(store = %at, %reason, "the connection to the limit store was lost");
            }
            Err(failure) => {
                if !std::mem::replace(&mut failing, true) {
                    tracing::warn!(error = %failure, "the limit store cannot be reached; trying again until it can be");
                }
                let until = Instant::now() + pause;
                pause = (pause * 2).min(LONGEST_PAUSE);
                if !refuse(&mut jobs, &failure, until).await {
                    return;
                }
            }
        }
    }
}

/// Refuses calls until then. Returns whether there can be more of them.
async fn refuse(jobs: &mut mpsc::Receiver<Job>, failure: &Failure, until: Instant) -> bool {
    loop {
        tokio::select! {
            () = sleep_until(until) => return true,
            job = jobs.recv() => match job {
                // Whoever has stopped waiting misses nothing.
                Some(job) => _ = job.answer.send(Err(failure.clone())),
                None => return false,
            },
        }
    }
}

async fn connect(state: &State, settings: &Settings) -> Result<(Connection, Endpoint), Failure> {
    let at = match &settings.mode {
        Mode::Single | Mode::Cluster => lock(&state.at).clone(),
        Mode::Sentinel(name) => {
            let found = primary(name, settings).await?;
            *lock(&state.at) = found.clone();
            found
        }
    };
    let login = settings.logins.current().map_err(Failure::Connect)?;
    let database = if settings.mode == Mode::Cluster { 0 } else { settings.database };
    let connection = Connection::open(&at, settings, login, database).await?;
    Ok((connection, at))
}

/// Asks the sentinels, one after the other, for the primary of this name.
async fn primary(name: &str, settings: &Settings) -> Result<Endpoint, Failure> {
    let mut last = Failure::NotRunning;
    for sentinel in &settings.seeds {
        match ask_sentinel(sentinel, name, settings).await {
            Ok(primary) => return Ok(primary),
            Err(failure) => last = failure,
        }
    }
    Err(last)
}

async fn ask_sentinel(sentinel: &Endpoint, name: &str, settings: &Settings) -> Result<Endpoint, Failure> {
    let mut connection = Connection::open(sentinel, settings, settings.sentinel_login.clone(), 0).await?;
    let question: [&[u8]; 3] = [b"SENTINEL", b"get-master-addr-by-name", name.as_bytes()];
    let asked = connection.say(&question, sentinel);
    let late = |_| Failure::Connect(format!("the sentinel {sentinel} did not answer").into());
    let reply = tokio::time::timeout(Duration::from_secs(1), asked).await.map_err(late)??;
    let [host, port] = reply.list() else {
        return Err(Failure::Connect(format!("the sentinel {sentinel} knows no primary named `{name}`").into()));
    };
    let port = port.text().and_then(|port| port.parse().ok());
    match (host.text().filter(|host| !host.is_empty()), port) {
        (Some(host), Some(port)) => Ok(Endpoint { host: host.into(), port }),
        _ => Err(Failure::Unexpected),
    }
}
