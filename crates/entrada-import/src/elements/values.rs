//! Values of attributes and texts: expressions, or texts with named values.

use super::{flow::Flow, outcome::not};
use crate::{
    csharp::Refusal,
    estate::named::Hint,
    expression::{self, Kind, Remark},
    policy::{PolicyDocument, named_values_of, with_named_values},
    report::{Judgement, Verdict},
    xml::Text,
};

/// A translated value.
#[derive(Clone, Debug)]
pub(crate) struct TextValue {
    /// The text of the config: a literal, or `@(…)`.
    pub(crate) text: String,
    pub(crate) is_expression: bool,
    pub(crate) kind: Kind,
    /// Whether the value can be null or empty there.
    pub(crate) can_be_blank: bool,
    pub(crate) nullable: bool,
    pub(crate) remarks: Vec<Remark>,
}

impl<'i> Flow<'i> {
    /// Returns the source of a text: holes of templates as named values, and a named value that is an expression in its place.
    pub(crate) fn source(&self, text: &Text) -> String {
        let source = with_named_values(text.content.trim());
        let name = source.strip_prefix("{{").and_then(|rest| rest.strip_suffix("}}")).map(str::trim);
        match name.and_then(|name| self.shared.named.known(name)) {
            Some(known) if known.starts_with("@(") || known.starts_with("@{") => known.to_owned(),
            _ => source,
        }
    }

    /// Translates a value that may be an expression.
    pub(crate) fn value(&mut self, document: &PolicyDocument, text: &Text, hint: Hint) -> Result<TextValue, Refusal> {
        let source = self.source(text);
        if source.starts_with("@(") || source.starts_with("@{") {
            return self.expression(document, text, &source, expression::translate);
        }
        self.named_in(&source, hint, text_id(self, document, text));
        Ok(TextValue {
            can_be_blank: source.is_empty(),
            text: source,
            is_expression: false,
            kind: Kind::Text,
            nullable: false,
            remarks: Vec::new(),
        })
    }

    /// Translates a condition.
    pub(crate) fn condition(&mut self, document: &PolicyDocument, text: &Text) -> Result<TextValue, Refusal> {
        let source = self.source(text);
        match source.as_str() {
            "true" | "false" => {
                return Ok(TextValue {
                    text: format!("@({source})"),
                    is_expression: true,
                    kind: Kind::Bool,
                    can_be_blank: false,
                    nullable: false,
                    remarks: Vec::new(),
                });
            }
            _ if !source.starts_with("@(") && !source.starts_with("@{") => {
                return Err(not("unparsable", "the condition is no expression"));
            }
            _ => {}
        }
        let condition = self.expression(document, text, &source, expression::condition)?;
        self.guard(&source);
        Ok(condition)
    }

    /// Notes the named values of a text that decides: until they are supplied, a caller could send the stand-in.
    pub(super) fn guard(&mut self, source: &str) {
        let unknown = named_values_of(source).into_iter().filter(|name| self.shared.named.known(name).is_none());
        self.route.guards.extend(unknown);
    }

    fn expression(
        &mut self,
        document: &PolicyDocument,
        text: &Text,
        source: &str,
        translate: fn(&str, &expression::Scope) -> Result<expression::Translated, Refusal>,
    ) -> Result<TextValue, Refusal> {
        self.scope.secrets = self.shared.named.secrets();
        self.scope.named = self.shared.named.all_known();
        match translate(source, &self.scope) {
            Ok(translated) => {
                for name in &translated.named {
                    self.named_in(&format!("{{{{{name}}}}}"), Hint::Text, text_id(self, document, text));
                }
                let worst = translated.remarks.iter().max_by_key(|remark| remark.verdict);
                let judgement =
                    worst.map_or_else(Judgement::same, |remark| Judgement::new(remark.verdict, remark.code, remark.reason, ""));
                self.shared.registry.judge_expression(document.id, text, &judgement);
                if translated.remarks.iter().any(|remark| remark.code == "error-message") {
                    self.shared.lint("L16", document, text.start);
                }
                Ok(TextValue {
                    text: format!("@({})", translated.cel),
                    is_expression: true,
                    kind: translated.kind,
                    can_be_blank: translated.nullable || translated.can_be_empty,
                    nullable: translated.nullable,
                    remarks: translated.remarks,
                })
            }
            Err(refusal) => {
                self.refuse_expression(document, text, &refusal);
                Err(refusal)
            }
        }
    }

    /// Says of an expression that it is not translated, and where within it the reason stands.
    pub(crate) fn refuse_expression(&mut self, document: &PolicyDocument, text: &Text, refusal: &Refusal) {
        if refusal.code == "unverified-token" {
            self.shared.lint("L3", document, text.start);
        }
        let line = document.line(text.content_start()) + newlines(text.content.trim(), refusal.at);
        let reason = if refusal.at > 0 { format!("line {line}: {}", refusal.reason) } else { refusal.reason.clone() };
        let judgement = Judgement::new(Verdict::Not, refusal.code, reason, super::outcome::advice_of(refusal.code));
        self.shared.registry.judge_expression(document.id, text, &judgement);
    }

    /// Registers the named values of a text.
    pub(crate) fn named_in(&mut self, text: &str, hint: Hint, origin: Option<usize>) {
        for name in named_values_of(text) {
            let hint = match (hint, Hint::within_url(text, &name)) {
                (Hint::Metadata, Hint::WholeUrl) => Hint::Metadata,
                (Hint::Metadata | Hint::Url, within) => within,
                (hint, _) => hint,
            };
            if self.shared.named.used(&name, hint) {
                self.shared.need("named-value", &name, "in `named-values`, or by `--named-value NAME=VALUE`");
            }
            if let Some(origin) = origin {
                self.shared.registry.need(origin, &name);
            }
        }
    }

    /// Returns an attribute that must be a text without expressions.
    pub(crate) fn literal(
        &mut self,
        document: &PolicyDocument,
        element: &crate::xml::Element,
        name: &str,
        hint: Hint,
    ) -> Result<Option<String>, Refusal> {
        let Some(text) = element.attribute(name) else { return Ok(None) };
        let value = self.value(document, text, hint)?;
        if !value.is_expression {
            return Ok(Some(value.text));
        }
        // A constant is as good as a text.
        match constant(&value.text) {
            Some(text) => Ok(Some(text)),
            None => {
                let refusal = not("computed-name", format!("`{name}` is computed, and has to be a text here"));
                self.refuse_expression(document, text, &refusal);
                Err(refusal)
            }
        }
    }

    /// Returns an attribute that must be there, as a text.
    pub(crate) fn required(
        &mut self,
        document: &PolicyDocument,
        element: &crate::xml::Element,
        name: &str,
        missing: &'static str,
    ) -> Result<String, Refusal> {
        let value = self.literal(document, element, name, Hint::Text)?;
        value.filter(|value| !value.is_empty()).ok_or_else(|| not("unparsable", missing))
    }

    /// Returns a whole number of an attribute.
    pub(crate) fn number(
        &mut self,
        document: &PolicyDocument,
        element: &crate::xml::Element,
        name: &str,
    ) -> Result<Option<u64>, Refusal> {
        let Some(text) = element.attribute(name) else { return Ok(None) };
        let value = self.value(document, text, Hint::Number)?;
        let plain = if value.is_expression {
            value.text.strip_prefix("@(").and_then(|text| text.strip_suffix(')')).unwrap_or_default().to_owned()
        } else {
            self.resolved(&value.text)
        };
        plain.trim().parse().map(Some).map_err(|_| {
            let refusal = not("number-unknown", format!("`{name}` is no number that is known here: `{}`", value.text));
            if value.is_expression {
                self.refuse_expression(document, text, &refusal);
            }
            refusal
        })
    }

    /// Replaces the named values whose content is known.
    pub(crate) fn resolved(&self, text: &str) -> String {
        let mut resolved = text.to_owned();
        for name in named_values_of(text) {
            if let Some(known) = self.shared.named.known(&name) {
                resolved = resolved.replace(&format!("{{{{{name}}}}}"), known);
            }
        }
        resolved
    }
}

fn text_id(flow: &Flow<'_>, document: &PolicyDocument, text: &Text) -> Option<usize> {
    flow.shared.registry.around(document.id, text)
}

/// Returns the text of an expression that is a literal.
pub(crate) fn constant(expression: &str) -> Option<String> {
    let inner = expression.strip_prefix("@(")?.strip_suffix(')')?;
    let text = inner.strip_prefix('\'')?.strip_suffix('\'')?;
    (!text.contains(['\\', '\''])).then(|| text.to_owned())
}

fn newlines(text: &str, at: usize) -> usize {
    text.bytes().take(at).filter(|byte| *byte == b'\n').count()
}
