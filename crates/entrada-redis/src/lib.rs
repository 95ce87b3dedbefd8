//! A client of Redis and Valkey for what limits need: scripts on single keys, pipelined over one connection for each server, with a
//! deadline for each call.
//!
//! It is small, since it leaves out what limits do not need, and strict where they need it: a call never waits for a connection to
//! be made again beyond its own deadline, what nobody waits for any more is not sent, and nothing is sent twice. Servers are one
//! address, the primary that sentinels name, or the nodes of a cluster. A password or a token that changes is announced on every
//! open connection.

pub mod breaker;
mod client;
mod endpoint;
mod failure;
mod link;
mod login;
mod resp;
mod script;
mod session;
mod slots;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
#[cfg(test)]
mod tests;

pub use self::{
    client::{Client, ClientStatus},
    endpoint::Endpoint,
    failure::{Failure, FailureKind},
    login::{Login, Logins},
    resp::{ProtocolError, Reply, ServerError},
    script::Script,
    session::Tls,
    slots::slot_of,
};

use std::{sync::Arc, time::Duration};

/// The settings of a client.
#[derive(Debug)]
pub struct Settings {
    /// How the servers are found.
    pub mode: Mode,
    /// The addresses to ask first; at least one.
    pub seeds: Vec<Endpoint>,
    /// TLS towards the servers; `None` without.
    pub tls: Option<Tls>,
    /// The number of the database. A cluster has only 0.
    pub database: u32,
    /// The user and the password or token, as they are now.
    pub logins: Arc<dyn Logins>,
    /// The user and the password at sentinels, which have their own.
    pub sentinel_login: Option<Login>,
    /// The time that a call may take.
    pub timeout: Duration,
}

/// How the servers are found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Mode {
    /// There is one.
    Single,
    /// Sentinels know which one is the primary of this name.
    Sentinel(Box<str>),
    /// Each node of a cluster has some of the keys.
    Cluster,
}

/// Reads all replies in these bytes, for a fuzz target. Returns the number of them.
#[cfg(any(test, feature = "testing"))]
pub fn replies_in(bytes: &[u8]) -> usize {
    let mut buffer = bytes::BytesMut::from(bytes);
    std::iter::from_fn(|| Reply::decode(&mut buffer).ok().flatten()).count()
}
