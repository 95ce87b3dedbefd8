//! The `backend` section: how the upstream is called.

use super::{flow::Flow, sections::Link};
use crate::{
    csharp::{self, Code, Expr, ExprKind, Refusal},
    expression::scope::Section,
    policy::{PolicyDocument, says_something},
    report::{Judgement, Verdict},
    xml::{Element, Node},
};

/// The most attempts of a retry.
const MOST_ATTEMPTS: u64 = 5;

impl<'i> Flow<'i> {
    /// Reads the `backend` section: how the upstream is called.
    pub(crate) fn backend_section(&mut self, chain: &[Link<'i>]) {
        self.scope.section = Section::Backend;
        let Some((link, wider)) = chain.split_first() else { return };
        let document = match link {
            Link::Document(document) => *document,
            Link::Products(products) => {
                products.iter().filter_map(|product| product.document).for_each(|document| self.backend_of_product(document));
                return self.backend_section(wider);
            }
        };
        if document.root.name == "fragment" {
            return;
        }
        let Some(section) = document.section(Section::Backend) else { return self.backend_section(wider) };
        self.shared.registry.judge_element(document.id, section, &Judgement::same());
        let mut ignored = Vec::new();
        let mut forwards = false;
        for node in &section.children {
            let element = match node {
                Node::Element(element) => element,
                Node::Text(text) => {
                    if says_something(text) {
                        self.text_among_policies(document, section, text, &mut ignored);
                    }
                    continue;
                }
            };
            forwards |= element.name == "base";
            let Some(id) = self.shared.registry.of_element(document.id, element) else { continue };
            match element.name.as_str() {
                "base" => {
                    self.shared.registry.judge(id, &Judgement::same());
                    self.backend_section(wider);
                }
                "forward-request" => {
                    forwards = true;
                    self.forward_request(document, element, id);
                }
                "retry" => forwards |= self.retry(document, element, id),
                _ => {
                    self.policy(document, element, &mut ignored);
                    if within(element, "forward-request") || within(element, "base") {
                        // Whether the backend is called depends on something that is not asked here.
                        forwards = true;
                        let place = format!("apim: {} not: section ({})", self.place(document, element), element.name);
                        self.refuse(id, &place, &mut ignored);
                    }
                }
            }
        }
        if !forwards {
            self.route.forwards = false;
        }
    }

    /// Refuses if one of several products has a `backend` of its own: the settings of the upstream are those of all.
    fn backend_of_product(&mut self, document: &'i PolicyDocument) {
        let Some(section) = document.section(Section::Backend) else { return };
        if section.elements().any(|element| element.name != "base") {
            let reason = "the backend's settings depend on the product";
            let judgement = Judgement::new(Verdict::Not, "several-products", reason, "write a route for each product");
            self.shared.registry.judge_element(document.id, section, &judgement);
            let place = format!("apim: {} not: several-products (backend)", self.place(document, section));
            self.refuse(usize::MAX, &place, &mut Vec::new());
        }
    }

    fn forward_request(&mut self, document: &'i PolicyDocument, element: &'i Element, id: usize) {
        let is_true = |name: &str| element.text_of(name).is_some_and(|value| value.trim().eq_ignore_ascii_case("true"));
        let judgement = if is_true("follow-redirects") {
            Judgement::new(
                Verdict::Not,
                "follow-redirects",
                "redirects of the backend are never followed",
                "let the caller follow them",
            )
        } else if is_true("fail-on-error-status-code") {
            Judgement::new(
                Verdict::Not,
                "fail-on-error-status-code",
                "errors of the backend never reach `on-error`",
                "ask for `response.status` in `outbound`",
            )
        } else {
            Judgement::new(Verdict::Note, "streaming", "bodies are streamed, never buffered", "")
        };
        let seconds = match self.number(document, element, "timeout") {
            Ok(seconds) => seconds,
            Err(refusal) => {
                self.shared
                    .registry
                    .judge(id, &Judgement::new(Verdict::Not, refusal.code, refusal.reason, "write `timeouts.response`"));
                return;
            }
        };
        let milliseconds = self.number(document, element, "timeout-ms").ok().flatten();
        if let Some(seconds) = seconds.or(milliseconds.map(|own| own.div_ceil(1_000))).filter(|seconds| *seconds > 0) {
            self.route.settings.timeout = seconds;
        }
        match element.text_of("http-version").map(str::trim) {
            Some("2") => self.route.settings.protocol = Some("http2"),
            Some("1") => self.route.settings.protocol = Some("http1"),
            _ => {}
        }
        self.shared.registry.judge(id, &judgement);
    }

    /// Translates `retry` around `forward-request`; returns whether it forwards.
    fn retry(&mut self, document: &'i PolicyDocument, element: &'i Element, id: usize) -> bool {
        let refused = |flow: &mut Self, code: &'static str, reason: &str| {
            let judgement = Judgement::new(Verdict::Not, code, reason, "write `retries` of the upstream");
            flow.shared.registry.judge(id, &judgement);
            if let Some(condition) = element.attribute("condition") {
                let refusal = Refusal::new(code, reason, 0);
                flow.refuse_expression(document, condition, &refusal);
            }
        };
        let forwards = within(element, "forward-request");
        for inner in element.elements() {
            let Some(inner_id) = self.shared.registry.of_element(document.id, inner) else { continue };
            match inner.name.as_str() {
                "forward-request" => self.forward_request(document, inner, inner_id),
                _ => {
                    let mut ignored = Vec::new();
                    self.policy(document, inner, &mut ignored);
                }
            }
        }
        if element.elements().any(|inner| inner.name != "forward-request") {
            refused(self, "retry", "policies are repeated together with the request");
            return forwards;
        }
        let count = match self.number(document, element, "count") {
            Ok(count) => count.unwrap_or(1),
            Err(refusal) => {
                refused(self, refusal.code, &refusal.reason);
                return forwards;
            }
        };
        let condition = element.attribute("condition").map(|condition| self.source(condition)).unwrap_or_default();
        match retry_conditions(&condition) {
            Some(when) => {
                self.route.settings.retries = Some((count.clamp(1, MOST_ATTEMPTS), when));
                let reason = "only requests that can be repeated are, without waiting, and within a budget of all requests";
                let judgement = Judgement::new(Verdict::Changed, "retries", reason, "");
                self.shared.registry.judge(id, &judgement);
                if let Some(condition) = element.attribute("condition") {
                    self.shared.registry.judge_expression(document.id, condition, &judgement);
                }
            }
            None => refused(self, "retry", "the condition is more than a choice of statuses"),
        }
        forwards
    }
}

fn within(element: &Element, name: &str) -> bool {
    element.name == name || element.elements().any(|inner| within(inner, name))
}

/// Returns the conditions of `retries` for a choice of statuses.
fn retry_conditions(source: &str) -> Option<Vec<String>> {
    let Ok(Code::Expression(expr)) = csharp::parse(source) else { return None };
    let mut when = Vec::new();
    retry_terms(&expr, &mut when)?;
    when.sort();
    when.dedup();
    Some(when)
}

fn retry_terms(expr: &Expr, when: &mut Vec<String>) -> Option<()> {
    let is_status = |expr: &Expr| matches!(&*expr.kind, ExprKind::Member { name, .. } if name == "StatusCode");
    let is_response = |expr: &Expr| matches!(&*expr.kind, ExprKind::Member { name, .. } if name == "Response");
    match &*expr.kind {
        ExprKind::Binary("||", left, right) => {
            retry_terms(left, when)?;
            retry_terms(right, when)
        }
        ExprKind::Binary("==", left, right) => match (&*left.kind, &*right.kind) {
            (_, ExprKind::Int(status)) if is_status(left) && (400..600).contains(status) => {
                when.push(status.to_string());
                Some(())
            }
            (_, ExprKind::Null) if is_response(left) => {
                when.extend(["connect-failure".to_owned(), "reset-before-response".to_owned()]);
                Some(())
            }
            _ => None,
        },
        ExprKind::Binary("&&", left, right) => {
            // `Response != null && …`
            let asks_for_response =
                matches!(&*left.kind, ExprKind::Binary("!=", of, null) if is_response(of) && *null.kind == ExprKind::Null);
            if asks_for_response { retry_terms(right, when) } else { None }
        }
        ExprKind::Binary(">=", left, right) if is_status(left) => match &*right.kind {
            ExprKind::Int(500) => {
                when.extend(["500", "502", "503", "504"].map(str::to_owned));
                Some(())
            }
            _ => None,
        },
        _ => None,
    }
}
