//! Whole-gateway tests: requests go in over a socket, and what counts is what the upstream really received.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed, and says where")]

mod acquire;
mod admin;
mod admin_reload;
mod app_proxy;
mod assertion;
mod broken_answers;
mod check;
mod client_certificate;
mod config;
mod connections;
mod coverage;
mod framing;
mod hostile;
mod http2_upstream;
mod identity;
mod key_life;
mod listener_certificates;
mod lookups;
mod metadata;
mod methods;
mod own_identity;
mod partner;
mod places;
mod policies;
mod proxy_protocol;
mod reference;
mod refusals;
mod reload;
mod secrecy;
mod shared_lists;
mod signals;
mod strictness;
mod support;
mod token;
mod token_codes;
mod token_endpoint;
mod token_relay;
mod upstream;
mod way;
mod windows_backend;
