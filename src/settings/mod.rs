//! The toolkit of settings: YAML with places, faults, units and secrets, for any config.
//!
//! Nothing here knows the content of a config: the settings of a stage stand beside that stage, and the document is assembled in
//! [`config`](crate::config).

pub(crate) mod blank;
pub(crate) mod deserialize;
pub(crate) mod fault;
pub(crate) mod finding;
pub(crate) mod node;
pub(crate) mod origin;
pub(crate) mod parts;
pub(crate) mod secret;
pub(crate) mod suggest;
pub(crate) mod units;
pub mod watch;
pub(crate) mod yaml;

pub(crate) use self::finding::Finding;
pub use self::{
    fault::{Fault, Faults, Place, Severity},
    secret::{HeaderText, LiveSecret, Secret, Secrets, UnknownSecret},
    units::{Day, Size, Span},
};
