//! HTTP/2, as a server: RFC 9113, on the `h2` crate, with a limit on everything that a client can make grow.
//!
//! A connection is one task, which accepts streams; each stream is a task of its own, on the same thread. `h2` frames, decodes
//! and keeps the windows; the end of a stream is decided here. hyper's server, which uses the same crate, does not poll a body
//! while its stream has no window and exposes no handle to a stream, so that a client which opens no window could keep a stream,
//! with all that it holds, for any length of time. Here a stream that waits for its window is still ended: by `write-timeout`, by
//! the end of its token or of its partner's access, and by `max-stream`.
//!
//! # Limits of a client
//! - [`io`] follows the frames of both directions by their heads, and keeps [`meter`]: control frames (`h2` shows none of them)
//!   and
//!   reset streams have an allowance. Beyond it the connection ends with `ENHANCE_YOUR_CALM`.
//! - A socket that accepts no more is detected for the connection as a whole, by the same `write-timeout`.
//! - [`target`] finds fragments in paths, which `h2` cuts off.
//! - A stream that carries a WebSocket ([`connect`]) has the same limits, and ends with what ended the tunnel.
//! - Bytes are handed to `h2` only if there is window for them, so that none wait there for a client: they are sent when the
//!   socket accepts them.

mod answer;
mod body;
mod connect;
mod interim;
mod io;
mod keep_alive;
mod leaving;
mod meter;
mod stream;
mod target;

use std::{
    future::poll_fn,
    net::SocketAddr,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll, ready},
};

use bytes::{Bytes, BytesMut};
use h2::{PingPong, Reason, RecvStream, server};
use http::Request;
use tokio::{io::DuplexStream, time::Instant};

pub use self::connect::{StreamUpgrade, UpgradedStream};
pub(crate) use self::{body::Http2Body, interim::Http2Informational};
use self::{
    io::Observed,
    keep_alive::KeepAlive,
    meter::{Meter, SharedMeter},
};
use super::{
    connection::Connection,
    drain::{ConnectionGuard, ConnectionSet, ShutdownSignal},
    opening::{FLUSH_GRACE, Opening},
    service::{Sent, Service},
    settings::{Limits, Listener},
    socket::Socket,
};
use crate::{
    base::{deadline::Deadline, error_chain::chain},
    connection::{ConnectionEvent, EventKind},
};

/// The number of streams for which a connection has windows in full.
const STREAMS: u32 = 100;
/// The number of bytes that a client may send ahead on a stream: enough to fill a fast line across a continent.
const STREAM_WINDOW: u32 = 128 << 10;
/// The window of a connection: room for every stream, so that unread uploads do not block others.
const CONNECTION_WINDOW: u32 = STREAM_WINDOW * STREAMS;
/// The memory that `h2` may use for unread DATA frames that are shorter than their bookkeeping, which gRPC sends many of.
const FRAMING: usize = CONNECTION_WINDOW as usize / 2;
/// The number of response bytes that wait for the socket.
const SEND_BUFFER: usize = 64 << 10;
/// The factor by which a head may exceed `header-bytes` and still be answered by the service: longer ones get `h2`'s bare 431.
const READ_TO_REFUSE: usize = 4;
/// The number of streams that may be reset before they were accepted (CVE-2023-44487): as many as the burst of the allowance. The
/// meter judges these and the resets caused by the client's errors (CVE-2025-8671); `h2` would count the latter over a
/// connection's whole life.
const PENDING_RESETS: usize = 1_000;

/// Serves a connection to its end.
pub(super) async fn serve<S: Service>(opening: Opening, service: S) {
    let Opening { socket, buffer, listener, connection, membership, accepted } = opening;
    let limits = listener.limits();
    let meter = SharedMeter::new(Meter::new(limits.write_timeout));
    let mut builder = builder(&limits, connection.settings.streams);
    if service.opens_websockets(&connection) {
        builder.enable_connect_protocol();
    }
    let handshake = builder.handshake(Observed::new(socket, buffer.freeze(), meter.clone()));
    let mut timer = Deadline::default();
    timer.set(accepted + limits.header_timeout);
    membership.signal().set_idle(listener.admission.since(accepted));
    let mut http2 = Http2 {
        protocol: Protocol::Handshake(handshake),
        shared: Arc::new(Shared {
            service,
            connection,
            listener,
            meter,
            signal: membership.signal().clone(),
            open: AtomicUsize::new(0),
        }),
        membership,
        timer,
        stuck: Deadline::default(),
        keep_alive: KeepAlive::default(),
        ending: Ending::Not,
    };
    poll_fn(|cx| http2.poll(cx)).await;
}

/// Serves HTTP/2 to a client in the same process, as [`serve`](super::serve) does on a socket. For tests and fuzzing.
pub async fn serve_http2<S: Service>(client: DuplexStream, listener: Arc<Listener>, service: S) {
    let Ok(seat) = listener.admit(None) else { return };
    let accepted = Instant::now();
    let since = listener.admission.since(accepted);
    let nowhere = SocketAddr::from(([127, 0, 0, 1], 1));
    let connection = Connection::plain(listener.clone(), nowhere, nowhere);
    let opening = Opening {
        socket: Socket::Memory(client),
        buffer: BytesMut::new(),
        listener,
        connection: Arc::new(connection),
        membership: Arc::<ConnectionSet>::default().join(seat, since),
        accepted,
    };
    Box::pin(serve(opening, service)).await;
}

fn builder(limits: &Limits, streams: u32) -> server::Builder {
    let header_list = limits.header_bytes.saturating_mul(READ_TO_REFUSE);
    let mut builder = server::Builder::new();
    builder
        .max_concurrent_streams(streams)
        .max_header_list_size(u32::try_from(header_list).unwrap_or(u32::MAX))
        .initial_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_frame_size(16_384)
        .header_table_size(target::TABLE as u32)
        .max_send_buffer_size(SEND_BUFFER)
        .data_frame_budget(FRAMING)
        .max_pending_accept_reset_streams(PENDING_RESETS)
        .max_local_error_reset_streams(None);
    builder
}

/// The state shared by a connection and its streams.
struct Shared<S> {
    service: S,
    connection: Arc<Connection>,
    listener: Arc<Listener>,
    meter: SharedMeter,
    signal: Arc<ShutdownSignal>,
    /// The number of streams whose responses are not complete.
    open: AtomicUsize,
}

impl<S: Service> Shared<S> {
    fn note(&self, kind: EventKind, detail: String) {
        self.service.event(ConnectionEvent {
            listener: self.connection.listener.name.clone(),
            peer: Some(self.connection.peer),
            kind,
            detail: detail.into(),
        });
    }

    fn open(&self) -> usize {
        self.open.load(Ordering::Acquire)
    }
}

/// The task of a connection.
struct Http2<S> {
    protocol: Protocol,
    shared: Arc<Shared<S>>,
    membership: ConnectionGuard,
    /// The deadline of an idle connection, or of one that does not end.
    timer: Deadline,
    /// The deadline of a stuck socket.
    stuck: Deadline,
    keep_alive: KeepAlive,
    ending: Ending,
}

enum Protocol {
    Handshake(server::Handshake<Observed, Bytes>),
    Open(server::Connection<Observed, Bytes>, PingPong),
}

/// The stage of a connection's end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ending {
    Not,
    /// GOAWAY was sent, and open streams are finished. Holds the number of response bytes sent at the last check.
    Drains(u64),
    /// GOAWAY was sent, and open streams are aborted.
    Breaks,
}

impl<S: Service> Http2<S> {
    /// Returns `Ready` when the connection is over.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            if let Poll::Ready(result) = self.poll_streams(cx) {
                self.record_unanswered();
                if let Err(error) = result {
                    self.shared.note(EventKind::Http2Failed, chain(&error));
                }
                return Poll::Ready(());
            }
            self.record_unanswered();
            if self.poll_taken(cx).is_ready() {
                return Poll::Ready(());
            }
            if ready!(self.poll_end(cx)) {
                return Poll::Ready(());
            }
        }
    }

    /// Accepts streams. Returns `Ready` when `h2` is done with the connection.
    fn poll_streams(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), h2::Error>> {
        loop {
            match &mut self.protocol {
                Protocol::Handshake(handshake) => {
                    let mut connection = ready!(Pin::new(handshake).poll(cx))?;
                    let Some(pings) = connection.ping_pong() else { return Poll::Ready(Ok(())) };
                    match self.ending {
                        Ending::Not => {}
                        Ending::Drains(_) => connection.graceful_shutdown(),
                        Ending::Breaks => connection.abrupt_shutdown(Reason::NO_ERROR),
                    }
                    self.protocol = Protocol::Open(connection, pings);
                }
                Protocol::Open(connection, _) => match ready!(connection.poll_accept(cx)) {
                    Some(Ok((request, respond))) => {
                        self.membership.signal().set_busy();
                        begin(&self.shared, request, respond);
                    }
                    Some(Err(error)) => return Poll::Ready(Err(error)),
                    None => return Poll::Ready(Ok(())),
                },
            }
        }
    }

    /// Lets the service record the streams that `h2` refused itself.
    fn record_unanswered(&self) {
        let refused = self.shared.meter.lock().take_refused();
        for (count, broken, sent) in [
            (refused.too_large, stream::TOO_LARGE, Sent::Whole),
            (refused.malformed, stream::MALFORMED, Sent::Nothing),
            (refused.too_many, stream::TOO_MANY, Sent::Nothing),
        ] {
            for _ in 0..count {
                tokio::spawn(stream::record(self.shared.clone(), broken, sent));
            }
        }
    }

    /// Returns `Ready` when the client reads nothing for too long.
    fn poll_taken(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        match self.shared.meter.lock().stuck_until() {
            Some(at) => self.stuck.set(at),
            None => self.stuck.clear(),
        }
        ready!(self.stuck.poll(cx));
        self.shared.note(EventKind::ClientLeft, "it took nothing within write-timeout".to_owned());
        self.shared.meter.lock().reset_socket();
        Poll::Ready(())
    }

    /// Returns `Ready` with whether the connection is over, or must be polled again.
    fn poll_end(&mut self, cx: &mut Context<'_>) -> Poll<bool> {
        let (excess, last_read, sent) = self.shared.meter.lock().look();
        if self.ending != Ending::Breaks {
            if let Some(excess) = excess {
                self.shared.note(EventKind::Http2Flood, excess.to_string());
                self.break_off(Reason::ENHANCE_YOUR_CALM);
                return Poll::Ready(false);
            }
            if let Protocol::Open(_, pings) = &mut self.protocol
                && self.keep_alive.poll(cx, pings, last_read).is_ready()
            {
                self.shared.note(EventKind::Http2Failed, "no answer to a ping".to_owned());
                self.break_off(Reason::NO_ERROR);
                return Poll::Ready(false);
            }
        }
        match self.ending {
            Ending::Not => {
                if !self.membership.signal().is_draining() {
                    if self.shared.open() > 0 {
                        self.timer.clear();
                    } else if !self.timer.is_set() {
                        let now = Instant::now();
                        self.timer.set(now + self.shared.listener.limits().idle_timeout);
                        self.membership.signal().set_idle(self.shared.listener.admission.since(now));
                    }
                    ready!(self.timer.poll(cx));
                }
                self.drain(sent);
                Poll::Ready(false)
            }
            Ending::Drains(before) => {
                if self.shared.open() > 0 {
                    self.timer.clear();
                } else if !self.timer.is_set() || sent != before {
                    // What is idle has little time to notice.
                    self.ending = Ending::Drains(sent);
                    self.timer.set(Instant::now() + FLUSH_GRACE);
                }
                self.timer.poll(cx).map(|()| true)
            }
            Ending::Breaks => self.timer.poll(cx).map(|()| true),
        }
    }

    /// Sends GOAWAY; open streams are finished.
    fn drain(&mut self, sent: u64) {
        if let Protocol::Open(connection, _) = &mut self.protocol {
            connection.graceful_shutdown();
        }
        self.timer.clear();
        self.ending = Ending::Drains(sent);
    }

    /// Sends GOAWAY; open streams are aborted.
    fn break_off(&mut self, reason: Reason) {
        if let Protocol::Open(connection, _) = &mut self.protocol {
            connection.abrupt_shutdown(reason);
        }
        self.timer.set(Instant::now() + FLUSH_GRACE);
        self.ending = Ending::Breaks;
    }
}

/// Begins a stream.
fn begin<S: Service>(shared: &Arc<Shared<S>>, request: Request<RecvStream>, respond: server::SendResponse<Bytes>) {
    let id = respond.stream_id().as_u32();
    let has_fragment = shared.meter.lock().accepted(id);
    shared.open.fetch_add(1, Ordering::AcqRel);
    let open = stream::Open(shared.clone(), id);
    // In a box, since a task moves its future several times before it runs and after; and written into it as it is made.
    let stream = Box::write(Box::new_uninit(), stream::run(request, respond, open, has_fragment));
    tokio::spawn(Box::into_pin(stream));
}
