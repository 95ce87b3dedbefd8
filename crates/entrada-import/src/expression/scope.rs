//! The facts that an expression may read at its place.

use std::collections::{BTreeMap, BTreeSet};

use super::value::Kind;
use crate::csharp::{Piece, Refusal};

/// A section of a policy document.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Section {
    Inbound,
    Backend,
    Outbound,
    OnError,
}

impl Section {
    /// Returns the name of the element.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Inbound => "inbound",
            Self::Backend => "backend",
            Self::Outbound => "outbound",
            Self::OnError => "on-error",
        }
    }
}

/// The content of a variable that is no text, number or boolean.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Holds {
    /// A value that expressions here can read.
    Value,
    /// The token of a policy, by its name here.
    Token(String),
    /// The token of the gateway's identity, for a resource.
    ManagedIdentity { resource: String, client: Option<String> },
    /// Something that has no counterpart; reading it is refused.
    Nothing(Refusal),
}

/// A variable at one place of the flattened order.
#[derive(Clone, Debug)]
pub(crate) struct Variable {
    /// Its name here.
    pub(crate) name: String,
    pub(crate) holds: Holds,
    pub(crate) kind: Kind,
    /// Whether it may not have been set.
    pub(crate) unset: bool,
    /// Whether it may have been set to null.
    pub(crate) null: bool,
    /// All the texts that it can have, if they are known.
    pub(crate) texts: Option<Vec<Vec<Piece>>>,
}

/// Names and constants of an API and its operation; `None` where the import does not know them.
#[derive(Clone, Debug, Default)]
pub(crate) struct Constants {
    /// By member: `Api.Id`, `Operation.UrlTemplate`.
    pub(crate) known: BTreeMap<&'static str, String>,
    /// Whether this is one document by itself, so that the operation is unknown.
    pub(crate) is_single: bool,
}

/// The parameters of an operation's template.
#[derive(Clone, Debug, Default)]
pub(crate) struct Parameters {
    /// The captures, by their name in the template.
    pub(crate) captures: BTreeMap<String, String>,
    /// The parameters of the query in the template.
    pub(crate) query: BTreeSet<String>,
}

/// The facts that an expression may read.
#[derive(Clone, Debug)]
pub(crate) struct Scope {
    pub(crate) section: Section,
    pub(crate) variables: BTreeMap<String, Variable>,
    /// The names of the tokens that policies before have accepted, the first one being `token`, with the header each is read from.
    pub(crate) tokens: Vec<(String, String)>,
    /// Whether a partner is known at this place.
    pub(crate) has_partner: bool,
    /// Whether `response` may be read in a section that has none yet.
    pub(crate) may_read_response: bool,
    /// Whether the path was rewritten before.
    pub(crate) is_rewritten: bool,
    pub(crate) constants: Constants,
    pub(crate) parameters: Parameters,
    /// The fields and parameters of the request that policies before have changed: what is read here is the caller's.
    pub(crate) changed_headers: BTreeSet<String>,
    pub(crate) changed_parameters: BTreeSet<String>,
    pub(crate) changed_method: bool,
    /// The named values that are secrets.
    pub(crate) secrets: BTreeSet<String>,
    /// The named values whose content is known.
    pub(crate) named: BTreeMap<String, String>,
}

impl Scope {
    /// Makes the scope of an empty list.
    pub(crate) fn new(section: Section) -> Self {
        Self {
            section,
            variables: BTreeMap::new(),
            tokens: Vec::new(),
            has_partner: false,
            may_read_response: false,
            is_rewritten: false,
            constants: Constants::default(),
            parameters: Parameters::default(),
            changed_headers: BTreeSet::new(),
            changed_parameters: BTreeSet::new(),
            changed_method: false,
            secrets: BTreeSet::new(),
            named: BTreeMap::new(),
        }
    }

    /// Joins what holds behind the branches of a choice, each of which may have been taken.
    pub(crate) fn join(&mut self, branches: &[Self]) {
        let Some((first, rest)) = branches.split_first() else { return };
        let mut joined = first.clone();
        for branch in rest {
            let names: BTreeSet<_> = joined.variables.keys().chain(branch.variables.keys()).cloned().collect();
            for name in names {
                let variable = match (joined.variables.get(&name), branch.variables.get(&name)) {
                    (Some(own), Some(other)) => join_variables(own, other),
                    (Some(one), None) | (None, Some(one)) => Variable { unset: true, ..one.clone() },
                    (None, None) => continue,
                };
                joined.variables.insert(name, variable);
            }
            joined.tokens.retain(|token| branch.tokens.contains(token));
            joined.has_partner &= branch.has_partner;
            joined.is_rewritten |= branch.is_rewritten;
            joined.changed_method |= branch.changed_method;
            joined.changed_headers.extend(branch.changed_headers.iter().cloned());
            joined.changed_parameters.extend(branch.changed_parameters.iter().cloned());
        }
        *self = Self { section: self.section, may_read_response: self.may_read_response, ..joined };
    }
}

fn join_variables(own: &Variable, other: &Variable) -> Variable {
    let texts = own.texts.clone().zip(other.texts.clone()).map(|(mut texts, more)| {
        more.into_iter().for_each(|text| {
            if !texts.contains(&text) {
                texts.push(text);
            }
        });
        texts
    });
    let holds = match (&own.holds, &other.holds) {
        (Holds::Nothing(refusal), _) | (_, Holds::Nothing(refusal)) => Holds::Nothing(refusal.clone()),
        (left, right) if left == right => left.clone(),
        _ => Holds::Nothing(Refusal::new("variable-of-two-kinds", "it holds different things on different paths", 0)),
    };
    Variable {
        name: own.name.clone(),
        holds,
        kind: if own.kind == other.kind { own.kind } else { Kind::Any },
        unset: own.unset || other.unset,
        null: own.null || other.null,
        texts,
    }
}
