//! The run of a route's policies on a region: to a decision, or to the next atom that has to be decided.
//!
//! It follows the policies entry by entry, as the gateway does, but knows of a request only what the region says. Where that is not
//! enough it stops with the atom in question, and is run again on each part of the region. No verdict is taken from here: it says where
//! two configs may differ, and the engines that serve are asked.

use std::{collections::BTreeMap, rc::Rc};

use super::{
    cell::{Address, Given},
    condition::Truth,
    region::{Atom, Flag, Region, Spot, TextKey},
    side::{Read, Side},
    space::AddressSpace,
    world::World,
};
use crate::{
    expression::shape::{Operand, Test},
    inbound::{
        PolicyConfig,
        choose::BranchConfig,
        ip_filter::{Action, IpFilterConfig, Of},
        list::{Listed, Written, listed},
        set_header::{ExistsAction, WhenAbsent},
    },
    refusal::Reason,
    route::RouteConfig,
    settings::Place,
};

/// The atom that has to be decided before a run can go on.
#[derive(Debug)]
pub(crate) struct Open(pub(crate) Atom);

/// An answer, or the atom that it depends on.
pub(crate) type Asked<T> = Result<T, Open>;

/// The end of a request in a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Stopped {
    /// It is refused.
    Refused(Refused),
    /// A policy answers it.
    Answered { place: Place, status: u16, content: String },
}

/// A refusal, and the entry that refuses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Refused {
    pub(crate) code: String,
    pub(crate) place: Place,
}

/// The value of a variable.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Variable {
    Text(String),
    /// The value of this operand; the text is its meaning.
    Same(Operand, String),
    /// The value of an expression of this normal form for facts with this meaning.
    Made {
        text: String,
        of: Vec<String>,
    },
}

/// The facts that the policies before have established.
#[derive(Clone, Debug, Default)]
pub(crate) struct State {
    pub(crate) token: Option<Spot>,
    pub(crate) named: Vec<(String, Spot)>,
    pub(crate) partner: Option<String>,
    pub(crate) variables: BTreeMap<String, Variable>,
    /// The changes of the upstream's request, in their order.
    pub(crate) effects: Vec<String>,
    /// The upstream that a policy has chosen.
    pub(crate) upstream: Option<String>,
    /// The entry that runs.
    pub(crate) at: Option<Place>,
}

/// The result of an entry or a list: `None` lets the request pass.
pub(super) type Ended = Asked<Option<Stopped>>;

/// A run of one route on one region.
#[derive(Clone, Copy)]
pub(crate) struct Run<'a> {
    pub(crate) side: &'a Side,
    pub(crate) world: &'a World,
    pub(crate) given: &'a Given,
    pub(crate) route: &'a RouteConfig,
    /// The index of the route.
    pub(crate) index: usize,
    pub(crate) region: &'a Region,
    /// The entries of the lists.
    pub(crate) entries: &'a [Listed<'a>],
}

impl<'a> Run<'a> {
    /// Returns the answer to a question, if the region has it.
    pub(super) fn ask(&self, atom: Atom) -> Asked<bool> {
        self.region.decide(&atom).ok_or(Open(atom))
    }

    /// Runs the lists of the route: the global one and its own.
    pub(super) fn lists(&self, state: &mut State) -> Ended {
        self.run_entries(self.entries, state, false)
    }

    /// Runs the entries of a list. `followed` is whether a check of the partner comes after it.
    fn run_entries(&self, entries: &[Listed<'a>], state: &mut State, followed: bool) -> Ended {
        for (index, entry) in entries.iter().enumerate() {
            let checks = |later: &Listed<'_>| {
                later.config.is(|settings| settings.checks_partner()) && (entry.report_only || !later.report_only)
            };
            let followed = followed || entries[index + 1..].iter().any(checks);
            let mut tried = state.clone();
            tried.at = Some(entry.place.clone());
            let stopped = self.entry(entry, &mut tried, followed)?;
            match stopped {
                None => *state = tried,
                // What would have refused is recorded, and leaves nothing behind.
                Some(Stopped::Refused(_)) if entry.report_only && entry.config.is(|settings| settings.judges()) => {}
                Some(stopped) => return Ok(Some(stopped)),
            }
        }
        Ok(None)
    }

    fn list(&self, policies: &'a [PolicyConfig], place: &Place, state: &mut State, followed: bool) -> Ended {
        let written = Written { policies, place: place.clone(), name: "", shared: false, report_only: false };
        self.run_entries(&listed(&written, &self.side.document.config.fragments), state, followed)
    }

    fn entry(&self, entry: &Listed<'a>, state: &mut State, followed: bool) -> Ended {
        let place = &entry.place;
        let refused = |reason: Reason| Ok(Some(refuse(reason, place)));
        match entry.config {
            PolicyConfig::IpFilter(filter) => match self.listed_address(filter, place)? {
                true => Ok(None),
                false => refused(Reason::CallerAddressNotAllowed),
            },
            PolicyConfig::ValidateAzureAdToken(_) | PolicyConfig::ValidateJwt(_) => self.token_policy(entry, state, followed),
            PolicyConfig::ValidateClientCertificate(_) => {
                let accepted = Flag::Certificate(self.side.content(place));
                if self.ask(Atom::Flag(accepted))? { Ok(None) } else { refused(Reason::ClientCertificateMissing) }
            }
            PolicyConfig::CheckHeader(check) => {
                let values = self.side.values(&check.values);
                let place_of = &check.name.to_ascii_lowercase();
                if !self.header_exists(place_of)? || self.repeated(place_of)? {
                    return refused(Reason::HeaderCheckFailed);
                }
                if check.values.is_empty() || self.header_passes(place_of, &equal(values, check.ignore_case))? {
                    return Ok(None);
                }
                refused(Reason::HeaderCheckFailed)
            }
            PolicyConfig::Authorize(check) => match self.condition(&check.condition, state)? {
                Truth::Holds => Ok(None),
                Truth::Fails | Truth::Error => {
                    let code = check.code.clone().unwrap_or_else(|| Reason::NotAuthorized.code().to_owned());
                    Ok(Some(Stopped::Refused(Refused { code, place: place.clone() })))
                }
            },
            PolicyConfig::CheckPartner(check) => self.check_partner(check, place, state),
            PolicyConfig::ValidateApiKey(check) => self.api_key(check, place, state),
            PolicyConfig::AnyOf(lists) => self.any_of(lists, place, state, followed),
            PolicyConfig::Choose(branches) => self.choose(branches, place, state, followed),
            PolicyConfig::Cors(cors) => {
                if !self.given.preflight {
                    state.effects.push(self.side.content(place));
                    return Ok(None);
                }
                let origins = cors.allowed_origins.clone();
                let permitted = origins == ["*"] || self.header_passes("origin", &Test::In(origins))?;
                let content = format!("{} {permitted}", self.side.content(place));
                Ok(Some(Stopped::Answered { place: place.clone(), status: 200, content }))
            }
            PolicyConfig::ReturnResponse(answer) => {
                let texts = answer.headers.values().flat_map(|values| values.as_slice()).chain(&answer.body);
                if let Some(stopped) = self.values(texts.map(String::as_str), WhenAbsent::Refuse, (place, state))? {
                    return Ok(Some(stopped));
                }
                let status = answer.status.unwrap_or(200);
                Ok(Some(Stopped::Answered { place: place.clone(), status, content: self.side.content(place) }))
            }
            changing => self.change(changing, place, state),
        }
    }

    /// Runs a policy that changes the upstream's request.
    fn change(&self, policy: &PolicyConfig, place: &Place, state: &mut State) -> Ended {
        let stopped = match policy {
            PolicyConfig::SetHeader(set) if set.exists_action != ExistsAction::Delete => {
                let texts = set.value.iter().chain(&set.values).filter_map(|value| value.plain());
                self.values(texts, set.when_absent, (place, state))?
            }
            PolicyConfig::SetQueryParameter(set) => {
                let texts = set.value.iter().chain(&set.values).map(String::as_str);
                self.values(texts, set.when_absent, (place, state))?
            }
            PolicyConfig::SetMethod(set) => self.values([set.0.as_str()].into_iter(), WhenAbsent::Refuse, (place, state))?,
            PolicyConfig::SetVariable(set) => {
                let stopped = self.values([set.value.as_str()].into_iter(), set.when_absent, (place, state))?;
                if stopped.is_none() {
                    self.set_variable(&set.name, &set.value, state)?;
                }
                // What it is used for is an effect of its own.
                return Ok(stopped);
            }
            PolicyConfig::SetBackendService(set) => {
                state.upstream = Some(set.upstream.clone());
                self.values([set.upstream.as_str()].into_iter(), WhenAbsent::Refuse, (place, state))?
            }
            // Counters are not compared, and notes change nothing.
            PolicyConfig::RateLimitByKey(_)
            | PolicyConfig::QuotaByKey(_)
            | PolicyConfig::LimitConcurrency(_)
            | PolicyConfig::Trace(_) => return Ok(None),
            _ => None,
        };
        state.effects.push(self.effect(place, state));
        Ok(stopped)
    }

    /// Returns a text of an effect that is the same for the same effect.
    fn effect(&self, place: &Place, state: &State) -> String {
        let content = self.side.content(place);
        let variables = if content.contains("variables.") { format!(" {:?}", state.variables) } else { String::new() };
        format!("{content} {:?}{variables}", state.token)
    }

    /// Refuses where a value that an expression reads is absent.
    fn values<'t>(
        &self,
        texts: impl Iterator<Item = &'t str>,
        when_absent: WhenAbsent,
        (place, state): (&Place, &State),
    ) -> Ended {
        if when_absent == WhenAbsent::Skip {
            return Ok(None);
        }
        for read in texts.filter_map(|text| self.side.read(text)) {
            for operand in &read.operands {
                if !self.exists(operand, state)? {
                    return Ok(Some(refuse(Reason::HeaderValueUnavailable, place)));
                }
            }
        }
        Ok(None)
    }

    fn set_variable(&self, name: &str, value: &str, state: &mut State) -> Asked<()> {
        let variable = match self.side.read(value) {
            None => Some(Variable::Text(value.to_owned())),
            Some(read) => match &read.operand {
                Some(operand) if !self.exists(operand, state)? => None,
                Some(operand) => Some(Variable::Same(operand.clone(), self.meaning(operand, state))),
                None => self.made(&read, state)?,
            },
        };
        match variable {
            Some(variable) => drop(state.variables.insert(name.to_owned(), variable)),
            None => drop(state.variables.remove(name)),
        }
        Ok(())
    }

    /// Returns what an expression makes; `None` if something that it reads is absent.
    fn made(&self, read: &Rc<Read>, state: &State) -> Asked<Option<Variable>> {
        for operand in &read.operands {
            if !self.exists(operand, state)? {
                return Ok(None);
            }
        }
        let of = read.operands.iter().map(|operand| self.meaning(operand, state)).collect();
        Ok(Some(Variable::Made { text: read.text.clone(), of }))
    }

    /// Evaluates a condition as written.
    pub(super) fn condition(&self, text: &str, state: &State) -> Asked<Truth> {
        match self.side.read(text) {
            Some(read) => self.truth(&read.shape, state),
            // It is a condition, or the config would have been refused.
            None => Ok(Truth::Error),
        }
    }

    fn any_of(&self, lists: &'a [Vec<PolicyConfig>], place: &Place, state: &mut State, followed: bool) -> Ended {
        let mut first = None;
        for (index, policies) in lists.iter().enumerate() {
            let mut tried = state.clone();
            match self.list(policies, &place.index(index), &mut tried, followed)? {
                None => {
                    *state = tried;
                    return Ok(None);
                }
                Some(refused @ Stopped::Refused(_)) => drop(first.get_or_insert(refused)),
                Some(answered) => return Ok(Some(answered)),
            }
        }
        Ok(first)
    }

    fn choose(&self, branches: &'a [BranchConfig], place: &Place, state: &mut State, followed: bool) -> Ended {
        for (index, branch) in branches.iter().enumerate() {
            let place = place.index(index);
            let (taken, key) = match &branch.when {
                None => (Truth::Holds, "otherwise"),
                Some(when) => (self.condition(when, state)?, "do"),
            };
            match taken {
                Truth::Holds => return self.list(branch.policies(), &place.key(key), state, followed),
                Truth::Fails => {}
                Truth::Error => return Ok(Some(refuse(Reason::NotAuthorized, &place.key("when")))),
            }
        }
        Ok(None)
    }

    fn listed_address(&self, filter: &IpFilterConfig, place: &Place) -> Asked<bool> {
        let space = self.side.space(&filter.addresses, place);
        let listed = match filter.of {
            Of::Caller => self.caller_in(&space)?,
            Of::Peer => self.address_in(self.given.peer, &space)?,
        };
        Ok(listed == (filter.action == Action::Allow))
    }

    /// Returns whether the caller's address is one of these.
    pub(super) fn caller_in(&self, space: &Rc<AddressSpace>) -> Asked<bool> {
        self.address_in(self.given.caller, space)
    }

    fn address_in(&self, address: Address, space: &Rc<AddressSpace>) -> Asked<bool> {
        match address {
            Address::Any => self.ask(Atom::Caller(space.clone())),
            Address::Known(address) => Ok(space.contains(address)),
        }
    }

    fn repeated(&self, name: &str) -> Asked<bool> {
        if self.given.header(name).is_some() { Ok(false) } else { self.ask(Atom::Flag(Flag::Repeated(name.to_owned()))) }
    }

    /// Returns whether the policies of the route see a caller's field of this name: what says who calls is removed before.
    pub(super) fn sees(&self, name: &str) -> Asked<bool> {
        if let Some(trusted) = &self.route.trusted_headers
            && trusted.names.iter().any(|other| other.eq_ignore_ascii_case(name))
        {
            let place = Place::root().key("routes").index(self.index).key("trusted-headers").key("from");
            for (space, fields) in self.side.trusted(&trusted.from, &place) {
                if self.address_in(self.given.peer, &space)? && self.fields(&fields)? {
                    return Ok(true);
                }
            }
            return Ok(false);
        }
        Ok(!self.side.removes(self.index, name))
    }

    /// Returns whether the request bears these fields, each with one of its values.
    fn fields(&self, fields: &[(String, Vec<String>)]) -> Asked<bool> {
        for (name, values) in fields {
            let bears = match self.given.header(name) {
                Some(value) => values.iter().any(|wanted| wanted == value),
                None => {
                    self.ask(Atom::Exists(TextKey::Header(name.clone())))?
                        && self.ask(Atom::Text(TextKey::Header(name.clone()), Test::In(values.clone())))?
                }
            };
            if !bears {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

/// Makes a refusal at a place.
pub(super) fn refuse(reason: Reason, place: &Place) -> Stopped {
    Stopped::Refused(Refused { code: reason.code().to_owned(), place: place.clone() })
}

/// Returns the test whether a text is one of these.
fn equal(values: Vec<String>, ignore_case: bool) -> Test {
    if !ignore_case {
        return Test::In(values);
    }
    let lower = values.iter().map(|value| value.to_lowercase()).collect();
    Test::Folded(crate::expression::shape::Fold::Lower, Box::new(Test::In(lower)))
}
