//! Tests of the listener's codec on real sockets, with a test service: bytes in, bytes out.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod bodies;
mod clients;
mod differential;
mod drain;
mod heads;
mod limits;
mod oracle;
pub(crate) mod support;
