//! The listener's codec on real sockets, with a service of its own: what goes in as bytes, and what comes out.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod bodies;
mod clients;
mod differential;
mod drain;
mod heads;
mod limits;
mod oracle;
pub(crate) mod support;
