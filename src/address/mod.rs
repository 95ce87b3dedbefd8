//! Sets of network addresses: how they are written, and how one is looked up.

use schemars::JsonSchema;
use serde::Deserialize;

/// One entry of a list of addresses: an address, a CIDR, a range `from-to`, or the name of an address set; or an object with the same and a note.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Eq)]
#[serde(untagged)]
pub enum AddressEntryConfig {
    /// `203.0.113.7`, `203.0.113.0/24`, `198.51.100.10-198.51.100.40`, `offices`.
    Text(String),
}

use std::{collections::BTreeMap, net::IpAddr, sync::Arc};

use crate::config::{Faults, Place};

/// A set of addresses, made once and looked up by binary search.
#[derive(Debug, Default)]
pub struct AddressSet {}

impl AddressSet {
    /// Builds the set that `entries` describe, where names stand for the sets in `named`; or says why not.
    pub fn build(
        entries: &[AddressEntryConfig],
        place: &Place,
        named: &BTreeMap<String, Arc<Self>>,
        faults: &mut Faults,
    ) -> Option<Arc<Self>> {
        let _ = (entries, place, named, faults);
        Some(Arc::default())
    }

    /// Whether the address is in the set. An IPv4-mapped IPv6 address is the IPv4 one.
    pub fn contains(&self, address: IpAddr) -> bool {
        address.is_loopback()
    }
}
