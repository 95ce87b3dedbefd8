//! What comes before the final answer of a stream: informational answers, and 100 for a client that waits to send its body.

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
use crate::{base::lock::lock, listener::informational::stays_behind};

/// Informational answers to one request. More are noise, and each is kept until the client takes it.
const MOST: usize = 32;

/// What the parts of a stream tell each other.
#[derive(Debug, Default)]
pub(super) struct Exchanged {
    answered: AtomicBool,
    /// Something waits to be said.
    pending: AtomicBool,
    interim: Mutex<Interim>,
}

#[derive(Debug, Default)]
struct Interim {
    /// The client waits for 100 before it sends its body.
    expected: bool,
    waiting: Vec<Response<()>>,
    taken: usize,
    /// The stream's task, where the body may be read by another one.
    owner: Option<Waker>,
}

impl Exchanged {
    pub(super) fn new(expects_continue: bool) -> Self {
        let interim = Interim { expected: expects_continue, ..Interim::default() };
        Self { interim: Mutex::new(interim), ..Self::default() }
    }

    /// The final answer begins.
    pub(super) fn answer(&self) {
        self.answered.store(true, Ordering::Release);
    }

    pub(super) fn is_answered(&self) -> bool {
        self.answered.load(Ordering::Acquire)
    }

    /// Somebody waits for the body: the client is told to send it, if that is what it waits for.
    pub(super) fn ask_for_body(&self) {
        self.push(StatusCode::CONTINUE, HeaderMap::new());
    }

    /// Has the task woken when something is to be said. For clients that wait for 100; what else is said comes by the task itself.
    pub(super) fn wake_to_inform(&self, cx: &Context<'_>) {
        self.interim().owner = Some(cx.waker().clone());
    }

    /// Says what waits to be said, and counts its heads on their way out.
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

/// The way of informational answers to a client over HTTP/2. It leads nowhere once the request is answered.
#[derive(Debug)]
pub(crate) struct Http2Informational(pub(super) Arc<Exchanged>);

impl Http2Informational {
    pub(crate) fn send(&self, status: StatusCode, mut headers: HeaderMap) {
        let stay: Vec<_> = headers.keys().filter(|name| stays_behind(name)).cloned().collect();
        stay.into_iter().for_each(|name| drop(headers.remove(name)));
        self.0.push(status, headers);
    }
}
