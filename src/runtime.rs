//! A config, compiled: immutable, swapped whole.

use crate::clock::Clock;

/// All that requests are judged by, made once from a config.
#[derive(Debug)]
pub struct Runtime {
    /// Where the time comes from.
    pub clock: Clock,
}
