//! A backend that speaks HTTP/2 and reads only on demand.

use std::{
    collections::HashMap,
    future::poll_fn,
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
};

use bytes::Bytes;
use h2::{
    Reason, RecvStream,
    server::{self, SendResponse},
};
use http::{Request, Response};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::Notify,
};

/// The length of the response of `/big`.
pub(super) const BIG: usize = 1 << 20;

/// A backend. Its paths: `/big` has a long response, `/small` a short one, `/events` one of many small parts that never ends;
/// `/hang` is never answered, `/wait` on demand; `/take` reads the body and returns its length, `/stall` never reads it.
#[derive(Clone)]
pub(super) struct Backend {
    pub(super) address: SocketAddr,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    connections: AtomicUsize,
    open: AtomicUsize,
    /// The number of requests by path.
    begun: Mutex<HashMap<String, usize>>,
    /// The most streams at once on one connection.
    most: AtomicUsize,
    resets: AtomicUsize,
    go: Notify,
}

/// The behaviour of a backend.
#[derive(Clone, Copy, Default)]
pub(super) struct Manners {
    /// The number of streams that it allows on a connection.
    pub(super) streams: Option<u32>,
    /// The number of resets after which it ends a connection.
    pub(super) patience: Option<usize>,
}

impl Backend {
    pub(super) async fn start(manners: Manners) -> Self {
        let socket = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let backend = Self { address: socket.local_addr().unwrap(), shared: Arc::default() };
        let shared = backend.shared.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = socket.accept().await {
                shared.connections.fetch_add(1, SeqCst);
                shared.open.fetch_add(1, SeqCst);
                let shared = shared.clone();
                tokio::spawn(async move {
                    serve(stream, manners, &shared).await;
                    shared.open.fetch_sub(1, SeqCst);
                });
            }
        });
        backend
    }

    /// Returns the number of connections made.
    pub(super) fn connections(&self) -> usize {
        self.shared.connections.load(SeqCst)
    }

    /// Returns the number of open connections.
    pub(super) fn open_connections(&self) -> usize {
        self.shared.open.load(SeqCst)
    }

    /// Returns the number of requests for a path.
    pub(super) fn begun(&self, path: &str) -> usize {
        self.shared.begun.lock().unwrap().get(path).copied().unwrap_or_default()
    }

    /// Returns the maximum number of concurrent streams on one connection.
    pub(super) fn most_streams(&self) -> usize {
        self.shared.most.load(SeqCst)
    }

    /// Returns the number of reset streams.
    pub(super) fn resets(&self) -> usize {
        self.shared.resets.load(SeqCst)
    }

    /// Answers all waiting requests at `/wait`.
    pub(super) fn go(&self) {
        self.shared.go.notify_waiters();
    }
}

/// The counts of one connection.
#[derive(Default)]
struct Counts {
    streams: AtomicUsize,
    resets: AtomicUsize,
    enough: Notify,
}

async fn serve(stream: TcpStream, manners: Manners, shared: &Arc<Shared>) {
    let mut builder = server::Builder::new();
    builder.max_pending_accept_reset_streams(1_000);
    if let Some(streams) = manners.streams {
        builder.max_concurrent_streams(streams);
    }
    let Ok(mut connection) = builder.handshake::<_, Bytes>(stream).await else { return };
    let counts = Arc::<Counts>::default();
    loop {
        tokio::select! {
            biased;
            () = counts.enough.notified() => connection.abrupt_shutdown(Reason::ENHANCE_YOUR_CALM),
            accepted = connection.accept() => {
                let Some(Ok((request, respond))) = accepted else { return };
                *shared.begun.lock().unwrap().entry(request.uri().path().to_owned()).or_default() += 1;
                let streams = counts.streams.fetch_add(1, SeqCst) + 1;
                shared.most.fetch_max(streams, SeqCst);
                let (shared, counts) = (shared.clone(), counts.clone());
                tokio::spawn(async move {
                    let whole = answer(request, respond, &shared).await;
                    counts.streams.fetch_sub(1, SeqCst);
                    if whole.is_err() {
                        shared.resets.fetch_add(1, SeqCst);
                        if Some(counts.resets.fetch_add(1, SeqCst) + 1) == manners.patience {
                            counts.enough.notify_one();
                        }
                    }
                });
            }
        }
    }
}

async fn answer(mut request: Request<RecvStream>, mut respond: SendResponse<Bytes>, shared: &Shared) -> Result<(), h2::Error> {
    match request.uri().path() {
        "/big" => {
            let mut stream = respond.send_response(Response::new(()), false)?;
            let mut left = BIG;
            while left > 0 {
                stream.reserve_capacity(left.min(16_384));
                let Some(capacity) = poll_fn(|context| stream.poll_capacity(context)).await else {
                    return Err(Reason::CANCEL.into());
                };
                let length = capacity?.min(left);
                left -= length;
                stream.send_data(vec![b'x'; length].into(), left == 0)?;
            }
        }
        "/events" => {
            let mut stream = respond.send_response(Response::new(()), false)?;
            loop {
                stream.reserve_capacity(9);
                while stream.capacity() < 9 {
                    let Some(capacity) = poll_fn(|context| stream.poll_capacity(context)).await else {
                        return Err(Reason::CANCEL.into());
                    };
                    capacity?;
                }
                stream.send_data(Bytes::from_static(b"data: 1\n\n"), false)?;
            }
        }
        path @ ("/hang" | "/stall" | "/wait") => {
            let waits = path == "/wait";
            tokio::select! {
                reason = poll_fn(|context| respond.poll_reset(context)) => return Err(reason?.into()),
                () = shared.go.notified(), if waits => {}
            }
            respond.send_response(Response::new(()), false)?.send_data(Bytes::from_static(b"waited"), true)?;
        }
        "/take" => {
            let mut length = 0;
            while let Some(data) = request.body_mut().data().await {
                let data = data?;
                length += data.len();
                request.body_mut().flow_control().release_capacity(data.len())?;
            }
            respond.send_response(Response::new(()), false)?.send_data(length.to_string().into(), true)?;
        }
        _ => respond.send_response(Response::new(()), false)?.send_data(Bytes::from_static(b"small"), true)?,
    }
    Ok(())
}
