//! 1 · Listener: sockets, TLS, HTTP/1 and HTTP/2 with their limits, drain.

mod config;

pub use config::{ForwardedHeader, LimitsConfig, ListenerConfig, OneOrMany, TlsConfig};
