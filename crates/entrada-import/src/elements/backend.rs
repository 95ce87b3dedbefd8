//! The backend: its choice, its path, and how it is called.

use super::{
    flow::Flow,
    outcome::{Outcome, not},
    sections::Link,
    state::Upstream,
};
use crate::{
    csharp::{self, Code, Expr, ExprKind, Piece, Refusal},
    estate::named::Hint,
    expression::{Holds, Kind, cases, key_of_cases, scope::Section},
    names::identifier,
    output::{Item, Yaml, map, text},
    policy::{PolicyDocument, says_something},
    report::{Judgement, Verdict},
    xml::{Element, Node},
};

/// The most attempts of a retry.
const MOST_ATTEMPTS: u64 = 5;

impl<'i> Flow<'i> {
    pub(super) fn set_backend_service(
        &mut self,
        document: &'i PolicyDocument,
        element: &'i Element,
        id: usize,
    ) -> Result<Outcome, Refusal> {
        if let Some(backend) = element.attribute("backend-id") {
            let backend = self.value(document, backend, Hint::Text)?;
            let name = if backend.is_expression { super::values::constant(&backend.text) } else { Some(backend.text) };
            let name = name.ok_or_else(|| not("backend-not-finite", "the backend's name is computed"))?;
            let resolved = self.resolved(&name);
            let upstream = match self.shared.backends.get(&resolved).cloned() {
                Some(known) => Upstream { ejection: known.ejection, ..Upstream::of(known.servers, &self.route.settings) },
                None => {
                    self.shared.need("backend", &name, "write its URL into `upstreams`");
                    self.shared.registry.need(id, &name);
                    Upstream::of(vec![format!("https://{}.invalid", identifier(&name, "backend"))], &self.route.settings)
                }
            };
            return Ok(self.choose_upstream(document, element, id, &upstream, &name));
        }
        let url = element
            .attribute("base-url")
            .ok_or_else(|| not("backend-kind", "only `base-url` and `backend-id` have a counterpart"))?;
        let source = self.source(url);
        if !source.starts_with("@(") && !source.starts_with("@{") {
            let server = self.server(document, element, id, &source)?;
            let upstream = Upstream::of(vec![server.clone()], &self.route.settings);
            return Ok(self.choose_upstream(document, element, id, &upstream, &name_of(&server)));
        }
        let found = cases(&source, &self.scope).inspect_err(|refusal| {
            if refusal.code == "backend-not-finite" && source.contains("context.Request") {
                self.shared.lint("L11", document, element.start);
            }
            self.refuse_expression(document, url, refusal);
        })?;
        let mut names = Vec::new();
        for case in &found {
            let server = self.server(document, element, id, &super::variables::text_of(&case.text))?;
            let upstream = Upstream::of(vec![server.clone()], &self.route.settings);
            names.push(self.shared.upstream(&upstream, &name_of(&server), id));
        }
        self.shared.registry.judge_expression(document.id, url, &Judgement::same());
        let mut distinct = names.clone();
        distinct.sort();
        distinct.dedup();
        if let ([one], true) = (distinct.as_slice(), found.len() == 1 && found[0].condition.text == "true") {
            let one = one.clone();
            return Ok(self.choose_named(document, element, id, &one));
        }
        let key = key_of_cases(&found, &names);
        let value = map([
            ("upstream", text(format!("@({})", key.text))),
            ("among", Yaml::List(distinct.into_iter().map(text).collect())),
        ]);
        Ok(Outcome::same(vec![self.item(document, element, id, "set-backend-service", value)]))
    }

    /// Reads the URL of a server.
    pub(crate) fn server(
        &mut self,
        document: &PolicyDocument,
        element: &Element,
        id: usize,
        url: &str,
    ) -> Result<String, Refusal> {
        let url = url.trim().trim_end_matches('/');
        if url.contains(['?', '#', ' ']) {
            return Err(not("backend-url", format!("`{url}` is no base URL of a backend")));
        }
        let is_url = url.starts_with("http://") || url.starts_with("https://") || url.starts_with("{{");
        if !is_url {
            return Err(not("backend-url", format!("`{url}` is no URL of a backend")));
        }
        if url.starts_with("http://") {
            self.shared.lint("L13", document, element.start);
        }
        self.named_in(url, Hint::Url, Some(id));
        Ok(url.to_owned())
    }

    fn choose_upstream(
        &mut self,
        document: &'i PolicyDocument,
        element: &'i Element,
        id: usize,
        upstream: &Upstream,
        suggested: &str,
    ) -> Outcome {
        let name = self.shared.upstream(upstream, suggested, id);
        self.choose_named(document, element, id, &name)
    }

    fn choose_named(&mut self, document: &'i PolicyDocument, element: &'i Element, id: usize, name: &str) -> Outcome {
        if self.branches == 0 && self.scope.section == Section::Inbound {
            self.route.upstream = Some(name.to_owned());
        }
        // Also where it is the route's: a policy before may have chosen another one.
        let value = map([("upstream", text(name))]);
        Outcome::same(vec![self.item(document, element, id, "set-backend-service", value)])
    }

    pub(super) fn rewrite_uri(
        &mut self,
        document: &'i PolicyDocument,
        element: &'i Element,
        id: usize,
    ) -> Result<Outcome, Refusal> {
        let template = element.attribute("template").ok_or_else(|| not("unparsable", "the template is missing"))?;
        let source = self.source(template);
        let written = if source.starts_with("@(") || source.starts_with("@{") {
            self.template_of(&source)
                .inspect(|_| {
                    self.shared.registry.judge_expression(document.id, template, &Judgement::same());
                })
                .inspect_err(|refusal| self.refuse_expression(document, template, refusal))?
        } else {
            self.template(&source, id)?
        };
        let (path, added) = if written.starts_with('/') { (written, false) } else { (format!("/{written}"), true) };
        let mut entries = vec![("template".to_owned(), text(path))];
        if element.text_of("copy-unmatched-params").is_some_and(|value| value.trim().eq_ignore_ascii_case("false")) {
            entries.push(("copy-unmatched-params".to_owned(), Yaml::Plain("false".into())));
        }
        self.route.rewrites |= self.branches == 0;
        self.scope.is_rewritten = true;
        let item = self.item(document, element, id, "rewrite-uri", Yaml::Map(entries));
        Ok(if added {
            Outcome::note(vec![item], "leading-slash", "`/` is written before the template")
        } else {
            Outcome::same(vec![item])
        })
    }

    /// Translates a template: its holes are captures of the route.
    fn template(&mut self, source: &str, id: usize) -> Result<String, Refusal> {
        self.named_in(source, Hint::Path, Some(id));
        let mut written = String::new();
        let mut rest = source;
        while let Some(at) = rest.find('{') {
            written.push_str(&rest[..at]);
            rest = &rest[at..];
            if let Some(inner) = rest.strip_prefix("{{") {
                let end = inner.find("}}").ok_or_else(|| not("unparsable", "a named value of the template is never closed"))?;
                written.push_str(&rest[..end + 4]);
                rest = &inner[end + 2..];
                continue;
            }
            let end = rest.find('}').ok_or_else(|| not("unparsable", "a hole of the template is never closed"))?;
            let name = rest[1..end].trim_start_matches('*').trim();
            match self.scope.parameters.captures.get(name) {
                Some(capture) => written.push_str(&format!("{{{capture}}}")),
                None => return Err(not("template-parameter", format!("the operation's template has no `{name}` in its path"))),
            }
            rest = &rest[end + 1..];
        }
        written.push_str(rest);
        Ok(written)
    }

    /// Translates a template that is computed of literals, captures and variables.
    fn template_of(&mut self, source: &str) -> Result<String, Refusal> {
        let code = csharp::parse(source)?;
        let expr = match &code {
            Code::Expression(expr) => expr.clone(),
            Code::Block(statements) => match statements.as_slice() {
                [csharp::Statement::Return(expr)] => expr.clone(),
                _ => return Err(not("computed-path", "the path is made by statements")),
            },
        };
        let mut template = String::new();
        self.template_part(&expr, &mut template)?;
        Ok(template)
    }

    fn template_part(&mut self, expr: &Expr, template: &mut String) -> Result<(), Refusal> {
        let computed =
            || Refusal::new("computed-path", "the path is made of something else than texts, captures and variables", expr.at);
        match &*expr.kind {
            ExprKind::Text(pieces) => {
                for piece in pieces {
                    match piece {
                        Piece::Text(text) if text.contains(['{', '}']) => return Err(computed()),
                        Piece::Text(text) => template.push_str(text),
                        Piece::Named(name) => {
                            let named = format!("{{{{{name}}}}}");
                            self.named_in(&named, Hint::Path, None);
                            template.push_str(&named);
                        }
                        Piece::Hole(inner) => self.template_part(inner, template)?,
                    }
                }
                Ok(())
            }
            ExprKind::Cast(_, inner) => self.template_part(inner, template),
            ExprKind::Binary("+", left, right) => {
                self.template_part(left, template)?;
                self.template_part(right, template)
            }
            ExprKind::Index { of, index, .. } => self.template_member(of, index, expr, template),
            ExprKind::Call { function, arguments, .. } => match (&*function.kind, arguments.as_slice()) {
                (ExprKind::Member { of, name, .. }, [key, ..]) if name == "GetValueOrDefault" => {
                    self.template_member(of, key, expr, template)
                }
                (ExprKind::Member { of, name, .. }, []) if name == "ToString" => self.template_part(of, template),
                (ExprKind::Member { of, name, .. }, [format, values @ ..]) if name == "Format" && is_string(of) => {
                    self.template_format(format, values, template)
                }
                _ => Err(computed()),
            },
            _ => Err(computed()),
        }
    }

    fn template_format(&mut self, format: &Expr, values: &[Expr], template: &mut String) -> Result<(), Refusal> {
        let computed = || Refusal::new("computed-path", "the format of the path is not understood", format.at);
        let ExprKind::Text(pieces) = &*format.kind else { return Err(computed()) };
        for piece in pieces {
            let Piece::Text(text) = piece else { return Err(computed()) };
            for (index, part) in text.split('{').enumerate() {
                let rest = if index == 0 {
                    part
                } else {
                    let (number, rest) = part.split_once('}').ok_or_else(computed)?;
                    let value = number.parse::<usize>().ok().and_then(|index| values.get(index)).ok_or_else(computed)?;
                    self.template_part(value, template)?;
                    rest
                };
                template.push_str(rest);
            }
        }
        Ok(())
    }

    /// Writes the hole of a capture or a variable.
    fn template_member(&mut self, of: &Expr, key: &Expr, expr: &Expr, template: &mut String) -> Result<(), Refusal> {
        let computed =
            || Refusal::new("computed-path", "the path is made of something else than texts, captures and variables", expr.at);
        let (ExprKind::Member { name: of, .. }, ExprKind::Text(pieces)) = (&*of.kind, &*key.kind) else { return Err(computed()) };
        let [Piece::Text(key)] = pieces.as_slice() else { return Err(computed()) };
        match of.as_str() {
            "MatchedParameters" => {
                let capture = self.scope.parameters.captures.get(key);
                let capture = capture.ok_or_else(|| {
                    Refusal::new("template-parameter", format!("the operation's template has no `{key}`"), expr.at)
                })?;
                template.push_str(&format!("{{{capture}}}"));
                Ok(())
            }
            "Variables" => {
                let variable = self.scope.variables.get(key);
                let variable = variable
                    .ok_or_else(|| Refusal::new("variable-not-set", format!("no policy before sets `{key}`"), expr.at))?;
                match &variable.holds {
                    Holds::Value if variable.kind != Kind::List => {}
                    Holds::Nothing(refusal) => return Err(refusal.clone()),
                    _ => return Err(computed()),
                }
                // A text with slashes is a path, and a hole is one segment.
                if let Some([one]) = variable.texts.as_deref() {
                    let text = super::variables::text_of(one);
                    if text.contains('/') || text.contains("{{") {
                        template.push_str(&text);
                        return Ok(());
                    }
                }
                template.push_str(&format!("{{variables.{}}}", variable.name));
                Ok(())
            }
            _ => Err(computed()),
        }
    }

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

fn is_string(expr: &Expr) -> bool {
    matches!(&*expr.kind, ExprKind::Name(name) if name == "string" || name == "String")
}

fn within(element: &Element, name: &str) -> bool {
    element.name == name || element.elements().any(|inner| within(inner, name))
}

/// Suggests a name for an upstream: the first label of its host, or the last segment of its path.
fn name_of(server: &str) -> String {
    let rest = server.split("://").nth(1).unwrap_or(server);
    let (host, path) = rest.split_once('/').unwrap_or((rest, ""));
    let last = path.rsplit('/').find(|segment| !segment.is_empty() && !segment.contains("{{"));
    match last {
        Some(segment) => segment.to_owned(),
        None if host.contains("{{") => host.to_owned(),
        None => host.split('.').next().unwrap_or(host).to_owned(),
    }
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

/// Returns the policy that answers in the place of a backend that is not called.
pub(crate) fn empty_answer(origin: usize, place: &str) -> Item {
    let value = map([("status", Yaml::Plain("200".into()))]);
    Item::Policy { name: "return-response".to_owned(), value, origin, comment: place.to_owned() }
}
