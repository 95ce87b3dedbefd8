//! Facts of a connection: its authority and scheme, its introduction, and its events.

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
