//! Admits requests for which a condition is true.
//!
//! ```yaml
#![doc = include_str!("../../config/policies/authorize.yaml")]
//! ```
//!
//! Refuses with [`Reason::NotAuthorized`], or with a code of the policy's own and the same status. A condition that cannot be
//! evaluated, because a value that it reads is absent or of another kind, counts as false.

use std::sync::Arc;

use schemars::JsonSchema;
use serde::Deserialize;

use super::settings::{DependsOn, PolicySettings};
use super::{build_context::BuildContext, mode::ModeConfig};
use crate::{
    exchange::Exchange,
    expression::{EvaluationError, Expression, Facts},
    refusal::{Reason, Refusal, Stop},
    request::IncomingRequest,
    settings::Place,
    upstream::UpstreamRequest,
};

/// Settings of `authorize`.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct AuthorizeConfig {
    /// The condition: an expression `@(…)` that is true or false.
    pub condition: String,
    /// The code of the refusal: lower-case words joined by `-`. Default: not-authorized.
    pub code: Option<String>,
    /// The sentence of the refusal.
    pub message: Option<String>,
    /// `report-only` records and counts refusals instead of enforcing them. Default: enforce.
    #[serde(default)]
    pub mode: ModeConfig,
}

/// Admits requests for which a condition is true.
#[derive(Debug)]
pub struct Authorize {
    condition: Expression,
    code: Option<Arc<str>>,
    message: Option<Box<str>>,
}

impl PolicySettings for AuthorizeConfig {
    fn restricts_callers(&self) -> bool {
        true
    }

    fn depends_on(&self) -> DependsOn {
        DependsOn::Captures
    }

    fn judges(&self) -> bool {
        true
    }

    fn mode(&self) -> ModeConfig {
        self.mode
    }
}

impl Authorize {
    /// Runs the policy on a request.
    ///
    /// # Errors
    /// Returns the refusal, or the gateway's own response, that ends the request.
    pub(crate) async fn run(
        &self,
        exchange: &mut Exchange,
        incoming: &IncomingRequest,
        _outgoing: &mut UpstreamRequest,
    ) -> Result<(), Stop> {
        Ok(self.check(exchange, incoming)?)
    }

    pub(crate) fn build(config: &AuthorizeConfig, place: &Place, context: &mut BuildContext<'_>) -> Option<Self> {
        let condition = context.condition(&config.condition, &place.key("condition"));
        if let Some(code) = &config.code {
            let word =
                |word: &str| !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit());
            let place = place.key("code");
            if code.len() > 64 || !code.split('-').all(word) {
                context.faults.error(
                    &place,
                    format!("`{code}` is not a code"),
                    "write lower-case words joined by `-`, as read-only",
                );
                return None;
            }
            if Reason::ALL.iter().any(|reason| reason.code() == code) {
                let message = format!("`{code}` has a meaning of its own already");
                context.faults.error(&place, message, "choose a code that the gateway does not use");
                return None;
            }
        }
        Some(Self {
            condition: condition?,
            code: config.code.as_deref().map(Into::into),
            message: config.message.as_deref().map(Into::into),
        })
    }

    pub(crate) fn check(&self, exchange: &Exchange, incoming: &IncomingRequest) -> Result<(), Refusal> {
        self.judge(&exchange.facts(incoming)).map_err(|error| {
            let mut refusal = Refusal::new(Reason::NotAuthorized, error);
            refusal.code.clone_from(&self.code);
            refusal.message.clone_from(&self.message);
            refusal
        })
    }

    fn judge(&self, facts: &Facts<'_>) -> Result<(), NotAuthorized> {
        if self.condition.holds(facts)? { Ok(()) } else { Err(NotAuthorized::DoesNotHold(self.condition.deciding(facts))) }
    }
}

/// The reason why a request is not admitted.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
enum NotAuthorized {
    #[error("the condition is false{}", if .0.is_empty() { String::new() } else { format!(": it was decided by {}", .0) })]
    DoesNotHold(String),
    #[error("the condition cannot be evaluated")]
    CannotBeJudged(#[from] EvaluationError),
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{expression::tests::World, inbound::testing::Building};

    fn config(condition: &str) -> AuthorizeConfig {
        AuthorizeConfig { condition: condition.to_owned(), code: None, message: None, mode: Default::default() }
    }

    fn built(config: &AuthorizeConfig) -> Result<Authorize, Vec<String>> {
        Building { token: true, ..Building::default() }.build(|place, context| Authorize::build(config, place, context))
    }

    #[test]
    fn admits_where_the_condition_holds_and_nowhere_else() {
        let world = World::new();
        for (condition, admitted) in [
            ("@(token.claims.level >= 5)", true),
            ("@(token.claims.level > 5)", false),
            ("@(token.claims.yes)", true),
            ("@(token.claims.oid)", false),
            ("@(token.claims.missing)", false),
            ("@(!token.claims.missing)", false),
            ("@(token.claims.missing || true)", false),
            ("@(!has(token.claims.missing))", true),
        ] {
            let policy = built(&config(condition)).expect(condition);
            assert_eq!(policy.judge(&world.facts()).is_ok(), admitted, "{condition}");
        }
    }

    #[test]
    fn mistakes_are_found_at_load() {
        for (condition, code, expected) in [
            ("true", None, "is not an expression"),
            ("@(request.path)", None, "a condition is true or false"),
            ("@(true)", Some("Read Only"), "is not a code"),
            ("@(true)", Some("a--b"), "is not a code"),
            ("@(true)", Some("no-route"), "has a meaning of its own"),
        ] {
            let config = AuthorizeConfig { code: code.map(str::to_owned), ..config(condition) };
            let faults = built(&config).expect_err(condition);
            assert!(faults.len() == 1 && faults[0].contains(expected), "{condition}: {faults:?}");
        }
    }
}
