//! The request that goes upstream, built anew from what may pass of the incoming one, and its header fields.

pub(crate) mod field;
mod request;
mod token_place;
