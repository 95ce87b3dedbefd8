//! 2 · Caller: whose address this is.

use std::net::IpAddr;

/// Whose address a request comes from, and how that is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    /// The caller's address; IPv4-mapped addresses are folded.
    pub address: IpAddr,
    /// Who said so.
    pub source: AddressSource,
}

/// Who said what the caller's address is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AddressSource {
    /// The connection itself.
    Peer,
    /// `X-Forwarded-For`, from a trusted proxy.
    XForwardedFor,
    /// `Forwarded`, from a trusted proxy.
    Forwarded,
}
