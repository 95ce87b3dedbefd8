//! A request whose head was read, without the head.

use http::Extensions;

use super::{inner::Inner, tunnel::Downstream};
use crate::{connection::Scheme, listener::RequestBody};

/// A request whose head was read.
pub(super) struct Received {
    pub(super) body: RequestBody,
    /// The caller's connection, if the request asks to upgrade it.
    pub(super) upgrade: Option<Downstream>,
    /// The scheme of the request.
    pub(super) scheme: Scheme,
    /// The application's service behind the gateway, and the request's extensions.
    pub(super) inner: Option<Box<(Box<dyn Inner>, Extensions)>>,
}
