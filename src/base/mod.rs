//! Tools that know nothing of the gateway: time, locks, timers, fast formatting, reused buffers.

pub(crate) mod causes;
pub mod clock;
pub(crate) mod deadline;
pub(crate) mod digits;
pub(crate) mod generations;
pub mod header_names;
pub(crate) mod lock;
pub(crate) mod process_limits;
pub(crate) mod recycled;
pub mod text;

pub(crate) use self::generations::Generations;
