//! The request to the upstream, built anew from the forwardable parts of the incoming one, and its header fields.

pub(crate) mod field;
mod request;
mod token_place;

pub(crate) use self::request::{from_incoming, set_forwarding_headers, without_fields};
