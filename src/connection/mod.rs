//! Facts of a connection: its authority and scheme, who introduced it, and the events of its life.

pub(crate) mod authority;
mod event;
pub(crate) mod frames;
mod introduction;
pub mod proxy_protocol;

pub use self::{
    authority::{Authority, AuthorityFault, Scheme},
    event::{ConnectionEvent, EventKind},
    introduction::Introduction,
};
