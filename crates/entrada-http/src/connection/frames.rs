//! The HTTP/2 frames of a byte stream, by their heads: RFC 9113, section 4.1.

/// The length of a client's connection preface. RFC 9113, section 3.4.
pub(crate) const PREFACE: &[u8; PREFACE_LENGTH as usize] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const PREFACE_LENGTH: u32 = 24;
const HEAD: usize = 9;

pub(crate) const DATA: u8 = 0;
pub(crate) const HEADERS: u8 = 1;
pub(crate) const RST_STREAM: u8 = 3;
pub(crate) const SETTINGS: u8 = 4;
pub(crate) const GOAWAY: u8 = 7;
pub(crate) const WINDOW_UPDATE: u8 = 8;
pub(crate) const CONTINUATION: u8 = 9;

pub(crate) const ACK: u8 = 0x1;
pub(crate) const END_STREAM: u8 = 0x1;
pub(crate) const END_HEADERS: u8 = 0x4;
pub(crate) const PADDED: u8 = 0x8;
pub(crate) const PRIORITY: u8 = 0x20;

/// The head of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Frame {
    pub(crate) kind: u8,
    pub(crate) flags: u8,
    pub(crate) stream: u32,
    /// The length of the payload, padding included.
    pub(crate) length: u32,
    /// The payload of a WINDOW_UPDATE or a RST_STREAM: the increment, or the code.
    pub(crate) word: u32,
}

/// A part of the byte stream that is looked at.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Part<'a> {
    /// The head of a frame, or all of a short one.
    Frame(Frame),
    /// A part of the payload of HEADERS or CONTINUATION.
    Fields(&'a [u8]),
}

/// A parser that follows the frames of a byte stream, however it is split.
#[derive(Debug, Default)]
pub(crate) struct Frames {
    /// The head of a frame, and the payload of one that is looked at.
    head: [u8; HEAD + 4],
    have: usize,
    /// The rest of a payload that is skipped.
    skip: u32,
}

impl Frames {
    /// Starts after a client's preface.
    pub(crate) fn of_client() -> Self {
        Self { skip: PREFACE_LENGTH, ..Self::default() }
    }

    /// Examines the next bytes.
    pub(crate) fn follow(&mut self, mut bytes: &[u8], mut seen: impl FnMut(Frame)) {
        while !bytes.is_empty() {
            let (length, _) = self.step(bytes, &mut |part| {
                if let Part::Frame(frame) = part {
                    seen(frame);
                }
            });
            bytes = &bytes[length..];
        }
    }

    /// Examines the next bytes, and removes frames without effect: empty DATA frames that do not end a stream, of which `h2`
    /// accepts only a hundred per connection, over all streams. Returns the number of remaining bytes, which come first. A frame
    /// that is incomplete stays.
    pub(crate) fn sift(&mut self, bytes: &mut [u8], mut seen: impl FnMut(Part<'_>)) -> usize {
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

    /// Examines the next bytes, up to the end of a frame's head or payload. Returns their number, and whether they are a whole
    /// frame without effect.
    fn step(&mut self, bytes: &[u8], seen: &mut impl FnMut(Part<'_>)) -> (usize, bool) {
        if self.skip > 0 {
            let passed = bytes.len().min(self.skip as usize);
            self.skip -= u32::try_from(passed).unwrap_or(self.skip);
            if matches!(self.head[3], HEADERS | CONTINUATION) {
                seen(Part::Fields(&bytes[..passed]));
            }
            return (passed, false);
        }
        let begins = self.have == 0;
        let wanted = if self.has_word() { HEAD + 4 } else { HEAD };
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

    /// Whether the frame has a payload that is looked at.
    const fn has_word(&self) -> bool {
        self.have >= HEAD && matches!(self.head[3], WINDOW_UPDATE | RST_STREAM) && self.length() == 4
    }

    const fn length(&self) -> u32 {
        u32::from_be_bytes([0, self.head[0], self.head[1], self.head[2]])
    }

    /// Reports the frame whose head is complete.
    fn whole(&mut self, seen: &mut impl FnMut(Part<'_>)) {
        let [_, _, _, kind, flags, stream @ .., a, b, c, d] = self.head;
        let (stream, length) = (u32::from_be_bytes(stream) & 0x7fff_ffff, self.length());
        let mut frame = Frame { kind, flags, stream, length, word: 0 };
        if self.has_word() {
            if self.have == HEAD {
                // Its payload comes next.
                return;
            }
            frame.word = u32::from_be_bytes([a, b, c, d]);
            if kind == WINDOW_UPDATE {
                frame.word &= 0x7fff_ffff;
            }
        } else {
            self.skip = length;
        }
        self.have = 0;
        seen(Part::Frame(frame));
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
}
