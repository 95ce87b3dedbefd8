//! Connections before their first request.

use std::{sync::Arc, time::Duration};

use bytes::BytesMut;
use tokio::time::Instant;

use super::{connection::Connection, drain::ConnectionGuard, settings::Listener, socket::Socket};

/// The time in which a new connection may still send its first request once the listener drains.
pub(super) const FLUSH_GRACE: Duration = Duration::from_secs(1);

/// A connection whose protocol is known.
#[derive(Debug)]
pub(super) struct Opening {
    pub(super) socket: Socket,
    /// The bytes read so far.
    pub(super) buffer: BytesMut,
    pub(super) listener: Arc<Listener>,
    pub(super) connection: Arc<Connection>,
    pub(super) membership: ConnectionGuard,
    /// The time of acceptance.
    pub(super) accepted: Instant,
}
