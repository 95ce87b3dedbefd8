//! The backend: its choice, its path, and how it is called.

use super::{
    flow::Flow,
    outcome::{Outcome, not},
    state::Upstream,
};
use crate::{
    csharp::{self, Code, Expr, ExprKind, Piece, Refusal},
    estate::named::Hint,
    expression::{Holds, Kind, cases, key_of_cases, scope::Section},
    names::identifier,
    output::{Item, Yaml, map, text},
    policy::PolicyDocument,
    report::Judgement,
    xml::Element,
};

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
}

fn is_string(expr: &Expr) -> bool {
    matches!(&*expr.kind, ExprKind::Name(name) if name == "string" || name == "String")
}

/// Suggests a name for an upstream: the last segment of its path that says anything, or the first label of its host.
fn name_of(server: &str) -> String {
    let rest = server.split("://").nth(1).unwrap_or(server);
    let (host, path) = rest.split_once('/').unwrap_or((rest, ""));
    let is_telling = |segment: &&str| {
        let version = segment.strip_prefix(['v', 'V']).unwrap_or(segment);
        !segment.is_empty()
            && !segment.contains("{{")
            && !matches!(segment.to_ascii_lowercase().as_str(), "api" | "apis" | "rest" | "service" | "services")
            && !version.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.')
    };
    let last = path.rsplit('/').find(is_telling);
    match last {
        Some(segment) => segment.to_owned(),
        None if host.contains("{{") => host.to_owned(),
        None => host.split('.').next().unwrap_or(host).to_owned(),
    }
}

/// Returns the policy that answers in the place of a backend that is not called.
pub(crate) fn empty_answer(origin: usize, place: &str) -> Item {
    let value = map([("status", Yaml::Plain("200".into()))]);
    Item::Policy { name: "return-response".to_owned(), value, origin, comment: place.to_owned() }
}
