//! Sets, adds to or removes a header field: of the upstream's request in `inbound`, of the answer in `outbound`.
//!
//! ```yaml
#![doc = include_str!("../../config/policies/set-header.yaml")]
//! ```
//!
//! Several values make one line, joined by `, `; the few fields whose values are lines of their own (`Set-Cookie`, `WWW-Authenticate` …)
//! stay apart. A value that cannot be had refuses with [`Reason::HeaderValueUnavailable`], unless `when-absent: skip`; one with
//! control characters, blanks around it, or a list where a text belongs always does.
//!
//! A field made from `token` or `caller` tells the backend who calls: its name is reserved on every route. `override` reserves the
//! name on the routes of the same upstream.

use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use schemars::JsonSchema;
use secrecy::ExposeSecret as _;
use serde::Deserialize;

use super::Scope;
use crate::{
    config::{Faults, Place, Secret},
    exchange::Exchange,
    expression::{Expression, Facts, HeaderTextError, Template, field_value, header_value},
    refusal::{Reason, Refusal},
    request::{Claim, IncomingRequest, same_folded},
};

/// Settings of `set-header`.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct SetHeaderConfig {
    /// The field's name.
    pub name: String,
    /// What happens where the field is there already. Default: override.
    #[serde(default)]
    pub exists_action: ExistsAction,
    /// The value: a text, or an expression `@(…)`. Not with `values`.
    pub value: Option<Secret>,
    /// Several values.
    #[serde(default)]
    pub values: Vec<Secret>,
    /// What happens where a value cannot be had. Default: refuse.
    #[serde(default)]
    pub when_absent: WhenAbsent,
}

/// What happens where the field is there already.
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

/// What happens where a value cannot be had.
#[derive(Clone, Copy, Debug, Default, Deserialize, JsonSchema, PartialEq, Eq)]
#[serde(rename_all = "kebab-case")]
pub enum WhenAbsent {
    /// The request is refused.
    #[default]
    Refuse,
    /// The field is left out; a caller's own value is removed all the same.
    Skip,
}

/// Whose header is changed.
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
    /// Literals: the lines, ready to be sent.
    Ready(Vec<HeaderValue>),
    /// Values to be made for each request; one line each, or all on one.
    Made { parts: Vec<Part>, apart: bool },
}

#[derive(Debug)]
enum Part {
    Literal(HeaderValue),
    Expression(Box<Expression>),
}

/// Fields whose values are lines of their own: a comma within them means something else.
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

/// Fields that say where a message ends or what the connection does: the gateway's own business (RFC 9110, section 7.6.1).
const FRAMING: [HeaderName; 11] = [
    header::HOST,
    header::CONNECTION,
    header::CONTENT_LENGTH,
    header::TRANSFER_ENCODING,
    header::TE,
    header::TRAILER,
    header::UPGRADE,
    header::EXPECT,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    HeaderName::from_static("http2-settings"),
];

impl SetHeader {
    pub(crate) fn build(config: &SetHeaderConfig, place: &Place, scope: &mut Scope<'_>) -> Option<Self> {
        Self::build_for(Side::Request, config, place, scope)
    }

    /// As [`build`](Self::build), for a policy on the answer.
    pub(crate) fn build_for_answer(config: &SetHeaderConfig, place: &Place, scope: &mut Scope<'_>) -> Option<Self> {
        Self::build_for(Side::Answer, config, place, scope)
    }

    fn build_for(side: Side, config: &SetHeaderConfig, place: &Place, scope: &mut Scope<'_>) -> Option<Self> {
        let name = name(&config.name, &place.key("name"), scope.faults);
        let values = values(side, config, place, scope);
        let (name, templates) = (name?, values?);
        let identity = templates.iter().any(|(template, _)| template.uses().identity());
        let values = Values::build(templates, &name, scope.faults)?;
        if side == Side::Request {
            if identity {
                scope.reserved.claim(&name, Claim::Identity);
            }
            match config.exists_action {
                ExistsAction::Override => scope.reserved.claim(&name, Claim::Override),
                ExistsAction::Append => scope.reserved.adds_to(&name, "append", &place.key("exists-action")),
                ExistsAction::Skip => scope.reserved.adds_to(&name, "skip", &place.key("exists-action")),
                ExistsAction::Delete => {}
            }
        }
        Some(Self { name, action: config.exists_action, values, when_absent: config.when_absent })
    }

    pub(crate) fn apply(
        &self,
        exchange: &Exchange,
        incoming: &IncomingRequest,
        headers: &mut HeaderMap,
    ) -> Result<(), Unavailable> {
        self.set(&Facts::of(exchange, incoming), headers)
    }

    /// As [`apply`](Self::apply), on an answer of this status.
    pub(crate) fn apply_to_answer(
        &self,
        exchange: &Exchange,
        incoming: &IncomingRequest,
        status: StatusCode,
        headers: &mut HeaderMap,
    ) -> Result<(), Unavailable> {
        self.set(&Facts { status: Some(status), ..Facts::of(exchange, incoming) }, headers)
    }

    fn set(&self, facts: &Facts<'_>, headers: &mut HeaderMap) -> Result<(), Unavailable> {
        match self.action {
            ExistsAction::Delete => {
                remove_folded(&self.name, headers);
                return Ok(());
            }
            ExistsAction::Skip if headers.contains_key(&self.name) => return Ok(()),
            ExistsAction::Override => {
                headers.remove(&self.name);
            }
            ExistsAction::Skip | ExistsAction::Append => {}
        }
        match &self.values {
            Values::Ready(lines) => lines.iter().for_each(|line| {
                headers.append(self.name.clone(), line.clone());
            }),
            Values::Made { parts, apart } => {
                let mut line: Option<HeaderValue> = None;
                for part in parts {
                    let Some(value) = self.value(part, facts, *apart || parts.len() == 1)? else { continue };
                    if *apart {
                        headers.append(self.name.clone(), value);
                    } else {
                        line = Some(match line {
                            None => value,
                            Some(before) => joined(&before, &value).ok_or_else(|| self.unavailable(HeaderTextError::Unclean))?,
                        });
                    }
                }
                if let Some(line) = line {
                    headers.append(self.name.clone(), line);
                }
            }
        }
        Ok(())
    }

    /// One value; `None` where it cannot be had and is left out.
    fn value(&self, part: &Part, facts: &Facts<'_>, alone: bool) -> Result<Option<HeaderValue>, Unavailable> {
        let expression = match part {
            Part::Literal(value) => return Ok(Some(value.clone())),
            Part::Expression(expression) => expression,
        };
        match header_value(expression, facts) {
            // A comma would make two values of one.
            Ok(value) if !alone && value.as_bytes().contains(&b',') => Err(self.unavailable(HeaderTextError::Unclean)),
            Ok(value) => Ok(Some(value)),
            Err(HeaderTextError::Evaluation(_)) if self.when_absent == WhenAbsent::Skip => Ok(None),
            Err(error) => Err(self.unavailable(error)),
        }
    }

    fn unavailable(&self, source: HeaderTextError) -> Unavailable {
        Unavailable { name: self.name.clone(), source }
    }
}

impl Values {
    fn build(templates: Vec<(Template, Place)>, name: &HeaderName, faults: &mut Faults) -> Option<Self> {
        let apart = APART.contains(name);
        let mut parts = Vec::with_capacity(templates.len());
        for (template, place) in templates {
            parts.push(match template {
                Template::Expression(expression) => Some(Part::Expression(expression)),
                Template::Literal(text) => literal(&text, &place, faults).map(Part::Literal),
            });
        }
        let parts = parts.into_iter().collect::<Option<Vec<_>>>()?;
        let literals = parts.iter().map(|part| match part {
            Part::Literal(value) => Some(value.clone()),
            Part::Expression(_) => None,
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

/// The name of a field that a policy may set.
pub(super) fn name(written: &str, place: &Place, faults: &mut Faults) -> Option<HeaderName> {
    let Ok(name) = HeaderName::from_bytes(written.as_bytes()) else {
        faults.error(place, format!("`{written}` is no header's name"), "names have letters, digits and `-`");
        return None;
    };
    if name == header::AUTHORIZATION {
        faults.error(
            place,
            "`Authorization` is not set as a header",
            "say what the upstream gets to see with the route's `authorization`: keep, remove, from-header or credential",
        );
        return None;
    }
    if name == header::HOST {
        let cure = "say what the upstream gets to see with the upstream's `host`: upstream, preserve or a name";
        faults.error(place, "`Host` is not set as a header", cure);
        return None;
    }
    if FRAMING.contains(&name) {
        let message = format!("`{written}` says where a message ends or what its connection does; the gateway sets it itself");
        faults.error(place, message, "leave the policy out");
        return None;
    }
    Some(name)
}

/// What is written as `value` or `values`, with its places.
fn values(side: Side, config: &SetHeaderConfig, place: &Place, scope: &mut Scope<'_>) -> Option<Vec<(Template, Place)>> {
    let written: Vec<(&Secret, Place)> = match (&config.value, config.values.as_slice()) {
        (Some(_), [_, ..]) => {
            scope.faults.error(place, "both `value` and `values` are written", "leave one of them out");
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
            scope.faults.error(place, "`exists-action: delete` takes no value", "leave the value out");
            return None;
        }
        return Some(Vec::new());
    }
    if written.is_empty() {
        scope.faults.error(place, "no `value` is written", "write one, or `exists-action: delete` to remove the field");
        return None;
    }
    let built = written.into_iter().map(|(text, place)| {
        let template = template(text, &place, scope)?;
        (side == Side::Answer || scope.is_before_answer(template.uses(), &place)).then_some((template, place))
    });
    // All of them are built before any is missed, so that every fault is told.
    let built: Vec<_> = built.collect();
    built.into_iter().collect()
}

/// One value as written. What a secret is made of is never read as an expression.
fn template(written: &Secret, place: &Place, scope: &mut Scope<'_>) -> Option<Template> {
    match written.plain() {
        Some(text) => scope.template_on_answer(text, place),
        None => match written.reveal(scope.secrets) {
            Ok(text) => Some(Template::Literal(text.expose_secret().into())),
            Err(error) => {
                scope.faults.error(place, error.to_string(), "define it in `named-values`");
                None
            }
        },
    }
}

/// A literal value, parsed once. It may be a secret, so it is never shown and never put into a compression table.
fn literal(text: &str, place: &Place, faults: &mut Faults) -> Option<HeaderValue> {
    if text.is_empty() {
        faults.error(place, "the value is empty", "write one, or `exists-action: delete` to remove the field");
        return None;
    }
    match field_value(text) {
        Ok(mut value) => {
            value.set_sensitive(true);
            Some(value)
        }
        Err(error) => {
            faults.error(place, error.to_string(), "write the value on one line, without blanks around it");
            None
        }
    }
}

/// Two values on one line. RFC 9110, section 5.3.
fn joined(one: &HeaderValue, other: &HeaderValue) -> Option<HeaderValue> {
    let mut value = HeaderValue::from_bytes(&[one.as_bytes(), b", ", other.as_bytes()].concat()).ok()?;
    value.set_sensitive(one.is_sensitive() || other.is_sensitive());
    Some(value)
}

/// Removes a field in every spelling that a CGI-like reader takes for it.
fn remove_folded(name: &HeaderName, headers: &mut HeaderMap) {
    let spellings: Vec<_> = headers.keys().filter(|other| same_folded(other.as_str(), name.as_str())).cloned().collect();
    for spelling in spellings {
        headers.remove(spelling);
    }
}

/// A value cannot be had.
#[derive(Debug, thiserror::Error)]
#[error("the value of {name} cannot be had")]
pub struct Unavailable {
    name: HeaderName,
    source: HeaderTextError,
}

impl From<Unavailable> for Refusal {
    fn from(error: Unavailable) -> Self {
        Self::new(Reason::HeaderValueUnavailable, error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        expression::tests::World,
        inbound::testing::Building,
        request::{Reserved, ReservedNames},
    };

    fn config(name: &str, action: ExistsAction, values: &[&str]) -> SetHeaderConfig {
        let owned: Vec<_> = values.iter().map(|value| Secret::from(*value)).collect();
        let (value, values) = if let [value] = owned.as_slice() { (Some(value.clone()), vec![]) } else { (None, owned) };
        SetHeaderConfig { name: name.to_owned(), exists_action: action, value, values, when_absent: WhenAbsent::Refuse }
    }

    fn built(config: &SetHeaderConfig) -> Result<SetHeader, Vec<String>> {
        Building { token: true, captures: &["person"], ..Building::default() }
            .build(|place, scope| SetHeader::build(config, place, scope))
    }

    #[test]
    fn values_hold_secrets_and_never_show_them() {
        let text = r##"
named-values: { key: { value: "@(hunter2)", secret: true } }
inbound: [ { set-header: { name: X-Key, value: "Bearer {{key}}" } } ]
"##;
        let document = crate::config::Document::from_text("entrada.yaml", text).unwrap_or_else(|report| panic!("{report}"));
        let crate::inbound::PolicyConfig::SetHeader(config) = &document.config.inbound[0] else { panic!("another policy") };

        let policy = Building::default()
            .build(|place, scope| {
                let mut scope = Scope {
                    faults: scope.faults,
                    sets: scope.sets,
                    tenants: scope.tenants,
                    secrets: &document.secrets,
                    limits: scope.limits,
                    fragments: scope.fragments,
                    depth: scope.depth,
                    captures: scope.captures,
                    anonymous: scope.anonymous,
                    reserved: scope.reserved,
                    partners: None,
                    token_places: scope.token_places,
                };
                SetHeader::build(config, place, &mut scope)
            })
            .expect("it is good");

        assert!(!format!("{policy:?} {config:?}").contains("hunter2"));
        let Values::Ready(lines) = &policy.values else { panic!("made for each request") };
        assert_eq!(lines[0].as_bytes(), b"Bearer @(hunter2)");
        assert!(lines[0].is_sensitive());
    }

    fn header(lines: &[(&str, &str)]) -> HeaderMap {
        lines
            .iter()
            .map(|(name, value)| {
                (HeaderName::from_bytes(name.as_bytes()).expect("a name"), HeaderValue::from_str(value).expect("a value"))
            })
            .collect()
    }

    fn lines(headers: &HeaderMap, name: &str) -> Vec<String> {
        headers.get_all(name).iter().map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned()).collect()
    }

    #[test]
    fn does_what_the_action_says() {
        use ExistsAction::{Append, Delete, Override, Skip};
        let world = World::new();
        for (name, action, values, before, after) in [
            ("x-a", Override, &["new"][..], &[("x-a", "old"), ("x-a", "older")][..], &["new"][..]),
            ("x-a", Override, &["new"], &[], &["new"]),
            ("X-A", Override, &["one", "two"], &[("x-a", "old")], &["one, two"]),
            ("x-a", Append, &["new"], &[("x-a", "old")], &["old", "new"]),
            ("x-a", Append, &["new"], &[], &["new"]),
            ("x-a", Skip, &["new"], &[("x-a", "old")], &["old"]),
            ("x-a", Skip, &["new"], &[], &["new"]),
            ("x-a", Delete, &[], &[("x-a", "old"), ("x-a", "older")], &[]),
            ("x-a", Override, &["@(token.claims.oid)"], &[("x-a", "old")], &["0f0f"]),
            ("x-a", Override, &["@(token.claims.level)"], &[], &["5"]),
            ("x-a", Override, &["fixed", "@(token.claims.oid)"], &[], &["fixed, 0f0f"]),
            ("x-a", Override, &["@(token.claims.umlaut)"], &[], &["M\u{dc}LLER"]),
            ("x-a", Override, &["@(join(token.claims.groups, ','))"], &[], &["g1,g2"]),
            ("set-cookie", Override, &["a=1", "b=2"], &[("set-cookie", "c=3")], &["a=1", "b=2"]),
            ("set-cookie", Append, &["a=1", "@('b=' + token.claims.oid)"], &[("set-cookie", "c=3")], &["c=3", "a=1", "b=0f0f"]),
        ] {
            let policy = built(&config(name, action, values)).expect(name);
            let mut headers = header(before);

            policy.set(&world.facts(), &mut headers).expect("values can be had");

            assert_eq!(lines(&headers, name), after, "{name} {action:?} {values:?}");
        }
    }

    #[test]
    fn delete_removes_what_a_backend_would_take_for_the_field() {
        let mut headers = header(&[("x-debug", "1"), ("x_debug", "1"), ("x-debug-level", "2")]);

        let policy = built(&config("X-Debug", ExistsAction::Delete, &[])).expect("valid");
        policy.set(&World::new().facts(), &mut headers).expect("nothing to be had");

        assert_eq!(headers, header(&[("x-debug-level", "2")]));
    }

    #[test]
    fn a_value_that_cannot_be_had_refuses_unless_it_is_skipped() {
        let world = World::new();
        for (value, skipped) in [
            ("@(token.claims.missing)", true),
            ("@(token.claims.gone)", true),
            ("@(lower(token.claims.missing))", true),
            ("@(lower(token.claims.level))", true),
            ("@(token.claims.address.zip)", true),
            // These are no header values, whatever the config says.
            ("@(token.claims.line)", false),
            ("@(token.claims.padded)", false),
            ("@(token.claims.groups)", false),
            ("@(token.claims.address)", false),
            ("@('tab\\there')", false),
            ("@('delete\\u007f')", false),
            ("@('c1\\u0085')", false),
        ] {
            let refusing = config("x-a", ExistsAction::Override, &[value]);
            let skipping = SetHeaderConfig { when_absent: WhenAbsent::Skip, ..refusing.clone() };
            let mut headers = header(&[("x-a", "the caller's")]);

            let refusal = built(&refusing).expect(value).set(&world.facts(), &mut headers).expect_err(value);
            let answer = built(&skipping).expect(value).set(&world.facts(), &mut headers);

            assert_eq!(Refusal::from(refusal).reason, Reason::HeaderValueUnavailable, "{value}");
            assert_eq!(answer.is_ok(), skipped, "{value}");
            assert!(headers.is_empty(), "{value}: the caller's own value is gone all the same");
        }
    }

    #[test]
    fn a_comma_in_one_of_several_values_refuses() {
        let policy = built(&config("x-a", ExistsAction::Override, &["fixed", "@('a,b')"])).expect("valid");

        assert!(policy.set(&World::new().facts(), &mut HeaderMap::new()).is_err());
    }

    #[test]
    fn reserves_the_names_that_callers_must_not_send() {
        use ExistsAction::{Delete, Override, Skip};
        let known = |reserved: &Reserved, name: &'static str| reserved.contains(&HeaderName::from_static(name));
        let mut names = ReservedNames::default();
        let mut faults = Faults::default();
        for (upstream, name, action, values) in [
            ("orders", "x-user", Override, &["@(token.claims.oid)"][..]),
            ("orders", "x-from", Override, &["@(caller.address)"]),
            ("orders", "x-environment", Override, &["production"]),
            ("orders", "x-gone", Delete, &[]),
            ("graph", "x-language", Skip, &["@(request.headers.accept)"]),
            ("graph", "x-user", Skip, &["someone"]),
        ] {
            names.enter(Some(upstream));
            let config = config(name, action, values);
            let building = Building { token: true, ..Building::default() };
            let built = building.build_with(&mut names, &mut faults, |place, scope| SetHeader::build(&config, place, scope));
            assert!(built.is_some(), "{name}");
        }
        names.check(&mut faults);

        let (orders, graph) = (names.finish(Some("orders")), names.finish(Some("graph")));
        assert!(known(&orders, "x_user") && known(&graph, "x-user"));
        assert!(known(&orders, "x-from") && known(&graph, "x-from"));
        assert!(known(&orders, "x-environment") && !known(&graph, "x-environment"));
        assert!(!known(&orders, "x-gone") && !known(&graph, "x-language"));
        assert_eq!(faults.errors(), 1, "skip on a reserved name");
    }

    #[test]
    fn what_the_answer_bears_is_reserved_nowhere() {
        let mut names = ReservedNames::default();
        let mut faults = Faults::default();
        let config = config("x-user", ExistsAction::Override, &["@(token.claims.oid)"]);

        let building = Building { token: true, ..Building::default() };
        let built =
            building.build_with(&mut names, &mut faults, |place, scope| SetHeader::build_for_answer(&config, place, scope));

        assert!(built.is_some() && !names.finish(None).contains(&HeaderName::from_static("x-user")));
    }

    #[test]
    fn mistakes_are_found_at_load() {
        use ExistsAction::{Delete, Override};
        for (name, action, values, expected) in [
            ("x a", Override, &["v"][..], "no header's name"),
            ("Authorization", Override, &["v"], "`Authorization` is not set as a header"),
            ("authorization", Delete, &[], "`Authorization` is not set as a header"),
            ("Host", Override, &["v"], "`Host` is not set as a header"),
            ("Content-Length", Override, &["v"], "the gateway sets it itself"),
            ("transfer-encoding", Delete, &[], "the gateway sets it itself"),
            ("Connection", Override, &["v"], "the gateway sets it itself"),
            ("TE", Override, &["v"], "the gateway sets it itself"),
            ("Expect", Override, &["v"], "the gateway sets it itself"),
            ("x-a", Delete, &["v"], "takes no value"),
            ("x-a", Override, &[], "no `value` is written"),
            ("x-a", Override, &[""], "the value is empty"),
            ("x-a", Override, &["a\r\nx-b: c"], "control characters"),
            ("x-a", Override, &[" a"], "a blank"),
            ("x-a", Override, &["@(tokn.claims.oid)"], "at column 3 of the expression: nothing is called `tokn`"),
            ("x-a", Override, &["@(token.claims.oid"], "no closing bracket"),
            ("x-a", Override, &["Bearer @(token.claims.oid)"], "mixes text and an expression"),
            ("x-a", Override, &["@(token.claims.oid) and more"], "goes on after the expression"),
            ("x-a", Override, &["@{ return 1; }"], "statements"),
            ("x-a", Override, &["@(captures.unknown)"], "captures no `unknown`"),
        ] {
            let faults = built(&config(name, action, values)).expect_err(name);
            assert!(faults.len() == 1 && faults[0].contains(expected), "{name} {values:?}: {faults:?}");
        }
        let both = SetHeaderConfig { values: vec![Secret::from("b")], ..config("x-a", Override, &["a"]) };
        assert!(built(&both).expect_err("both")[0].contains("both `value` and `values`"));
    }

    #[test]
    fn a_value_from_the_token_needs_a_token() {
        let config = config("x-user", ExistsAction::Override, &["@(has(token.claims.oid) ? token.claims.oid : 'nobody')"]);

        for anonymous in [false, true] {
            let building = Building { anonymous, ..Building::default() };
            let faults = building.build(|place, scope| SetHeader::build(&config, place, scope)).expect_err("no token policy");
            assert!(faults[0].contains("no policy before it validates one"), "{faults:?}");
        }
    }
}
