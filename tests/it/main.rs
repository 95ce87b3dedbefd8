//! Whole-gateway tests: requests go in over a socket, and what counts is what the upstream really received.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed, and says where")]

mod acquire;
mod admin;
mod app_proxy;
mod assertion;
mod check;
mod config;
mod framing;
mod hostile;
mod identity;
mod partner;
mod policies;
mod reload;
mod support;
mod token;
mod token_relay;
mod upstream;
mod way;
