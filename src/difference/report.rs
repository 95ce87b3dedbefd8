//! The result of a comparison, as it is shown and written.

use serde::Serialize;
use serde_json::Value;

use super::space::AddressSpace;
use crate::explain::Position;

/// The differences between two configs.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Difference {
    /// Whether every difference is told that does not depend on counters, on outside answers or on what `unknown` lists.
    pub complete: bool,
    /// The reasons why it is not complete.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub cut_short: Vec<String>,
    /// The number of parts into which the requests were cut.
    pub cells: usize,
    /// The number of routes of the new config, and of those that have the same rules as before.
    pub routes: Routes,
    /// The callers that gain or lose access.
    pub groups: Vec<Group>,
    /// The changes of what happens to requests that both configs serve, and of how the others are refused.
    pub treatment: Vec<Treatment>,
    /// The changes that are not compared, as limits.
    pub not_compared: Vec<String>,
    /// Differences that may exist, of which no example was found.
    pub unknown: Vec<Unknown>,
    /// Whether no requests at all were found on which the rules of both end differently.
    #[serde(skip)]
    pub(crate) same_rules: bool,
}

/// The number of routes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Routes {
    /// Those of the new config.
    pub all: usize,
    /// Those with the same rules as before; absent where not all was compared.
    pub same: Option<usize>,
}

/// `gain` or `loss`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Change {
    /// Requests that were refused are served.
    Gain,
    /// Requests that were served are refused.
    Loss,
}

impl Change {
    /// Returns its name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Gain => "gain",
            Self::Loss => "loss",
        }
    }
}

/// Callers that gain or lose access for one reason.
#[derive(Clone, Debug, Serialize)]
pub struct Group {
    /// Whether they gain or lose.
    pub change: Change,
    /// The routes: by their names in the config that serves the requests.
    pub routes: Vec<String>,
    /// The methods; empty for all.
    pub methods: Vec<String>,
    /// The hosts.
    pub hosts: Vec<String>,
    /// The paths of examples.
    pub paths: Vec<String>,
    /// The callers' addresses.
    pub callers: Callers,
    /// The tokens, in words; each text is one kind of caller.
    pub tokens: Vec<String>,
    /// Further facts of the requests: header fields, conditions, certificates.
    pub condition: Vec<Condition>,
    /// The time from which on it is so, if that is later than now.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    /// The verdict of the old config.
    pub before: Verdict,
    /// The verdict of the new config.
    pub after: Verdict,
    /// The settings that differ.
    pub places: Vec<ChangedPlace>,
    /// A request that both configs have judged.
    pub witness: Witness,
    /// The callers' addresses, exactly.
    #[serde(skip)]
    pub(crate) space: AddressSpace,
}

/// Addresses of callers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Callers {
    /// The ranges, in words.
    pub addresses: Vec<String>,
    /// Their number, or the greatest that is told: 2^64 - 1.
    pub count: u64,
}

/// A fact of the requests.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Condition {
    /// The fact, in words.
    pub text: String,
    /// Whether it holds.
    pub value: bool,
}

/// A verdict, and the entry that gave it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Verdict {
    /// `allow`, `refuse`, `answer` or `fault`.
    pub verdict: &'static str,
    /// The code of a refusal.
    pub code: Option<String>,
    /// The entry.
    pub at: Option<String>,
    /// The place of the entry.
    pub place: Option<Position>,
    /// Where an admitted request goes.
    pub to: Option<String>,
}

/// A setting that differs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ChangedPlace {
    /// `old` or `new`: the config in which it is.
    pub config: &'static str,
    /// Its place.
    pub place: Option<Position>,
    /// The path of the setting.
    pub pointer: String,
    /// The change, in words.
    pub what: String,
}

/// A request that both configs have judged.
#[derive(Clone, Debug, Serialize)]
pub struct Witness {
    /// The method, the URL, the address and the header fields.
    pub request: Value,
    /// The tokens, as `entrada explain --mint` takes them.
    pub token_spec: Vec<Value>,
    /// The request as a command; a token stands in it as `$TOKEN`.
    pub curl: String,
}

/// A change of what happens to requests that both configs serve.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Treatment {
    /// The route.
    pub route: String,
    /// The property that changes.
    pub what: String,
    /// Its value before.
    pub before: String,
    /// Its value after.
    pub after: String,
}

/// A difference that may exist.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Unknown {
    /// The place of the setting.
    pub place: String,
    /// The reason why no example was found.
    pub why: String,
}

impl Group {
    /// Returns whether callers at this address are among those of the group.
    pub fn holds(&self, address: std::net::IpAddr) -> bool {
        self.space.contains(address)
    }
}

impl Difference {
    /// Returns whether nobody gains or loses access.
    pub fn is_same_access(&self) -> bool {
        self.groups.is_empty() && self.unknown.is_empty() && self.complete
    }

    /// Returns whether the two configs decide and treat every request alike, as far as a comparison can prove.
    pub(crate) fn is_proven_same(&self) -> bool {
        self.same_rules && self.is_same_access() && self.treatment.is_empty() && self.not_compared.is_empty()
    }

    /// Returns the groups of one kind.
    pub fn of(&self, change: Change) -> impl Iterator<Item = &Group> {
        self.groups.iter().filter(move |group| group.change == change)
    }
}
