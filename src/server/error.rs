//! The reasons why a server does not start.

use std::io;

use crate::{admin::BindError, config::Report};

/// The reason why the gateway could not start, or a reload failed.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// The config is faulty.
    #[error("the config cannot be used")]
    Config(Box<Report>),
    /// An address cannot be listened on.
    #[error("cannot listen on {address}")]
    Bind {
        /// The address.
        address: String,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// A sink of the audit log cannot be opened.
    #[error("the audit log cannot be opened")]
    Audit(#[source] io::Error),
    /// No thread could be started.
    #[error("no thread could be started")]
    Thread(#[source] io::Error),
}

impl From<BindError> for ServerError {
    fn from(BindError { address, source }: BindError) -> Self {
        Self::Bind { address, source }
    }
}
