//! The units of a config.

use std::sync::Arc;

use super::{Kind, codes};
use crate::{
    address::{AddressEntryConfig, AddressSet},
    config::Config,
    gateway::runtime::Runtime,
    inbound::{
        PolicyConfig,
        ip_filter::Action,
        validate_azure_ad_token::{MatchConfig, RequiredClaimConfig},
    },
    outbound::OutboundPolicyConfig,
    partner::PartnerConfig,
    refusal::Reason,
    settings::{Faults, Place},
};

/// Something that a case can touch.
#[derive(Debug)]
pub(super) struct Unit {
    pub(super) kind: Kind,
    /// The unit, for reports.
    pub(super) what: String,
    /// The events that have not happened, for reports.
    pub(super) said: &'static str,
    pub(super) place: Place,
    /// The steps that may touch it: the pointer of an entry, `branch …`, `route …` or `partner …`.
    pub(super) at: String,
    pub(super) test: Test,
}

/// How a step touches a unit.
#[derive(Debug)]
pub(super) enum Test {
    /// By its being there.
    Chosen,
    /// By letting a request pass.
    Passed,
    /// By refusing one.
    Refused,
    /// By refusing one with this code.
    Code(Reason),
    /// By standing within the branch.
    Branch,
    /// By being the alternative that admits.
    Alternative,
    /// By having this element, in a request that passes; or, if true, in one that is refused.
    Item(Item, bool),
}

/// An element of a list.
#[derive(Debug)]
pub(super) enum Item {
    Address(Arc<AddressSet>),
    Audience(String),
    Scope(String),
    Role(String),
    Client(String),
    Claim(String, String),
}

/// Returns the units of a config, in the order of the places.
pub(super) fn of(config: &Config, runtime: &Runtime) -> Vec<Unit> {
    let root = Place::root();
    let mut units = Units { config, runtime, list: Vec::new() };
    units.policies(&config.inbound, &root.key("inbound"), "inbound", false);
    for (name, policies) in &config.fragments {
        units.policies(policies, &root.key("fragments").key(name), name, false);
    }
    for (name, partner) in &config.partners {
        units.partner(name, partner, &root.key("partners").key(name));
    }
    for (index, route) in config.routes.iter().enumerate() {
        let place = root.key("routes").index(index);
        units.add(
            Kind::Route,
            format!("route {}", route.name),
            "never chosen",
            &place.key("name"),
            format!("route {}", route.name),
            Test::Chosen,
        );
        units.policies(&route.inbound, &place.key("inbound"), "inbound", false);
        units.outbound(&route.outbound, &place.key("outbound"), "outbound");
    }
    units.list
}

struct Units<'a> {
    config: &'a Config,
    runtime: &'a Runtime,
    list: Vec<Unit>,
}

impl Units<'_> {
    fn add(&mut self, kind: Kind, what: String, said: &'static str, place: &Place, at: String, test: Test) {
        self.list.push(Unit { kind, what, said, place: place.clone(), at, test });
    }

    /// Adds the entries of a list. `checked` tells whether a check of partners follows the list.
    fn policies(&mut self, policies: &[PolicyConfig], place: &Place, name: &str, checked: bool) {
        for (index, policy) in policies.iter().enumerate() {
            let place = place.index(index).key(policy.name());
            let what = format!("{name}[{index}] {}", policy.name());
            let follows = checked || policies[index + 1..].iter().any(|policy| matches!(policy, PolicyConfig::CheckPartner(_)));
            match policy {
                PolicyConfig::IncludeFragment(_) => {}
                PolicyConfig::ReportOnly(policies) => self.policies(policies, &place, &what, follows),
                PolicyConfig::AnyOf(lists) => {
                    self.passed(&what, &place);
                    for (at, list) in lists.iter().enumerate() {
                        let (place, what) = (place.index(at), format!("{what}[{at}]"));
                        self.add(
                            Kind::Branch,
                            what.clone(),
                            "never the one that admits",
                            &place,
                            branch(&place),
                            Test::Alternative,
                        );
                        self.policies(list, &place, &what, follows);
                    }
                }
                PolicyConfig::Choose(branches) => {
                    self.passed(&what, &place);
                    for (at, written) in branches.iter().enumerate() {
                        let place = place.index(at);
                        let key = if written.otherwise.is_some() { "otherwise" } else { "do" };
                        self.branch(&format!("{what}[{at}]"), &place, written.otherwise.is_some());
                        self.policies(written.policies(), &place.key(key), &format!("{what}[{at}].{key}"), follows);
                    }
                }
                policy => {
                    self.passed(&what, &place);
                    let codes = codes::of(policy, self.config, follows);
                    if !codes.is_empty() {
                        self.add(Kind::Refused, what.clone(), "never refused", &place, place.pointer().to_owned(), Test::Refused);
                    }
                    for (reason, code) in codes {
                        let what = format!("{what}: {code}");
                        self.add(Kind::Code, what, "never given", &place, place.pointer().to_owned(), Test::Code(reason));
                    }
                    // The claims of a second token are not those of the first.
                    if !policies[..index].iter().any(is_token_policy) {
                        self.items(policy, &place);
                    }
                }
            }
        }
    }

    fn passed(&mut self, what: &str, place: &Place) {
        self.add(Kind::Passed, what.to_owned(), "never passed", place, place.pointer().to_owned(), Test::Passed);
    }

    fn branch(&mut self, what: &str, place: &Place, otherwise: bool) {
        let shown = place.key(if otherwise { "otherwise" } else { "when" });
        self.add(Kind::Branch, what.to_owned(), "never taken", &shown, branch(place), Test::Branch);
    }

    /// Adds the policies on responses, which all pass.
    fn outbound(&mut self, policies: &[OutboundPolicyConfig], place: &Place, name: &str) {
        for (index, policy) in policies.iter().enumerate() {
            let place = place.index(index).key(policy.name());
            let what = format!("{name}[{index}] {}", policy.name());
            match policy {
                OutboundPolicyConfig::IncludeFragment(_) => {}
                #[cfg(test)]
                OutboundPolicyConfig::Panic(_) => {}
                OutboundPolicyConfig::Choose(branches) => {
                    for (at, written) in branches.iter().enumerate() {
                        let place = place.index(at);
                        let key = if written.otherwise.is_some() { "otherwise" } else { "do" };
                        self.branch(&format!("{what}[{at}]"), &place, written.otherwise.is_some());
                        let within = written.then.as_deref().or(written.otherwise.as_deref()).unwrap_or_default();
                        self.outbound(within, &place.key(key), &format!("{what}[{at}].{key}"));
                    }
                }
                OutboundPolicyConfig::SetHeader(_)
                | OutboundPolicyConfig::SetVariable(_)
                | OutboundPolicyConfig::SetStatus(_)
                | OutboundPolicyConfig::SetBody(_)
                | OutboundPolicyConfig::Trace(_)
                | OutboundPolicyConfig::ReturnResponse(_) => self.passed(&what, &place),
            }
        }
    }

    /// Adds the elements of a policy's lists.
    fn items(&mut self, policy: &PolicyConfig, place: &Place) {
        match policy {
            PolicyConfig::IpFilter(filter) => {
                let refuses = filter.action == Action::Forbid;
                self.addresses(&filter.addresses, &place.key("addresses"), place.pointer(), refuses);
            }
            PolicyConfig::ValidateAzureAdToken(token) => {
                let lists = [
                    ("audience", "audiences", &token.audiences),
                    ("client", "client-application-ids", &token.client_application_ids),
                    ("scope", "scopes", &token.scopes),
                    ("role", "roles", &token.roles),
                ];
                self.token(lists, &token.required_claims, place);
            }
            PolicyConfig::ValidateJwt(token) => {
                let lists = [
                    ("audience", "audiences", &token.audiences),
                    ("client", "client-application-ids", &token.client_application_ids),
                    ("scope", "scopes", &token.scopes),
                    ("role", "roles", &token.roles),
                ];
                self.token(lists, &token.required_claims, place);
            }
            _ => {}
        }
    }

    fn token(&mut self, lists: [(&str, &str, &Vec<String>); 4], claims: &[RequiredClaimConfig], place: &Place) {
        let at = place.pointer();
        for (what, key, values) in lists {
            for (index, value) in values.iter().enumerate() {
                let item = match what {
                    "audience" => Item::Audience(value.clone()),
                    "client" => Item::Client(value.clone()),
                    "scope" => Item::Scope(value.clone()),
                    _ => Item::Role(value.clone()),
                };
                self.item(format!("{what} {value}"), &place.key(key).index(index), at, item, false);
            }
        }
        for (index, claim) in claims.iter().enumerate().filter(|(_, claim)| claim.matching == MatchConfig::Any) {
            for (at_value, value) in claim.values.iter().enumerate() {
                let place = place.key("required-claims").index(index).key("values").index(at_value);
                let item = Item::Claim(claim.name.clone(), value.clone());
                self.item(format!("{} {value}", claim.name), &place, at, item, false);
            }
        }
    }

    fn partner(&mut self, name: &str, partner: &PartnerConfig, place: &Place) {
        let at = format!("partner {name}");
        for (index, client) in partner.client_application_ids.iter().enumerate() {
            let place = place.key("client-application-ids").index(index);
            self.item(format!("client {client}"), &place, &at, Item::Client(client.clone()), false);
        }
        self.addresses(partner.addresses.as_deref().unwrap_or_default(), &place.key("addresses"), &at, false);
    }

    fn addresses(&mut self, entries: &[AddressEntryConfig], place: &Place, at: &str, refuses: bool) {
        for (index, entry) in entries.iter().enumerate() {
            let place = place.index(index);
            let entry_alone = std::slice::from_ref(entry);
            let Some(set) = AddressSet::build(entry_alone, &place, &self.runtime.address_sets, &mut Faults::default()) else {
                continue;
            };
            let is_set = self.config.address_sets.contains_key(entry.text());
            let what = format!("{} {}", if is_set { "address set" } else { "address" }, entry.text());
            self.item(what, &place, at, Item::Address(set), refuses);
        }
    }

    fn item(&mut self, what: String, place: &Place, at: &str, item: Item, refuses: bool) {
        let said = if refuses { "never refused a request" } else { "in no request that passes" };
        self.add(Kind::Item, what, said, place, at.to_owned(), Test::Item(item, refuses));
    }
}

const fn is_token_policy(policy: &PolicyConfig) -> bool {
    matches!(policy, PolicyConfig::ValidateAzureAdToken(_) | PolicyConfig::ValidateJwt(_))
}

fn branch(place: &Place) -> String {
    format!("branch {}", place.pointer())
}
