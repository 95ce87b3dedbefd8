//! A cell: the facts of a request that decide its route, and how it arrives.

use std::net::IpAddr;

use crate::connection::Scheme;

/// An address that a rule looks at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Address {
    /// Any: the one that varies.
    Any,
    /// This one.
    Known(IpAddr),
}

/// The arrival of a request at the gateway: its listener, and the proxy before it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Arrival {
    /// The listener in each config.
    pub(crate) listeners: [String; 2],
    pub(crate) tls: bool,
    /// The proxy that connects; `None` if the caller itself does.
    pub(crate) proxy: Option<IpAddr>,
    /// The addresses that the proxy writes besides the caller's, the last hop at last.
    pub(crate) hops: Vec<IpAddr>,
    /// Whether the proxy writes `Forwarded`, and not `X-Forwarded-For`.
    pub(crate) forwarded: bool,
    /// Fields that the proxy writes besides.
    pub(crate) fields: Vec<(String, String)>,
    /// Which caller each config sees.
    pub(crate) callers: [Address; 2],
    /// The scheme that each config sees.
    pub(crate) schemes: [Scheme; 2],
}

/// The facts that one config knows of a request before it runs a policy.
#[derive(Clone, Debug)]
pub(crate) struct Given {
    pub(crate) host: String,
    pub(crate) path: String,
    pub(crate) method: String,
    /// Whether a browser asks before it sends a request with this method.
    pub(crate) preflight: bool,
    pub(crate) captures: Vec<(String, String)>,
    pub(crate) scheme: Scheme,
    pub(crate) caller: Address,
    pub(crate) peer: Address,
    /// The name of the listener.
    pub(crate) listener: String,
    /// Header fields that are given with it.
    pub(crate) fields: Vec<(String, String)>,
}

impl Given {
    /// Returns what a part of the path was captured as.
    pub(crate) fn capture(&self, name: &str) -> Option<&str> {
        self.captures.iter().find(|(other, _)| other == name).map(|(_, text)| text.as_str())
    }

    /// Returns a header field that is given.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.fields.iter().find(|(other, _)| other == name).map(|(_, value)| value.as_str())
    }
}

/// Where a request leads before any policy runs.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Target {
    /// To the route with this index.
    Route(usize),
    /// Nowhere: it is refused with this code.
    Nowhere(&'static str),
}

/// Requests that differ in nothing that decides their routes.
#[derive(Clone, Debug)]
pub(crate) struct Cell {
    /// Where they lead in each config.
    pub(crate) targets: [Target; 2],
    pub(crate) host: String,
    pub(crate) path: String,
    pub(crate) method: String,
    pub(crate) preflight: bool,
    /// All hosts and methods of cells that were the same, this one's included.
    pub(crate) hosts: Vec<String>,
    pub(crate) methods: Vec<String>,
    pub(crate) paths: Vec<String>,
}
