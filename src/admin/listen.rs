//! The addresses of the admin and health listeners across reloads.

use std::{
    io,
    net::{SocketAddr, TcpListener},
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use axum::{Router, serve::Listener};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    runtime::Handle,
};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

use super::Admin;
use crate::{
    config::{Config, DEFAULT_ADMIN},
    listener::{Drain, Drainer},
    server::ServerError,
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
}

/// The open sockets of a config; none for a listener that stays where it is.
#[derive(Debug)]
pub(crate) struct BoundAdmin {
    own: Option<Bound>,
    health: Option<Option<Bound>>,
}

#[derive(Debug)]
struct Bound {
    written: String,
    local: SocketAddr,
    socket: TcpListener,
    served: tokio::net::TcpListener,
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
    pub(crate) fn bind(&self, config: &Config, background: &Handle) -> Result<BoundAdmin, ServerError> {
        // Sockets belong to the runtime that serves them.
        let _within = background.enter();
        let address = config.admin.as_ref().map_or(DEFAULT_ADMIN, |admin| &admin.address);
        let health = config.health.as_ref().map(|health| &*health.address);
        // Where one listener leaves an address the other may take it over; where it stays, that is an address in use.
        let left = |open: &Option<Open>, wanted: Option<&str>| !is_at(open.as_ref(), wanted);
        let from_health = self.health.as_ref().filter(|_| left(&self.health, health));
        let from_own = self.own.as_ref().filter(|_| left(&self.own, Some(address)));
        let own = if is_at(self.own.as_ref(), Some(address)) { None } else { Some(bind(address, "admin", from_health)?) };
        let health = match health {
            Some(health) if is_at(self.health.as_ref(), Some(health)) => None,
            Some(health) => Some(Some(bind(health, "health", from_own)?)),
            None => self.health.is_some().then_some(None),
        };
        Ok(BoundAdmin { own, health })
    }

    /// Serves new listeners, and drains removed ones: endless responses end at once, other requests may continue for
    /// `drain_timeout`.
    pub(crate) fn serve(&mut self, bound: BoundAdmin, config: &Config, background: &Handle, drain_timeout: Duration) {
        let BoundAdmin { own, health } = bound;
        self.probes.store(config.health.is_none(), Ordering::Relaxed);
        if let Some(bound) = own {
            let (open, served, drain) = bound.open();
            tracing::info!(address = %open.local, "the admin listener is here");
            background.spawn(self.admin.clone().serve(served, self.probes.clone(), drain));
            if let Some(gone) = self.own.replace(open) {
                gone.drain(drain_timeout);
            }
        }
        if let Some(health) = health {
            let open = health.map(|bound| {
                let (open, served, drain) = bound.open();
                tracing::info!(address = %open.local, "the health listener is here");
                background.spawn(self.admin.clone().serve_health(served, drain));
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

fn bind(address: &str, role: &str, from: Option<&Open>) -> Result<Bound, ServerError> {
    let open = || {
        let socket = match from.filter(|open| is_at(Some(open), Some(address))) {
            Some(open) => open.socket.try_clone()?,
            None => TcpListener::bind(address)?,
        };
        socket.set_nonblocking(true)?;
        let served = tokio::net::TcpListener::from_std(socket.try_clone()?)?;
        Ok(Bound { written: address.to_owned(), local: socket.local_addr()?, socket, served })
    };
    open().map_err(|source| ServerError::Bind { address: format!("{address}, the address of `{role}`"), source })
}

impl Bound {
    fn open(self) -> (Open, tokio::net::TcpListener, Drain) {
        let (drainer, drain) = Drainer::new();
        let Self { written, local, socket, served } = self;
        (Open { written, local, socket, drainer }, served, drain)
    }
}

impl Open {
    /// Releases the address, and ends the requests in progress.
    fn drain(self, timeout: Duration) {
        self.drainer.drain(timeout);
    }
}

/// Serves a router on the socket until the drain begins. `ending` is cancelled then; connections that are still open afterwards
/// are closed.
pub(super) async fn run(socket: tokio::net::TcpListener, router: Router, mut drain: Drain, ending: CancellationToken) {
    let cut = CancellationToken::new();
    let door = Acceptor { socket, cut: cut.clone() };
    let stopped = async move {
        let until = drain.begins().await;
        ending.cancel();
        tokio::spawn(async move {
            tokio::time::sleep_until(until).await;
            cut.cancel();
        });
    };
    if let Err(error) = axum::serve(door, router).with_graceful_shutdown(stopped).await {
        tracing::error!(%error, "the admin listener failed");
    }
}

/// A socket whose connections can be closed from outside.
struct Acceptor {
    socket: tokio::net::TcpListener,
    cut: CancellationToken,
}

impl Listener for Acceptor {
    type Io = Cuttable;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Cuttable, SocketAddr) {
        let (tcp, peer) = Listener::accept(&mut self.socket).await;
        (Cuttable { tcp, cut: Box::pin(self.cut.clone().cancelled_owned()) }, peer)
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }
}

/// A connection that fails once it is cut.
struct Cuttable {
    tcp: TcpStream,
    cut: Pin<Box<WaitForCancellationFutureOwned>>,
}

impl Cuttable {
    /// Returns the connection, unless it was cut; a waiting task is woken then.
    fn whole(&mut self, cx: &mut Context<'_>) -> io::Result<Pin<&mut TcpStream>> {
        match self.cut.as_mut().poll(cx) {
            Poll::Ready(()) => Err(io::ErrorKind::ConnectionAborted.into()),
            Poll::Pending => Ok(Pin::new(&mut self.tcp)),
        }
    }
}

impl AsyncRead for Cuttable {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        self.whole(cx)?.poll_read(cx, buffer)
    }
}

impl AsyncWrite for Cuttable {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.whole(cx)?.poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.whole(cx)?.poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.whole(cx)?.poll_shutdown(cx)
    }
}
