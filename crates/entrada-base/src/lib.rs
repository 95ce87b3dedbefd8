//! The foundation of entrada: clocks, locks, timers, fast formatting and reused buffers; the parts that settings are made of
//! ([`settings`]); and the reasons for which a request is refused ([`refusal`]).

pub mod b64token;
pub mod buffers;
pub mod clock;
pub mod counts;
pub mod deadline;
pub mod error_chain;
pub mod fields;
pub mod fmt_fast;
pub mod generations;
pub mod header_names;
pub mod lock;
pub mod memo;
pub mod process_limits;
pub mod refusal;
pub mod response;
pub mod settings;
pub mod text;

pub use self::generations::Generations;
