//! Extended CONNECT: a stream that carries another protocol, RFC 8441.
//!
//! A client opens a WebSocket on a stream of its connection. The service sees the request that the client would have sent over HTTP/1.1:
//! a GET, with a claim to the stream in place of one to the connection; and answers it with 101, which becomes the 200 of HTTP/2.

use std::{
    any::Any,
    fmt,
    future::Future,
    io,
    pin::Pin,
    sync::{Arc, Mutex},
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::{Buf as _, Bytes};
use h2::{RecvStream, SendStream, ext::Protocol};
use http::{HeaderName, Method, header, request::Parts};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    sync::oneshot,
    time::Instant,
};

use super::{SEND_BUFFER, meter::SharedMeter};
use crate::{
    base::{
        deadline::{Deadline, Pace},
        fields::{Fields, Known},
        lock::lock,
    },
    listener::{broken::Broken, drain::ShutdownSignal, http1::UpgradeError},
    refusal::Reason,
};

/// The only protocol that streams carry.
const WEBSOCKET: &str = "websocket";
/// RFC 8441, section 5.1: HTTP/2 has neither the key nor the answer to it.
const ACCEPT: HeaderName = HeaderName::from_static("sec-websocket-accept");

const OTHER_PROTOCOL: Broken =
    Broken::new(Reason::ProtocolNotSupported, "the `:protocol` of the extended CONNECT is another one than `websocket`");
const NO_TUNNEL: Broken =
    Broken::new(Reason::RequestFramingInvalid, "the extended CONNECT has a length or has ended: its stream is no tunnel");

/// A claim to a stream, in the extensions of a request that asks for a WebSocket over HTTP/2.
///
/// It is granted when the service has answered 101. Clones are the same claim: the first that is awaited gets the stream.
#[derive(Clone, Debug)]
pub struct StreamUpgrade(Arc<Mutex<Option<oneshot::Receiver<UpgradedStream>>>>);

impl Future for StreamUpgrade {
    type Output = Result<UpgradedStream, UpgradeError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut claim = lock(&self.0);
        let Some(receiver) = claim.as_mut() else { return Poll::Ready(Err(UpgradeError)) };
        let result = ready!(Pin::new(receiver).poll(cx));
        *claim = None;
        Poll::Ready(result.map_err(|_| UpgradeError))
    }
}

/// A stream that may become a tunnel, and the side of its claim that grants it.
pub(super) struct Tunnel {
    stream: RecvStream,
    grants: oneshot::Sender<UpgradedStream>,
}

/// Takes the stream of an extended CONNECT, and makes its head that of a GET. Gives the stream back if the request is another one.
///
/// # Errors
/// Fails for another protocol, and for a stream that could carry none.
pub(super) fn begin(parts: &mut Parts, stream: RecvStream) -> Result<Result<Tunnel, RecvStream>, Broken> {
    if parts.method != Method::CONNECT {
        return Ok(Err(stream));
    }
    let Some(protocol) = parts.extensions.remove::<Protocol>() else { return Ok(Err(stream)) };
    if !protocol.as_str().eq_ignore_ascii_case(WEBSOCKET) {
        return Err(OTHER_PROTOCOL);
    }
    if stream.is_end_stream() || parts.headers.contains_key(header::CONTENT_LENGTH) {
        return Err(NO_TUNNEL);
    }
    let (grants, granted) = oneshot::channel();
    parts.method = Method::GET;
    parts.extensions.insert(StreamUpgrade(Arc::new(Mutex::new(Some(granted)))));
    Ok(Ok(Tunnel { stream, grants }))
}

/// Removes from the head that opens a WebSocket over HTTP/1.1 what HTTP/2 does not have. The rest is done as with any head.
pub(super) fn translate(headers: &mut Fields) {
    headers.remove(ACCEPT);
    headers.remove(Known::ContentLength);
}

/// The state of a connection that a tunnel needs.
pub(super) struct TunnelContext {
    pub(super) meter: SharedMeter,
    pub(super) signal: Arc<ShutdownSignal>,
    pub(super) write_timeout: Duration,
    /// Counts as an open stream until it is dropped.
    pub(super) _open: Box<dyn Any + Send>,
}

impl Tunnel {
    /// Gives the stream to the holder of the claim. If nobody holds it, the stream is reset.
    pub(super) fn grant(self, send: SendStream<Bytes>, context: TunnelContext) {
        let _ = self.grants.send(UpgradedStream {
            read: Bytes::new(),
            recv: self.stream,
            send,
            ended: false,
            pace: Pace::default(),
            timer: Deadline::default(),
            context,
        });
    }
}

/// A stream of HTTP/2 as a stream of bytes. Dropped before both of its directions have ended, it is reset.
///
/// It still counts as a stream of its connection, whose drain waits for it.
pub struct UpgradedStream {
    /// The received bytes that were not read yet. They count to the window until they are.
    read: Bytes,
    recv: RecvStream,
    send: SendStream<Bytes>,
    /// Our side has ended.
    ended: bool,
    pace: Pace,
    timer: Deadline,
    context: TunnelContext,
}

impl fmt::Debug for UpgradedStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("UpgradedStream").field("stream", &self.send.stream_id()).finish_non_exhaustive()
    }
}

impl UpgradedStream {
    /// Returns whether the gateway is about to end.
    pub fn is_draining(&self) -> bool {
        self.context.signal.is_draining()
    }

    /// Returns `Ready` with the number of bytes for which there is window, or with the reason why there will be none.
    fn poll_room(&mut self, cx: &mut Context<'_>, wanted: usize) -> Poll<io::Result<usize>> {
        self.send.reserve_capacity(wanted.min(SEND_BUFFER));
        while self.send.capacity() == 0 {
            match self.send.poll_capacity(cx) {
                Poll::Ready(Some(Ok(_))) => {}
                Poll::Ready(_) => return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())),
                Poll::Pending => return self.poll_too_slow(cx).map(Err),
            }
        }
        Poll::Ready(Ok(self.send.capacity().min(wanted)))
    }

    /// Returns `Ready` when the client has read nothing for too long.
    fn poll_too_slow(&mut self, cx: &mut Context<'_>) -> Poll<io::Error> {
        if let Some(at) = self.pace.waits(self.context.write_timeout) {
            self.timer.set(at);
        }
        self.timer.poll(cx).map(|()| io::ErrorKind::TimedOut.into())
    }
}

impl AsyncRead for UpgradedStream {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        while this.read.is_empty() {
            match ready!(this.recv.poll_data(cx)) {
                Some(Ok(data)) => this.read = data,
                Some(Err(_)) => {
                    this.context.meter.lock().spend_reset(Instant::now());
                    return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
                }
                None => return Poll::Ready(Ok(())),
            }
        }
        let bytes = this.read.len().min(buffer.remaining());
        buffer.put_slice(&this.read[..bytes]);
        this.read.advance(bytes);
        // It fails for a stream that is over, which needs no window.
        let _ = this.recv.flow_control().release_capacity(bytes);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for UpgradedStream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if bytes.is_empty() {
            return Poll::Ready(Ok(0));
        }
        let room = ready!(self.poll_room(cx, bytes.len()))?;
        self.pace.moved(room);
        self.timer.clear();
        let stream = self.send.stream_id().as_u32();
        self.context.meter.lock().answers(stream, room, room == bytes.len());
        let sent = self.send.send_data(Bytes::copy_from_slice(&bytes[..room]), false);
        Poll::Ready(sent.map(|()| room).map_err(|_| io::ErrorKind::BrokenPipe.into()))
    }

    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        // The task of the connection sends what it was handed.
        Poll::Ready(Ok(()))
    }

    /// Ends our side, and waits until everything was sent: what is dropped before that is lost.
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !self.ended {
            self.ended = true;
            self.send.send_data(Bytes::new(), true).map_err(|_| io::Error::from(io::ErrorKind::BrokenPipe))?;
        }
        let stream = self.send.stream_id().as_u32();
        let left = self.context.meter.lock().leaving.left(stream, cx);
        match left {
            Some(0) => Poll::Ready(Ok(())),
            Some(_) => self.poll_too_slow(cx).map(Err),
            None => Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_http2_does_not_have_is_gone_from_the_answer() {
        let mut headers = Fields::of(&[("sec-websocket-accept", "1"), ("content-length", "1"), ("sec-websocket-protocol", "1")]);

        translate(&mut headers);

        assert_eq!(headers, Fields::of(&[("sec-websocket-protocol", "1")]));
    }
}
