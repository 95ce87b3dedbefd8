//! The values that a setting may hold, secrets among them, for trials that are never shown.

use secrecy::ExposeSecret as _;

use crate::settings::{HeaderText, Secrets};

/// Returns the value of a setting with its secrets inserted; `None` if a vault holds one of them. It is for a request that is tried,
/// and for nothing that is shown.
pub(crate) fn revealed(value: &HeaderText, secrets: &Secrets) -> Option<String> {
    value.reveal(secrets).ok().map(|text| text.expose_secret().to_owned())
}
