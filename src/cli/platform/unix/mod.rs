//! Signals and the service manager of Unix.

mod service_manager;
mod signals;

pub(in crate::cli) use service_manager::{ServiceManager, activated_sockets};
pub(in crate::cli) use signals::Signals;
