//! Changes the path of the request.
//!
//! ```yaml
#![doc = include_str!("../../config/policies/rewrite-uri.yaml")]
//! ```
//!
//! `{name}` is a segment that the route's path captured, `{rest}` is the part after the path's prefix, with its slash or empty.
//! In the path both are inserted as received; in the query they are encoded anew, so that a capture cannot become a parameter of
//! its own. `{variables.name}` is the text of a variable, encoded: as one segment in the path, as one value in the query. The template's query parameters replace the caller's of the same name, in any case, since some backends do not
//! distinguish them.

use std::borrow::Cow;

use bytestring::ByteString;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use schemars::JsonSchema;
use serde::Deserialize;

use super::settings::{DependsOn, PolicySettings, Subject};
use super::{build_context::BuildContext, query};
use crate::{
    exchange::Exchange,
    expression::{EvaluationError, Expression, Facts, Template},
    refusal::{Reason, Refusal, Stop},
    request::{Ambiguities, Captures, IncomingRequest, Target},
    settings::{Faults, Place},
    upstream::UpstreamRequest,
};

/// Settings of `rewrite-uri`.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct RewriteUriConfig {
    /// The new path, with or without a query; `{name}` is a capture of the route's path, `{rest}` the part after its prefix,
    /// `{variables.name}` a variable, encoded.
    pub template: String,
    /// Keeps the caller's query parameters that the template does not name. Default: true.
    pub copy_unmatched_params: Option<bool>,
}

/// Changes the path of the request.
#[derive(Debug)]
pub struct RewriteUri {
    path: Vec<Piece>,
    query: Vec<Piece>,
    /// The names of the template's own query parameters, decoded.
    own: Vec<Box<[u8]>>,
    /// The ambiguities in the template itself, which a route would have to accept.
    ambiguities: Ambiguities,
    copy_unmatched: bool,
}

/// A part of a template.
#[derive(Clone, Debug)]
enum Piece {
    Text(Box<str>),
    Capture(Box<str>),
    Rest,
    /// `{variables.name}`: encoded as one segment, or as one value of the query.
    Variable(Box<Expression>),
}

impl PolicySettings for RewriteUriConfig {
    fn depends_on(&self) -> DependsOn {
        DependsOn::Captures
    }

    fn subject(&self) -> Subject {
        Subject::new("the path", [self.template.clone()])
    }
}

impl RewriteUri {
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

    pub(crate) fn build(config: &RewriteUriConfig, place: &Place, context: &mut BuildContext<'_>) -> Option<Self> {
        let place = place.key("template");
        let template = config.template.as_str();
        let before = context.faults.errors();
        if template.starts_with("@(") {
            let cure = "write the path with captures, as /items/{id}, or with variables, as /items/{variables.id}";
            context.faults.error(&place, "a path is never made by an expression, which would have to escape its parts", cure);
            return None;
        }
        let (path, parameters) = template.split_once('?').unwrap_or((template, ""));
        let (path, parameters) = (pieces(path, &place, context)?, pieces(parameters, &place, context)?);
        let ambiguities = judge(template, &path, &parameters, &place, context.faults);
        if context.faults.errors() > before {
            return None;
        }
        let own = query::pairs(&with_placeholders(&parameters)).map(query::name).collect();
        let copy_unmatched = config.copy_unmatched_params.unwrap_or(true);
        Some(Self { path, query: parameters, own, ambiguities: ambiguities?, copy_unmatched })
    }

    pub(crate) fn apply(
        &self,
        exchange: &Exchange,
        incoming: &IncomingRequest,
        outgoing: &mut UpstreamRequest,
    ) -> Result<(), Refusal> {
        let facts = exchange.facts(incoming);
        let path = self.path(&facts, incoming.target.ambiguities)?;
        let query = self.query(&facts, outgoing.query.as_deref())?;
        outgoing.path = path;
        outgoing.query = query;
        Ok(())
    }

    fn path(&self, facts: &Facts<'_>, seen: Ambiguities) -> Result<ByteString, RewriteFailed> {
        let mut path = String::new();
        for piece in &self.path {
            match piece {
                Piece::Variable(variable) => path.extend(segment(&variable.text(facts)?)?),
                piece => path.push_str(raw(piece, facts.captures)?),
            }
        }
        if path.is_empty() {
            path.push('/');
        }
        // The pieces are canonical, and what they make has to be so too: no dot segment, no escape, no empty segment that was not
        // there before may come of putting them together.
        match Target::read(&path) {
            Ok(target) if *target.path == *path && target.ambiguities.minus(seen).minus(self.ambiguities).is_empty() => {
                Ok(target.path)
            }
            _ => Err(RewriteFailed::Ambiguous),
        }
    }

    fn query(&self, facts: &Facts<'_>, sent: Option<&str>) -> Result<Option<ByteString>, RewriteFailed> {
        let mut made = String::new();
        for piece in &self.query {
            match piece {
                Piece::Text(text) => made.push_str(text),
                Piece::Variable(variable) => made.extend(query::escaped(variable.text(facts)?.as_bytes())),
                captured => {
                    let decoded: Cow<'_, [u8]> = percent_decode_str(raw(captured, facts.captures)?).into();
                    made.extend(query::escaped(&decoded));
                }
            }
        }
        if self.copy_unmatched {
            let own = |pair: &&str| self.own.iter().any(|own| query::could_be(pair, own));
            query::pairs(sent.unwrap_or_default()).filter(|pair| !own(pair)).for_each(|pair| query::push(&mut made, pair));
        }
        Ok((!made.is_empty()).then(|| made.into()))
    }
}

fn raw<'a>(piece: &'a Piece, captures: &'a Captures) -> Result<&'a str, RewriteFailed> {
    match piece {
        Piece::Text(text) => Ok(text),
        Piece::Rest => Ok(&captures.rest),
        Piece::Variable(_) => Err(RewriteFailed::Ambiguous),
        Piece::Capture(name) => {
            let found = captures.segments.iter().find(|(captured, _)| **captured == **name);
            found.map(|(_, raw)| &**raw).ok_or_else(|| RewriteFailed::NotCaptured(name.clone()))
        }
    }
}

/// Returns a text as one segment of a path, escaped; what backends could read as more than one segment, or as none, is no value for it.
fn segment(text: &str) -> Result<impl Iterator<Item = &str>, RewriteFailed> {
    let is_unfit = |letter: char| letter.is_control() || matches!(letter, '/' | '\\');
    if text.is_empty() || text.contains(is_unfit) || text.bytes().all(|byte| byte == b'.') {
        return Err(RewriteFailed::Ambiguous);
    }
    Ok(utf8_percent_encode(text, SEGMENT))
}

/// The characters that are escaped in a segment: all but the unreserved ones (RFC 3986, section 2.3).
const SEGMENT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

fn pieces(text: &str, place: &Place, context: &mut BuildContext<'_>) -> Option<Vec<Piece>> {
    let mut pieces = Vec::new();
    let mut rest = text;
    while let Some(open) = rest.find(['{', '}']) {
        let Some((name, after)) = rest[open..].strip_prefix('{').and_then(|inner| inner.split_once('}')) else {
            let cure = "write a capture as {name}, and a brace of the path itself as %7B or %7D";
            context.faults.error(place, format!("`{text}` has a brace without its other"), cure);
            return None;
        };
        if open > 0 {
            pieces.push(Piece::Text(rest[..open].into()));
        }
        pieces.push(match name {
            "rest" => Piece::Rest,
            name if name.starts_with("variables.") => match context.template(&format!("@({name})"), place)? {
                Template::Expression(variable) => Piece::Variable(variable),
                Template::Literal(_) => return None,
            },
            name => {
                known(name, place, context)?;
                Piece::Capture(name.into())
            }
        });
        rest = after;
    }
    if !rest.is_empty() {
        pieces.push(Piece::Text(rest.into()));
    }
    Some(pieces)
}

fn known(name: &str, place: &Place, context: &mut BuildContext<'_>) -> Option<()> {
    let captures = context.captures.unwrap_or_default();
    if captures.iter().any(|capture| capture == name) {
        return Some(());
    }
    let cure = match (context.captures, captures) {
        (None, _) => "move the policy into the routes whose path captures it".to_owned(),
        (Some(_), []) => format!("write the route's path with {{{name}}} in it, or use {{rest}}"),
        (Some(_), known) => format!("it captures {}; {{rest}} is what follows the path", known.join(", ")),
    };
    context.faults.error(place, format!("the route's path captures no `{name}`"), cure);
    None
}

/// Checks the template with a harmless text for each capture; returns the ambiguities that a route would have to accept.
fn judge(template: &str, path: &[Piece], query: &[Piece], place: &Place, faults: &mut Faults) -> Option<Ambiguities> {
    let starts_well = matches!(path, [Piece::Rest, ..]) || matches!(path, [Piece::Text(text), ..] if text.starts_with('/'));
    if !starts_well {
        faults.error(place, format!("`{template}` does not begin with `/`"), "write a path, as /v1.0{rest}");
        return None;
    }
    for pair in path.windows(2) {
        if let [Piece::Text(text), Piece::Rest] = pair
            && text.ends_with('/')
        {
            let cure = format!("write `{}`", template.replace("/{rest}", "{rest}"));
            faults.error(place, "{rest} begins with a slash of its own", cure);
            return None;
        }
    }
    let sample = if query.is_empty() {
        with_placeholders(path)
    } else {
        // Within a query what is captured has no slashes.
        format!("{}?{}", with_placeholders(path), with_placeholders(query).replace("/x", "x"))
    };
    match Target::read(&sample) {
        Ok(target) if target.to_string() == sample => Some(target.ambiguities),
        Ok(target) => {
            faults.error(
                place,
                format!("`{template}` is not written as it would be sent"),
                format!("it would be sent as `{target}`"),
            );
            None
        }
        Err(fault) => {
            faults.error(place, format!("`{template}`: {fault}"), "write the path as it is to be sent");
            None
        }
    }
}

fn with_placeholders(pieces: &[Piece]) -> String {
    pieces
        .iter()
        .map(|piece| match piece {
            Piece::Text(text) => text,
            // No digit, so that nothing before it is taken for the first half of an escape.
            Piece::Capture(_) | Piece::Variable(_) => "x",
            Piece::Rest => "/x",
        })
        .collect()
}

/// The reason why the path cannot be changed.
#[derive(Debug, thiserror::Error)]
enum RewriteFailed {
    #[error("the new path is ambiguous")]
    Ambiguous,
    #[error("the path captured no `{0}`")]
    NotCaptured(Box<str>),
    #[error("a variable of the new path is unavailable")]
    Unavailable(#[from] EvaluationError),
}

impl From<RewriteFailed> for Refusal {
    fn from(error: RewriteFailed) -> Self {
        match error {
            RewriteFailed::Ambiguous => Self::new(Reason::RequestTargetInvalid, error),
            RewriteFailed::Unavailable(_) => Self::new(Reason::HeaderValueUnavailable, error),
            // The names are checked when the config is built, so this is ours.
            RewriteFailed::NotCaptured(_) => Self::new(Reason::InternalError, error),
        }
    }
}

#[cfg(test)]
mod tests {
    use percent_encoding::percent_encode;
    use proptest::prelude::*;

    use super::*;
    use crate::{expression::tests::World, inbound::testing::Building};

    fn facts<'a>(world: &'a World, captures: &'a Captures) -> Facts<'a> {
        Facts { captures, ..world.facts() }
    }

    fn built(template: &str, copy: Option<bool>) -> Result<RewriteUri, Vec<String>> {
        let config = RewriteUriConfig { template: template.to_owned(), copy_unmatched_params: copy };
        Building { captures: &["person", "id"], ..Building::default() }
            .build(|place, context| RewriteUri::build(&config, place, context))
    }

    fn captures(person: &str, rest: &str) -> Captures {
        Captures { segments: vec![("person".into(), person.into()), ("id".into(), "7".into())], rest: rest.into() }
    }

    #[test]
    fn puts_captures_and_rest_where_the_template_says() {
        let world = World::new();
        for (template, person, rest, expected) in [
            ("/v1.0{rest}", "ada", "/users", "/v1.0/users"),
            ("/v1.0{rest}", "ada", "", "/v1.0"),
            ("/v1.0{rest}", "ada", "/", "/v1.0/"),
            ("{rest}", "ada", "", "/"),
            ("{rest}", "ada", "/a/b", "/a/b"),
            ("/users/{person}/messages", "ada%20l", "/x", "/users/ada%20l/messages"),
            ("/users/{person}/{id}", "ada", "", "/users/ada/7"),
            ("/u-{person}-{id}", "ada", "", "/u-ada-7"),
            ("/fixed", "ada", "/x", "/fixed"),
        ] {
            let policy = built(template, None).expect(template);

            let path = policy.path(&facts(&world, &captures(person, rest)), Ambiguities::NONE).expect(template);

            assert_eq!(&*path, expected, "{template}");
        }
    }

    #[test]
    fn a_capture_that_the_route_does_not_make_is_a_fault_of_ours() {
        let policy = built("/users/{person}", None).expect("the route could have it");
        let none = Captures { segments: Vec::new(), rest: "".into() };

        let refusal =
            Refusal::from(policy.path(&facts(&World::new(), &none), Ambiguities::NONE).expect_err("there is no person"));

        assert_eq!(refusal.reason, Reason::InternalError);
    }

    #[test]
    fn own_parameters_win_over_the_callers() {
        let world = World::new();
        for (template, copy, sent, expected) in [
            ("/put", None, Some("a=b&c=d"), Some("a=b&c=d")),
            ("/put", Some(false), Some("a=b&c=d"), None),
            ("/put", None, None, None),
            ("/put?", None, Some(""), None),
            ("/put?a=1", None, Some("a=2&c=d"), Some("a=1&c=d")),
            ("/put?a=1", None, Some("%61=2&A=3&a&c=d&a=4"), Some("a=1&c=d")),
            ("/put?a=1", None, Some("c=d;a=2&e=f"), Some("a=1&e=f")),
            ("/put?$top=10", None, Some("%24top=99&$TOP=5&$skip=1"), Some("$top=10&$skip=1")),
            ("/put?a%20b=1", None, Some("a+b=2&a%20b=3"), Some("a%20b=1")),
            ("/put?a=1&b=2", Some(false), Some("c=3"), Some("a=1&b=2")),
            ("/put?who={person}", None, Some("x=1"), Some("who=ada%26admin%3D1&x=1")),
            ("/put?from={rest}", None, None, Some("from=%2Fa%2Fb")),
        ] {
            let policy = built(template, copy).expect(template);

            let query = policy.query(&facts(&world, &captures("ada&admin=1", "/a%2Fb")), sent).expect(template);

            assert_eq!(query.as_deref(), expected, "{template} and {sent:?}");
        }
    }

    #[test]
    fn a_template_that_cannot_be_right_is_an_error_at_load() {
        for (template, expected) in [
            ("v1.0", "does not begin with `/`"),
            ("", "does not begin with `/`"),
            ("{person}/x", "does not begin with `/`"),
            ("/a/{unknown}", "captures no `unknown`"),
            ("/a?b={unknown}", "captures no `unknown`"),
            ("/a/{rest}", "slash of its own"),
            ("/a/{person", "brace without its other"),
            ("/a/person}", "brace without its other"),
            ("/a/../b", "dot segment"),
            ("/a/%zz", "not part of an escape"),
            ("/a%2{id}", "not part of an escape"),
            ("/a b", "control character or a space"),
            ("/a#b", "fragment"),
            ("/a%2db", "not written as it would be sent"),
            ("/caf\u{e9}", "not written as it would be sent"),
            ("@(request.path)", "never made by an expression"),
            ("/a/{variables.id}", "no policy before it sets `variables.id`"),
            ("/a/{variables.}", "expression"),
        ] {
            let faults = built(template, None).expect_err(template);
            assert!(faults.len() == 1 && faults[0].contains(expected), "{template}: {faults:?}");
        }
    }

    #[test]
    fn what_only_the_whole_path_shows_is_refused() {
        let world = World::new();
        for (template, person, rest) in [
            ("/a{rest}/b", "ada", "/x/"),
            ("/.{person}", ".%20", ""),
            ("/{person}.", ".;x", ""),
            ("/{person}", "a%2Fb", ""),
            ("/{person}", "a;b", ""),
        ] {
            let policy = built(template, None).expect(template);

            let refusal =
                Refusal::from(policy.path(&facts(&world, &captures(person, rest)), Ambiguities::NONE).expect_err(template));

            assert_eq!(refusal.reason, Reason::RequestTargetInvalid, "{template}");
        }
    }

    #[test]
    fn a_variable_is_one_segment_or_one_value() {
        let config =
            RewriteUriConfig { template: "/a/{variables.tier}/b?c={variables.tier}".to_owned(), copy_unmatched_params: None };
        let policy = Building::default()
            .build(|place, context| {
                context.sets("tier", None);
                RewriteUri::build(&config, place, context)
            })
            .expect("valid");
        let mut world = World::new();
        for (value, expected) in [
            ("gold", Some(("/a/gold/b", "c=gold"))),
            ("a b&c=\u{e9}", Some(("/a/a%20b%26c%3D%C3%A9/b", "c=a%20b%26c%3D%C3%A9"))),
            ("...a", Some(("/a/...a/b", "c=...a"))),
            (".", None),
            ("..", None),
            ("%2e%2e", None),
            ("../../admin", None),
            ("a/b", None),
            ("a\\b", None),
            ("a%2fb", None),
            ("a?b", None),
            ("a#b", None),
            ("a;b", None),
            ("a\r\nHost: evil", None),
            ("a\0", None),
            ("", None),
        ] {
            world.variables.set(&"tier".into(), value.into()).expect("small");

            let path = policy.path(&world.facts(), Ambiguities::NONE);
            assert_eq!(path.as_deref().ok(), expected.map(|(path, _)| path), "{value:?}");
            if let Some((_, query)) = expected {
                assert_eq!(policy.query(&world.facts(), None).expect("made").as_deref(), Some(query), "{value:?}");
            }
        }
    }

    #[test]
    fn what_the_route_accepted_stays_accepted() {
        let target = Target::read("/people/a%2Fb;v=1").expect("readable");
        let policy = built("/users/{person}", None).expect("valid");

        let path = policy.path(&facts(&World::new(), &captures("a%2Fb;v=1", "")), target.ambiguities).expect("accepted");

        assert_eq!(&*path, "/users/a%2Fb;v=1");
    }

    proptest! {
        #[test]
        fn a_captured_segment_stays_one_segment(text in "[ -~]{1,20}") {
            let segment: String = percent_encode(text.as_bytes(), NON_ALPHANUMERIC).collect();
            let Ok(target) = Target::read(format!("/{segment}")) else { return Ok(()) };
            let policy = built("/a/{person}/b?p={person}", None).expect("valid");
            let (world, captures) = (World::new(), captures(&target.path[1..], ""));

            if let Ok(path) = policy.path(&facts(&world, &captures), target.ambiguities) {
                prop_assert_eq!(path.matches('/').count(), 3 + target.path[1..].matches('/').count());
                prop_assert!(path.starts_with("/a/") && path.ends_with("/b"));
            }
            let query = policy.query(&facts(&world, &captures), None).expect("made").expect("there");
            prop_assert_eq!(query.matches(['&', '=', '#', '+']).count(), 1);
        }
    }
}
