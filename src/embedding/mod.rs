//! The gateway as a part of an application: a `tower::Service`, and a `tower::Layer` in front of the application's own service.

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
pub use crate::gateway::answer::ResponseBody;
