//! The byte stream below a connection, and the information in its frames that `h2` does not expose.

use std::{
    io::{self, IoSlice},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::state::State;
use crate::connection::frames::{ACK, DATA, Frame, Frames, GOAWAY, HEADERS, Part, SETTINGS, WINDOW_UPDATE};

/// A frame of interest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum FrameEvent {
    /// A part of a stream's body, padding included.
    Data { stream: u32, length: u32 },
    /// The head of a message, or its beginning.
    Headers { stream: u32 },
    /// The other side's settings, not an acknowledgement of ours.
    Settings,
    /// The other side accepts no more streams.
    GoAway,
    /// An enlarged window of a stream, or of the connection (0).
    WindowUpdate { stream: u32, increment: u32 },
}

impl FrameEvent {
    const fn of(frame: Frame) -> Option<Self> {
        let Frame { kind, flags, stream, length, word: increment } = frame;
        match kind {
            DATA => Some(Self::Data { stream, length }),
            HEADERS => Some(Self::Headers { stream }),
            SETTINGS if flags & ACK == 0 => Some(Self::Settings),
            GOAWAY => Some(Self::GoAway),
            WINDOW_UPDATE if length == 4 => Some(Self::WindowUpdate { stream, increment }),
            _ => None,
        }
    }
}

/// A byte stream whose frames are followed.
#[derive(Debug)]
pub(super) struct Wire<I> {
    io: I,
    state: Arc<State>,
    read: Frames,
    written: Frames,
}

impl<I> Wire<I> {
    pub(super) fn new(io: I, state: Arc<State>) -> Self {
        Self { io, state, read: Frames::default(), written: Frames::of_client() }
    }
}

impl<I: AsyncRead + Unpin> AsyncRead for Wire<I> {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let Self { io, state, read, .. } = &mut *self;
        let before = buffer.filled().len();
        loop {
            ready!(Pin::new(&mut *io).poll_read(context, buffer))?;
            let bytes = &mut buffer.filled_mut()[before..];
            if bytes.is_empty() {
                return Poll::Ready(Ok(()));
            }
            state.hear();
            let kept = read.sift(bytes, |part| {
                if let Part::Frame(frame) = part {
                    FrameEvent::of(frame).into_iter().for_each(|seen| state.received(seen));
                }
            });
            buffer.set_filled(before + kept);
            // Nothing at all would be the end.
            if kept > 0 {
                return Poll::Ready(Ok(()));
            }
        }
    }
}

impl<I: AsyncWrite + Unpin> AsyncWrite for Wire<I> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let Self { io, state, written, .. } = &mut *self;
        let length = ready!(Pin::new(io).poll_write(context, bytes))?;
        written.follow(&bytes[..length], |frame| FrameEvent::of(frame).into_iter().for_each(|seen| state.sent(seen)));
        Poll::Ready(Ok(length))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let Self { io, state, written, .. } = &mut *self;
        let length = ready!(Pin::new(io).poll_write_vectored(context, slices))?;
        let mut left = length;
        for slice in slices {
            let taken = slice.len().min(left);
            written.follow(&slice[..taken], |frame| FrameEvent::of(frame).into_iter().for_each(|seen| state.sent(seen)));
            left -= taken;
        }
        Poll::Ready(Ok(length))
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
        let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
        [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
    }

    #[test]
    fn frames_are_seen_however_they_are_cut() {
        let bytes = [
            frame(SETTINGS, 0, 0, &[0, 3, 0, 0, 0, 9]),
            frame(SETTINGS, ACK, 0, &[]),
            frame(WINDOW_UPDATE, 0, 0, &70_000_u32.to_be_bytes()),
            frame(DATA, 1, 5, &[WINDOW_UPDATE; 40]),
            frame(1, 4, 7, &[0; 20]),
            frame(WINDOW_UPDATE, 0, 0x8000_0005, &0x8000_0001_u32.to_be_bytes()),
            // Malformed: `h2` will end the connection for it.
            frame(WINDOW_UPDATE, 0, 0, &[1; 5]),
            frame(GOAWAY, 0, 0, &[0; 8]),
        ]
        .concat();
        let expected = [
            FrameEvent::Settings,
            FrameEvent::WindowUpdate { stream: 0, increment: 70_000 },
            FrameEvent::Data { stream: 5, length: 40 },
            FrameEvent::Headers { stream: 7 },
            FrameEvent::WindowUpdate { stream: 5, increment: 1 },
            FrameEvent::GoAway,
        ];
        for step in 1..=bytes.len() {
            let (mut frames, mut seen) = (Frames::default(), Vec::new());
            bytes.chunks(step).for_each(|part| frames.follow(part, |frame| seen.extend(FrameEvent::of(frame))));
            assert_eq!(seen, expected, "in steps of {step}");
        }
    }

    #[test]
    fn a_clients_frames_begin_behind_its_preface() {
        let bytes = [b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(), frame(DATA, 0, 1, b"abc")].concat();
        let (mut frames, mut seen) = (Frames::of_client(), Vec::new());

        frames.follow(&bytes, |frame| seen.extend(FrameEvent::of(frame)));

        assert_eq!(seen, [FrameEvent::Data { stream: 1, length: 3 }]);
    }
}
