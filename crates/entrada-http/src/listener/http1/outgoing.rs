//! Outgoing bytes: head and small parts are joined, large parts are written as they are.

use std::{
    io::{self, IoSlice, Write},
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::{Buf, Bytes};
use http::HeaderMap;
use tokio::io::AsyncWrite;

use crate::base::buffers;

/// The size up to which copying costs less than another entry in a vectored write.
const COPIED: usize = 4 << 10;
/// The number of bytes that are gathered before they are written.
const GATHERED: usize = 32 << 10;

/// The pending bytes, in order: `copied`, `data`, `tail`.
#[derive(Debug)]
pub(super) struct Outgoing {
    pub(super) copied: Vec<u8>,
    written: usize,
    data: Bytes,
    tail: &'static [u8],
}

impl Default for Outgoing {
    fn default() -> Self {
        Self { copied: buffers::buffer(), written: 0, data: Bytes::new(), tail: b"" }
    }
}

impl Drop for Outgoing {
    fn drop(&mut self) {
        buffers::keep_buffer(std::mem::take(&mut self.copied));
    }
}

impl Outgoing {
    /// Returns whether everything was written.
    pub(super) const fn is_empty(&self) -> bool {
        self.copied.len() == self.written && self.data.is_empty() && self.tail.is_empty()
    }

    /// Returns the number of bytes that were not written.
    pub(super) const fn unwritten(&self) -> usize {
        self.copied.len() - self.written + self.data.len() + self.tail.len()
    }

    /// Returns whether more may be added before it is written.
    pub(super) const fn has_room(&self) -> bool {
        self.data.is_empty() && self.tail.is_empty() && self.copied.len() - self.written < GATHERED
    }

    pub(super) fn push(&mut self, data: Bytes) {
        if data.len() <= COPIED {
            self.copied.extend_from_slice(&data);
        } else {
            self.data = data;
        }
    }

    pub(super) fn push_chunk(&mut self, data: Bytes) {
        // Writing to a vector does not fail.
        let _ = write!(self.copied, "{:x}\r\n", data.len());
        let copied = data.len() <= COPIED;
        self.push(data);
        if copied {
            self.copied.extend_from_slice(b"\r\n");
        } else {
            self.tail = b"\r\n";
        }
    }

    /// Adds the last chunk, with trailer fields if there is room, which is not the case after an unwritten large part.
    pub(super) fn push_end_of_chunks(&mut self, trailers: &HeaderMap) {
        const END: &[u8] = b"0\r\n\r\n";
        match self.tail {
            b"" if self.data.is_empty() => {
                self.copied.extend_from_slice(b"0\r\n");
                for (name, value) in trailers {
                    for part in [name.as_str().as_bytes(), b": ", value.as_bytes(), b"\r\n"] {
                        self.copied.extend_from_slice(part);
                    }
                }
                self.copied.extend_from_slice(b"\r\n");
            }
            b"" => self.tail = END,
            _ => self.tail = b"\r\n0\r\n\r\n",
        }
    }

    /// Writes as much as possible. Returns the number of bytes.
    pub(super) fn poll_write(&mut self, cx: &mut Context<'_>, mut socket: impl AsyncWrite + Unpin) -> Poll<io::Result<usize>> {
        let socket = Pin::new(&mut socket);
        let copied = &self.copied[self.written..];
        let written = ready!(if self.data.is_empty() && self.tail.is_empty() {
            socket.poll_write(cx, copied)
        } else {
            let slices = [IoSlice::new(copied), IoSlice::new(&self.data), IoSlice::new(self.tail)];
            let first = usize::from(copied.is_empty());
            socket.poll_write_vectored(cx, &slices[first..])
        })?;
        if written == 0 {
            return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
        }
        self.advance(written);
        Poll::Ready(Ok(written))
    }

    fn advance(&mut self, written: usize) {
        let copied = written.min(self.copied.len() - self.written);
        self.written += copied;
        if self.written == self.copied.len() {
            self.copied.clear();
            self.written = 0;
        }
        let data = (written - copied).min(self.data.len());
        self.data.advance(data);
        if data > 0 && self.data.is_empty() {
            // An empty slice would keep the whole allocation alive.
            self.data = Bytes::new();
        }
        self.tail = &self.tail[written - copied - data..];
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use tokio::io::{AsyncReadExt, duplex};

    use super::*;

    #[tokio::test]
    async fn chunks_leave_in_order_through_a_narrow_pipe() {
        let large = vec![b'x'; COPIED + 1];
        let (mut near, mut far) = duplex(7);
        let writer = tokio::spawn(async move {
            let mut out = Outgoing::default();
            for data in [Bytes::from_static(b"small"), Bytes::from(vec![b'x'; COPIED + 1])] {
                out.push_chunk(data);
            }
            assert!(!out.has_room());
            out.push_end_of_chunks(&HeaderMap::new());
            while !out.is_empty() {
                poll_fn(|cx| out.poll_write(cx, &mut near)).await.unwrap();
            }
        });

        let mut read = Vec::new();
        far.read_to_end(&mut read).await.unwrap();

        writer.await.unwrap();
        let expected = [b"5\r\nsmall\r\n1001\r\n".as_slice(), &large, b"\r\n0\r\n\r\n"].concat();
        assert!(read == expected);
    }
}
