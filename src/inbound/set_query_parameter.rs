//! Sets, adds to or removes a parameter of the upstream's query.
//!
//! ```yaml
#![doc = include_str!("../../config/policies/set-query-parameter.yaml")]
//! ```
//!
//! Values are escaped, so that none becomes another parameter. Every parameter that a backend could take for this one is replaced
//! or removed: names are compared decoded and case-insensitively. A value that is unavailable refuses with
//! [`Reason::HeaderValueUnavailable`], unless `when-absent: skip`.

use schemars::JsonSchema;
use serde::Deserialize;

use super::settings::{DependsOn, PolicySettings, Subject};
use super::{
    build_context::BuildContext,
    query,
    set_header::{ExistsAction, WhenAbsent},
};
use crate::{
    exchange::Exchange,
    expression::{EvaluationError, Facts, Template},
    refusal::{Reason, Refusal, Stop},
    request::IncomingRequest,
    settings::Place,
    upstream::UpstreamRequest,
};

/// Settings of `set-query-parameter`.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct SetQueryParameterConfig {
    /// The parameter's name, not escaped.
    pub name: String,
    /// The action if the parameter is already present. Default: override.
    #[serde(default)]
    pub exists_action: ExistsAction,
    /// The value: a text, or an expression `@(…)`. Not with `values`.
    pub value: Option<String>,
    /// Several values: the parameter is repeated.
    #[serde(default)]
    pub values: Vec<String>,
    /// The reaction to an unavailable value. Default: refuse.
    #[serde(default)]
    pub when_absent: WhenAbsent,
}

/// Sets, adds to or removes a parameter of the upstream's query.
#[derive(Debug)]
pub struct SetQueryParameter {
    name: Box<str>,
    action: ExistsAction,
    values: Vec<Template>,
    when_absent: WhenAbsent,
}

impl PolicySettings for SetQueryParameterConfig {
    fn depends_on(&self) -> DependsOn {
        DependsOn::Captures
    }

    fn subject(&self) -> Subject {
        Subject::new(format!("the query parameter {}", self.name), self.value.iter().chain(&self.values).cloned())
    }
}

impl SetQueryParameter {
    /// Runs the policy on a request.
    ///
    /// # Errors
    /// Returns the refusal, or the gateway's own response, that ends the request.
    pub(crate) async fn run(
        &self,
        exchange: &mut Exchange,
        incoming: &IncomingRequest,
        outgoing: &mut UpstreamRequest,
    ) -> Result<(), Stop> {
        Ok(self.apply(exchange, incoming, outgoing)?)
    }

    pub(crate) fn build(config: &SetQueryParameterConfig, place: &Place, context: &mut BuildContext<'_>) -> Option<Self> {
        let before = context.faults.errors();
        if config.name.is_empty() {
            context.faults.error(&place.key("name"), "the name is empty", "write the parameter's name");
        }
        let written: Vec<(&str, Place)> = match &config.value {
            Some(value) => vec![(value, place.key("value"))],
            None => {
                let place = place.key("values");
                config.values.iter().enumerate().map(|(index, value)| (value.as_str(), place.index(index))).collect()
            }
        };
        if config.value.is_some() && !config.values.is_empty() {
            context.faults.error(place, "both `value` and `values` are written", "leave one of them out");
        }
        match (config.exists_action, written.first()) {
            (ExistsAction::Delete, Some((_, place))) => {
                context.faults.error(place, "`exists-action: delete` takes no value", "leave the value out");
            }
            (ExistsAction::Override | ExistsAction::Append | ExistsAction::Skip, None) => {
                let cure = "write one, or `exists-action: delete` to remove the parameter";
                context.faults.error(place, "no `value` is written", cure);
            }
            _ => {}
        }
        let values: Vec<_> = written.iter().filter_map(|(text, place)| context.template(text, place)).collect();
        if matches!(config.exists_action, ExistsAction::Append | ExistsAction::Skip)
            && values.iter().any(|value| value.uses().identity())
        {
            let message = "the value says who calls, and a caller could send one of its own beside or instead of it";
            context.faults.error(&place.key("exists-action"), message, "use `override`");
        }
        if context.faults.errors() > before {
            return None;
        }
        let name = query::escaped(config.name.as_bytes()).collect::<String>().into();
        Some(Self { name, action: config.exists_action, values, when_absent: config.when_absent })
    }

    pub(crate) fn apply(
        &self,
        exchange: &Exchange,
        incoming: &IncomingRequest,
        outgoing: &mut UpstreamRequest,
    ) -> Result<(), Refusal> {
        outgoing.query = self.changed(&exchange.facts(incoming), outgoing.query.as_deref())?.map(Into::into);
        Ok(())
    }

    fn changed(&self, facts: &Facts<'_>, sent: Option<&str>) -> Result<Option<String>, Unavailable> {
        let sent = sent.unwrap_or_default();
        let name = query::name(&self.name);
        let is_there = query::pairs(sent).any(|pair| query::could_be(pair, &name));
        let mut made = String::new();
        let replaces = matches!(self.action, ExistsAction::Override | ExistsAction::Delete);
        query::pairs(sent)
            .filter(|pair| !(replaces && query::could_be(pair, &name)))
            .for_each(|pair| query::push(&mut made, pair));
        if !(self.action == ExistsAction::Skip && is_there) {
            for value in &self.values {
                let text = match value {
                    Template::Literal(text) => std::borrow::Cow::Borrowed(&**text),
                    Template::Expression(expression) => match expression.text(facts) {
                        Ok(text) => text,
                        Err(_) if self.when_absent == WhenAbsent::Skip => continue,
                        Err(source) => return Err(Unavailable { name: self.name.clone(), source }),
                    },
                };
                query::push(&mut made, &self.name);
                made.push('=');
                made.extend(query::escaped(text.as_bytes()));
            }
        }
        Ok((!made.is_empty()).then_some(made))
    }
}

/// An error: a value is unavailable.
#[derive(Debug, thiserror::Error)]
#[error("the value of the parameter {name} is unavailable")]
struct Unavailable {
    name: Box<str>,
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

    fn config(name: &str, action: ExistsAction, values: &[&str]) -> SetQueryParameterConfig {
        let values = values.iter().map(|value| (*value).to_owned()).collect();
        SetQueryParameterConfig {
            name: name.to_owned(),
            exists_action: action,
            value: None,
            values,
            when_absent: WhenAbsent::Refuse,
        }
    }

    fn built(config: &SetQueryParameterConfig) -> Result<SetQueryParameter, Vec<String>> {
        Building { token: true, ..Building::default() }.build(|place, context| SetQueryParameter::build(config, place, context))
    }

    #[test]
    fn does_what_the_action_says() {
        use ExistsAction::{Append, Delete, Override, Skip};
        let world = World::new();
        for (name, action, values, sent, expected) in [
            ("a", Override, &["1"][..], None, Some("a=1")),
            ("a", Override, &["1"], Some("b=2"), Some("b=2&a=1")),
            ("a", Override, &["1"], Some("a=2&b=3&A=4&%61=5&a;c"), Some("b=3&a=1")),
            ("a", Override, &["1"], Some("b=3;a=2"), Some("a=1")),
            ("a", Override, &["1", "2"], Some("a=3"), Some("a=1&a=2")),
            ("a", Append, &["1"], Some("a=2"), Some("a=2&a=1")),
            ("a", Skip, &["1"], Some("a=2"), Some("a=2")),
            ("a", Skip, &["1"], Some("b=2"), Some("b=2&a=1")),
            ("a", Delete, &[], Some("a=2&b=3"), Some("b=3")),
            ("a", Delete, &[], Some("a=2"), None),
            ("a", Override, &["@(token.claims.oid)"], Some("a=2"), Some("a=0f0f")),
            ("a", Override, &["x&b=1 +\u{fc}#"], None, Some("a=x%26b%3D1%20%2B%C3%BC%23")),
            ("a b&c", Override, &["1"], Some("a+b%26c=2"), Some("a%20b%26c=1")),
        ] {
            let policy = built(&config(name, action, values)).expect(name);

            let query = policy.changed(&world.facts(), sent).expect("values can be had");

            assert_eq!(query.as_deref(), expected, "{name} {action:?} {values:?} {sent:?}");
        }
    }

    #[test]
    fn a_value_that_cannot_be_had_refuses_unless_it_is_skipped() {
        let refusing = config("a", ExistsAction::Override, &["@(token.claims.missing)"]);
        let skipping = SetQueryParameterConfig { when_absent: WhenAbsent::Skip, ..refusing.clone() };
        let world = World::new();

        let refusal = built(&refusing).expect("valid").changed(&world.facts(), Some("a=1")).expect_err("absent");
        assert_eq!(Refusal::from(refusal).reason, Reason::HeaderValueUnavailable);
        assert_eq!(built(&skipping).expect("valid").changed(&world.facts(), Some("a=1")).expect("skipped"), None);
    }

    #[test]
    fn mistakes_are_found_at_load() {
        use ExistsAction::{Append, Delete, Override, Skip};
        for (name, action, values, expected) in [
            ("", Override, &["1"][..], "the name is empty"),
            ("a", Override, &[], "no `value` is written"),
            ("a", Delete, &["1"], "takes no value"),
            ("a", Append, &["@(token.claims.oid)"], "could send one of its own"),
            ("a", Skip, &["@(caller.address)"], "could send one of its own"),
            ("a", Override, &["@(token.oid)"], "has no field `oid`"),
            ("a", Override, &["@(response.status)"], "there is no answer yet"),
        ] {
            let faults = built(&config(name, action, values)).expect_err(name);
            assert!(faults.len() == 1 && faults[0].contains(expected), "{name} {values:?}: {faults:?}");
        }
    }
}
