//! The context in which policies are built.

use std::{collections::BTreeMap, path::Path, sync::Arc};

use super::{credential_names::CredentialNames, limit_scope::LimitContext};
use crate::{
    address::AddressSets,
    credentials::Credentials,
    entra::Tenants,
    expression::{Expression, Template, Uses, condition},
    graph::Graphs,
    listener::{ClientCertificateMode, ClientCertificatesConfig},
    partner::Partners,
    request::{ReservedNames, TokenPlace},
    settings::{Faults, Lint, Place, Secrets},
    upstream::{UpstreamConfig, Upstreams},
};

/// The context in which a policy is built: the data that it may use, and the collections that it adds to.
#[derive(Debug)]
pub(crate) struct BuildContext<'a> {
    /// The collected faults; the build continues after a fault.
    pub faults: &'a mut Faults,
    /// The named address sets.
    pub sets: &'a AddressSets,
    /// The tenants by name, and their key sets.
    pub tenants: &'a Tenants,
    /// The counters of the process, with the owner of the policy's counts.
    pub(crate) limits: LimitContext<'a>,
    /// The values of secret named values.
    pub secrets: &'a Secrets,
    /// The captures of the route's path; `None` for policies outside of any route.
    pub captures: Option<&'a [String]>,
    /// True if the route is `anonymous: true`.
    pub anonymous: bool,
    /// The reserved header names.
    pub reserved: &'a mut ReservedNames,
    /// The state of clients' certificates.
    pub(crate) certificates: CertificateContext<'a>,
    /// The partners, and the route's properties that concern them; `None` for policies outside of any route.
    pub(crate) partners: Option<(&'a Arc<Partners>, PartnerRoute<'a>)>,
    /// The places in which token policies of the route look for a token, collected while they are built.
    pub token_places: &'a mut Vec<TokenPlace>,
    /// The places in which policies of the route look for an API key, collected likewise.
    pub(crate) key_places: &'a mut Vec<TokenPlace>,
    /// Microsoft Graph, and the credentials for it; `None` for policies outside of any route.
    pub(crate) graph: Option<(&'a Graphs, &'a Credentials)>,
    /// The tokens and variables that are known at the policy's place.
    pub tokens_before: &'a mut TokensBefore,
    /// The upstreams, and their settings, also of those that could not be built; `None` outside of any config.
    pub(crate) upstreams: Option<(&'a Upstreams, &'a BTreeMap<String, UpstreamConfig>)>,
    /// The names under which callers send credentials.
    pub(crate) credential_names: &'a CredentialNames,
    /// Whether the policy is one of `on-error`, so that there is a refusal.
    pub(crate) on_error: OnError,
}

/// Whether a policy is one of `on-error`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum OnError {
    /// It is not.
    #[default]
    No,
    /// It is one of a route's.
    OfRoute,
    /// It runs on every route, and on requests without one.
    Everywhere,
}

impl BuildContext<'_> {
    /// Reads a value that may be an expression, and checks its names against the route's earlier policies.
    pub(crate) fn template(&mut self, text: &str, place: &Place) -> Option<Template> {
        let template = self.template_on_answer(text, place)?;
        self.is_before_answer(template.uses(), place).then_some(template)
    }

    /// Does the same as [`template`](Self::template) for a value that is evaluated with a response.
    pub(crate) fn template_on_answer(&mut self, text: &str, place: &Place) -> Option<Template> {
        let mut template = Template::build(text, &self.tokens_before.names, place, self.faults)?;
        match &mut template {
            Template::Literal(_) => Some(template),
            Template::Expression(expression) => self.can_evaluate(expression, place).then_some(template),
        }
    }

    /// Returns whether the expression needs no response, which does not exist yet; reports a fault otherwise.
    pub(crate) fn is_before_answer(&mut self, uses: Uses, place: &Place) -> bool {
        if uses.response {
            let cure = "use it in `outbound`; `response.status` in the `increment-condition` of a limit, too";
            self.faults.error(place, "the expression reads `response`, and there is no answer yet", cure);
        }
        !uses.response
    }

    /// Reads a condition, and checks its names against the route's earlier policies.
    pub(crate) fn condition(&mut self, text: &str, place: &Place) -> Option<Expression> {
        let expression = self.condition_on_answer(text, place)?;
        self.is_before_answer(expression.uses(), place).then_some(expression)
    }

    /// Does the same as [`condition`](Self::condition) for one that may be evaluated with a response.
    pub(crate) fn condition_on_answer(&mut self, text: &str, place: &Place) -> Option<Expression> {
        let mut expression = condition(text, &self.tokens_before.names, place, self.faults)?;
        if let Some(claim) = expression.bare_claim() {
            let message =
                format!("`{claim}` by itself holds only where the claim is `true`, and fails for any text, number or list");
            let cure = format!(
                "compare it, as `{claim} == 'yes'`; `has({claim})` asks whether it is there, `{claim} == true` whether it is true"
            );
            self.faults.warning(Lint::BareClaim, place, message, cure);
        }
        self.can_evaluate(&mut expression, place).then_some(expression)
    }

    /// Does the same as [`condition`](Self::condition) for one that is evaluated when the response has ended, of which only the status
    /// is then known.
    pub(crate) fn condition_after_answer(&mut self, text: &str, place: &Place) -> Option<Expression> {
        let expression = self.condition_on_answer(text, place)?;
        if expression.uses().response_headers {
            let cure = "use `response.status`, or set a variable of it in `outbound`";
            self.faults.error(place, "the expression reads `response.headers`, which are gone when it is evaluated", cure);
            return None;
        }
        Some(expression)
    }

    /// Returns whether the values that the expression names can exist. An expression that would refuse every request is a mistake
    /// in the config.
    ///
    /// The data that went into the variables that it reads is then data that it reads itself.
    pub(crate) fn can_evaluate(&mut self, expression: &mut Expression, place: &Place) -> bool {
        let before = self.faults.errors();
        // What a policy before would have established may be absent wherever a request was refused before it.
        self.knows_variables(expression, place);
        if self.on_error == OnError::Everywhere {
            return true;
        }
        if expression.uses().error && !self.is_on_error() {
            let cure = "use it in `on-error`";
            self.faults.error(place, "the expression reads `error`, and there is none here", cure);
        }
        if expression.uses().token && self.token_places.is_empty() {
            let cure = if self.anonymous {
                "an anonymous route knows no token: leave `anonymous` out and validate one first"
            } else {
                "put validate-azure-ad-token before it"
            };
            self.faults.missing(place, "the expression reads `token`, and no policy before it validates one", cure);
        }
        if expression.uses().partner && !self.partners.is_some_and(|(_, route)| route.checked) {
            let cure = "put check-partner before it";
            self.faults.missing(place, "the expression reads `partner`, and no policy before it says which one calls", cure);
        }
        if expression.uses().certificate && !self.certificates.validated {
            let cure = "put validate-client-certificate before it";
            let message = "the expression reads `caller.certificate`, and nothing before it accepts one";
            self.faults.missing(place, message, cure);
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

    /// Returns whether the policy is one of `on-error`.
    pub(crate) fn is_on_error(&self) -> bool {
        self.on_error != OnError::No
    }

    /// Checks that the variables of an expression can have been set.
    fn knows_variables(&mut self, expression: &mut Expression, place: &Place) {
        let mut through = Uses::default();
        for name in expression.variables() {
            if let Some(known) = self.tokens_before.variables.iter().find(|known| *known.name == *name) {
                through = through.or(known.uses);
                continue;
            }
            if self.on_error == OnError::Everywhere {
                continue;
            }
            let known: Vec<_> = self.tokens_before.variables.iter().map(|known| &*known.name).collect();
            let cure = match known.as_slice() {
                [] => "put `set-variable` before it".to_owned(),
                known => format!("put `set-variable` before it; set are {}", known.join(", ")),
            };
            self.faults.missing(place, format!("no policy before it sets `variables.{name}`"), cure);
        }
        expression.reads_through(through);
    }

    /// Returns whether the value of an expression may be a caller's credential, or contain one.
    pub(crate) fn is_confidential(&self, expression: &Expression) -> bool {
        expression.uses().confidential
            || expression.headers().iter().any(|name| self.credential_names.is_header(name))
            || expression.parameters().any(|name| self.credential_names.is_parameter(name))
    }

    /// Notes that a policy sets a variable to such a value.
    pub(crate) fn sets(&mut self, name: &str, value: Option<&Template>) {
        let uses = match value {
            Some(Template::Expression(expression)) => {
                Uses { confidential: self.is_confidential(expression), ..expression.uses() }
            }
            Some(Template::Literal(_)) | None => Uses::default(),
        };
        match self.tokens_before.variables.iter_mut().find(|known| *known.name == *name) {
            // An earlier value may be the one that is read.
            Some(known) => known.uses = known.uses.or(uses),
            None => self.tokens_before.variables.push(KnownVariable { name: name.into(), uses }),
        }
    }
}

/// A variable that a policy may have set.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct KnownVariable {
    name: Box<str>,
    /// The data that its value may have been made of.
    uses: Uses,
}

/// The tokens and variables that policies establish on the path that a request takes to some point of a list.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct TokensBefore {
    /// True if a token policy may have succeeded.
    pub has_token: bool,
    /// The names of tokens besides `token`.
    pub names: Vec<Box<str>>,
    /// The variables that may have been set.
    pub variables: Vec<KnownVariable>,
    /// True if a check of partners follows, whatever path a request takes from here.
    pub partner_check_follows: bool,
}

impl TokensBefore {
    /// Adds the tokens of another path to the same point.
    pub(crate) fn join(&mut self, other: &Self) {
        self.has_token |= other.has_token;
        self.names.extend(other.names.iter().filter(|name| !self.names.contains(name)).cloned().collect::<Vec<_>>());
        for other in &other.variables {
            match self.variables.iter_mut().find(|known| known.name == other.name) {
                Some(known) => known.uses = known.uses.or(other.uses),
                None => self.variables.push(other.clone()),
            }
        }
    }
}

/// The state of clients' certificates where a policy is built.
#[derive(Clone, Copy, Debug)]
pub(crate) struct CertificateContext<'a> {
    /// The folder that file names are relative to.
    pub(crate) base: &'a Path,
    /// The listeners' requirements.
    pub(crate) asked: AskedCertificates,
    /// True if `caller.certificate` may exist: an earlier policy, or a listener, accepts one.
    pub(crate) validated: bool,
}

impl Default for CertificateContext<'_> {
    fn default() -> Self {
        Self { base: Path::new(""), asked: AskedCertificates::default(), validated: false }
    }
}

/// The requirements of a config's listeners for clients' certificates.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct AskedCertificates {
    /// True if some listener requests them.
    pub(crate) any: bool,
    /// True if some listener requires them.
    pub(crate) required: bool,
    /// True if there are revocation lists wherever they are requested.
    pub(crate) every_one_has_lists: bool,
}

impl AskedCertificates {
    /// Adds that other proxies tell the certificates of their callers, if they do.
    pub(crate) const fn or_told(self, told: bool) -> Self {
        Self { any: self.any || told, ..self }
    }

    /// Summarizes the settings of the listeners that request certificates.
    pub(crate) fn by<'a>(listeners: impl Iterator<Item = &'a ClientCertificatesConfig>) -> Self {
        let mut summary = Self { any: false, every_one_has_lists: true, required: false };
        for asked in listeners {
            summary.any = true;
            summary.every_one_has_lists &= !asked.crl.is_empty();
            summary.required |= asked.mode == ClientCertificateMode::Required;
        }
        summary
    }
}

/// The properties of a policy's route that concern partners.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PartnerRoute<'a> {
    /// The route's name.
    pub(crate) name: &'a str,
    /// True if a token policy precedes the check.
    pub(crate) has_token: bool,
    /// True if its token policies admit tokens of more than one tenant.
    pub(crate) several_tenants: bool,
    /// True if a check precedes the current policy, so that the partner is known.
    pub(crate) checked: bool,
}

impl<'a> PartnerRoute<'a> {
    /// Makes a route of this name whose tokens, if any, are of one tenant.
    pub(crate) const fn of(name: &'a str) -> Self {
        Self { name, has_token: false, several_tenants: false, checked: false }
    }
}
