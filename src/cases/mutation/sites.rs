//! The rules of a config that can be changed, and their changes.

use super::{
    Mutant, changes,
    edit::{Edit, at},
    values::KnownValues,
};
use crate::{
    address::{AddressEntryConfig, AddressSet},
    base::clock::Clock,
    cases::Suite,
    gateway::runtime::Runtime,
    settings::{
        ConfigDuration, Faults, Place,
        node::{Kind, Node},
    },
};

/// The maximum number of values of which one is added to a list.
const MOST_ADDITIONS: usize = 12;
/// The clock skew that token policies accept by default, and the longest that they may, in seconds.
const SKEW: u64 = 300;
const LONGEST_SKEW: u64 = 600;

/// Returns the mutants of a suite's config, in the order of the places.
pub(super) fn mutants(suite: &Suite, runtime: &Runtime, known: &KnownValues) -> Vec<Mutant> {
    let root = Place::root();
    let mut sites = Sites { values: &suite.values, runtime, known, mutants: Vec::new() };
    sites
        .each("listeners", |sites, place, _| sites.addresses(&place.key("trusted-proxies"), "trusted-proxies", Addresses::Peers));
    sites.each("address-sets", |sites, place, name| sites.addresses(place, &format!("address-sets.{name}"), Addresses::Callers));
    sites.each("partners", Sites::partner);
    sites.each("upstreams", changes::upstream);
    sites.policies(&root.key("inbound"), "inbound");
    sites.policies(&root.key("outbound"), "outbound");
    sites.policies(&root.key("on-error"), "on-error");
    sites.each("fragments", |sites, place, name| sites.policies(place, name));
    sites.each("routes", Sites::route);
    sites.mutants
}

/// The owner of the addresses of a list.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Addresses {
    Peers,
    Callers,
}

pub(super) struct Sites<'a> {
    pub(super) values: &'a Node,
    runtime: &'a Runtime,
    known: &'a KnownValues,
    mutants: Vec<Mutant>,
}

impl<'a> Sites<'a> {
    pub(super) fn get(&self, place: &Place) -> Option<&'a Node> {
        at(self.values, place.pointer())
    }

    pub(super) fn text(&self, place: &Place) -> Option<&'a str> {
        self.get(place).and_then(Node::as_text)
    }

    /// Returns the texts of a list, or the one text in its place.
    fn texts(&self, place: &Place) -> Vec<&'a str> {
        match self.get(place).map(|node| &node.kind) {
            Some(Kind::List(entries)) => entries.iter().filter_map(entry_text).collect(),
            Some(Kind::Text(text)) => vec![&text.value],
            _ => Vec::new(),
        }
    }

    fn len(&self, place: &Place) -> usize {
        match self.get(place).map(|node| &node.kind) {
            Some(Kind::List(entries)) => entries.len(),
            _ => 0,
        }
    }

    pub(super) fn add(&mut self, place: &Place, change: String, edit: Edit) {
        self.mutants.push(Mutant { place: place.clone(), change, edits: vec![edit] });
    }

    /// Visits the entries of a section, each with its name or index.
    fn each(&mut self, section: &str, visit: impl Fn(&mut Self, &Place, &str)) {
        let place = Place::root().key(section);
        match self.get(&place).map(|node| &node.kind) {
            Some(Kind::List(entries)) => {
                for (index, entry) in entries.iter().enumerate() {
                    visit(self, &place.index(index), entry.get("name").and_then(Node::as_text).unwrap_or_default());
                }
            }
            Some(Kind::Map(entries)) => {
                for (key, _) in entries {
                    visit(self, &place.key(&key.text), &key.text);
                }
            }
            _ => {}
        }
    }

    fn route(&mut self, place: &Place, name: &str) {
        let matches = place.key("match");
        let known = self.known.methods.iter().cloned().chain(["DELETE".to_owned(), "POST".to_owned()]);
        self.list(&matches.key("methods"), &format!("route {name}, methods"), known.collect());
        self.drops(&matches.key("hosts"), &format!("route {name}, hosts"));
        self.drops(&place.key("trusted-headers").key("names"), &format!("route {name}, trusted-headers"));
        self.policies(&place.key("inbound"), "inbound");
        for (key, _) in self.get(&place.key("identity-headers")).and_then(Node::as_map).into_iter().flatten() {
            let place = place.key("identity-headers").key(&key.text);
            self.add(&place, format!("without identity-headers.{}", key.text), Edit::Delete(place.clone()));
        }
        self.policies(&place.key("outbound"), "outbound");
        self.policies(&place.key("on-error"), "on-error");
        changes::route(self, place, name);
        if self.get(&place.key("upstream")).is_none() {
            return;
        }
        let at = place.key("authorization");
        match (self.get(&at), self.text(&at)) {
            (None, _) => self.add(
                &place.key("name"),
                format!("route {name}: authorization remove becomes keep"),
                Edit::Set(place.clone(), "authorization", "keep".into()),
            ),
            (_, Some("keep")) => self.add(
                &at,
                format!("route {name}: authorization keep becomes remove"),
                Edit::Replace(at.clone(), "remove".into()),
            ),
            (_, Some("remove")) => self.add(
                &at,
                format!("route {name}: authorization remove becomes keep"),
                Edit::Replace(at.clone(), "keep".into()),
            ),
            _ => {}
        }
    }

    fn partner(&mut self, place: &Place, name: &str) {
        let what = format!("partner {name}");
        self.list(
            &place.key("client-application-ids"),
            &format!("{what}, client-application-ids"),
            self.known.clients.iter().cloned().collect(),
        );
        self.addresses(&place.key("addresses"), &format!("{what}, addresses"), Addresses::Callers);
        self.drops(&place.key("tenants"), &format!("{what}, tenants"));
        self.drops(&place.key("routes"), &format!("{what}, routes"));
    }

    /// Adds the mutants of a list of policies, on requests or on responses.
    fn policies(&mut self, place: &Place, name: &str) {
        let Some(Kind::List(entries)) = self.get(place).map(|node| &node.kind) else { return };
        for (index, entry) in entries.iter().enumerate() {
            let Some([(key, _)]) = entry.as_map().map(Vec::as_slice) else { continue };
            let (at, what) = (place.index(index).key(&key.text), format!("{name}[{index}] {}", key.text));
            // A note in the record decides nothing.
            if key.text != "trace" {
                self.add(&at, format!("without {what}"), Edit::Delete(place.index(index)));
            }
            self.policy(&key.text, &at, &what);
        }
    }

    fn policy(&mut self, policy: &str, place: &Place, what: &str) {
        match policy {
            "ip-filter" => {
                let at = place.key("action");
                match self.text(&at) {
                    Some("allow") => {
                        self.add(&at, format!("{what}: allow becomes forbid"), Edit::Replace(at.clone(), "forbid".into()))
                    }
                    Some("forbid") => {
                        self.add(&at, format!("{what}: forbid becomes allow"), Edit::Replace(at.clone(), "allow".into()))
                    }
                    _ => {}
                }
                self.addresses(&place.key("addresses"), what, Addresses::Callers);
                changes::filter(self, place, what);
            }
            "validate-azure-ad-token" | "validate-jwt" => self.token(place, what),
            "authorize" => self.condition(&place.key("condition"), what),
            "check-header" => {
                let name = self.text(&place.key("name")).unwrap_or_default();
                self.list(&place.key("values"), what, self.known.headers_of(name).collect());
            }
            "check-partner" => self.drops(&place.key("partners"), what),
            "validate-api-key" => {
                self.drops(&place.key("partners"), what);
                self.drops(&place.key("header-name"), &format!("{what}, header-name"));
            }
            "validate-client-certificate" => self.drops(&place.key("identities"), what),
            "cors" => {
                self.list(
                    &place.key("allowed-origins"),
                    &format!("{what}, allowed-origins"),
                    self.known.headers_of("origin").collect(),
                );
                self.list(
                    &place.key("allowed-methods"),
                    &format!("{what}, allowed-methods"),
                    self.known.headers_of("access-control-request-method").collect(),
                );
                self.drops(&place.key("allowed-headers"), &format!("{what}, allowed-headers"));
            }
            "choose" => self.choose(place, what),
            "any-of" => self.any_of(place, what),
            "report-only" => self.policies(place, what),
            "set-backend-service" => {
                self.drops(&place.key("among"), &format!("{what}, among"));
                changes::backend(self, place, what);
            }
            _ => changes::policy(self, policy, place, what),
        }
    }

    fn choose(&mut self, place: &Place, what: &str) {
        for index in 0..self.len(place) {
            let branch = place.index(index);
            let is_condition = |place: &Place| self.get(&place.key("when")).is_some();
            if is_condition(&branch) && is_condition(&place.index(index + 1)) {
                self.add(
                    &branch,
                    format!("{what}: branches {index} and {} swapped", index + 1),
                    Edit::Swap(place.clone(), index),
                );
            }
            let what = format!("{what}[{index}]");
            self.condition(&branch.key("when"), &what);
            for key in ["do", "otherwise"] {
                self.policies(&branch.key(key), &format!("{what}.{key}"));
            }
        }
    }

    fn any_of(&mut self, place: &Place, what: &str) {
        let lists = self.len(place);
        for index in 0..lists {
            if index + 1 < lists {
                self.add(
                    &place.index(index),
                    format!("{what}: lists {index} and {} swapped", index + 1),
                    Edit::Swap(place.clone(), index),
                );
            }
            if lists > 2 {
                self.add(&place.index(index), format!("without {what}[{index}]"), Edit::Delete(place.index(index)));
            }
            self.policies(&place.index(index), &format!("{what}[{index}]"));
        }
    }

    fn condition(&mut self, place: &Place, what: &str) {
        let inner = self.text(place).and_then(|text| text.strip_prefix("@(")?.strip_suffix(')'));
        if let Some(inner) = inner {
            self.add(place, format!("{what}: the condition negated"), Edit::Replace(place.clone(), format!("@(!({inner}))")));
        }
    }

    fn token(&mut self, place: &Place, what: &str) {
        let known = self.known;
        let of = |values: &std::collections::BTreeSet<String>| values.iter().cloned().collect::<Vec<_>>();
        for (key, values) in [
            ("audiences", of(&known.audiences)),
            ("client-application-ids", of(&known.clients)),
            ("scopes", of(&known.scopes)),
            ("roles", of(&known.roles)),
            ("allowed-tenants", of(&known.tenants)),
        ] {
            self.list(&place.key(key), &format!("{what}, {key}"), values);
        }
        self.drops(&place.key("header-name"), &format!("{what}, header-name"));
        self.drops(&place.key("algorithms"), &format!("{what}, algorithms"));
        let claims = place.key("required-claims");
        for index in 0..self.len(&claims) {
            let claim = claims.index(index);
            let name = self.text(&claim.key("name")).unwrap_or_default();
            let what = format!("{what}, required claim {name}");
            self.add(&claim, format!("without {what}"), Edit::Delete(claim.clone()));
            self.list(&claim.key("values"), &what, known.claims_of(name).collect());
            if self.len(&claim.key("values")) > 1 {
                match self.text(&claim.key("match")) {
                    Some("any") => {
                        self.add(&claim, format!("{what}: any becomes all"), Edit::Set(claim.clone(), "match", "all".into()))
                    }
                    _ => self.add(&claim, format!("{what}: all becomes any"), Edit::Set(claim.clone(), "match", "any".into())),
                }
            }
        }
        let skew = self.text(&place.key("clock-skew")).and_then(ConfigDuration::parse).map_or(SKEW, |skew| skew.0.as_secs());
        let longer = (skew * 10).min(LONGEST_SKEW);
        if longer > skew {
            let change = format!("{what}: a clock skew of {skew}s becomes {longer}s");
            self.add(place, change, Edit::Set(place.clone(), "clock-skew", format!("{longer}s")));
        }
    }

    /// Adds the mutants of a list of texts: without each, and with one more of these.
    fn list(&mut self, place: &Place, what: &str, known: Vec<String>) {
        if self.get(place).is_none() {
            return;
        }
        self.drops(place, what);
        let own = self.texts(place);
        let more: Vec<_> = known.into_iter().filter(|value| !own.iter().any(|own| own.eq_ignore_ascii_case(value))).collect();
        self.additions(place, what, &more);
    }

    fn additions(&mut self, place: &Place, what: &str, more: &[String]) {
        let Some(first) = more.first() else { return };
        let change = format!("{what}: `{first}` added");
        let edits = more.iter().take(MOST_ADDITIONS).map(|value| Edit::Append(place.clone(), value.clone())).collect();
        self.mutants.push(Mutant { place: place.clone(), change, edits });
    }

    /// Adds the mutants that lack an entry of a list.
    fn drops(&mut self, place: &Place, what: &str) {
        for index in 0..self.len(place) {
            let entry = place.index(index);
            let text = self.get(&entry).and_then(entry_text).map_or_else(|| format!("entry {index}"), |text| format!("`{text}`"));
            // A key with an empty list says the same as none, or is a fault.
            let edit = if self.len(place) == 1 { Edit::Delete(place.clone()) } else { Edit::Delete(entry.clone()) };
            self.add(&entry, format!("{what}: without {text}"), edit);
        }
    }

    /// Adds the mutants of a list of addresses.
    fn addresses(&mut self, place: &Place, what: &str, whose: Addresses) {
        let is_list = matches!(self.get(place).map(|node| &node.kind), Some(Kind::List(_)));
        if self.get(place).is_some() && !is_list {
            return;
        }
        self.drops(place, what);
        let entries: Vec<_> = self.texts(place).into_iter().map(|text| AddressEntryConfig::Text(text.to_owned())).collect();
        let set = AddressSet::build(&entries, place, &self.runtime.address_sets, &mut Faults::default()).unwrap_or_default();
        let clock = Clock::manual(self.runtime.clock.unix_seconds());
        let known = if whose == Addresses::Peers { &self.known.peers } else { &self.known.addresses };
        let more: Vec<_> = known.iter().filter(|address| !set.contains(**address, &clock)).map(ToString::to_string).collect();
        if is_list {
            self.additions(place, what, &more);
        } else if whose == Addresses::Peers && !more.is_empty() {
            // Nobody is trusted so far.
            let listener =
                Place::from(place.pointer().rsplit_once('/').map_or_else(String::new, |(parent, _)| parent.to_owned()));
            let change = format!("{what}: `{}` added", more[0]);
            let edits =
                more.into_iter().take(MOST_ADDITIONS).map(|peer| Edit::SetList(listener.clone(), "trusted-proxies", peer));
            self.mutants.push(Mutant { place: listener.clone(), change, edits: edits.collect() });
        }
    }
}

/// Returns the text of an entry: itself, or the address of an object with a note.
fn entry_text(entry: &Node) -> Option<&str> {
    entry.as_text().or_else(|| entry.get("address").and_then(Node::as_text))
}
