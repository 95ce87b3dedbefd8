//! Conditions on a region: true, false or an error, or the next atom that has to be decided.

use std::{collections::BTreeSet, net::IpAddr, rc::Rc};

use super::{
    region::{Atom, Flag, ListKey, Spot, TextKey, TokenList, TokenText},
    run::{Asked, Open, Run, State, Variable},
    space::AddressSpace,
    text_fact::passes,
    world::{FreeCondition, texts_of},
};
use crate::{
    address::AddressRange,
    explain::position,
    expression::shape::{Fold, Operand, Shape, Source, Test},
};

/// The value of a condition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Truth {
    Holds,
    Fails,
    /// It reads what is absent, or of another kind.
    Error,
}

impl From<bool> for Truth {
    fn from(holds: bool) -> Self {
        if holds { Self::Holds } else { Self::Fails }
    }
}

/// Returns the claim of a fact that has a name of its own.
fn claim_source(claim: &str) -> Option<Source> {
    Some(match claim {
        "tid" => Source::Tenant,
        "azp" => Source::Client,
        "sub" => Source::Subject,
        "roles" => Source::Roles,
        _ => return None,
    })
}

impl Run<'_> {
    /// Evaluates a condition, from left to right; an error ends it.
    pub(super) fn truth(&self, shape: &Shape, state: &State) -> Asked<Truth> {
        Ok(match shape {
            Shape::Constant(value) => Truth::from(*value),
            Shape::And(parts) => return self.up_to(parts, Truth::Fails, state),
            Shape::Or(parts) => return self.up_to(parts, Truth::Holds, state),
            Shape::Not(part) => match self.truth(part, state)? {
                Truth::Holds => Truth::Fails,
                Truth::Fails => Truth::Holds,
                Truth::Error => Truth::Error,
            },
            Shape::If(parts) => match self.truth(&parts[0], state)? {
                Truth::Holds => return self.truth(&parts[1], state),
                Truth::Fails => return self.truth(&parts[2], state),
                Truth::Error => Truth::Error,
            },
            Shape::Has(operand) => Truth::from(self.exists(operand, state)?),
            Shape::Test(operand, test) => return self.test(operand, test, state),
            Shape::Free { text, reads, literals } => {
                for operand in reads {
                    if !self.exists(operand, state)? {
                        return Ok(Truth::Error);
                    }
                }
                return self.free(text, (reads, literals), state);
            }
        })
    }

    /// Evaluates conditions up to the first that is `ends`.
    fn up_to(&self, parts: &[Shape], ends: Truth, state: &State) -> Asked<Truth> {
        for part in parts {
            let truth = self.truth(part, state)?;
            if truth == ends || truth == Truth::Error {
                return Ok(truth);
            }
        }
        Ok(if ends == Truth::Holds { Truth::Fails } else { Truth::Holds })
    }

    /// Decides a condition that is not taken apart: one for each text and the facts that the text means.
    fn free(&self, text: &str, (reads, literals): (&[Operand], &[String]), state: &State) -> Asked<Truth> {
        let meant: Vec<String> = reads.iter().map(|operand| self.meaning(operand, state)).collect();
        let name = format!("{text} of {}", meant.join(", "));
        let atom = Atom::Flag(Flag::Free(name.clone()));
        match self.region.decide(&atom) {
            Some(holds) => Ok(Truth::from(holds)),
            None => {
                let mut known = self.world.free.borrow_mut();
                let free = known.entry(name).or_insert_with(|| FreeCondition {
                    reads: reads.iter().filter_map(|operand| self.chosen(operand, state)).collect(),
                    literals: literals.to_vec(),
                    given: BTreeSet::new(),
                    reads_caller: reads.iter().any(|operand| operand.source == Source::Caller),
                    place: state.at.clone(),
                    position: state
                        .at
                        .as_ref()
                        .and_then(|place| position(&self.side.document, place))
                        .map(|at| format!("{}:{}", at.file, at.line)),
                });
                // The same condition may be met in several cells.
                free.given.extend(reads.iter().filter_map(|operand| self.given_text(operand, state)));
                Err(Open(atom))
            }
        }
    }

    /// Returns the name of a fact that a caller can choose.
    fn chosen(&self, operand: &Operand, state: &State) -> Option<TextKey> {
        let of_token = |field: TokenText| Some(TextKey::Token(self.spot(operand, state)?.clone(), field));
        match &operand.source {
            Source::Header(name) => Some(TextKey::Header(name.clone())),
            Source::Parameter(name) => Some(TextKey::Parameter(name.clone())),
            Source::Client => of_token(TokenText::Client),
            Source::Subject => of_token(TokenText::Subject),
            Source::Claim(name) => of_token(TokenText::Claim(name.clone())),
            Source::Variable(name) => match state.variables.get(name) {
                Some(Variable::Same(operand, _)) => self.chosen(operand, state),
                _ => None,
            },
            _ => None,
        }
    }

    /// Returns the value of a fact that the cell or the policies before give.
    fn given_text(&self, operand: &Operand, state: &State) -> Option<String> {
        match &operand.source {
            Source::Method => Some(self.given.method.clone()),
            Source::Path => Some(self.given.path.clone()),
            Source::Host => Some(self.given.host.clone()),
            Source::Scheme => Some(self.given.scheme.as_str().to_owned()),
            Source::Capture(name) => self.given.capture(name).map(str::to_owned),
            Source::Header(name) => self.given.header(name).map(str::to_owned),
            Source::Partner => state.partner.clone(),
            Source::Given("route.name") => Some(self.route.name.clone()),
            Source::Variable(name) => match state.variables.get(name)? {
                Variable::Text(text) => Some(text.clone()),
                Variable::Same(operand, _) => self.given_text(operand, state),
                Variable::Made { .. } => None,
            },
            _ => None,
        }
    }

    /// Returns a text that is the same for the same fact.
    pub(super) fn meaning(&self, operand: &Operand, state: &State) -> String {
        match &operand.source {
            Source::Variable(name) => match state.variables.get(name) {
                Some(variable) => format!("{variable:?}"),
                None => "absent".to_owned(),
            },
            Source::Partner => format!("partner {:?}", state.partner),
            source => match self.spot(operand, state) {
                Some(spot) => format!("{source:?} of {spot}"),
                None => format!("{source:?}"),
            },
        }
    }

    /// Returns the place of the token that an operand reads; `None` where there is none.
    fn spot<'s>(&self, operand: &Operand, state: &'s State) -> Option<&'s Spot> {
        match &operand.token {
            None => state.token.as_ref(),
            Some(name) => state.named.iter().find(|(other, _)| other == name).map(|(_, spot)| spot),
        }
    }

    /// Returns whether the operand is there.
    pub(super) fn exists(&self, operand: &Operand, state: &State) -> Asked<bool> {
        Ok(match &operand.source {
            Source::Method | Source::Path | Source::Host | Source::Scheme | Source::Caller | Source::Given(_) => true,
            Source::Header(name) => return self.header_exists(name),
            Source::Parameter(name) => return self.ask(Atom::Exists(TextKey::Parameter(name.clone()))),
            Source::Capture(name) => self.given.capture(name).is_some(),
            Source::Partner => state.partner.is_some(),
            Source::Variable(name) => match state.variables.get(name) {
                None => false,
                Some(Variable::Same(operand, _)) => return self.exists(operand, state),
                Some(Variable::Text(_) | Variable::Made { .. }) => true,
            },
            Source::Other(name) => return self.ask(Atom::Flag(Flag::Free(format!("{name} is there")))),
            // Entra's tokens have a subject, and so have those of other issuers (RFC 9068).
            Source::TokenKind | Source::Tenant | Source::Client | Source::Subject | Source::Scopes | Source::Roles => {
                self.spot(operand, state).is_some()
            }
            Source::Claim(name) => match (self.spot(operand, state), claim_source(name)) {
                (None, _) => false,
                (Some(spot), Some(Source::Roles)) => return self.ask(Atom::Filled(ListKey(spot.clone(), TokenList::Roles))),
                (Some(_), Some(source)) => return self.exists(&Operand { source, token: operand.token.clone() }, state),
                (Some(spot), None) => return self.claim_exists(spot, name),
            },
        })
    }

    /// Returns whether the token has this claim.
    pub(super) fn claim_exists(&self, spot: &Spot, name: &str) -> Asked<bool> {
        match self.world.lists_claim(name) {
            true => self.ask(Atom::Filled(ListKey(spot.clone(), TokenList::Claim(name.to_owned())))),
            false => self.ask(Atom::Exists(TextKey::Token(spot.clone(), TokenText::Claim(name.to_owned())))),
        }
    }

    /// Returns whether the request has this header field, as policies of the route see it.
    pub(super) fn header_exists(&self, name: &str) -> Asked<bool> {
        if self.given.header(name).is_some() {
            return Ok(true);
        }
        if !self.sees(name)? {
            return Ok(false);
        }
        self.ask(Atom::Exists(TextKey::Header(name.to_owned())))
    }

    /// Tests a header field that is there.
    pub(super) fn header_passes(&self, name: &str, test: &Test) -> Asked<bool> {
        match self.given.header(name) {
            Some(value) => Ok(passes(test, value)),
            None => self.ask(Atom::Text(TextKey::Header(name.to_owned()), test.clone())),
        }
    }

    /// Tests an operand, which has to be there.
    fn test(&self, operand: &Operand, test: &Test, state: &State) -> Asked<Truth> {
        if !self.exists(operand, state)? {
            return Ok(Truth::Error);
        }
        let text = |value: &str| of_text(test, value);
        let key = |key: TextKey| match is_of_text(test) {
            true => self.ask(Atom::Text(key, test.clone())).map(Truth::from),
            false => Ok(Truth::Error),
        };
        let opaque = || self.free(&format!("{test:?}"), (std::slice::from_ref(operand), &texts_of(test)), state);
        match &operand.source {
            Source::Method => Ok(text(&self.given.method)),
            Source::Path => Ok(text(&self.given.path)),
            Source::Host => Ok(text(&self.given.host)),
            Source::Scheme => Ok(text(self.given.scheme.as_str())),
            Source::Capture(name) => Ok(self.given.capture(name).map_or(Truth::Error, text)),
            Source::Partner => Ok(state.partner.as_deref().map_or(Truth::Error, text)),
            Source::Given("route.name") => Ok(text(&self.route.name)),
            Source::Header(name) => match is_of_text(test) {
                true => self.header_passes(name, test).map(Truth::from),
                false => Ok(Truth::Error),
            },
            Source::Parameter(name) => key(TextKey::Parameter(name.clone())),
            Source::Caller => self.caller(test, opaque),
            Source::Given(_) | Source::Other(_) => opaque(),
            Source::Variable(name) => match state.variables.get(name) {
                Some(Variable::Text(value)) => Ok(text(value)),
                Some(Variable::Same(operand, _)) => self.test(operand, test, state),
                Some(Variable::Made { .. }) | None => opaque(),
            },
            _ => match self.spot(operand, state).cloned() {
                Some(spot) => self.token_test((operand, &spot), test, state),
                None => Ok(Truth::Error),
            },
        }
    }

    fn token_test(&self, (operand, spot): (&Operand, &Spot), test: &Test, state: &State) -> Asked<Truth> {
        let opaque = || self.free(&format!("{test:?}"), (std::slice::from_ref(operand), &texts_of(test)), state);
        let text = |field: TokenText| match is_of_text(test) {
            true => self.ask(Atom::Text(TextKey::Token(spot.clone(), field), test.clone())).map(Truth::from),
            false => Ok(Truth::Error),
        };
        let list = |list: TokenList| match test {
            Test::Holds(texts) => {
                let texts = texts.iter().cloned().collect();
                self.ask(Atom::List(ListKey(spot.clone(), list), texts)).map(Truth::from)
            }
            _ => Ok(Truth::Error),
        };
        match &operand.source {
            Source::TokenKind => match (of_text(test, "app"), of_text(test, "user")) {
                (app, user) if app == user => Ok(app),
                (app, user) => Ok(if self.ask(Atom::Flag(Flag::App(spot.clone())))? { app } else { user }),
            },
            Source::Tenant => match test {
                Test::In(tenants) => {
                    let issuers = self.world.issuers_of_tenants(tenants);
                    self.ask(Atom::Text(TextKey::Token(spot.clone(), TokenText::Issuer), Test::In(issuers))).map(Truth::from)
                }
                _ => opaque(),
            },
            Source::Client => text(TokenText::Client),
            Source::Subject => text(TokenText::Subject),
            Source::Scopes => list(TokenList::Scopes),
            Source::Roles => list(TokenList::Roles),
            Source::Claim(name) => match claim_source(name) {
                Some(source) => self.test(&Operand { source, token: operand.token.clone() }, test, state),
                // Times and numbers are not cut.
                None if matches!(name.as_str(), "exp" | "iat" | "nbf" | "ver" | "aud" | "iss" | "scp" | "idtyp") => opaque(),
                None if self.world.lists_claim(name) => list(TokenList::Claim(name.clone())),
                None if *test == Test::True => {
                    let flag = Flag::Claim(spot.clone(), name.clone());
                    if self.world.has_texts(name) { Ok(Truth::Error) } else { self.ask(Atom::Flag(flag)).map(Truth::from) }
                }
                None if self.world.has_texts(name) => text(TokenText::Claim(name.clone())),
                None => Ok(Truth::Error),
            },
            _ => opaque(),
        }
    }

    /// Tests the caller's address.
    fn caller(&self, test: &Test, opaque: impl Fn() -> Asked<Truth>) -> Asked<Truth> {
        let space = match test {
            Test::Networks(networks) => {
                AddressSpace::of(networks.iter().filter_map(|network| network.to_string().parse::<AddressRange>().ok()))
            }
            Test::In(texts) => {
                // As the gateway writes them: other spellings are no address of a caller.
                let written =
                    texts.iter().filter(|text| text.parse::<IpAddr>().is_ok_and(|address| address.to_string() == **text));
                AddressSpace::of(written.filter_map(|text| text.parse::<AddressRange>().ok()))
            }
            _ => return opaque(),
        };
        self.caller_in(&Rc::new(space)).map(Truth::from)
    }
}

/// Tests a text that is known.
fn of_text(test: &Test, value: &str) -> Truth {
    if is_of_text(test) { Truth::from(passes(test, value)) } else { Truth::Error }
}

/// Returns whether a test is one of texts.
fn is_of_text(test: &Test) -> bool {
    match test {
        Test::In(_) | Test::Starts(_) | Test::Ends(_) | Test::Contains(_) | Test::Matches(_) => true,
        Test::Networks(_) => true,
        Test::Folded(Fold::Lower | Fold::Upper, test) => is_of_text(test),
        Test::True | Test::Holds(_) => false,
    }
}
