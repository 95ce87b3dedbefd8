//! A set of requests, by what is known of their facts: each atom that was decided narrows it, or contradicts it.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    rc::Rc,
};

use super::{
    list_fact::ListFact,
    space::AddressSpace,
    text_fact::{Found, TextFact},
};
use crate::expression::shape::Test;

/// Begins the name of a tenant's issuer.
pub(crate) const ENTRA_ISSUER: &str = "entra:";
/// Begins the name of another issuer.
pub(crate) const OTHER_ISSUER: &str = "other:";

/// The place of a token, or of a key, in a request.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Spot {
    /// A header field, by its name in lower case.
    Header(String),
    /// A parameter of the query.
    Query(String),
}

impl fmt::Display for Spot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Header(name) => f.write_str(name),
            Self::Query(name) => write!(f, "the query parameter {name}"),
        }
    }
}

/// A fact of a token that is a text.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum TokenText {
    /// The issuer; Entra's names the tenant.
    Issuer,
    Audience,
    /// The client application, in lower case.
    Client,
    /// How the client has authenticated: `none`, `secret` or `certificate`.
    Credential,
    Subject,
    Claim(String),
}

/// A fact of a token that is a list of texts.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum TokenList {
    Roles,
    Scopes,
    Claim(String),
}

/// The name of a fact that is a text.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum TextKey {
    Header(String),
    Parameter(String),
    Token(Spot, TokenText),
}

/// The name of a fact that is a list.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct ListKey(pub(crate) Spot, pub(crate) TokenList);

/// A fact that is true or false.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Flag {
    /// A token is in this place.
    Token(Spot),
    /// The token has the form and the signature of its issuer.
    Sound(Spot),
    /// It is an application's own, and not a user's.
    App(Spot),
    /// It is an ID token.
    Id(Spot),
    /// It is bound to the caller's certificate.
    Bound(Spot),
    /// This claim of it is `true`, and not `false`.
    Claim(Spot, String),
    /// The header field was sent more than once.
    Repeated(String),
    /// The caller shows a certificate that these settings accept.
    Certificate(String),
    /// The caller has one of the keys with these digests.
    Key(Spot, String),
    /// A condition that is not taken apart, by its normal form.
    Free(String),
}

/// A question about a request, whose answer is yes or no.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Atom {
    /// Whether the caller's address is one of these.
    Caller(Rc<AddressSpace>),
    /// Whether the fact is there.
    Exists(TextKey),
    /// Whether the fact, which is there then, passes the test.
    Text(TextKey, Test),
    /// Whether the list has one of these elements.
    List(ListKey, BTreeSet<String>),
    /// Whether the list has any element.
    Filled(ListKey),
    Flag(Flag),
    /// Whether the token has expired this many seconds ago, or earlier.
    Lapsed(Spot, u64),
}

/// A set of requests of one cell.
#[derive(Clone, Debug)]
pub(crate) struct Region {
    pub(crate) callers: Rc<AddressSpace>,
    pub(crate) texts: BTreeMap<TextKey, TextFact>,
    pub(crate) lists: BTreeMap<ListKey, ListFact>,
    pub(crate) flags: BTreeMap<Flag, bool>,
    /// The least and the greatest number of seconds since the token's expiry.
    pub(crate) ages: BTreeMap<Spot, (i64, i64)>,
    /// The atoms that were decided, in their order.
    pub(crate) decided: Vec<(Atom, bool)>,
    /// Issuers that a token can be made for.
    issuers: Rc<[String]>,
}

impl Region {
    /// Returns all requests from these addresses.
    pub(crate) fn of(callers: AddressSpace, issuers: Rc<[String]>) -> Self {
        Self {
            callers: Rc::new(callers),
            texts: BTreeMap::new(),
            lists: BTreeMap::new(),
            flags: BTreeMap::new(),
            ages: BTreeMap::new(),
            decided: Vec::new(),
            issuers,
        }
    }

    /// Returns the answer, where it follows from what is known.
    pub(crate) fn decide(&self, atom: &Atom) -> Option<bool> {
        if let Some((_, holds)) = self.decided.iter().find(|(known, _)| known == atom) {
            return Some(*holds);
        }
        match (self.narrowed(atom, true).is_some(), self.narrowed(atom, false).is_some()) {
            (true, false) => Some(true),
            (false, _) => Some(false),
            (true, true) => None,
        }
    }

    /// Returns the part of the region in which the answer is this one; `None` if there is no such request.
    pub(crate) fn with(&self, atom: &Atom, holds: bool) -> Option<Self> {
        let mut part = self.narrowed(atom, holds)?;
        part.decided.push((atom.clone(), holds));
        Some(part)
    }

    fn narrowed(&self, atom: &Atom, holds: bool) -> Option<Self> {
        let mut part = self.clone();
        match atom {
            Atom::Caller(space) => {
                let callers = if holds { self.callers.and(space) } else { self.callers.without(space) };
                if callers.is_empty() {
                    return None;
                }
                part.callers = Rc::new(callers);
            }
            Atom::Exists(key) => {
                if let TextKey::Header(name) = key
                    && let Some(token) = self.flags.get(&Flag::Token(Spot::Header(name.clone())))
                    && *token != holds
                {
                    return None;
                }
                part.texts.entry(key.clone()).or_default().exists(holds).then_some(())?;
            }
            Atom::Text(key, test) => {
                part.texts.entry(key.clone()).or_default().add(test.clone(), holds).then_some(())?;
                part.mintable(key).then_some(())?;
            }
            Atom::List(key, elements) => {
                part.lists.entry(key.clone()).or_default().any(elements.clone(), holds).then_some(())?;
                part.scopes_fit(key).then_some(())?;
            }
            Atom::Filled(key) => {
                part.lists.entry(key.clone()).or_default().fill(holds).then_some(())?;
                part.scopes_fit(key).then_some(())?;
            }
            Atom::Flag(flag) => {
                if *part.flags.entry(flag.clone()).or_insert(holds) != holds {
                    return None;
                }
                if let Flag::App(spot) = flag {
                    part.scopes_fit(&ListKey(spot.clone(), TokenList::Scopes)).then_some(())?;
                }
                if let Flag::Token(Spot::Header(name)) = flag
                    && let Some(fact) = part.texts.get(&TextKey::Header(name.clone()))
                    && fact.present.is_some_and(|present| present != holds)
                {
                    return None;
                }
            }
            Atom::Lapsed(spot, seconds) => {
                let seconds = i64::try_from(*seconds).unwrap_or(i64::MAX);
                let (least, most) = part.ages.entry(spot.clone()).or_insert((i64::MIN, i64::MAX));
                if holds {
                    *least = (*least).max(seconds)
                } else {
                    *most = (*most).min(seconds.saturating_sub(1))
                }
                if *least > *most {
                    return None;
                }
            }
        }
        Some(part)
    }

    /// Entra grants scopes to users alone.
    fn scopes_fit(&self, key: &ListKey) -> bool {
        let ListKey(spot, TokenList::Scopes) = key else { return true };
        let app = self.flags.get(&Flag::App(spot.clone())) == Some(&true);
        !app || self.is_of_other_issuer(spot) || self.lists.get(key).is_none_or(ListFact::may_be_empty)
    }

    fn is_of_other_issuer(&self, spot: &Spot) -> bool {
        match self.texts.get(&TextKey::Token(spot.clone(), TokenText::Issuer)).map(|fact| fact.value(&self.issuers)) {
            Some(Found::Value(issuer)) => issuer.starts_with(OTHER_ISSUER),
            _ => false,
        }
    }

    /// Whether some issuer is left: of an issuer that no config knows nothing is told apart.
    fn mintable(&self, key: &TextKey) -> bool {
        !matches!(key, TextKey::Token(_, TokenText::Issuer))
            || self.texts.get(key).is_none_or(|fact| fact.value(&self.issuers) != Found::None)
    }
}
