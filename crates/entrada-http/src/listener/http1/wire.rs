//! The bytes of one HTTP/1 connection, shared by its readers and writers.
//!
//! The connection's own task writes responses and reads heads; the body of a request is read by whichever task forwards it. So
//! the socket and the unread bytes are behind one lock, which is held for one poll and never contended on a runtime of one
//! thread. The two sides do not replace each other's wakers: a socket keeps one for reading and one for writing, and only one of
//! the tasks reads at a time (the body's while there is a body, the connection's before and after).

use std::{
    io,
    mem::MaybeUninit,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard},
    task::{Context, Poll, Waker, ready},
    time::Duration,
};

use bytes::{Buf, BufMut, Bytes, BytesMut};
use http::{HeaderMap, StatusCode};
use http_body::SizeHint;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_util::io::poll_read_buf;

use super::{
    framing::{Decoded, Decoder, Framing},
    head::{self, Head, Scan},
};
use crate::{
    base::{
        deadline::{Deadline, Pace},
        lock::lock,
    },
    connection::frames::PREFACE,
    listener::{body::RequestBody, body_error::BodyError, broken::Broken, interim_fields::stays_behind, socket::Socket},
};

/// The size of a read where a head may begin.
const READ: usize = 8 << 10;
const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";
/// The limit of pending informational responses, in bytes; further ones are dropped.
const MOST_INFORMATIONAL: usize = 16 << 10;

/// Socket, unread bytes, and the current body.
#[derive(Debug)]
pub(super) struct Wire {
    pub(super) socket: Socket,
    /// The unread bytes. Without allocated memory while the connection is idle.
    pub(super) buffer: BytesMut,
    /// The client sends no more.
    pub(super) ended: bool,
    /// The pending informational responses. Without allocated memory while there are none.
    informational: BytesMut,
    body: IncomingBody,
    /// The request that the body belongs to; a handle from an earlier one reads nothing.
    serial: u64,
    /// The connection's task, if it waits for the body to be read.
    owner: Option<Waker>,
    /// The task that waits for more of the body.
    reader: Option<Waker>,
}

/// The bytes found where a head should begin.
#[derive(Debug)]
pub(super) enum Found {
    Head(Head<RequestBody>),
    Broken(Broken),
    /// The preface of HTTP/2.
    Preface,
    /// The end of the connection.
    End,
}

/// The state of the request's body.
#[derive(Debug)]
struct IncomingBody {
    decoder: Decoder,
    failed: Option<BodyError>,
    /// The unsent rest of `100 Continue`, if the client waits for it.
    interim: &'static [u8],
    /// The response has begun: from here on the body is a stream that may pause.
    answered: bool,
    timeout: Duration,
    pace: Pace,
    timer: Deadline,
}

/// A wire and its lock.
#[derive(Debug)]
pub(super) struct SharedWire(Arc<Mutex<Wire>>);

impl SharedWire {
    pub(super) fn new(socket: Socket, buffer: BytesMut) -> Self {
        let body = IncomingBody {
            decoder: Decoder::from(Framing::None),
            failed: None,
            interim: b"",
            answered: false,
            timeout: Duration::ZERO,
            pace: Pace::default(),
            timer: Deadline::default(),
        };
        let informational = BytesMut::new();
        let wire = Wire { socket, buffer, ended: false, informational, body, serial: 0, owner: None, reader: None };
        Self(Arc::new(Mutex::new(wire)))
    }

    /// Returns another handle to the same wire.
    pub(super) fn share(&self) -> Self {
        Self(self.0.clone())
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Wire> {
        lock(&self.0)
    }

    /// Returns whether somebody may still read the body.
    pub(super) fn is_lent(&self) -> bool {
        Arc::strong_count(&self.0) > 1
    }

    /// Makes a channel for informational responses to the request that [`begin`](Wire::begin) was called for.
    pub(super) fn informational(&self) -> Http1Informational {
        Http1Informational { serial: self.lock().serial, wire: self.share() }
    }

    /// Makes a handle to the body of the request that [`begin`](Wire::begin) was called for.
    pub(super) fn body(&self) -> Http1Body {
        let wire = self.lock();
        Http1Body { serial: wire.serial, remaining: wire.body.decoder.remaining(), ended: false, wire: self.share() }
    }
}

impl Wire {
    /// Notes that a head was consumed; its body follows.
    pub(super) fn begin(&mut self, head: &Head<RequestBody>, timeout: Duration) {
        self.serial += 1;
        self.body.decoder = Decoder::from(head.framing);
        self.body.failed = None;
        self.body.interim = if head.expects_continue { CONTINUE } else { b"" };
        self.body.answered = false;
        self.body.timeout = timeout;
        self.body.pace = Pace::default();
        self.body.timer.clear();
    }

    /// Begins the response. An interim response in progress is completed first; one that was not begun is dropped.
    ///
    /// Returns whether a request can follow: not after a body with an undefined end, nor if the client was never told to send its
    /// body, since it is then unknown whether it will.
    pub(super) fn answer(&mut self, out: &mut Vec<u8>) -> bool {
        self.body.answered = true;
        let left = std::mem::take(&mut self.body.interim);
        if left.len() < CONTINUE.len() {
            out.extend_from_slice(left);
            // It may wait for room to write the rest.
            if let Some(reader) = self.reader.take() {
                reader.wake();
            }
        }
        if !self.informational.is_empty() {
            out.extend_from_slice(&std::mem::take(&mut self.informational));
        }
        self.body.failed.is_none() && (left.len() < CONTINUE.len() || !self.buffer.is_empty())
    }

    /// Returns whether the request's last byte was consumed.
    pub(super) const fn is_body_done(&self) -> bool {
        self.body.decoder.is_done() && self.body.failed.is_none()
    }

    /// Returns the number of remaining body bytes, if it is known.
    pub(super) const fn body_remaining(&self) -> Option<u64> {
        self.body.decoder.remaining()
    }

    /// Wakes the task once the body has been read or cannot be.
    pub(super) fn wake_after_body(&mut self, cx: &Context<'_>) {
        match &mut self.owner {
            Some(owner) => owner.clone_from(cx.waker()),
            None => self.owner = Some(cx.waker().clone()),
        }
    }

    /// Takes the body back from its reader.
    pub(super) fn revoke(&mut self) {
        self.serial += 1;
        self.owner = None;
        if let Some(reader) = self.reader.take() {
            reader.wake();
        }
    }

    /// Takes the next head, if it is complete. With `preface`, that of HTTP/2 is accepted instead.
    pub(super) fn poll_head(&mut self, cx: &mut Context<'_>, scan: &mut Scan, header_bytes: usize, preface: bool) -> Poll<Found> {
        loop {
            if preface && self.buffer.starts_with(PREFACE) {
                return Poll::Ready(Found::Preface);
            }
            if self.buffer.is_empty() && !preface && !self.ended {
                if let Some(found) = ready!(self.poll_head_at_once(cx, header_bytes)) {
                    *scan = Scan::default();
                    return Poll::Ready(found);
                }
                continue;
            }
            let undecided = self.buffer.is_empty() || preface && PREFACE.starts_with(&self.buffer);
            if !undecided && let Some(result) = head::parse(&mut self.buffer, scan, header_bytes).transpose() {
                return Poll::Ready(result.map_or_else(Found::Broken, Found::Head));
            }
            if self.ended || !matches!(ready!(self.poll_fill(cx)), Ok(1..)) {
                return Poll::Ready(Found::End);
            }
        }
    }

    /// Reads the first bytes of a head. Nearly every head comes as a whole, and is then taken from where it was read to, without a buffer;
    /// `None` if the bytes are in the buffer.
    fn poll_head_at_once(&mut self, cx: &mut Context<'_>, header_bytes: usize) -> Poll<Option<Found>> {
        let mut space = [const { MaybeUninit::uninit() }; READ];
        let mut read = ReadBuf::uninit(&mut space);
        if ready!(Pin::new(&mut self.socket).poll_read(cx, &mut read)).is_err() {
            return Poll::Ready(Some(Found::End));
        }
        let bytes = read.filled_mut();
        if bytes.is_empty() {
            self.ended = true;
            return Poll::Ready(Some(Found::End));
        }
        let parsed = head::parse_at_once(bytes, header_bytes);
        let rest = parsed.as_ref().map_or(0, |(end, _)| *end);
        self.buffer.extend_from_slice(&bytes[rest..]);
        Poll::Ready(parsed.map(|(_, head)| head.map_or_else(Found::Broken, Found::Head)))
    }

    /// Reads more bytes into the buffer; 0 is the end.
    ///
    /// The bytes pass through a stack buffer, so that an idle connection keeps no buffer.
    pub(super) fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let mut space = [const { MaybeUninit::uninit() }; READ];
        let mut read = ReadBuf::uninit(&mut space);
        ready!(Pin::new(&mut self.socket).poll_read(cx, &mut read))?;
        self.buffer.extend_from_slice(read.filled());
        self.ended |= read.filled().is_empty();
        Poll::Ready(Ok(read.filled().len()))
    }

    /// Returns the next part of the body.
    fn poll_body(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, BodyError>>> {
        let result = match self.body.failed {
            Some(error) => Err(error),
            None => match self.poll_decode(cx) {
                Poll::Ready(result) => result,
                Poll::Pending => {
                    match &mut self.reader {
                        Some(reader) => reader.clone_from(cx.waker()),
                        None => self.reader = Some(cx.waker().clone()),
                    }
                    return Poll::Pending;
                }
            },
        };
        if let Err(error) = result {
            self.body.failed = Some(error);
        }
        // With the last byte, not with the end after it: many readers stop as soon as they have what was announced.
        if self.body.decoder.is_done() || result.is_err() {
            self.release();
            if let Some(owner) = self.owner.take() {
                owner.wake();
            }
        }
        Poll::Ready(result.transpose())
    }

    fn poll_decode(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Bytes>, BodyError>> {
        loop {
            match self.body.decoder.decode(&mut self.buffer).map_err(BodyError::Framing)? {
                Decoded::Data(data) => {
                    // It did not wait. Half of an interim answer is still finished.
                    if self.body.interim.len() == CONTINUE.len() {
                        self.body.interim = b"";
                    }
                    return Poll::Ready(Ok(Some(data)));
                }
                Decoded::End => return Poll::Ready(Ok(None)),
                Decoded::More => {}
            }
            if self.ended {
                return Poll::Ready(Err(BodyError::Disconnected));
            }
            match self.poll_body_bytes(cx) {
                Poll::Ready(Ok(0)) => self.ended = true,
                Poll::Ready(Ok(read)) => self.body.pace.moved(read),
                Poll::Ready(Err(_)) => return Poll::Ready(Err(BodyError::Disconnected)),
                Poll::Pending => {
                    ready!(self.poll_too_slow(cx));
                    return Poll::Ready(Err(BodyError::Timeout));
                }
            }
        }
    }

    /// Reads body bytes directly into their final buffer.
    fn poll_body_bytes(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        ready!(self.poll_continue(cx))?;
        let wants = self.body.decoder.wants();
        self.buffer.reserve(wants);
        poll_read_buf(Pin::new(&mut self.socket), cx, &mut (&mut self.buffer).limit(wants))
    }

    /// Tells the client to send the body, if it waits for that. RFC 9110, section 10.1.1: not if the body arrives anyway.
    fn poll_continue(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.informational.is_empty() && self.body.interim.is_empty() {
            Poll::Ready(Ok(()))
        } else {
            self.poll_interim(cx, true)
        }
    }

    /// Writes the pending informational responses.
    pub(super) fn poll_informational(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.informational.is_empty() {
            return Poll::Ready(Ok(()));
        }
        let result = ready!(self.poll_interim(cx, false));
        // The body's reader may have waited for the same room.
        if let Some(reader) = self.reader.take() {
            reader.wake();
        }
        Poll::Ready(result)
    }

    /// Writes the interim responses, one after the other; `100 Continue` only if the body is being read.
    fn poll_interim(&mut self, cx: &mut Context<'_>, body: bool) -> Poll<io::Result<()>> {
        loop {
            let begun = (1..CONTINUE.len()).contains(&self.body.interim.len());
            if begun || body && self.informational.is_empty() && !self.body.interim.is_empty() {
                let written = ready!(Pin::new(&mut self.socket).poll_write(cx, self.body.interim))?;
                self.body.interim = &self.body.interim[written..];
            } else if !self.informational.is_empty() {
                let written = ready!(Pin::new(&mut self.socket).poll_write(cx, &self.informational))?;
                self.informational.advance(written);
                if self.informational.is_empty() {
                    self.informational = BytesMut::new();
                }
            } else {
                let _ = Pin::new(&mut self.socket).poll_flush(cx)?;
                return Poll::Ready(Ok(()));
            }
        }
    }

    /// Accepts an informational response; one that the client does not expect, or that comes too late, is dropped.
    fn inform(&mut self, status: StatusCode, headers: &HeaderMap) {
        if self.body.answered || self.informational.len() >= MOST_INFORMATIONAL {
            return;
        }
        if status == StatusCode::CONTINUE {
            if self.body.interim.len() < CONTINUE.len() {
                return;
            }
            // Said once: whoever reads the body later need not.
            self.body.interim = b"";
        }
        let out = &mut self.informational;
        out.extend_from_slice(b"HTTP/1.1 ");
        out.extend_from_slice(status.as_str().as_bytes());
        out.extend_from_slice(b" ");
        out.extend_from_slice(status.canonical_reason().unwrap_or_default().as_bytes());
        out.extend_from_slice(b"\r\n");
        for (name, value) in headers.iter().filter(|(name, _)| !stays_behind(name)) {
            out.extend_from_slice(name.as_str().as_bytes());
            out.extend_from_slice(b": ");
            out.extend_from_slice(value.as_bytes());
            out.extend_from_slice(b"\r\n");
        }
        out.extend_from_slice(b"\r\n");
    }

    fn poll_too_slow(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.body.answered {
            self.body.timer.clear();
        } else if let Some(at) = self.body.pace.waits(self.body.timeout) {
            self.body.timer.set(at);
        }
        self.body.timer.poll(cx)
    }

    /// Reads and discards the rest of the body, at most `most` bytes more. Returns whether the end was found.
    pub(super) fn poll_drain(&mut self, cx: &mut Context<'_>, most: &mut u64) -> Poll<bool> {
        if self.body.failed.is_some() || self.ended {
            return Poll::Ready(self.is_body_done());
        }
        loop {
            match self.body.decoder.decode(&mut self.buffer) {
                Err(_) => return Poll::Ready(false),
                Ok(Decoded::End) => {
                    self.release();
                    return Poll::Ready(true);
                }
                Ok(Decoded::Data(data)) => match most.checked_sub(data.len() as u64) {
                    Some(left) => *most = left,
                    None => return Poll::Ready(false),
                },
                Ok(Decoded::More) => {
                    let wants = self.body.decoder.wants();
                    self.buffer.reserve(wants);
                    match ready!(poll_read_buf(Pin::new(&mut self.socket), cx, &mut (&mut self.buffer).limit(wants))) {
                        Ok(1..) => {}
                        _ => return Poll::Ready(false),
                    }
                }
            }
        }
    }

    /// Frees the buffer's memory, if it is empty.
    fn release(&mut self) {
        if self.buffer.is_empty() {
            self.buffer = BytesMut::new();
        }
    }
}

/// The connection's own handle to the wire. The socket closes with it, whatever other handles exist.
#[derive(Debug)]
pub(super) struct OwnedWire(pub(super) SharedWire);

impl std::ops::Deref for OwnedWire {
    type Target = SharedWire;

    fn deref(&self) -> &SharedWire {
        &self.0
    }
}

impl Drop for OwnedWire {
    fn drop(&mut self) {
        let mut wire = self.0.lock();
        wire.socket = Socket::Gone;
        wire.revoke();
    }
}

/// The channel of informational responses to an HTTP/1.1 client. It drops everything once the request is answered.
#[derive(Debug)]
pub(crate) struct Http1Informational {
    wire: SharedWire,
    serial: u64,
}

impl Http1Informational {
    pub(crate) fn send(&self, status: StatusCode, headers: &HeaderMap) {
        let mut wire = self.wire.lock();
        if wire.serial == self.serial {
            wire.inform(status, headers);
        }
    }
}

/// The body of an HTTP/1 request: a claim to the bytes after its head.
#[derive(Debug)]
pub(crate) struct Http1Body {
    wire: SharedWire,
    serial: u64,
    remaining: Option<u64>,
    ended: bool,
}

impl Http1Body {
    pub(crate) fn poll_data(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, BodyError>>> {
        if self.ended {
            return Poll::Ready(None);
        }
        let mut wire = self.wire.lock();
        let result = if wire.serial == self.serial {
            ready!(wire.poll_body(cx))
        } else if matches!(wire.socket, Socket::Gone) {
            Some(Err(BodyError::Disconnected))
        } else {
            Some(Err(BodyError::Answered))
        };
        self.ended = !matches!(result, Some(Ok(_)));
        self.remaining = if self.ended { Some(0) } else { wire.body.decoder.remaining() };
        Poll::Ready(result)
    }

    pub(crate) fn is_end(&self) -> bool {
        self.remaining == Some(0)
    }

    pub(crate) fn size_hint(&self) -> SizeHint {
        self.remaining.map(SizeHint::with_exact).unwrap_or_default()
    }
}
