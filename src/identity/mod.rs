//! The caller's identity for the backend, besides `Authorization`.
//!
//! Everything here is made from values that policies have validated, after the last policy has run. The names are
//! [reserved](crate::request::Reserved): on every route, open ones included, callers' own fields of these names are removed.

mod assertion;
mod encoding;
mod headers;
mod jwk;
mod keys;

pub(crate) use self::assertion::X_ENTRADA_ASSERTION;
pub use self::{
    assertion::{BackendAssertion, BackendAssertionConfig},
    encoding::{Encoding, NonAscii},
    headers::{IdentityHeaderConfig, IdentityHeaders},
    keys::{AssertionKeys, AssertionKeysConfig},
};
pub(crate) use self::{
    jwk::{public_jwk, thumbprint},
    keys::SigningKey,
};
