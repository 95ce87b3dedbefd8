//! entrada: an authenticating reverse proxy for Microsoft Entra ID.
//!
//! One request is one [`Exchange`](exchange::Exchange) that walks one way, once, in this order:
//!
//! 1. [`listener`]: sockets, TLS, HTTP/1 and HTTP/2, their limits and deadlines
//! 2. [`caller`]: whose address this is
//! 3. [`route`]: host, then path, then method
//! 4. [`inbound`]: the policies on the request, one file each
//! 5. [`authorization`]: what the upstream gets to see as `Authorization`; [`identity`]: what else it is told of who calls
//! 6. [`upstream`]: pools, TLS, balancing, deadlines
//! 7. [`outbound`]: the policies on the answer
//! 8. [`audit`]: the record of the request, whatever the outcome
//!
//! A route of the kind [`token_relay`] leads to the tenant's token endpoint, and not to an upstream.
//!
//! The request is read once ([`request`]) and never changed; the upstream's is built anew from what may pass. What refuses it
//! is a [`Reason`](refusal::Reason) with a stable code. The rules stand in a [`Runtime`](gateway::runtime::Runtime), compiled once from
//! the [`config`] and swapped whole.
//!
//! The modules stand below in their layers, the lowest first: each names those before it alone. `tests/it/layers.rs` holds them to it.

pub mod base;

pub mod settings;

pub mod refusal;

pub mod certificate;

pub mod connection;

pub mod listener;

pub mod upstream;

pub mod identity_http;

pub mod entra;

pub mod credentials;

pub mod graph;

pub mod telemetry;

pub mod address;

pub mod request;

pub mod caller;

pub mod limits;

pub mod partner;

pub mod expression;

pub mod outgoing;

pub mod exchange;

pub mod authorization;

pub mod inbound;

pub mod identity;

pub mod outbound;

pub mod token_relay;

pub mod route;

pub mod audit;

pub mod config;

pub mod gateway;

pub mod admin;

pub mod server;

pub mod dev_tenant;

pub mod cli;
