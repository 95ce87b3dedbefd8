//! The named sets on the console.

use serde::Serialize;

use super::{AddressSet, AddressSets, Dated};

/// A named set, for the console.
#[derive(Debug, Serialize)]
pub(crate) struct AddressSetStatus {
    name: String,
    /// The number of ranges that are searched.
    ranges: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    change_number: Option<u64>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    expired: Vec<DatedStatus>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    expiring: Vec<DatedStatus>,
}

/// An entry with an expiry date.
#[derive(Debug, Serialize)]
struct DatedStatus {
    address: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    owner: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    expires: String,
}

impl From<&Dated> for DatedStatus {
    fn from(dated: &Dated) -> Self {
        let text = |text: &Option<Box<str>>| text.as_deref().map(str::to_owned);
        Self {
            address: dated.address.to_string(),
            owner: text(&dated.owner),
            reason: text(&dated.reason),
            expires: dated.expires.to_string(),
        }
    }
}

impl AddressSet {
    fn status(&self, name: &str, now: u64) -> AddressSetStatus {
        let (expired, expiring): (Vec<_>, Vec<_>) = self.dated().iter().partition(|dated| dated.expires.end() <= now);
        AddressSetStatus {
            name: name.to_owned(),
            ranges: self.ranges(),
            change_number: self.change_number(),
            expired: expired.into_iter().map(DatedStatus::from).collect(),
            expiring: expiring.into_iter().map(DatedStatus::from).collect(),
        }
    }
}

impl AddressSets {
    /// Returns all named sets, for the console.
    pub(crate) fn status(&self, now: u64) -> Vec<AddressSetStatus> {
        self.by_name.iter().map(|(name, set)| set.status(name, now)).collect()
    }
}
