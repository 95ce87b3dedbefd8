//! Sets a variable, for the expressions of later policies.
//!
//! ```yaml
#![doc = include_str!("../../config/policies/set-variable.yaml")]
//! ```
//!
//! A variable lives as long as its request, in `inbound`, `outbound` and `on-error` alike. What is made of it is treated as if it were made
//! of the data that went into it: a header from a variable of `token` identifies the caller. A value that is unavailable, or that
//! would exceed the limit for all variables together, refuses with [`Reason::HeaderValueUnavailable`], unless
//! `when-absent: skip`; the variable is then absent.

use std::{borrow::Cow, sync::Arc};

use schemars::JsonSchema;
use serde::Deserialize;

use super::settings::{DependsOn, PolicySettings, Subject};
use super::{build_context::BuildContext, set_header::WhenAbsent};
use crate::{
    exchange::Exchange,
    expression::{EvaluationError, Facts, MOST_OF_VARIABLES, Template, Value, Variables},
    refusal::{Reason, Refusal, Stop},
    request::IncomingRequest,
    settings::Place,
    upstream::UpstreamRequest,
};

/// The most letters of a variable's name.
const LONGEST_NAME: usize = 64;

/// Settings of `set-variable`.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct SetVariableConfig {
    /// The name, as in `variables.name`: lower-case letters, digits and `_`.
    pub name: String,
    /// The value: a text, or an expression `@(…)` of any type.
    pub value: String,
    /// The reaction to an unavailable value. Default: refuse.
    #[serde(default)]
    pub when_absent: WhenAbsent,
}

/// Sets a variable.
#[derive(Debug)]
pub struct SetVariable {
    name: Arc<str>,
    value: Template,
    when_absent: WhenAbsent,
}

impl PolicySettings for SetVariableConfig {
    fn depends_on(&self) -> DependsOn {
        DependsOn::Captures
    }

    fn subject(&self) -> Subject {
        Subject::new(format!("the variable {}", self.name), [self.value.clone()])
    }
}

impl SetVariable {
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
        exchange.variables = self.apply(&exchange.facts(incoming))?;
        Ok(())
    }

    /// Builds a policy on the request.
    pub(crate) fn build(config: &SetVariableConfig, place: &Place, context: &mut BuildContext<'_>) -> Option<Self> {
        let built = Self::read(config, place, context)?;
        context.is_before_answer(built.value.uses(), &place.key("value")).then_some(built)
    }

    /// Does the same as [`build`](Self::build) for a policy on the response.
    pub(crate) fn build_for_answer(config: &SetVariableConfig, place: &Place, context: &mut BuildContext<'_>) -> Option<Self> {
        Self::read(config, place, context)
    }

    fn read(config: &SetVariableConfig, place: &Place, context: &mut BuildContext<'_>) -> Option<Self> {
        let name = config.name.as_str();
        let is_named = is_name(name);
        if !is_named {
            let cure = "begin with a letter, and go on with lower-case letters, digits and `_`, as in user_tier";
            context.faults.error(&place.key("name"), format!("`{name}` is not the name of a variable"), cure);
        }
        let value = context.template_on_answer(&config.value, &place.key("value"));
        if is_named {
            // Also where the value is faulty: that is a fault of its own, and not of those that read the variable.
            context.sets(name, value.as_ref());
        }
        Some(Self { name: name.into(), value: value.filter(|_| is_named)?, when_absent: config.when_absent })
    }

    /// Returns the new value; `None` if the variable is to be absent.
    ///
    /// # Errors
    /// Fails if the value is unavailable.
    pub(crate) fn value<'a>(&'a self, facts: &Facts<'a>) -> Result<Option<Value<'a>>, Unavailable> {
        match &self.value {
            Template::Literal(text) => Ok(Some(Value::Text(Cow::Borrowed(text)))),
            Template::Expression(expression) => match expression.evaluate(facts) {
                Ok(value) => Ok(Some(value)),
                Err(EvaluationError::Absent(_)) if self.when_absent == WhenAbsent::Skip => Ok(None),
                Err(error) => Err(self.unavailable(error)),
            },
        }
    }

    /// Returns the variables with the new value.
    ///
    /// # Errors
    /// Fails if the value is unavailable, or if the variables would hold too much.
    pub(crate) fn apply(&self, facts: &Facts<'_>) -> Result<Variables, Unavailable> {
        // The value may have been made of what stands in the variables.
        let mut variables = facts.variables.clone();
        match self.value(facts)? {
            Some(value) => {
                // Before it is copied: a token or a header may hold much more than variables may.
                if !value.fits(MOST_OF_VARIABLES) {
                    return Err(self.unavailable(EvaluationError::Cost("variables may hold")));
                }
                let value = value.into_json().map_err(|error| self.unavailable(error))?;
                let set = variables.set(&self.name, value);
                set.map_err(|_| self.unavailable(EvaluationError::Cost("variables may hold")))?;
            }
            None => variables.unset(&self.name),
        }
        Ok(variables)
    }

    fn unavailable(&self, source: EvaluationError) -> Unavailable {
        Unavailable { name: self.name.clone(), source }
    }
}

fn is_name(name: &str) -> bool {
    name.len() <= LONGEST_NAME
        && name.starts_with(|first: char| first.is_ascii_lowercase())
        && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_')
}

/// An error: the value of a variable is unavailable.
#[derive(Debug, thiserror::Error)]
#[error("the value of the variable {name} is unavailable")]
pub struct Unavailable {
    name: Arc<str>,
    source: EvaluationError,
}

impl From<Unavailable> for Refusal {
    fn from(error: Unavailable) -> Self {
        Self::new(Reason::HeaderValueUnavailable, error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{expression::tests::World, inbound::testing::Building};

    fn built(name: &str, value: &str, when_absent: WhenAbsent) -> Result<SetVariable, Vec<String>> {
        let config = SetVariableConfig { name: name.to_owned(), value: value.to_owned(), when_absent };
        Building { token: true, ..Building::default() }.build(|place, context| SetVariable::build(&config, place, context))
    }

    #[test]
    fn a_variable_holds_values_of_any_type() {
        let world = World::new();
        for (value, read, expected) in [
            ("plain", "variables.x", "plain"),
            ("@(token.claims.level + 1)", "string(variables.x * 2)", "12"),
            ("@(token.claims.groups)", "variables.x[1]", "g2"),
            ("@(token.kind == 'user')", "variables.x ? 'yes' : 'no'", "yes"),
            ("@(token.claims.address)", "variables.x.street", "Main"),
            ("@(variables.tier + '!')", "variables.x", "gold!"),
        ] {
            let policy = Building { token: true, ..Building::default() }
                .build(|place, context| {
                    context.sets("tier", None);
                    let config = SetVariableConfig { name: "x".into(), value: value.into(), when_absent: WhenAbsent::Refuse };
                    SetVariable::build(&config, place, context)
                })
                .expect(value);

            let variables = policy.apply(&world.facts()).expect(value);

            let facts = Facts { variables: &variables, ..world.facts() };
            let expression = crate::expression::Expression::parse(read).expect(read);
            assert_eq!(expression.text(&facts).as_deref(), Ok(expected), "{value}");
        }
    }

    #[test]
    fn a_value_that_cannot_be_had_refuses_or_leaves_the_variable_absent() {
        let world = World::new();

        let refusal = built("tier", "@(token.claims.missing)", WhenAbsent::Refuse).expect("valid").apply(&world.facts());
        assert_eq!(Refusal::from(refusal.expect_err("absent")).reason, Reason::HeaderValueUnavailable);
        // It had a value before, which must not be taken for the one that is missing.
        let skipped = built("tier", "@(token.claims.missing)", WhenAbsent::Skip).expect("valid").apply(&world.facts());
        let (variables, has) = (skipped.expect("skipped"), crate::expression::Expression::parse_condition("has(variables.tier)"));
        assert_eq!(has.expect("valid").holds(&Facts { variables: &variables, ..world.facts() }), Ok(false));
        // Absent is not the same as wrong.
        let wrong = built("tier", "@(token.claims.oid > 1)", WhenAbsent::Skip).expect("valid").apply(&world.facts());
        assert!(wrong.is_err());
    }

    #[test]
    fn mistakes_are_found_at_load() {
        for (name, value, expected) in [
            ("", "1", "is not the name of a variable"),
            ("Tier", "1", "is not the name of a variable"),
            ("user-tier", "1", "is not the name of a variable"),
            ("1st", "1", "is not the name of a variable"),
            ("tier", "@(token.oid)", "has no field `oid`"),
            ("tier", "@(variables.tier)", "no policy before it sets `variables.tier`"),
            ("tier", "@(response.status)", "there is no answer yet"),
            ("tier", "@(error.code)", "reads `error`"),
        ] {
            let faults = built(name, value, WhenAbsent::Refuse).expect_err(value);
            assert!(faults.len() == 1 && faults[0].contains(expected), "{name} {value}: {faults:?}");
        }
    }
}
