//! `identity-headers`: a table of header fields made from claims.
//!
//! They are made after a route's policies have run, and behave like `set-header`: the name is reserved on every route, and a
//! value that is unavailable refuses the request with
//! [`header-value-unavailable`](crate::refusal::Reason::HeaderValueUnavailable).

use std::{collections::BTreeMap, sync::Arc};

use http::{HeaderName, HeaderValue};
use schemars::JsonSchema;
use serde::Deserialize;

use super::encoding::{Encoding, Form, NonAscii, Unencodable};
use crate::{
    base::fields::Fields,
    exchange::Exchange,
    expression::{EvaluationError, Expression, Facts, Template, field_value},
    inbound::{build_context::BuildContext, set_header::WhenAbsent},
    outgoing::field::{self, Unavailable},
    refusal::trace::{Step, Verdict},
    request::{Claim, IncomingRequest, remove_folded, same_folded},
    settings::{Faults, Place},
};

/// A header field that identifies the caller to the backend.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct IdentityHeaderConfig {
    /// The claim of the validated token, by its exact name. Not with `value`.
    pub claim: Option<String>,
    /// An expression `@(…)` instead, such as `'@("CONTOSO\\" + lower(token.claims.onpremisessamaccountname))'`, in single quotes,
    /// since YAML's double quotes have their own escapes.
    pub value: Option<String>,
    /// The encoding of a list: joined, repeated or json. Without it a list is refused.
    pub encoding: Option<Encoding>,
    /// The separator between the elements of a list that is `joined`. Default: `,`.
    pub separator: Option<String>,
    /// The encoding of characters beyond ASCII: utf-8, percent, rfc8187 or refuse. Default: utf-8.
    pub non_ascii: Option<NonAscii>,
    /// The reaction to an absent value: refuse, or skip, which leaves the field out. Default: refuse.
    pub when_absent: Option<WhenAbsent>,
    /// The replacement for an absent value. Not with `when-absent`.
    pub default: Option<String>,
}

/// The header fields that identify the caller to a route's backend.
#[derive(Debug, Default)]
pub struct IdentityHeaders(Box<[IdentityHeader]>);

#[derive(Debug)]
struct IdentityHeader {
    name: HeaderName,
    value: Box<Expression>,
    form: Form,
    absent: Absent,
    /// The entry's name in audit records.
    at: Arc<str>,
    place: Place,
}

/// The reaction to an absent value.
#[derive(Debug)]
enum Absent {
    Refuse,
    Skip,
    Default(HeaderValue),
}

impl IdentityHeaders {
    /// Builds the table at this place, or reports its faults.
    pub(crate) fn build(
        configs: &BTreeMap<String, IdentityHeaderConfig>,
        place: &Place,
        context: &mut BuildContext<'_>,
    ) -> Option<Self> {
        let before = context.faults.errors();
        let mut headers: Vec<IdentityHeader> = Vec::new();
        for (name, config) in configs {
            let place = place.key(name);
            let Some(header) = IdentityHeader::build(name, config, &place, context) else { continue };
            if let Some(other) = headers.iter().find(|other| same_folded(other.name.as_str(), header.name.as_str())) {
                let message = format!("a backend may take `{name}` and `{}` for one header", other.name);
                context.faults.error(&place, message, "keep one of them");
            }
            headers.push(header);
        }
        (context.faults.errors() == before).then(|| Self(headers.into()))
    }

    /// Returns the names of the fields.
    pub(crate) fn names(&self) -> impl Iterator<Item = &HeaderName> {
        self.0.iter().map(|header| &header.name)
    }

    /// Writes the fields.
    ///
    /// # Errors
    /// Returns the first value that is unavailable or cannot be written.
    pub(crate) fn apply(
        &self,
        exchange: &mut Exchange,
        incoming: &IncomingRequest,
        headers: &mut Fields,
    ) -> Result<(), Unavailable> {
        for header in &self.0 {
            let written = header.write(&exchange.facts(incoming), headers);
            let verdict = match &written {
                Ok(()) => Verdict::Passed,
                Err(_) => {
                    exchange.outcome.policy = Some(header.at.clone());
                    Verdict::Refused(crate::refusal::Reason::HeaderValueUnavailable)
                }
            };
            exchange.trace.note(|| {
                let detail = written.as_ref().err().map_or_else(|| "".into(), |error| error.to_string().into());
                Step::new(header.at.clone(), Some(header.place.clone()), verdict, detail)
            });
            written?;
        }
        Ok(())
    }
}

impl IdentityHeader {
    fn build(name: &str, config: &IdentityHeaderConfig, place: &Place, context: &mut BuildContext<'_>) -> Option<Self> {
        let before = context.faults.errors();
        let header = field::name(name, place, context.faults);
        let value = value(config, place, context);
        let form = form(config, place, context.faults);
        let absent = absent(config, place, context.faults);
        if context.faults.errors() > before {
            return None;
        }
        let name = header?;
        context.reserved.claim(&name, Claim::Identity);
        let at = format!("identity-headers.{name}").into();
        Some(Self { name, value: value?, form, absent: absent?, at, place: place.clone() })
    }

    fn write(&self, facts: &Facts<'_>, headers: &mut Fields) -> Result<(), Unavailable> {
        // Whatever a policy put there, in any spelling: there is to be one field.
        remove_folded(headers, &self.name);
        let lines = match self.value.evaluate(facts).map_err(Unencodable::from).and_then(|value| self.form.lines(value)) {
            Ok(lines) => lines,
            Err(Unencodable::Evaluation(EvaluationError::Absent(_))) if !matches!(self.absent, Absent::Refuse) => Vec::new(),
            Err(error) => return Err(self.unavailable(error)),
        };
        match (&self.absent, lines.is_empty()) {
            (_, false) => {
                for line in lines {
                    headers.append(&self.name, &line);
                }
            }
            (Absent::Default(value), true) => headers.insert(&self.name, value),
            (Absent::Skip, true) => {}
            // An empty text or list says nothing that a backend could tell from no field: it is as good as no claim.
            (Absent::Refuse, true) => {
                return Err(self.unavailable(EvaluationError::Absent("a text or an element in the claim".into())));
            }
        }
        Ok(())
    }

    fn unavailable(&self, error: impl std::error::Error + Send + Sync + 'static) -> Unavailable {
        Unavailable::new(&self.name, error)
    }
}

/// Returns the source of the field's value.
fn value(config: &IdentityHeaderConfig, place: &Place, context: &mut BuildContext<'_>) -> Option<Box<Expression>> {
    match (&config.claim, &config.value) {
        (Some(claim), None) if claim.is_empty() => {
            context.faults.error(&place.key("claim"), "the name is empty", "write the claim's name");
            None
        }
        (Some(claim), None) => {
            let mut expression = Expression::claim(claim);
            context.can_evaluate(&mut expression, &place.key("claim")).then(|| Box::new(expression))
        }
        (None, Some(text)) => match context.template(text, &place.key("value"))? {
            Template::Expression(expression) => Some(expression),
            Template::Literal(_) => {
                let cure = "write it as \"@(…)\", or use the policy `set-header` for a fixed text";
                context.faults.error(&place.key("value"), format!("`{text}` is not an expression"), cure);
                None
            }
        },
        (None, None) => {
            context.faults.error(place, "nothing says what the header is made of", "write `claim: name`, or `value: \"@(…)\"`");
            None
        }
        (Some(_), Some(_)) => {
            context.faults.error(&place.key("value"), "both `claim` and `value` are written", "leave one of them out");
            None
        }
    }
}

fn form(config: &IdentityHeaderConfig, place: &Place, faults: &mut Faults) -> Form {
    if let Some(separator) = &config.separator {
        let place = place.key("separator");
        let unusable = separator.is_empty()
            || separator.contains(['%', '"'])
            || !separator.bytes().all(|byte| byte == b' ' || byte.is_ascii_graphic());
        if config.encoding != Some(Encoding::Joined) {
            faults.error(&place, "a separator stands between the elements of a list that is joined", "write `encoding: joined`");
        } else if unusable {
            faults.error(&place, format!("`{separator}` cannot separate"), "use a sign as `,`, `;` or `|`");
        }
    }
    if config.encoding == Some(Encoding::Json) && config.non_ascii.is_some() {
        faults.error(&place.key("non-ascii"), "JSON is written in ASCII, with its own escapes", "leave it out");
    }
    Form {
        encoding: config.encoding,
        separator: config.separator.as_deref().unwrap_or(",").into(),
        non_ascii: config.non_ascii.unwrap_or_default(),
    }
}

fn absent(config: &IdentityHeaderConfig, place: &Place, faults: &mut Faults) -> Option<Absent> {
    match (&config.default, config.when_absent) {
        (Some(_), Some(_)) => {
            faults.error(&place.key("default"), "`default` stands beside `when-absent`", "leave one of them out");
            None
        }
        (Some(text), None) => match field_value(text) {
            Ok(value) => Some(Absent::Default(value)),
            Err(error) => {
                faults.error(&place.key("default"), error.to_string(), "write the value on one line, without blanks around it");
                None
            }
        },
        (None, Some(WhenAbsent::Skip)) => Some(Absent::Skip),
        (None, Some(WhenAbsent::Refuse) | None) => Some(Absent::Refuse),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{expression::tests::World, inbound::testing::Building, request::ReservedNames};

    fn built(yaml: &str) -> Result<IdentityHeaders, Vec<String>> {
        let configs = crate::settings::testing::part(yaml);
        Building { token: true, ..Building::default() }.build(|place, context| IdentityHeaders::build(&configs, place, context))
    }

    fn written(yaml: &str, before: &[(&'static str, &'static str)]) -> Result<Vec<String>, Unavailable> {
        let (world, table) = (World::new(), built(yaml).unwrap_or_else(|faults| panic!("{yaml}: {faults:?}")));
        let mut headers = Fields::of(before);
        for header in &table.0 {
            header.write(&world.facts(), &mut headers)?;
        }
        Ok(headers.iter().map(|(name, value)| format!("{name}: {}", String::from_utf8_lossy(value.as_bytes()))).collect())
    }

    #[test]
    fn the_table_becomes_headers() {
        for (yaml, expected) in [
            ("X-User: { claim: oid }", &["x-user: 0f0f"][..]),
            ("X-Cost-Center: { claim: extn.costCenter }", &["x-cost-center: 4711"]),
            (r#"X-User: { value: '@("CONTOSO\\" + lower(token.claims.upn))' }"#, &["x-user: CONTOSO\\ada@contoso.example"]),
            ("X-Groups: { claim: groups, encoding: joined, separator: '|' }", &["x-groups: g1|g2"]),
            ("X-Groups: { claim: groups, encoding: repeated }", &["x-groups: g1", "x-groups: g2"]),
            ("X-Groups: { claim: missing, encoding: joined, when-absent: skip }", &[]),
            ("X-Groups: { claim: none, encoding: joined, when-absent: skip }", &[]),
            ("X-Groups: { claim: gone, default: nobody }", &["x-groups: nobody"]),
            ("X-Groups: { claim: none, encoding: repeated, default: '' }", &["x-groups: "]),
            ("X-Groups: { claim: empty, when-absent: skip }", &[]),
            ("X-Groups: { claim: empty, default: nobody }", &["x-groups: nobody"]),
        ] {
            let before = [("x_user", "policy"), ("x-groups", "policy")];
            let lines = written(yaml, &before).unwrap_or_else(|error| panic!("{yaml}: {error:?}"));
            let lines: Vec<_> = lines.into_iter().filter(|line| !line.ends_with(": policy")).collect();
            assert_eq!(lines, expected, "{yaml}");
        }
    }

    #[test]
    fn what_stood_there_is_replaced_in_every_spelling() {
        let lines = written("X-User: { claim: oid }", &[("x_user", "a"), ("x-user", "b"), ("x.user", "c")]).expect("written");

        assert_eq!(lines, ["x-user: 0f0f"]);
    }

    #[test]
    fn what_is_absent_or_cannot_be_written_refuses() {
        for yaml in [
            "X-User: { claim: missing }",
            "X-User: { claim: gone }",
            "X-User: { claim: none, encoding: joined }",
            "X-User: { claim: empty }",
            "X-User: { claim: groups }",
            "X-User: { claim: line }",
            // To be absent is one thing, to be unfit another.
            "X-User: { claim: groups, when-absent: skip }",
            "X-User: { claim: line, default: nobody }",
            "X-User: { claim: holes, encoding: joined, when-absent: skip }",
            r#"X-User: { value: "@(lower(token.claims.level))", when-absent: skip }"#,
        ] {
            let refusal = crate::refusal::Refusal::from(written(yaml, &[]).expect_err(yaml));
            assert_eq!(refusal.reason, crate::refusal::Reason::HeaderValueUnavailable, "{yaml}");
        }
    }

    #[test]
    fn mistakes_are_found_at_load() {
        for (yaml, expected) in [
            ("X-User: {}", "nothing says what the header is made of"),
            ("X-User: { claim: '' }", "the name is empty"),
            ("X-User: { claim: a, value: '@(token.subject)' }", "both `claim` and `value`"),
            ("X-User: { value: gateway }", "is not an expression"),
            ("X-User: { value: '@(token.nothing)' }", "has no field `nothing`"),
            ("X-User: { claim: a, separator: ';' }", "a separator stands between"),
            ("X-User: { claim: a, encoding: joined, separator: '' }", "cannot separate"),
            ("X-User: { claim: a, encoding: joined, separator: \"\\n\" }", "cannot separate"),
            ("X-User: { claim: a, encoding: json, non-ascii: percent }", "JSON is written in ASCII"),
            ("X-User: { claim: a, default: b, when-absent: skip }", "beside `when-absent`"),
            ("X-User: { claim: a, default: \"b\\r\\n\" }", "control characters"),
            ("Authorization: { claim: a }", "`Authorization` is not set as a header"),
            ("Content-Length: { claim: a }", "the gateway sets it itself"),
            ("{ X-User: { claim: a }, X_User: { claim: b } }", "for one header"),
        ] {
            let faults = built(yaml).expect_err(yaml);
            assert!(faults.len() == 1 && faults[0].contains(expected), "{yaml}: {faults:?}");
        }
    }

    #[test]
    fn names_are_reserved_on_every_route_and_a_token_is_needed() {
        let configs = crate::settings::testing::part("X-Remote-User: { claim: oid }");
        let (mut names, mut faults) = (ReservedNames::default(), Faults::default());
        let with = Building { token: true, ..Building::default() };
        assert!(
            with.build_with(&mut names, &mut faults, |place, context| IdentityHeaders::build(&configs, place, context)).is_some()
        );
        assert!(names.finish(Some("elsewhere")).contains(&HeaderName::from_static("x_remote_user")));

        let without = Building::default().build(|place, context| IdentityHeaders::build(&configs, place, context));
        assert!(without.expect_err("no token")[0].contains("no policy before it validates one"));
    }
}
