//! Whole-gateway tests: requests go in over a socket, and what counts is what the upstream really received.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed, and says where")]

mod acquire;
mod admin;
mod check;
mod config;
mod coverage;
mod framing;
mod identity;
mod key_life;
mod partner;
mod policies;
mod refusals;
mod reload;
mod support;
mod token;
mod token_codes;
mod upstream;
mod way;
