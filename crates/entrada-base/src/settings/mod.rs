//! The toolkit of settings: YAML with places, faults, units and secrets, for any config.
//!
//! Nothing here knows the content of a config: the settings of a stage stand beside that stage, and the document is assembled in
//! `config`.

pub mod blank;
pub mod deserialize;
pub mod fault;
pub(crate) mod finding;
mod lint;
pub mod node;
mod one_or_many;
pub mod origin;
pub mod parts;
pub mod secret;
mod secret_cell;
pub mod suggest;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
pub(crate) mod units;
pub mod watch;
pub mod yaml;

pub use self::finding::Finding;
pub use self::{
    fault::{Fault, Faults, Place, Severity},
    lint::{Lint, Topic},
    one_or_many::OneOrMany,
    secret::{HeaderText, LiveSecret, Secret, Secrets, UnknownSecret},
    secret_cell::{CurrentSecret, KeyVaultSecretConfig, SecretCell},
    units::{ConfigDuration, Date, Size},
};
