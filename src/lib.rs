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
//! is a [`Reason`](refusal::Reason) with a stable code. The rules stand in a [`Runtime`](runtime::Runtime), compiled once from
//! the [`config`] and swapped whole.

pub mod answer;
pub mod exchange;
pub mod gateway;
pub mod refusal;
pub mod runtime;
pub mod server;
pub mod trace;

pub mod listener;

pub mod request;

pub mod caller;

pub mod route;

pub mod inbound;

pub mod authorization;

pub mod identity;

pub mod token_relay;

pub mod upstream;

pub mod outbound;

pub mod audit;

pub mod entra;

pub mod identity_http;

pub mod address;

pub mod partner;

pub mod expression;

pub mod limits;

pub mod credentials;

pub mod config;

mod calendar;

mod causes;

pub mod clock;

mod deadline;

mod digits;

mod lock;

mod process_limits;

mod recycled;

pub mod telemetry;

pub mod admin;

pub mod cli;

pub mod dev_tenant;
