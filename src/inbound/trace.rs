//! Adds a note to the record of the request.
//!
//! ```yaml
#![doc = include_str!("../../config/policies/trace.yaml")]
//! ```
//!
//! A note never refuses: a value that is unavailable is left out. Texts are cut to a bounded length, and expressions that may read a
//! credential (`Authorization`, cookies, the whole header, query or URL, the places of tokens and keys) are errors at load.

use std::{borrow::Cow, collections::BTreeMap, sync::Arc};

use schemars::JsonSchema;
use serde::Deserialize;

use super::build_context::BuildContext;
use super::settings::{DependsOn, PolicySettings, Subject};
use crate::{
    exchange::{Exchange, Note},
    expression::{Facts, Template},
    refusal::Stop,
    request::IncomingRequest,
    settings::Place,
    upstream::UpstreamRequest,
};

/// The longest message, in bytes.
const LONGEST_MESSAGE: usize = 1_024;
/// The longest value of the metadata, in bytes.
const LONGEST_VALUE: usize = 256;
/// The longest name, in bytes.
const LONGEST_NAME: usize = 64;
/// The most values of the metadata.
const MOST_VALUES: usize = 8;

/// Settings of `trace`.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct TraceConfig {
    /// The source, by which the note is found. Default: none.
    pub source: Option<String>,
    /// The message: a text, or an expression `@(…)`. At most 1024 bytes are kept.
    pub message: String,
    /// Further values by name: texts, or expressions. At most 8, of 256 bytes each.
    #[serde(default)]
    pub metadata: BTreeMap<String, String>,
}

/// Adds a note to the record of the request.
#[derive(Debug)]
pub struct Trace {
    source: Option<Arc<str>>,
    message: Template,
    metadata: Vec<(Arc<str>, Template)>,
}

impl PolicySettings for TraceConfig {
    fn depends_on(&self) -> DependsOn {
        DependsOn::Captures
    }

    fn subject(&self) -> Subject {
        Subject::new("nothing: it makes a note", [])
    }
}

impl Trace {
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
        if let Some(note) = self.note(&exchange.facts(incoming)) {
            exchange.notes.add(note);
        }
        Ok(())
    }

    /// Builds a policy on the request.
    pub(crate) fn build(config: &TraceConfig, place: &Place, context: &mut BuildContext<'_>) -> Option<Self> {
        Self::read(config, place, context, BuildContext::template)
    }

    /// Does the same as [`build`](Self::build) for a policy on the response.
    pub(crate) fn build_for_answer(config: &TraceConfig, place: &Place, context: &mut BuildContext<'_>) -> Option<Self> {
        Self::read(config, place, context, BuildContext::template_on_answer)
    }

    fn read<'s>(
        config: &TraceConfig,
        place: &Place,
        context: &mut BuildContext<'s>,
        template: fn(&mut BuildContext<'s>, &str, &Place) -> Option<Template>,
    ) -> Option<Self> {
        let before = context.faults.errors();
        let message = value(&config.message, &place.key("message"), context, template);
        let at = place.key("metadata");
        let mut metadata = Vec::new();
        for (name, text) in &config.metadata {
            let place = at.key(name);
            let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
            if name.is_empty() || name.len() > LONGEST_NAME || !name.bytes().all(plain) {
                let cure = format!("write at most {LONGEST_NAME} letters, digits, `-`, `_` and `.`");
                context.faults.error(&place, format!("`{name}` is not the name of a value"), cure);
            }
            metadata.extend(value(text, &place, context, template).map(|value| (name.as_str().into(), value)));
        }
        if metadata.len() > MOST_VALUES {
            context.faults.error(
                &at,
                format!("a note has at most {MOST_VALUES} values"),
                "leave some out, or write another `trace`",
            );
        }
        if let Some(source) = config.source.as_ref().filter(|source| source.len() > LONGEST_NAME) {
            let message = format!("the source is longer than {LONGEST_NAME} bytes");
            context.faults.error(&place.key("source"), message, format!("write a short one; this has {}", source.len()));
        }
        if context.faults.errors() > before {
            return None;
        }
        Some(Self { source: config.source.as_deref().map(Into::into), message: message?, metadata })
    }

    /// Makes the note; `None` if there is no message.
    pub(crate) fn note(&self, facts: &Facts<'_>) -> Option<Note> {
        let metadata = self.metadata.iter();
        let metadata = metadata.filter_map(|(name, value)| Some((name.clone(), cut(text(value, facts)?, LONGEST_VALUE))));
        let message = cut(text(&self.message, facts)?, LONGEST_MESSAGE);
        Some(Note { source: self.source.clone(), message, metadata: metadata.collect() })
    }
}

fn value<'s>(
    text: &str,
    place: &Place,
    context: &mut BuildContext<'s>,
    template: fn(&mut BuildContext<'s>, &str, &Place) -> Option<Template>,
) -> Option<Template> {
    let template = template(context, text, place)?;
    if let Template::Expression(expression) = &template
        && context.is_confidential(expression)
    {
        let cure = "name single header fields and parameters, and none that holds a credential";
        context.faults.error(place, "the value may be, or contain, a credential, and no record ever does", cure);
        return None;
    }
    Some(template)
}

fn text<'a>(template: &'a Template, facts: &Facts<'a>) -> Option<Cow<'a, str>> {
    match template {
        Template::Literal(text) => Some(Cow::Borrowed(text)),
        Template::Expression(expression) => expression.text(facts).ok(),
    }
}

/// Cuts a text to a length in bytes, between two characters.
fn cut(text: Cow<'_, str>, longest: usize) -> Box<str> {
    match text.len() {
        length if length <= longest => text.into_owned().into(),
        _ => text[..text.floor_char_boundary(longest)].into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{expression::tests::World, inbound::testing::Building};

    fn built(yaml: &str) -> Result<Trace, Vec<String>> {
        let config: TraceConfig = crate::settings::testing::part(yaml);
        Building { token: true, ..Building::default() }.build(|place, context| Trace::build(&config, place, context))
    }

    #[test]
    fn a_note_says_what_can_be_said() {
        let trace = built(
            r#"{ source: orders, message: "@('level ' + string(token.claims.level))", metadata: { who: "@(token.claims.oid)", none: "@(token.claims.missing)", fixed: x } }"#,
        );

        let note = trace.expect("valid").note(&World::new().facts()).expect("there is a message");

        assert_eq!((note.source.as_deref(), &*note.message), (Some("orders"), "level 5"));
        let metadata: Vec<_> = note.metadata.iter().map(|(name, value)| (&**name, &**value)).collect();
        assert_eq!(metadata, [("fixed", "x"), ("who", "0f0f")]);
        assert!(built("{ message: '@(token.claims.missing)' }").expect("valid").note(&World::new().facts()).is_none());
    }

    #[test]
    fn long_texts_are_cut_between_characters() {
        for (text, longest, expected) in [("abc", 3, "abc"), ("abcd", 3, "abc"), ("ab\u{e9}", 3, "ab"), ("\u{1f600}", 3, "")] {
            assert_eq!(&*cut(Cow::Borrowed(text), longest), expected);
        }
    }

    #[test]
    fn credentials_are_not_noted() {
        for expression in [
            "request.headers.authorization",
            "request.headers[\"Cookie\"]",
            "request.headers[\"X-Api-Key\"]",
            "request.headers[\"x-\" + \"a\"]",
            "request.url",
            "request.query_string",
            "request.query.map(name, name).join(\" \")",
            "base64(request.headers.authorization)",
        ] {
            let faults = built(&format!("{{ message: x, metadata: {{ a: '@({expression})' }} }}")).expect_err(expression);
            assert!(faults.len() == 1 && faults[0].contains("credential"), "{expression}: {faults:?}");
        }
        assert!(built("{ message: '@(request.headers[\"x-a\"] + request.query.a)' }").is_ok());
    }

    #[test]
    fn mistakes_are_found_at_load() {
        let many: Vec<_> = (0..9).map(|index| format!("a{index}: x")).collect();
        for (yaml, expected) in [
            ("{ message: '@(response.status)' }".to_owned(), "there is no answer yet"),
            ("{ message: x, metadata: { 'a b': x } }".to_owned(), "is not the name of a value"),
            (format!("{{ message: x, metadata: {{ {} }} }}", many.join(", ")), "at most 8 values"),
            (format!("{{ message: x, source: {} }}", "s".repeat(65)), "longer than 64 bytes"),
        ] {
            let faults = built(&yaml).expect_err(&yaml);
            assert!(faults.len() == 1 && faults[0].contains(expected), "{yaml}: {faults:?}");
        }
    }
}
