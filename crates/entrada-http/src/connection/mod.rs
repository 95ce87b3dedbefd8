//! Facts of a connection: its authority and scheme, its introduction, and its events.

pub(crate) mod authority;
mod event;
pub(crate) mod frames;
mod introduction;
pub mod proxy_protocol;
mod slot;
mod trusted_peers;

pub use self::{
    authority::{Authority, AuthorityFault, Scheme},
    event::{ConnectionEvent, EventKind},
    introduction::Introduction,
    slot::Slot,
    trusted_peers::{NoTrustedPeers, TrustedPeers},
};
