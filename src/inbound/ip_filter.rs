//! Admits or refuses callers by network address.

use std::{net::IpAddr, sync::Arc};

use schemars::JsonSchema;
use serde::Deserialize;

use super::Scope;
use crate::{
    address::{AddressEntryConfig, AddressSet},
    config::Place,
    exchange::Exchange,
    refusal::{Reason, Refusal},
};

/// Settings of `ip-filter`.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct IpFilterConfig {
    /// Whether the listed addresses are the only ones admitted, or the ones refused.
    pub action: Action,
    /// Addresses, CIDRs, ranges or names of address sets; at least one.
    pub addresses: Vec<AddressEntryConfig>,
}

/// What becomes of a listed address.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema, PartialEq, Eq)]
#[serde(rename_all = "kebab-case")]
pub enum Action {
    /// Only the listed are admitted.
    Allow,
    /// The listed are refused.
    Forbid,
}

/// Admits or refuses a caller by its address.
#[derive(Debug)]
pub struct IpFilter {
    action: Action,
    addresses: Arc<AddressSet>,
}

impl IpFilter {
    pub(crate) fn build(config: &IpFilterConfig, place: &Place, scope: &mut Scope<'_>) -> Option<Self> {
        let addresses = AddressSet::build(&config.addresses, &place.key("addresses"), scope.sets, scope.faults)?;
        Some(Self { action: config.action, addresses })
    }

    pub(crate) fn check(&self, exchange: &Exchange) -> Result<(), NotAllowed> {
        let caller = exchange.caller_address();
        if self.addresses.contains(caller, exchange.clock()) == (self.action == Action::Allow) {
            Ok(())
        } else {
            Err(NotAllowed(caller))
        }
    }
}

/// The caller's address is not admitted.
#[derive(Debug, thiserror::Error)]
#[error("{0} is not an allowed address")]
pub struct NotAllowed(IpAddr);

impl From<NotAllowed> for Refusal {
    fn from(error: NotAllowed) -> Self {
        Self::new(Reason::CallerAddressNotAllowed, error)
    }
}
