//! The gateway within an application: as a [`tower::Service`], and as a [`tower::Layer`] before a service of one's own.

mod authorize;
mod facts;
mod gateway;
mod peer;

pub use self::{
    authorize::{AuthorizeLayer, AuthorizeService},
    facts::{Caller, Partner, Token},
    gateway::Gateway,
    peer::Peer,
};
