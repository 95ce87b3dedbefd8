//! What the backend is told of who calls, besides `Authorization`.
//!
//! Everything here is made from what policies have validated, after the last of them has run. The names are
//! [reserved](crate::request::Reserved): on no route, open ones included, does a caller's own field of such a name go further.

mod assertion;
mod encoding;
mod headers;
mod keys;

pub use self::{
    assertion::{BackendAssertion, BackendAssertionConfig},
    encoding::{Encoding, NonAscii},
    headers::{IdentityHeaderConfig, IdentityHeaders},
    keys::{AssertionKeys, AssertionKeysConfig},
};
