//! The addresses of the admin and health listeners across reloads.

use std::{
    io,
    net::{SocketAddr, TcpListener},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use axum::Router;
use http::StatusCode;
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;
use tower::limit::GlobalConcurrencyLimitLayer;
use tower_http::{catch_panic::CatchPanicLayer, timeout::TimeoutLayer};

use super::Admin;
use crate::{
    config::{Config, DEFAULT_ADMIN},
    gateway::runtime::AdminRules,
    listener::{self, Drain, Drainer, InheritedSocket, InheritedSockets, Limits, Listener, ListenerSettings},
};

/// The admin listener, and the separate health listener, if there is one.
#[derive(Debug)]
pub(crate) struct AdminListeners {
    admin: Admin,
    /// True if probes and metrics are served by the admin listener.
    probes: Arc<AtomicBool>,
    own: Option<Open>,
    health: Option<Open>,
}

/// A listener in service.
#[derive(Debug)]
struct Open {
    /// The address as written.
    written: String,
    local: SocketAddr,
    /// The socket, kept so that the other listener can take over the address.
    socket: TcpListener,
    drainer: Drainer,
    listener: Arc<Listener>,
}

/// The open sockets of a config; none for a listener that stays where it is.
#[derive(Debug)]
pub(crate) struct BoundAdmin {
    own: Option<Bound>,
    health: Option<Option<Bound>>,
}

/// An address that cannot be listened on.
#[derive(Debug)]
pub(crate) struct BindError {
    /// The address, and the part of the config that names it.
    pub(crate) address: String,
    /// The error of the operating system.
    pub(crate) source: io::Error,
}

#[derive(Debug)]
struct Bound {
    written: String,
    local: SocketAddr,
    socket: TcpListener,
    served: TcpListener,
}

impl AdminListeners {
    /// Makes listeners that show this, without addresses yet.
    pub(crate) fn new(admin: Admin) -> Self {
        Self { admin, probes: Arc::default(), own: None, health: None }
    }

    /// Opens the sockets that the config requires and that are not open yet. Nothing changes before they are served.
    ///
    /// # Errors
    /// Fails if an address cannot be listened on.
    pub(crate) fn bind(&self, config: &Config, inherited: &InheritedSockets) -> Result<BoundAdmin, BindError> {
        let address = config.admin.as_ref().map_or(DEFAULT_ADMIN, |admin| &admin.address);
        let health = config.health.as_ref().map(|health| &*health.address);
        // Where one listener leaves an address the other may take it over; where it stays, that is an address in use.
        let left = |open: &Option<Open>, wanted: Option<&str>| !is_at(open.as_ref(), wanted);
        let from_health = self.health.as_ref().filter(|_| left(&self.health, health));
        let from_own = self.own.as_ref().filter(|_| left(&self.own, Some(address)));
        let own =
            if is_at(self.own.as_ref(), Some(address)) { None } else { Some(bind(address, "admin", from_health, inherited)?) };
        let health = match health {
            Some(health) if is_at(self.health.as_ref(), Some(health)) => None,
            Some(health) => Some(Some(bind(health, "health", from_own, inherited)?)),
            None => self.health.is_some().then_some(None),
        };
        Ok(BoundAdmin { own, health })
    }

    /// Serves new listeners, and drains removed ones: endless responses end at once, other requests may continue for
    /// `drain_timeout`.
    pub(crate) fn serve(&mut self, bound: BoundAdmin, config: &Config, background: &Handle, drain_timeout: Duration) {
        let BoundAdmin { own, health } = bound;
        self.probes.store(config.health.is_none(), Ordering::Relaxed);
        let runtime = self.admin.runtime.load_full();
        let settings = runtime.admin.as_ref().map_or_else(plain, settings);
        if let Some(open) = &self.own {
            // Requests on connections from before are judged by these, too.
            open.listener.settings.store(Arc::new(settings.clone()));
        }
        if let Some(bound) = own {
            let listener = Listener::new("admin", settings);
            let (open, served, drain) = bound.open(listener.clone());
            tracing::info!(address = %open.local, "the admin listener is here");
            background.spawn(self.admin.clone().serve(served, listener, self.probes.clone(), drain));
            if let Some(gone) = self.own.replace(open) {
                gone.drain(drain_timeout);
            }
        }
        if let Some(health) = health {
            let open = health.map(|bound| {
                let listener = Listener::new("health", plain());
                let (open, served, drain) = bound.open(listener.clone());
                tracing::info!(address = %open.local, "the health listener is here");
                background.spawn(self.admin.clone().serve_health(served, listener, drain));
                open
            });
            if let Some(gone) = std::mem::replace(&mut self.health, open) {
                gone.drain(drain_timeout);
            }
        }
    }

    /// Ends all listeners at once.
    pub(crate) fn stop(&mut self) {
        for open in self.own.take().into_iter().chain(self.health.take()) {
            open.drain(Duration::ZERO);
        }
    }

    /// Returns the open sockets with the names of their listeners.
    ///
    /// # Errors
    /// Fails if a descriptor cannot be duplicated.
    pub(crate) fn sockets(&self) -> io::Result<Vec<InheritedSocket>> {
        let named = |(name, open): (&str, &Open)| Ok(InheritedSocket { name: name.into(), socket: open.socket.try_clone()? });
        let own = self.own.iter().map(|open| ("admin", open));
        own.chain(self.health.iter().map(|open| ("health", open))).map(named).collect()
    }

    /// Returns the address of the admin listener.
    pub(crate) fn own_address(&self) -> Option<SocketAddr> {
        self.own.as_ref().map(|open| open.local)
    }

    /// Returns the address of the health listener, if it is separate.
    pub(crate) fn health_address(&self) -> Option<SocketAddr> {
        self.health.as_ref().map(|open| open.local)
    }
}

/// Returns whether a listener is at the required address.
fn is_at(open: Option<&Open>, wanted: Option<&str>) -> bool {
    let (Some(open), Some(wanted)) = (open, wanted) else { return false };
    // Port 0 is no address: whoever writes it again keeps what it stood for.
    open.written == wanted || wanted.parse() == Ok(open.local)
}

fn bind(address: &str, role: &str, from: Option<&Open>, inherited: &InheritedSockets) -> Result<Bound, BindError> {
    let open = || {
        let socket = match from.filter(|open| is_at(Some(open), Some(address))) {
            Some(open) => open.socket.try_clone()?,
            None => match inherited.take(role, address.parse().ok()).into_iter().next() {
                Some(socket) => socket,
                None => TcpListener::bind(address)?,
            },
        };
        socket.set_nonblocking(true)?;
        let served = socket.try_clone()?;
        Ok(Bound { written: address.to_owned(), local: socket.local_addr()?, socket, served })
    };
    open().map_err(|source| BindError { address: format!("{address}, the address of `{role}`"), source })
}

impl Bound {
    fn open(self, listener: Arc<Listener>) -> (Open, TcpListener, Drain) {
        let (drainer, drain) = Drainer::new();
        let Self { written, local, socket, served } = self;
        (Open { written, local, socket, drainer, listener }, served, drain)
    }
}

impl Open {
    /// Releases the address, and ends the requests in progress.
    fn drain(self, timeout: Duration) {
        self.drainer.drain(timeout);
    }
}

/// Connections at once. When there are as many the one that has rested longest is closed for a new one.
const CONNECTIONS: usize = 256;
/// The time for a request's head.
const HEADER_TIMEOUT: Duration = Duration::from_secs(5);
/// The time for which a client may read no byte of a response.
const WRITE_TIMEOUT: Duration = Duration::from_secs(10);
/// Requests that are answered at the same time; others wait.
const REQUESTS: usize = 32;
/// The maximum time until a response begins.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);

/// The limits of both listeners. One peer may have all connections: probes and scrapes may come through one proxy.
fn limits() -> Limits {
    Limits {
        connections: CONNECTIONS,
        connections_per_peer: CONNECTIONS,
        header_timeout: HEADER_TIMEOUT,
        write_timeout: WRITE_TIMEOUT,
        ..Limits::default()
    }
}

/// Returns the settings of a listener that asks nobody who they are.
fn plain() -> ListenerSettings {
    ListenerSettings { http2: false, ..ListenerSettings::plain(limits()) }
}

/// Returns the settings of the admin listener.
fn settings(rules: &AdminRules) -> ListenerSettings {
    ListenerSettings { limits: limits(), ..rules.settings.clone() }
}

/// Serves a router on the socket until the drain begins. `ending` is cancelled then; connections that are still open afterwards
/// are closed.
pub(super) async fn run(
    listener: Arc<Listener>,
    socket: TcpListener,
    router: Router,
    mut drain: Drain,
    ending: CancellationToken,
) {
    let ends = drain.clone();
    let serving = async {
        let name = listener.name.clone();
        if let Err(error) = listener::serve(socket, listener, listener::tower(limited(router)), ends).await {
            tracing::error!(%error, "the {name} listener failed");
        }
    };
    let ending = async move {
        drain.begins().await;
        ending.cancel();
    };
    tokio::join!(serving, ending);
}

/// Wraps a router in tower layers: a limit of concurrent requests, a timeout, and the capture of panics.
fn limited(router: Router) -> Router {
    router
        .layer(CatchPanicLayer::new())
        .layer(GlobalConcurrencyLimitLayer::new(REQUESTS))
        .layer(TimeoutLayer::with_status_code(StatusCode::SERVICE_UNAVAILABLE, REQUEST_TIMEOUT))
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use axum::{body::Body, http::Request, routing::get};
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::TcpStream,
        time::timeout,
    };
    use tower::ServiceExt as _;

    use super::*;

    const LONGEST_WAIT: Duration = Duration::from_secs(60);

    fn router() -> Router {
        Router::new()
            .route("/", get(async || "here"))
            .route("/panics", get(async || -> &'static str { panic!("as told") }))
            .route("/waits", get(std::future::pending::<&'static str>))
    }

    #[tokio::test]
    async fn a_connection_that_rests_too_long_is_closed() {
        let socket = TcpListener::bind("127.0.0.1:0").unwrap();
        socket.set_nonblocking(true).unwrap();
        let address = socket.local_addr().unwrap();
        let (drainer, drain) = Drainer::new();
        let limits = Limits { idle_timeout: Duration::from_millis(20), ..limits() };
        let ending = CancellationToken::new();
        let listener = Listener::new("admin", ListenerSettings::plain(limits));
        let served = tokio::spawn(run(listener, socket, router(), drain, ending.clone()));
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(b"GET / HTTP/1.1\r\nhost: localhost\r\n\r\n").await.unwrap();

        let (begun, mut answer) = (Instant::now(), Vec::new());
        timeout(LONGEST_WAIT, stream.read_to_end(&mut answer)).await.expect("the connection ends").unwrap();

        assert!(answer.starts_with(b"HTTP/1.1 200 ") && answer.ends_with(b"here"), "{}", String::from_utf8_lossy(&answer));
        assert!(begun.elapsed() < limits.header_timeout, "it was the idle timeout that ended it");
        drainer.drain(Duration::ZERO);
        timeout(LONGEST_WAIT, served).await.expect("the listener ends").unwrap();
        assert!(ending.is_cancelled());
    }

    #[tokio::test(start_paused = true)]
    async fn a_panic_and_an_answer_that_never_begins_end_their_own_request() {
        let router = limited(router());
        for (path, expected) in [("/panics", 500), ("/waits", 503), ("/", 200)] {
            let request = Request::get(path).body(Body::empty()).unwrap();

            let answer = router.clone().oneshot(request).await.unwrap();

            assert_eq!(answer.status().as_u16(), expected, "{path}");
        }
    }
}
