//! Tools that know nothing of the gateway: time, locks, timers, fast formatting, reused buffers.

pub mod b64token;
pub(crate) mod buffers;
pub mod clock;
pub(crate) mod deadline;
pub(crate) mod error_chain;
pub(crate) mod fmt_fast;
pub(crate) mod generations;
pub mod header_names;
pub(crate) mod lock;
pub(crate) mod process_limits;
pub mod text;

pub(crate) use self::generations::Generations;
