//! HTTP/2 towards a server, on `h2`.
//!
//! It stands on `h2` itself and not on hyper's client for what that keeps to itself: how many streams share a connection, informational
//! answers, whether a server has looked at a request that failed, and the window that uploads share. A stream is driven by the task of
//! the request that it belongs to; only the frames of a connection have a task of their own, and an upload that outlasts the head of its
//! answer.
//!
//! - At most 32 streams share a connection, and no more than its server allows. What a server may send on all of them at once fits into
//!   the connection's window, so that an answer that nobody reads holds nobody else up.
//! - Uploads share what the server lets come: see [`window`].
//! - A connection on which 100 streams were reset takes no more of them: servers end a connection on which too many are.

mod answer;
mod driver;
mod exchange;
mod reading;
mod state;
mod upload;
mod window;
mod wire;

#[cfg(test)]
mod tests;

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use h2::client::{self, SendRequest};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    sync::Notify,
    time::Instant,
};

pub(super) use self::answer::Answer;
pub use self::reading::{Http2Reading, read_http2};
use self::{driver::Driver, state::State, wire::Wire};

/// How many streams share a connection.
const STREAMS: usize = 32;
/// How many streams of a connection may be reset before it takes no more.
const RESETS: usize = 100;
/// The longest header list of an answer, in bytes.
const HEADER_LIST: u32 = 64 * 1024;
/// What a server may send on a stream before it has to wait, and on a connection: as much as on all of its streams, and some for those
/// that were reset meanwhile.
const STREAM_WINDOW: u32 = 256 * 1024;
const CONNECTION_WINDOW: u32 = STREAM_WINDOW * 32 + 1024 * 1024;
/// What waits to be sent on a stream.
const SEND_BUFFER: usize = 256 * 1024;
/// How many streams that were reset are remembered, and for how long, for what still comes on them: all.
const REMEMBERED: usize = RESETS + 2 * STREAMS;
const REMEMBERED_FOR: Duration = Duration::from_secs(30);
/// What the framing of small parts of answers that nobody reads may take of memory, before `h2` gives a connection up. All streams may
/// be full of parts of ten bytes.
const FRAMING: usize = 256 * 1024 * 1024;

/// Why a stream brought no answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum Fault {
    /// The server says that it has not looked at the request, or never got it.
    #[error("the server did not take the request")]
    Unprocessed(#[source] h2::Error),
    /// The stream or its connection ended before an answer began.
    #[error("the stream ended before an answer began")]
    Unanswered(#[source] h2::Error),
    /// The connection ended because of what the server sent, on this stream or on another one.
    #[error("the server broke HTTP/2")]
    Connection(#[source] h2::Error),
    /// The server answers no pings.
    #[error("the server did not answer a ping")]
    Silent,
    /// The answer is malformed.
    #[error("the answer is malformed")]
    Malformed(#[source] h2::Error),
    #[error("{0}")]
    Head(&'static str),
    /// The caller's body broke off.
    #[error("the request body broke off")]
    RequestBody,
    /// What the policies made is no request.
    #[error("the request cannot be written")]
    Unwritable(#[source] h2::Error),
}

/// A connection to a server, for as many requests as it carries. It ends with its last stream when nobody holds it any more.
#[derive(Debug)]
pub(super) struct Connection {
    sender: SendRequest<Bytes>,
    state: Arc<State>,
    /// When it was made.
    made: Instant,
    /// When the last stream ended.
    idle_since: Mutex<Instant>,
    /// Told when there is room for another stream.
    vacancy: Arc<Notify>,
}

/// A place for a stream on a connection, until the stream is over.
#[derive(Debug)]
pub(super) struct Stream {
    connection: Arc<Connection>,
    /// The stream came to its end, or never began.
    whole: bool,
    /// The stream, where a body goes out on it.
    upload: Option<u32>,
}

impl Connection {
    /// Makes a connection of a byte stream, and a task that drives it. Who waits for room is told by `vacancy`.
    pub(super) async fn open<I>(io: I, vacancy: Arc<Notify>) -> Result<Arc<Self>, h2::Error>
    where
        I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let state = Arc::new(State::new());
        let (sender, connection) = client::Builder::new()
            .initial_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .max_header_list_size(HEADER_LIST)
            .max_send_buffer_size(SEND_BUFFER)
            .max_concurrent_reset_streams(REMEMBERED)
            .reset_stream_duration(REMEMBERED_FOR)
            .data_frame_budget(FRAMING)
            .initial_max_send_streams(STREAMS)
            .enable_push(false)
            .handshake(Wire::new(io, state.clone()))
            .await?;
        tokio::spawn(Driver::new(connection, state.clone()));
        let now = Instant::now();
        Ok(Arc::new(Self { sender, state, made: now, idle_since: Mutex::new(now), vacancy }))
    }

    /// Whether it takes no more streams.
    pub(super) fn is_spent(&self) -> bool {
        self.state.is_spent()
    }

    /// Whether the server's settings are still to come, so that nobody can tell how many streams there may be.
    pub(super) fn is_unsettled(&self) -> bool {
        self.state.is_unsettled()
    }

    /// Waits until that can be told.
    pub(super) async fn settles(&self) {
        self.state.settles().await;
    }

    /// How many more streams there may be.
    pub(super) fn vacancies(&self) -> usize {
        self.state.vacancies()
    }

    /// The streams that are open.
    pub(super) fn streams(&self) -> usize {
        self.state.open()
    }

    /// Whether a request with a body finds enough room.
    pub(super) fn has_room_for_upload(&self) -> bool {
        self.state.window.has_room()
    }

    /// Whether it carried more than one request.
    pub(super) fn was_shared(&self) -> bool {
        self.state.was_shared()
    }

    /// When it was made.
    pub(super) const fn made(&self) -> Instant {
        self.made
    }

    /// Whether it has carried nothing for so long.
    pub(super) fn idle_for(&self, time: Duration) -> bool {
        self.streams() == 0 && self.idle_since.lock().unwrap_or_else(PoisonError::into_inner).elapsed() >= time
    }
}

impl Stream {
    /// Takes a place on the connection.
    pub(super) fn of(connection: &Arc<Connection>) -> Self {
        connection.state.begin();
        Self { connection: connection.clone(), whole: true, upload: None }
    }

    /// The connection.
    pub(super) const fn connection(&self) -> &Arc<Connection> {
        &self.connection
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        let connection = &self.connection;
        if let Some(upload) = self.upload.filter(|_| !self.whole) {
            connection.state.window.forget(upload);
        }
        if connection.state.finish(self.whole) == 0 {
            *connection.idle_since.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
        }
        connection.vacancy.notify_one();
    }
}
