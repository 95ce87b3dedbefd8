//! Trusted peers: by their addresses, and where others use those addresses as well, also by a header field.

use std::{collections::BTreeMap, net::IpAddr, sync::Arc};

use http::{HeaderName, HeaderValue};

use super::TrustedProxyConfig;
use crate::{
    address::{AddressEntryConfig, AddressSet, AddressSets},
    base::{clock::Clock, fields::Fields},
    settings::{Faults, Lint, Place},
};

/// Trusted peers, and the header fields that their requests must carry.
#[derive(Debug)]
pub(crate) struct TrustedGroup {
    addresses: Arc<AddressSet>,
    required: Vec<(HeaderName, Vec<HeaderValue>)>,
}

/// The purpose of the trust, for messages about lists that trust everybody.
#[derive(Clone, Copy, Debug)]
pub(crate) struct TrustPurpose {
    /// The reason why not every address of a family may be trusted.
    pub(crate) everybody: &'static str,
    /// The peers to list instead.
    pub(crate) cure: &'static str,
}

impl TrustPurpose {
    /// The caller's address.
    pub(super) const ADDRESS: Self = Self {
        everybody: "every address of a family is trusted, so every caller could choose its own address",
        cure: "list the proxies alone",
    };
}

impl TrustedGroup {
    /// Builds trusted peers: `addresses` stand at the first place, the entry with its `require-header` at the second.
    pub(crate) fn build(
        addresses: &[AddressEntryConfig],
        required: &BTreeMap<String, Vec<String>>,
        (list, place): (&Place, &Place),
        purpose: TrustPurpose,
        sets: &AddressSets,
        faults: &mut Faults,
    ) -> Option<Self> {
        let required = read_required(required, &place.key("require-header"), faults);
        if let (Some(name), Some([])) = (sets.front_door(addresses), required.as_deref()) {
            let message = format!("`{name}` are the addresses of all customers of Front Door, and each of them is believed");
            faults.warning(
                Lint::FrontDoorWithoutId,
                list,
                message,
                "add `require-header: { X-Azure-FDID: [the id of your profile] }`",
            );
        }
        let addresses = AddressSet::build(addresses, list, sets, faults)?;
        if addresses.holds_a_whole_family() {
            faults.error(list, purpose.everybody, purpose.cure);
            return None;
        }
        Some(Self { addresses, required: required? })
    }

    /// Builds a list of trusted peers, any of which is enough.
    pub(crate) fn list(
        written: &[TrustedProxyConfig],
        place: &Place,
        purpose: TrustPurpose,
        sets: &AddressSets,
        faults: &mut Faults,
    ) -> Vec<Self> {
        let mut any = Vec::new();
        let mut everything = Vec::new();
        for (index, entry) in written.iter().enumerate() {
            let place = place.index(index);
            let (addresses, list, required) = match entry {
                TrustedProxyConfig::Text(text) => (vec![AddressEntryConfig::Text(text.clone())], &place, None),
                TrustedProxyConfig::Noted(noted) => (vec![AddressEntryConfig::Noted(noted.clone())], &place, None),
                TrustedProxyConfig::Group(group) => {
                    (group.addresses.clone(), &place.key("addresses"), Some(&group.require_header))
                }
            };
            // One entry of its own is a list of one: its faults are told at the entry.
            let mut own = Faults::default();
            let group = Self::build(&addresses, required.unwrap_or(&BTreeMap::new()), (list, &place), purpose, sets, &mut own);
            for mut fault in own.iter().cloned() {
                if let Some(rest) = fault.place.pointer().strip_prefix(place.index(0).pointer()) {
                    fault.place = Place::from(format!("{}{rest}", place.pointer()));
                }
                faults.add(fault);
            }
            everything.extend(addresses);
            any.extend(group);
        }
        // However a whole family is put together from several entries: where one of them is one already, that was told.
        if any.len() == written.len() {
            let all = AddressSet::build(&everything, place, sets, &mut Faults::default());
            if all.is_some_and(|all| all.holds_a_whole_family()) {
                faults.error(place, purpose.everybody, purpose.cure);
            }
        }
        any
    }

    /// Returns whether these peers are identified by address alone, which is all that is known when a connection begins.
    pub(super) const fn may_introduce(&self) -> bool {
        self.required.is_empty()
    }

    /// Returns whether a connection from this address may begin with a PROXY protocol header.
    pub(super) fn introduces(&self, address: IpAddr, clock: &Clock) -> bool {
        self.may_introduce() && self.addresses.contains(address, clock)
    }

    /// Returns whether the address is one of these peers'.
    pub(super) fn may_hold(&self, address: IpAddr, clock: &Clock) -> bool {
        self.addresses.contains(address, clock)
    }

    /// Returns whether the address is one of these peers', and the request carries the required header fields.
    pub(crate) fn holds(&self, address: IpAddr, headers: &Fields, clock: &Clock) -> bool {
        self.addresses.contains(address, clock) && self.required.iter().all(|(name, accepted)| {
            let mut values = headers.get_all(name);
            // Exactly one: of two it would not be known which the proxy wrote.
            matches!((values.next(), values.next()), (Some(value), None) if accepted.iter().any(|accepted| value == *accepted))
        })
    }
}

#[cfg(test)]
impl From<Arc<AddressSet>> for TrustedGroup {
    fn from(addresses: Arc<AddressSet>) -> Self {
        Self { addresses, required: Vec::new() }
    }
}

fn read_required(
    written: &BTreeMap<String, Vec<String>>,
    place: &Place,
    faults: &mut Faults,
) -> Option<Vec<(HeaderName, Vec<HeaderValue>)>> {
    let before = faults.errors();
    let mut required = Vec::new();
    for (name, values) in written {
        let place = place.key(name);
        let Ok(name) = HeaderName::from_bytes(name.as_bytes()) else {
            faults.error(&place, format!("`{name}` is not a header name"), "use letters, digits and `-`");
            continue;
        };
        if values.is_empty() {
            faults.error(&place, "no value is listed, so the proxies would never be believed", "list the accepted values");
        }
        let mut accepted = Vec::new();
        for (index, value) in values.iter().enumerate() {
            match HeaderValue::from_str(value) {
                Ok(value) if !value.is_empty() => accepted.push(value),
                _ => {
                    faults.error(&place.index(index), format!("`{value}` is not a header value"), "write the value as it is sent")
                }
            }
        }
        required.push((name, accepted));
    }
    (faults.errors() == before).then_some(required)
}
