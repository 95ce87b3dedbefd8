//! The byte stream below a connection, and what its frames tell that `h2` keeps to itself.

use std::{
    io::{self, IoSlice},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::state::State;

/// What a client begins with. RFC 9113, section 3.4.
const PREFACE: u32 = 24;
/// The head of a frame. RFC 9113, section 4.1.
const HEAD: usize = 9;

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const SETTINGS: u8 = 4;
const GOAWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;

const ACK: u8 = 1;
const END_STREAM: u8 = 1;
const PADDED: u8 = 8;

/// A frame that somebody waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Seen {
    /// So many bytes of a stream's body, padding included.
    Data { stream: u32, length: u32 },
    /// The head of a message, or the beginning of it.
    Headers { stream: u32 },
    /// The other side's settings, not a word of thanks for ours.
    Settings,
    /// No more streams are taken.
    GoAway,
    /// So much more may be sent on a stream, or on all of them (0).
    WindowUpdate { stream: u32, increment: u32 },
}

/// Follows the frames in a stream of bytes, however they are cut.
#[derive(Debug, Default)]
pub(super) struct Frames {
    /// The head of a frame, and the payload of a WINDOW_UPDATE.
    head: [u8; HEAD + 4],
    have: usize,
    /// What is to come of a payload that nobody looks at.
    skip: u32,
}

impl Frames {
    /// Begins behind a client's preface.
    pub(super) fn of_client() -> Self {
        Self { skip: PREFACE, ..Self::default() }
    }

    /// Looks at the next bytes.
    pub(super) fn follow(&mut self, mut bytes: &[u8], mut seen: impl FnMut(Seen)) {
        while !bytes.is_empty() {
            let (length, _) = self.step(bytes, &mut seen);
            bytes = &bytes[length..];
        }
    }

    /// Looks at the next bytes, and takes the frames out that say nothing: of DATA that are empty and not the last `h2` bears a hundred on a
    /// connection, whosever they are. Returns how many bytes are left, which come first. A frame that is cut stays.
    pub(super) fn sift(&mut self, bytes: &mut [u8], mut seen: impl FnMut(Seen)) -> usize {
        let (mut at, mut kept) = (0, 0);
        while at < bytes.len() {
            let from = at;
            let (length, idle) = self.step(&bytes[from..], &mut seen);
            at += length;
            if idle {
                continue;
            }
            if kept != from {
                bytes.copy_within(from..at, kept);
            }
            kept += length;
        }
        kept
    }

    /// Looks at the next bytes, up to the end of a frame's head or payload. Tells how many they were, and whether they are a whole frame that
    /// says nothing.
    fn step(&mut self, bytes: &[u8], seen: &mut impl FnMut(Seen)) -> (usize, bool) {
        if self.skip > 0 {
            let passed = bytes.len().min(self.skip as usize);
            self.skip -= u32::try_from(passed).unwrap_or(self.skip);
            return (passed, false);
        }
        let begins = self.have == 0;
        let wanted = if self.is_window_update() { HEAD + 4 } else { HEAD };
        let taken = bytes.len().min(wanted - self.have);
        self.head[self.have..self.have + taken].copy_from_slice(&bytes[..taken]);
        self.have += taken;
        if self.have < wanted {
            return (taken, false);
        }
        self.whole(seen);
        let idle = self.head[3] == DATA && self.length() == 0 && self.head[4] & (END_STREAM | PADDED) == 0;
        (taken, begins && idle)
    }

    const fn is_window_update(&self) -> bool {
        self.have >= HEAD && self.head[3] == WINDOW_UPDATE && self.length() == 4
    }

    const fn length(&self) -> u32 {
        u32::from_be_bytes([0, self.head[0], self.head[1], self.head[2]])
    }

    /// Tells of the frame whose head is there.
    fn whole(&mut self, seen: &mut impl FnMut(Seen)) {
        let [_, _, _, kind, flags, stream @ .., a, b, c, d] = self.head;
        let (stream, length) = (u32::from_be_bytes(stream) & 0x7fff_ffff, self.length());
        match kind {
            WINDOW_UPDATE if length == 4 => {
                if self.have == HEAD {
                    // Its payload comes next.
                    return;
                }
                let increment = u32::from_be_bytes([a, b, c, d]) & 0x7fff_ffff;
                seen(Seen::WindowUpdate { stream, increment });
                self.have = 0;
                return;
            }
            DATA => seen(Seen::Data { stream, length }),
            HEADERS => seen(Seen::Headers { stream }),
            SETTINGS if flags & ACK == 0 => seen(Seen::Settings),
            GOAWAY => seen(Seen::GoAway),
            _ => {}
        }
        self.skip = length;
        self.have = 0;
    }
}

/// A byte stream whose frames are noted.
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
            let kept = read.sift(bytes, |seen| state.received(seen));
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
        written.follow(&bytes[..length], |seen| state.sent(seen));
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
            written.follow(&slice[..taken], |seen| state.sent(seen));
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
            Seen::Settings,
            Seen::WindowUpdate { stream: 0, increment: 70_000 },
            Seen::Data { stream: 5, length: 40 },
            Seen::Headers { stream: 7 },
            Seen::WindowUpdate { stream: 5, increment: 1 },
            Seen::GoAway,
        ];
        for step in 1..=bytes.len() {
            let (mut frames, mut seen) = (Frames::default(), Vec::new());
            bytes.chunks(step).for_each(|part| frames.follow(part, |frame| seen.push(frame)));
            assert_eq!(seen, expected, "in steps of {step}");
        }
    }

    #[test]
    fn frames_that_say_nothing_are_taken_out() {
        let (empty, last) = (frame(DATA, 0, 1, &[]), frame(DATA, END_STREAM, 1, &[]));
        let (data, padded) = (frame(DATA, 0, 1, b"data"), frame(DATA, PADDED, 1, &[]));
        let mut bytes = [&empty[..], &data, &empty, &empty, &padded, &last, &empty[..5]].concat();
        let mut frames = Frames::default();

        let kept = frames.sift(&mut bytes, |_| ());

        assert_eq!(bytes[..kept], [&data[..], &padded, &last, &empty[..5]].concat());
        // What was cut has gone on in part, and goes on whole.
        let mut rest = [&empty[5..], &empty, &data].concat();
        let kept = frames.sift(&mut rest, |_| ());
        assert_eq!(rest[..kept], [&empty[5..], &data].concat());
    }

    #[test]
    fn a_clients_frames_begin_behind_its_preface() {
        let bytes = [b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(), frame(DATA, 0, 1, b"abc")].concat();
        let (mut frames, mut seen) = (Frames::of_client(), Vec::new());

        frames.follow(&bytes, |frame| seen.push(frame));

        assert_eq!(seen, [Seen::Data { stream: 1, length: 3 }]);
    }
}
