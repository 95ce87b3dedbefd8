//! Tunnels: the bytes of a connection after an upgrade, and the record that is written when they end.

use std::{
    io,
    pin::{Pin, pin},
    sync::Arc,
    task::{Context, Poll, ready},
};

use http::Extensions;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf, copy_bidirectional},
    time::{Instant, timeout_at},
};

use super::lifetime::{ended_by_time, ends_at, unless_revoked};
use super::websocket::Handshake;
use crate::{
    exchange::EndedBy,
    gateway::Recorder,
    listener::{StreamUpgrade, Upgrade},
    upstream::Upgraded,
};

/// The caller's connection, if the request asks to upgrade it to another protocol.
#[derive(Clone, Debug)]
pub(super) enum Downstream {
    /// A connection of a listener.
    Listener(Upgrade),
    /// A stream of a listener's connection.
    Stream(Arc<ClaimedStream>),
    /// A connection of an application's server.
    Application(OnUpgrade),
}

impl Downstream {
    /// Takes the connection from the request's extensions, where the server has put it; `None` if there is none.
    pub(super) fn of(extensions: &mut Extensions) -> Option<Self> {
        let listener = extensions.remove::<Upgrade>().map(Self::Listener);
        let stream = || {
            let claim = extensions.remove::<StreamUpgrade>()?;
            Some(Self::Stream(Arc::new(ClaimedStream { claim, handshake: Handshake::default() })))
        };
        let listener = listener.or_else(stream);
        // Left there for a service behind the gateway.
        listener.or_else(|| extensions.get::<OnUpgrade>().cloned().map(Self::Application))
    }
}

/// A stream of HTTP/2 that may become a tunnel, and the handshake with the upstream that HTTP/2 does not have.
#[derive(Debug)]
pub(super) struct ClaimedStream {
    claim: StreamUpgrade,
    pub(super) handshake: Handshake,
}

/// The two connections of a tunnel that is about to begin.
pub(crate) struct Tunnel {
    pub(super) downstream: Downstream,
    pub(super) upstream: Upgraded,
}

impl Tunnel {
    /// Copies bytes in both directions until one side ends, the token expires, or the partner's access ends. Writes the record.
    pub(super) async fn carry(self, mut recorder: Box<Recorder>) {
        // What stands here if the gateway ends first.
        recorder.exchange.outcome.ended_by = Some(EndedBy::Drain);
        match self.downstream {
            Downstream::Listener(claim) => {
                let Ok(downstream) = claim.await else { return never_began(recorder) };
                let mut caller = Side::of(downstream);
                let ended_by = copy(&mut caller, self.upstream, &mut recorder).await;
                let drained = ended_by == EndedBy::Caller && caller.failed && caller.io.is_draining();
                end(recorder, if drained { EndedBy::Drain } else { ended_by });
            }
            Downstream::Stream(stream) => {
                let Ok(downstream) = stream.claim.clone().await else { return never_began(recorder) };
                let mut caller = Side::of(downstream);
                let ended_by = copy(&mut caller, self.upstream, &mut recorder).await;
                let drained = ended_by == EndedBy::Caller && caller.failed && caller.io.is_draining();
                end(recorder, if drained { EndedBy::Drain } else { ended_by });
            }
            Downstream::Application(claim) => {
                let Ok(downstream) = claim.await else { return never_began(recorder) };
                let ended_by = copy(&mut Side::of(TokioIo::new(downstream)), self.upstream, &mut recorder).await;
                end(recorder, ended_by);
            }
        }
    }
}

fn never_began(recorder: Box<Recorder>) {
    end(recorder, EndedBy::Caller);
}

/// Writes the record. The caller of this holds the connection still, which counts until the record is there.
fn end(mut recorder: Box<Recorder>, by: EndedBy) {
    recorder.exchange.outcome.ended_by = Some(by);
}

/// Copies the bytes, and counts them.
async fn copy<I: AsyncRead + AsyncWrite + Unpin>(caller: &mut Side<I>, upstream: Upgraded, recorder: &mut Recorder) -> EndedBy {
    let exchange = &mut recorder.exchange;
    let mut server = Side::of(upstream);
    // However a tunnel ends, there is nobody left to tell.
    let copied = {
        let copied = pin!(timeout_at(ends_at(exchange), copy_bidirectional(caller, &mut server)));
        unless_revoked(exchange.access().cloned(), copied).await
    };
    exchange.outcome.bytes_in.tunnelled(caller.read);
    exchange.outcome.bytes_out += server.read;
    match copied {
        None => EndedBy::PartnerDisabled,
        Some(Err(_)) => ended_by_time(exchange),
        Some(Ok(result)) => {
            exchange.outcome.complete = result.is_ok();
            let caller_first = match (caller.ended, server.ended) {
                (Some(caller), Some(server)) => caller <= server,
                (caller, _) => caller.is_some(),
            };
            if caller_first { EndedBy::Caller } else { EndedBy::Upstream }
        }
    }
}

/// One side of a tunnel.
struct Side<I> {
    io: I,
    /// The number of bytes that were read from it.
    read: u64,
    /// The time when it ended or failed.
    ended: Option<Instant>,
    failed: bool,
}

impl<I> Side<I> {
    const fn of(io: I) -> Self {
        Self { io, read: 0, ended: None, failed: false }
    }

    fn noted<T>(&mut self, result: io::Result<T>) -> Poll<io::Result<T>> {
        if result.is_err() {
            self.failed = true;
            self.end();
        }
        Poll::Ready(result)
    }

    fn end(&mut self) {
        self.ended.get_or_insert_with(Instant::now);
    }
}

impl<I: AsyncRead + Unpin> AsyncRead for Side<I> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let result = ready!(Pin::new(&mut self.io).poll_read(cx, buffer));
        let bytes = buffer.filled().len() - before;
        if result.is_ok() && bytes == 0 {
            self.end();
        }
        self.read += bytes as u64;
        self.noted(result)
    }
}

impl<I: AsyncWrite + Unpin> AsyncWrite for Side<I> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let result = ready!(Pin::new(&mut self.io).poll_write(cx, bytes));
        self.noted(result)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let result = ready!(Pin::new(&mut self.io).poll_flush(cx));
        self.noted(result)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}
