//! Answers of the gateway's own.

use super::{
    flow::Flow,
    outcome::{Outcome, not},
    variables::{as_text, noted},
};
use crate::{
    csharp::Refusal,
    estate::named::Hint,
    expression::scope::Section,
    output::{Yaml, map, text},
    policy::PolicyDocument,
    report::{Judgement, Verdict},
    xml::Element,
};

impl<'i> Flow<'i> {
    pub(super) fn return_response(
        &mut self,
        document: &'i PolicyDocument,
        element: &'i Element,
        id: usize,
    ) -> Result<Outcome, Refusal> {
        if element.attribute("response-variable-name").is_some() {
            return Err(not("sub-request", "it answers with the response of a request that the policy made"));
        }
        let (mut status, mut body) = (None, None);
        let mut headers: Vec<(String, Vec<Yaml>)> = Vec::new();
        let mut remarks = Vec::new();
        let mut has_reason = false;
        let mut failed = None;
        for child in element.elements() {
            let done = match child.name.as_str() {
                "set-status" => {
                    has_reason |= child.attribute("reason").is_some();
                    self.number(document, child, "code").map(|code| status = code)
                }
                "set-header" => self.response_header(document, child, &mut headers).map(|more| remarks.extend(more)),
                "set-body" => self.body(document, child).map(|(value, more)| {
                    body = Some(value);
                    remarks.extend(more);
                }),
                "base" => Ok(()),
                other => Err(not("unparsable", format!("`{other}` stands within `return-response`"))),
            };
            match done {
                Ok(()) if child.name == "set-status" && child.attribute("reason").is_some() => {
                    let judgement = noted("reason-phrase", "the reason phrase is dropped: HTTP/2 has none");
                    self.shared.registry.judge_element(document.id, child, &judgement);
                }
                Ok(()) => self.shared.registry.judge_element(document.id, child, &Judgement::same()),
                Err(refusal) => {
                    let judgement = Judgement::new(
                        Verdict::Not,
                        refusal.code,
                        refusal.reason.clone(),
                        super::outcome::advice_of(refusal.code),
                    );
                    self.shared.registry.judge_element(document.id, child, &judgement);
                    failed.get_or_insert(refusal);
                }
            }
        }
        if let Some(refusal) = failed {
            return Err(refusal);
        }
        let mut entries = vec![("status".to_owned(), Yaml::Plain(status.unwrap_or(200).to_string()))];
        if !headers.is_empty() {
            let headers = headers.into_iter().map(|(name, mut values)| {
                let value = if values.len() == 1 { values.remove(0) } else { Yaml::List(values) };
                (name, value)
            });
            entries.push(("headers".to_owned(), Yaml::Map(headers.collect())));
        }
        if let Some(body) = body.filter(|body| !body.is_empty()) {
            entries.push(("body".to_owned(), text(body)));
        }
        let item = self.item(document, element, id, "return-response", Yaml::Map(entries));
        let outcome = if has_reason { noted_reason(vec![item]) } else { Outcome::same(vec![item]) };
        Ok(outcome.with(&remarks))
    }

    fn response_header(
        &mut self,
        document: &'i PolicyDocument,
        element: &'i Element,
        headers: &mut Vec<(String, Vec<Yaml>)>,
    ) -> Result<Vec<crate::expression::Remark>, Refusal> {
        let name = self.required(document, element, "name", "a field has no name")?;
        if element.text_of("exists-action") == Some("delete") {
            headers.retain(|(own, _)| !own.eq_ignore_ascii_case(&name));
            return Ok(Vec::new());
        }
        let mut remarks = Vec::new();
        let mut values = Vec::new();
        for value in element.named("value") {
            let Some(value) = value.text() else { continue };
            let value = self.value(document, value, Hint::Text)?;
            if !value.text.is_empty() {
                values.push(text(as_text(&value.text, value.kind)));
            }
            remarks.extend(value.remarks);
        }
        if values.is_empty() {
            return Ok(remarks);
        }
        let appends = element.text_of("exists-action") == Some("append");
        match headers.iter_mut().find(|(own, _)| own.eq_ignore_ascii_case(&name)) {
            Some((_, own)) if appends => own.extend(values),
            Some((_, own)) => *own = values,
            None => headers.push((name, values)),
        }
        Ok(remarks)
    }

    /// Translates the body of an answer.
    fn body(
        &mut self,
        document: &'i PolicyDocument,
        element: &'i Element,
    ) -> Result<(String, Vec<crate::expression::Remark>), Refusal> {
        if element.elements().next().is_some() {
            // XML that stands in the body as it is.
            let raw = inner_source(document, element);
            return literal_body(element, raw).map(|body| (body, Vec::new()));
        }
        let Some(content) = element.text() else { return Ok((String::new(), Vec::new())) };
        let is_liquid = element.text_of("template").is_some_and(|template| template.trim() == "liquid");
        if is_liquid && (content.content.contains("{{") || content.content.contains("{%")) {
            return Err(not("liquid", "the body is a Liquid template"));
        }
        let value = self.value(document, content, Hint::Text)?;
        if !value.is_expression && unnamed_braces(&value.text) {
            return Err(not("braces", "the body holds `{{`, which begins a named value here"));
        }
        Ok((as_text(&value.text, value.kind), value.remarks))
    }

    pub(super) fn mock_response(
        &mut self,
        document: &'i PolicyDocument,
        element: &'i Element,
        id: usize,
    ) -> Result<Outcome, Refusal> {
        let status = self.number(document, element, "status-code")?.unwrap_or(200);
        let kind = self.literal(document, element, "content-type", Hint::Text)?;
        let example = self.route.examples.get(&status).cloned();
        let mut entries = vec![("status".to_owned(), Yaml::Plain(status.to_string()))];
        let content_type = kind.filter(|kind| !kind.is_empty()).or_else(|| example.as_ref().map(|(kind, _)| kind.clone()));
        if let Some(kind) = content_type {
            entries.push(("headers".to_owned(), map([("Content-Type", text(kind))])));
        }
        if let Some((_, body)) = &example {
            entries.push(("body".to_owned(), text(body.clone())));
        }
        let item = self.item(document, element, id, "return-response", Yaml::Map(entries));
        Ok(match example {
            Some(_) => Outcome::note(vec![item], "example", "the example is that of the description at the time of the import"),
            None => Outcome::changed(
                vec![item],
                "no-example",
                "the answer has no body: the import knows no example of the operation",
                "write the body",
            ),
        })
    }

    pub(super) fn set_body(&mut self, document: &'i PolicyDocument, element: &'i Element, id: usize) -> Result<Outcome, Refusal> {
        if self.scope.section != Section::OnError {
            for text in element.text().into_iter().filter(|text| text.expression().is_some()) {
                let refusal = not("body", "it replaces the body of a message, and bodies pass through unread");
                self.refuse_expression(document, text, &refusal);
            }
            return Err(not("body", "it replaces the body of a message, and bodies pass through unread"));
        }
        let (body, remarks) = self.body(document, element)?;
        let is_json = body.starts_with('{') || body.starts_with("@('{");
        let mut entries = vec![("value".to_owned(), text(body))];
        if is_json {
            entries.push(("content-type".to_owned(), text("application/json")));
        }
        let item = self.item(document, element, id, "set-body", Yaml::Map(entries));
        Ok(Outcome::same(vec![item]).with(&remarks))
    }
}

fn noted_reason(items: Vec<crate::output::Item>) -> Outcome {
    Outcome::note(items, "reason-phrase", "the reason phrase is dropped: HTTP/2 has none")
}

/// Returns the source between the tags of an element.
fn inner_source(document: &PolicyDocument, element: &Element) -> String {
    let source = document.text.get(element.start..element.end).unwrap_or_default();
    let begin = source.find('>').map_or(0, |at| at + 1);
    let end = source.rfind("</").unwrap_or(source.len());
    source.get(begin..end).unwrap_or_default().trim().to_owned()
}

fn literal_body(element: &Element, body: String) -> Result<String, Refusal> {
    let is_liquid = element.text_of("template").is_some_and(|template| template.trim() == "liquid");
    if body.contains("{{") || body.contains("{%") && is_liquid || body.contains("@(") || body.contains("@{") {
        return Err(not("liquid", "the body is a template"));
    }
    Ok(body)
}

/// Returns whether a text has `{{` that begins no named value.
fn unnamed_braces(text: &str) -> bool {
    let named = crate::policy::named_values_of(text).len();
    text.matches("{{").count() > named
}
