//! HTTP/1 and HTTP/2 on both sides of a gateway: connections ([`connection`]), listeners that serve a service ([`listener`]), and
//! pooled connections to upstream servers ([`upstream`]). Nothing in here knows of identities or policies.

pub mod connection;
mod field_lines;
pub mod listener;
pub mod upstream;

use entrada_base::{self as base, refusal, settings};
use entrada_x509 as certificate;
