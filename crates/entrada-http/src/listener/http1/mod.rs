//! HTTP/1.0 and 1.1, as a server: RFC 9112.
//!
//! A connection is one task with one loop: read a head, let the service answer, send the response, and make sure that the
//! request's body has been read. Pipelined requests wait in the socket. The state of a request is one allocation that ends with
//! it, so that an idle connection is small.
//!
//! There are two interim responses of our own: 100, sent when the body is first read and the client waits for permission, and
//! 101. Those of the service use [`Informational`], to clients that speak HTTP/1.1.
//!
//! # A client that leaves
//! A reset is certain, and drops the service's future at once. An end of stream is not: the client may have closed, or may only
//! have finished sending (as `nc -N` does). Such a client gets the response if it is ready within [`LINGER_AFTER_SHUTDOWN`].
//!
//! # Truncated responses
//! If a body fails after its response has begun, the part received so far is delivered, and the connection closed: an incomplete
//! length, or chunks without the last one, show that something is missing. A body that ends with the connection cannot show that;
//! its client has [`LINGER`] to read the rest, and then sees a reset.
//!
//! # Early responses
//! The service may answer before the body was read. A client that is still sending would take a closed connection for a failure
//! and never see the response, so the rest is read and dropped within [`DRAIN_BYTES`] and [`LINGER`]; if that is enough, the
//! connection continues, else our side is closed and the client has the remaining time to notice.

mod closing;
mod framing;
mod head;
mod outgoing;
mod response;
mod upgrade;
mod whole;
mod wire;

use std::{
    future::{Future, poll_fn},
    pin::{Pin, pin},
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::BytesMut;
use http::{HeaderMap, StatusCode, Version};
use http_body::Body;
use tokio::{io::AsyncWrite, sync::oneshot, time::Instant};

pub(super) use self::response::{AnswerError, Delimiter, RequestFacts};
pub(crate) use self::wire::{Http1Body, Http1Informational};
use self::{
    closing::{DRAIN_BYTES, LINGER},
    framing::Framing,
    head::{Head, Scan},
    outgoing::Outgoing,
    response::{asks_to_close, write_head},
    wire::{Found, OwnedWire, SharedWire},
};
pub use self::{
    upgrade::{Upgrade, UpgradeError, Upgraded},
    whole::{WholeRequest, read_request},
};
use super::{
    broken::Broken,
    connection::Connection,
    drain::ConnectionGuard,
    opening::{FLUSH_GRACE, Opening},
    service::{Arrival, Service},
    settings::{Limits, Listener},
    socket::Socket,
};
use crate::connection::{ConnectionEvent, EventKind};
use crate::{
    base::{
        buffers,
        deadline::{Deadline, Pace},
        response::Response,
    },
    listener::{body::RequestBody, informational::Informational, service::Sent},
    refusal::Reason,
};

/// The time for which a response is still sent to a client that has closed its sending side.
pub(super) const LINGER_AFTER_SHUTDOWN: Duration = Duration::from_secs(5);
/// The response where the service's own response is invalid.
const NO_ANSWER: &[u8] = b"HTTP/1.1 500 Internal Server Error\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";

/// The state between requests.
struct Http1 {
    wire: OwnedWire,
    listener: Arc<Listener>,
    membership: ConnectionGuard,
    timer: Deadline,
    scan: Scan,
    /// The first byte of the current head has arrived.
    began: bool,
    /// No request was read yet.
    fresh: bool,
    /// The first bytes may be those of HTTP/2.
    may_be_http2: bool,
}

enum Next {
    Head(Head<RequestBody>),
    Broken(Broken),
    /// No more bytes arrive, or none are to be read.
    Close,
    /// The client left in the middle of a head.
    Abandoned,
    /// The client speaks HTTP/2.
    Http2,
}

/// The next step of a connection after a request.
enum NextStep {
    Next,
    /// Close; the client sends nothing more.
    Close,
    /// Close, and let the client read the response, although it may still be sending.
    Linger(Instant),
    /// Close in a way that is not mistaken for the end of a response.
    Reset,
    /// Reset after the client has had time to read the sent bytes.
    ResetAfter(Instant),
    /// Hand the connection over.
    Switch(oneshot::Sender<Upgraded>),
}

/// A response whose head has been written.
struct StartedResponse<B> {
    body: B,
    out: Outgoing,
    /// The delimiter of the body; a contradictory response has been replaced.
    delimiter: Result<Delimiter, AnswerError>,
    /// Whether the connection may go on afterwards.
    persists: bool,
    /// Whether trailer fields may follow.
    trailers: bool,
}

/// The reason why a response could not be sent completely.
enum IncompleteResponse {
    /// The client does not read it.
    Left,
    /// Its body had to end while the client read none of it.
    Overdue,
    /// Its body failed; the part before was sent.
    Body {
        why: String,
        /// True if the framing shows that something is missing.
        visible: bool,
    },
}

/// Serves a connection to its end, or returns it if it turns out to speak HTTP/2, as `may_be_http2` allows.
pub(super) async fn serve<S: Service>(opening: Opening, service: S, may_be_http2: bool) -> Option<Opening> {
    let Opening { socket, buffer, listener, connection, membership, accepted } = opening;
    let mut timer = Deadline::default();
    timer.set(accepted + listener.limits().header_timeout);
    let mut http1 = Http1 {
        wire: OwnedWire(SharedWire::new(socket, buffer)),
        listener,
        membership,
        timer,
        scan: Scan::default(),
        began: true,
        fresh: true,
        may_be_http2,
    };
    loop {
        let limits = http1.listener.limits();
        let found = match poll_fn(|cx| http1.poll_next(cx, &limits)).await {
            Next::Head(head) => Ok(head),
            Next::Broken(broken) => Err(broken),
            Next::Abandoned => {
                note(&service, &connection, EventKind::HeadAbandoned, "the connection ended within a head".to_owned());
                return None;
            }
            Next::Close => {
                http1.close().await;
                return None;
            }
            Next::Http2 => return Some(http1.give_back(connection, accepted)),
        };
        http1.may_be_http2 = false;
        http1.timer.clear();
        http1.membership.signal().set_busy();
        // Boxed: the future of a request is large, and a connection at rest has no use for its room. Written into the box as it is made:
        // of what would be copied into it, nearly nothing means anything yet.
        let exchange = Box::write(Box::new_uninit(), http1.exchange(found, &service, &connection, &limits));
        match Box::into_pin(exchange).await {
            NextStep::Next => {
                http1.rest(&limits);
                continue;
            }
            NextStep::Close => http1.close().await,
            NextStep::Linger(until) => http1.linger(until).await,
            NextStep::Reset => http1.wire.lock().socket.reset(),
            NextStep::ResetAfter(until) => http1.reset_after(until).await,
            NextStep::Switch(claim) => http1.hand_over(claim),
        }
        return None;
    }
}

fn note<S: Service>(service: &S, connection: &Connection, kind: EventKind, detail: String) {
    let event =
        ConnectionEvent { listener: connection.listener.name.clone(), peer: Some(connection.peer), kind, detail: detail.into() };
    service.event(event);
}

impl Http1 {
    /// Returns the next head, or the reason why there is none.
    fn poll_next(&mut self, cx: &mut Context<'_>, limits: &Limits) -> Poll<Next> {
        let mut wire = self.wire.lock();
        match wire.poll_head(cx, &mut self.scan, limits.header_bytes, self.may_be_http2) {
            Poll::Ready(Found::Head(head)) => {
                wire.begin(&head, limits.body_timeout);
                return Poll::Ready(Next::Head(head));
            }
            Poll::Ready(Found::Broken(broken)) => return Poll::Ready(Next::Broken(broken)),
            Poll::Ready(Found::Preface) => return Poll::Ready(Next::Http2),
            Poll::Ready(Found::End) => return Poll::Ready(if wire.buffer.is_empty() { Next::Close } else { Next::Abandoned }),
            Poll::Pending => {}
        }
        let silent = wire.buffer.is_empty();
        drop(wire);
        if silent && self.membership.signal().is_draining() {
            if !self.fresh {
                return Poll::Ready(Next::Close);
            }
            self.fresh = false;
            self.timer.set(Instant::now() + FLUSH_GRACE);
        }
        if !silent && !self.began {
            self.began = true;
            self.timer.set(Instant::now() + limits.header_timeout);
        }
        ready!(self.timer.poll(cx));
        let late = Broken::new(Reason::RequestTimeout, "the head was not complete within header-timeout");
        Poll::Ready(if silent { Next::Close } else { Next::Broken(late) })
    }

    /// Prepares for the next request.
    fn rest(&mut self, limits: &Limits) {
        self.began = false;
        self.fresh = false;
        let now = Instant::now();
        self.timer.set(now + limits.idle_timeout);
        self.membership.signal().set_idle(self.listener.admission.since(now));
    }

    /// Serves one request and its response.
    async fn exchange<S: Service>(
        &mut self,
        found: Result<Head<RequestBody>, Broken>,
        service: &S,
        connection: &Arc<Connection>,
        limits: &Limits,
    ) -> NextStep {
        let (arrival, asked, claim) = self.arrival(found, limits);
        let (mut begun, switches) = {
            let response = {
                let mut answer = pin!(service.call(arrival, connection));
                poll_fn(|cx| match answer.as_mut().poll(cx) {
                    Poll::Ready(response) => Poll::Ready(Some(response)),
                    Poll::Pending => self.poll_left(cx).map(|()| None),
                })
                .await
            };
            self.timer.clear();
            let Some(response) = response else {
                note(service, connection, EventKind::ClientLeft, "before the answer".to_owned());
                return NextStep::Reset;
            };
            let switches = response.status() == StatusCode::SWITCHING_PROTOCOLS;
            (self.begin(response, asked), switches)
        };
        match self.send::<S>(&mut begun, limits).await {
            Ok(_) if switches => claim.map_or(NextStep::Close, NextStep::Switch),
            Ok(persists) => self.after_body(persists).await,
            Err(IncompleteResponse::Left) => {
                note(service, connection, EventKind::ClientLeft, "within the answer".to_owned());
                NextStep::Reset
            }
            Err(IncompleteResponse::Overdue) => {
                note(service, connection, EventKind::AnswerAborted, "its time was over".to_owned());
                NextStep::Reset
            }
            Err(IncompleteResponse::Body { why, visible }) => {
                note(service, connection, EventKind::AnswerAborted, why);
                self.wire.lock().revoke();
                let until = Instant::now() + LINGER;
                if visible { NextStep::Linger(until) } else { NextStep::ResetAfter(until) }
            }
        }
    }

    /// Makes the arrival for the service.
    fn arrival(
        &self,
        found: Result<Head<RequestBody>, Broken>,
        limits: &Limits,
    ) -> (Arrival, RequestFacts, Option<oneshot::Sender<Upgraded>>) {
        let head = match found {
            Ok(head) => head,
            Err(broken) => return (Arrival::Broken(broken), RequestFacts::BROKEN, None),
        };
        let upgrade = head.asks_for_upgrade();
        let asked = RequestFacts::by(&head.request.method, head.request.version, head.persists(), upgrade);
        let asked = RequestFacts { trailers: head.takes_trailers, ..asked };
        let mut body = if head.framing == Framing::None { RequestBody::empty() } else { RequestBody::http1(self.wire.body()) };
        if head.request.version == Version::HTTP_11 {
            body.informs(Informational::http1(self.wire.informational()));
        }
        // A body that has announced itself as too long says so to whoever reads it.
        let _ = body.limit(limits.body_bytes);
        let mut request = head.request;
        request.body = body;
        let claim = upgrade.then(|| {
            let (claim, upgrade) = Upgrade::new();
            request.extensions.insert(upgrade);
            claim
        });
        (Arrival::Request(request), asked, claim)
    }

    /// Returns `Ready` when the client is known to have left. Only checks where body bytes cannot be taken for those of the next
    /// request.
    fn poll_left(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let mut wire = self.wire.lock();
        if let Poll::Ready(Err(_)) = wire.poll_informational(cx) {
            return Poll::Ready(());
        }
        if !wire.is_body_done() {
            wire.wake_after_body(cx);
            return Poll::Pending;
        }
        if !wire.ended {
            if !wire.buffer.is_empty() {
                return Poll::Pending;
            }
            match ready!(wire.poll_fill(cx)) {
                Ok(0) => {}
                Ok(_) => return Poll::Pending,
                Err(_) => return Poll::Ready(()),
            }
        }
        if !self.timer.is_set() {
            self.timer.set(Instant::now() + LINGER_AFTER_SHUTDOWN);
        }
        self.timer.poll(cx)
    }

    /// Writes the head of the response.
    fn begin<B: Body>(&mut self, response: Response<B>, asked: RequestFacts) -> StartedResponse<B> {
        let (parts, body) = response.into_parts();
        let mut out = Outgoing::default();
        let mut persists = asked.persists && !asks_to_close(&parts.headers) && !self.membership.signal().is_draining();
        {
            let mut wire = self.wire.lock();
            persists &= wire.answer(&mut out.copied);
            persists &= self.wire.is_lent() || wire.body_remaining().is_none_or(|remaining| remaining <= DRAIN_BYTES);
        }
        let delimiter = Delimiter::of(parts.status, &parts.headers, &body.size_hint(), asked);
        match delimiter {
            Ok(delimiter) => {
                persists &= delimiter != Delimiter::Close;
                write_head(&mut out.copied, parts.status, &parts.headers, delimiter, asked, persists);
            }
            Err(_) => out.copied.extend_from_slice(NO_ANSWER),
        }
        buffers::keep_fields(parts.headers);
        StartedResponse { body, out, delimiter, persists, trailers: asked.trailers }
    }

    /// Sends the response. Returns whether the connection may continue.
    async fn send<S: Service>(
        &mut self,
        answer: &mut StartedResponse<S::Body>,
        limits: &Limits,
    ) -> Result<bool, IncompleteResponse> {
        let StartedResponse { body, out, delimiter, persists, trailers: takes_trailers } = answer;
        let delimiter = match delimiter {
            Ok(delimiter) => delimiter,
            Err(error) => {
                let _ = poll_fn(|cx| self.poll_flush(cx, out, &mut Pace::default(), limits)).await;
                S::sent(Pin::new(body), Sent::Nothing);
                return Err(IncompleteResponse::Body { why: error.to_string(), visible: true });
            }
        };
        let mut body = Pin::new(body);
        let mut pace = Pace::default();
        let mut ended = *delimiter == Delimiter::NoBody;
        let mut trailers = HeaderMap::new();
        let mut torn = None;
        let sent = poll_fn(|cx| {
            loop {
                while !ended && torn.is_none() && out.has_room() {
                    match body.as_mut().poll_frame(cx) {
                        Poll::Ready(Some(Ok(frame))) => match frame.into_data() {
                            Ok(data) => torn = delimiter.push(data, out).err().map(|error| error.to_string()),
                            Err(frame) if *takes_trailers => trailers = frame.into_trailers().unwrap_or_default(),
                            Err(_) => {}
                        },
                        Poll::Ready(Some(Err(error))) => torn = Some(error.into().to_string()),
                        Poll::Ready(None) => {
                            ended = true;
                            torn = delimiter.finish(&trailers, out).err().map(|error| error.to_string());
                        }
                        Poll::Pending => break,
                    }
                }
                let idle = out.is_empty();
                match self.poll_flush(cx, out, &mut pace, limits) {
                    Poll::Ready(flushed) => flushed?,
                    // A client that takes nothing does not keep the body from its end.
                    Poll::Pending => return S::poll_overdue(body.as_mut(), cx).map(|()| Err(IncompleteResponse::Overdue)),
                }
                if let Some(why) = torn.take() {
                    return Poll::Ready(Err(IncompleteResponse::Body { why, visible: *delimiter != Delimiter::Close }));
                }
                if ended {
                    return Poll::Ready(Ok(*persists));
                }
                if idle {
                    return self.poll_left(cx).map(|()| Err(IncompleteResponse::Left));
                }
            }
        })
        .await;
        // May include bytes of the head or of chunk lines, so that the record never has more bytes than were sent.
        S::sent(body, if sent.is_ok() { Sent::Whole } else { Sent::Part { unsent: out.unwritten() as u64 } });
        sent
    }

    /// Writes all pending bytes.
    fn poll_flush(
        &mut self,
        cx: &mut Context<'_>,
        out: &mut Outgoing,
        pace: &mut Pace,
        limits: &Limits,
    ) -> Poll<Result<(), IncompleteResponse>> {
        let mut wire = self.wire.lock();
        loop {
            let progress = if out.is_empty() {
                Pin::new(&mut wire.socket).poll_flush(cx).map_ok(|()| 0)
            } else {
                out.poll_write(cx, &mut wire.socket)
            };
            match progress {
                Poll::Ready(Ok(0)) => return Poll::Ready(Ok(())),
                Poll::Ready(Ok(written)) => {
                    pace.moved(written);
                    self.timer.clear();
                }
                Poll::Ready(Err(_)) => return Poll::Ready(Err(IncompleteResponse::Left)),
                Poll::Pending => {
                    if let Some(at) = pace.waits(limits.write_timeout) {
                        self.timer.set(at);
                    }
                    return self.timer.poll(cx).map(|()| Err(IncompleteResponse::Left));
                }
            }
        }
    }

    /// Takes socket and unread bytes out of the wire.
    fn take(&self) -> (Socket, BytesMut) {
        let mut wire = self.wire.lock();
        (std::mem::replace(&mut wire.socket, Socket::Gone), std::mem::take(&mut wire.buffer))
    }

    fn give_back(self, connection: Arc<Connection>, accepted: Instant) -> Opening {
        let (socket, buffer) = self.take();
        Opening { socket, buffer, listener: self.listener, connection, membership: self.membership, accepted }
    }

    /// Gives the socket to the holder of the claim.
    fn hand_over(self, claim: oneshot::Sender<Upgraded>) {
        let (socket, read) = self.take();
        let read = read.freeze();
        // A claim that was dropped is a connection that nobody wants: it closes.
        let _ = claim.send(Upgraded::new(socket, read, self.membership));
    }
}
