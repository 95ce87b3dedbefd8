//! Variables and choices: what is known behind them.

use super::{
    flow::{DEEPEST, Flow},
    outcome::{Outcome, not},
    values::constant,
};
use crate::{
    csharp::{self, Code, ExprKind, Piece, Refusal},
    estate::named::Hint,
    expression::{Holds, Kind, Variable, cases, scope::Section},
    output::{Item, Yaml, map, text},
    policy::{PolicyDocument, says_something},
    report::{Judgement, Verdict},
    xml::{Element, Node},
};

impl<'i> Flow<'i> {
    pub(super) fn set_variable(
        &mut self,
        document: &'i PolicyDocument,
        element: &'i Element,
        id: usize,
    ) -> Result<Outcome, Refusal> {
        let name = element.text_of("name").map(str::trim).filter(|name| !name.is_empty());
        let name = name.ok_or_else(|| not("unparsable", "the variable has no name"))?.to_owned();
        let value = element.attribute("value").ok_or_else(|| not("unparsable", "the variable has no value"))?;
        let translated = self.value(document, value, Hint::Text)?;
        let own = self.shared.variable(&name);
        let source = self.source(value);
        let texts = if translated.is_expression { self.texts(&source) } else { Some(vec![pieces_of(&translated.text)]) };
        let variable = Variable {
            name: own.clone(),
            holds: Holds::Value,
            kind: if translated.is_expression { translated.kind } else { Kind::Text },
            unset: false,
            null: translated.nullable,
            texts,
        };
        self.scope.variables.insert(name, variable);
        let mut entries = vec![("name".to_owned(), text(own)), ("value".to_owned(), text(translated.text))];
        if translated.nullable {
            entries.push(("when-absent".to_owned(), text("skip")));
        }
        let item = self.item(document, element, id, "set-variable", Yaml::Map(entries));
        Ok(Outcome::same(vec![item]).with(&translated.remarks))
    }

    /// Returns all the texts that an expression can make, if there are few.
    fn texts(&self, source: &str) -> Option<Vec<Vec<Piece>>> {
        let mut texts: Vec<Vec<Piece>> = Vec::new();
        for case in cases(source, &self.scope).ok()? {
            if !texts.contains(&case.text) {
                texts.push(case.text);
            }
        }
        Some(texts)
    }

    /// Holds for the variables of an element that is left out: whoever reads them is not translated either.
    pub(super) fn forget_variables(&mut self, element: &Element, refusal: &Refusal) {
        const NAMES: &[&str] = &[
            "response-variable-name",
            "output-token-variable-name",
            "variable-name",
            "context-variable-name",
            "remaining-calls-variable-name",
            "retry-after-variable-name",
            "output-variable-name",
        ];
        let own = (element.name == "set-variable").then(|| element.text_of("name")).flatten();
        let others = NAMES.iter().filter_map(|name| element.text_of(name));
        for name in own.into_iter().chain(others).map(str::trim) {
            self.forget(name, refusal.clone());
        }
        for inner in element.elements() {
            self.forget_variables(inner, refusal);
        }
    }

    pub(super) fn forget(&mut self, name: &str, refusal: Refusal) {
        let own = self.shared.variable(name);
        let variable =
            Variable { name: own, holds: Holds::Nothing(refusal), kind: Kind::Any, unset: true, null: true, texts: None };
        self.scope.variables.insert(name.to_owned(), variable);
    }

    pub(super) fn choose(&mut self, document: &'i PolicyDocument, element: &'i Element, id: usize) -> Result<Outcome, Refusal> {
        if self.branches + self.fragments >= DEEPEST - 1 {
            return Err(not("too-deep", "choices and fragments are nested more deeply than lists may be"));
        }
        let before = self.scope.clone();
        let mut remarks = Vec::new();
        let mut conditions = Vec::new();
        let mut failed = None;
        if element.children.iter().any(|node| matches!(node, Node::Text(text) if says_something(text))) {
            return Err(not("unparsable", "a text stands within `choose`"));
        }
        for branch in element.elements() {
            match branch.name.as_str() {
                "when" => {
                    let condition = branch.attribute("condition").ok_or_else(|| not("unparsable", "`when` has no condition"))?;
                    match self.condition(document, condition) {
                        Ok(condition) => {
                            remarks.extend(condition.remarks);
                            conditions.push((branch, Some(condition.text)));
                        }
                        // The others are translated as well, so that the report tells all that stands in the way.
                        Err(refusal) => {
                            failed.get_or_insert(refusal);
                        }
                    }
                }
                "otherwise" => conditions.push((branch, None)),
                _ => return Err(not("unparsable", format!("`{}` stands within `choose`", branch.name))),
            }
        }
        if let Some(refusal) = failed {
            return Err(Refusal { reason: format!("a condition is not translated: {}", refusal.reason), at: 0, ..refusal });
        }
        let has_otherwise = conditions.iter().any(|(_, condition)| condition.is_none());
        let (mut branches, mut ends) = (Vec::new(), Vec::new());
        self.branches += 1;
        for (branch, condition) in conditions {
            self.scope = before.clone();
            self.shared.registry.judge_element(document.id, branch, &Judgement::same());
            let mut items = Vec::new();
            self.children(document, branch, &mut items);
            // What answers goes no further.
            if !ends_request(&items) {
                ends.push(self.scope.clone());
            }
            branches.push((condition, items));
        }
        self.branches -= 1;
        if !has_otherwise {
            ends.push(before.clone());
        }
        self.scope = before;
        self.scope.join(&ends);
        if branches.iter().all(|(condition, _)| condition.is_none()) {
            let items = branches.into_iter().flat_map(|(_, items)| items).collect();
            return Ok(Outcome::same(items).with(&remarks));
        }
        if has_otherwise
            && self.branches == 0
            && self.scope.section == Section::Inbound
            && let Some(upstream) = upstream_of_all(&branches)
        {
            // The API's own backend is never called; each request goes to the one of its branch.
            self.route.upstream = Some(upstream);
        }
        let item = self.item(document, element, id, "choose", Yaml::Branches(branches));
        Ok(Outcome::same(vec![item]).with(&remarks))
    }

    pub(super) fn include_fragment(
        &mut self,
        document: &'i PolicyDocument,
        element: &'i Element,
        id: usize,
    ) -> Result<Outcome, Refusal> {
        let name = self.required(document, element, "fragment-id", "the fragment has no name")?;
        let documents = self.documents;
        let Some(fragment) = documents.fragment(&name) else {
            let own = crate::names::identifier(&name, "fragment");
            let own = if self.scope.section == Section::Inbound { own } else { format!("{own}-outbound") };
            self.shared.missing_fragments.insert(own.clone());
            self.shared.need("fragment", &name, "import it together with this document, or write it into `fragments`");
            self.shared.registry.need(id, &name);
            self.route.refuses = true;
            let comment = self.place(document, element);
            let item = Item::Missing { name: own, origin: id, comment };
            let reason = "the fragment is not among the documents: a refusal stands in `fragments` until it is there";
            return Ok(Outcome::note(vec![item], "fragment-missing", reason));
        };
        if self.fragments + self.branches >= DEEPEST - 1 {
            return Err(not("too-deep", "fragments include each other, or are nested more deeply than lists may be"));
        }
        self.fragments += 1;
        self.shared.registry.judge_element(fragment.id, &fragment.root, &Judgement::same());
        let mut items = Vec::new();
        self.damage(fragment, &mut items);
        self.children(fragment, &fragment.root, &mut items);
        self.fragments -= 1;
        let suffix = if self.scope.section == Section::Inbound { "" } else { "-outbound" };
        let name = format!("{}{suffix}", crate::names::identifier(&name, "fragment"));
        Ok(Outcome::same(vec![Item::Group { name, items }]))
    }

    pub(super) fn trace(&mut self, document: &'i PolicyDocument, element: &'i Element, id: usize) -> Result<Outcome, Refusal> {
        let mut entries = Vec::new();
        if let Some(source) = self.literal(document, element, "source", Hint::Text)?.filter(|source| !source.is_empty()) {
            entries.push(("source".to_owned(), text(source)));
        }
        let message = element.child("message").and_then(Element::text).or_else(|| element.text());
        let message = message.ok_or_else(|| not("unparsable", "the trace has no message"))?;
        // What stands in a trace is shown to no caller.
        let lint = crate::report::lint("L16", &document.file, document.line(message.start));
        let was_told = self.shared.lints.contains(&lint);
        let message = self.value(document, message, Hint::Text)?;
        if !was_told {
            self.shared.lints.remove(&lint);
        }
        let mut remarks = message.remarks.clone();
        entries.push(("message".to_owned(), text(as_text(&message.text, message.kind))));
        let mut metadata = Vec::new();
        for part in element.named("metadata") {
            let (Some(name), Some(value)) = (part.text_of("name"), part.attribute("value")) else { continue };
            let value = self.value(document, value, Hint::Text)?;
            remarks.extend(value.remarks.clone());
            metadata.push((name.to_owned(), text(as_text(&value.text, value.kind))));
        }
        if !metadata.is_empty() {
            entries.push(("metadata".to_owned(), Yaml::Map(metadata)));
        }
        let item = self.item(document, element, id, "trace", Yaml::Map(entries));
        Ok(Outcome::note(vec![item], "trace", "the note stands in the audit record").with(&remarks))
    }

    pub(super) fn set_status(
        &mut self,
        document: &'i PolicyDocument,
        element: &'i Element,
        id: usize,
    ) -> Result<Outcome, Refusal> {
        let code = self.number(document, element, "code")?.ok_or_else(|| not("unparsable", "the status has no code"))?;
        let item = self.item(document, element, id, "set-status", map([("code", Yaml::Plain(code.to_string()))]));
        Ok(reason_dropped(element, vec![item]))
    }

    pub(super) fn set_method(
        &mut self,
        document: &'i PolicyDocument,
        element: &'i Element,
        id: usize,
    ) -> Result<Outcome, Refusal> {
        let method = element.text().ok_or_else(|| not("unparsable", "the method is missing"))?;
        let method = self.value(document, method, Hint::Text)?;
        let written =
            if method.is_expression { constant(&method.text).unwrap_or(method.text) } else { method.text.to_ascii_uppercase() };
        let item = self.item(document, element, id, "set-method", text(written));
        self.scope.changed_method = true;
        Ok(Outcome::same(vec![item]).with(&method.remarks))
    }
}

/// Returns an outcome that says that the reason phrase was dropped, if there is one.
pub(super) fn reason_dropped(element: &Element, items: Vec<Item>) -> Outcome {
    if element.attribute("reason").is_some() {
        Outcome::note(items, "reason-phrase", "the reason phrase is dropped: HTTP/2 has none")
    } else {
        Outcome::same(items)
    }
}

/// Returns an expression that makes a text.
pub(super) fn as_text(value: &str, kind: Kind) -> String {
    match (kind, value.strip_prefix("@(").and_then(|inner| inner.strip_suffix(')'))) {
        (Kind::Bool, Some(inner)) => format!("@({inner} ? 'True' : 'False')"),
        _ => value.to_owned(),
    }
}

/// Returns whether the last of a list's policies answers.
pub(super) fn ends_request(items: &[Item]) -> bool {
    items.iter().any(|item| match item {
        Item::Policy { name, value, .. } => {
            name == "return-response"
                || matches!((name.as_str(), value), ("authorize", Yaml::Map(entries)) if entries.iter().any(|(_, value)| *value == text("@(false)")))
        }
        Item::Group { items, .. } => ends_request(items),
        Item::Comment(_) | Item::Missing { .. } => false,
    })
}

/// Returns the last upstream that branches choose, if each of those that go on chooses one.
fn upstream_of_all(branches: &[(Option<String>, Vec<Item>)]) -> Option<String> {
    let chosen = |items: &[Item]| {
        items.iter().rev().find_map(|item| match item {
            Item::Policy { name, value: Yaml::Map(entries), .. } if name == "set-backend-service" => match entries.as_slice() {
                [(_, Yaml::Text(upstream))] => Some(upstream.clone()),
                _ => None,
            },
            _ => None,
        })
    };
    let mut upstream = None;
    for (_, items) in branches.iter().filter(|(_, items)| !ends_request(items)) {
        upstream = Some(chosen(items)?);
    }
    upstream
}

/// Returns the parts of a text: named values, and what is between them.
pub(super) fn pieces_of(text: &str) -> Vec<Piece> {
    let quoted = format!("@(@\"{}\")", text.replace('"', "\"\""));
    match csharp::parse(&quoted) {
        Ok(Code::Expression(expr)) => match *expr.kind {
            ExprKind::Text(pieces) => pieces,
            _ => vec![Piece::Text(text.to_owned())],
        },
        _ => vec![Piece::Text(text.to_owned())],
    }
}

/// Returns the text of parts, with named values in braces.
pub(super) fn text_of(pieces: &[Piece]) -> String {
    pieces
        .iter()
        .map(|piece| match piece {
            Piece::Text(text) => text.clone(),
            Piece::Named(name) => format!("{{{{{name}}}}}"),
            Piece::Hole(_) => String::new(),
        })
        .collect()
}

/// Returns the judgement of something that stays as it is for a reason.
pub(super) fn noted(code: &str, reason: &str) -> Judgement {
    Judgement::new(Verdict::Note, code, reason, "")
}
