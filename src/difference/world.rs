//! Constants that both configs compare facts with, and the kinds of claims.

use std::{
    cell::RefCell,
    collections::{BTreeMap, BTreeSet},
};

use super::{
    region::TextKey,
    side::{Side, UNNAMED_TENANT, each_text},
};
use crate::{
    entra::is_guid,
    expression::shape::{Operand, Shape, Source, Test},
    inbound::{
        PolicyConfig,
        list::each,
        validate_azure_ad_token::{MatchConfig, RequiredClaimConfig, TokenBindingConfig, TokenTypeConfig, listed_tenants},
    },
    partner::PartnerConfig,
    settings::Place,
};

/// Claims that Entra makes lists of.
const LISTS: [&str; 5] = ["groups", "roles", "wids", "amr", "acrs"];

/// An issuer, and the config that knows it.
#[derive(Clone, Debug)]
pub(crate) struct KnownIssuer {
    /// The name that stands for it.
    pub(crate) key: String,
    /// The config: 0 for the old one, 1 for the new one.
    pub(crate) side: usize,
    /// The tenant's name and GUID; `None` for another issuer.
    pub(crate) tenant: Option<(String, String)>,
    /// The name of another issuer.
    pub(crate) issuer: Option<String>,
}

/// A condition that is not taken apart, as it is known from a run.
#[derive(Clone, Debug, Default)]
pub(crate) struct FreeCondition {
    /// The facts that it reads and that can be chosen.
    pub(crate) reads: Vec<TextKey>,
    /// The texts that it compares with.
    pub(crate) literals: Vec<String>,
    /// The values of the other facts that it reads, where the cell gives them: what captures are, the host.
    pub(crate) given: BTreeSet<String>,
    /// Whether it reads the caller's address.
    pub(crate) reads_caller: bool,
    /// The place of the entry that holds it.
    pub(crate) place: Option<Place>,
    /// The file and the line of that place.
    pub(crate) position: Option<String>,
}

/// The constants that two configs compare with.
#[derive(Debug, Default)]
pub(crate) struct World {
    pub(crate) issuers: Vec<KnownIssuer>,
    /// Whether some policy takes ID tokens.
    pub(crate) id_tokens: bool,
    /// Whether some policy wants tokens that are bound to a certificate.
    pub(crate) bound_tokens: bool,
    /// Whether some expression reads the partner's name.
    pub(crate) names_partners: bool,
    lists: BTreeSet<String>,
    texts: BTreeSet<String>,
    /// The separators of claims that are one text and mean a list.
    pub(crate) separators: BTreeMap<String, String>,
    /// Paths, and parts of paths, that conditions compare with.
    pub(crate) paths: BTreeSet<String>,
    pub(crate) hosts: BTreeSet<String>,
    pub(crate) methods: BTreeSet<String>,
    /// The texts that captures are compared with, by the name of the capture.
    pub(crate) captures: BTreeMap<String, BTreeSet<String>>,
    /// The conditions that are not taken apart, by the name of their atom.
    pub(crate) free: RefCell<BTreeMap<String, FreeCondition>>,
}

impl World {
    pub(crate) fn of(sides: [&Side; 2]) -> Self {
        let mut world = Self { lists: LISTS.map(str::to_owned).into(), ..Self::default() };
        let mut guids = BTreeSet::from([UNNAMED_TENANT.to_owned()]);
        for side in sides {
            each_text(side.contents.nodes(), None, &mut |text| {
                if is_guid(text) {
                    guids.insert(text.to_ascii_lowercase());
                }
                if let Some(read) = side.read(text) {
                    world.names_partners |= read.operands.iter().any(|operand| operand.source == Source::Partner);
                    world.condition(&read.shape, &mut guids);
                }
            });
            world.policies(side, &mut guids);
        }
        for (index, side) in sides.into_iter().enumerate() {
            world.know_issuers(index, side, &guids);
        }
        world
    }

    fn policies(&mut self, side: &Side, guids: &mut BTreeSet<String>) {
        let config = &side.document.config;
        let lists = std::iter::once(&config.inbound).chain(config.routes.iter().map(|route| &route.inbound));
        for list in lists {
            each(list, &config.fragments, 0, &mut |policy| match policy {
                PolicyConfig::ValidateAzureAdToken(token) => {
                    // Those of a file stand nowhere else.
                    let listed = listed_tenants(token, &side.gateway.runtime().tenants);
                    guids.extend(listed.into_iter().flatten().map(String::from));
                    self.id_tokens |= token.token_type == TokenTypeConfig::Id;
                    self.bound_tokens |= token.token_binding == TokenBindingConfig::Certificate;
                    token.required_claims.iter().for_each(|claim| self.required(claim));
                }
                PolicyConfig::ValidateJwt(token) => {
                    self.bound_tokens |= token.token_binding == TokenBindingConfig::Certificate;
                    token.required_claims.iter().for_each(|claim| self.required(claim));
                }
                _ => {}
            });
        }
    }

    fn required(&mut self, claim: &RequiredClaimConfig) {
        let list = claim.separator.is_some() || claim.matching == MatchConfig::All && claim.values.len() > 1;
        if list {
            self.lists.insert(claim.name.clone())
        } else {
            self.texts.insert(claim.name.clone())
        };
        if let Some(separator) = &claim.separator {
            self.separators.insert(claim.name.clone(), separator.clone());
        }
    }

    fn condition(&mut self, shape: &Shape, guids: &mut BTreeSet<String>) {
        match shape {
            Shape::And(parts) | Shape::Or(parts) => parts.iter().for_each(|part| self.condition(part, guids)),
            Shape::Not(part) => self.condition(part, guids),
            Shape::If(parts) => parts.iter().for_each(|part| self.condition(part, guids)),
            Shape::Test(operand, test) => self.cut(operand, test, guids),
            Shape::Free { reads, literals, .. } => {
                for operand in reads {
                    self.cut(operand, &Test::In(literals.clone()), guids);
                }
            }
            Shape::Constant(_) | Shape::Has(_) => {}
        }
    }

    fn cut(&mut self, operand: &Operand, test: &Test, guids: &mut BTreeSet<String>) {
        let texts = texts_of(test);
        match &operand.source {
            Source::Claim(name) => match test {
                Test::Holds(_) => drop(self.lists.insert(name.clone())),
                Test::True => {}
                _ => drop(self.texts.insert(name.clone())),
            },
            Source::Path => self.paths.extend(texts),
            Source::Host => self.hosts.extend(texts),
            Source::Method => self.methods.extend(texts),
            Source::Capture(name) => self.captures.entry(name.clone()).or_default().extend(texts),
            Source::Tenant => guids.extend(texts.into_iter().filter(|text| is_guid(text))),
            _ => {}
        }
    }

    fn know_issuers(&mut self, index: usize, side: &Side, guids: &BTreeSet<String>) {
        let tenants = &side.gateway.runtime().tenants;
        for name in tenants.names().map(str::to_owned).collect::<Vec<_>>() {
            let many = tenants.get(&name).is_some_and(|tenant| tenant.id().is_many());
            let own = side.gateway.tenant_of(Some(&name)).ok().map(|(_, guid)| guid);
            let all = guids.iter().filter(|_| many).cloned().chain(own);
            for guid in all {
                let Some(key) = side.entra_issuer(&name, &guid) else { continue };
                self.know(KnownIssuer { key, side: index, tenant: Some((name.clone(), guid)), issuer: None });
            }
        }
        for name in tenants.issuer_names().map(str::to_owned).collect::<Vec<_>>() {
            let Some(key) = side.other_issuer(&name) else { continue };
            self.know(KnownIssuer { key, side: index, tenant: None, issuer: Some(name) });
        }
    }

    fn know(&mut self, issuer: KnownIssuer) {
        if !self.issuers.iter().any(|known| known.key == issuer.key) {
            self.issuers.push(issuer);
        }
    }

    /// Returns the issuers of these tenants.
    pub(crate) fn issuers_of_tenants(&self, guids: &[String]) -> Vec<String> {
        let of_one = |issuer: &&KnownIssuer| {
            issuer.tenant.as_ref().is_some_and(|(_, guid)| guids.iter().any(|other| other.eq_ignore_ascii_case(guid)))
        };
        self.issuers.iter().filter(of_one).map(|issuer| issuer.key.clone()).collect()
    }

    /// Returns the words for a condition that is not taken apart.
    pub(crate) fn free_words(&self, name: &str) -> String {
        match self.free.borrow().get(name).and_then(|free| free.place.clone()) {
            Some(place) => format!("the condition at {place} is true"),
            None => "a condition is true".to_owned(),
        }
    }

    /// Returns whether the claim is a list.
    pub(crate) fn lists_claim(&self, name: &str) -> bool {
        self.lists.contains(name)
    }

    /// Returns whether the claim is a text, and no truth value.
    pub(crate) fn has_texts(&self, name: &str) -> bool {
        self.texts.contains(name)
    }
}

/// Returns the texts that a test compares with.
pub(crate) fn texts_of(test: &Test) -> Vec<String> {
    match test {
        Test::In(texts) | Test::Holds(texts) => texts.clone(),
        Test::Starts(text) | Test::Ends(text) | Test::Contains(text) => vec![text.clone()],
        Test::Matches(pattern) => super::sample::of_pattern(pattern),
        Test::Folded(_, test) => texts_of(test),
        Test::True | Test::Networks(_) => Vec::new(),
    }
}

/// Returns the last days of partners' accesses and of addresses, from this time on.
pub(crate) fn expiries(side: &Side, now: u64) -> BTreeSet<u64> {
    let config = &side.document.config;
    let of_partner = |partner: &PartnerConfig| {
        let keys: Vec<_> = partner.api_keys.iter().filter_map(|key| key.expires).collect();
        partner.expires.into_iter().chain(keys)
    };
    let days = config.partners.values().flat_map(of_partner).map(crate::settings::Date::end);
    let mut found: BTreeSet<u64> = days.filter(|end| *end > now).collect();
    each_text(side.contents.nodes(), Some("expires"), &mut |text| {
        found.extend(crate::settings::Date::parse(text).map(crate::settings::Date::end).filter(|end| *end > now));
    });
    found
}
