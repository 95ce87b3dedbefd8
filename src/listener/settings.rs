//! What the connections of a listener go by; swapped whole on reload.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use arc_swap::ArcSwap;

use super::{LimitsConfig, tls::ServerTls};

/// A listener, as shared by the workers that serve it.
#[derive(Debug)]
pub struct Listener {
    /// Its index in the runtime's list.
    pub index: usize,
    /// Its name, as in audit records and metrics.
    pub name: Arc<str>,
    /// What holds now. A connection takes the TLS settings it began with; limits are read anew for each request.
    pub settings: ArcSwap<ListenerSettings>,
    connections: AtomicUsize,
}

/// The settings of a listener, built.
#[derive(Clone, Debug)]
pub struct ListenerSettings {
    /// What a client may ask.
    pub limits: Limits,
    /// The certificates; absent on a plain listener.
    pub tls: Option<Arc<ServerTls>>,
}

/// The limits of a listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Connections at once.
    pub connections: usize,
    /// The bytes of a head.
    pub header_bytes: usize,
    /// The time for TLS handshake and head.
    pub header_timeout: Duration,
    /// How long a connection may rest between requests.
    pub idle_timeout: Duration,
    /// The bytes of a body.
    pub body_bytes: u64,
    /// How long the next bytes of a body may take.
    pub body_timeout: Duration,
    /// How long a client may take no byte of an answer.
    pub write_timeout: Duration,
}

impl From<&LimitsConfig> for Limits {
    fn from(config: &LimitsConfig) -> Self {
        Self {
            connections: config.connections as usize,
            header_bytes: usize::try_from(config.header_bytes.0).unwrap_or(usize::MAX),
            header_timeout: config.header_timeout.0,
            idle_timeout: config.idle_timeout.0,
            body_bytes: config.body_bytes.0,
            body_timeout: config.body_timeout.0,
            write_timeout: config.write_timeout.0,
        }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self::from(&LimitsConfig::default())
    }
}

impl Listener {
    /// A listener of that name and place in the runtime's list.
    pub fn new(index: usize, name: impl Into<Arc<str>>, settings: ListenerSettings) -> Arc<Self> {
        Arc::new(Self { index, name: name.into(), settings: ArcSwap::from_pointee(settings), connections: AtomicUsize::new(0) })
    }

    /// The limits that hold now.
    #[expect(clippy::disallowed_methods, reason = "the guard ends here; a counted pointer would be written to by every core")]
    pub fn limits(&self) -> Limits {
        self.settings.load().limits
    }

    /// How many connections are open, on all workers together.
    pub fn connections(&self) -> usize {
        self.connections.load(Ordering::Relaxed)
    }

    /// Room for one more connection; `None` if there is none.
    pub(crate) fn admit(self: &Arc<Self>) -> Option<Seat> {
        let seat = Seat(self.clone());
        (self.connections.fetch_add(1, Ordering::Relaxed) < self.limits().connections).then_some(seat)
    }
}

/// One connection's place among those of its listener; freed on drop.
#[derive(Debug)]
pub(crate) struct Seat(Arc<Listener>);

impl Drop for Seat {
    fn drop(&mut self) {
        self.0.connections.fetch_sub(1, Ordering::Relaxed);
    }
}
