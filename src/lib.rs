//! entrada: an authenticating reverse proxy for Microsoft Entra ID.
//!
//! Every request is one [`Exchange`](exchange::Exchange) that passes these stations once, in this order:
//!
//! 1. [`listener`]: sockets, TLS, HTTP/1 and HTTP/2, their limits and deadlines 2. [`caller`]: the address of the caller 3.
//! [`route`]: host, then path, then method 4. [`inbound`]: the policies on the request, one file each 5. [`authorization`]: the
//! `Authorization` that the upstream receives; [`identity`]: its other header fields about the caller 6. [`upstream`]: pools,
//! TLS, balancing, deadlines 7. [`outbound`]: the policies on the response 8. [`audit`]: the record of the request, whatever the
//! outcome
//!
//! A route of the kind [`token_relay`] leads to the tenant's token endpoint, and not to an upstream.
//!
//! The incoming request is parsed strictly, once ([`request`]); the request to the upstream is built anew from the parts that may
//! pass. A refusal has a [`Reason`](refusal::Reason) with a stable code. The rules are in a
//! [`Runtime`](gateway::runtime::Runtime), compiled once from the [`config`] and swapped whole.
//!
//! The modules are listed below by layer, the lowest first: each names only those before it. `tests/it/layers.rs` enforces it.

pub mod base;

pub mod settings;

pub mod refusal;

pub mod certificate;

pub mod dev_tenant;

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

pub mod embedding;

pub use self::{
    config::Document,
    embedding::{AuthorizeLayer, AuthorizeService, Caller, Gateway, Partner, Peer, Token},
    server::{Server, ServerError, ServerOptions},
};

pub mod cli;
