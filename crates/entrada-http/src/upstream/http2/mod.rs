//! HTTP/2 towards a server, on `h2`.
//!
//! It uses `h2` directly instead of hyper's client, which does not expose the number of streams per connection, informational
//! responses, whether a server has processed a failed request, and the window that uploads share. A stream is driven by the task
//! of its request; only the frames of a connection have a task of their own, and an upload that continues after the head of its
//! response.
//!
//! - At most 32 streams share a connection, and no more than its server allows. The windows of all streams fit into that of the
//!   connection, so that an unread response does not block others.
//! - Uploads share the server's window: see [`window`].
//! - A connection accepts no more streams after 100 resets: servers close a connection with too many of them.

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

/// The maximum number of streams per connection.
const STREAMS: usize = 32;
/// The number of reset streams after which a connection accepts no more.
const RESETS: usize = 100;
/// The longest header list of an answer, in bytes.
const HEADER_LIST: u32 = 64 * 1024;
/// The receive window of a stream and of a connection: that of all of its streams, and some for streams that were reset
/// meanwhile.
const STREAM_WINDOW: u32 = 256 * 1024;
const CONNECTION_WINDOW: u32 = STREAM_WINDOW * 32 + 1024 * 1024;
/// The maximum number of bytes that wait to be sent on a stream.
const SEND_BUFFER: usize = 256 * 1024;
/// The number of reset streams that are remembered, for frames that still arrive for them: all.
const REMEMBERED: usize = RESETS + 2 * STREAMS;
const REMEMBERED_FOR: Duration = Duration::from_secs(30);
/// The memory that `h2` may use for the framing of small unread parts before it gives a connection up. All streams may be full of
/// parts of ten bytes.
const FRAMING: usize = 256 * 1024 * 1024;

/// The reason why a stream brought no response.
#[derive(Debug, thiserror::Error)]
pub(super) enum Fault {
    /// The server states that it has not processed the request, or never received it.
    #[error("the server did not take the request")]
    Unprocessed(#[source] h2::Error),
    /// The stream or its connection ended before a response began.
    #[error("the stream ended before an answer began")]
    Unanswered(#[source] h2::Error),
    /// The connection ended because of the server's frames, on this stream or on another one.
    #[error("the server violated HTTP/2")]
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
    /// The policies' request is invalid.
    #[error("the request cannot be written")]
    Unwritable(#[source] h2::Error),
}

/// A connection to a server, for several requests. It ends with its last stream when it has no more users.
#[derive(Debug)]
pub(super) struct Connection {
    sender: SendRequest<Bytes>,
    state: Arc<State>,
    /// The time when it was made.
    made: Instant,
    /// The time when the last stream ended.
    idle_since: Mutex<Instant>,
    /// Notified when there is room for another stream.
    vacancy: Arc<Notify>,
}

/// A permit for a stream on a connection, until the stream is over.
#[derive(Debug)]
pub(super) struct Stream {
    connection: Arc<Connection>,
    /// The stream was complete, or never began.
    whole: bool,
    /// The stream, if a body is sent on it.
    upload: Option<u32>,
}

impl Connection {
    /// Makes a connection from a byte stream, and a task that drives it. `vacancy` is notified when there is room.
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

    /// Returns whether it accepts no more streams.
    pub(super) fn is_spent(&self) -> bool {
        self.state.is_spent()
    }

    /// Returns whether the server's settings have not arrived yet, so that the number of streams is unknown.
    pub(super) fn is_unsettled(&self) -> bool {
        self.state.is_unsettled()
    }

    /// Waits until it is known.
    pub(super) async fn settles(&self) {
        self.state.settles().await;
    }

    /// Returns the number of further streams.
    pub(super) fn vacancies(&self) -> usize {
        self.state.vacancies()
    }

    /// Returns the number of open streams.
    pub(super) fn streams(&self) -> usize {
        self.state.open()
    }

    /// Returns whether there is enough room for a request with a body.
    pub(super) fn has_room_for_upload(&self) -> bool {
        self.state.window.has_room()
    }

    /// Returns whether it carried more than one request.
    pub(super) fn was_shared(&self) -> bool {
        self.state.was_shared()
    }

    /// Returns the time when it was made.
    pub(super) const fn made(&self) -> Instant {
        self.made
    }

    /// Returns whether it has been idle for this long.
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

    /// Returns the connection.
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
