//! Admits or refuses callers by network address.
//!
//! ```yaml
#![doc = include_str!("../../config/policies/ip-filter.yaml")]
//! ```

use std::{net::IpAddr, sync::Arc};

use schemars::JsonSchema;
use serde::Deserialize;

use super::settings::PolicySettings;
use super::{build_context::BuildContext, mode::ModeConfig};
use crate::{
    address::{AddressEntryConfig, AddressSet},
    base::clock::Clock,
    exchange::Exchange,
    refusal::{Reason, Refusal, Stop},
    request::IncomingRequest,
    settings::{Lint, Place},
    upstream::UpstreamRequest,
};

/// Settings of `ip-filter`.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct IpFilterConfig {
    /// Whether only the listed addresses are admitted, or whether they are refused.
    pub action: Action,
    /// Addresses, CIDRs, ranges or names of address sets; at least one.
    pub addresses: Vec<AddressEntryConfig>,
    /// `report-only` records and counts refusals instead of enforcing them. Default: enforce.
    #[serde(default)]
    pub mode: ModeConfig,
    /// The address that is judged: the caller's, after trusted proxies, or that of the peer which made the connection. Default: caller.
    #[serde(default)]
    pub of: Of,
}

/// The address that is judged.
#[derive(Clone, Copy, Debug, Default, Deserialize, JsonSchema, PartialEq, Eq)]
#[serde(rename_all = "kebab-case")]
pub enum Of {
    /// The caller's, as trusted proxies state it.
    #[default]
    Caller,
    /// The peer's, as API Management sees it: of the last hop, or the source in its PROXY header.
    Peer,
}

/// The treatment of a listed address.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema, PartialEq, Eq)]
#[serde(rename_all = "kebab-case")]
pub enum Action {
    /// Only the listed addresses are admitted.
    Allow,
    /// The listed addresses are refused.
    Forbid,
}

/// Admits or refuses a caller by its address.
#[derive(Debug)]
pub struct IpFilter {
    action: Action,
    addresses: Arc<AddressSet>,
    of: Of,
}

impl PolicySettings for IpFilterConfig {
    fn judges(&self) -> bool {
        true
    }

    fn mode(&self) -> ModeConfig {
        self.mode
    }
}

impl IpFilter {
    /// Runs the policy on a request.
    ///
    /// # Errors
    /// Returns the refusal, or the gateway's own response, that ends the request.
    pub(crate) async fn run(
        &self,
        exchange: &mut Exchange,
        _incoming: &IncomingRequest,
        _outgoing: &mut UpstreamRequest,
    ) -> Result<(), Stop> {
        Ok(self.check(exchange)?)
    }

    pub(crate) fn build(config: &IpFilterConfig, place: &Place, context: &mut BuildContext<'_>) -> Option<Self> {
        let place = place.key("addresses");
        if config.addresses.is_empty() {
            let effect = match config.action {
                Action::Allow => "every caller would be refused",
                Action::Forbid => "no caller would be refused",
            };
            context.faults.error(&place, format!("the list is empty, so {effect}"), "list at least one address");
            return None;
        }
        let addresses = AddressSet::build(&config.addresses, &place, context.sets, context.faults)?;
        if config.action == Action::Allow && addresses.is_empty() {
            context.faults.warning(
                Lint::FilterRefusesEveryone,
                &place,
                "the named sets are empty, so every caller is refused",
                "fill them, or remove the policy",
            );
        }
        if addresses.holds_a_whole_family() {
            let (lint, effect) = match config.action {
                Action::Allow => (Lint::FilterAdmitsEveryone, "so every such caller is admitted"),
                Action::Forbid => (Lint::FilterRefusesEveryone, "so every such caller is refused"),
            };
            let message = format!("every address of a family is listed, {effect}");
            context.faults.warning(lint, &place, message, "list the networks that are meant, or remove the policy");
        }
        Some(Self { action: config.action, addresses, of: config.of })
    }

    /// Returns whether the caller's address is judged, and not the peer's.
    pub(crate) fn judges_caller(&self) -> bool {
        self.of == Of::Caller
    }

    pub(crate) fn check(&self, exchange: &Exchange) -> Result<(), NotAllowed> {
        let address = match self.of {
            Of::Caller => exchange.caller_address(),
            Of::Peer => exchange.connection.peer.ip(),
        };
        self.judge(address, &exchange.clock)
    }

    /// Returns whether another filter refuses every caller that this one would refuse.
    pub(super) fn refuses_nobody_behind(&self, other: &Self) -> bool {
        match (other.action, self.action) {
            (Action::Allow, Action::Allow) => self.addresses.covers_all_of(&other.addresses),
            (Action::Forbid, Action::Forbid) => other.addresses.covers_all_of(&self.addresses),
            (Action::Allow, Action::Forbid) => !other.addresses.meets(&self.addresses),
            // Whatever is not forbidden and not listed here is refused here.
            (Action::Forbid, Action::Allow) => false,
        }
    }

    /// Returns whether this filter refuses every caller that another one admits.
    pub(super) fn refuses_everybody_behind(&self, other: &Self) -> bool {
        match (other.action, self.action) {
            (Action::Allow, Action::Allow) => !other.addresses.meets(&self.addresses),
            (Action::Forbid, Action::Allow) => other.addresses.covers_all_of(&self.addresses),
            (Action::Allow, Action::Forbid) => self.addresses.covers_all_of(&other.addresses),
            (Action::Forbid, Action::Forbid) => false,
        }
    }

    /// Judges an address.
    pub(crate) fn judge(&self, caller: IpAddr, clock: &Clock) -> Result<(), NotAllowed> {
        let listed = self.addresses.contains(caller, clock);
        match self.action {
            Action::Allow if !listed => Err(NotAllowed::Unlisted(caller)),
            Action::Forbid if listed => Err(NotAllowed::Listed(caller)),
            Action::Allow | Action::Forbid => Ok(()),
        }
    }
}

/// An error: the caller's address is not admitted.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotAllowed {
    /// The address is not among those admitted.
    #[error("{0} is not among the allowed addresses")]
    Unlisted(IpAddr),
    /// The address is among those refused.
    #[error("{0} is among the forbidden addresses")]
    Listed(IpAddr),
}

impl From<NotAllowed> for Refusal {
    fn from(error: NotAllowed) -> Self {
        Self::new(Reason::CallerAddressNotAllowed, error)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::{inbound::testing::Building, request::ReservedNames, settings::Faults};

    fn filter(yaml: &str) -> Result<IpFilter, Vec<String>> {
        let config: IpFilterConfig = crate::settings::testing::part(yaml);
        Building::default().build(|place, context| IpFilter::build(&config, place, context))
    }

    fn admits(filter: &IpFilter, address: &str) -> bool {
        filter.judge(address.parse().unwrap(), &Clock::manual(0)).is_ok()
    }

    #[test]
    fn allow_admits_the_listed_alone_and_forbid_all_others() {
        let list = "[192.0.2.7, 203.0.113.0/24, 198.51.100.10-198.51.100.40, '2001:db8::/32']";
        let allow = filter(&format!("{{ action: allow, addresses: {list} }}")).unwrap();
        let forbid = filter(&format!("{{ action: forbid, addresses: {list} }}")).unwrap();
        for (address, listed) in [
            ("192.0.2.7", true),
            ("192.0.2.6", false),
            ("192.0.2.8", false),
            ("::ffff:192.0.2.7", true),
            ("203.0.113.0", true),
            ("203.0.113.255", true),
            ("203.0.112.255", false),
            ("203.0.114.0", false),
            ("198.51.100.9", false),
            ("198.51.100.10", true),
            ("198.51.100.40", true),
            ("198.51.100.41", false),
            ("2001:db8::", true),
            ("2001:db8:ffff:ffff:ffff:ffff:ffff:ffff", true),
            ("2001:db9::", false),
            ("::192.0.2.7", false),
            ("::1", false),
            ("127.0.0.1", false),
        ] {
            assert_eq!(admits(&allow, address), listed, "{address}");
            assert_eq!(admits(&forbid, address), !listed, "{address}");
        }
    }

    #[test]
    fn several_filters_all_hold() {
        let filters = ["{ action: allow, addresses: [192.0.2.0/24] }", "{ action: forbid, addresses: [192.0.2.7] }"]
            .map(|yaml| filter(yaml).unwrap());

        for (address, expected) in [("192.0.2.6", true), ("192.0.2.7", false), ("198.51.100.1", false)] {
            assert_eq!(filters.iter().all(|filter| admits(filter, address)), expected, "{address}");
        }
    }

    #[test]
    fn an_expired_entry_no_longer_counts_either_way() {
        let list = "[{ address: 192.0.2.7, expires: 1970-01-01 }]";
        let allow = filter(&format!("{{ action: allow, addresses: {list} }}")).unwrap();
        let forbid = filter(&format!("{{ action: forbid, addresses: {list} }}")).unwrap();
        let (clock, caller) = (Clock::manual(86_399), "192.0.2.7".parse().unwrap());

        assert!(allow.judge(caller, &clock).is_ok() && forbid.judge(caller, &clock).is_err());
        clock.advance(Duration::from_secs(1));
        assert!(allow.judge(caller, &clock).is_err() && forbid.judge(caller, &clock).is_ok());
    }

    #[test]
    fn the_refusal_tells_the_operator_which_address_it_was() {
        let refusal = Refusal::from(
            filter("{ action: allow, addresses: [192.0.2.7] }")
                .unwrap()
                .judge("192.0.2.8".parse().unwrap(), &Clock::manual(0))
                .unwrap_err(),
        );

        assert_eq!(refusal.reason, Reason::CallerAddressNotAllowed);
        assert_eq!(refusal.into_parts().cause.unwrap().to_string(), "192.0.2.8 is not among the allowed addresses");
    }

    #[test]
    fn lists_that_cannot_be_meant_are_faults() {
        for (yaml, fault) in [
            ("{ action: allow, addresses: [] }", "the list is empty, so every caller would be refused"),
            ("{ action: forbid, addresses: [] }", "the list is empty, so no caller would be refused"),
            ("{ action: allow, addresses: [10.1.2.3/8] }", "`10.1.2.3/8`: the address has host bits set beyond the prefix"),
            ("{ action: allow, addresses: [192.0.2.9-192.0.2.1] }", "`192.0.2.9-192.0.2.1`: the range begins after its end"),
            ("{ action: allow, addresses: [offices] }", "there is no address set `offices`"),
        ] {
            assert_eq!(filter(yaml).unwrap_err(), [fault], "{yaml}");
        }
        let mut faults = Faults::default();
        for (action, effect) in [("forbid", "refused"), ("allow", "admitted")] {
            let config: IpFilterConfig =
                crate::settings::testing::part(&format!("{{ action: {action}, addresses: [0.0.0.0/1, 128.0.0.0/1] }}"));
            let build = |place: &Place, context: &mut BuildContext<'_>| IpFilter::build(&config, place, context);
            assert!(Building::default().build_with(&mut ReservedNames::default(), &mut faults, build).is_some());
            let message = format!("every address of a family is listed, so every such caller is {effect}");
            assert!(faults.iter().any(|fault| fault.message == message));
        }
    }
}
