//! Tools that know nothing of the gateway: time, locks, timers, numbers as text, buffers that are used again.

pub(crate) mod causes;
pub mod clock;
pub(crate) mod deadline;
pub(crate) mod digits;
pub(crate) mod generations;
pub(crate) mod lock;
pub(crate) mod process_limits;
pub(crate) mod recycled;

pub(crate) use self::generations::Generations;
