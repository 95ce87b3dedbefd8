//! The toolkit of settings: YAML with places, faults, units and secrets, for any config.
//!
//! Nothing here knows the content of a config: the settings of a stage stand beside that stage, and the document is assembled in
//! [`config`](crate::config).

pub(crate) mod blank;
pub(crate) mod deserialize;
pub(crate) mod fault;
pub(crate) mod finding;
pub(crate) mod node;
mod one_or_many;
pub(crate) mod origin;
pub(crate) mod parts;
pub(crate) mod secret;
mod secret_cell;
pub(crate) mod suggest;
#[cfg(test)]
pub(crate) mod testing;
pub(crate) mod units;
pub mod watch;
pub(crate) mod yaml;

pub use self::finding::Finding;
pub use self::{
    fault::{Fault, Faults, Place, Severity},
    one_or_many::OneOrMany,
    secret::{HeaderText, LiveSecret, Secret, Secrets, UnknownSecret},
    secret_cell::{CurrentSecret, KeyVaultSecretConfig, SecretCell},
    units::{ConfigDuration, Date, Size},
};
