//! A question of another proxy, which the request of an exchange was described in.

use std::sync::Arc;

use crate::{base::fields::Fields, listener::Connection};

/// The facts of a question: the asking proxy, and the answer for it.
#[derive(Debug)]
pub struct Asked {
    /// The name of the dialect.
    pub dialect: &'static str,
    /// The connection of the proxy that asks.
    pub connection: Arc<Connection>,
    /// Whether the routes, by their index, are decided here.
    pub routes: Arc<[bool]>,
    /// The header that the proxy has, with what no policy gets to see.
    pub received: Fields,
    /// The header that the backend is to receive, once the request is admitted.
    pub admitted: Option<Fields>,
}

impl Asked {
    /// Returns whether requests of the route with this index are decided.
    pub(crate) fn decides(&self, route: usize) -> bool {
        self.routes.get(route).copied().unwrap_or(false)
    }
}
