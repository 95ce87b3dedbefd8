//! HTTP/1.1 towards a server.
//!
//! It is our own codec for three reasons. A pooled connection will carry the next caller's response, so responses are read nearly
//! as strictly as requests: double framing, lenient chunks, unrequested codings and surplus bytes end the connection. An exchange
//! runs in the task of the request that it belongs to, without a task, a channel and a wake-up for each direction. And a request
//! whose idle connection has just closed is written again from its parts, with nothing copied in advance.

mod framing;
mod head;

use std::{
    future::poll_fn,
    io::{self, IoSlice},
    pin::{Pin, pin},
    task::{Context, Poll, Waker, ready},
};

use bytes::{Buf, Bytes, BytesMut};
use http::Method;
use http_body::{Body, Frame};
use tokio::io::{AsyncReadExt, AsyncWrite, ReadBuf};

use self::framing::{Decoded, Decoder};
pub(super) use self::{
    framing::TRAILERS,
    head::{Framing, Head, RequestHead, TRAILER_FIELDS},
};
use super::{affinity::ReturnSlot, hygiene, interim::Relay, io::Io, send_body::SendBody};
use crate::base::deadline::Deadline;

/// The size of a read if the remaining length is unknown, in bytes.
const READ: usize = 4 * 1024;
/// The size of a read of a long body, in bytes.
const READ_BODY: usize = 64 * 1024;
/// The largest buffer that an idle connection keeps.
const IDLE_BUFFER: usize = 8 * 1024;

/// A fault of a connection or a response.
#[derive(Debug, thiserror::Error)]
pub(super) enum Fault {
    /// The connection ended before the first byte of a response.
    #[error("the connection ended before an answer began")]
    Unanswered(#[source] io::Error),
    #[error("the connection failed")]
    Io(#[source] io::Error),
    #[error("the connection ended in the middle of the answer")]
    Incomplete,
    #[error("{0}")]
    Head(&'static str),
    #[error("{0}")]
    Framing(&'static str),
    /// The policies' target is not a request target.
    #[error("the target contains characters that no target may contain")]
    Target,
    /// The caller's body broke off.
    #[error("the request body broke off")]
    RequestBody,
    #[error("the length of the request body differs from the announced one")]
    RequestLength,
}

/// A connection to a server, with the progress of its exchange. Closed on drop.
#[derive(Debug)]
pub(super) struct Connection {
    io: Io,
    /// The unread bytes.
    read: BytesMut,
    outbox: SendBuffer,
    /// The framing of the request's body; the length counts down.
    framing: Framing,
    /// The request was sent completely.
    sent: bool,
    /// The server accepts no more.
    deaf: bool,
    /// The rest of the caller's body, if the response began before its end.
    rest: Option<SendBody>,
    answer: Decoder,
    persists: bool,
    /// The connection has carried an earlier request.
    pub(super) reused: bool,
    /// The place to which it returns after its exchange, if it is one caller's own; the pool otherwise.
    pub(super) return_slot: Option<ReturnSlot>,
    /// The deadline of the response's beginning.
    pub(super) timer: Deadline,
}

/// The pending bytes, in this order.
#[derive(Debug, Default)]
struct SendBuffer {
    /// The head of the request, or of a chunk.
    head: Vec<u8>,
    at: usize,
    data: Bytes,
    tail: &'static [u8],
}

impl SendBuffer {
    fn is_empty(&self) -> bool {
        self.at == self.head.len() && self.data.is_empty() && self.tail.is_empty()
    }

    fn advance(&mut self, mut written: usize) {
        let head = written.min(self.head.len() - self.at);
        self.at += head;
        written -= head;
        let data = written.min(self.data.len());
        self.data.advance(data);
        self.tail = &self.tail[written - data..];
        if self.at == self.head.len() {
            self.head.clear();
            self.at = 0;
        }
    }
}

impl Connection {
    pub(super) fn new(io: Io) -> Box<Self> {
        Box::new(Self {
            io,
            read: BytesMut::new(),
            outbox: SendBuffer::default(),
            framing: Framing::None,
            sent: false,
            deaf: false,
            rest: None,
            answer: Decoder::Done,
            persists: true,
            reused: false,
            return_slot: None,
            timer: Deadline::default(),
        })
    }

    /// Sends a request and waits for the head of the response. The body may still be in progress then; [`keep`](Self::keep) it.
    pub(super) async fn exchange(
        &mut self,
        request: RequestHead<'_>,
        body: &mut SendBody,
        relay: &mut Relay<'_>,
    ) -> Result<Head, Fault> {
        self.framing = if request.framing == Framing::Length(0) { Framing::None } else { request.framing };
        self.sent = false;
        self.deaf = false;
        self.outbox.at = 0;
        request.write(&mut self.outbox.head)?;
        let head = poll_fn(|context| {
            if !self.sent && !self.deaf {
                match self.poll_send(context, body) {
                    Poll::Ready(Ok(())) => self.sent = true,
                    Poll::Ready(Err(Fault::Io(_))) => self.deaf = true,
                    Poll::Ready(Err(fault)) => return Poll::Ready(Err(fault)),
                    Poll::Pending => {}
                }
            }
            self.poll_head(context, request.method, relay)
        })
        .await?;
        self.answer = head.body;
        self.persists = head.persists;
        Ok(head)
    }

    /// Takes the body that was not sent completely before the response began, to send the rest while the response is read.
    pub(super) fn keep(&mut self, body: &mut SendBody) {
        if !self.sent && !self.deaf {
            self.rest = Some(body.take());
        }
    }

    /// Writes until the request is sent completely.
    fn poll_send(&mut self, context: &mut Context<'_>, body: &mut SendBody) -> Poll<Result<(), Fault>> {
        loop {
            // The first part of the body leaves with the head.
            let starved = self.framing != Framing::None
                && self.outbox.data.is_empty()
                && self.outbox.tail.is_empty()
                && self.poll_part(context, body)?.is_pending();
            while !self.outbox.is_empty() {
                let written = ready!(self.poll_write(context)).map_err(Fault::Io)?;
                if written == 0 {
                    return Poll::Ready(Err(Fault::Io(io::ErrorKind::WriteZero.into())));
                }
                self.outbox.advance(written);
            }
            if starved || self.framing == Framing::None {
                ready!(Pin::new(&mut self.io).poll_flush(context)).map_err(Fault::Io)?;
                return if starved { Poll::Pending } else { Poll::Ready(Ok(())) };
            }
        }
    }

    /// Puts the next part of the body into the outbox. After the last part there is no framing left.
    fn poll_part(&mut self, context: &mut Context<'_>, body: &mut SendBody) -> Result<Poll<()>, Fault> {
        let frame = match Pin::new(&mut *body).poll_frame(context) {
            Poll::Pending => return Ok(Poll::Pending),
            Poll::Ready(frame) => frame.transpose().map_err(|_| Fault::RequestBody)?,
        };
        let data = frame.and_then(|frame| frame.into_data().ok());
        match (&mut self.framing, data) {
            (Framing::None, _) => {}
            (Framing::Length(left), Some(data)) => {
                *left = left.checked_sub(data.len() as u64).ok_or(Fault::RequestLength)?;
                if *left == 0 {
                    self.framing = Framing::None;
                }
                self.outbox.data = data;
            }
            (Framing::Length(_), None) => return Err(Fault::RequestLength),
            // An empty chunk would be the end.
            (Framing::Chunked, Some(data)) if data.is_empty() => {}
            (Framing::Chunked, Some(data)) => {
                // Writing to a vector cannot fail.
                let _ = io::Write::write_fmt(&mut self.outbox.head, format_args!("{:x}\r\n", data.len()));
                self.outbox.data = data;
                let last = body.is_end_stream();
                self.outbox.tail = if last { b"\r\n0\r\n\r\n" } else { b"\r\n" };
                if last {
                    self.framing = Framing::None;
                }
            }
            (Framing::Chunked, None) => {
                self.outbox.tail = b"0\r\n\r\n";
                self.framing = Framing::None;
            }
        }
        Ok(Poll::Ready(()))
    }

    fn poll_write(&mut self, context: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let SendBuffer { head, at, data, tail } = &self.outbox;
        let io = Pin::new(&mut self.io);
        if data.is_empty() && tail.is_empty() {
            return io.poll_write(context, &head[*at..]);
        }
        io.poll_write_vectored(context, &[IoSlice::new(&head[*at..]), IoSlice::new(data), IoSlice::new(tail)])
    }

    fn poll_head(&mut self, context: &mut Context<'_>, method: &Method, relay: &mut Relay<'_>) -> Poll<Result<Head, Fault>> {
        loop {
            while let Some(head) = head::parse(&mut self.read, method)? {
                if !head.is_interim() {
                    return Poll::Ready(Ok(head));
                }
                relay.pass(head.status, (&head.headers).into()).map_err(Fault::Head)?;
            }
            let nothing_yet = self.read.is_empty() && relay.is_unused();
            match ready!(self.poll_read(context, READ)) {
                Ok(0) if nothing_yet => return Poll::Ready(Err(Fault::Unanswered(io::ErrorKind::UnexpectedEof.into()))),
                Ok(0) => return Poll::Ready(Err(Fault::Incomplete)),
                Ok(_) => {}
                Err(error) if nothing_yet => return Poll::Ready(Err(Fault::Unanswered(error))),
                Err(error) => return Poll::Ready(Err(Fault::Io(error))),
            }
        }
    }

    /// Returns the next part of the response body. The rest of the request's body is sent meanwhile.
    pub(super) fn poll_frame(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Fault>>> {
        if let Some(mut rest) = self.rest.take() {
            match self.poll_send(context, &mut rest) {
                Poll::Ready(Ok(())) => self.sent = true,
                Poll::Ready(Err(Fault::Io(_))) => self.deaf = true,
                Poll::Ready(Err(fault)) => return Poll::Ready(Some(Err(fault))),
                Poll::Pending => self.rest = Some(rest),
            }
        }
        loop {
            match self.answer.decode(&mut self.read) {
                Ok(Decoded::Data(data)) => return Poll::Ready(Some(Ok(Frame::data(data)))),
                Ok(Decoded::Trailers(mut trailers)) => {
                    hygiene::clean_trailers(&mut trailers);
                    return Poll::Ready(Some(Ok(Frame::trailers(trailers))));
                }
                Ok(Decoded::End) => return Poll::Ready(None),
                Ok(Decoded::More) => {}
                Err(fault) => return Poll::Ready(Some(Err(fault))),
            }
            let most = match self.answer {
                Decoder::Length(left) | Decoder::ChunkData(left) => {
                    usize::try_from(left).unwrap_or(READ_BODY).clamp(READ, READ_BODY)
                }
                Decoder::UntilClose => READ_BODY,
                Decoder::Done | Decoder::ChunkSize | Decoder::ChunkEnd | Decoder::Trailers => READ,
            };
            match ready!(self.poll_read(context, most)) {
                Ok(0) if self.answer == Decoder::UntilClose => {
                    self.answer = Decoder::Done;
                    return Poll::Ready(None);
                }
                Ok(0) => return Poll::Ready(Some(Err(Fault::Incomplete))),
                Ok(_) => {}
                Err(error) => return Poll::Ready(Some(Err(Fault::Io(error)))),
            }
        }
    }

    fn poll_read(&mut self, context: &mut Context<'_>, most: usize) -> Poll<io::Result<usize>> {
        self.read.reserve(most);
        pin!(self.io.read_buf(&mut self.read)).poll(context)
    }

    /// Returns the number of remaining bytes of the response body, if it is known.
    pub(super) const fn remaining(&self) -> Option<u64> {
        match self.answer {
            Decoder::Done => Some(0),
            Decoder::Length(left) => Some(left),
            Decoder::UntilClose | Decoder::ChunkSize | Decoder::ChunkData(_) | Decoder::ChunkEnd | Decoder::Trailers => None,
        }
    }

    /// Prepares for another exchange, if that is possible: both messages are complete, and no bytes follow.
    pub(super) fn rest(&mut self) -> bool {
        let clean = self.persists && self.sent && self.answer == Decoder::Done && self.read.is_empty();
        if clean {
            self.reused = true;
            if self.read.capacity() > IDLE_BUFFER {
                self.read = BytesMut::new();
            }
        }
        clean
    }

    /// Returns whether an idle connection is still open, and silent as it must be.
    pub(super) fn is_quiet(&mut self) -> bool {
        let mut byte = [0];
        let mut buffer = ReadBuf::new(&mut byte);
        tokio::io::AsyncRead::poll_read(Pin::new(&mut self.io), &mut Context::from_waker(Waker::noop()), &mut buffer).is_pending()
    }

    /// Returns the stream, and the bytes read after the head: for the protocol that it switched to.
    pub(super) fn into_parts(self) -> (Io, BytesMut) {
        (self.io, self.read)
    }
}

impl Head {
    /// Returns whether another head follows. RFC 9110, section 15.2.
    fn is_interim(&self) -> bool {
        self.status.is_informational() && self.status != http::StatusCode::SWITCHING_PROTOCOLS
    }
}
