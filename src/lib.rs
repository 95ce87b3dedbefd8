//! entrada: an authenticating reverse proxy for Microsoft Entra ID.
//!
//! The command `entrada` is the usual way to run it. Applications can embed it:
//!
//! - [`Gateway`] is the whole gateway as a `tower::Service`, to be mounted in a router.
//! - [`AuthorizeLayer`] puts routes and policies before a service of one's own, which finds [`Caller`], [`Token`] and [`Partner`] in
//!   the extensions of a request.
//! - [`Server`] runs the gateway with its listeners, as the command does.
//! - [`dev_tenant`] issues tokens for tests.
//!
//! # The way of a request
//!
//! Every request is one `Exchange` that passes these stations once, in this order:
//!
//! 1. `listener`: sockets, TLS, HTTP/1 and HTTP/2, their limits and deadlines
//! 2. `caller`: the address of the caller
//! 3. `route`: host, then path, then method
//! 4. `inbound`: the policies on the request, one file each
//! 5. `authorization`: the `Authorization` that the upstream receives; `identity`: its other header fields about the caller
//! 6. `upstream`: pools, TLS, balancing, deadlines
//! 7. `outbound`: the policies on the response
//! 8. `audit`: the record of the request, whatever the outcome
//!
//! A route of the kind `token_relay` leads to the tenant's token endpoint, and not to an upstream.
//!
//! The incoming request is parsed strictly, once (`request`); the request to the upstream is built anew from the parts that may
//! pass. A refusal has a `Reason` with a stable code. The rules are in a
//! `Runtime`, compiled once from the `config` and swapped whole.

#![cfg_attr(test, allow(clippy::large_futures, reason = "that of a test carries no requests"))]
#![cfg_attr(
    not(feature = "unstable"),
    allow(
        dead_code,
        unreachable_pub,
        unused_imports,
        reason = "these lints apply where the modules can be reached, as tests reach them"
    )
)]

// By layer, the lowest first: each names only those before it, which `tests/it/layers.rs` enforces. The lowest are crates of their
// own. All but what is exported below is private; what is `pub` in a module is for the modules above it.
use entrada_base::{self as base, refusal, settings};
pub use entrada_dev_tenant as dev_tenant;
use entrada_entra::{credentials, entra, graph, identity_http};
use entrada_http::{connection, listener, upstream};
use entrada_redis as redis;
use entrada_x509 as certificate;

mod telemetry;

mod address;

mod request;

mod caller;

mod limits;

mod partner;

mod expression;

mod outgoing;

mod exchange;

mod authorization;

mod inbound;

mod identity;

mod outbound;

mod token_relay;

mod route;

mod audit;

mod decision;

mod config;

mod gateway;

mod offline;

mod explain;

mod difference;

mod replay;

mod cases;

mod admin;

mod server;

mod embedding;

#[doc(hidden)]
pub mod cli;

pub use self::{
    base::clock::Clock,
    config::{Document, Report, schema, test_schema},
    embedding::{AuthorizeLayer, AuthorizeService, Caller, Gateway, Partner, Peer, ResponseBody, Token},
    gateway::candidate::Sample as CandidateSample,
    refusal::Reason,
    server::{Server, ServerError, ServerOptions},
    settings::Finding,
};

/// Entry points of fuzz targets, benchmarks and the integration tests. Nothing here is stable.
#[cfg(feature = "unstable")]
#[doc(hidden)]
pub mod unstable {
    macro_rules! reexport {
        ($($name:ident)*) => { $(pub mod $name { pub use crate::$name::*; })* };
    }

    reexport! { base settings refusal certificate connection listener upstream identity_http entra credentials graph telemetry address request caller limits partner expression exchange authorization inbound identity outbound token_relay route audit decision config gateway offline explain difference replay admin server }
}
