//! Metering of a connection, by the heads of its frames: RFC 9113, section 4.1.
//!
//! `h2` answers control frames itself and reports none of them, so they are counted below it. Only the nine bytes of each head
//! are read; payloads are skipped.
//!
//! A client that reads a large response opens its window many times, and measures the connection with pings. So the allowance of
//! control frames grows with its requests and with the bytes sent to it; but not with parts that are small only because the
//! client opens its window byte by byte.

use std::{
    collections::VecDeque,
    fmt,
    io::IoSlice,
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use tokio::time::Instant;

use super::{leaving::PendingBytes, target::Targets};
use crate::{
    base::{deadline::Pace, lock::lock},
    connection::frames::{CONTINUATION, DATA, END_STREAM, Frame, Frames, HEADERS, PADDED, Part, RST_STREAM},
};

/// The allowance of control frames: the burst, and the number per second.
const CONTROL: Allowance = Allowance::new(2_000, 200);
/// The allowance of reset streams, in the same form.
const RESETS: Allowance = Allowance::new(1_000, 50);

/// The number of control frames per request: it may open its window, set a priority, change it, and be closed.
const FOR_REQUEST: u64 = 4;
/// The number of control frames per part of a response: windows of stream and connection.
const FOR_PART: u64 = 2;
/// The number of response bytes per further control frame.
const FOR_BYTES: usize = 512;
/// The upper limit of any allowance.
const MOST: u64 = 1 << 16;

/// The number of streams that may be announced before `h2` reports them: far more than fit into one read.
const UNSEEN: usize = 1 << 14;

/// A meter shared by the socket and the tasks of the connection.
#[derive(Clone, Debug)]
pub(super) struct SharedMeter(Arc<Mutex<Meter>>);

impl SharedMeter {
    pub(super) fn new(meter: Meter) -> Self {
        Self(Arc::new(Mutex::new(meter)))
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Meter> {
        lock(&self.0)
    }
}

/// The kind of excess.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Excess {
    Control,
    Resets,
}

impl fmt::Display for Excess {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Control => "too many control frames",
            Self::Resets => "too many streams that were reset before they were answered",
        })
    }
}

/// The numbers of streams that `h2` has refused itself and does not report.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Refused {
    /// Heads beyond its limit: answered with 431.
    pub(super) too_large: usize,
    /// Malformed requests: reset.
    pub(super) malformed: usize,
    /// Streams beyond the concurrency limit: reset.
    pub(super) too_many: usize,
}

/// The meter of a connection.
#[derive(Debug)]
pub(super) struct Meter {
    received: Frames,
    /// The targets of requests as they were sent.
    targets: Targets,
    sent: Frames,
    pub(super) leaving: PendingBytes,
    control: Allowance,
    resets: Allowance,
    excess: Option<Excess>,
    /// The streams that the client has begun and that `h2` has not reported yet, in order.
    unseen: VecDeque<u32>,
    newest: u32,
    refused: Refused,
    /// The number of response bytes.
    answered: u64,
    last_read: Instant,
    write_timeout: Duration,
    pace: Pace,
    stuck_until: Option<Instant>,
    reset: bool,
}

impl Meter {
    pub(super) fn new(write_timeout: Duration) -> Self {
        Self {
            received: Frames::of_client(),
            targets: Targets::default(),
            sent: Frames::default(),
            leaving: PendingBytes::default(),
            control: CONTROL,
            resets: RESETS,
            excess: None,
            unseen: VecDeque::new(),
            newest: 0,
            refused: Refused::default(),
            answered: 0,
            last_read: Instant::now(),
            write_timeout,
            pace: Pace::default(),
            stuck_until: None,
            reset: false,
        }
    }

    /// Follows received bytes. Returns the number of remaining bytes, which come first: frames without effect are counted and
    /// removed.
    pub(super) fn read(&mut self, bytes: &mut [u8], now: Instant) -> usize {
        self.last_read = now;
        let mut frames = std::mem::take(&mut self.received);
        let kept = frames.sift(bytes, |part| match part {
            Part::Frame(frame) => {
                self.targets.frame(frame);
                self.receive(frame, now);
            }
            Part::Fields(bytes) => self.targets.payload(bytes),
        });
        self.received = frames;
        kept
    }

    fn receive(&mut self, frame: Frame, now: Instant) {
        match frame.kind {
            // Padding has its length in one byte, and may be all that a frame holds.
            DATA if frame.flags & END_STREAM == 0 && (frame.length == 0 || frame.flags & PADDED != 0 && frame.length <= 256) => {
                self.spend_control(now);
            }
            DATA | CONTINUATION => {}
            HEADERS if frame.stream <= self.newest => {}
            HEADERS => {
                self.newest = frame.stream;
                self.control.earn(FOR_REQUEST);
                self.unseen.push_back(frame.stream);
                if self.unseen.len() > UNSEEN {
                    self.unseen.pop_front();
                    self.spend_reset(now);
                }
            }
            kind => {
                if kind == RST_STREAM {
                    self.leaving.lose(frame.stream);
                }
                self.spend_control(now);
            }
        }
    }

    fn spend_control(&mut self, now: Instant) {
        if !self.control.spend(now) {
            self.excess.get_or_insert(Excess::Control);
        }
    }

    /// Counts a reset stream.
    pub(super) fn spend_reset(&mut self, now: Instant) {
        if !self.resets.spend(now) {
            self.excess.get_or_insert(Excess::Resets);
        }
    }

    /// Counts a part of a response: as the service made it, or cut by the client's window.
    pub(super) fn answers(&mut self, stream: u32, bytes: usize, whole: bool) {
        self.leaving.data(stream, bytes);
        self.control.earn((bytes / FOR_BYTES) as u64 + if whole { FOR_PART } else { 0 });
    }

    /// Follows the bytes that the socket accepted.
    pub(super) fn wrote(&mut self, slices: &[IoSlice<'_>], mut written: usize) {
        self.pace.moved(written);
        self.stuck_until = None;
        let mut frames = std::mem::take(&mut self.sent);
        for slice in slices {
            let part = written.min(slice.len());
            written -= part;
            frames.follow(&slice[..part], |frame| self.send(frame));
        }
        self.sent = frames;
    }

    fn send(&mut self, frame: Frame) {
        match frame.kind {
            DATA => {
                self.answered += u64::from(frame.length);
                self.leaving.sent_data(frame.stream, frame.length);
            }
            // An answer to a stream that nobody has seen is one of `h2`'s own: there is but one.
            HEADERS if self.saw(frame.stream) => {
                self.refused.too_large += 1;
                self.spend_reset(Instant::now());
            }
            HEADERS => self.leaving.sent_head(frame.stream),
            RST_STREAM if self.saw(frame.stream) => {
                if frame.word == u32::from(h2::Reason::REFUSED_STREAM) {
                    self.refused.too_many += 1;
                } else {
                    self.refused.malformed += 1;
                }
                self.spend_reset(Instant::now());
            }
            RST_STREAM => self.leaving.lose(frame.stream),
            _ => {}
        }
    }

    /// Returns whether a stream was unknown until now, and notes it.
    fn saw(&mut self, stream: u32) -> bool {
        self.unseen.binary_search(&stream).is_ok_and(|at| self.unseen.remove(at).is_some())
    }

    /// Notes that `h2` has reported a stream.
    pub(super) fn accepted(&mut self, stream: u32) -> bool {
        self.saw(stream);
        self.leaving.begin(stream);
        self.targets.has_fragment(stream)
    }

    /// Notes that the socket accepts no more.
    pub(super) fn waits(&mut self) {
        if let Some(at) = self.pace.waits(self.write_timeout) {
            self.stuck_until = Some(at);
        }
    }

    /// Notes that the socket has accepted everything.
    pub(super) fn flushed(&mut self) {
        if self.stuck_until.take().is_some() {
            self.pace.moved(0);
        }
    }

    /// Returns the time when the socket will have been stuck for too long.
    pub(super) const fn stuck_until(&self) -> Option<Instant> {
        self.stuck_until
    }

    /// Returns what `h2` has refused itself since the last call.
    pub(super) fn take_refused(&mut self) -> Refused {
        std::mem::take(&mut self.refused)
    }

    /// Returns the excess, if any, the time of the client's last frame, and the number of response bytes sent.
    pub(super) const fn look(&self) -> (Option<Excess>, Instant, u64) {
        (self.excess, self.last_read, self.answered)
    }

    pub(super) const fn is_exceeded(&self) -> bool {
        self.excess.is_some()
    }

    /// Marks the socket to be closed with a reset, so that the client sees a failure.
    pub(super) const fn reset_socket(&mut self) {
        self.reset = true;
    }

    pub(super) const fn resets_socket(&self) -> bool {
        self.reset
    }
}

/// A burst, and a number per second. In millionths.
#[derive(Clone, Copy, Debug)]
struct Allowance {
    left: u64,
    burst: u64,
    /// The share of a second is also that of a microsecond, in millionths.
    rate: u64,
    since: Option<Instant>,
}

const MILLION: u64 = 1_000_000;

impl Allowance {
    const fn new(burst: u64, rate: u64) -> Self {
        Self { left: burst * MILLION, burst: burst * MILLION, rate, since: None }
    }

    /// Takes one, if there is one.
    fn spend(&mut self, now: Instant) -> bool {
        let since = self.since.replace(now).unwrap_or(now);
        if self.left < self.burst {
            let micros = u64::try_from(now.saturating_duration_since(since).as_micros()).unwrap_or(u64::MAX);
            self.left = self.left.saturating_add(micros.saturating_mul(self.rate)).min(self.burst);
        }
        let spent = self.left.checked_sub(MILLION);
        self.left = spent.unwrap_or(self.left);
        spent.is_some()
    }

    /// Adds to the allowance.
    fn earn(&mut self, count: u64) {
        self.left = (self.left + count * MILLION).min(MOST * MILLION);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::connection::frames::PREFACE;

    const FRAME_HEAD: usize = 9;

    fn frame(kind: u8, flags: u8, stream: u32, length: u32) -> Vec<u8> {
        let mut frame = length.to_be_bytes()[1..].to_vec();
        frame.extend([kind, flags]);
        frame.extend(stream.to_be_bytes());
        frame.resize(FRAME_HEAD + length as usize, 0);
        frame
    }

    fn read(meter: &mut Meter, bytes: &[u8], now: Instant) {
        meter.read(&mut bytes.to_vec(), now);
    }

    fn meter() -> Meter {
        let mut meter = Meter::new(Duration::from_secs(30));
        read(&mut meter, PREFACE, Instant::now());
        meter
    }

    #[test]
    fn control_frames_run_out_and_come_back() {
        for (name, flood) in [
            ("SETTINGS", frame(4, 0, 0, 0)),
            ("PING", frame(6, 0, 0, 8)),
            ("PRIORITY", frame(2, 0, 1, 5)),
            ("WINDOW_UPDATE", frame(8, 0, 0, 4)),
            ("RST_STREAM", frame(3, 0, 1, 4)),
            ("an unknown one", frame(77, 0, 0, 3)),
            ("empty DATA", frame(0, 0, 1, 0)),
            ("DATA that is padding", frame(0, 8, 1, 256)),
        ] {
            let (mut meter, start) = (meter(), Instant::now());
            (0..2_000).for_each(|_| read(&mut meter, &flood, start));
            assert!(!meter.is_exceeded(), "{name}");
            (0..200).for_each(|_| read(&mut meter, &flood, start + Duration::from_secs(1)));
            assert!(!meter.is_exceeded(), "{name}");

            read(&mut meter, &flood, start + Duration::from_secs(1));

            assert_eq!(meter.look().0, Some(Excess::Control), "{name}");
        }
    }

    #[test]
    fn a_large_download_may_open_its_window_as_often_as_it_likes() {
        let (mut meter, now) = (meter(), Instant::now());
        let update = frame(8, 0, 1, 4);

        for _ in 0..10_000 {
            meter.answers(1, 16_384, false);
            // Stream and connection, for each KiB.
            (0..32).for_each(|_| read(&mut meter, &update, now));
        }

        assert!(!meter.is_exceeded());
    }

    #[test]
    fn a_client_may_ping_for_each_message() {
        let (mut meter, now) = (meter(), Instant::now());

        for _ in 0..10_000 {
            meter.answers(1, 50, true);
            (0..2).for_each(|_| read(&mut meter, &frame(6, 0, 0, 8), now));
        }

        assert!(!meter.is_exceeded());
    }

    #[test]
    fn a_window_that_is_opened_byte_by_byte_runs_out() {
        let (mut meter, now) = (meter(), Instant::now());

        for _ in 0..2_001 {
            read(&mut meter, &frame(8, 0, 1, 4), now);
            meter.answers(1, 1, false);
        }

        assert_eq!(meter.look().0, Some(Excess::Control));
    }

    #[test]
    fn a_busy_client_may_do_for_each_request_what_clients_do() {
        let (mut meter, now) = (meter(), Instant::now());

        for request in 0..50_000 {
            let id = request * 2 + 1;
            for bytes in [frame(1, 5, id, 20), frame(8, 0, id, 4), frame(2, 0, id, 5), frame(3, 0, id, 4)] {
                read(&mut meter, &bytes, now);
            }
            meter.accepted(id);
        }

        assert!(!meter.is_exceeded() && meter.unseen.is_empty());
    }

    #[test]
    fn what_h2_answers_itself_is_noticed() {
        let (mut meter, now) = (meter(), Instant::now());
        for id in [1, 3, 5, 7, 9] {
            read(&mut meter, &frame(1, 5, id, 20), now);
        }
        meter.accepted(3);

        let reset = |stream: u32, code: u8| [&frame(3, 0, stream, 4)[..FRAME_HEAD], &[0, 0, 0, code]].concat();
        for answer in [frame(1, 5, 1, 5), reset(1, 7), frame(1, 4, 3, 30), reset(7, 1), reset(9, 7)] {
            meter.wrote(&[IoSlice::new(&answer)], answer.len());
        }

        assert_eq!(meter.take_refused(), Refused { too_large: 1, malformed: 1, too_many: 1 });
        assert_eq!((meter.take_refused(), meter.unseen), (Refused::default(), [5].into()));
    }

    #[test]
    fn streams_that_come_to_nothing_are_bounded() {
        let (mut meter, now) = (meter(), Instant::now());
        for request in 0..1_001 {
            let id = request * 2 + 1;
            read(&mut meter, &frame(1, 5, id, 20), now);
            meter.accepted(id);
            assert!(!meter.is_exceeded());
            meter.spend_reset(now);
        }

        assert_eq!(meter.look().0, Some(Excess::Resets));
    }
}
