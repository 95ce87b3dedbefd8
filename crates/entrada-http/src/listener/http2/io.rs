//! The socket under `h2`, which updates the [`meter`](super::meter).

use std::{
    io::{self, IoSlice},
    mem::MaybeUninit,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::{Buf, Bytes};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::Instant,
};

use super::meter::SharedMeter;
use crate::{
    base::deadline::Deadline,
    listener::{opening::FLUSH_GRACE, socket::Socket},
};

/// The number of bytes that a client may still send after GOAWAY, so that it sees the reason.
const LAST_BYTES: usize = 64 << 20;

/// A socket whose first bytes were read already, and whose frames are followed in both directions.
pub(super) struct Observed {
    socket: Socket,
    read: Bytes,
    meter: SharedMeter,
    /// Our side is closed.
    shut: bool,
    /// The number of bytes that the client may still send after that, and the deadline.
    left: usize,
    linger: Deadline,
}

impl Observed {
    pub(super) fn new(socket: Socket, read: Bytes, meter: SharedMeter) -> Self {
        Self { socket, read, meter, shut: false, left: LAST_BYTES, linger: Deadline::default() }
    }

    /// Returns `Ready` when both sides are closed.
    fn poll_close(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if !self.shut {
            let _ = ready!(Pin::new(&mut self.socket).poll_shutdown(cx));
            self.shut = true;
        }
        loop {
            let mut space = [const { MaybeUninit::uninit() }; 8 << 10];
            let mut read = ReadBuf::uninit(&mut space);
            let result = ready!(Pin::new(&mut self.socket).poll_read(cx, &mut read));
            let bytes = read.filled().len();
            if result.is_err() || bytes == 0 || bytes > self.left {
                return Poll::Ready(());
            }
            self.left -= bytes;
        }
    }

    /// Follows the frames in the written bytes.
    fn note(&self, slices: &[IoSlice<'_>], written: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        match written {
            Poll::Ready(Ok(written)) => self.meter.lock().wrote(slices, written),
            Poll::Ready(Err(_)) => {}
            Poll::Pending => self.meter.lock().waits(),
        }
        written
    }
}

impl Drop for Observed {
    fn drop(&mut self) {
        let mut meter = self.meter.lock();
        meter.leaving.lose_all();
        if meter.resets_socket() {
            self.socket.reset();
        }
    }
}

impl AsyncRead for Observed {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        loop {
            if self.meter.lock().is_exceeded() {
                // The connection's task, which is the one that reads, ends it.
                return Poll::Pending;
            }
            if self.read.has_remaining() {
                let bytes = self.read.len().min(buffer.remaining());
                buffer.put_slice(&self.read.split_to(bytes));
            } else {
                ready!(Pin::new(&mut self.socket).poll_read(cx, buffer))?;
            }
            let bytes = &mut buffer.filled_mut()[before..];
            if bytes.is_empty() {
                return Poll::Ready(Ok(()));
            }
            let kept = self.meter.lock().read(bytes, Instant::now());
            buffer.set_filled(before + kept);
            // Nothing at all would be the end.
            if kept > 0 {
                return Poll::Ready(Ok(()));
            }
        }
    }
}

impl AsyncWrite for Observed {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.socket).poll_write(cx, bytes);
        self.note(&[IoSlice::new(bytes)], written)
    }

    fn poll_write_vectored(mut self: Pin<&mut Self>, cx: &mut Context<'_>, slices: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.socket).poll_write_vectored(cx, slices);
        self.note(slices, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.socket.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.socket).poll_flush(cx);
        match flushed {
            // What TLS holds back is not taken either.
            Poll::Pending => self.meter.lock().waits(),
            Poll::Ready(_) => self.meter.lock().flushed(),
        }
        flushed
    }

    /// Closes our side, and continues to read until the client has closed its own: unread bytes would make the kernel reset the
    /// connection, and the client might never see the reason for the end.
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !self.linger.is_set() {
            self.linger.set(Instant::now() + FLUSH_GRACE);
        }
        match self.poll_close(cx) {
            Poll::Ready(()) => Poll::Ready(Ok(())),
            Poll::Pending => self.linger.poll(cx).map(Ok),
        }
    }
}
