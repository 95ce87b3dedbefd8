//! Sets, adds to or removes a header field: of the upstream's request in `inbound`, of the response in `outbound`.
//!
//! ```yaml
#![doc = include_str!("../../../config/policies/set-header.yaml")]
//! ```
//!
//! Several values make one line, joined by `, `; the few fields whose values are lines of their own (`Set-Cookie`,
//! `WWW-Authenticate` …) stay apart. A value that is unavailable or empty refuses with
//! [`header-value-unavailable`](crate::refusal::Reason::HeaderValueUnavailable), unless `when-absent: skip`; one with control
//! characters, spaces around it, or a list in place of a text always does.
//!
//! A field made from `token` or `caller` identifies the caller to the backend: its name is reserved on every route. `override`
//! reserves the name on the routes of the same upstream.

mod secret;

use http::{HeaderName, HeaderValue, header};
use schemars::JsonSchema;
use secrecy::ExposeSecret as _;
use serde::Deserialize;

use self::secret::{NoSecret, SecretLine};
use super::build_context::BuildContext;
use crate::inbound::settings::{DependsOn, PolicySettings};
use crate::outgoing::field::{Unavailable, joined, literal, name};
use crate::{
    base::{clock::Clock, fields::Fields},
    exchange::Exchange,
    expression::{EMPTY, Expression, Facts, HeaderTextError, Template, header_value, judged_value},
    refusal::Stop,
    request::{Claim, IncomingRequest, remove_folded},
    settings::{Faults, HeaderText, LiveSecret, Place},
    upstream::UpstreamRequest,
};

/// Settings of `set-header`.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct SetHeaderConfig {
    /// The field's name.
    pub name: String,
    /// The action if the field is already present. Default: override.
    #[serde(default)]
    pub exists_action: ExistsAction,
    /// The value: a text, or an expression `@(…)`. Not with `values`.
    pub value: Option<HeaderText>,
    /// Several values.
    #[serde(default)]
    pub values: Vec<HeaderText>,
    /// The reaction to an unavailable value. Default: refuse.
    #[serde(default)]
    pub when_absent: WhenAbsent,
}

/// The action if the field is already present.
#[derive(Clone, Copy, Debug, Default, Deserialize, JsonSchema, PartialEq, Eq)]
#[serde(rename_all = "kebab-case")]
pub enum ExistsAction {
    /// Replaces all values.
    #[default]
    Override,
    /// Adds to the values.
    Append,
    /// Leaves the values as they are.
    Skip,
    /// Removes the field.
    Delete,
}

/// The reaction to an unavailable value.
#[derive(Clone, Copy, Debug, Default, Deserialize, JsonSchema, PartialEq, Eq)]
#[serde(rename_all = "kebab-case")]
pub enum WhenAbsent {
    /// The request is refused.
    #[default]
    Refuse,
    /// The field is left out; a caller's own value is removed all the same.
    Skip,
}

/// The message whose header is changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Side {
    Request,
    Answer,
}

/// Sets, adds to or removes a header field.
#[derive(Debug)]
pub struct SetHeader {
    name: HeaderName,
    action: ExistsAction,
    values: Values,
    when_absent: WhenAbsent,
}

#[derive(Debug)]
enum Values {
    /// Literals: complete lines, ready to be sent.
    Ready(Vec<HeaderValue>),
    /// Values that are evaluated for each request; one line each, or all on one.
    Made { parts: Vec<Part>, apart: bool },
}

#[derive(Debug)]
enum Part {
    Literal(HeaderValue),
    Expression(Box<Expression>),
    /// A value with a vault's secret, which changes while the gateway runs.
    Secret(Box<SecretLine>),
}

/// Fields whose values need lines of their own: a comma within them has another meaning.
const APART: [HeaderName; 12] = [
    header::USER_AGENT,
    header::WWW_AUTHENTICATE,
    header::PROXY_AUTHENTICATE,
    header::COOKIE,
    header::SET_COOKIE,
    header::WARNING,
    header::DATE,
    header::EXPIRES,
    header::IF_MODIFIED_SINCE,
    header::IF_UNMODIFIED_SINCE,
    header::LAST_MODIFIED,
    header::RETRY_AFTER,
];

impl PolicySettings for SetHeaderConfig {
    fn depends_on(&self) -> DependsOn {
        DependsOn::Captures
    }
}

impl SetHeader {
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
        if exchange.trace.leaves_fields_unread()
            && let Values::Made { parts, .. } = &self.values
            && let [Part::Expression(expression)] = parts.as_slice()
        {
            return Ok(self.judge(expression, &exchange.facts(incoming))?);
        }
        Ok(self.apply(exchange, incoming, &mut outgoing.headers)?)
    }

    /// Judges the value as [`value`](Self::value) does, where nobody gets it.
    fn judge(&self, expression: &Expression, facts: &Facts<'_>) -> Result<(), Unavailable> {
        match judged_value(expression, facts) {
            Ok(()) => Ok(()),
            Err(HeaderTextError::Evaluation(_)) if self.when_absent == WhenAbsent::Skip => Ok(()),
            Err(error) => Err(self.unavailable(error)),
        }
    }

    pub(crate) fn build(config: &SetHeaderConfig, place: &Place, context: &mut BuildContext<'_>) -> Option<Self> {
        Self::build_for(Side::Request, config, place, context)
    }

    /// Does the same as [`build`](Self::build) for a policy on the response.
    pub(crate) fn build_for_answer(config: &SetHeaderConfig, place: &Place, context: &mut BuildContext<'_>) -> Option<Self> {
        Self::build_for(Side::Answer, config, place, context)
    }

    fn build_for(side: Side, config: &SetHeaderConfig, place: &Place, context: &mut BuildContext<'_>) -> Option<Self> {
        let name = name(&config.name, &place.key("name"), context.faults);
        let values = values(side, config, place, context);
        let (name, templates) = (name?, values?);
        let identity = templates.iter().any(|(written, _)| match written {
            ConfiguredValue::Template(template) => template.uses().identity(),
            ConfiguredValue::Secret(_) => false,
        });
        let values = Values::build(templates, &name, context.faults)?;
        if side == Side::Request {
            if identity {
                context.reserved.claim(&name, Claim::Identity);
            }
            match config.exists_action {
                ExistsAction::Override => context.reserved.claim(&name, Claim::Override),
                ExistsAction::Append => context.reserved.adds_to(&name, "append", &place.key("exists-action")),
                ExistsAction::Skip => context.reserved.adds_to(&name, "skip", &place.key("exists-action")),
                ExistsAction::Delete => {}
            }
        }
        Some(Self { name, action: config.exists_action, values, when_absent: config.when_absent })
    }

    pub(crate) fn apply(&self, exchange: &Exchange, incoming: &IncomingRequest, headers: &mut Fields) -> Result<(), Unavailable> {
        self.set(&exchange.facts(incoming), &exchange.clock, headers)
    }

    /// Returns whether the fields that are there decide whether a value is needed, which may be unavailable.
    pub(crate) const fn depends_on_others(&self) -> bool {
        matches!((&self.action, &self.values), (ExistsAction::Skip, Values::Made { .. }))
    }

    /// Returns the field's name.
    pub(crate) const fn name(&self) -> &HeaderName {
        &self.name
    }

    /// Returns whether a value is made of the response's header, which the policy changes.
    pub(crate) fn reads_answer(&self) -> bool {
        let reads = |part: &Part| matches!(part, Part::Expression(expression) if expression.uses().response_headers);
        matches!(&self.values, Values::Made { parts, .. } if parts.iter().any(reads))
    }

    /// Does the same as [`apply`](Self::apply) on a response, which `facts` know.
    pub(crate) fn apply_to_answer(&self, facts: &Facts<'_>, clock: &Clock, headers: &mut Fields) -> Result<(), Unavailable> {
        self.set(facts, clock, headers)
    }

    fn set(&self, facts: &Facts<'_>, clock: &Clock, headers: &mut Fields) -> Result<(), Unavailable> {
        match self.action {
            ExistsAction::Delete => {
                remove_folded(headers, &self.name);
                return Ok(());
            }
            ExistsAction::Skip if headers.contains_key(&self.name) => return Ok(()),
            ExistsAction::Override => headers.remove(&self.name),
            ExistsAction::Skip | ExistsAction::Append => {}
        }
        match &self.values {
            Values::Ready(lines) => lines.iter().for_each(|line| headers.append(&self.name, line)),
            Values::Made { parts, apart } => {
                let mut line: Option<HeaderValue> = None;
                for part in parts {
                    let Some(value) = self.value(part, facts, clock, *apart || parts.len() == 1)? else { continue };
                    if *apart {
                        headers.append(&self.name, &value);
                    } else {
                        line = Some(match line {
                            None => value,
                            Some(before) => joined(&before, &value).ok_or_else(|| self.unavailable(HeaderTextError::Unclean))?,
                        });
                    }
                }
                if let Some(line) = line {
                    headers.append(&self.name, &line);
                }
            }
        }
        Ok(())
    }

    /// Returns one value; `None` if it is unavailable and left out.
    fn value(&self, part: &Part, facts: &Facts<'_>, clock: &Clock, alone: bool) -> Result<Option<HeaderValue>, Unavailable> {
        let expression = match part {
            Part::Literal(value) => return Ok(Some(value.clone())),
            Part::Secret(line) => {
                return match line.value(clock.unix_seconds()) {
                    Ok(value) => Ok(Some(value)),
                    Err(NoSecret::NotThere) if self.when_absent == WhenAbsent::Skip => Ok(None),
                    Err(error) => Err(Unavailable::secret(&self.name, error)),
                };
            }
            Part::Expression(expression) => expression,
        };
        // An empty field is no value that a backend could tell from none.
        let filled = |value: HeaderValue| if value.is_empty() { Err(EMPTY.into()) } else { Ok(value) };
        match header_value(expression, facts).and_then(filled) {
            // A comma would make two values of one.
            Ok(value) if !alone && value.as_bytes().contains(&b',') => Err(self.unavailable(HeaderTextError::Unclean)),
            Ok(value) => Ok(Some(value)),
            Err(HeaderTextError::Evaluation(_)) if self.when_absent == WhenAbsent::Skip => Ok(None),
            Err(error) => Err(self.unavailable(error)),
        }
    }

    fn unavailable(&self, source: HeaderTextError) -> Unavailable {
        Unavailable::new(&self.name, source)
    }
}

impl Values {
    fn build(templates: Vec<(ConfiguredValue, Place)>, name: &HeaderName, faults: &mut Faults) -> Option<Self> {
        let apart = APART.contains(name);
        let mut parts = Vec::with_capacity(templates.len());
        for (template, place) in templates {
            parts.push(match template {
                ConfiguredValue::Secret(secret) => Some(Part::Secret(Box::new(SecretLine::new(secret)))),
                ConfiguredValue::Template(Template::Expression(expression)) => Some(Part::Expression(expression)),
                ConfiguredValue::Template(Template::Literal(text)) => literal(&text, &place, faults).map(Part::Literal),
            });
        }
        let parts = parts.into_iter().collect::<Option<Vec<_>>>()?;
        let literals = parts.iter().map(|part| match part {
            Part::Literal(value) => Some(value.clone()),
            Part::Expression(_) | Part::Secret(_) => None,
        });
        match literals.collect::<Option<Vec<_>>>() {
            Some(lines) if apart => Some(Self::Ready(lines)),
            Some(lines) => {
                let line = lines.into_iter().try_fold(None, |line: Option<HeaderValue>, value| match line {
                    None => Some(Some(value)),
                    Some(before) => joined(&before, &value).map(Some),
                });
                Some(Self::Ready(line?.into_iter().collect()))
            }
            None => Some(Self::Made { parts, apart }),
        }
    }
}

/// A value as written.
enum ConfiguredValue {
    Template(Template),
    /// A text with a vault's secret in it.
    Secret(LiveSecret),
}

/// Returns the values of `value` or `values`, with their places.
fn values(
    side: Side,
    config: &SetHeaderConfig,
    place: &Place,
    context: &mut BuildContext<'_>,
) -> Option<Vec<(ConfiguredValue, Place)>> {
    let written: Vec<(&HeaderText, Place)> = match (&config.value, config.values.as_slice()) {
        (Some(_), [_, ..]) => {
            context.faults.error(place, "both `value` and `values` are written", "leave one of them out");
            return None;
        }
        (Some(value), []) => vec![(value, place.key("value"))],
        (None, values) => {
            let place = place.key("values");
            values.iter().enumerate().map(|(index, value)| (value, place.index(index))).collect()
        }
    };
    if config.exists_action == ExistsAction::Delete {
        if let Some((_, place)) = written.first() {
            context.faults.error(place, "`exists-action: delete` takes no value", "leave the value out");
            return None;
        }
        return Some(Vec::new());
    }
    if written.is_empty() {
        context.faults.error(place, "no `value` is written", "write one, or `exists-action: delete` to remove the field");
        return None;
    }
    let built = written.into_iter().map(|(text, place)| {
        if side == Side::Answer && text.names_secret() {
            let cure =
                "set it on requests, in `inbound`, or write another value; what may be known to callers needs no `secret: true`";
            context.faults.error(&place, "this field is one of the answer, which would show the secret to callers", cure);
            return None;
        }
        let written = template(text, &place, context)?;
        let before_answer = match &written {
            ConfiguredValue::Template(template) => side == Side::Answer || context.is_before_answer(template.uses(), &place),
            ConfiguredValue::Secret(_) => true,
        };
        before_answer.then_some((written, place))
    });
    // All of them are built before any is missed, so that every fault is told.
    let built: Vec<_> = built.collect();
    built.into_iter().collect()
}

/// Reads one value. The content of a secret is never parsed as an expression.
fn template(written: &HeaderText, place: &Place, context: &mut BuildContext<'_>) -> Option<ConfiguredValue> {
    if let Some(text) = written.plain() {
        return context.template_on_answer(text, place).map(ConfiguredValue::Template);
    }
    match written.live(context.secrets) {
        Ok(live) if live.in_vaults().next().is_some() => Some(ConfiguredValue::Secret(live)),
        // What no vault holds is known, at any time.
        Ok(live) => live.value(0).map(|text| ConfiguredValue::Template(Template::Literal(text.expose_secret().into()))),
        Err(error) => {
            context.faults.error(place, error.to_string(), error.cure());
            None
        }
    }
}

#[cfg(test)]
mod tests;
