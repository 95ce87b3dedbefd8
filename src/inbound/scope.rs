//! Facts and services for the policies that are being built.

use std::{collections::BTreeMap, path::Path, sync::Arc};

use super::{PolicyConfig, limit_scope::LimitScope, shared::SharedPolicies};
use crate::{
    address::AddressSets,
    credentials::Credentials,
    entra::Tenants,
    expression::{Expression, Template, Uses, condition},
    graph::Graphs,
    listener::{ClientCertificateMode, ListenerConfig},
    partner::Partners,
    request::{ReservedNames, TokenPlace},
    settings::{Faults, Place, Secrets},
};

/// What a policy may look at, and must tell, while it is built.
#[derive(Debug)]
pub(crate) struct Scope<'a> {
    /// What is wrong goes here; the build goes on.
    pub faults: &'a mut Faults,
    /// The named address sets.
    pub sets: &'a AddressSets,
    /// The tenants by name, and their key sets.
    pub tenants: &'a Tenants,
    /// The counters of the process, and whose a policy has.
    pub(crate) limits: LimitScope<'a>,
    /// What named values that are secrets stand for.
    pub secrets: &'a Secrets,
    /// Named lists of policies, for `include-fragment`.
    pub(crate) fragments: &'a Fragments,
    /// The policies of lists that several routes run, as far as they are built.
    pub(crate) shared: &'a SharedPolicies,
    /// How deeply the list that is built stands within others.
    pub depth: usize,
    /// The names that the path of the route captures; `None` for policies that belong to no one route.
    pub captures: Option<&'a [String]>,
    /// Whether the route says `anonymous: true`.
    pub anonymous: bool,
    /// Header names that are spoken for.
    pub reserved: &'a mut ReservedNames,
    /// What bears on clients' certificates.
    pub(crate) certificates: CertificateScope<'a>,
    /// The partners, and what bears on them of the route; `None` for policies that belong to no one route.
    pub(crate) partners: Option<(&'a Arc<Partners>, PartnerRoute<'a>)>,
    /// The places where token policies of the route look for a token, gathered as they are built.
    pub token_places: &'a mut Vec<TokenPlace>,
    /// Microsoft Graph, and who can ask it; `None` for policies that belong to no one route.
    pub(crate) graph: Option<(&'a Graphs, &'a Credentials)>,
    /// What is known of tokens where the policy stands.
    pub way: &'a mut TokensBefore,
}

impl Scope<'_> {
    /// Reads a value that may be an expression, and judges what it names by what the route has before it.
    pub(crate) fn template(&mut self, text: &str, place: &Place) -> Option<Template> {
        let template = self.template_on_answer(text, place)?;
        self.is_before_answer(template.uses(), place).then_some(template)
    }

    /// As [`template`](Self::template), for a value that is made when there is an answer.
    pub(crate) fn template_on_answer(&mut self, text: &str, place: &Place) -> Option<Template> {
        let template = Template::build(text, &self.way.names, place, self.faults)?;
        match &template {
            Template::Literal(_) => Some(template),
            Template::Expression(expression) => self.can_evaluate(expression, place).then_some(template),
        }
    }

    /// Whether there is no answer yet that the expression would have to read; a fault otherwise.
    pub(crate) fn is_before_answer(&mut self, uses: Uses, place: &Place) -> bool {
        if uses.response {
            let cure = "use it in `outbound`, or in the `increment-condition` of a limit";
            self.faults.error(place, "the expression reads `response`, and there is no answer yet", cure);
        }
        !uses.response
    }

    /// Reads a condition, and judges what it names by what the route has before it.
    pub(crate) fn condition(&mut self, text: &str, place: &Place) -> Option<Expression> {
        let expression = self.condition_on_answer(text, place)?;
        self.is_before_answer(expression.uses(), place).then_some(expression)
    }

    /// As [`condition`](Self::condition), for one that may be judged when there is an answer.
    pub(crate) fn condition_on_answer(&mut self, text: &str, place: &Place) -> Option<Expression> {
        let expression = condition(text, &self.way.names, place, self.faults)?;
        self.can_evaluate(&expression, place).then_some(expression)
    }

    /// Whether what the expression names can be there. An expression that would refuse every request is a mistake in the config.
    pub(crate) fn can_evaluate(&mut self, expression: &Expression, place: &Place) -> bool {
        let before = self.faults.errors();
        if expression.uses().token && self.token_places.is_empty() {
            let cure = if self.anonymous {
                "an anonymous route knows no token: leave `anonymous` out and validate one first"
            } else {
                "put validate-azure-ad-token before it"
            };
            self.faults.error(place, "the expression reads `token`, and no policy before it validates one", cure);
        }
        if expression.uses().partner && !self.partners.is_some_and(|(_, route)| route.checked) {
            let cure = "put check-partner before it";
            self.faults.error(place, "the expression reads `partner`, and no policy before it says which one calls", cure);
        }
        if expression.uses().certificate && !self.certificates.validated {
            let cure = "put validate-client-certificate before it";
            let message = "the expression reads `caller.certificate`, and nothing before it accepts one";
            self.faults.error(place, message, cure);
        }
        for name in expression.captures() {
            match self.captures {
                None => {
                    let message = format!("`captures.{name}` has a meaning only within a route");
                    self.faults.error(place, message, "move the policy into the routes whose path captures it");
                }
                Some(known) if !known.iter().any(|known| known == name) => {
                    let message = format!("the route's path captures no `{name}`");
                    let cure = if known.is_empty() {
                        format!("write the path with {{{name}}} in it")
                    } else {
                        format!("it captures {}", known.join(", "))
                    };
                    self.faults.error(place, message, cure);
                }
                Some(_) => {}
            }
        }
        self.faults.errors() == before
    }
}

/// What policies establish about tokens on the way that a request takes to some point of a list.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct TokensBefore {
    /// Whether a token policy may have held.
    pub has_token: bool,
    /// The names of tokens besides `token`.
    pub names: Vec<Box<str>>,
    /// Whether a check of partners follows, whichever way a request takes from here.
    pub partner_check_follows: bool,
}

impl TokensBefore {
    /// Takes in what another way to the same point establishes.
    pub(crate) fn join(&mut self, other: &Self) {
        self.has_token |= other.has_token;
        self.names.extend(other.names.iter().filter(|name| !self.names.contains(name)).cloned().collect::<Vec<_>>());
    }
}

/// What bears on clients' certificates where a policy is built.
#[derive(Clone, Copy, Debug)]
pub(crate) struct CertificateScope<'a> {
    /// What file names are relative to.
    pub(crate) base: &'a Path,
    /// What the listeners ask.
    pub(crate) asked: AskedCertificates,
    /// Whether `caller.certificate` may be there: a policy before, or a listener, accepts one.
    pub(crate) validated: bool,
}

impl Default for CertificateScope<'_> {
    fn default() -> Self {
        Self { base: Path::new(""), asked: AskedCertificates::default(), validated: false }
    }
}

/// What the listeners of a config ask of clients' certificates.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct AskedCertificates {
    /// Some listener asks for them.
    pub(crate) any: bool,
    /// Some listener requires them.
    pub(crate) required: bool,
    /// There are revocation lists wherever they are asked for.
    pub(crate) every_one_has_lists: bool,
}

impl AskedCertificates {
    /// What these listeners ask.
    pub(crate) fn by(listeners: &[ListenerConfig]) -> Self {
        let mut asked = listeners.iter().filter_map(|listener| listener.client_certificates.as_ref()).peekable();
        Self {
            any: asked.peek().is_some(),
            every_one_has_lists: asked.clone().all(|asked| !asked.crl.is_empty()),
            required: asked.any(|asked| asked.mode == ClientCertificateMode::Required),
        }
    }
}

/// The route that a policy is built for, as far as partners are concerned.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PartnerRoute<'a> {
    /// Its name.
    pub(crate) name: &'a str,
    /// Whether a token policy stands before the check.
    pub(crate) has_token: bool,
    /// Whether its token policies let tokens of more than one tenant through.
    pub(crate) several_tenants: bool,
    /// Whether a check stands before what is built now, so that it is known which partner calls.
    pub(crate) checked: bool,
}

impl<'a> PartnerRoute<'a> {
    /// A route of this name whose token, if there is one, is of one tenant.
    pub(crate) const fn of(name: &'a str) -> Self {
        Self { name, has_token: false, several_tenants: false, checked: false }
    }
}

/// Named lists of policies, for `include-fragment`.
pub(crate) type Fragments = BTreeMap<String, Vec<PolicyConfig>>;
