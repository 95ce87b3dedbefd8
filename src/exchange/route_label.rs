//! The route of a request, as its policies know it: index and name.

use std::sync::Arc;

/// The names of a config's routes, by index. Each worker has its own handle, so that reference counts are not contended between cores.
#[derive(Clone, Debug)]
pub struct RouteNames(Arc<Arc<[Arc<str>]>>);

impl RouteNames {
    /// Makes a worker's handle.
    pub fn new(names: &Arc<[Arc<str>]>) -> Self {
        Self(Arc::new(names.clone()))
    }
}

/// The route that was found for a request.
#[derive(Clone, Debug)]
pub struct RouteLabel {
    /// Its index in the runtime.
    pub index: usize,
    names: RouteNames,
}

impl RouteLabel {
    /// Makes the label of the route with this index.
    pub fn new(index: usize, names: &RouteNames) -> Self {
        Self { index, names: names.clone() }
    }

    /// Returns its name.
    pub fn name(&self) -> &Arc<str> {
        &self.names.0[self.index]
    }
}
