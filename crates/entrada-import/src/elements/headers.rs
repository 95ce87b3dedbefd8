//! Header fields and parameters of the query.

use super::{
    flow::Flow,
    outcome::{Outcome, not},
    state::Authorization,
    values::TextValue,
    variables::as_text,
};
use crate::{
    csharp::Refusal,
    estate::named::Hint,
    expression::scope::Section,
    output::{Item, Yaml, map, text},
    policy::{PolicyDocument, is_credential_name, named_values_of},
    xml::Element,
};

/// Fields that nobody can change there, and nobody needs to set here.
const FRAMING: &[&str] = &["connection", "content-length", "keep-alive", "transfer-encoding"];

impl<'i> Flow<'i> {
    pub(super) fn set_header(
        &mut self,
        document: &'i PolicyDocument,
        element: &'i Element,
        id: usize,
    ) -> Result<Outcome, Refusal> {
        let name = self.required(document, element, "name", "the field has no name")?;
        let lower = name.to_ascii_lowercase();
        let is_request = matches!(self.scope.section, Section::Inbound | Section::Backend);
        if FRAMING.contains(&lower.as_str()) {
            return Ok(Outcome::note(Vec::new(), "framing", format!("`{name}` cannot be changed by a policy, there or here")));
        }
        let action = action_of(element)?;
        let translated = self.set_field(document, element, id, &name, action);
        if is_request && translated.is_ok() {
            self.scope.changed_headers.insert(lower);
        }
        translated
    }

    fn set_field(
        &mut self,
        document: &'i PolicyDocument,
        element: &'i Element,
        id: usize,
        name: &str,
        action: &'static str,
    ) -> Result<Outcome, Refusal> {
        let lower = name.to_ascii_lowercase();
        let is_request = matches!(self.scope.section, Section::Inbound | Section::Backend);
        if is_request && lower == "authorization" {
            return self.set_authorization(document, element, id, action);
        }
        if lower == "authorization" {
            // An answer has none.
            return match action {
                "delete" => Ok(Outcome::note(Vec::new(), "authorization", "an answer has no `Authorization`")),
                _ => Err(not("authorization", "`Authorization` of an answer has no counterpart")),
            };
        }
        if is_request && lower == "host" {
            return self.set_host(document, element, id, action);
        }
        if is_request && (lower == "x-forwarded-for" || lower == "x-forwarded-proto" || lower == "x-forwarded-host") {
            // The values still count.
            self.values(document, element)?;
            let reason = format!("`{name}` is written by the gateway itself: the caller's address, scheme and host");
            return Ok(Outcome::changed(Vec::new(), "forwarded-header", reason, ""));
        }
        if is_request && lower == "x-request-id" {
            self.values(document, element)?;
            let reason = "`X-Request-Id` is written by the gateway itself: the id of the audit record";
            return Ok(Outcome::changed(Vec::new(), "request-id", reason, ""));
        }
        if action == "delete" {
            let value = map([("name", text(name)), ("exists-action", text("delete"))]);
            return Ok(Outcome::same(vec![self.item(document, element, id, "set-header", value)]));
        }
        let values = self.values(document, element)?;
        let is_credential = is_credential_name(name);
        for value in values.iter().filter(|value| !value.is_expression) {
            if is_credential {
                named_values_of(&value.text).iter().for_each(|name| self.shared.named.mark_secret(name));
                if named_values_of(&value.text).is_empty() && value.text.len() > 12 && !value.text.contains(' ') {
                    self.shared.lint("L6", document, element.start);
                }
            }
        }
        self.setting(document, element, id, "set-header", name, action, &values)
    }

    pub(super) fn set_query_parameter(
        &mut self,
        document: &'i PolicyDocument,
        element: &'i Element,
        id: usize,
    ) -> Result<Outcome, Refusal> {
        let name = self.required(document, element, "name", "the parameter has no name")?;
        let action = action_of(element)?;
        if action == "delete" {
            let value = map([("name", text(name.clone())), ("exists-action", text("delete"))]);
            let items = vec![self.item(document, element, id, "set-query-parameter", value)];
            self.scope.changed_parameters.insert(name);
            return Ok(Outcome::same(items));
        }
        let values = self.values(document, element)?;
        let outcome = self.setting(document, element, id, "set-query-parameter", &name, action, &values)?;
        self.scope.changed_parameters.insert(name);
        Ok(outcome)
    }

    /// Translates the values of an element.
    fn values(&mut self, document: &'i PolicyDocument, element: &'i Element) -> Result<Vec<TextValue>, Refusal> {
        let mut values = Vec::new();
        for value in element.named("value") {
            let Some(value) = value.text() else {
                values.push(empty());
                continue;
            };
            values.push(self.value(document, value, Hint::Text)?);
        }
        if values.is_empty() {
            // A text without `<value>`, as some write it.
            if let Some(value) = element.text() {
                values.push(self.value(document, value, Hint::Text)?);
            }
        }
        Ok(values)
    }

    #[expect(clippy::too_many_arguments, reason = "the parts of one policy")]
    fn setting(
        &mut self,
        document: &'i PolicyDocument,
        element: &'i Element,
        id: usize,
        policy: &str,
        name: &str,
        action: &str,
        values: &[TextValue],
    ) -> Result<Outcome, Refusal> {
        if values.is_empty() {
            return Err(not("unparsable", "there is no value"));
        }
        let remarks: Vec<_> = values.iter().flat_map(|value| value.remarks.clone()).collect();
        if values.iter().all(|value| !value.is_expression && value.text.is_empty()) {
            // An empty value removes what the caller sent, which is what is left of it here.
            let value = map([("name", text(name)), ("exists-action", text("delete"))]);
            let item = self.item(document, element, id, policy, value);
            return Ok(Outcome::changed(
                vec![item],
                "empty-value",
                "an empty value is sent there; here the field is removed",
                "",
            ));
        }
        let mut entries = vec![("name".to_owned(), text(name))];
        if action != "override" {
            entries.push(("exists-action".to_owned(), text(action)));
        }
        let written: Vec<Yaml> = values.iter().map(|value| text(as_text(&value.text, value.kind))).collect();
        match written.as_slice() {
            [one] => entries.push(("value".to_owned(), one.clone())),
            _ => entries.push(("values".to_owned(), Yaml::List(written))),
        }
        let can_be_blank = values.iter().any(|value| value.can_be_blank);
        if can_be_blank {
            entries.push(("when-absent".to_owned(), text("skip")));
        }
        let items = vec![self.item(document, element, id, policy, Yaml::Map(entries))];
        let outcome = if can_be_blank {
            let reason = "an empty value is sent there, and the field is left out here";
            Outcome::changed(items, "empty-value", reason, "")
        } else if self.branches > 0 && action == "override" && self.scope.section == Section::Inbound && policy == "set-header" {
            let reason = "the caller's own value of the field is removed also where this branch is not taken";
            Outcome::changed(items, "field-reserved", reason, "")
        } else {
            Outcome::same(items)
        };
        Ok(outcome.with(&remarks))
    }

    /// Translates `Host`: a setting of the upstream.
    fn set_host(
        &mut self,
        document: &'i PolicyDocument,
        element: &'i Element,
        id: usize,
        action: &str,
    ) -> Result<Outcome, Refusal> {
        let values = self.values(document, element)?;
        let host = match values.as_slice() {
            [one] if one.text == "@(request.host)" => "preserve".to_owned(),
            [one] if !one.is_expression && !one.text.is_empty() => one.text.clone(),
            _ => return Err(not("host", "the host is computed; an upstream has one")),
        };
        if self.branches > 0 || action != "override" {
            return Err(not("host", "the host depends on a condition; an upstream has one"));
        }
        self.named_in(&host, Hint::Host, Some(id));
        self.route.settings.host = Some(host);
        Ok(Outcome::same(Vec::new()))
    }

    /// Removes the caller's own values of fields that an element, which is left out, would have replaced.
    pub(super) fn remove_headers(&mut self, element: &'i Element, place: &str, id: usize, out: &mut Vec<Item>) {
        if !matches!(self.scope.section, Section::Inbound) {
            return;
        }
        let is_setting = matches!(element.name.as_str(), "set-header" | "set-query-parameter");
        let name = element.text_of("name").map(str::trim).unwrap_or_default();
        let lower = name.to_ascii_lowercase();
        if is_setting && lower == "authorization" && element.name == "set-header" {
            self.route.authorization = Authorization::Remove;
        } else if is_setting
            && is_plain_name(name)
            && !FRAMING.contains(&lower.as_str())
            && lower != "host"
            && !lower.starts_with("x-forwarded-")
        {
            let value = map([("name", text(name)), ("exists-action", text("delete"))]);
            let item = Item::Policy { name: element.name.clone(), value, origin: id, comment: place.to_owned() };
            // Several branches may write one field.
            if !out.contains(&item) {
                out.push(item);
            }
        }
        // A sub-request has fields of its own.
        if !matches!(element.name.as_str(), "send-request" | "send-one-way-request" | "return-response" | "wait") {
            for inner in element.elements() {
                self.remove_headers(inner, place, id, out);
            }
        }
    }
}

fn empty() -> TextValue {
    TextValue {
        text: String::new(),
        is_expression: false,
        kind: crate::expression::Kind::Text,
        can_be_blank: true,
        nullable: false,
        remarks: Vec::new(),
    }
}

/// Returns whether a name is one of a field or parameter, without a hole.
fn is_plain_name(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.'))
}

/// Returns the action for a field that exists.
fn action_of(element: &Element) -> Result<&'static str, Refusal> {
    match element.text_of("exists-action").map(str::trim) {
        None | Some("" | "override") => Ok("override"),
        Some("skip") => Ok("skip"),
        Some("append") => Ok("append"),
        Some("delete") => Ok("delete"),
        Some(other) => Err(not("unparsable", format!("the action `{other}` is not known"))),
    }
}
