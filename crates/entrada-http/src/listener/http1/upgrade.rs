//! Upgrade from HTTP/1 to another protocol: the raw connection, after `101 Switching Protocols`.

use std::{
    future::Future,
    io::{self, IoSlice},
    pin::Pin,
    sync::{Arc, Mutex},
    task::{Context, Poll},
};

use bytes::{Buf, Bytes};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    sync::oneshot,
};

use crate::{
    base::lock::lock,
    listener::{drain::ConnectionGuard, socket::Socket},
};

/// A claim to the raw connection, in the extensions of a request that asks for another protocol.
///
/// It is granted when the service has answered 101 and that response was sent, and never before. Clones are the same claim: the
/// first that is awaited gets the connection.
#[derive(Clone, Debug)]
pub struct Upgrade(Arc<Mutex<Option<oneshot::Receiver<Upgraded>>>>);

/// An error: the response was not 101, or the connection is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the connection was not handed over")]
pub struct UpgradeError;

impl Upgrade {
    /// Makes a claim and its granting side.
    pub(super) fn new() -> (oneshot::Sender<Upgraded>, Self) {
        let (sender, receiver) = oneshot::channel();
        (sender, Self(Arc::new(Mutex::new(Some(receiver)))))
    }
}

impl Future for Upgrade {
    type Output = Result<Upgraded, UpgradeError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut claim = lock(&self.0);
        let Some(receiver) = claim.as_mut() else { return Poll::Ready(Err(UpgradeError)) };
        let result = std::task::ready!(Pin::new(receiver).poll(cx));
        *claim = None;
        Poll::Ready(result.map_err(|_| UpgradeError))
    }
}

/// The raw connection. Bytes received after the request's head are read first.
///
/// It still counts as a connection of its listener, and is closed at the end of the drain.
#[derive(Debug)]
pub struct Upgraded {
    socket: Socket,
    read: Bytes,
    membership: ConnectionGuard,
}

impl Upgraded {
    pub(super) const fn new(socket: Socket, read: Bytes, membership: ConnectionGuard) -> Self {
        Self { socket, read, membership }
    }

    /// Returns whether the gateway is about to end: a good moment for a closing handshake.
    pub fn is_draining(&self) -> bool {
        self.membership.signal().is_draining()
    }
}

impl AsyncRead for Upgraded {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.membership.signal().poll_abort(cx).is_ready() {
            return Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()));
        }
        if self.read.has_remaining() {
            let bytes = self.read.len().min(buffer.remaining());
            buffer.put_slice(&self.read.split_to(bytes));
            return Poll::Ready(Ok(()));
        }
        Pin::new(&mut self.socket).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Upgraded {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.socket).poll_write(cx, bytes)
    }

    fn poll_write_vectored(mut self: Pin<&mut Self>, cx: &mut Context<'_>, slices: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.socket).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.socket.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_shutdown(cx)
    }
}
