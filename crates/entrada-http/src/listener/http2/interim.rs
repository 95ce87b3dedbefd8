//! Interim responses of a stream: informational ones, and 100 for a client that waits to send its body.

use std::{
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Waker},
};

use bytes::Bytes;
use h2::server::SendResponse;
use http::{HeaderMap, Response, StatusCode};

use super::meter::SharedMeter;
use crate::{base::lock::lock, listener::interim_fields::stays_behind};

/// The maximum number of informational responses to one request. Each is kept until the client reads it.
const MOST: usize = 32;

/// The state shared by the parts of a stream.
#[derive(Debug, Default)]
pub(super) struct Exchanged {
    answered: AtomicBool,
    /// An interim response is pending.
    pending: AtomicBool,
    interim: Mutex<Interim>,
}

#[derive(Debug, Default)]
struct Interim {
    /// The client waits for 100 before it sends its body.
    expected: bool,
    waiting: Vec<Response<()>>,
    taken: usize,
    /// The stream's task, if another task may read the body.
    owner: Option<Waker>,
}

impl Exchanged {
    pub(super) fn new(expects_continue: bool) -> Self {
        let interim = Interim { expected: expects_continue, ..Interim::default() };
        Self { interim: Mutex::new(interim), ..Self::default() }
    }

    /// Notes that the final response begins.
    pub(super) fn answer(&self) {
        self.answered.store(true, Ordering::Release);
    }

    pub(super) fn is_answered(&self) -> bool {
        self.answered.load(Ordering::Acquire)
    }

    /// Notes that the body is wanted: the client is told to send it, if it waits for that.
    pub(super) fn ask_for_body(&self) {
        self.push(StatusCode::CONTINUE, HeaderMap::new());
    }

    /// Registers the task for pending interim responses. For clients that wait for 100; all others are sent by the task itself.
    pub(super) fn wake_to_inform(&self, cx: &Context<'_>) {
        self.interim().owner = Some(cx.waker().clone());
    }

    /// Sends the pending interim responses, and counts their heads.
    pub(super) fn inform(&self, respond: &mut SendResponse<Bytes>, meter: &SharedMeter) {
        if !self.pending.swap(false, Ordering::AcqRel) {
            return;
        }
        for response in std::mem::take(&mut self.interim().waiting) {
            let stream = respond.stream_id().as_u32();
            meter.lock().leaving.head(stream);
            // A stream that was reset shows that elsewhere.
            if respond.send_informational(response).is_err() {
                meter.lock().leaving.sent_head(stream);
            }
        }
    }

    fn push(&self, status: StatusCode, headers: HeaderMap) {
        let mut interim = self.interim();
        if self.is_answered() || interim.taken >= MOST || status == StatusCode::CONTINUE && !std::mem::take(&mut interim.expected)
        {
            return;
        }
        interim.taken += 1;
        let mut response = Response::new(());
        *response.status_mut() = status;
        *response.headers_mut() = headers;
        interim.waiting.push(response);
        let owner = interim.owner.take();
        drop(interim);
        self.pending.store(true, Ordering::Release);
        if let Some(owner) = owner {
            owner.wake();
        }
    }

    fn interim(&self) -> MutexGuard<'_, Interim> {
        lock(&self.interim)
    }
}

/// The channel of informational responses to an HTTP/2 client. It drops everything once the request is answered.
#[derive(Debug)]
pub(crate) struct Http2Informational(pub(super) Arc<Exchanged>);

impl Http2Informational {
    pub(crate) fn send(&self, status: StatusCode, mut headers: HeaderMap) {
        let stay: Vec<_> = headers.keys().filter(|name| stays_behind(name)).cloned().collect();
        stay.into_iter().for_each(|name| drop(headers.remove(name)));
        self.0.push(status, headers);
    }
}
